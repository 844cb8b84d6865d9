//! Outgoing datagrams, batched for generic segmentation offload.
//!
//! - A **segment** is one encrypted datagram.
//! - A [`Transmit`] is a run of segments to one address, all of the same size but for the last,
//!   concatenated: what the kernel's GSO takes in one system call of up to 64 datagrams.
//!
//! The driver returns the buffer of a sent [`Transmit`] with [`TransmitQueue::recycle`], so bulk
//! traffic allocates nothing per packet.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// Most bytes of a batch: the kernel's limit is one IP packet (65535) including headers.
const TRANSMIT_BYTES_MAX: usize = 65_000;
/// Batches that may be queued before TCP is held back.
const QUEUED_TRANSMITS_MAX: usize = 2;
/// Sent buffers kept for reuse.
const FREE_BUFFERS_MAX: usize = 8;

/// One system call's worth of datagrams.
#[derive(Debug, PartialEq, Eq)]
pub struct Transmit {
    pub to: SocketAddr,
    /// The segments, concatenated.
    pub contents: Vec<u8>,
    /// Size of every segment but the last, which may be shorter.
    pub segment_size: usize,
}

impl Transmit {
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.contents.chunks(self.segment_size.max(1))
    }
}

#[derive(Debug)]
pub(super) struct TransmitQueue {
    queue: VecDeque<Transmit>,
    free_buffers: Vec<Vec<u8>>,
    segments_max: usize,
    /// Segments in the last batch of the queue.
    segments_in_last: usize,
    /// The last batch ended with a shorter segment, or is sent alone.
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
        let batch = self.queue.pop_front();
        if self.queue.is_empty() {
            self.last_closed = true;
        }
        batch
    }

    pub(super) fn recycle(&mut self, sent: Transmit) {
        if self.free_buffers.len() < FREE_BUFFERS_MAX {
            let mut contents = sent.contents;
            contents.clear();
            self.free_buffers.push(contents);
        }
    }

    /// Frees buffers kept for reuse.
    pub(super) fn shrink(&mut self) {
        self.free_buffers = Vec::new();
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.last_closed = true;
    }

    /// The next segment starts a new batch.
    pub(super) fn close_last(&mut self) {
        self.last_closed = true;
    }

    /// Appends a segment of at most `capacity` bytes that `write` puts into the buffer it is given;
    /// `write` returns the length written. `size` is the expected length, which decides about the
    /// batch; a segment that turns out to have another length is sent in a batch of its own.
    pub(super) fn append(
        &mut self,
        to: SocketAddr,
        size: usize,
        capacity: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) {
        if !self.fits_last(to, size) {
            let contents = self.free_buffers.pop().unwrap_or_default();
            self.queue.push_back(Transmit { to, contents, segment_size: size });
            self.segments_in_last = 0;
            self.last_closed = false;
        }
        let Some(batch) = self.queue.back_mut() else { return };
        let start = batch.contents.len();
        batch.contents.resize(start + capacity, 0);
        let written = write(&mut batch.contents[start..]).min(capacity);
        batch.contents.truncate(start + written);
        if written == 0 {
            if start == 0 {
                self.queue.pop_back();
                self.last_closed = true;
            }
            return;
        }
        self.segments_in_last += 1;
        if written == size {
            self.last_closed = size < batch.segment_size;
            return;
        }
        self.last_closed = true;
        if start == 0 {
            batch.segment_size = written;
        } else if written > batch.segment_size {
            let contents = batch.contents.split_off(start);
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

    fn push(queue: &mut TransmitQueue, port: u16, bytes: &[u8]) {
        queue.append(
            SocketAddr::from(([127, 0, 0, 1], port)),
            bytes.len(),
            bytes.len().max(148),
            |buffer| {
                buffer[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            },
        );
    }

    proptest! {
        #[test]
        fn every_datagram_is_sent_complete_and_in_order(datagrams in prop::collection::vec((1u16..3, prop::collection::vec(any::<u8>(), 1..1500)), 0..200), max in 1usize..80) {
            let mut queue = TransmitQueue::new(max);
            for (port, bytes) in &datagrams {
                push(&mut queue, *port, bytes);
            }
            let mut out = Vec::new();
            while let Some(batch) = queue.pop() {
                prop_assert!(batch.contents.len() <= TRANSMIT_BYTES_MAX);
                let segments: Vec<_> = batch.segments().map(<[u8]>::to_vec).collect();
                prop_assert!(segments.len() <= max.min(64));
                prop_assert!(segments.iter().rev().skip(1).all(|s| s.len() == batch.segment_size));
                out.extend(segments.into_iter().map(|s| (batch.to.port(), s)));
                queue.recycle(batch);
            }
            prop_assert_eq!(out, datagrams);
        }
    }

    #[test]
    fn equal_segments_share_a_batch_and_a_shorter_one_ends_it() {
        let mut queue = TransmitQueue::new(64);
        for _ in 0..3 {
            push(&mut queue, 1, &[1; 100]);
        }
        push(&mut queue, 1, &[2; 40]);
        push(&mut queue, 1, &[3; 40]);
        let first = queue.pop().unwrap();
        assert_eq!((first.segment_size, first.contents.len()), (100, 340));
        assert_eq!(queue.pop().unwrap().contents, vec![3; 40]);
        assert_eq!(queue.pop(), None);
    }
}
