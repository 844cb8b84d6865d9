//! A path that swallows large packets: a *black hole* (RFC 4821, section 7.7; RFC 8899, section
//! 4.3).
//!
//! Datagrams of a tunnel are never fragmented, and what says that they are too large for the path
//! (an error of our own interface, an ICMP message) need not come, and could be forged. So the
//! connection itself finds out: repeating a large segment again and again gets no answer, so it is
//! cut into smaller ones. Small segments pass such a path anyway; that a connection was opened says
//! nothing.
//!
//! - A connection on such a path is **narrow**: its segments are as large as the first of [`STEPS`]
//!   that gets through.
//! - It was perhaps only an outage. So now and then one new segment is full: a **trial**, which is
//!   over when it is acknowledged or anything is lost.

use super::connection::Connection;
use super::seq::Seq;
use super::{MS, Micros};
use crate::tunnel::peer::MTU;

/// Payloads tried, largest first: what fits, with headers of IPv6 and timestamps, into packets of
/// 1280 and 1200 bytes (an outer path of 1280), and what every IPv4 path carries.
const STEPS: [usize; 3] = [1208, 1128, 440];
/// Timeouts in a row, none answered, that mean that the segment is too large (the same number that
/// Linux takes).
const TIMEOUTS: u32 = 3;
/// Between two trials, at first and at most (RFC 4821, section 7.7, and RFC 8899, section 5.1.1:
/// ten minutes).
const PAUSE: (Micros, Micros) = (15_000 * MS, 600_000 * MS);

/// A path is searched for more when so many of the larger segments would be under way at once.
const WORTHWHILE: usize = 4;

/// What a narrow connection remembers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Narrow {
    /// Payload of a full segment before.
    full: usize,
    /// End of the trial under way.
    trial: Option<Seq>,
    /// When the next may be.
    next: Micros,
    pause: Micros,
}

impl Connection {
    /// The path carries packets of up to `mtu` bytes, and no larger ones.
    pub(in crate::tunnel) fn carry(&mut self, mtu: usize) {
        self.limits.path = mtu;
        if self.state.is_opening() {
            return;
        }
        let full = self.agreed.min(self.base + mtu.saturating_sub(MTU));
        match &mut self.narrow {
            // It goes by what it found out itself.
            Some(narrow) => narrow.full = full,
            None => {
                self.mss = full;
                self.cubic.resize(full);
                self.board.cut(full);
            }
        }
    }

    /// The largest packet that it takes the path to carry.
    pub(in crate::tunnel) fn carried(&self) -> usize {
        self.limits.path
    }

    /// It has much to send, and the other end takes larger segments than the path is known to
    /// carry.
    pub(in crate::tunnel) fn wants_larger(&self) -> bool {
        self.agreed > self.mss
            && self.narrow.is_none()
            && self.cubic.window() >= WORTHWHILE * self.agreed
            && self.unsent() >= self.agreed
    }

    /// Payload of a full segment, if the path turned out not to carry what was agreed upon.
    pub(in crate::tunnel) fn narrow(&self) -> Option<usize> {
        self.narrow.map(|_| self.mss)
    }

    /// The retransmission timer fired: cuts what is under way into smaller segments when whole ones
    /// seem not to get through.
    pub(super) fn find_black_hole(&mut self, now: Micros) {
        self.trial_failed();
        if self.mss > self.base && self.board.first_len() > self.base {
            // Large segments are a luxury: not worth waiting for further timeouts.
            self.carry(MTU);
            self.rtt.answered();
            return;
        }
        if self.rtt.timeouts() + 1 < TIMEOUTS {
            return;
        }
        let tried = self.mss.min(self.board.first_len());
        let Some(step) = STEPS.into_iter().find(|&step| step < tried) else { return };
        let full = self.narrow.map_or(self.mss, |narrow| narrow.full);
        self.narrow = Some(Narrow { full, trial: None, next: now + PAUSE.0, pause: PAUSE.0 });
        self.mss = step;
        self.board.cut(step);
        // Each step has its own timeouts, and a sender that was silent for so long need not wait
        // longer still.
        self.rtt.answered();
    }

    /// Most payload of the next new segment, of which so much is `ready`: a full one when it is
    /// time for a trial.
    pub(super) fn payload_most(&self, ready: usize, now: Micros) -> usize {
        match self.narrow {
            Some(Narrow { full, trial: None, next, .. }) if now >= next && ready >= full => full,
            _ => self.mss,
        }
    }

    /// A new segment was sent, so large, and ends here.
    pub(super) fn note_size(&mut self, length: usize, end: Seq, now: Micros) {
        if let Some(narrow) = &mut self.narrow
            && length > self.mss
        {
            narrow.pause = (2 * narrow.pause).min(PAUSE.1);
            (narrow.trial, narrow.next) = (Some(end), now + narrow.pause);
        }
    }

    /// Everything before `una` was acknowledged.
    pub(super) fn trial_passed(&mut self) {
        if let Some(Narrow { full, trial: Some(end), .. }) = self.narrow
            && !self.una.before(end)
        {
            (self.mss, self.narrow) = (full, None);
        }
    }

    /// Something was lost: what it was is not asked. The trial's segment is repeated in pieces.
    pub(super) fn trial_failed(&mut self) {
        if let Some(narrow) = &mut self.narrow
            && narrow.trial.take().is_some()
        {
            self.board.cut(self.mss);
        }
    }
}
