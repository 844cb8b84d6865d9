//! A queue of bytes in chunks: appended at the end, taken from the front, moved from one queue to
//! another without copying.
//!
//! The size of a new chunk is what the queue holds already, within limits: an empty queue has no
//! chunk, a busy one few and large ones, and bytes appended one by one fill a chunk before the next
//! is allocated.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

/// Smallest and largest chunk, in bytes.
const CHUNK_BYTES: (usize, usize) = (512, 64 << 10);
/// Fewer bytes than this are copied rather than moved with their chunk.
const MOVE_MIN: usize = 1024;

#[derive(Debug, Default)]
pub struct ByteQueue {
    chunks: VecDeque<BytesMut>,
    len: usize,
    /// Index of the chunk that was read last by [`ByteQueue::copy_at`], and the number of bytes
    /// before it.
    cursor: (usize, usize),
}

impl ByteQueue {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first contiguous bytes; empty only if the queue is.
    pub fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    /// Appends a copy of `bytes`.
    pub fn extend(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        if let Some(last) = self.chunks.back_mut() {
            let n = bytes.len().min(last.capacity() - last.len());
            last.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
        }
        while !bytes.is_empty() {
            let mut chunk = BytesMut::with_capacity(self.len.clamp(CHUNK_BYTES.0, CHUNK_BYTES.1));
            let n = bytes.len().min(chunk.capacity());
            chunk.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.chunks.push_back(chunk);
        }
    }

    /// Removes `n` bytes from the front, or all there are.
    pub fn consume(&mut self, mut n: usize) {
        n = n.min(self.len);
        self.len -= n;
        self.cursor.1 = self.cursor.1.saturating_sub(n);
        while let Some(first) = self.chunks.front_mut() {
            if n < first.len() {
                first.advance(n);
                break;
            }
            n -= first.len();
            self.chunks.pop_front();
            self.cursor.0 = self.cursor.0.saturating_sub(1);
        }
        if self.cursor.0 == 0 {
            self.cursor.1 = 0;
        }
        if self.chunks.is_empty() && self.chunks.capacity() > 8 {
            self.chunks = VecDeque::new();
        }
    }

    /// Moves up to `limit` bytes from the front of `other` to the end of this; returns how many.
    pub fn append_from(&mut self, other: &mut Self, limit: usize) -> usize {
        let mut left = limit.min(other.len);
        let moved = left;
        other.cursor = (0, 0);
        while left > 0 {
            let Some(first) = other.chunks.front_mut() else { break };
            let n = first.len().min(left);
            if n < MOVE_MIN || n < first.len() {
                self.extend(&first[..n]);
                first.advance(n);
            } else {
                self.len += n;
                self.chunks.push_back(std::mem::take(first));
            }
            if first.is_empty() {
                other.chunks.pop_front();
            }
            other.len -= n;
            left -= n;
        }
        if other.chunks.is_empty() && other.chunks.capacity() > 8 {
            other.chunks = VecDeque::new();
        }
        moved
    }

    /// Copies the bytes from `offset` on into `buffer`; returns how many.
    pub fn copy_at(&mut self, offset: usize, buffer: &mut [u8]) -> usize {
        let (mut index, mut start) = if offset >= self.cursor.1 { self.cursor } else { (0, 0) };
        let mut done = 0;
        while let Some(chunk) = self.chunks.get(index) {
            let at = offset + done;
            if at < start + chunk.len() {
                self.cursor = (index, start);
                let rest = &chunk[at - start..];
                let n = rest.len().min(buffer.len() - done);
                buffer[done..done + n].copy_from_slice(&rest[..n]);
                done += n;
                if done == buffer.len() {
                    break;
                }
            }
            start += chunk.len();
            index += 1;
        }
        done
    }

    /// Takes bytes from the front into `buffer`, as many as fit; returns how many.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buffer.len() && !self.is_empty() {
            let front = self.front();
            let n = front.len().min(buffer.len() - done);
            buffer[done..done + n].copy_from_slice(&front[..n]);
            self.consume(n);
            done += n;
        }
        done
    }

    /// Removes everything and frees the memory.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Memory allocated, in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.chunks.iter().map(BytesMut::capacity).sum::<usize>()
            + self.chunks.capacity() * size_of::<BytesMut>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Operation {
        Extend(usize),
        Consume(usize),
        Take(usize),
        Copy(usize, usize),
        Read(usize),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let size = prop_oneof![0usize..20, 0usize..3000, 0usize..200_000];
        prop_oneof![
            size.clone().prop_map(Operation::Extend),
            size.clone().prop_map(Operation::Consume),
            size.clone().prop_map(Operation::Take),
            (size.clone(), 0usize..3000).prop_map(|(at, n)| Operation::Copy(at, n)),
            size.prop_map(Operation::Read),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_deque_of_bytes(operations in prop::collection::vec(operation(), 1..60)) {
            let (mut queue, mut other) = (ByteQueue::default(), ByteQueue::default());
            let (mut model, mut target) = (VecDeque::<u8>::new(), Vec::<u8>::new());
            let mut next = 0u8;
            for operation in operations {
                match operation {
                    Operation::Extend(n) => {
                        let bytes: Vec<u8> = (0..n).map(|_| { next = next.wrapping_add(1); next }).collect();
                        queue.extend(&bytes);
                        model.extend(&bytes);
                    }
                    Operation::Consume(n) => {
                        queue.consume(n);
                        model.drain(..n.min(model.len()));
                    }
                    Operation::Take(n) => {
                        let moved = other.append_from(&mut queue, n);
                        prop_assert_eq!(moved, n.min(model.len()));
                        target.extend(model.drain(..moved));
                    }
                    Operation::Copy(at, n) => {
                        let mut buffer = vec![0; n];
                        let copied = queue.copy_at(at, &mut buffer);
                        let expected: Vec<u8> = model.iter().skip(at).take(n).copied().collect();
                        prop_assert_eq!(&buffer[..copied], &expected[..]);
                    }
                    Operation::Read(n) => {
                        let mut buffer = vec![0; n];
                        let read = queue.read(&mut buffer);
                        prop_assert_eq!(read, n.min(model.len()));
                        let expected: Vec<u8> = model.drain(..read).collect();
                        prop_assert_eq!(&buffer[..read], &expected[..]);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.front().is_empty(), model.is_empty());
                prop_assert!(queue.memory() <= 4 * queue.len() + (192 << 10), "{} for {}", queue.memory(), queue.len());
            }
            let mut all = vec![0; target.len()];
            prop_assert_eq!(other.read(&mut all), target.len());
            prop_assert_eq!(all, target);
        }
    }

    #[test]
    fn single_bytes_share_chunks_and_an_empty_queue_has_none() {
        let (mut queue, mut target) = (ByteQueue::default(), ByteQueue::default());
        for n in 0..100_000 {
            queue.extend(&[n as u8]);
            if n % 3 == 0 {
                target.append_from(&mut queue, usize::MAX);
            }
        }
        target.append_from(&mut queue, usize::MAX);
        assert!(target.memory() < 300_000, "{}", target.memory());
        target.consume(usize::MAX);
        assert!(target.memory() < 512 && queue.memory() < 512);
    }
}
