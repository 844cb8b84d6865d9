//! Handling of arriving segments (RFC 9293, section 3.10.7; RFC 5961; RFC 7323, section 5).

use super::connection::{CongestionState, Connection};
use super::cubic::{AckSample, ProportionalRateReduction};
use super::scoreboard::Delivery;
use super::segment::{ACK, AddressPair, FIN, RST, SYN, Segment};
use super::seq::Seq;
use super::state::{State, StateEvent};
use super::time::{MS, Micros};

/// Challenge ACKs per second (RFC 5961, section 7).
const CHALLENGE_ACK_LIMIT: u32 = 100;

/// What the caller has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(in crate::tunnel) enum SegmentOutcome {
    /// Nothing.
    Handled,
    /// Send a RST in answer to the segment.
    SendReset,
}

impl Connection {
    pub(in crate::tunnel) fn handle_segment(
        &mut self,
        segment: &Segment<'_>,
        addrs: &AddressPair,
        now: Micros,
    ) -> SegmentOutcome {
        match self.state {
            State::Closed => SegmentOutcome::Handled,
            State::SynSent => self.handle_syn_sent(segment, addrs, now),
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

    /// SYN-SENT (RFC 9293, section 3.10.7.3).
    fn handle_syn_sent(
        &mut self,
        segment: &Segment<'_>,
        addrs: &AddressPair,
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
        self.negotiate(segment, addrs);
        if acknowledges {
            self.complete_handshake(segment, now);
        } else {
            // Simultaneous open: our SYN is sent again, with an ACK.
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
            // RFC 6928, section 2: after a lost SYN the initial window is one segment.
            self.cubic.set_cwnd(self.mss);
        }
        self.transition(StateEvent::Synchronized);
    }

    /// Synchronized states (RFC 9293, section 3.10.7.4).
    fn handle_synchronized(&mut self, segment: &Segment<'_>, now: Micros) -> SegmentOutcome {
        let len = segment.seq_len();
        // PAWS (RFC 7323, section 5.3): an old duplicate.
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
                // Our SYN-ACK was lost.
                self.scoreboard.mark_oldest_lost();
                return SegmentOutcome::Handled;
            }
            self.record_duplicate(segment, now);
            self.last_rx = now;
            self.challenge_ack(now);
            return SegmentOutcome::Handled;
        }
        if segment.has(RST) {
            // RFC 5961, section 3.2: only the exact sequence number is accepted.
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
        // RFC 5961, section 5.2: acknowledges data never sent, or acknowledged long ago.
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

    /// Records duplicate data for a D-SACK (RFC 2883); nothing is taken from it.
    fn record_duplicate(&mut self, segment: &Segment<'_>, now: Micros) {
        if !segment.payload.is_empty()
            && !segment.seq.plus(segment.payload.len() as u32).after(self.receive_buffer.rcv_nxt)
        {
            self.receive_buffer.insert(segment.seq, segment.payload, now);
        }
    }

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

    /// The segment's data and FIN.
    fn handle_data(&mut self, segment: &Segment<'_>, now: Micros) {
        if !self.state.may_receive() {
            return;
        }
        if !segment.payload.is_empty() {
            let in_sequence = self.state == State::Established
                && segment.seq == self.receive_buffer.rcv_nxt
                && !self.receive_buffer.has_gaps();
            self.receive_buffer.insert(segment.seq, segment.payload, now);
            self.delayed_ack.data_received(segment.payload.len(), in_sequence, self.mss, now);
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

    /// The segment's acknowledgement.
    fn handle_ack(&mut self, segment: &Segment<'_>, now: Micros) {
        let mut delivery = Delivery::default();
        let echo = segment.timestamps.filter(|_| self.timestamps_enabled).map(|(_, echo)| echo);
        let offset = self.ts_offset;
        let echoed = move |sent: Micros| {
            echo.map(|echo| Seq(echo).before(Seq(((sent / MS) as u32).wrapping_add(offset))))
        };
        let advanced = segment.ack.after(self.snd_una);
        let flight = self.scoreboard.in_flight();
        if advanced {
            self.send_queue.consume(segment.ack.since(self.snd_una) as usize);
            self.snd_una = segment.ack;
            self.scoreboard.handle_ack(segment.ack, now, echoed, &mut delivery);
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
        let mut dsack = false;
        if self.sack_enabled && segment.sack_blocks[0].is_some() {
            dsack = is_dsack(segment);
            if dsack {
                self.scoreboard.handle_dsack();
            }
            self.scoreboard.handle_sack(&segment.sack_blocks, now, echoed, &mut delivery);
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
        self.tlp_process_ack(segment, dsack);
        let duplicate_ack = !advanced
            && segment.ack == self.snd_una
            && segment.payload.is_empty()
            && self.snd_wnd == window
            && !self.scoreboard.is_empty();
        self.update_congestion(advanced, duplicate_ack, flight, delivery, now);
        self.rearm_timer(now);
    }

    /// RFC 8985, section 7.4: a probe that retransmitted the tail, and whose acknowledgement
    /// reports no duplicate, repaired a loss.
    fn tlp_process_ack(&mut self, segment: &Segment<'_>, dsack: bool) {
        let Some((end, retransmitted)) = self.tlp_outstanding else { return };
        if !segment.ack.before(end) || dsack {
            self.tlp_outstanding = None;
            if retransmitted && !dsack && matches!(self.congestion_state, CongestionState::Open) {
                self.cubic.on_congestion_event();
                self.cubic.set_cwnd(self.cubic.ssthresh());
            }
        }
    }

    /// Detects losses and updates the congestion window. `flight`: bytes in flight before the ACK;
    /// `duplicate`: it was a duplicate ACK.
    fn update_congestion(
        &mut self,
        advanced: bool,
        duplicate_ack: bool,
        flight: usize,
        delivery: Delivery,
        now: Micros,
    ) {
        let srtt = self.rtt.srtt().unwrap_or(MS);
        let mut lost = 0;
        if !self.sack_enabled {
            let partial = advanced
                && matches!(self.congestion_state, CongestionState::Recovery { recovery_point, .. } if self.snd_una.before(recovery_point));
            if partial || (duplicate_ack && self.scoreboard.handle_dup_ack()) {
                lost += self.scoreboard.mark_oldest_lost();
            }
        }
        if self.scoreboard.delivered_since_check || self.reordering_deadline.is_some() {
            let (detected, deadline) = self.scoreboard.rack_detect_loss(
                now,
                !matches!(self.congestion_state, CongestionState::Open),
                srtt,
            );
            (lost, self.reordering_deadline) = (lost + detected, deadline);
        }
        if delivery.spurious_retransmit && !matches!(self.congestion_state, CongestionState::Open) {
            // Eifel detection (RFC 3522): the original was only late.
            self.cubic.undo();
            self.scoreboard.undo_losses();
            (self.congestion_state, lost) = (CongestionState::Open, 0);
        }
        match self.congestion_state {
            CongestionState::Recovery { recovery_point, .. }
            | CongestionState::Loss { recovery_point }
                if !self.snd_una.before(recovery_point) =>
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
        self.enter_recovery(lost, flight);
        match &mut self.congestion_state {
            CongestionState::Recovery { prr, .. } => {
                let (in_flight, ssthresh) = (self.scoreboard.in_flight(), self.cubic.ssthresh());
                let window = prr.cwnd(delivery.bytes, in_flight, ssthresh, self.mss, lost == 0);
                self.cubic.set_cwnd(window);
            }
            CongestionState::Open | CongestionState::Loss { .. } => {
                if delivery.bytes > 0 {
                    let cwnd_limited = self.cwnd_limited;
                    let sample = AckSample {
                        bytes: delivery.bytes,
                        rtt: delivery.rtt,
                        srtt,
                        snd_una: self.snd_una,
                        snd_nxt: self.snd_nxt,
                        cwnd_limited,
                    };
                    self.cubic.on_ack(sample, now);
                }
            }
        }
    }

    /// `lost` bytes were newly detected as lost.
    pub(super) fn enter_recovery(&mut self, lost: usize, flight: usize) {
        if lost > 0 {
            self.probe_lost();
        }
        if lost > 0 && matches!(self.congestion_state, CongestionState::Open) {
            self.cubic.on_congestion_event();
            self.congestion_state = CongestionState::Recovery {
                recovery_point: self.snd_nxt,
                prr: ProportionalRateReduction::new(flight),
            };
        }
    }
}

/// Whether the first block is a D-SACK: acknowledged already, or part of the second (RFC 2883,
/// section 4).
fn is_dsack(segment: &Segment<'_>) -> bool {
    let [Some((from, to)), second, _] = segment.sack_blocks else { return false };
    !to.after(segment.ack) || second.is_some_and(|(a, b)| !from.before(a) && !to.after(b))
}
