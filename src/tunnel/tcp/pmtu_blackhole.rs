//! A path that swallows large packets: a *black hole* (RFC 4821, section 7.7; RFC 8899, section
//! 4.3).
//!
//! Datagrams of a tunnel are never fragmented, and what says that they are too large for the path
//! (an error of our own interface, an ICMP message) need not come, and could be forged. So the
//! connection itself finds out: repeating a large segment again and again gets no answer, so it is
//! cut into smaller ones. Small segments pass such a path anyway; that a connection was opened says
//! nothing.
//!
//! - A connection on such a path is **narrow**: its segments are as large as the first of [`PROBE_SIZES`]
//!   that gets through.
//! - It was perhaps only an outage. So now and then one new segment is full: a **trial**, which is
//!   over when it is acknowledged or anything is lost.

use super::connection::Connection;
use super::seq::Seq;
use super::{MS, Micros};
use crate::tunnel::peer::MTU;

/// Payloads tried, largest first: what fits, with headers of IPv6 and timestamps, into packets of
/// 1280 and 1200 bytes (an outer path of 1280), and what every IPv4 path carries.
const PROBE_SIZES: [usize; 3] = [1208, 1128, 440];
/// Timeouts in a row, none answered, that mean that the segment is too large (the same number that
/// Linux takes).
const BLACKHOLE_RTO_COUNT: u32 = 3;
/// Between two trials, at first and at most (RFC 4821, section 7.7, and RFC 8899, section 5.1.1:
/// ten minutes).
const RAISE_INTERVAL: (Micros, Micros) = (15_000 * MS, 600_000 * MS);

/// A path is searched for more when so many of the larger segments would be under way at once.
const MIN_PROBE_SEGMENTS: usize = 4;

/// What a narrow connection remembers.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlackHole {
    /// Payload of a full segment before.
    max_payload: usize,
    /// End of the trial under way.
    probe: Option<Seq>,
    /// When the next may be.
    next_probe_at: Micros,
    raise_interval: Micros,
}

impl Connection {
    /// The path carries packets of up to `mtu` bytes, and no larger ones.
    pub(in crate::tunnel) fn set_path_mtu(&mut self, mtu: usize) {
        self.config.path_mtu = mtu;
        if self.state.is_handshaking() {
            return;
        }
        let full = self.mss_negotiated.min(self.mss_base + mtu.saturating_sub(MTU));
        match &mut self.blackhole {
            // It goes by what it found out itself.
            Some(narrow) => narrow.max_payload = full,
            None => {
                self.mss = full;
                self.cubic.set_mss(full);
                self.scoreboard.resegment(full);
            }
        }
    }

    /// The largest packet that it takes the path to carry.
    pub(in crate::tunnel) fn path_mtu(&self) -> usize {
        self.config.path_mtu
    }

    /// It has much to send, and the other end takes larger segments than the path is known to
    /// carry.
    pub(in crate::tunnel) fn wants_path_mtu_probe(&self) -> bool {
        self.mss_negotiated > self.mss
            && self.blackhole.is_none()
            && self.cubic.cwnd() >= MIN_PROBE_SEGMENTS * self.mss_negotiated
            && self.unsent() >= self.mss_negotiated
    }

    /// Payload of a full segment, if the path turned out not to carry what was agreed upon.
    pub(in crate::tunnel) fn blackhole_payload(&self) -> Option<usize> {
        self.blackhole.map(|_| self.mss)
    }

    /// The retransmission timer fired: cuts what is under way into smaller segments when whole ones
    /// seem not to get through.
    pub(super) fn detect_blackhole(&mut self, now: Micros) {
        self.probe_lost();
        if self.mss > self.mss_base && self.scoreboard.oldest_len() > self.mss_base {
            // Large segments are a luxury: not worth waiting for further timeouts.
            self.set_path_mtu(MTU);
            self.rtt.reset_backoff();
            return;
        }
        if self.rtt.backoff_count() + 1 < BLACKHOLE_RTO_COUNT {
            return;
        }
        let tried = self.mss.min(self.scoreboard.oldest_len());
        let Some(step) = PROBE_SIZES.into_iter().find(|&step| step < tried) else { return };
        let full = self.blackhole.map_or(self.mss, |narrow| narrow.max_payload);
        self.blackhole = Some(BlackHole {
            max_payload: full,
            probe: None,
            next_probe_at: now + RAISE_INTERVAL.0,
            raise_interval: RAISE_INTERVAL.0,
        });
        self.mss = step;
        self.scoreboard.resegment(step);
        // Each step has its own timeouts, and a sender that was silent for so long need not wait
        // longer still.
        self.rtt.reset_backoff();
    }

    /// Most payload of the next new segment, of which so much is `ready`: a full one when it is
    /// time for a trial.
    pub(super) fn next_payload_max(&self, ready: usize, now: Micros) -> usize {
        match self.blackhole {
            Some(BlackHole { max_payload: full, probe: None, next_probe_at: next, .. })
                if now >= next && ready >= full =>
            {
                full
            }
            _ => self.mss,
        }
    }

    /// A new segment was sent, so large, and ends here.
    pub(super) fn record_payload_size(&mut self, length: usize, end: Seq, now: Micros) {
        if let Some(narrow) = &mut self.blackhole
            && length > self.mss
        {
            narrow.raise_interval = (2 * narrow.raise_interval).min(RAISE_INTERVAL.1);
            (narrow.probe, narrow.next_probe_at) = (Some(end), now + narrow.raise_interval);
        }
    }

    /// Everything before `una` was acknowledged.
    pub(super) fn probe_acked(&mut self) {
        if let Some(BlackHole { max_payload: full, probe: Some(end), .. }) = self.blackhole
            && !self.snd_una.before(end)
        {
            (self.mss, self.blackhole) = (full, None);
        }
    }

    /// Something was lost: what it was is not asked. The trial's segment is repeated in pieces.
    pub(super) fn probe_lost(&mut self) {
        if let Some(narrow) = &mut self.blackhole
            && narrow.probe.take().is_some()
        {
            self.scoreboard.resegment(self.mss);
        }
    }
}
