//! The scoreboard: every segment under way, when it was last sent, and what is known of it.
//!
//! - A segment is **delivered** when it is acknowledged, cumulatively or selectively (RFC 2018). It
//!   is **lost** when one that was sent later has been delivered and a *reordering window* has
//!   passed since (RACK, RFC 8985); so a repeated segment can be found lost again, and reordering
//!   is no loss.
//! - **In flight** are the bytes neither delivered nor lost (RFC 6675's pipe).
//! - Without selective acknowledgements, duplicate acknowledgements stand in for them (RFC 6582):
//!   three mean that the oldest segment is lost.

use std::collections::VecDeque;

use super::segment::Block;
use super::seq::Seq;
use super::{MS, Micros};

/// Segments that may be under way. At full segments the window ends first; a writer of single bytes
/// waits here for acknowledgements.
pub(super) const SEGMENTS_MAX: usize = 8192;
/// Duplicate acknowledgements, or segments delivered above, that mean loss when no reordering was
/// ever seen.
const THRESHOLD: usize = 3;
/// Recoveries for which a wider reordering window is kept (RFC 8985, section 6.2, step 4).
const PERSIST: u8 = 16;

const SACKED: u8 = 1;
const LOST: u8 = 2;
const AGAIN: u8 = 4;
/// Ends with our FIN; is our SYN.
pub(super) const ENDS: u8 = 8;
pub(super) const OPENS: u8 = 16;

/// A segment under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) seq: Seq,
    pub(super) len: u32,
    at: Micros,
    flags: u8,
}

impl Sent {
    fn end(&self) -> Seq {
        self.seq.plus(self.len)
    }

    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn ends(&self) -> bool {
        self.is(ENDS)
    }

    pub(super) fn opens(&self) -> bool {
        self.is(OPENS)
    }
}

/// What an acknowledgement brought.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Delivery {
    pub(super) bytes: usize,
    /// Round trip of the segment sent last among those that were sent once.
    pub(super) rtt: Option<Micros>,
    /// A repeated segment was acknowledged by an answer to its first sending.
    pub(super) spurious: bool,
}

#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    sent: VecDeque<Sent>,
    in_flight: usize,
    lost: usize,
    sacked: usize,
    duplicates: usize,
    /// Highest sequence number delivered.
    highest: Option<Seq>,
    /// End of the highest segment that was repeated.
    repeated: Option<Seq>,
    /// The delivered segment that was sent last: when, its end; and its round trip.
    latest: Option<(Micros, Seq)>,
    latest_rtt: Micros,
    least_rtt: Option<Micros>,
    reordering: bool,
    widened: u8,
    persist: u8,
    known: [Option<Block>; 3],
    /// Something was delivered since losses were last looked for.
    pub(super) news: bool,
}

impl Scoreboard {
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(super) fn full(&self) -> bool {
        self.sent.len() >= SEGMENTS_MAX
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn has_lost(&self) -> bool {
        self.lost > 0
    }

    pub(super) fn count(&self) -> usize {
        self.sent.len()
    }

    /// Nothing is lost, and nothing is known of the last segment.
    pub(super) fn tail_waits(&self) -> bool {
        self.lost == 0 && self.sent.back().is_some_and(|last| !last.is(SACKED))
    }

    /// When the oldest segment was last sent.
    pub(super) fn oldest(&self) -> Option<Micros> {
        self.sent.front().map(|sent| sent.at)
    }

    /// Bytes of the oldest segment.
    pub(super) fn first_len(&self) -> usize {
        self.sent.front().map_or(0, |sent| sent.len as usize)
    }

    /// Cuts what is under way into segments of at most `most` bytes; what is known of a segment is
    /// known of its pieces.
    pub(super) fn cut(&mut self, most: usize) {
        let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        // A FIN takes a number, and no room.
        let long = |sent: &Sent| sent.len - u32::from(sent.ends()) > most;
        if !self.sent.iter().any(long) {
            return;
        }
        for mut sent in std::mem::take(&mut self.sent) {
            while long(&sent) {
                self.sent.push_back(Sent { len: most, flags: sent.flags & !ENDS, ..sent });
                self.sacked += usize::from(sent.is(SACKED));
                sent = Sent { seq: sent.seq.plus(most), len: sent.len - most, ..sent };
            }
            self.sent.push_back(sent);
        }
    }

    /// Notes a new segment. Segments come in order.
    pub(super) fn push(&mut self, seq: Seq, len: u32, flags: u8, now: Micros) {
        self.in_flight += len as usize;
        self.sent.push_back(Sent { seq, len, at: now, flags });
    }

    /// Everything before `ack` has arrived. `echoed`: tells of a time whether it is later than the
    /// segment that is being answered was sent.
    pub(super) fn acknowledged(
        &mut self,
        ack: Seq,
        now: Micros,
        echoed: impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        self.duplicates = 0;
        while let Some(first) = self.sent.front_mut() {
            if !ack.after(first.seq) {
                break;
            }
            let whole = !first.end().after(ack);
            let mut part = *first;
            if !whole {
                part.len = ack.since(first.seq);
                first.len -= part.len;
                first.seq = ack;
            }
            if part.is(SACKED) {
                self.sacked = self.sacked.saturating_sub(usize::from(whole));
            } else {
                self.settle(&part, now, &echoed, delivery);
            }
            if !whole {
                break;
            }
            self.sent.pop_front();
        }
        self.highest = Some(self.highest.map_or(ack, |highest| highest.max(ack)));
        if self.sent.is_empty() {
            // Nothing is left that the past could say anything about.
            self.repeated = None;
            self.known = [None; 3];
            if self.sent.capacity() > 64 {
                self.sent = VecDeque::new();
            }
        }
    }

    /// A segment, or its beginning, was delivered for the first time.
    fn settle(
        &mut self,
        part: &Sent,
        now: Micros,
        echoed: &impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        let len = part.len as usize;
        if part.is(LOST) {
            self.lost = self.lost.saturating_sub(len);
        } else {
            self.in_flight = self.in_flight.saturating_sub(len);
        }
        self.delivered(part, now, echoed, delivery);
    }

    /// RACK's view of a delivery (RFC 8985, section 6.2, steps 1 to 3).
    fn delivered(
        &mut self,
        part: &Sent,
        now: Micros,
        echoed: &impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        self.news = true;
        delivery.bytes += part.len as usize;
        let rtt = now.saturating_sub(part.at);
        if part.is(AGAIN) {
            let earlier = echoed(part.at) == Some(true);
            delivery.spurious |= earlier;
            if earlier || self.least_rtt.is_some_and(|least| rtt < least) {
                return;
            }
        } else {
            if self.highest.is_some_and(|highest| part.end().before(highest)) {
                self.reordering = true;
            }
            delivery.rtt = Some(rtt);
            self.least_rtt = Some(self.least_rtt.map_or(rtt, |least| least.min(rtt)));
        }
        self.latest_rtt = rtt;
        if self.latest.is_none_or(|(at, end)| later((part.at, part.end()), (at, end))) {
            self.latest = Some((part.at, part.end()));
        }
    }

    /// These ranges have arrived, out of order (RFC 2018).
    pub(super) fn selected(
        &mut self,
        blocks: &[Option<Block>; 3],
        now: Micros,
        echoed: impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        let (Some(first), Some(last)) =
            (self.sent.front().map(|s| s.seq), self.sent.back().map(Sent::end))
        else {
            return;
        };
        let known = self.known;
        for &(from, to) in blocks.iter().flatten() {
            // What is not of the present flight is a duplicate's report (RFC 2883), or nonsense.
            if !to.after(from) || from.before(first) || to.after(last) {
                continue;
            }
            // What the last acknowledgement said already need not be walked through again.
            let from = known
                .iter()
                .flatten()
                .find(|(a, b)| !from.before(*a) && from.before(*b))
                .map_or(from, |&(_, b)| b);
            if to.after(from) {
                self.select(from, to, now, &echoed, delivery);
            }
        }
        self.known = *blocks;
    }

    fn select(
        &mut self,
        from: Seq,
        to: Seq,
        now: Micros,
        echoed: &impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        let begin = self.sent.partition_point(|sent| sent.seq.before(from));
        for index in begin..self.sent.len() {
            let Some(sent) = self.sent.get_mut(index) else { break };
            if sent.end().after(to) {
                break;
            }
            if sent.is(SACKED) {
                continue;
            }
            let part = *sent;
            sent.flags = (sent.flags | SACKED) & !LOST;
            self.sacked += 1;
            self.settle(&part, now, echoed, delivery);
        }
        self.highest = Some(self.highest.map_or(to, |highest| highest.max(to)));
    }

    /// A segment had arrived already (RFC 2883): reordering was taken for loss, so more of it is
    /// allowed for.
    pub(super) fn duplicate_reported(&mut self) {
        self.reordering = true;
        self.widened = self.widened.saturating_add(1).min(8);
        self.persist = PERSIST;
    }

    /// A recovery is over.
    pub(super) fn recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.widened = 0;
        }
    }

    /// Without selective acknowledgements: the same acknowledgement came again. True if that makes
    /// three.
    pub(super) fn duplicate(&mut self) -> bool {
        self.duplicates += 1;
        self.duplicates == THRESHOLD
    }

    /// The oldest segment is lost; answers with how many bytes that is.
    pub(super) fn lose_oldest(&mut self) -> usize {
        let Some(first) = self.sent.front_mut().filter(|first| first.flags & (SACKED | LOST) == 0)
        else {
            return 0;
        };
        first.flags |= LOST;
        let len = first.len as usize;
        self.in_flight = self.in_flight.saturating_sub(len);
        self.lost += len;
        len
    }

    /// Finds what is lost by now (RFC 8985, section 6.2, steps 4 and 5): bytes newly lost, and when
    /// to look again.
    pub(super) fn find_lost(
        &mut self,
        now: Micros,
        recovering: bool,
        smoothed: Micros,
    ) -> (usize, Option<Micros>) {
        self.news = false;
        let Some(latest) = self.latest else { return (0, None) };
        let patience = self.latest_rtt + self.reordering_window(recovering, smoothed);
        let (mut found, mut again) = (0, None::<Micros>);
        for sent in &mut self.sent {
            if sent.flags & (SACKED | LOST) != 0 {
                continue;
            }
            if !later(latest, (sent.at, sent.end())) {
                // What was sent once was sent in order; only repeated segments can still be older.
                if self.repeated.is_none_or(|repeated| !sent.seq.before(repeated)) {
                    break;
                }
                continue;
            }
            let due = sent.at + patience;
            if due <= now {
                sent.flags |= LOST;
                self.in_flight = self.in_flight.saturating_sub(sent.len as usize);
                self.lost += sent.len as usize;
                found += sent.len as usize;
            } else {
                again = Some(again.map_or(due, |at| at.max(due)));
            }
        }
        (found, again)
    }

    fn reordering_window(&self, recovering: bool, smoothed: Micros) -> Micros {
        if !self.reordering && (recovering || self.sacked >= THRESHOLD) {
            return 0;
        }
        (self.least_rtt.unwrap_or(smoothed) / 4 * (1 + Micros::from(self.widened)))
            .min(smoothed)
            .max(MS / 10)
    }

    /// The retransmission timer fired: the oldest segment is lost, and all that were sent long
    /// enough ago (RFC 8985, section 6.3).
    pub(super) fn lose_old(&mut self, now: Micros, timeout: Micros) {
        if self.sent.front().is_some_and(|first| first.is(SACKED)) {
            // The other end threw away what it had selected (RFC 2018, section 8): it is to be sent
            // again.
            self.sent.iter_mut().filter(|sent| sent.is(SACKED)).for_each(|sent| {
                sent.flags &= !SACKED;
                self.in_flight += sent.len as usize;
            });
            (self.sacked, self.known) = (0, [None; 3]);
        }
        for (n, sent) in self.sent.iter_mut().enumerate() {
            if sent.flags & (SACKED | LOST) == 0 && (n == 0 || sent.at + timeout <= now) {
                sent.flags |= LOST;
                self.in_flight = self.in_flight.saturating_sub(sent.len as usize);
                self.lost += sent.len as usize;
            }
        }
    }

    /// Nothing had been lost after all.
    pub(super) fn unlose(&mut self) {
        for sent in &mut self.sent {
            if sent.is(LOST) {
                sent.flags &= !LOST;
                self.in_flight += sent.len as usize;
            }
        }
        self.lost = 0;
    }

    /// The next lost segment from place `from` on, which is now sent again; its place.
    pub(super) fn repeat_lost(&mut self, from: usize, now: Micros) -> Option<(usize, Sent)> {
        if self.lost == 0 {
            return None;
        }
        let index = (from..self.sent.len())
            .find(|&n| self.sent.get(n).is_some_and(|sent| sent.is(LOST)))?;
        let sent = self.sent.get_mut(index)?;
        sent.flags = (sent.flags & !LOST) | AGAIN;
        sent.at = now;
        self.lost = self.lost.saturating_sub(sent.len as usize);
        self.in_flight += sent.len as usize;
        let sent = *sent;
        self.repeated = Some(self.repeated.map_or(sent.end(), |end| end.max(sent.end())));
        Some((index, sent))
    }

    /// The last segment, which is now sent again as a probe (RFC 8985, section 7.3).
    pub(super) fn repeat_last(&mut self, now: Micros) -> Option<Sent> {
        let sent = self.sent.back_mut().filter(|sent| sent.flags & (SACKED | LOST) == 0)?;
        sent.flags |= AGAIN;
        sent.at = now;
        let sent = *sent;
        self.repeated = Some(self.repeated.map_or(sent.end(), |end| end.max(sent.end())));
        Some(sent)
    }
}

/// Sent later, or at the same time and further on (RFC 8985, RACK_sent_after).
fn later(a: (Micros, Seq), b: (Micros, Seq)) -> bool {
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

    fn select(board: &mut Scoreboard, from: u32, to: u32, now: Micros) -> Delivery {
        let mut delivery = Delivery::default();
        board.selected(&[Some((at(from), at(to))), None, None], now, |_| None, &mut delivery);
        delivery
    }

    #[test]
    fn three_delivered_above_a_hole_mean_it_is_lost_at_once() {
        let mut board = board(10);
        assert_eq!(select(&mut board, 1, 3, RTT).bytes, 2000);
        assert_eq!(board.find_lost(RTT, false, RTT).0, 0);
        assert_eq!(select(&mut board, 1, 4, RTT + 1).bytes, 1000);
        assert_eq!(board.find_lost(RTT + 10, false, RTT).0, 1000);
        assert_eq!(board.in_flight(), 6000);
        let (_, sent) = board.repeat_lost(0, RTT + 10).unwrap();
        assert_eq!((sent.seq, board.in_flight(), board.has_lost()), (at(0), 7000, false));
        // And what was sent again is found lost again, by something that was sent after it.
        board.push(at(10), 1000, 0, RTT + 11);
        select(&mut board, 10, 11, 2 * RTT + 11);
        assert_eq!(board.find_lost(2 * RTT + 11, true, RTT).0, 1000 * 7);
    }

    #[test]
    fn a_late_segment_teaches_patience() {
        let mut board = board(10);
        select(&mut board, 1, 3, RTT);
        let mut delivery = Delivery::default();
        board.acknowledged(at(1), RTT + 5, |_| None, &mut delivery);
        assert_eq!((delivery.bytes, delivery.rtt), (1000, Some(RTT + 5)));
        select(&mut board, 4, 9, RTT + 10);
        let (lost, again) = board.find_lost(RTT + 10, false, RTT);
        assert_eq!(lost, 0);
        assert!(again.is_some_and(|at| at > RTT + 10 && at < 2 * RTT));
        assert_eq!(board.find_lost(2 * RTT, false, RTT).0, 1000);
    }

    #[test]
    fn an_acknowledgement_in_the_middle_of_a_segment_leaves_its_end() {
        let mut board = board(2);
        let mut delivery = Delivery::default();
        board.acknowledged(at(0).plus(1300), RTT, |_| None, &mut delivery);
        assert_eq!((delivery.bytes, board.in_flight(), board.count()), (1300, 700, 1));
        board.acknowledged(at(2), RTT, |_| None, &mut delivery);
        assert_eq!((delivery.bytes, board.in_flight(), board.is_empty()), (2000, 0, true));
    }

    #[test]
    fn what_is_cut_is_the_same_bytes() {
        let mut board = board(4);
        board.push(at(4), 1, ENDS, 9);
        select(&mut board, 1, 2, RTT);
        board.lose_oldest();
        board.cut(300);
        let pieces: Vec<_> = board.sent.iter().map(|sent| (sent.seq, sent.len)).collect();
        assert!(
            pieces.windows(2).all(|two| two[0].0.plus(two[0].1) == two[1].0 && two[0].1 <= 300)
        );
        assert_eq!(
            (board.count(), board.in_flight(), board.lost, board.sacked),
            (17, 2001, 1000, 4)
        );
        assert!(
            board.sent.back().is_some_and(Sent::ends)
                && board.sent.iter().filter(|sent| sent.ends()).count() == 1
        );
        let (place, sent) = board.repeat_lost(0, RTT).unwrap();
        assert_eq!((place, sent.seq, sent.len), (0, at(0), 300));
        let mut delivery = Delivery::default();
        board.acknowledged(at(4).plus(1), 2 * RTT, |_| None, &mut delivery);
        assert_eq!(
            (board.in_flight(), board.lost, board.sacked, board.is_empty()),
            (0, 0, 0, true)
        );
    }

    #[test]
    fn an_answer_to_the_first_sending_tells_that_the_second_was_needless() {
        let mut board = board(2);
        board.lose_old(5 * RTT, RTT);
        board.repeat_lost(0, 5 * RTT);
        let mut delivery = Delivery::default();
        board.acknowledged(at(1), 5 * RTT + 1, |sent| Some(sent > RTT), &mut delivery);
        assert!(delivery.spurious && delivery.rtt.is_none());
    }
}
