//! Receive buffer: in-order bytes that wait for the reader, out-of-order ranges, and the receive
//! window.
//!
//! - The **right edge** (RCV.NXT + RCV.WND) never moves back (RFC 9293, section 3.8.6.2.1).
//! - The **limit** is the buffer size. It starts small, grows while the reader takes a good part of
//!   it within a round trip, and is reset when idle. Memory is taken only by bytes that are there.

use super::byte_queue::ByteQueue;
use super::segment::{SACK_BLOCKS_MAX, SackBlock};
use super::seq::Seq;
use super::time::{MS, Micros};

/// Initial buffer size, and after an idle period.
pub(super) const LIMIT_INITIAL: usize = 64 << 10;
/// Out-of-order ranges kept; data beyond them is dropped and retransmitted.
const OUT_OF_ORDER_MAX: usize = 512;
/// Shortest interval over which the reader's rate is measured: the clock is read once per batch.
const TUNE_INTERVAL_MIN: Micros = MS / 5;
/// Idle time after which the buffer is small again.
const IDLE_AFTER: Micros = 5_000 * MS;
/// The limit is this multiple of what the reader takes in a round trip, so that a sender in slow
/// start is never limited by it.
const HEADROOM: usize = 4;
/// Rate assumed at most, in bytes per microsecond: 4 Gbit/s. More data in flight would be a queue,
/// in front of other tunnels' keystrokes.
const BYTES_PER_MICRO_MAX: usize = 500;
/// Maximum on paths with the shortest RTT, which consists of wakeups more than of transmission.
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
    /// RCV.NXT.
    pub(super) rcv_nxt: Seq,
    right_edge: Seq,
    in_order: ByteQueue,
    out_of_order: Vec<OutOfOrderRange>,
    /// Ranges to report, most recent first (RFC 2018, section 4).
    recent_ranges: [Option<Seq>; SACK_BLOCKS_MAX],
    /// Data received twice, for a D-SACK (RFC 2883).
    dsack: Option<SackBlock>,
    /// Sequence number of the peer's FIN, once received.
    fin_seq: Option<Seq>,
    limit: usize,
    limit_max: usize,
    read_since_tune: usize,
    tuned_at: Micros,
    last_activity: Micros,
}

impl ReceiveBuffer {
    /// `limit_max`: upper bound of the buffer size.
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

    /// Sets RCV.NXT from the peer's SYN.
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

    pub(super) fn has_gaps(&self) -> bool {
        !self.out_of_order.is_empty()
    }

    /// Segment acceptability (RFC 9293, section 3.10.7.4): its first byte, or its sequence number
    /// if it has none, lies in the window, or its last byte does.
    pub(super) fn acceptable(&self, seq: Seq, len: u32) -> bool {
        let window = self.window();
        let inside = |at: Seq| at.since(self.rcv_nxt) < window;
        match (len, window) {
            (0, 0) => seq == self.rcv_nxt,
            (0, _) => inside(seq),
            // Nothing fits, but its acknowledgement is processed (RFC 9293, section 3.10.7.4).
            (_, 0) => seq == self.rcv_nxt,
            _ => {
                inside(seq)
                    || inside(seq.plus(len - 1))
                    || (seq.before(self.rcv_nxt) && seq.plus(len).after(self.rcv_nxt))
            }
        }
    }

    /// Inserts data, trimmed to the window. Returns true if it was in order and left no gap behind.
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
        let space =
            if seq.before(self.right_edge) { self.right_edge.since(seq) as usize } else { 0 };
        let payload = &payload[skip..skip + space.min(payload.len() - skip)];
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

    /// Moves ranges that have become contiguous to the in-order bytes.
    fn merge_in_order(&mut self) {
        while let Some(first) = self.out_of_order.first_mut() {
            if first.start.after(self.rcv_nxt) {
                break;
            }
            let duplicate_len = self.rcv_nxt.since(first.start) as usize;
            first.bytes.consume(duplicate_len);
            let moved = self.in_order.append_from(&mut first.bytes, usize::MAX);
            self.rcv_nxt = self.rcv_nxt.plus(moved as u32);
            self.out_of_order.remove(0);
        }
        if self.out_of_order.is_empty() {
            self.out_of_order = Vec::new();
            self.recent_ranges = [None; SACK_BLOCKS_MAX];
        }
    }

    /// Keeps out-of-order data, as far as it is new.
    fn insert_out_of_order(&mut self, mut seq: Seq, mut payload: &[u8]) {
        let first = seq;
        let mut any_new = false;
        while !payload.is_empty() {
            let after = self.out_of_order.partition_point(|range| !range.start.after(seq));
            let end = after
                .checked_sub(1)
                .and_then(|n| self.out_of_order.get(n))
                .map(OutOfOrderRange::end)
                .filter(|end| !end.before(seq));
            if let Some(end) = end.filter(|end| end.after(seq)) {
                let duplicate_len = (end.since(seq) as usize).min(payload.len());
                (seq, payload) = (seq.plus(duplicate_len as u32), &payload[duplicate_len..]);
                continue;
            }
            let gap = self
                .out_of_order
                .get(after)
                .map_or(usize::MAX, |next| next.start.since(seq) as usize);
            let (new, rest) = payload.split_at(payload.len().min(gap));
            any_new = true;
            // The range to extend: the one that ends here, or a new one.
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
            if let Some(range) = self.out_of_order.get_mut(index) {
                range.bytes.extend(new);
            }
            if new.len() == gap {
                let mut next = self.out_of_order.remove(index + 1);
                if let Some(range) = self.out_of_order.get_mut(index) {
                    range.bytes.append_from(&mut next.bytes, usize::MAX);
                }
            }
            (seq, payload) = (seq.plus(new.len() as u32), rest);
        }
        if !any_new {
            self.dsack = Some((first, seq));
        }
        self.record_recent(first);
    }

    fn record_recent(&mut self, seq: Seq) {
        let mut rest = self.recent_ranges.into_iter().flatten().filter(|&other| other != seq);
        self.recent_ranges = [Some(seq), rest.next(), rest.next()];
    }

    /// SACK blocks of the next ACK: a D-SACK first, then the most recently changed ranges.
    pub(super) fn sack_blocks(&mut self) -> [Option<SackBlock>; SACK_BLOCKS_MAX] {
        let mut blocks = [None; SACK_BLOCKS_MAX];
        let mut used = 0;
        let mut push = |block: SackBlock| {
            if used < SACK_BLOCKS_MAX && !blocks.contains(&Some(block)) {
                blocks[used] = Some(block);
                used += 1;
            }
        };
        if let Some(duplicate) = self.dsack.take() {
            push(duplicate);
        }
        for seq in self.recent_ranges.iter().flatten() {
            let index = self.out_of_order.partition_point(|range| !range.start.after(*seq));
            if let Some(range) = index
                .checked_sub(1)
                .and_then(|n| self.out_of_order.get(n))
                .filter(|range| range.end().after(*seq))
            {
                push((range.start, range.end()));
            }
        }
        blocks
    }

    /// For a peer without SACK.
    pub(super) fn clear_dsack(&mut self) {
        self.dsack = None;
    }

    pub(super) fn record_fin(&mut self, at: Seq) {
        // It stays where it was first: nothing comes after a FIN.
        self.fin_seq.get_or_insert(at);
    }

    /// Takes the FIN if it is next.
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

    /// Moves up to `limit` bytes to the reader.
    pub(super) fn read(&mut self, into: &mut ByteQueue, limit: usize, now: Micros) -> usize {
        let moved = into.append_from(&mut self.in_order, limit);
        self.read_since_tune += moved;
        self.last_activity = now;
        moved
    }

    /// Adjusts the limit to the reader's rate, by at most `spare` more bytes.
    pub(super) fn auto_tune(&mut self, now: Micros, rtt: Micros, spare: usize) {
        let interval = rtt.max(TUNE_INTERVAL_MIN);
        let elapsed = now.saturating_sub(self.tuned_at);
        if elapsed < interval {
            return;
        }
        // Many round trips may have passed since the last call: the rate counts.
        let round_trips = (elapsed / interval).max(1) as usize;
        let limit_for_rtt = usize::try_from(rtt)
            .unwrap_or(usize::MAX)
            .saturating_mul(BYTES_PER_MICRO_MAX)
            .max(LIMIT_LOW_RTT);
        let wanted = (HEADROOM * (self.read_since_tune / round_trips))
            .min(limit_for_rtt)
            .min(self.limit_max);
        if wanted > self.limit {
            self.limit += (wanted - self.limit).min(spare);
        }
        (self.read_since_tune, self.tuned_at) = (0, now);
    }

    /// Resets the limit of an idle connection; the advertised window does not shrink.
    pub(super) fn shrink_if_idle(&mut self, now: Micros) {
        if self.limit > LIMIT_INITIAL
            && self.in_order.is_empty()
            && self.out_of_order.is_empty()
            && now.saturating_sub(self.last_activity) > IDLE_AFTER
        {
            self.limit = LIMIT_INITIAL;
        }
    }

    /// Whether the window has grown enough for a window update (RFC 9293, section 3.8.6.2.2).
    pub(super) fn should_update_window(&self, mss: usize) -> bool {
        let (advertised, free) =
            (self.window() as usize, self.limit.saturating_sub(self.in_order.len()));
        advertised * 2 < self.limit && free >= advertised + (self.limit / 2).min(2 * mss)
    }

    /// Moves the right edge as far as the limit allows, in multiples of the window scale, avoiding
    /// the silly window syndrome; returns the window field.
    pub(super) fn advertise_window(&mut self, scale: u8, mss: usize) -> u16 {
        let free = self.limit.saturating_sub(self.in_order.len());
        let unit = 1usize << scale;
        let free = (free / unit * unit) as u32;
        let advertised = self.window();
        if free > advertised && (free - advertised) as usize >= (self.limit / 2).min(mss) {
            self.right_edge = self.rcv_nxt.plus(free);
        }
        u16::try_from(self.window() >> scale).unwrap_or(u16::MAX)
    }

    /// Drops data that will not be read.
    pub(super) fn clear(&mut self) {
        self.in_order.clear();
        (self.out_of_order, self.recent_ranges) = (Vec::new(), [None; SACK_BLOCKS_MAX]);
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let pieces: usize = self.out_of_order.iter().map(|range| range.bytes.memory()).sum();
        self.in_order.memory()
            + pieces
            + self.out_of_order.capacity() * size_of::<OutOfOrderRange>()
    }
}

#[cfg(test)]
mod tests;
