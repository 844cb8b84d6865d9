//! One end of a TCP connection: its state and its user's operations. Segments are handled in
//! `input` and sent in `output`.
//!
//! - Names are those of RFC 9293, section 3.3.1 (SND.UNA, SND.NXT, SND.WND, RCV.NXT).
//! - [`CongestionState`] is as in Linux: `Recovery` while lost segments are retransmitted, `Loss`
//!   after a retransmission timeout.
//! - One **timer** is armed at a time: retransmission (RFC 6298), tail loss probe (RFC 8985,
//!   section 7), RACK reordering (section 6), or zero-window probe.
//!
//! An idle connection takes less than 2 KiB, whatever it transferred before.

use super::byte_queue::ByteQueue;
use super::cubic::{Cubic, ProportionalRateReduction};
use super::delayed_ack::DelayedAck;
use super::pmtu_blackhole::BlackHole;
use super::receive_buffer::{LIMIT_INITIAL, ReceiveBuffer};
use super::rtt::RttEstimator;
use super::scoreboard::Scoreboard;
use super::segment::{AddressPair, Segment, TIMESTAMPS_LEN};
use super::seq::Seq;
use super::state::{State, StateEvent};
use super::time::{MS, Micros};
use crate::tunnel::mtu::MTU;

/// Least payload of a full segment, whatever MSS the peer offers: a smaller one would be a denial
/// of service.
const MSS_MIN: usize = 88;
/// Largest window scale we need: windows of up to 8 MiB.
const WINDOW_SCALE_MAX: u8 = 7;

#[derive(Debug, Clone, Copy)]
pub(in crate::tunnel) struct ConnectionConfig {
    /// Most bytes that may wait to be read.
    pub(in crate::tunnel) receive_buffer_max: usize,
    /// Most bytes that may wait to be sent or acknowledged.
    pub(in crate::tunnel) send_buffer_max: usize,
    /// Largest IP packet accepted.
    pub(in crate::tunnel) mtu_max: usize,
    /// Largest IP packet that the path is known to carry.
    pub(in crate::tunnel) path_mtu: usize,
    /// Time without received segments after which a keepalive is sent.
    pub(in crate::tunnel) keepalive_interval: Micros,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum CongestionState {
    Open,
    Recovery { recovery_point: Seq, prr: ProportionalRateReduction },
    Loss { recovery_point: Seq },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Retransmission timeout (RFC 6298).
    Retransmission,
    /// Tail loss probe (RFC 8985, section 7).
    TailLossProbe,
    /// RACK reordering timer (RFC 8985, section 6.2, step 5).
    Reordering,
    /// Zero-window probe (RFC 9293, section 3.8.6.1).
    ZeroWindowProbe,
}

#[derive(Debug)]
pub(in crate::tunnel) struct Connection {
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    pub(super) state: State,
    pub(super) config: ConnectionConfig,
    // ---- negotiated
    /// Payload of a full segment on this path; as negotiated for any path; on a path that carries
    /// packets of [`MTU`].
    pub(super) mss: usize,
    pub(super) mss_negotiated: usize,
    pub(super) mss_base: usize,
    /// The path carries less than was negotiated.
    pub(super) blackhole: Option<BlackHole>,
    pub(super) timestamps_enabled: bool,
    pub(super) sack_enabled: bool,
    /// Shifts of the peer's windows and of ours.
    pub(super) window_scales: Option<(u8, u8)>,
    // ---- sending
    pub(super) snd_una: Seq,
    pub(super) snd_nxt: Seq,
    /// SND.WND; the largest it ever was (SND.MAX.WND); the segment that set it (SND.WL1, SND.WL2).
    pub(super) snd_wnd: u32,
    pub(super) max_snd_wnd: u32,
    pub(super) snd_wl: (Seq, Seq),
    /// Bytes from `snd_una` on.
    pub(super) send_queue: ByteQueue,
    pub(super) fin_queued: bool,
    pub(super) fin_sent: bool,
    pub(super) scoreboard: Scoreboard,
    pub(super) cubic: Cubic,
    pub(super) rtt: RttEstimator,
    pub(super) congestion_state: CongestionState,
    pub(super) timer: Option<(Timer, Micros)>,
    /// A tail loss probe is to be sent; TLP.end_seq and TLP.is_retrans of the one in flight.
    pub(super) tlp_pending: bool,
    pub(super) tlp_outstanding: Option<(Seq, bool)>,
    pub(super) zero_window_probe: bool,
    pub(super) cwnd_limited: bool,
    pub(super) last_tx: Micros,
    pub(super) last_snd_una_advance: Micros,
    pub(super) reordering_deadline: Option<Micros>,
    pub(super) retransmits: u64,
    // ---- receiving
    pub(super) receive_buffer: ReceiveBuffer,
    pub(super) fin_received: bool,
    pub(super) delayed_ack: DelayedAck,
    pub(super) ts_recent: u32,
    pub(super) ts_offset: u32,
    pub(super) last_rx: Micros,
    pub(super) last_keepalive: Micros,
    pub(super) rst_pending: bool,
    pub(super) challenge_acks: (Micros, u32),
}

impl Connection {
    fn new(
        local_port: u16,
        remote_port: u16,
        addrs: &AddressPair,
        iss: u32,
        state: State,
        config: ConnectionConfig,
        now: Micros,
    ) -> Self {
        let mss = config.mtu_max.min(config.path_mtu) - addrs.ip_header_len() - 20;
        let iss = Seq(iss);
        Self {
            local_port,
            remote_port,
            state,
            config,
            mss,
            mss_negotiated: mss,
            mss_base: mss,
            blackhole: None,
            timestamps_enabled: true,
            sack_enabled: true,
            window_scales: Some((0, window_scale_for(config.receive_buffer_max))),
            snd_una: iss,
            snd_nxt: iss,
            snd_wnd: 0,
            max_snd_wnd: 0,
            snd_wl: (Seq(0), iss),
            send_queue: ByteQueue::default(),
            fin_queued: false,
            fin_sent: false,
            scoreboard: Scoreboard::default(),
            cubic: Cubic::new(mss, iss),
            rtt: RttEstimator::default(),
            congestion_state: CongestionState::Open,
            timer: None,
            tlp_pending: false,
            tlp_outstanding: None,
            zero_window_probe: false,
            cwnd_limited: false,
            last_tx: now,
            last_snd_una_advance: now,
            reordering_deadline: None,
            retransmits: 0,
            receive_buffer: ReceiveBuffer::new(Seq(0), config.receive_buffer_max, now),
            fin_received: false,
            delayed_ack: DelayedAck::default(),
            ts_recent: 0,
            // RFC 7323, section 7.1: the timestamp clock of other connections is not revealed.
            ts_offset: iss.0.rotate_left(13) ^ 0x5bd1_e995,
            last_rx: now,
            last_keepalive: now,
            rst_pending: false,
            challenge_acks: (0, 0),
        }
    }

    /// Active open. `iss`: initial send sequence number.
    pub(in crate::tunnel) fn connect(
        local: u16,
        remote: u16,
        addrs: &AddressPair,
        iss: u32,
        config: ConnectionConfig,
        now: Micros,
    ) -> Self {
        Self::new(local, remote, addrs, iss, State::SynSent, config, now)
    }

    /// Passive open, in answer to a SYN.
    pub(in crate::tunnel) fn accept(
        syn: &Segment<'_>,
        addrs: &AddressPair,
        iss: u32,
        config: ConnectionConfig,
        now: Micros,
    ) -> Self {
        let mut connection =
            Self::new(syn.local_port, syn.remote_port, addrs, iss, State::SynReceived, config, now);
        connection.negotiate(syn, addrs);
        connection
    }

    /// Applies the options of the peer's SYN.
    pub(super) fn negotiate(&mut self, syn: &Segment<'_>, addrs: &AddressPair) {
        self.receive_buffer.synchronize(syn.seq.plus(1));
        self.timestamps_enabled &= syn.timestamps.is_some();
        self.ts_recent = syn.timestamps.map_or(0, |(value, _)| value);
        self.sack_enabled &= syn.sack_permitted;
        self.window_scales =
            self.window_scales.zip(syn.window_scale).map(|((_, ours), theirs)| (theirs, ours));
        // RFC 9293, section 3.7.1: the default MSS.
        let peer_mss =
            usize::from(syn.mss.unwrap_or(if addrs.ip_header_len() == 20 { 536 } else { 1220 }));
        let options = if self.timestamps_enabled { TIMESTAMPS_LEN } else { 0 };
        let payload = |mtu: usize| {
            peer_mss.min(mtu - addrs.ip_header_len() - 20).saturating_sub(options).max(MSS_MIN)
        };
        (self.mss_negotiated, self.mss_base) =
            (payload(self.config.mtu_max), payload(self.config.mtu_max.min(MTU)));
        self.mss = payload(self.config.mtu_max.min(self.config.path_mtu));
        self.cubic = Cubic::new(self.mss, self.snd_nxt);
        self.snd_wnd = u32::from(syn.window);
        self.max_snd_wnd = self.snd_wnd;
        self.snd_wl = (syn.seq, self.snd_una);
    }

    // ---- user operations ----

    pub(in crate::tunnel) fn state(&self) -> State {
        self.state
    }

    pub(in crate::tunnel) fn smoothed_rtt(&self) -> Option<Micros> {
        self.rtt.srtt()
    }

    pub(in crate::tunnel) fn retransmits(&self) -> u64 {
        self.retransmits
    }

    pub(in crate::tunnel) fn has_unread(&self) -> bool {
        self.receive_buffer.unread() > 0
    }

    /// The peer's FIN was received, and everything before it was read.
    pub(in crate::tunnel) fn is_at_eof(&self) -> bool {
        self.fin_received && !self.has_unread()
    }

    /// Closed, with nothing left to send.
    pub(in crate::tunnel) fn is_fully_closed(&self) -> bool {
        match self.state {
            State::Closed => !self.rst_pending,
            // Our last ACK was sent. Should it be lost, the peer gets a RST after its last byte,
            // which is harmless.
            State::TimeWait => !self.delayed_ack.is_due(),
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => false,
        }
    }

    /// Most bytes it may hold at present, both ways.
    pub(in crate::tunnel) fn buffer_allowance(&self) -> usize {
        self.receive_buffer.limit() + self.send_limit(usize::MAX)
    }

    /// Takes up to `limit` received bytes; the receive buffer may grow by `spare` bytes for it.
    pub(in crate::tunnel) fn read(
        &mut self,
        into: &mut ByteQueue,
        limit: usize,
        spare: usize,
        now: Micros,
    ) -> usize {
        let moved = self.receive_buffer.read(into, limit, now);
        if moved > 0 {
            self.receive_buffer.auto_tune(now, self.rtt.srtt().unwrap_or(MS), spare);
            if self.state.may_receive() && self.receive_buffer.should_update_window(self.mss) {
                self.delayed_ack.request_immediate();
            }
        }
        moved
    }

    /// Takes bytes to be sent, as many as there is space for.
    pub(in crate::tunnel) fn write(&mut self, from: &mut ByteQueue, spare: usize) -> usize {
        if !self.state.may_send() || self.fin_queued {
            return 0;
        }
        let space = self.send_limit(spare).saturating_sub(self.send_queue.len());
        self.send_queue.append_from(from, space)
    }

    /// Size of the send buffer: enough to fill the congestion window again while the data in flight
    /// is not acknowledged.
    fn send_limit(&self, spare: usize) -> usize {
        let wanted = (2 * self.cubic.cwnd())
            .clamp(LIMIT_INITIAL, self.config.send_buffer_max.max(LIMIT_INITIAL));
        wanted
            .min(LIMIT_INITIAL.saturating_add(spare))
            .max(LIMIT_INITIAL.min(self.config.send_buffer_max))
    }

    /// The user sends nothing more.
    pub(in crate::tunnel) fn close(&mut self) {
        if self.state.may_send() {
            self.fin_queued = true;
        }
        self.transition(StateEvent::Close);
    }

    /// Closes at once, with a RST.
    pub(in crate::tunnel) fn abort(&mut self) {
        self.rst_pending |= !matches!(self.state, State::Closed | State::SynSent | State::TimeWait);
        self.receive_buffer.clear();
        self.enter_closed();
    }

    /// Enters CLOSED: only a pending RST is still sent.
    pub(super) fn enter_closed(&mut self) {
        self.transition(StateEvent::Abort);
        self.send_queue.clear();
        self.scoreboard = Scoreboard::default();
        (self.timer, self.delayed_ack, self.tlp_pending, self.zero_window_probe) =
            (None, DelayedAck::default(), false, false);
    }

    pub(super) fn transition(&mut self, input: StateEvent) {
        self.state = self.state.next(input);
    }

    /// Timestamp value (TSval) in milliseconds.
    pub(super) fn ts_value(&self, at: Micros) -> u32 {
        ((at / MS) as u32).wrapping_add(self.ts_offset)
    }

    /// Bytes not sent yet.
    pub(super) fn unsent(&self) -> usize {
        if self.state.is_handshaking() {
            return 0;
        }
        let under_way = self.snd_nxt.since(self.snd_una) as usize
            - usize::from(self.fin_sent && self.snd_nxt != self.snd_una);
        self.send_queue.len().saturating_sub(under_way)
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.send_queue.memory()
            + self.receive_buffer.memory()
            + self.scoreboard.count() * 24
    }
}

fn window_scale_for(window: usize) -> u8 {
    (0..WINDOW_SCALE_MAX)
        .find(|&shift| window >> shift <= usize::from(u16::MAX))
        .unwrap_or(WINDOW_SCALE_MAX)
}
