//! One end of one TCP connection: what it is made of, and what its user does with it. Segments
//! arrive in `input` and leave in `output`.
//!
//! - **una**, **nxt**: the oldest byte not acknowledged, the next to be sent (RFC 9293, section
//!   3.3.1).
//! - A connection is **recovering** while it repeats what was found lost, and **restarting** after
//!   its retransmission timer fired.
//! - Its one **timer** waits to repeat everything, to probe the tail of what was sent (RFC 8985,
//!   section 7), to see whether something is late or lost (section 6), or to ask whether a closed
//!   window has opened.
//!
//! One that is idle takes less than 2 KiB, whatever went through it before.

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
use super::{MS, Micros};
use crate::tunnel::peer::MTU;

/// Least payload of a full segment, whatever the other end says: a smaller one would be an attack
/// on us.
const MSS_MIN: usize = 88;
/// Largest shift a window of ours needs: 8 MiB fit.
const WINDOW_SCALE_MAX: u8 = 7;

/// How large a connection may get.
#[derive(Debug, Clone, Copy)]
pub(in crate::tunnel) struct ConnectionConfig {
    /// Most bytes that may wait to be read.
    pub(in crate::tunnel) receive_buffer_max: usize,
    /// Most bytes that may wait to be sent or acknowledged.
    pub(in crate::tunnel) send_buffer_max: usize,
    /// Largest IP packet that is welcome.
    pub(in crate::tunnel) mtu_max: usize,
    /// Largest IP packet that the path is known to carry.
    pub(in crate::tunnel) path_mtu: usize,
    /// Silence after which it is asked whether the other end is there.
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
    /// Retransmission (RFC 6298).
    Retransmission,
    /// Tail loss probe.
    TailLossProbe,
    /// Late or lost.
    Reordering,
    /// Zero window probe.
    ZeroWindowProbe,
}

/// One end of a connection.
#[derive(Debug)]
pub(in crate::tunnel) struct Connection {
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    pub(super) state: State,
    pub(super) config: ConnectionConfig,
    // ---- agreed upon
    /// Payload of a full segment on this path; on any, as agreed; on one that carries packets of
    /// [`MTU`].
    pub(super) mss: usize,
    pub(super) mss_negotiated: usize,
    pub(super) mss_base: usize,
    /// The path carries less than was agreed upon.
    pub(super) blackhole: Option<BlackHole>,
    pub(super) timestamps_enabled: bool,
    pub(super) sack_enabled: bool,
    /// Shifts of the other end's windows and of ours.
    pub(super) window_scales: Option<(u8, u8)>,
    // ---- sending
    pub(super) snd_una: Seq,
    pub(super) snd_nxt: Seq,
    /// What the other end takes, beyond `una`; the largest it ever was; the segment that said so.
    pub(super) snd_wnd: u32,
    pub(super) max_snd_wnd: u32,
    pub(super) snd_wl: (Seq, Seq),
    /// Bytes from `una` on.
    pub(super) send_queue: ByteQueue,
    pub(super) fin_queued: bool,
    pub(super) fin_sent: bool,
    pub(super) scoreboard: Scoreboard,
    pub(super) cubic: Cubic,
    pub(super) rtt: RttEstimator,
    pub(super) congestion_state: CongestionState,
    pub(super) timer: Option<(Timer, Micros)>,
    /// A probe is to be sent; the end of what was sent when one was.
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
        flow: &AddressPair,
        iss: u32,
        state: State,
        config: ConnectionConfig,
        now: Micros,
    ) -> Self {
        let mss = config.mtu_max.min(config.path_mtu) - flow.ip_header_len() - 20;
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
            // RFC 7323, section 7.1: what our clock says elsewhere is nobody's business.
            ts_offset: iss.0.rotate_left(13) ^ 0x5bd1_e995,
            last_rx: now,
            last_keepalive: now,
            rst_pending: false,
            challenge_acks: (0, 0),
        }
    }

    /// Asks the other end for a connection. `iss`: where our sequence numbers begin.
    pub(in crate::tunnel) fn connect(
        local: u16,
        remote: u16,
        flow: &AddressPair,
        iss: u32,
        limits: ConnectionConfig,
        now: Micros,
    ) -> Self {
        Self::new(local, remote, flow, iss, State::SynSent, limits, now)
    }

    /// Answers a request for one.
    pub(in crate::tunnel) fn accept(
        syn: &Segment<'_>,
        flow: &AddressPair,
        iss: u32,
        limits: ConnectionConfig,
        now: Micros,
    ) -> Self {
        let mut connection =
            Self::new(syn.local_port, syn.remote_port, flow, iss, State::SynReceived, limits, now);
        connection.negotiate(syn, flow);
        connection
    }

    /// Takes what the other end's SYN offers.
    pub(super) fn negotiate(&mut self, syn: &Segment<'_>, flow: &AddressPair) {
        self.receive_buffer.synchronize(syn.seq.plus(1));
        self.timestamps_enabled &= syn.timestamps.is_some();
        self.ts_recent = syn.timestamps.map_or(0, |(value, _)| value);
        self.sack_enabled &= syn.sack_permitted;
        self.window_scales =
            self.window_scales.zip(syn.window_scale).map(|((_, ours), theirs)| (theirs, ours));
        // RFC 9293, section 3.7.1: without a word, what every host can take.
        let theirs =
            usize::from(syn.mss.unwrap_or(if flow.ip_header_len() == 20 { 536 } else { 1220 }));
        let options = if self.timestamps_enabled { TIMESTAMPS_LEN } else { 0 };
        let payload = |mtu: usize| {
            theirs.min(mtu - flow.ip_header_len() - 20).saturating_sub(options).max(MSS_MIN)
        };
        (self.mss_negotiated, self.mss_base) =
            (payload(self.config.mtu_max), payload(self.config.mtu_max.min(MTU)));
        self.mss = payload(self.config.mtu_max.min(self.config.path_mtu));
        self.cubic = Cubic::new(self.mss, self.snd_nxt);
        self.snd_wnd = u32::from(syn.window);
        self.max_snd_wnd = self.snd_wnd;
        self.snd_wl = (syn.seq, self.snd_una);
    }

    // ---- what its user sees ----

    pub(in crate::tunnel) fn state(&self) -> State {
        self.state
    }

    /// The smoothed round trip time, once measured.
    pub(in crate::tunnel) fn smoothed_rtt(&self) -> Option<Micros> {
        self.rtt.srtt()
    }

    /// Segments sent again so far.
    pub(in crate::tunnel) fn retransmits(&self) -> u64 {
        self.retransmits
    }

    /// Bytes wait to be read.
    pub(in crate::tunnel) fn has_unread(&self) -> bool {
        self.receive_buffer.unread() > 0
    }

    /// All the other end had to say was read.
    pub(in crate::tunnel) fn is_at_eof(&self) -> bool {
        self.fin_received && !self.has_unread()
    }

    /// Nothing is left to be told to the other end.
    pub(in crate::tunnel) fn is_fully_closed(&self) -> bool {
        match self.state {
            State::Closed => !self.rst_pending,
            // Our last acknowledgement is out; should it be lost, the other end gets a reset after
            // its own last byte, which harms nothing.
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

    /// Takes up to `limit` received bytes; the window may grow by `spare` bytes for it.
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

    /// Takes bytes to be sent, as many as there is room for.
    pub(in crate::tunnel) fn write(&mut self, from: &mut ByteQueue, spare: usize) -> usize {
        if !self.state.may_send() || self.fin_queued {
            return 0;
        }
        let room = self.send_limit(spare).saturating_sub(self.send_queue.len());
        self.send_queue.append_from(from, room)
    }

    /// What may wait to be sent or acknowledged: enough to fill the congestion window again while
    /// what fills it now is under way.
    fn send_limit(&self, spare: usize) -> usize {
        let wanted = (2 * self.cubic.cwnd())
            .clamp(LIMIT_INITIAL, self.config.send_buffer_max.max(LIMIT_INITIAL));
        wanted
            .min(LIMIT_INITIAL.saturating_add(spare))
            .max(LIMIT_INITIAL.min(self.config.send_buffer_max))
    }

    /// The user has nothing more to say.
    pub(in crate::tunnel) fn close(&mut self) {
        if self.state.may_send() {
            self.fin_queued = true;
        }
        self.transition(StateEvent::Close);
    }

    /// Ends it at once; the other end is told.
    pub(in crate::tunnel) fn abort(&mut self) {
        self.rst_pending |= !matches!(self.state, State::Closed | State::SynSent | State::TimeWait);
        self.receive_buffer.clear();
        self.enter_closed();
    }

    /// It is closed: nothing is sent any more but the reset.
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

    /// The present value of our timestamp clock: milliseconds.
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
