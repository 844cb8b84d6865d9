//! What was received: bytes in order that wait for their reader, blocks out of order, and the
//! window that is offered.
//!
//! - The **edge** is the sequence number up to which the other end may send. It never goes back
//!   (RFC 9293, section 3.8.6.2.1).
//! - The **limit** is how much may wait for the reader. It starts small and grows while the reader
//!   takes, within a round trip, a good part of it; a rest makes it small again. Memory is taken
//!   only by bytes that are there.
//! - A **block** is a run of bytes that came before others that are missing.

use super::byte_queue::ByteQueue;
use super::segment::{SACK_BLOCKS_MAX, SackBlock};
use super::seq::Seq;
use super::{MS, Micros};

/// What may wait for a reader at first, and after a rest.
pub(super) const LIMIT_INITIAL: usize = 64 << 10;
/// Blocks kept; more is not heard, and sent again.
const OUT_OF_ORDER_MAX: usize = 512;
/// A reader is not measured over less than this: our clock is read once for a batch.
const TUNE_INTERVAL_MIN: Micros = MS / 5;
/// Rest after which a window is small again.
const IDLE_AFTER: Micros = 5_000 * MS;
/// A limit is this many times what a reader takes in a round trip, so that a sender that doubles
/// its pace each round is never held back.
const HEADROOM: usize = 4;
/// Bytes in a microsecond that a limit reckons with: 4 Gbit/s. What more would wait under way would
/// be a queue, in front of other tunnels' keystrokes.
const BYTES_PER_MICRO_MAX: usize = 500;
/// What a limit may be on the shortest way, whose round trip is more waking up than travelling.
const LIMIT_LOW_RTT: usize = 512 << 10;

#[derive(Debug)]
struct OutOfOrderRange {
    start: Seq,
    bytes: ByteQueue,
}

impl OutOfOrderRange {
    fn end(&self) -> Seq {
        self.start.plus(self.bytes.len() as u32)
    }
}

#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    /// The byte expected next.
    pub(super) rcv_nxt: Seq,
    right_edge: Seq,
    in_order: ByteQueue,
    out_of_order: Vec<OutOfOrderRange>,
    /// The blocks to tell of, newest first (RFC 2018, section 4).
    recent_ranges: [Option<Seq>; SACK_BLOCKS_MAX],
    /// Bytes that came a second time (RFC 2883).
    dsack: Option<SackBlock>,
    /// Where the other end's FIN is, once heard.
    fin_seq: Option<Seq>,
    limit: usize,
    limit_max: usize,
    read_since_tune: usize,
    tuned_at: Micros,
    last_activity: Micros,
}

impl ReceiveBuffer {
    /// `most`: the limit's limit.
    pub(super) fn new(rcv_nxt: Seq, limit_max: usize, now: Micros) -> Self {
        let limit = LIMIT_INITIAL.min(limit_max);
        Self {
            rcv_nxt,
            right_edge: rcv_nxt.plus(limit as u32),
            in_order: ByteQueue::default(),
            out_of_order: Vec::new(),
            recent_ranges: [None; SACK_BLOCKS_MAX],
            dsack: None,
            fin_seq: None,
            limit,
            limit_max,
            read_since_tune: 0,
            tuned_at: now,
            last_activity: now,
        }
    }

    /// The other end's SYN came: its bytes begin here.
    pub(super) fn synchronize(&mut self, next: Seq) {
        self.rcv_nxt = next;
        self.right_edge = next.plus(self.limit as u32);
    }

    pub(super) fn unread(&self) -> usize {
        self.in_order.len()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn window(&self) -> u32 {
        self.right_edge.since(self.rcv_nxt)
    }

    /// Something is missing before what has arrived.
    pub(super) fn has_gaps(&self) -> bool {
        !self.out_of_order.is_empty()
    }

    /// The segment's first byte, or if it has none its place, lies in the window, or its last does
    /// (RFC 9293, section 3.10.7.4).
    pub(super) fn acceptable(&self, seq: Seq, len: u32) -> bool {
        let window = self.window();
        let inside = |at: Seq| at.since(self.rcv_nxt) < window;
        match (len, window) {
            (0, 0) => seq == self.rcv_nxt,
            (0, _) => inside(seq),
            // Nothing fits, but what it acknowledges counts (RFC 9293, section 3.10.7.4).
            (_, 0) => seq == self.rcv_nxt,
            _ => {
                inside(seq)
                    || inside(seq.plus(len - 1))
                    || (seq.before(self.rcv_nxt) && seq.plus(len).after(self.rcv_nxt))
            }
        }
    }

    /// Takes in bytes; what is outside the window is cut off. True if they were in order and left
    /// no hole behind.
    pub(super) fn insert(&mut self, seq: Seq, payload: &[u8], now: Micros) -> bool {
        if payload.is_empty() {
            return true;
        }
        let end = seq.plus(payload.len() as u32);
        if !end.after(self.rcv_nxt) {
            self.dsack = Some((seq, end));
            return false;
        }
        let skip = if seq.before(self.rcv_nxt) { self.rcv_nxt.since(seq) as usize } else { 0 };
        let seq = seq.max(self.rcv_nxt);
        let room =
            if seq.before(self.right_edge) { self.right_edge.since(seq) as usize } else { 0 };
        let payload = &payload[skip..skip + room.min(payload.len() - skip)];
        if payload.is_empty() {
            return false;
        }
        if seq != self.rcv_nxt {
            self.insert_out_of_order(seq, payload);
            return false;
        }
        self.last_activity = now;
        self.in_order.extend(payload);
        self.rcv_nxt = self.rcv_nxt.plus(payload.len() as u32);
        if self.out_of_order.is_empty() {
            return true;
        }
        self.merge_in_order();
        false
    }

    /// Moves what has become orderly to the inbox.
    fn merge_in_order(&mut self) {
        while let Some(first) = self.out_of_order.first_mut() {
            if first.start.after(self.rcv_nxt) {
                break;
            }
            let known = self.rcv_nxt.since(first.start) as usize;
            first.bytes.consume(known);
            let moved = self.in_order.append_from(&mut first.bytes, usize::MAX);
            self.rcv_nxt = self.rcv_nxt.plus(moved as u32);
            self.out_of_order.remove(0);
        }
        if self.out_of_order.is_empty() {
            self.out_of_order = Vec::new();
            self.recent_ranges = [None; SACK_BLOCKS_MAX];
        }
    }

    /// Keeps bytes that came too early, as far as they are new.
    fn insert_out_of_order(&mut self, mut seq: Seq, mut payload: &[u8]) {
        let first = seq;
        let mut news = false;
        while !payload.is_empty() {
            let after = self.out_of_order.partition_point(|piece| !piece.start.after(seq));
            let end = after
                .checked_sub(1)
                .and_then(|n| self.out_of_order.get(n))
                .map(OutOfOrderRange::end)
                .filter(|end| !end.before(seq));
            if let Some(end) = end.filter(|end| end.after(seq)) {
                let known = (end.since(seq) as usize).min(payload.len());
                (seq, payload) = (seq.plus(known as u32), &payload[known..]);
                continue;
            }
            let gap = self
                .out_of_order
                .get(after)
                .map_or(usize::MAX, |next| next.start.since(seq) as usize);
            let (new, rest) = payload.split_at(payload.len().min(gap));
            news = true;
            // The piece these bytes end up in: the one that ends here, or one of their own.
            let index = if end.is_some() {
                after - 1
            } else {
                if self.out_of_order.len() >= OUT_OF_ORDER_MAX {
                    return;
                }
                self.out_of_order
                    .insert(after, OutOfOrderRange { start: seq, bytes: ByteQueue::default() });
                after
            };
            if let Some(piece) = self.out_of_order.get_mut(index) {
                piece.bytes.extend(new);
            }
            if new.len() == gap {
                let mut next = self.out_of_order.remove(index + 1);
                if let Some(piece) = self.out_of_order.get_mut(index) {
                    piece.bytes.append_from(&mut next.bytes, usize::MAX);
                }
            }
            (seq, payload) = (seq.plus(new.len() as u32), rest);
        }
        if !news {
            self.dsack = Some((first, seq));
        }
        self.record_recent(first);
    }

    fn record_recent(&mut self, seq: Seq) {
        let mut rest = self.recent_ranges.into_iter().flatten().filter(|&other| other != seq);
        self.recent_ranges = [Some(seq), rest.next(), rest.next()];
    }

    /// The blocks of the next acknowledgement: a duplicate first, then those that changed last.
    pub(super) fn sack_blocks(&mut self) -> [Option<SackBlock>; SACK_BLOCKS_MAX] {
        let mut blocks = [None; SACK_BLOCKS_MAX];
        let mut used = 0;
        let mut tell = |block: SackBlock| {
            if used < SACK_BLOCKS_MAX && !blocks.contains(&Some(block)) {
                blocks[used] = Some(block);
                used += 1;
            }
        };
        if let Some(duplicate) = self.dsack.take() {
            tell(duplicate);
        }
        for seq in self.recent_ranges.iter().flatten() {
            let index = self.out_of_order.partition_point(|piece| !piece.start.after(*seq));
            if let Some(piece) = index
                .checked_sub(1)
                .and_then(|n| self.out_of_order.get(n))
                .filter(|piece| piece.end().after(*seq))
            {
                tell((piece.start, piece.end()));
            }
        }
        blocks
    }

    /// Forgets that something came twice: the other end does not understand.
    pub(super) fn clear_dsack(&mut self) {
        self.dsack = None;
    }

    /// A FIN was heard, at this place.
    pub(super) fn record_fin(&mut self, at: Seq) {
        // It stays where it was heard first: nothing comes after it.
        self.fin_seq.get_or_insert(at);
    }

    /// The FIN is next: takes it in.
    pub(super) fn consume_fin(&mut self) -> bool {
        if self.fin_seq != Some(self.rcv_nxt) {
            return false;
        }
        self.rcv_nxt = self.rcv_nxt.plus(1);
        self.right_edge = self.right_edge.max(self.rcv_nxt);
        self.fin_seq = None;
        (self.out_of_order, self.recent_ranges) = (Vec::new(), [None; SACK_BLOCKS_MAX]);
        true
    }

    /// Gives up to `limit` bytes to the reader.
    pub(super) fn read(&mut self, into: &mut ByteQueue, limit: usize, now: Micros) -> usize {
        let moved = into.append_from(&mut self.in_order, limit);
        self.read_since_tune += moved;
        self.last_activity = now;
        moved
    }

    /// Lets the limit follow the reader, by at most `spare` more bytes.
    pub(super) fn auto_tune(&mut self, now: Micros, rtt: Micros, spare: usize) {
        let epoch = rtt.max(TUNE_INTERVAL_MIN);
        let passed = now.saturating_sub(self.tuned_at);
        if passed < epoch {
            return;
        }
        // Many round trips may have passed since the last look: what counts is the pace.
        let rounds = (passed / epoch).max(1) as usize;
        let useful = usize::try_from(rtt)
            .unwrap_or(usize::MAX)
            .saturating_mul(BYTES_PER_MICRO_MAX)
            .max(LIMIT_LOW_RTT);
        let wanted = (HEADROOM * (self.read_since_tune / rounds)).min(useful).min(self.limit_max);
        if wanted > self.limit {
            self.limit += (wanted - self.limit).min(spare);
        }
        (self.read_since_tune, self.tuned_at) = (0, now);
    }

    /// After a rest, the limit is small again; what was promised stays promised.
    pub(super) fn shrink_if_idle(&mut self, now: Micros) {
        if self.limit > LIMIT_INITIAL
            && self.in_order.is_empty()
            && self.out_of_order.is_empty()
            && now.saturating_sub(self.last_activity) > IDLE_AFTER
        {
            self.limit = LIMIT_INITIAL;
        }
    }

    /// The window that could be offered is so much larger than the one that is that the other end
    /// should know (RFC 9293, section 3.8.6.2.2).
    pub(super) fn should_update_window(&self, mss: usize) -> bool {
        let (told, free) = (self.window() as usize, self.limit.saturating_sub(self.in_order.len()));
        told * 2 < self.limit && free >= told + (self.limit / 2).min(2 * mss)
    }

    /// Moves the edge as far as the limit allows, in steps a scaled window can say, and not in
    /// silly ones; answers with the window.
    pub(super) fn advertise_window(&mut self, scale: u8, mss: usize) -> u16 {
        let free = self.limit.saturating_sub(self.in_order.len());
        let grain = 1usize << scale;
        let free = (free / grain * grain) as u32;
        let told = self.window();
        if free > told && (free - told) as usize >= (self.limit / 2).min(mss) {
            self.right_edge = self.rcv_nxt.plus(free);
        }
        u16::try_from(self.window() >> scale).unwrap_or(u16::MAX)
    }

    /// Forgets what nobody will read.
    pub(super) fn clear(&mut self) {
        self.in_order.clear();
        (self.out_of_order, self.recent_ranges) = (Vec::new(), [None; SACK_BLOCKS_MAX]);
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let pieces: usize = self.out_of_order.iter().map(|piece| piece.bytes.memory()).sum();
        self.in_order.memory()
            + pieces
            + self.out_of_order.capacity() * size_of::<OutOfOrderRange>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_come_out_in_order_however_they_came_in(
            start: u32,
            order in prop::collection::vec((0usize..6000, 1usize..1500), 1..80),
        ) {
            let text: Vec<u8> = (0..8000usize).map(|n| (n * 7 / 3) as u8).collect();
            let first = Seq(start);
            let mut received = ReceiveBuffer::new(first, 1 << 20, 0);
            let (mut have, mut out) = (vec![false; text.len()], ByteQueue::default());
            for (at, len) in order {
                received.insert(first.plus(at as u32), &text[at..at + len], 0);
                have[at..at + len].fill(true);
                let contiguous = have.iter().take_while(|have| **have).count();
                prop_assert_eq!(received.rcv_nxt.since(first) as usize, contiguous);
                for (from, to) in received.sack_blocks().into_iter().flatten() {
                    let (from, to) = (from.since(first) as usize, to.since(first) as usize);
                    prop_assert!(from < to && have[from..to].iter().all(|have| *have), "{from} {to}");
                }
                // Each piece lies apart from the next.
                prop_assert!(received.out_of_order.windows(2).all(|pair| pair[0].end().before(pair[1].start)));
                let kept: usize = received.out_of_order.iter().map(|piece| piece.bytes.len()).sum();
                prop_assert_eq!(kept, have.iter().skip(contiguous).filter(|have| **have).count());
            }
            received.read(&mut out, usize::MAX, 0);
            let mut bytes = vec![0; out.len()];
            out.read(&mut bytes);
            prop_assert!(bytes == text[..bytes.len()]);
        }
    }

    #[test]
    fn a_window_grows_with_a_quick_reader_and_shrinks_in_a_rest() {
        let mut received = ReceiveBuffer::new(Seq(0), 4 << 20, 0);
        let (mut out, mut now) = (ByteQueue::default(), 0);
        for _ in 0..12 {
            now += 20 * MS;
            let window = received.window() as usize;
            received.insert(received.rcv_nxt, &vec![1; window], now);
            received.read(&mut out, usize::MAX, now);
            out.clear();
            received.auto_tune(now, 20 * MS, usize::MAX);
            received.advertise_window(7, 1368);
        }
        assert_eq!((received.limit(), received.window()), (4 << 20, 4 << 20));
        received.shrink_if_idle(now + IDLE_AFTER + 1);
        assert_eq!(received.limit(), LIMIT_INITIAL);
        assert!(received.memory() < 1024, "{}", received.memory());
    }

    #[test]
    fn on_a_short_way_it_makes_no_queue() {
        let mut received = ReceiveBuffer::new(Seq(0), 4 << 20, 0);
        let (mut out, mut now) = (ByteQueue::default(), 0);
        for _ in 0..100 {
            now += MS;
            let window = received.window() as usize;
            received.insert(received.rcv_nxt, &vec![1; window], now);
            received.read(&mut out, usize::MAX, now);
            out.clear();
            received.auto_tune(now, MS / 2, usize::MAX);
            received.advertise_window(7, 1368);
        }
        assert_eq!(received.limit(), LIMIT_LOW_RTT);
    }

    #[test]
    fn a_reader_that_does_not_read_keeps_it_small() {
        let mut received = ReceiveBuffer::new(Seq(0), 4 << 20, 0);
        for n in 1..100 {
            let room = received.window() as usize;
            received.insert(received.rcv_nxt, &vec![1; room], n * 20 * MS);
            received.auto_tune(n * 20 * MS, 20 * MS, usize::MAX);
            received.advertise_window(7, 1368);
        }
        assert_eq!((received.unread(), received.window()), (LIMIT_INITIAL, 0));
        assert!(
            !received.acceptable(received.rcv_nxt.plus(1), 1)
                && received.acceptable(received.rcv_nxt, 0)
        );
    }

    #[test]
    fn single_bytes_with_holes_between_take_little_memory() {
        let mut received = ReceiveBuffer::new(Seq(0), 1 << 20, 0);
        for n in 0..60_000u32 {
            received.insert(Seq(1 + n * 2 % 65_000), &[1], 0);
        }
        assert!(received.memory() < 1 << 20, "{}", received.memory());
    }
}
