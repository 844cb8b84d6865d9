//! What was received: bytes in order that wait for their reader, blocks out of order, and the
//! window that is offered.
//!
//! - The **edge** is the sequence number up to which the other end may send. It never goes back
//!   (RFC 9293, section 3.8.6.2.1).
//! - The **limit** is how much may wait for the reader. It starts small and grows while the reader
//!   takes, within a round trip, a good part of it; a rest makes it small again. Memory is taken
//!   only by bytes that are there.
//! - A **block** is a run of bytes that came before others that are missing.

use super::chain::Chain;
use super::segment::{BLOCKS, Block};
use super::seq::Seq;
use super::{MS, Micros};

/// What may wait for a reader at first, and after a rest.
pub(super) const LIMIT_FIRST: usize = 64 << 10;
/// Blocks kept; more is not heard, and sent again.
const BLOCKS_MAX: usize = 512;
/// A reader is not measured over less than this: our clock is read once for a batch.
const EPOCH: Micros = MS / 5;
/// Rest after which a window is small again.
const REST: Micros = 5_000 * MS;
/// A limit is this many times what a reader takes in a round trip, so that a sender that doubles
/// its pace each round is never held back.
const AHEAD: usize = 4;
/// Bytes in a microsecond that a limit reckons with: 4 Gbit/s. What more would wait under way would
/// be a queue, in front of other tunnels' keystrokes.
const PACE: usize = 500;
/// What a limit may be on the shortest way, whose round trip is more waking up than travelling.
const LIMIT_NEAR: usize = 512 << 10;

#[derive(Debug)]
struct Piece {
    start: Seq,
    bytes: Chain,
}

impl Piece {
    fn end(&self) -> Seq {
        self.start.plus(self.bytes.len() as u32)
    }
}

#[derive(Debug)]
pub(super) struct Received {
    /// The byte expected next.
    pub(super) next: Seq,
    edge: Seq,
    inbox: Chain,
    pieces: Vec<Piece>,
    /// The blocks to tell of, newest first (RFC 2018, section 4).
    recent: [Option<Seq>; BLOCKS],
    /// Bytes that came a second time (RFC 2883).
    duplicate: Option<Block>,
    /// Where the other end's FIN is, once heard.
    fin: Option<Seq>,
    limit: usize,
    most: usize,
    drained: usize,
    epoch: Micros,
    moved: Micros,
}

impl Received {
    /// `most`: the limit's limit.
    pub(super) fn new(next: Seq, most: usize, now: Micros) -> Self {
        let limit = LIMIT_FIRST.min(most);
        Self {
            next,
            edge: next.plus(limit as u32),
            inbox: Chain::default(),
            pieces: Vec::new(),
            recent: [None; BLOCKS],
            duplicate: None,
            fin: None,
            limit,
            most,
            drained: 0,
            epoch: now,
            moved: now,
        }
    }

    /// The other end's SYN came: its bytes begin here.
    pub(super) fn begin(&mut self, next: Seq) {
        self.next = next;
        self.edge = next.plus(self.limit as u32);
    }

    pub(super) fn waiting(&self) -> usize {
        self.inbox.len()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn window(&self) -> u32 {
        self.edge.since(self.next)
    }

    /// Something is missing before what has arrived.
    pub(super) fn has_holes(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// The segment's first byte, or if it has none its place, lies in the window, or its last does
    /// (RFC 9293, section 3.10.7.4).
    pub(super) fn acceptable(&self, seq: Seq, len: u32) -> bool {
        let window = self.window();
        let inside = |at: Seq| at.since(self.next) < window;
        match (len, window) {
            (0, 0) => seq == self.next,
            (0, _) => inside(seq),
            // Nothing fits, but what it acknowledges counts (RFC 9293, section 3.10.7.4).
            (_, 0) => seq == self.next,
            _ => {
                inside(seq)
                    || inside(seq.plus(len - 1))
                    || (seq.before(self.next) && seq.plus(len).after(self.next))
            }
        }
    }

    /// Takes in bytes; what is outside the window is cut off. True if they were in order and left
    /// no hole behind.
    pub(super) fn data(&mut self, seq: Seq, payload: &[u8], now: Micros) -> bool {
        if payload.is_empty() {
            return true;
        }
        let end = seq.plus(payload.len() as u32);
        if !end.after(self.next) {
            self.duplicate = Some((seq, end));
            return false;
        }
        let skip = if seq.before(self.next) { self.next.since(seq) as usize } else { 0 };
        let seq = seq.max(self.next);
        let room = if seq.before(self.edge) { self.edge.since(seq) as usize } else { 0 };
        let payload = &payload[skip..skip + room.min(payload.len() - skip)];
        if payload.is_empty() {
            return false;
        }
        if seq != self.next {
            self.piece(seq, payload);
            return false;
        }
        self.moved = now;
        self.inbox.extend(payload);
        self.next = self.next.plus(payload.len() as u32);
        if self.pieces.is_empty() {
            return true;
        }
        self.join();
        false
    }

    /// Moves what has become orderly to the inbox.
    fn join(&mut self) {
        while let Some(first) = self.pieces.first_mut() {
            if first.start.after(self.next) {
                break;
            }
            let known = self.next.since(first.start) as usize;
            first.bytes.consume(known);
            let moved = self.inbox.take(&mut first.bytes, usize::MAX);
            self.next = self.next.plus(moved as u32);
            self.pieces.remove(0);
        }
        if self.pieces.is_empty() {
            self.pieces = Vec::new();
            self.recent = [None; BLOCKS];
        }
    }

    /// Keeps bytes that came too early, as far as they are new.
    fn piece(&mut self, mut seq: Seq, mut payload: &[u8]) {
        let first = seq;
        let mut news = false;
        while !payload.is_empty() {
            let after = self.pieces.partition_point(|piece| !piece.start.after(seq));
            let end = after
                .checked_sub(1)
                .and_then(|n| self.pieces.get(n))
                .map(Piece::end)
                .filter(|end| !end.before(seq));
            if let Some(end) = end.filter(|end| end.after(seq)) {
                let known = (end.since(seq) as usize).min(payload.len());
                (seq, payload) = (seq.plus(known as u32), &payload[known..]);
                continue;
            }
            let gap =
                self.pieces.get(after).map_or(usize::MAX, |next| next.start.since(seq) as usize);
            let (new, rest) = payload.split_at(payload.len().min(gap));
            news = true;
            // The piece these bytes end up in: the one that ends here, or one of their own.
            let index = if end.is_some() {
                after - 1
            } else {
                if self.pieces.len() >= BLOCKS_MAX {
                    return;
                }
                self.pieces.insert(after, Piece { start: seq, bytes: Chain::default() });
                after
            };
            if let Some(piece) = self.pieces.get_mut(index) {
                piece.bytes.extend(new);
            }
            if new.len() == gap {
                let mut next = self.pieces.remove(index + 1);
                if let Some(piece) = self.pieces.get_mut(index) {
                    piece.bytes.take(&mut next.bytes, usize::MAX);
                }
            }
            (seq, payload) = (seq.plus(new.len() as u32), rest);
        }
        if !news {
            self.duplicate = Some((first, seq));
        }
        self.recent_is(first);
    }

    fn recent_is(&mut self, seq: Seq) {
        let mut rest = self.recent.into_iter().flatten().filter(|&other| other != seq);
        self.recent = [Some(seq), rest.next(), rest.next()];
    }

    /// The blocks of the next acknowledgement: a duplicate first, then those that changed last.
    pub(super) fn blocks(&mut self) -> [Option<Block>; BLOCKS] {
        let mut blocks = [None; BLOCKS];
        let mut used = 0;
        let mut tell = |block: Block| {
            if used < BLOCKS && !blocks.contains(&Some(block)) {
                blocks[used] = Some(block);
                used += 1;
            }
        };
        if let Some(duplicate) = self.duplicate.take() {
            tell(duplicate);
        }
        for seq in self.recent.iter().flatten() {
            let index = self.pieces.partition_point(|piece| !piece.start.after(*seq));
            if let Some(piece) = index
                .checked_sub(1)
                .and_then(|n| self.pieces.get(n))
                .filter(|piece| piece.end().after(*seq))
            {
                tell((piece.start, piece.end()));
            }
        }
        blocks
    }

    /// Forgets that something came twice: the other end does not understand.
    pub(super) fn forget_duplicate(&mut self) {
        self.duplicate = None;
    }

    /// A FIN was heard, at this place.
    pub(super) fn fin(&mut self, at: Seq) {
        // It stays where it was heard first: nothing comes after it.
        self.fin.get_or_insert(at);
    }

    /// The FIN is next: takes it in.
    pub(super) fn ends(&mut self) -> bool {
        if self.fin != Some(self.next) {
            return false;
        }
        self.next = self.next.plus(1);
        self.edge = self.edge.max(self.next);
        self.fin = None;
        (self.pieces, self.recent) = (Vec::new(), [None; BLOCKS]);
        true
    }

    /// Gives up to `limit` bytes to the reader.
    pub(super) fn read(&mut self, into: &mut Chain, limit: usize, now: Micros) -> usize {
        let moved = into.take(&mut self.inbox, limit);
        self.drained += moved;
        self.moved = now;
        moved
    }

    /// Lets the limit follow the reader, by at most `spare` more bytes.
    pub(super) fn tune(&mut self, now: Micros, rtt: Micros, spare: usize) {
        let epoch = rtt.max(EPOCH);
        let passed = now.saturating_sub(self.epoch);
        if passed < epoch {
            return;
        }
        // Many round trips may have passed since the last look: what counts is the pace.
        let rounds = (passed / epoch).max(1) as usize;
        let useful =
            usize::try_from(rtt).unwrap_or(usize::MAX).saturating_mul(PACE).max(LIMIT_NEAR);
        let wanted = (AHEAD * (self.drained / rounds)).min(useful).min(self.most);
        if wanted > self.limit {
            self.limit += (wanted - self.limit).min(spare);
        }
        (self.drained, self.epoch) = (0, now);
    }

    /// After a rest, the limit is small again; what was promised stays promised.
    pub(super) fn rest(&mut self, now: Micros) {
        if self.limit > LIMIT_FIRST
            && self.inbox.is_empty()
            && self.pieces.is_empty()
            && now.saturating_sub(self.moved) > REST
        {
            self.limit = LIMIT_FIRST;
        }
    }

    /// The window that could be offered is so much larger than the one that is that the other end
    /// should know (RFC 9293, section 3.8.6.2.2).
    pub(super) fn worth_telling(&self, mss: usize) -> bool {
        let (told, free) = (self.window() as usize, self.limit.saturating_sub(self.inbox.len()));
        told * 2 < self.limit && free >= told + (self.limit / 2).min(2 * mss)
    }

    /// Moves the edge as far as the limit allows, in steps a scaled window can say, and not in
    /// silly ones; answers with the window.
    pub(super) fn offer(&mut self, scale: u8, mss: usize) -> u16 {
        let free = self.limit.saturating_sub(self.inbox.len());
        let grain = 1usize << scale;
        let free = (free / grain * grain) as u32;
        let told = self.window();
        if free > told && (free - told) as usize >= (self.limit / 2).min(mss) {
            self.edge = self.next.plus(free);
        }
        u16::try_from(self.window() >> scale).unwrap_or(u16::MAX)
    }

    /// Forgets what nobody will read.
    pub(super) fn clear(&mut self) {
        self.inbox.clear();
        (self.pieces, self.recent) = (Vec::new(), [None; BLOCKS]);
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(|piece| piece.bytes.memory()).sum();
        self.inbox.memory() + pieces + self.pieces.capacity() * size_of::<Piece>()
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
            let mut received = Received::new(first, 1 << 20, 0);
            let (mut have, mut out) = (vec![false; text.len()], Chain::default());
            for (at, len) in order {
                received.data(first.plus(at as u32), &text[at..at + len], 0);
                have[at..at + len].fill(true);
                let contiguous = have.iter().take_while(|have| **have).count();
                prop_assert_eq!(received.next.since(first) as usize, contiguous);
                for (from, to) in received.blocks().into_iter().flatten() {
                    let (from, to) = (from.since(first) as usize, to.since(first) as usize);
                    prop_assert!(from < to && have[from..to].iter().all(|have| *have), "{from} {to}");
                }
                // Each piece lies apart from the next.
                prop_assert!(received.pieces.windows(2).all(|pair| pair[0].end().before(pair[1].start)));
                let kept: usize = received.pieces.iter().map(|piece| piece.bytes.len()).sum();
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
        let mut received = Received::new(Seq(0), 4 << 20, 0);
        let (mut out, mut now) = (Chain::default(), 0);
        for _ in 0..12 {
            now += 20 * MS;
            let window = received.window() as usize;
            received.data(received.next, &vec![1; window], now);
            received.read(&mut out, usize::MAX, now);
            out.clear();
            received.tune(now, 20 * MS, usize::MAX);
            received.offer(7, 1368);
        }
        assert_eq!((received.limit(), received.window()), (4 << 20, 4 << 20));
        received.rest(now + REST + 1);
        assert_eq!(received.limit(), LIMIT_FIRST);
        assert!(received.memory() < 1024, "{}", received.memory());
    }

    #[test]
    fn on_a_short_way_it_makes_no_queue() {
        let mut received = Received::new(Seq(0), 4 << 20, 0);
        let (mut out, mut now) = (Chain::default(), 0);
        for _ in 0..100 {
            now += MS;
            let window = received.window() as usize;
            received.data(received.next, &vec![1; window], now);
            received.read(&mut out, usize::MAX, now);
            out.clear();
            received.tune(now, MS / 2, usize::MAX);
            received.offer(7, 1368);
        }
        assert_eq!(received.limit(), LIMIT_NEAR);
    }

    #[test]
    fn a_reader_that_does_not_read_keeps_it_small() {
        let mut received = Received::new(Seq(0), 4 << 20, 0);
        for n in 1..100 {
            let room = received.window() as usize;
            received.data(received.next, &vec![1; room], n * 20 * MS);
            received.tune(n * 20 * MS, 20 * MS, usize::MAX);
            received.offer(7, 1368);
        }
        assert_eq!((received.waiting(), received.window()), (LIMIT_FIRST, 0));
        assert!(
            !received.acceptable(received.next.plus(1), 1) && received.acceptable(received.next, 0)
        );
    }

    #[test]
    fn single_bytes_with_holes_between_take_little_memory() {
        let mut received = Received::new(Seq(0), 1 << 20, 0);
        for n in 0..60_000u32 {
            received.data(Seq(1 + n * 2 % 65_000), &[1], 0);
        }
        assert!(received.memory() < 1 << 20, "{}", received.memory());
    }
}
