//! The scoreboard (RFC 6675): every segment in flight, when it was last sent, and what is known of
//! it.
//!
//! - A segment is **delivered** when it is acknowledged, cumulatively or selectively (RFC 2018). It
//!   is **lost** when a segment sent later was delivered and a reordering window has passed since
//!   (RACK, RFC 8985). So a retransmission can be detected as lost too, and reordering is not loss.
//! - **In flight** are the bytes neither delivered nor lost (the pipe of RFC 6675).
//! - Without SACK, three duplicate ACKs mean that the oldest segment is lost (RFC 6582).

mod rack;

use std::collections::VecDeque;

use super::segment::SackBlock;
use super::seq::Seq;
use super::time::Micros;

/// Segments that may be in flight. With full segments the window is exhausted first; a writer of
/// single bytes waits for acknowledgements here.
pub(super) const SEGMENTS_MAX: usize = 8192;
/// DupThresh (RFC 6675): duplicate ACKs, or SACKed segments above, that mean loss while no
/// reordering was seen.
const DUP_THRESH: usize = 3;

const SACKED: u8 = 1;
const LOST: u8 = 2;
const RETRANSMITTED: u8 = 4;
/// Ends with our FIN; is our SYN.
pub(super) const HAS_FIN: u8 = 8;
pub(super) const HAS_SYN: u8 = 16;

/// A segment in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentSegment {
    pub(super) seq: Seq,
    pub(super) len: u32,
    sent_at: Micros,
    flags: u8,
}

impl SentSegment {
    fn end(&self) -> Seq {
        self.seq.plus(self.len)
    }

    fn has_flag(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn has_fin(&self) -> bool {
        self.has_flag(HAS_FIN)
    }

    pub(super) fn has_syn(&self) -> bool {
        self.has_flag(HAS_SYN)
    }
}

/// Effect of an acknowledgement.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Delivery {
    pub(super) bytes: usize,
    /// RTT of the most recently sent segment among those never retransmitted.
    pub(super) rtt: Option<Micros>,
    /// A retransmitted segment was acknowledged by the answer to its original.
    pub(super) spurious_retransmit: bool,
}

#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    segments: VecDeque<SentSegment>,
    in_flight: usize,
    lost_bytes: usize,
    sacked_segments: usize,
    dup_acks: usize,
    /// RACK.fack: highest sequence number delivered.
    fack: Option<Seq>,
    /// HighRxt: end of the highest retransmitted segment.
    high_rxt: Option<Seq>,
    /// RACK.xmit_ts and RACK.end_seq of the most recently sent delivered segment; RACK.rtt.
    rack_xmit: Option<(Micros, Seq)>,
    rack_rtt: Micros,
    min_rtt: Option<Micros>,
    reordering_seen: bool,
    reo_wnd_mult: u8,
    reo_wnd_persist: u8,
    last_sack_blocks: [Option<SackBlock>; 3],
    /// Whether anything was delivered since losses were last looked for.
    pub(super) delivered_since_check: bool,
}

impl Scoreboard {
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.segments.len() >= SEGMENTS_MAX
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn has_lost(&self) -> bool {
        self.lost_bytes > 0
    }

    pub(super) fn count(&self) -> usize {
        self.segments.len()
    }

    /// Nothing is lost, and the last segment is not SACKed.
    pub(super) fn is_tail_unacknowledged(&self) -> bool {
        self.lost_bytes == 0 && self.segments.back().is_some_and(|last| !last.has_flag(SACKED))
    }

    /// When the oldest segment was last sent.
    pub(super) fn oldest_sent_at(&self) -> Option<Micros> {
        self.segments.front().map(|sent| sent.sent_at)
    }

    /// Length of the oldest segment, in bytes.
    pub(super) fn oldest_len(&self) -> usize {
        self.segments.front().map_or(0, |sent| sent.len as usize)
    }

    /// Splits segments in flight into at most `max` bytes; the pieces inherit the segment's state.
    pub(super) fn resegment(&mut self, max: usize) {
        let max = u32::try_from(max).unwrap_or(u32::MAX).max(1);
        // A FIN occupies a sequence number, but no payload.
        let long = |sent: &SentSegment| sent.len - u32::from(sent.has_fin()) > max;
        if !self.segments.iter().any(long) {
            return;
        }
        for mut sent in std::mem::take(&mut self.segments) {
            while long(&sent) {
                self.segments.push_back(SentSegment {
                    len: max,
                    flags: sent.flags & !HAS_FIN,
                    ..sent
                });
                self.sacked_segments += usize::from(sent.has_flag(SACKED));
                sent = SentSegment { seq: sent.seq.plus(max), len: sent.len - max, ..sent };
            }
            self.segments.push_back(sent);
        }
    }

    /// Adds a new segment; in sequence order.
    pub(super) fn push(&mut self, seq: Seq, len: u32, flags: u8, now: Micros) {
        self.in_flight += len as usize;
        self.segments.push_back(SentSegment { seq, len, sent_at: now, flags });
    }

    /// Cumulative acknowledgement. `echoed` tells whether a given time is later than the sending of
    /// the segment whose timestamp was echoed.
    pub(super) fn handle_ack(
        &mut self,
        ack: Seq,
        now: Micros,
        echoed: impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        self.dup_acks = 0;
        while let Some(first) = self.segments.front_mut() {
            if !ack.after(first.seq) {
                break;
            }
            let fully_acked = !first.end().after(ack);
            let mut part = *first;
            if !fully_acked {
                part.len = ack.since(first.seq);
                first.len -= part.len;
                first.seq = ack;
            }
            if part.has_flag(SACKED) {
                self.sacked_segments =
                    self.sacked_segments.saturating_sub(usize::from(fully_acked));
            } else {
                self.mark_delivered(&part, now, &echoed, delivery);
            }
            if !fully_acked {
                break;
            }
            self.segments.pop_front();
        }
        self.fack = Some(self.fack.map_or(ack, |highest| highest.max(ack)));
        if self.segments.is_empty() {
            // Nothing is in flight that this state could apply to.
            self.high_rxt = None;
            self.last_sack_blocks = [None; 3];
            if self.segments.capacity() > 64 {
                self.segments = VecDeque::new();
            }
        }
    }

    /// A segment, or its beginning, was delivered for the first time.
    fn mark_delivered(
        &mut self,
        part: &SentSegment,
        now: Micros,
        echoed: &impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        let len = part.len as usize;
        if part.has_flag(LOST) {
            self.lost_bytes = self.lost_bytes.saturating_sub(len);
        } else {
            self.in_flight = self.in_flight.saturating_sub(len);
        }
        self.rack_update(part, now, echoed, delivery);
    }

    /// SACK blocks (RFC 2018).
    pub(super) fn handle_sack(
        &mut self,
        blocks: &[Option<SackBlock>; 3],
        now: Micros,
        echoed: impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        let (Some(first), Some(last)) =
            (self.segments.front().map(|s| s.seq), self.segments.back().map(SentSegment::end))
        else {
            return;
        };
        let previous = self.last_sack_blocks;
        for &(from, to) in blocks.iter().flatten() {
            // A block outside of the data in flight is a D-SACK (RFC 2883) or invalid.
            if !to.after(from) || from.before(first) || to.after(last) {
                continue;
            }
            // Skips what the previous acknowledgement reported.
            let from = previous
                .iter()
                .flatten()
                .find(|(a, b)| !from.before(*a) && from.before(*b))
                .map_or(from, |&(_, b)| b);
            if to.after(from) {
                self.mark_sacked(from, to, now, &echoed, delivery);
            }
        }
        self.last_sack_blocks = *blocks;
    }

    fn mark_sacked(
        &mut self,
        from: Seq,
        to: Seq,
        now: Micros,
        echoed: &impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        let begin = self.segments.partition_point(|sent| sent.seq.before(from));
        for index in begin..self.segments.len() {
            let Some(sent) = self.segments.get_mut(index) else { break };
            if sent.end().after(to) {
                break;
            }
            if sent.has_flag(SACKED) {
                continue;
            }
            let part = *sent;
            sent.flags = (sent.flags | SACKED) & !LOST;
            self.sacked_segments += 1;
            self.mark_delivered(&part, now, echoed, delivery);
        }
        self.fack = Some(self.fack.map_or(to, |highest| highest.max(to)));
    }

    /// Without SACK. Returns true for the third duplicate ACK.
    pub(super) fn handle_dup_ack(&mut self) -> bool {
        self.dup_acks += 1;
        self.dup_acks == DUP_THRESH
    }

    /// Returns the bytes newly marked as lost.
    pub(super) fn mark_oldest_lost(&mut self) -> usize {
        let Some(first) =
            self.segments.front_mut().filter(|first| first.flags & (SACKED | LOST) == 0)
        else {
            return 0;
        };
        first.flags |= LOST;
        let len = first.len as usize;
        self.in_flight = self.in_flight.saturating_sub(len);
        self.lost_bytes += len;
        len
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
