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

use super::chain::Chain;
use super::cubic::{Cubic, Reduction};
use super::narrow::Narrow;
use super::owed::Owed;
use super::received::{LIMIT_FIRST, Received};
use super::rtt::Rtt;
use super::segment::{Flow, Segment, TIMESTAMPS};
use super::sent::Scoreboard;
use super::seq::Seq;
use super::state::{Input, State};
use super::{MS, Micros};
use crate::tunnel::peer::MTU;

/// Least payload of a full segment, whatever the other end says: a smaller one would be an attack
/// on us.
const MSS_LEAST: usize = 88;
/// Largest shift a window of ours needs: 8 MiB fit.
const SCALE_MAX: u8 = 7;

/// How large a connection may get.
#[derive(Debug, Clone, Copy)]
pub(in crate::tunnel) struct Limits {
    /// Most bytes that may wait to be read.
    pub(in crate::tunnel) receive: usize,
    /// Most bytes that may wait to be sent or acknowledged.
    pub(in crate::tunnel) send: usize,
    /// Largest IP packet that is welcome.
    pub(in crate::tunnel) mtu: usize,
    /// Largest IP packet that the path is known to carry.
    pub(in crate::tunnel) path: usize,
    /// Silence after which it is asked whether the other end is there.
    pub(in crate::tunnel) keepalive: Micros,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    Open,
    Recovering { until: Seq, pace: Reduction },
    Restarting { until: Seq },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Retransmission (RFC 6298).
    Repeat,
    /// Tail loss probe.
    Probe,
    /// Late or lost.
    Late,
    /// Zero window probe.
    Window,
}

/// One end of a connection.
#[derive(Debug)]
pub(in crate::tunnel) struct Connection {
    pub(super) local: u16,
    pub(super) remote: u16,
    pub(super) state: State,
    pub(super) limits: Limits,
    // ---- agreed upon
    /// Payload of a full segment on this path; on any, as agreed; on one that carries packets of
    /// [`MTU`].
    pub(super) mss: usize,
    pub(super) agreed: usize,
    pub(super) base: usize,
    /// The path carries less than was agreed upon.
    pub(super) narrow: Option<Narrow>,
    pub(super) stamps: bool,
    pub(super) sack: bool,
    /// Shifts of the other end's windows and of ours.
    pub(super) scales: Option<(u8, u8)>,
    // ---- sending
    pub(super) una: Seq,
    pub(super) nxt: Seq,
    /// What the other end takes, beyond `una`; the largest it ever was; the segment that said so.
    pub(super) window: u32,
    pub(super) window_most: u32,
    pub(super) window_by: (Seq, Seq),
    /// Bytes from `una` on.
    pub(super) queue: Chain,
    pub(super) closing: bool,
    pub(super) fin_sent: bool,
    pub(super) board: Scoreboard,
    pub(super) cubic: Cubic,
    pub(super) rtt: Rtt,
    pub(super) phase: Phase,
    pub(super) timer: Option<(Timer, Micros)>,
    /// A probe is to be sent; the end of what was sent when one was.
    pub(super) probing: bool,
    pub(super) probed: Option<(Seq, bool)>,
    pub(super) asking: bool,
    pub(super) limited: bool,
    pub(super) last_sent: Micros,
    pub(super) last_progress: Micros,
    pub(super) again: Option<Micros>,
    pub(super) repeated: u64,
    // ---- receiving
    pub(super) received: Received,
    pub(super) ended: bool,
    pub(super) owed: Owed,
    pub(super) stamp_recent: u32,
    pub(super) stamp_offset: u32,
    pub(super) heard: Micros,
    pub(super) asked: Micros,
    pub(super) reset: bool,
    pub(super) challenges: (Micros, u32),
}

impl Connection {
    fn new(
        local: u16,
        remote: u16,
        flow: &Flow,
        iss: u32,
        state: State,
        limits: Limits,
        now: Micros,
    ) -> Self {
        let mss = limits.mtu.min(limits.path) - flow.ip_header() - 20;
        let iss = Seq(iss);
        Self {
            local,
            remote,
            state,
            limits,
            mss,
            agreed: mss,
            base: mss,
            narrow: None,
            stamps: true,
            sack: true,
            scales: Some((0, scale(limits.receive))),
            una: iss,
            nxt: iss,
            window: 0,
            window_most: 0,
            window_by: (Seq(0), iss),
            queue: Chain::default(),
            closing: false,
            fin_sent: false,
            board: Scoreboard::default(),
            cubic: Cubic::new(mss, iss),
            rtt: Rtt::default(),
            phase: Phase::Open,
            timer: None,
            probing: false,
            probed: None,
            asking: false,
            limited: false,
            last_sent: now,
            last_progress: now,
            again: None,
            repeated: 0,
            received: Received::new(Seq(0), limits.receive, now),
            ended: false,
            owed: Owed::default(),
            stamp_recent: 0,
            // RFC 7323, section 7.1: what our clock says elsewhere is nobody's business.
            stamp_offset: iss.0.rotate_left(13) ^ 0x5bd1_e995,
            heard: now,
            asked: now,
            reset: false,
            challenges: (0, 0),
        }
    }

    /// Asks the other end for a connection. `iss`: where our sequence numbers begin.
    pub(in crate::tunnel) fn connect(
        local: u16,
        remote: u16,
        flow: &Flow,
        iss: u32,
        limits: Limits,
        now: Micros,
    ) -> Self {
        Self::new(local, remote, flow, iss, State::SynSent, limits, now)
    }

    /// Answers a request for one.
    pub(in crate::tunnel) fn accept(
        syn: &Segment<'_>,
        flow: &Flow,
        iss: u32,
        limits: Limits,
        now: Micros,
    ) -> Self {
        let mut connection =
            Self::new(syn.local, syn.remote, flow, iss, State::SynReceived, limits, now);
        connection.agree(syn, flow);
        connection
    }

    /// Takes what the other end's SYN offers.
    pub(super) fn agree(&mut self, syn: &Segment<'_>, flow: &Flow) {
        self.received.begin(syn.seq.plus(1));
        self.stamps &= syn.stamps.is_some();
        self.stamp_recent = syn.stamps.map_or(0, |(value, _)| value);
        self.sack &= syn.sack_permitted;
        self.scales = self.scales.zip(syn.scale).map(|((_, ours), theirs)| (theirs, ours));
        // RFC 9293, section 3.7.1: without a word, what every host can take.
        let theirs =
            usize::from(syn.mss.unwrap_or(if flow.ip_header() == 20 { 536 } else { 1220 }));
        let options = if self.stamps { TIMESTAMPS } else { 0 };
        let payload = |mtu: usize| {
            theirs.min(mtu - flow.ip_header() - 20).saturating_sub(options).max(MSS_LEAST)
        };
        (self.agreed, self.base) = (payload(self.limits.mtu), payload(self.limits.mtu.min(MTU)));
        self.mss = payload(self.limits.mtu.min(self.limits.path));
        self.cubic = Cubic::new(self.mss, self.nxt);
        self.window = u32::from(syn.window);
        self.window_most = self.window;
        self.window_by = (syn.seq, self.una);
    }

    // ---- what its user sees ----

    pub(in crate::tunnel) fn state(&self) -> State {
        self.state
    }

    /// The smoothed round trip time, once measured.
    pub(in crate::tunnel) fn rtt(&self) -> Option<Micros> {
        self.rtt.smoothed()
    }

    /// Segments sent again so far.
    pub(in crate::tunnel) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Bytes wait to be read.
    pub(in crate::tunnel) fn has_input(&self) -> bool {
        self.received.waiting() > 0
    }

    /// All the other end had to say was read.
    pub(in crate::tunnel) fn is_finished(&self) -> bool {
        self.ended && !self.has_input()
    }

    /// Nothing is left to be told to the other end.
    pub(in crate::tunnel) fn is_over(&self) -> bool {
        match self.state {
            State::Closed => !self.reset,
            // Our last acknowledgement is out; should it be lost, the other end gets a reset after
            // its own last byte, which harms nothing.
            State::TimeWait => !self.owed.is_due(),
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
    pub(in crate::tunnel) fn allowance(&self) -> usize {
        self.received.limit() + self.send_limit(usize::MAX)
    }

    /// Takes up to `limit` received bytes; the window may grow by `spare` bytes for it.
    pub(in crate::tunnel) fn read(
        &mut self,
        into: &mut Chain,
        limit: usize,
        spare: usize,
        now: Micros,
    ) -> usize {
        let moved = self.received.read(into, limit, now);
        if moved > 0 {
            self.received.tune(now, self.rtt.smoothed().unwrap_or(MS), spare);
            if self.state.may_receive() && self.received.worth_telling(self.mss) {
                self.owed.at_once();
            }
        }
        moved
    }

    /// Takes bytes to be sent, as many as there is room for.
    pub(in crate::tunnel) fn write(&mut self, from: &mut Chain, spare: usize) -> usize {
        if !self.state.may_send() || self.closing {
            return 0;
        }
        let room = self.send_limit(spare).saturating_sub(self.queue.len());
        self.queue.take(from, room)
    }

    /// What may wait to be sent or acknowledged: enough to fill the congestion window again while
    /// what fills it now is under way.
    fn send_limit(&self, spare: usize) -> usize {
        let wanted =
            (2 * self.cubic.window()).clamp(LIMIT_FIRST, self.limits.send.max(LIMIT_FIRST));
        wanted.min(LIMIT_FIRST.saturating_add(spare)).max(LIMIT_FIRST.min(self.limits.send))
    }

    /// The user has nothing more to say.
    pub(in crate::tunnel) fn close(&mut self) {
        if self.state.may_send() {
            self.closing = true;
        }
        self.turn(Input::Close);
    }

    /// Ends it at once; the other end is told.
    pub(in crate::tunnel) fn abort(&mut self) {
        self.reset |= !matches!(self.state, State::Closed | State::SynSent | State::TimeWait);
        self.received.clear();
        self.drop_all();
    }

    /// It is closed: nothing is sent any more but the reset.
    pub(super) fn drop_all(&mut self) {
        self.turn(Input::Abort);
        self.queue.clear();
        self.board = Scoreboard::default();
        (self.timer, self.owed, self.probing, self.asking) = (None, Owed::default(), false, false);
    }

    pub(super) fn turn(&mut self, input: Input) {
        self.state = self.state.after(input);
    }

    /// The present value of our timestamp clock: milliseconds.
    pub(super) fn stamp(&self, at: Micros) -> u32 {
        ((at / MS) as u32).wrapping_add(self.stamp_offset)
    }

    /// Bytes not sent yet.
    pub(super) fn unsent(&self) -> usize {
        if self.state.is_opening() {
            return 0;
        }
        let under_way =
            self.nxt.since(self.una) as usize - usize::from(self.fin_sent && self.nxt != self.una);
        self.queue.len().saturating_sub(under_way)
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.queue.memory() + self.received.memory() + self.board.count() * 24
    }
}

fn scale(window: usize) -> u8 {
    (0..SCALE_MAX).find(|&shift| window >> shift <= usize::from(u16::MAX)).unwrap_or(SCALE_MAX)
}
