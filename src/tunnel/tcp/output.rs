//! Sending segments, and the deadline of the connection.
//!
//! Order: RST, an ACK with SACK blocks, retransmissions, new data, and an ACK if no other segment
//! carried it.

use super::connection::{CongestionState, Connection, Timer};
use super::header::{PacketOutput, SegmentHeader};
use super::scoreboard::{HAS_FIN, HAS_SYN, SentSegment};
use super::segment::{ACK, AddressPair, FIN, PSH, RST, SYN};
use super::seq::Seq;
use super::state::State;
use super::time::{MS, Micros};

/// TLP.max_ack_delay (RFC 8985, section 7.2): Linux and Windows delay ACKs by 40 to 50 ms.
const MAX_ACK_DELAY: Micros = 50 * MS;
/// Least probe timeout: the driver's timers are no finer.
const PTO_MIN: Micros = 2 * MS;

impl Connection {
    /// Handles expired timers and sends at most `quantum` segments while the output is ready.
    /// Returns true if anything was sent.
    pub(in crate::tunnel) fn transmit(
        &mut self,
        addrs: &AddressPair,
        out: &mut impl PacketOutput,
        quantum: usize,
        now: Micros,
    ) -> bool {
        if self.rst_pending {
            if !out.is_ready() {
                return false;
            }
            self.rst_pending = false;
            self.segment_header(self.snd_nxt, RST | ACK, now).emit(addrs, out, 0, |_| {});
            return true;
        }
        if self.state == State::Closed {
            return false;
        }
        self.handle_timers(now);
        let mut sent = 0;
        if self.delayed_ack.is_due() && self.receive_buffer.has_gaps() && out.is_ready() {
            self.send_ack(self.snd_nxt, addrs, out, now);
            sent += 1;
        }
        let mut index = 0;
        while sent < quantum && out.is_ready() {
            if let Some(next) = self.retransmit_lost(index, addrs, out, now) {
                index = next;
            } else if !self.send_new_data(addrs, out, now) {
                break;
            }
            sent += 1;
        }
        if sent < quantum && out.is_ready() {
            sent += usize::from(self.send_probe(addrs, out, now));
        }
        if self.delayed_ack.is_due() && out.is_ready() {
            self.send_ack(self.snd_nxt, addrs, out, now);
            sent += 1;
        }
        if sent > 0 || self.timer.is_none() {
            self.rearm_timer(now);
        }
        sent > 0
    }

    /// When it wants to be called again.
    pub(in crate::tunnel) fn deadline(&self) -> Option<Micros> {
        if self.state == State::Closed {
            return None;
        }
        let timer = self.timer.map(|(_, at)| at);
        [timer, self.delayed_ack.deadline()]
            .into_iter()
            .flatten()
            .chain([self.keepalive_at()])
            .min()
    }

    fn keepalive_at(&self) -> Micros {
        if self.state.is_handshaking() || self.state == State::TimeWait {
            return Micros::MAX;
        }
        self.last_rx.max(self.last_keepalive).saturating_add(self.config.keepalive_interval)
    }

    // ---- timers ----

    fn handle_timers(&mut self, now: Micros) {
        self.receive_buffer.shrink_if_idle(now);
        self.delayed_ack.handle_timeout(now);
        if now >= self.keepalive_at() && self.scoreboard.is_empty() {
            self.zero_window_probe = true;
        }
        if now >= self.keepalive_at() {
            self.last_keepalive = now;
        }
        let Some((timer, _)) = self.timer.filter(|&(_, at)| now >= at) else { return };
        self.timer = None;
        match timer {
            Timer::Reordering => {
                let (flight, srtt) = (self.scoreboard.in_flight(), self.rtt.srtt().unwrap_or(MS));
                let (lost, deadline) = self.scoreboard.rack_detect_loss(
                    now,
                    !matches!(self.congestion_state, CongestionState::Open),
                    srtt,
                );
                self.reordering_deadline = deadline;
                self.enter_recovery(lost, flight);
                if lost > 0 && matches!(self.congestion_state, CongestionState::Recovery { .. }) {
                    self.cubic.set_cwnd(self.scoreboard.in_flight() + self.mss);
                }
            }
            Timer::TailLossProbe => self.tlp_pending = true,
            Timer::ZeroWindowProbe => {
                self.zero_window_probe = true;
                // Whatever fits is sent, however small (RFC 9293, section 3.8.6.2.1).
                self.max_snd_wnd = self.snd_wnd;
                self.rtt.back_off();
            }
            Timer::Retransmission => {
                self.detect_blackhole(now);
                // RFC 6298, section 5.
                self.scoreboard.mark_lost_on_rto(now, self.rtt.srtt().unwrap_or(0));
                self.cubic.on_rto(!matches!(self.congestion_state, CongestionState::Loss { .. }));
                self.cubic.set_cwnd(self.scoreboard.in_flight() + self.mss);
                self.rtt.back_off();
                self.congestion_state = CongestionState::Loss { recovery_point: self.snd_nxt };
                (
                    self.tlp_outstanding,
                    self.tlp_pending,
                    self.reordering_deadline,
                    self.cwnd_limited,
                ) = (None, false, None, true);
            }
        }
        self.rearm_timer(now);
    }

    pub(super) fn rearm_timer(&mut self, now: Micros) {
        self.timer = if self.state == State::Closed {
            None
        } else if self.scoreboard.is_empty() {
            let blocked = self.unsent() > 0 || (self.fin_queued && !self.fin_sent);
            let at = self.last_tx.max(self.last_snd_una_advance) + self.rtt.rto();
            // Data is queued and nothing is in flight: only a zero window prevents sending.
            (blocked && (self.snd_wnd as usize) < self.mss).then_some((Timer::ZeroWindowProbe, at))
        } else if let Some(at) = self.reordering_deadline {
            Some((Timer::Reordering, at.max(now)))
        } else {
            let since =
                self.scoreboard.oldest_sent_at().unwrap_or(now).max(self.last_snd_una_advance);
            let rto_at = since + self.rtt.rto();
            let pto_at =
                self.probe_timeout().map(|wait| self.last_tx.max(self.last_snd_una_advance) + wait);
            match pto_at.filter(|&at| at < rto_at) {
                Some(at) => Some((Timer::TailLossProbe, at)),
                None => Some((Timer::Retransmission, rto_at)),
            }
        };
    }

    /// The probe timeout (PTO), if a tail loss probe is possible (RFC 8985, section 7.2).
    fn probe_timeout(&self) -> Option<Micros> {
        if !self.sack_enabled
            || self.tlp_pending
            || self.tlp_outstanding.is_some()
            || !self.scoreboard.is_tail_unacknowledged()
            || !matches!(self.congestion_state, CongestionState::Open)
        {
            return None;
        }
        let srtt = self.rtt.srtt().filter(|_| !self.state.is_handshaking())?;
        let ack_delay = if self.scoreboard.count() == 1 { MAX_ACK_DELAY } else { 0 };
        Some((2 * srtt).max(PTO_MIN) + ack_delay)
    }

    // ---- segments ----

    fn segment_header(&mut self, seq: Seq, flags: u8, now: Micros) -> SegmentHeader {
        let scale = self.window_scales.map_or(0, |(_, ours)| ours);
        let window = self.receive_buffer.advertise_window(scale, self.mss);
        let mut header = SegmentHeader::new(
            self.local_port,
            self.remote_port,
            seq,
            self.receive_buffer.rcv_nxt,
            flags,
            window,
        );
        if self.timestamps_enabled {
            header.timestamps = Some((self.ts_value(now), self.ts_recent));
        }
        header
    }

    /// An ACK without data; at `seq`, which is `snd_nxt` except for probes.
    fn send_ack(
        &mut self,
        seq: Seq,
        addrs: &AddressPair,
        out: &mut impl PacketOutput,
        now: Micros,
    ) {
        let mut header = self.segment_header(seq, ACK, now);
        if self.sack_enabled {
            header.sack_blocks = self.receive_buffer.sack_blocks();
        } else {
            self.receive_buffer.clear_dsack();
        }
        self.delayed_ack.ack_sent();
        header.emit(addrs, out, 0, |_| {});
    }

    /// Retransmits a lost segment, from index `from` of the scoreboard on; returns its index.
    fn retransmit_lost(
        &mut self,
        from: usize,
        addrs: &AddressPair,
        out: &mut impl PacketOutput,
        now: Micros,
    ) -> Option<usize> {
        if !self.scoreboard.has_lost() {
            return None;
        }
        if self.scoreboard.in_flight() >= self.cubic.cwnd() {
            self.cwnd_limited = true;
            return None;
        }
        let (index, segment) = self.scoreboard.retransmit_next_lost(from, now)?;
        if let CongestionState::Recovery { prr, .. } = &mut self.congestion_state {
            prr.on_send(segment.len as usize);
        }
        self.retransmits += 1;
        self.resend(&segment, addrs, out, now);
        Some(index)
    }

    fn resend(
        &mut self,
        segment: &SentSegment,
        addrs: &AddressPair,
        out: &mut impl PacketOutput,
        now: Micros,
    ) {
        if segment.has_syn() {
            return self.send_syn(segment.seq, addrs, out, now);
        }
        let length = segment.len as usize - usize::from(segment.has_fin());
        let flags = ACK | PSH | if segment.has_fin() { FIN } else { 0 };
        self.send_data(segment.seq, length, flags, addrs, out, now);
    }

    fn send_syn(
        &mut self,
        seq: Seq,
        addrs: &AddressPair,
        out: &mut impl PacketOutput,
        now: Micros,
    ) {
        let mss = (self.config.mtu_max - addrs.ip_header_len() - 20) as u16;
        let mut header = SegmentHeader::new(self.local_port, self.remote_port, seq, Seq(0), SYN, 0);
        header.window = u16::try_from(self.receive_buffer.window()).unwrap_or(u16::MAX);
        header.syn_options =
            Some((mss, self.window_scales.map(|(_, ours)| ours), self.sack_enabled));
        header.timestamps = self.timestamps_enabled.then(|| (self.ts_value(now), self.ts_recent));
        if self.state != State::SynSent {
            header.flags |= ACK;
            header.ack = self.receive_buffer.rcv_nxt;
        }
        self.last_tx = now;
        header.emit(addrs, out, 0, |_| {});
    }

    fn send_data(
        &mut self,
        seq: Seq,
        length: usize,
        flags: u8,
        addrs: &AddressPair,
        out: &mut impl PacketOutput,
        now: Micros,
    ) {
        let header = self.segment_header(seq, flags, now);
        let offset = seq.since(self.snd_una) as usize;
        let queue = &mut self.send_queue;
        header.emit(addrs, out, length, |buffer| {
            queue.copy_at(offset, buffer);
        });
        self.delayed_ack.ack_sent();
        self.last_tx = now;
    }

    /// Sends a new segment, if there is data and both windows allow it.
    fn send_new_data(
        &mut self,
        addrs: &AddressPair,
        out: &mut impl PacketOutput,
        now: Micros,
    ) -> bool {
        if self.state.is_handshaking() && self.snd_nxt == self.snd_una {
            // A SYN occupies a sequence number and is retransmitted like data.
            self.scoreboard.push(self.snd_nxt, 1, HAS_SYN, now);
            self.snd_nxt = self.snd_nxt.plus(1);
            self.send_syn(self.snd_una, addrs, out, now);
            return true;
        }
        let unsent = self.unsent();
        let fin = self.fin_queued && !self.fin_sent;
        if self.state.is_handshaking() || (unsent == 0 && !fin) {
            self.cwnd_limited = false;
            return self.send_tail_loss_probe(addrs, out, now);
        }
        if self.scoreboard.is_empty() && now.saturating_sub(self.last_tx) > self.rtt.rto() {
            self.cubic.restart_after_idle(self.snd_nxt);
        }
        let space = self.snd_una.plus(self.snd_wnd);
        let space = if space.after(self.snd_nxt) { space.since(self.snd_nxt) as usize } else { 0 };
        let ready = unsent.min(space);
        let length = ready.min(self.next_payload_max(ready, now));
        // Silly window syndrome avoidance (RFC 9293, section 3.8.6.2.1).
        let silly = length < self.mss && length < unsent && length * 2 < self.max_snd_wnd as usize;
        let last = length == unsent;
        if (length == 0 && !(fin && last && space > 0)) || silly || self.scoreboard.is_full() {
            self.cwnd_limited = false;
            return self.send_tail_loss_probe(addrs, out, now);
        }
        if self.scoreboard.in_flight() > 0
            && self.scoreboard.in_flight() + length > self.cubic.cwnd()
            && !self.tlp_pending
        {
            self.cwnd_limited = true;
            return false;
        }
        let with_fin = fin && last && space > length;
        let flags = ACK | if last { PSH } else { 0 } | if with_fin { FIN } else { 0 };
        self.delayed_ack.data_sent(now);
        self.send_data(self.snd_nxt, length, flags, addrs, out, now);
        let len = length as u32 + u32::from(with_fin);
        self.scoreboard.push(self.snd_nxt, len, if with_fin { HAS_FIN } else { 0 }, now);
        self.snd_nxt = self.snd_nxt.plus(len);
        self.fin_sent |= with_fin;
        self.record_payload_size(length, self.snd_nxt, now);
        if let CongestionState::Recovery { prr, .. } = &mut self.congestion_state {
            prr.on_send(length);
        }
        if self.tlp_pending {
            self.tlp_pending = false;
            self.tlp_outstanding = Some((self.snd_nxt, false));
        }
        true
    }

    /// Without new data, the last segment is retransmitted (RFC 8985, section 7.3).
    fn send_tail_loss_probe(
        &mut self,
        addrs: &AddressPair,
        out: &mut impl PacketOutput,
        now: Micros,
    ) -> bool {
        if !std::mem::take(&mut self.tlp_pending) {
            return false;
        }
        let Some(segment) = self.scoreboard.retransmit_last(now) else { return false };
        self.retransmits += 1;
        self.tlp_outstanding = Some((self.snd_nxt, true));
        self.resend(&segment, addrs, out, now);
        true
    }

    /// Sends a zero-window probe or a keepalive: an ACK with an old sequence number, which the peer
    /// must answer.
    fn send_probe(
        &mut self,
        addrs: &AddressPair,
        out: &mut impl PacketOutput,
        now: Micros,
    ) -> bool {
        if !std::mem::take(&mut self.zero_window_probe) {
            return false;
        }
        self.send_ack(self.snd_una.plus(u32::MAX), addrs, out, now);
        self.last_tx = now;
        true
    }
}
