//! What a segment that arrives does to its connection (RFC 9293, section 3.10.7; RFC 5961; RFC
//! 7323, section 5).

use super::connection::{CongestionState, Connection};
use super::cubic::{AckSample, ProportionalRateReduction};
use super::scoreboard::Delivery;
use super::segment::{ACK, AddressPair, FIN, RST, SYN, Segment};
use super::seq::Seq;
use super::state::{State, StateEvent};
use super::{MS, Micros};

/// Acknowledgements a second that answer what should not have come (RFC 5961, section 7).
const CHALLENGE_ACK_LIMIT: u32 = 100;

/// What else is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(in crate::tunnel) enum SegmentOutcome {
    /// Nothing.
    Handled,
    /// Send a reset in answer to the segment.
    SendReset,
}

impl Connection {
    /// Takes in a segment of this connection.
    pub(in crate::tunnel) fn handle_segment(
        &mut self,
        segment: &Segment<'_>,
        flow: &AddressPair,
        now: Micros,
    ) -> SegmentOutcome {
        match self.state {
            State::Closed => SegmentOutcome::Handled,
            State::SynSent => self.handle_syn_sent(segment, flow, now),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => self.handle_synchronized(segment, now),
        }
    }

    /// The answer to our request (RFC 9293, section 3.10.7.3).
    fn handle_syn_sent(
        &mut self,
        segment: &Segment<'_>,
        flow: &AddressPair,
        now: Micros,
    ) -> SegmentOutcome {
        let acknowledges = segment.has(ACK);
        if acknowledges && segment.ack != self.snd_nxt {
            return if segment.has(RST) {
                SegmentOutcome::Handled
            } else {
                SegmentOutcome::SendReset
            };
        }
        if segment.has(RST) {
            if acknowledges {
                self.enter_closed();
            }
            return SegmentOutcome::Handled;
        }
        if !segment.has(SYN) {
            return SegmentOutcome::Handled;
        }
        self.last_rx = now;
        self.negotiate(segment, flow);
        if acknowledges {
            self.complete_handshake(segment, now);
        } else {
            // Both asked at the same time: ours is sent again, with an acknowledgement.
            self.transition(StateEvent::Syn);
            self.scoreboard.mark_oldest_lost();
        }
        self.delayed_ack.request_immediate();
        SegmentOutcome::Handled
    }

    /// Our SYN was acknowledged.
    fn complete_handshake(&mut self, segment: &Segment<'_>, now: Micros) {
        let mut delivery = Delivery::default();
        self.scoreboard.handle_ack(segment.ack, now, |_| None, &mut delivery);
        if let Some(rtt) = delivery.rtt {
            self.rtt.add_sample(rtt);
        }
        self.snd_una = segment.ack;
        self.rtt.reset_backoff();
        (self.congestion_state, self.timer, self.last_snd_una_advance) =
            (CongestionState::Open, None, now);
        self.cubic = super::cubic::Cubic::new(self.mss, self.snd_nxt);
        if self.retransmits > 0 {
            // RFC 6928, section 2: a path that lost the SYN is not trusted with ten segments.
            self.cubic.set_cwnd(self.mss);
        }
        self.transition(StateEvent::Synchronized);
    }

    /// A segment of a connection that both ends know (RFC 9293, section 3.10.7.4).
    fn handle_synchronized(&mut self, segment: &Segment<'_>, now: Micros) -> SegmentOutcome {
        let len = segment.seq_len();
        // PAWS (RFC 7323, section 5.3): from before the numbers wrapped around.
        if self.timestamps_enabled
            && !segment.has(RST)
            && let Some((value, _)) = segment.timestamps
            && Seq(value).before(Seq(self.ts_recent))
        {
            self.record_duplicate(segment, now);
            self.challenge_ack(now);
            return SegmentOutcome::Handled;
        }
        if !self.receive_buffer.acceptable(segment.seq, len) {
            if segment.has(RST) {
                return SegmentOutcome::Handled;
            }
            if self.state == State::SynReceived
                && segment.has(SYN)
                && segment.seq.plus(1) == self.receive_buffer.rcv_nxt
            {
                // Our answer was lost.
                self.scoreboard.mark_oldest_lost();
                return SegmentOutcome::Handled;
            }
            self.record_duplicate(segment, now);
            self.last_rx = now;
            self.challenge_ack(now);
            return SegmentOutcome::Handled;
        }
        if segment.has(RST) {
            // RFC 5961, section 3.2: only the exact number is believed.
            if segment.seq == self.receive_buffer.rcv_nxt {
                self.enter_closed();
            } else {
                self.challenge_ack(now);
            }
            return SegmentOutcome::Handled;
        }
        if segment.has(SYN) {
            self.challenge_ack(now);
            return SegmentOutcome::Handled;
        }
        if !segment.has(ACK) {
            return SegmentOutcome::Handled;
        }
        if self.state == State::SynReceived {
            if segment.ack != self.snd_nxt {
                return SegmentOutcome::SendReset;
            }
            self.complete_handshake(segment, now);
        }
        // RFC 5961, section 5.2: of what was never sent, or was acknowledged long ago.
        if segment.ack.after(self.snd_nxt)
            || self.snd_una.since(segment.ack) as i32 > self.max_snd_wnd.max(1 << 16) as i32
        {
            self.challenge_ack(now);
            return SegmentOutcome::Handled;
        }
        self.last_rx = now;
        if let Some((value, _)) = segment
            .timestamps
            .filter(|_| self.timestamps_enabled && !segment.seq.after(self.receive_buffer.rcv_nxt))
        {
            self.ts_recent = value;
        }
        self.handle_ack(segment, now);
        self.handle_data(segment, now);
        SegmentOutcome::Handled
    }

    /// Bytes that came twice are told of (RFC 2883); nothing is taken from them.
    fn record_duplicate(&mut self, segment: &Segment<'_>, now: Micros) {
        if !segment.payload.is_empty()
            && !segment.seq.plus(segment.payload.len() as u32).after(self.receive_buffer.rcv_nxt)
        {
            self.receive_buffer.insert(segment.seq, segment.payload, now);
        }
    }

    /// Answers what should not have come, but not too often.
    fn challenge_ack(&mut self, now: Micros) {
        let (since, count) = &mut self.challenge_acks;
        if now.saturating_sub(*since) >= 1000 * MS {
            (*since, *count) = (now, 0);
        }
        if *count < CHALLENGE_ACK_LIMIT {
            *count += 1;
            self.delayed_ack.request_immediate();
        }
    }

    /// Data and FIN.
    fn handle_data(&mut self, segment: &Segment<'_>, now: Micros) {
        if !self.state.may_receive() {
            return;
        }
        if !segment.payload.is_empty() {
            let calm = self.state == State::Established
                && segment.seq == self.receive_buffer.rcv_nxt
                && !self.receive_buffer.has_gaps();
            self.receive_buffer.insert(segment.seq, segment.payload, now);
            self.delayed_ack.data_received(segment.payload.len(), calm, self.mss, now);
        }
        if segment.has(FIN) {
            self.receive_buffer.record_fin(segment.seq.plus(segment.payload.len() as u32));
            self.delayed_ack.request_immediate();
        }
        if self.receive_buffer.consume_fin() {
            self.fin_received = true;
            self.transition(StateEvent::Fin);
        }
    }

    /// What the acknowledgement says of what we sent.
    fn handle_ack(&mut self, segment: &Segment<'_>, now: Micros) {
        let mut delivery = Delivery::default();
        let echo = segment.timestamps.filter(|_| self.timestamps_enabled).map(|(_, echo)| echo);
        let offset = self.ts_offset;
        let earlier = move |sent: Micros| {
            echo.map(|echo| Seq(echo).before(Seq(((sent / MS) as u32).wrapping_add(offset))))
        };
        let news = segment.ack.after(self.snd_una);
        let flight = self.scoreboard.in_flight();
        if news {
            self.send_queue.consume(segment.ack.since(self.snd_una) as usize);
            self.snd_una = segment.ack;
            self.scoreboard.handle_ack(segment.ack, now, earlier, &mut delivery);
            self.rtt.reset_backoff();
            self.last_snd_una_advance = now;
            self.probe_acked();
            if self.fin_sent && self.snd_una == self.snd_nxt {
                self.transition(StateEvent::FinAcked);
                if self.state == State::Closed {
                    self.enter_closed();
                    return;
                }
            }
        }
        let mut twice = false;
        if self.sack_enabled && segment.sack_blocks[0].is_some() {
            twice = is_dsack(segment);
            if twice {
                self.scoreboard.handle_dsack();
            }
            self.scoreboard.handle_sack(&segment.sack_blocks, now, earlier, &mut delivery);
        }
        if let Some(rtt) = delivery.rtt {
            self.rtt.add_sample(rtt);
        }
        let window = self.snd_wnd;
        if self.snd_wl.0.before(segment.seq)
            || (self.snd_wl.0 == segment.seq && !self.snd_wl.1.after(segment.ack))
        {
            let shift = self.window_scales.map_or(0, |(theirs, _)| theirs);
            self.snd_wnd = u32::from(segment.window) << shift;
            self.max_snd_wnd = self.max_snd_wnd.max(self.snd_wnd);
            self.snd_wl = (segment.seq, segment.ack);
        }
        self.tlp_process_ack(segment, twice);
        let again = !news
            && segment.ack == self.snd_una
            && segment.payload.is_empty()
            && self.snd_wnd == window
            && !self.scoreboard.is_empty();
        self.update_congestion(news, again, flight, delivery, now);
        self.rearm_timer(now);
    }

    /// RFC 8985, section 7.4: a probe that repeated the tail, and whose answer reports no
    /// duplicate, replaced a lost segment.
    fn tlp_process_ack(&mut self, segment: &Segment<'_>, twice: bool) {
        let Some((end, repeated)) = self.tlp_outstanding else { return };
        if !segment.ack.before(end) || twice {
            self.tlp_outstanding = None;
            if repeated && !twice && matches!(self.congestion_state, CongestionState::Open) {
                self.cubic.on_congestion_event();
                self.cubic.set_cwnd(self.cubic.ssthresh());
            }
        }
    }

    /// Looks for losses, and moves the window. `flight`: what was in flight before; `again`: the
    /// acknowledgement was a duplicate.
    fn update_congestion(
        &mut self,
        news: bool,
        again: bool,
        flight: usize,
        delivery: Delivery,
        now: Micros,
    ) {
        let smoothed = self.rtt.srtt().unwrap_or(MS);
        let mut found = 0;
        if !self.sack_enabled {
            let partial = news
                && matches!(self.congestion_state, CongestionState::Recovery { recovery_point, .. } if self.snd_una.before(recovery_point));
            if partial || (again && self.scoreboard.handle_dup_ack()) {
                found += self.scoreboard.mark_oldest_lost();
            }
        }
        if self.scoreboard.delivered_since_check || self.reordering_deadline.is_some() {
            let (lost, again) = self.scoreboard.rack_detect_loss(
                now,
                !matches!(self.congestion_state, CongestionState::Open),
                smoothed,
            );
            (found, self.reordering_deadline) = (found + lost, again);
        }
        if delivery.spurious_retransmit && !matches!(self.congestion_state, CongestionState::Open) {
            // The Eifel algorithm (RFC 3522): it was only late.
            self.cubic.undo();
            self.scoreboard.undo_losses();
            (self.congestion_state, found) = (CongestionState::Open, 0);
        }
        match self.congestion_state {
            CongestionState::Recovery { recovery_point: until, .. }
            | CongestionState::Loss { recovery_point: until }
                if !self.snd_una.before(until) =>
            {
                if matches!(self.congestion_state, CongestionState::Recovery { .. }) {
                    self.cubic.set_cwnd(self.cubic.ssthresh());
                }
                self.scoreboard.recovery_completed();
                self.congestion_state = CongestionState::Open;
            }
            CongestionState::Open
            | CongestionState::Recovery { .. }
            | CongestionState::Loss { .. } => {}
        }
        self.enter_recovery(found, flight);
        match &mut self.congestion_state {
            CongestionState::Recovery { prr: pace, .. } => {
                let (in_flight, threshold) = (self.scoreboard.in_flight(), self.cubic.ssthresh());
                let window = pace.cwnd(delivery.bytes, in_flight, threshold, self.mss, found == 0);
                self.cubic.set_cwnd(window);
            }
            CongestionState::Open | CongestionState::Loss { .. } => {
                if delivery.bytes > 0 {
                    let limited = self.cwnd_limited;
                    let sample = AckSample {
                        bytes: delivery.bytes,
                        rtt: delivery.rtt,
                        srtt: smoothed,
                        snd_una: self.snd_una,
                        snd_nxt: self.snd_nxt,
                        cwnd_limited: limited,
                    };
                    self.cubic.on_ack(sample, now);
                }
            }
        }
    }

    /// So much was found lost.
    pub(super) fn enter_recovery(&mut self, found: usize, flight: usize) {
        if found > 0 {
            self.probe_lost();
        }
        if found > 0 && matches!(self.congestion_state, CongestionState::Open) {
            self.cubic.on_congestion_event();
            self.congestion_state = CongestionState::Recovery {
                recovery_point: self.snd_nxt,
                prr: ProportionalRateReduction::new(flight),
            };
        }
    }
}

/// The first block tells of something that had arrived before: it is acknowledged already, or part
/// of the second (RFC 2883, section 4).
fn is_dsack(segment: &Segment<'_>) -> bool {
    let [Some((from, to)), second, _] = segment.sack_blocks else { return false };
    !to.after(segment.ack) || second.is_some_and(|(a, b)| !from.before(a) && !to.after(b))
}
