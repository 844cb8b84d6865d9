//! Outgoing datagrams, coupled into trains.
//!
//! - A **segment** is one encrypted datagram.
//! - A **train** is a run of segments to one address, all of the same size but for the last, laid
//!   end to end: exactly what the kernel's generic segmentation offload takes in a single call. One
//!   system call then carries up to 64 packets.
//!
//! Buffers go round: the driver hands a sent [`Transmit`] back with [`TransmitQueue::recycle`], so bulk
//! traffic allocates nothing per packet.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// Most bytes in a train: the kernel's limit is one IP packet (65535) including headers.
const TRANSMIT_BYTES_MAX: usize = 65_000;
/// Trains that may wait to be sent before TCP is told to hold back.
const QUEUED_TRANSMITS_MAX: usize = 2;
/// Sent buffers kept for reuse.
const FREE_BUFFERS_MAX: usize = 8;

/// One system call's worth of datagrams.
#[derive(Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// The segments, end to end.
    pub contents: Vec<u8>,
    /// Size of every segment but the last, which may be shorter.
    pub segment_size: usize,
}

impl Transmit {
    /// The datagrams, one by one.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.contents.chunks(self.segment_size.max(1))
    }
}

/// The queue of trains of one peer.
#[derive(Debug)]
pub(super) struct TransmitQueue {
    queue: VecDeque<Transmit>,
    free_buffers: Vec<Vec<u8>>,
    segments_max: usize,
    /// Segments in the last train of the queue.
    segments_in_last: usize,
    /// The last train ended with a shorter segment, or goes alone.
    last_closed: bool,
}

impl TransmitQueue {
    pub(super) fn new(segments_max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            free_buffers: Vec::new(),
            segments_max: segments_max.clamp(1, 64),
            segments_in_last: 0,
            last_closed: true,
        }
    }

    /// TCP should wait.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= QUEUED_TRANSMITS_MAX
    }

    pub(super) fn pop(&mut self) -> Option<Transmit> {
        let train = self.queue.pop_front();
        if self.queue.is_empty() {
            self.last_closed = true;
        }
        train
    }

    pub(super) fn recycle(&mut self, sent: Transmit) {
        if self.free_buffers.len() < FREE_BUFFERS_MAX {
            let mut contents = sent.contents;
            contents.clear();
            self.free_buffers.push(contents);
        }
    }

    /// Gives idle buffers back to the allocator.
    pub(super) fn shrink(&mut self) {
        self.free_buffers = Vec::new();
    }

    /// Drops everything queued.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.last_closed = true;
    }

    /// What comes next goes into another train.
    pub(super) fn close_last(&mut self) {
        self.last_closed = true;
    }

    /// Appends a segment of at most `room` bytes that `write` puts into the buffer it is given;
    /// `write` answers with the length written. `size` is the length expected, which decides the
    /// train; a segment that turns out otherwise travels alone.
    pub(super) fn append(
        &mut self,
        to: SocketAddr,
        size: usize,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) {
        if !self.fits_last(to, size) {
            let contents = self.free_buffers.pop().unwrap_or_default();
            self.queue.push_back(Transmit { to, contents, segment_size: size });
            self.segments_in_last = 0;
            self.last_closed = false;
        }
        let Some(train) = self.queue.back_mut() else { return };
        let start = train.contents.len();
        train.contents.resize(start + room, 0);
        let written = write(&mut train.contents[start..]).min(room);
        train.contents.truncate(start + written);
        if written == 0 {
            if start == 0 {
                self.queue.pop_back();
                self.last_closed = true;
            }
            return;
        }
        self.segments_in_last += 1;
        if written == size {
            self.last_closed = size < train.segment_size;
            return;
        }
        self.last_closed = true;
        if start == 0 {
            train.segment_size = written;
        } else if written > train.segment_size {
            let contents = train.contents.split_off(start);
            self.queue.push_back(Transmit { to, contents, segment_size: written });
        }
    }

    fn fits_last(&self, to: SocketAddr, size: usize) -> bool {
        !self.last_closed
            && self.segments_in_last < self.segments_max
            && self.queue.back().is_some_and(|last| {
                last.to == to
                    && size <= last.segment_size
                    && last.contents.len() + size <= TRANSMIT_BYTES_MAX
            })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn push(trains: &mut TransmitQueue, port: u16, bytes: &[u8]) {
        trains.append(
            SocketAddr::from(([127, 0, 0, 1], port)),
            bytes.len(),
            bytes.len().max(148),
            |room| {
                room[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            },
        );
    }

    proptest! {
        #[test]
        fn every_datagram_leaves_whole_and_in_order(datagrams in prop::collection::vec((1u16..3, prop::collection::vec(any::<u8>(), 1..1500)), 0..200), max in 1usize..80) {
            let mut trains = TransmitQueue::new(max);
            for (port, bytes) in &datagrams {
                push(&mut trains, *port, bytes);
            }
            let mut out = Vec::new();
            while let Some(train) = trains.pop() {
                prop_assert!(train.contents.len() <= TRANSMIT_BYTES_MAX);
                let segments: Vec<_> = train.segments().map(<[u8]>::to_vec).collect();
                prop_assert!(segments.len() <= max.min(64));
                prop_assert!(segments.iter().rev().skip(1).all(|s| s.len() == train.segment_size));
                out.extend(segments.into_iter().map(|s| (train.to.port(), s)));
                trains.recycle(train);
            }
            prop_assert_eq!(out, datagrams);
        }
    }

    #[test]
    fn equal_segments_share_a_train_and_a_short_one_ends_it() {
        let mut trains = TransmitQueue::new(64);
        for _ in 0..3 {
            push(&mut trains, 1, &[1; 100]);
        }
        push(&mut trains, 1, &[2; 40]);
        push(&mut trains, 1, &[3; 40]);
        let first = trains.pop().unwrap();
        assert_eq!((first.segment_size, first.contents.len()), (100, 340));
        assert_eq!(trains.pop().unwrap().contents, vec![3; 40]);
        assert_eq!(trains.pop(), None);
    }
}
