//! What a connection sends, and when it wants to be asked again.
//!
//! Order: a reset, what must be told of holes, what was lost, new data, and an acknowledgement if
//! nothing else carried it.

use super::connection::{Connection, Phase, Timer};
use super::segment::{ACK, FIN, Flow, Header, Outlet, PSH, RST, SYN};
use super::sent::{ENDS, OPENS, Sent};
use super::seq::Seq;
use super::state::State;
use super::{MS, Micros};

/// How long the other end may keep an acknowledgement back that we wait for alone (RFC 8985,
/// section 7.2): Linux and Windows take 40 to 50 ms.
const ACK_DELAY: Micros = 50 * MS;
/// A probe is never sent sooner than this after what it probes for: the shell's clock is no finer.
const PROBE_LEAST: Micros = 2 * MS;

impl Connection {
    /// Does what the clock asks for, and sends at most `turn` segments as far as the outlet takes
    /// them. True if anything was sent.
    pub(in crate::tunnel) fn transmit(
        &mut self,
        flow: &Flow,
        out: &mut impl Outlet,
        turn: usize,
        now: Micros,
    ) -> bool {
        if self.reset {
            if !out.ready() {
                return false;
            }
            self.reset = false;
            self.header(self.nxt, RST | ACK, now).send(flow, out, 0, |_| {});
            return true;
        }
        if self.state == State::Closed {
            return false;
        }
        self.due(now);
        let mut sent = 0;
        if self.owed.is_due() && self.received.has_holes() && out.ready() {
            self.acknowledge(self.nxt, flow, out, now);
            sent += 1;
        }
        let mut place = 0;
        while sent < turn && out.ready() {
            if let Some(next) = self.repeat(place, flow, out, now) {
                place = next;
            } else if !self.fresh(flow, out, now) {
                break;
            }
            sent += 1;
        }
        if sent < turn && out.ready() {
            sent += usize::from(self.ask(flow, out, now));
        }
        if self.owed.is_due() && out.ready() {
            self.acknowledge(self.nxt, flow, out, now);
            sent += 1;
        }
        if sent > 0 || self.timer.is_none() {
            self.rearm(now);
        }
        sent > 0
    }

    /// When it wants to be called again.
    pub(in crate::tunnel) fn deadline(&self) -> Option<Micros> {
        if self.state == State::Closed {
            return None;
        }
        let timer = self.timer.map(|(_, at)| at);
        [timer, self.owed.deadline()].into_iter().flatten().chain([self.keepalive_at()]).min()
    }

    fn keepalive_at(&self) -> Micros {
        if self.state.is_opening() || self.state == State::TimeWait {
            return Micros::MAX;
        }
        self.heard.max(self.asked).saturating_add(self.limits.keepalive)
    }

    // ---- the clock ----

    fn due(&mut self, now: Micros) {
        self.received.rest(now);
        self.owed.tick(now);
        if now >= self.keepalive_at() && self.board.is_empty() {
            self.asking = true;
        }
        if now >= self.keepalive_at() {
            self.asked = now;
        }
        let Some((timer, _)) = self.timer.filter(|&(_, at)| now >= at) else { return };
        self.timer = None;
        match timer {
            Timer::Late => {
                let (flight, smoothed) =
                    (self.board.in_flight(), self.rtt.smoothed().unwrap_or(MS));
                let (found, again) =
                    self.board.find_lost(now, !matches!(self.phase, Phase::Open), smoothed);
                self.again = again;
                self.lost(found, flight);
                if found > 0 && matches!(self.phase, Phase::Recovering { .. }) {
                    self.cubic.set(self.board.in_flight() + self.mss);
                }
            }
            Timer::Probe => self.probing = true,
            Timer::Window => {
                self.asking = true;
                // And what fits is sent, however small (RFC 9293, section 3.8.6.2.1).
                self.window_most = self.window;
                self.rtt.back_off();
            }
            Timer::Repeat => {
                self.find_black_hole(now);
                // RFC 6298, section 5.
                self.board.lose_old(now, self.rtt.smoothed().unwrap_or(0));
                self.cubic.timeout(!matches!(self.phase, Phase::Restarting { .. }));
                self.cubic.set(self.board.in_flight() + self.mss);
                self.rtt.back_off();
                self.phase = Phase::Restarting { until: self.nxt };
                (self.probed, self.probing, self.again, self.limited) = (None, false, None, true);
            }
        }
        self.rearm(now);
    }

    /// Sets the one timer anew.
    pub(super) fn rearm(&mut self, now: Micros) {
        self.timer = if self.state == State::Closed {
            None
        } else if self.board.is_empty() {
            let blocked = self.unsent() > 0 || (self.closing && !self.fin_sent);
            let at = self.last_sent.max(self.last_progress) + self.rtt.timeout();
            // Nothing under way, yet something to say: only a closed window is in the way.
            (blocked && (self.window as usize) < self.mss).then_some((Timer::Window, at))
        } else if let Some(at) = self.again {
            Some((Timer::Late, at.max(now)))
        } else {
            let since = self.board.oldest().unwrap_or(now).max(self.last_progress);
            let repeat = since + self.rtt.timeout();
            let probe =
                self.probe_after().map(|wait| self.last_sent.max(self.last_progress) + wait);
            match probe.filter(|&at| at < repeat) {
                Some(at) => Some((Timer::Probe, at)),
                None => Some((Timer::Repeat, repeat)),
            }
        };
    }

    /// How long to wait before probing the tail; none when there is nothing to probe for (RFC 8985,
    /// section 7.2).
    fn probe_after(&self) -> Option<Micros> {
        if !self.sack
            || self.probing
            || self.probed.is_some()
            || !self.board.tail_waits()
            || !matches!(self.phase, Phase::Open)
        {
            return None;
        }
        let smoothed = self.rtt.smoothed().filter(|_| !self.state.is_opening())?;
        let alone = if self.board.count() == 1 { ACK_DELAY } else { 0 };
        Some((2 * smoothed).max(PROBE_LEAST) + alone)
    }

    // ---- segments ----

    fn header(&mut self, seq: Seq, flags: u8, now: Micros) -> Header {
        let scale = self.scales.map_or(0, |(_, ours)| ours);
        let window = self.received.offer(scale, self.mss);
        let mut header =
            Header::new(self.local, self.remote, seq, self.received.next, flags, window);
        if self.stamps {
            header.stamps = Some((self.stamp(now), self.stamp_recent));
        }
        header
    }

    /// An acknowledgement and nothing else; at `seq`, which is `nxt` except to provoke an answer.
    fn acknowledge(&mut self, seq: Seq, flow: &Flow, out: &mut impl Outlet, now: Micros) {
        let mut header = self.header(seq, ACK, now);
        if self.sack {
            header.blocks = self.received.blocks();
        } else {
            self.received.forget_duplicate();
        }
        self.owed.paid();
        header.send(flow, out, 0, |_| {});
    }

    /// Sends a lost segment again, from place `from` of the scoreboard on; answers with its place.
    fn repeat(
        &mut self,
        from: usize,
        flow: &Flow,
        out: &mut impl Outlet,
        now: Micros,
    ) -> Option<usize> {
        if !self.board.has_lost() {
            return None;
        }
        if self.board.in_flight() >= self.cubic.window() {
            self.limited = true;
            return None;
        }
        let (place, sent) = self.board.repeat_lost(from, now)?;
        if let Phase::Recovering { pace, .. } = &mut self.phase {
            pace.sent(sent.len as usize);
        }
        self.repeated += 1;
        self.again(&sent, flow, out, now);
        Some(place)
    }

    fn again(&mut self, sent: &Sent, flow: &Flow, out: &mut impl Outlet, now: Micros) {
        if sent.opens() {
            return self.opening(sent.seq, flow, out, now);
        }
        let length = sent.len as usize - usize::from(sent.ends());
        let flags = ACK | PSH | if sent.ends() { FIN } else { 0 };
        self.data(sent.seq, length, flags, flow, out, now);
    }

    fn opening(&mut self, seq: Seq, flow: &Flow, out: &mut impl Outlet, now: Micros) {
        let mss = (self.limits.mtu - flow.ip_header() - 20) as u16;
        let mut header = Header::new(self.local, self.remote, seq, Seq(0), SYN, 0);
        header.window = u16::try_from(self.received.window()).unwrap_or(u16::MAX);
        header.opening = Some((mss, self.scales.map(|(_, ours)| ours), self.sack));
        header.stamps = self.stamps.then(|| (self.stamp(now), self.stamp_recent));
        if self.state != State::SynSent {
            header.flags |= ACK;
            header.ack = self.received.next;
        }
        self.last_sent = now;
        header.send(flow, out, 0, |_| {});
    }

    fn data(
        &mut self,
        seq: Seq,
        length: usize,
        flags: u8,
        flow: &Flow,
        out: &mut impl Outlet,
        now: Micros,
    ) {
        let header = self.header(seq, flags, now);
        let offset = seq.since(self.una) as usize;
        let queue = &mut self.queue;
        header.send(flow, out, length, |room| {
            queue.copy(offset, room);
        });
        self.owed.paid();
        self.last_sent = now;
    }

    /// Sends a new segment, if there is something to say and both windows allow it.
    fn fresh(&mut self, flow: &Flow, out: &mut impl Outlet, now: Micros) -> bool {
        if self.state.is_opening() && self.nxt == self.una {
            // A SYN takes a sequence number, and is repeated like anything else.
            self.board.push(self.nxt, 1, OPENS, now);
            self.nxt = self.nxt.plus(1);
            self.opening(self.una, flow, out, now);
            return true;
        }
        let unsent = self.unsent();
        let fin = self.closing && !self.fin_sent;
        if self.state.is_opening() || (unsent == 0 && !fin) {
            self.limited = false;
            return self.probe(flow, out, now);
        }
        if self.board.is_empty() && now.saturating_sub(self.last_sent) > self.rtt.timeout() {
            self.cubic.rested(self.nxt);
        }
        let room = self.una.plus(self.window);
        let room = if room.after(self.nxt) { room.since(self.nxt) as usize } else { 0 };
        let ready = unsent.min(room);
        let length = ready.min(self.payload_most(ready, now));
        // Not in small pieces because the window is (RFC 9293, section 3.8.6.2.1).
        let silly = length < self.mss && length < unsent && length * 2 < self.window_most as usize;
        let last = length == unsent;
        if (length == 0 && !(fin && last && room > 0)) || silly || self.board.full() {
            self.limited = false;
            return self.probe(flow, out, now);
        }
        if self.board.in_flight() > 0
            && self.board.in_flight() + length > self.cubic.window()
            && !self.probing
        {
            self.limited = true;
            return false;
        }
        let ends = fin && last && room > length;
        let flags = ACK | if last { PSH } else { 0 } | if ends { FIN } else { 0 };
        self.owed.said(now);
        self.data(self.nxt, length, flags, flow, out, now);
        let len = length as u32 + u32::from(ends);
        self.board.push(self.nxt, len, if ends { ENDS } else { 0 }, now);
        self.nxt = self.nxt.plus(len);
        self.fin_sent |= ends;
        self.note_size(length, self.nxt, now);
        if let Phase::Recovering { pace, .. } = &mut self.phase {
            pace.sent(length);
        }
        if self.probing {
            self.probing = false;
            self.probed = Some((self.nxt, false));
        }
        true
    }

    /// Nothing new to say: the tail is probed with its last segment.
    fn probe(&mut self, flow: &Flow, out: &mut impl Outlet, now: Micros) -> bool {
        if !std::mem::take(&mut self.probing) {
            return false;
        }
        let Some(sent) = self.board.repeat_last(now) else { return false };
        self.repeated += 1;
        self.probed = Some((self.nxt, true));
        self.again(&sent, flow, out, now);
        true
    }

    /// Asks whether the other end is there, or its window open: with a number it has acknowledged,
    /// so that it must answer.
    fn ask(&mut self, flow: &Flow, out: &mut impl Outlet, now: Micros) -> bool {
        if !std::mem::take(&mut self.asking) {
            return false;
        }
        self.acknowledge(self.una.plus(u32::MAX), flow, out, now);
        self.last_sent = now;
        true
    }
}
