//! The scoreboard (RFC 6675): every segment in flight, when it was last sent, and what is known of
//! it.
//!
//! - A segment is **delivered** when it is acknowledged, cumulatively or selectively (RFC 2018). It
//!   is **lost** when a segment sent later was delivered and a reordering window has passed since
//!   (RACK, RFC 8985). So a retransmission can be detected as lost too, and reordering is not loss.
//! - **In flight** are the bytes neither delivered nor lost (the pipe of RFC 6675).
//! - Without SACK, three duplicate ACKs mean that the oldest segment is lost (RFC 6582).

use std::collections::VecDeque;

use super::segment::SackBlock;
use super::seq::Seq;
use super::{MS, Micros};

/// Segments that may be in flight. With full segments the window is exhausted first; a writer of
/// single bytes waits for acknowledgements here.
pub(super) const SEGMENTS_MAX: usize = 8192;
/// DupThresh (RFC 6675): duplicate ACKs, or SACKed segments above, that mean loss while no
/// reordering was seen.
const DUP_THRESH: usize = 3;
/// Recoveries for which a wider reordering window is kept (RFC 8985, section 6.2, step 4).
const REO_WND_PERSIST: u8 = 16;

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

    /// RACK_update (RFC 8985, section 6.2, steps 1 to 3).
    fn rack_update(
        &mut self,
        part: &SentSegment,
        now: Micros,
        echoed: &impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        self.delivered_since_check = true;
        delivery.bytes += part.len as usize;
        let rtt = now.saturating_sub(part.sent_at);
        if part.has_flag(RETRANSMITTED) {
            let spurious = echoed(part.sent_at) == Some(true);
            delivery.spurious_retransmit |= spurious;
            if spurious || self.min_rtt.is_some_and(|least| rtt < least) {
                return;
            }
        } else {
            if self.fack.is_some_and(|highest| part.end().before(highest)) {
                self.reordering_seen = true;
            }
            delivery.rtt = Some(rtt);
            self.min_rtt = Some(self.min_rtt.map_or(rtt, |least| least.min(rtt)));
        }
        self.rack_rtt = rtt;
        if self
            .rack_xmit
            .is_none_or(|(at, end)| rack_sent_after((part.sent_at, part.end()), (at, end)))
        {
            self.rack_xmit = Some((part.sent_at, part.end()));
        }
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

    /// A D-SACK (RFC 2883) was received: widens the reordering window.
    pub(super) fn handle_dsack(&mut self) {
        self.reordering_seen = true;
        self.reo_wnd_mult = self.reo_wnd_mult.saturating_add(1).min(8);
        self.reo_wnd_persist = REO_WND_PERSIST;
    }

    pub(super) fn recovery_completed(&mut self) {
        self.reo_wnd_persist = self.reo_wnd_persist.saturating_sub(1);
        if self.reo_wnd_persist == 0 {
            self.reo_wnd_mult = 0;
        }
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

    /// RACK_detect_loss (RFC 8985, section 6.2, steps 4 and 5): bytes newly lost, and when to look
    /// again.
    pub(super) fn rack_detect_loss(
        &mut self,
        now: Micros,
        recovering: bool,
        smoothed: Micros,
    ) -> (usize, Option<Micros>) {
        self.delivered_since_check = false;
        let Some(latest) = self.rack_xmit else { return (0, None) };
        let reo_deadline = self.rack_rtt + self.reordering_window(recovering, smoothed);
        let (mut newly_lost, mut next_check) = (0, None::<Micros>);
        for sent in &mut self.segments {
            if sent.flags & (SACKED | LOST) != 0 {
                continue;
            }
            if !rack_sent_after(latest, (sent.sent_at, sent.end())) {
                // Segments sent once were sent in sequence order; only retransmitted ones can still
                // be older.
                if self.high_rxt.is_none_or(|high_rxt| !sent.seq.before(high_rxt)) {
                    break;
                }
                continue;
            }
            let due = sent.sent_at + reo_deadline;
            if due <= now {
                sent.flags |= LOST;
                self.in_flight = self.in_flight.saturating_sub(sent.len as usize);
                self.lost_bytes += sent.len as usize;
                newly_lost += sent.len as usize;
            } else {
                next_check = Some(next_check.map_or(due, |at| at.max(due)));
            }
        }
        (newly_lost, next_check)
    }

    fn reordering_window(&self, recovering: bool, smoothed: Micros) -> Micros {
        if !self.reordering_seen && (recovering || self.sacked_segments >= DUP_THRESH) {
            return 0;
        }
        (self.min_rtt.unwrap_or(smoothed) / 4 * (1 + Micros::from(self.reo_wnd_mult)))
            .min(smoothed)
            .max(MS / 10)
    }

    /// On a retransmission timeout: the oldest segment is lost, and all that were sent long enough
    /// ago (RFC 8985, section 6.3).
    pub(super) fn mark_lost_on_rto(&mut self, now: Micros, timeout: Micros) {
        if self.segments.front().is_some_and(|first| first.has_flag(SACKED)) {
            // The receiver has reneged (RFC 2018, section 8): SACKed segments are sent again.
            self.segments.iter_mut().filter(|sent| sent.has_flag(SACKED)).for_each(|sent| {
                sent.flags &= !SACKED;
                self.in_flight += sent.len as usize;
            });
            (self.sacked_segments, self.last_sack_blocks) = (0, [None; 3]);
        }
        for (n, sent) in self.segments.iter_mut().enumerate() {
            if sent.flags & (SACKED | LOST) == 0 && (n == 0 || sent.sent_at + timeout <= now) {
                sent.flags |= LOST;
                self.in_flight = self.in_flight.saturating_sub(sent.len as usize);
                self.lost_bytes += sent.len as usize;
            }
        }
    }

    /// No segment was lost after all.
    pub(super) fn undo_losses(&mut self) {
        for sent in &mut self.segments {
            if sent.has_flag(LOST) {
                sent.flags &= !LOST;
                self.in_flight += sent.len as usize;
            }
        }
        self.lost_bytes = 0;
    }

    /// Marks the next lost segment from index `from` on as retransmitted; returns its index.
    pub(super) fn retransmit_next_lost(
        &mut self,
        from: usize,
        now: Micros,
    ) -> Option<(usize, SentSegment)> {
        if self.lost_bytes == 0 {
            return None;
        }
        let index = (from..self.segments.len())
            .find(|&n| self.segments.get(n).is_some_and(|sent| sent.has_flag(LOST)))?;
        let sent = self.segments.get_mut(index)?;
        sent.flags = (sent.flags & !LOST) | RETRANSMITTED;
        sent.sent_at = now;
        self.lost_bytes = self.lost_bytes.saturating_sub(sent.len as usize);
        self.in_flight += sent.len as usize;
        let sent = *sent;
        self.high_rxt = Some(self.high_rxt.map_or(sent.end(), |end| end.max(sent.end())));
        Some((index, sent))
    }

    /// Marks the last segment as retransmitted, for a tail loss probe (RFC 8985, section 7.3).
    pub(super) fn retransmit_last(&mut self, now: Micros) -> Option<SentSegment> {
        let sent = self.segments.back_mut().filter(|sent| sent.flags & (SACKED | LOST) == 0)?;
        sent.flags |= RETRANSMITTED;
        sent.sent_at = now;
        let sent = *sent;
        self.high_rxt = Some(self.high_rxt.map_or(sent.end(), |end| end.max(sent.end())));
        Some(sent)
    }
}

/// RACK_sent_after (RFC 8985).
fn rack_sent_after(a: (Micros, Seq), b: (Micros, Seq)) -> bool {
    a.0 > b.0 || (a.0 == b.0 && a.1.after(b.1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RTT: Micros = 20 * MS;

    fn board(count: u32) -> Scoreboard {
        let mut board = Scoreboard::default();
        (0..count).for_each(|n| {
            board.push(Seq(u32::MAX - 1500).plus(n * 1000), 1000, 0, Micros::from(n))
        });
        board
    }

    fn at(n: u32) -> Seq {
        Seq(u32::MAX - 1500).plus(n * 1000)
    }

    fn sack(board: &mut Scoreboard, from: u32, to: u32, now: Micros) -> Delivery {
        let mut delivery = Delivery::default();
        board.handle_sack(&[Some((at(from), at(to))), None, None], now, |_| None, &mut delivery);
        delivery
    }

    #[test]
    fn three_sacked_segments_above_a_gap_mean_loss() {
        let mut board = board(10);
        assert_eq!(sack(&mut board, 1, 3, RTT).bytes, 2000);
        assert_eq!(board.rack_detect_loss(RTT, false, RTT).0, 0);
        assert_eq!(sack(&mut board, 1, 4, RTT + 1).bytes, 1000);
        assert_eq!(board.rack_detect_loss(RTT + 10, false, RTT).0, 1000);
        assert_eq!(board.in_flight(), 6000);
        let (_, sent) = board.retransmit_next_lost(0, RTT + 10).unwrap();
        assert_eq!((sent.seq, board.in_flight(), board.has_lost()), (at(0), 7000, false));
        // A retransmission is detected as lost by a segment sent after it.
        board.push(at(10), 1000, 0, RTT + 11);
        sack(&mut board, 10, 11, 2 * RTT + 11);
        assert_eq!(board.rack_detect_loss(2 * RTT + 11, true, RTT).0, 1000 * 7);
    }

    #[test]
    fn reordering_widens_the_reordering_window() {
        let mut board = board(10);
        sack(&mut board, 1, 3, RTT);
        let mut delivery = Delivery::default();
        board.handle_ack(at(1), RTT + 5, |_| None, &mut delivery);
        assert_eq!((delivery.bytes, delivery.rtt), (1000, Some(RTT + 5)));
        sack(&mut board, 4, 9, RTT + 10);
        let (lost, next_check) = board.rack_detect_loss(RTT + 10, false, RTT);
        assert_eq!(lost, 0);
        assert!(next_check.is_some_and(|at| at > RTT + 10 && at < 2 * RTT));
        assert_eq!(board.rack_detect_loss(2 * RTT, false, RTT).0, 1000);
    }

    #[test]
    fn an_ack_inside_a_segment_leaves_its_remainder() {
        let mut board = board(2);
        let mut delivery = Delivery::default();
        board.handle_ack(at(0).plus(1300), RTT, |_| None, &mut delivery);
        assert_eq!((delivery.bytes, board.in_flight(), board.count()), (1300, 700, 1));
        board.handle_ack(at(2), RTT, |_| None, &mut delivery);
        assert_eq!((delivery.bytes, board.in_flight(), board.is_empty()), (2000, 0, true));
    }

    #[test]
    fn resegmenting_keeps_bytes_and_state() {
        let mut board = board(4);
        board.push(at(4), 1, HAS_FIN, 9);
        sack(&mut board, 1, 2, RTT);
        board.mark_oldest_lost();
        board.resegment(300);
        let segments: Vec<_> = board.segments.iter().map(|sent| (sent.seq, sent.len)).collect();
        assert!(
            segments.windows(2).all(|two| two[0].0.plus(two[0].1) == two[1].0 && two[0].1 <= 300)
        );
        assert_eq!(
            (board.count(), board.in_flight(), board.lost_bytes, board.sacked_segments),
            (17, 2001, 1000, 4)
        );
        assert!(
            board.segments.back().is_some_and(SentSegment::has_fin)
                && board.segments.iter().filter(|sent| sent.has_fin()).count() == 1
        );
        let (place, sent) = board.retransmit_next_lost(0, RTT).unwrap();
        assert_eq!((place, sent.seq, sent.len), (0, at(0), 300));
        let mut delivery = Delivery::default();
        board.handle_ack(at(4).plus(1), 2 * RTT, |_| None, &mut delivery);
        assert_eq!(
            (board.in_flight(), board.lost_bytes, board.sacked_segments, board.is_empty()),
            (0, 0, 0, true)
        );
    }

    #[test]
    fn an_echo_of_the_original_marks_the_retransmission_as_spurious() {
        let mut board = board(2);
        board.mark_lost_on_rto(5 * RTT, RTT);
        board.retransmit_next_lost(0, 5 * RTT);
        let mut delivery = Delivery::default();
        board.handle_ack(at(1), 5 * RTT + 1, |sent| Some(sent > RTT), &mut delivery);
        assert!(delivery.spurious_retransmit && delivery.rtt.is_none());
    }
}
