//! Detection of path MTU black holes (RFC 4821, section 7.7; RFC 8899, section 4.3): paths that
//! drop large packets.
//!
//! Datagrams of a tunnel are never fragmented, and reports that they are too large (an error of our
//! own interface, an ICMP message) may be absent or forged. So the connection detects it: a large
//! segment that is retransmitted repeatedly without being acknowledged is split into smaller ones.
//! Small segments pass such a path, so a completed handshake proves nothing.
//!
//! - On such a path segments have the first of [`PROBE_SIZES`] that passes.
//! - It may have been an outage only. So now and then one new segment has the full size: a
//!   **probe**, which ends when it is acknowledged or anything is lost.

use super::connection::Connection;
use super::pmtu_blackhole::BlackHole;
use super::seq::Seq;
use super::time::{MS, Micros};
use crate::tunnel::mtu::MTU;

/// Payloads tried, largest first: what fits, with IPv6 and timestamps, into packets of 1280 and
/// 1200 bytes (an outer path of 1280), and what every IPv4 path carries.
const PROBE_SIZES: [usize; 3] = [1208, 1128, 440];
/// Consecutive retransmission timeouts that mean that the segment is too large (as in Linux,
/// `tcp_retries1`).
const BLACKHOLE_RTO_COUNT: u32 = 3;
/// Initial and maximum interval between probes; doubles each time (RFC 4821, section 7.7, and RFC
/// 8899, section 5.1.1, have ten minutes).
const RAISE_INTERVAL: (Micros, Micros) = (15_000 * MS, 600_000 * MS);
/// A larger path MTU is probed for when at least this many of the larger segments would be in
/// flight.
const MIN_PROBE_SEGMENTS: usize = 4;

impl Connection {
    /// The path carries packets of up to `mtu` bytes.
    pub(in crate::tunnel) fn set_path_mtu(&mut self, mtu: usize) {
        self.config.path_mtu = mtu;
        if self.state.is_handshaking() {
            return;
        }
        let max_payload = self.mss_negotiated.min(self.mss_base + mtu.saturating_sub(MTU));
        match &mut self.blackhole {
            // The size that passed stays in use until a probe succeeds.
            Some(blackhole) => blackhole.max_payload = max_payload,
            None => {
                self.mss = max_payload;
                self.cubic.set_mss(max_payload);
                self.scoreboard.resegment(max_payload);
            }
        }
    }

    /// The largest packet that the path is taken to carry.
    pub(in crate::tunnel) fn path_mtu(&self) -> usize {
        self.config.path_mtu
    }

    /// Whether enough data is queued to use larger segments, and the peer accepts them.
    pub(in crate::tunnel) fn wants_path_mtu_probe(&self) -> bool {
        self.mss_negotiated > self.mss
            && self.blackhole.is_none()
            && self.cubic.cwnd() >= MIN_PROBE_SEGMENTS * self.mss_negotiated
            && self.unsent() >= self.mss_negotiated
    }

    /// Payload of a full segment, if a black hole was detected.
    pub(in crate::tunnel) fn blackhole_payload(&self) -> Option<usize> {
        self.blackhole.map(|_| self.mss)
    }

    /// On a retransmission timeout: splits the segments in flight if large ones seem to be dropped.
    pub(super) fn detect_blackhole(&mut self, now: Micros) {
        self.probe_lost();
        if self.mss > self.mss_base && self.scoreboard.oldest_len() > self.mss_base {
            // Larger segments are optional: further timeouts are not waited for.
            self.set_path_mtu(MTU);
            self.rtt.reset_backoff();
            return;
        }
        if self.rtt.backoff_count() + 1 < BLACKHOLE_RTO_COUNT {
            return;
        }
        let size = self.mss.min(self.scoreboard.oldest_len());
        let Some(payload) = PROBE_SIZES.into_iter().find(|&payload| payload < size) else { return };
        let max_payload = self.blackhole.map_or(self.mss, |blackhole| blackhole.max_payload);
        self.blackhole = Some(BlackHole {
            max_payload,
            probe: None,
            next_probe_at: now + RAISE_INTERVAL.0,
            raise_interval: RAISE_INTERVAL.0,
        });
        self.mss = payload;
        self.scoreboard.resegment(payload);
        // Each size has its own timeouts, and the sender has been silent for long enough.
        self.rtt.reset_backoff();
    }

    /// Most payload of the next new segment, of which `ready` bytes are queued: the full size when
    /// a probe is due.
    pub(super) fn next_payload_max(&self, ready: usize, now: Micros) -> usize {
        match self.blackhole {
            Some(BlackHole { max_payload, probe: None, next_probe_at, .. })
                if now >= next_probe_at && ready >= max_payload =>
            {
                max_payload
            }
            _ => self.mss,
        }
    }

    /// A new segment with this payload, ending here, was sent.
    pub(super) fn record_payload_size(&mut self, length: usize, end: Seq, now: Micros) {
        if let Some(blackhole) = &mut self.blackhole
            && length > self.mss
        {
            blackhole.raise_interval = (2 * blackhole.raise_interval).min(RAISE_INTERVAL.1);
            (blackhole.probe, blackhole.next_probe_at) =
                (Some(end), now + blackhole.raise_interval);
        }
    }

    /// Everything before `snd_una` was acknowledged.
    pub(super) fn probe_acked(&mut self) {
        if let Some(BlackHole { max_payload, probe: Some(end), .. }) = self.blackhole
            && !self.snd_una.before(end)
        {
            (self.mss, self.blackhole) = (max_payload, None);
        }
    }

    /// A loss was detected: a probe in flight has failed, and its segment is retransmitted in
    /// pieces.
    pub(super) fn probe_lost(&mut self) {
        if let Some(blackhole) = &mut self.blackhole
            && blackhole.probe.take().is_some()
        {
            self.scoreboard.resegment(self.mss);
        }
    }
}
