//! What a segment that arrives does to its connection (RFC 9293, section 3.10.7; RFC 5961; RFC
//! 7323, section 5).

use super::connection::{Connection, Phase};
use super::cubic::{Reduction, Sample};
use super::segment::{ACK, FIN, Flow, RST, SYN, Segment};
use super::sent::Delivery;
use super::seq::Seq;
use super::state::{Input, State};
use super::{MS, Micros};

/// Acknowledgements a second that answer what should not have come (RFC 5961, section 7).
const CHALLENGES: u32 = 100;

/// What else is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(in crate::tunnel) enum Verdict {
    /// Nothing.
    Done,
    /// Send a reset in answer to the segment.
    Reset,
}

impl Connection {
    /// Takes in a segment of this connection.
    pub(in crate::tunnel) fn segment(
        &mut self,
        segment: &Segment<'_>,
        flow: &Flow,
        now: Micros,
    ) -> Verdict {
        match self.state {
            State::Closed => Verdict::Done,
            State::SynSent => self.answer(segment, flow, now),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => self.arrive(segment, now),
        }
    }

    /// The answer to our request (RFC 9293, section 3.10.7.3).
    fn answer(&mut self, segment: &Segment<'_>, flow: &Flow, now: Micros) -> Verdict {
        let acknowledges = segment.has(ACK);
        if acknowledges && segment.ack != self.nxt {
            return if segment.has(RST) { Verdict::Done } else { Verdict::Reset };
        }
        if segment.has(RST) {
            if acknowledges {
                self.drop_all();
            }
            return Verdict::Done;
        }
        if !segment.has(SYN) {
            return Verdict::Done;
        }
        self.heard = now;
        self.agree(segment, flow);
        if acknowledges {
            self.open(segment, now);
        } else {
            // Both asked at the same time: ours is sent again, with an acknowledgement.
            self.turn(Input::Syn);
            self.board.lose_oldest();
        }
        self.owed.at_once();
        Verdict::Done
    }

    /// Our SYN was acknowledged.
    fn open(&mut self, segment: &Segment<'_>, now: Micros) {
        let mut delivery = Delivery::default();
        self.board.acknowledged(segment.ack, now, |_| None, &mut delivery);
        if let Some(rtt) = delivery.rtt {
            self.rtt.measured(rtt);
        }
        self.una = segment.ack;
        self.rtt.answered();
        (self.phase, self.timer, self.last_progress) = (Phase::Open, None, now);
        self.cubic = super::cubic::Cubic::new(self.mss, self.nxt);
        if self.repeated > 0 {
            // RFC 6928, section 2: a path that lost the SYN is not trusted with ten segments.
            self.cubic.set(self.mss);
        }
        self.turn(Input::Synchronized);
    }

    /// A segment of a connection that both ends know (RFC 9293, section 3.10.7.4).
    fn arrive(&mut self, segment: &Segment<'_>, now: Micros) -> Verdict {
        let len = segment.len();
        // PAWS (RFC 7323, section 5.3): from before the numbers wrapped around.
        if self.stamps
            && !segment.has(RST)
            && let Some((value, _)) = segment.stamps
            && Seq(value).before(Seq(self.stamp_recent))
        {
            self.note_duplicate(segment, now);
            self.challenge(now);
            return Verdict::Done;
        }
        if !self.received.acceptable(segment.seq, len) {
            if segment.has(RST) {
                return Verdict::Done;
            }
            if self.state == State::SynReceived
                && segment.has(SYN)
                && segment.seq.plus(1) == self.received.next
            {
                // Our answer was lost.
                self.board.lose_oldest();
                return Verdict::Done;
            }
            self.note_duplicate(segment, now);
            self.heard = now;
            self.challenge(now);
            return Verdict::Done;
        }
        if segment.has(RST) {
            // RFC 5961, section 3.2: only the exact number is believed.
            if segment.seq == self.received.next {
                self.drop_all();
            } else {
                self.challenge(now);
            }
            return Verdict::Done;
        }
        if segment.has(SYN) {
            self.challenge(now);
            return Verdict::Done;
        }
        if !segment.has(ACK) {
            return Verdict::Done;
        }
        if self.state == State::SynReceived {
            if segment.ack != self.nxt {
                return Verdict::Reset;
            }
            self.open(segment, now);
        }
        // RFC 5961, section 5.2: of what was never sent, or was acknowledged long ago.
        if segment.ack.after(self.nxt)
            || self.una.since(segment.ack) as i32 > self.window_most.max(1 << 16) as i32
        {
            self.challenge(now);
            return Verdict::Done;
        }
        self.heard = now;
        if let Some((value, _)) =
            segment.stamps.filter(|_| self.stamps && !segment.seq.after(self.received.next))
        {
            self.stamp_recent = value;
        }
        self.acknowledged(segment, now);
        self.take(segment, now);
        Verdict::Done
    }

    /// Bytes that came twice are told of (RFC 2883); nothing is taken from them.
    fn note_duplicate(&mut self, segment: &Segment<'_>, now: Micros) {
        if !segment.payload.is_empty()
            && !segment.seq.plus(segment.payload.len() as u32).after(self.received.next)
        {
            self.received.data(segment.seq, segment.payload, now);
        }
    }

    /// Answers what should not have come, but not too often.
    fn challenge(&mut self, now: Micros) {
        let (since, count) = &mut self.challenges;
        if now.saturating_sub(*since) >= 1000 * MS {
            (*since, *count) = (now, 0);
        }
        if *count < CHALLENGES {
            *count += 1;
            self.owed.at_once();
        }
    }

    /// Data and FIN.
    fn take(&mut self, segment: &Segment<'_>, now: Micros) {
        if !self.state.may_receive() {
            return;
        }
        if !segment.payload.is_empty() {
            let calm = self.state == State::Established
                && segment.seq == self.received.next
                && !self.received.has_holes();
            self.received.data(segment.seq, segment.payload, now);
            self.owed.data(segment.payload.len(), calm, self.mss, now);
        }
        if segment.has(FIN) {
            self.received.fin(segment.seq.plus(segment.payload.len() as u32));
            self.owed.at_once();
        }
        if self.received.ends() {
            self.ended = true;
            self.turn(Input::Fin);
        }
    }

    /// What the acknowledgement says of what we sent.
    fn acknowledged(&mut self, segment: &Segment<'_>, now: Micros) {
        let mut delivery = Delivery::default();
        let echo = segment.stamps.filter(|_| self.stamps).map(|(_, echo)| echo);
        let offset = self.stamp_offset;
        let earlier = move |sent: Micros| {
            echo.map(|echo| Seq(echo).before(Seq(((sent / MS) as u32).wrapping_add(offset))))
        };
        let news = segment.ack.after(self.una);
        let flight = self.board.in_flight();
        if news {
            self.queue.consume(segment.ack.since(self.una) as usize);
            self.una = segment.ack;
            self.board.acknowledged(segment.ack, now, earlier, &mut delivery);
            self.rtt.answered();
            self.last_progress = now;
            self.trial_passed();
            if self.fin_sent && self.una == self.nxt {
                self.turn(Input::FinAcked);
                if self.state == State::Closed {
                    self.drop_all();
                    return;
                }
            }
        }
        let mut twice = false;
        if self.sack && segment.blocks[0].is_some() {
            twice = duplicate(segment);
            if twice {
                self.board.duplicate_reported();
            }
            self.board.selected(&segment.blocks, now, earlier, &mut delivery);
        }
        if let Some(rtt) = delivery.rtt {
            self.rtt.measured(rtt);
        }
        let window = self.window;
        if self.window_by.0.before(segment.seq)
            || (self.window_by.0 == segment.seq && !self.window_by.1.after(segment.ack))
        {
            let shift = self.scales.map_or(0, |(theirs, _)| theirs);
            self.window = u32::from(segment.window) << shift;
            self.window_most = self.window_most.max(self.window);
            self.window_by = (segment.seq, segment.ack);
        }
        self.probe_answered(segment, twice);
        let again = !news
            && segment.ack == self.una
            && segment.payload.is_empty()
            && self.window == window
            && !self.board.is_empty();
        self.recover(news, again, flight, delivery, now);
        self.rearm(now);
    }

    /// RFC 8985, section 7.4: a probe that repeated the tail, and whose answer reports no
    /// duplicate, replaced a lost segment.
    fn probe_answered(&mut self, segment: &Segment<'_>, twice: bool) {
        let Some((end, repeated)) = self.probed else { return };
        if !segment.ack.before(end) || twice {
            self.probed = None;
            if repeated && !twice && matches!(self.phase, Phase::Open) {
                self.cubic.congestion();
                self.cubic.set(self.cubic.threshold());
            }
        }
    }

    /// Looks for losses, and moves the window. `flight`: what was in flight before; `again`: the
    /// acknowledgement was a duplicate.
    fn recover(&mut self, news: bool, again: bool, flight: usize, delivery: Delivery, now: Micros) {
        let smoothed = self.rtt.smoothed().unwrap_or(MS);
        let mut found = 0;
        if !self.sack {
            let partial = news
                && matches!(self.phase, Phase::Recovering { until, .. } if self.una.before(until));
            if partial || (again && self.board.duplicate()) {
                found += self.board.lose_oldest();
            }
        }
        if self.board.news || self.again.is_some() {
            let (lost, again) =
                self.board.find_lost(now, !matches!(self.phase, Phase::Open), smoothed);
            (found, self.again) = (found + lost, again);
        }
        if delivery.spurious && !matches!(self.phase, Phase::Open) {
            // The Eifel algorithm (RFC 3522): it was only late.
            self.cubic.undo();
            self.board.unlose();
            (self.phase, found) = (Phase::Open, 0);
        }
        match self.phase {
            Phase::Recovering { until, .. } | Phase::Restarting { until }
                if !self.una.before(until) =>
            {
                if matches!(self.phase, Phase::Recovering { .. }) {
                    self.cubic.set(self.cubic.threshold());
                }
                self.board.recovered();
                self.phase = Phase::Open;
            }
            Phase::Open | Phase::Recovering { .. } | Phase::Restarting { .. } => {}
        }
        self.lost(found, flight);
        match &mut self.phase {
            Phase::Recovering { pace, .. } => {
                let (in_flight, threshold) = (self.board.in_flight(), self.cubic.threshold());
                let window =
                    pace.window(delivery.bytes, in_flight, threshold, self.mss, found == 0);
                self.cubic.set(window);
            }
            Phase::Open | Phase::Restarting { .. } => {
                if delivery.bytes > 0 {
                    let limited = self.limited;
                    let sample = Sample {
                        bytes: delivery.bytes,
                        rtt: delivery.rtt,
                        smoothed,
                        una: self.una,
                        nxt: self.nxt,
                        limited,
                    };
                    self.cubic.acknowledged(sample, now);
                }
            }
        }
    }

    /// So much was found lost.
    pub(super) fn lost(&mut self, found: usize, flight: usize) {
        if found > 0 {
            self.trial_failed();
        }
        if found > 0 && matches!(self.phase, Phase::Open) {
            self.cubic.congestion();
            self.phase = Phase::Recovering { until: self.nxt, pace: Reduction::new(flight) };
        }
    }
}

/// The first block tells of something that had arrived before: it is acknowledged already, or part
/// of the second (RFC 2883, section 4).
fn duplicate(segment: &Segment<'_>) -> bool {
    let [Some((from, to)), second, _] = segment.blocks else { return false };
    !to.after(segment.ack) || second.is_some_and(|(a, b)| !from.before(a) && !to.after(b))
}
