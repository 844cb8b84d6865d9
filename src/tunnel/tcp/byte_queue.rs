//! Bytes in a row of chunks: written at the end, taken from the front, moved from one chain to
//! another without copying.
//!
//! - A **chunk** is one piece of memory. A new one is as large as what the chain holds already,
//!   within limits: an idle chain has none, a busy one few and large ones, and bytes that come one
//!   by one fill a chunk before the next is made.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

/// Smallest and largest chunk made.
const CHUNK_BYTES: (usize, usize) = (512, 64 << 10);
/// Fewer bytes than this are copied rather than moved with the chunk they are in.
const MOVE_MIN: usize = 1024;

/// A queue of bytes.
#[derive(Debug, Default)]
pub struct ByteQueue {
    chunks: VecDeque<BytesMut>,
    len: usize,
    /// A chunk, and how many bytes are before it: where the last look inside ended.
    cursor: (usize, usize),
}

impl ByteQueue {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first bytes, as many as lie together; empty only if the chain is.
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

    /// Takes `n` bytes away from the front, or all there are.
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

    /// Moves up to `limit` bytes from the front of `other` to the end of this; answers how many.
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

    /// Copies the bytes from `offset` on into `room`; answers how many there were.
    pub fn copy_at(&mut self, offset: usize, room: &mut [u8]) -> usize {
        let (mut index, mut start) = if offset >= self.cursor.1 { self.cursor } else { (0, 0) };
        let mut done = 0;
        while let Some(chunk) = self.chunks.get(index) {
            let at = offset + done;
            if at < start + chunk.len() {
                self.cursor = (index, start);
                let rest = &chunk[at - start..];
                let n = rest.len().min(room.len() - done);
                room[done..done + n].copy_from_slice(&rest[..n]);
                done += n;
                if done == room.len() {
                    break;
                }
            }
            start += chunk.len();
            index += 1;
        }
        done
    }

    /// Takes bytes from the front into `room`, as many as fit; answers how many.
    pub fn read(&mut self, room: &mut [u8]) -> usize {
        let mut done = 0;
        while done < room.len() && !self.is_empty() {
            let front = self.front();
            let n = front.len().min(room.len() - done);
            room[done..done + n].copy_from_slice(&front[..n]);
            self.consume(n);
            done += n;
        }
        done
    }

    /// Forgets everything, and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Memory taken, in bytes.
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
    enum Step {
        Extend(usize),
        Consume(usize),
        Take(usize),
        Copy(usize, usize),
        Read(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let size = prop_oneof![0usize..20, 0usize..3000, 0usize..200_000];
        prop_oneof![
            size.clone().prop_map(Step::Extend),
            size.clone().prop_map(Step::Consume),
            size.clone().prop_map(Step::Take),
            (size.clone(), 0usize..3000).prop_map(|(at, n)| Step::Copy(at, n)),
            size.prop_map(Step::Read),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_queue_of_bytes(steps in prop::collection::vec(step(), 1..60)) {
            let (mut chain, mut other) = (ByteQueue::default(), ByteQueue::default());
            let (mut model, mut beyond) = (VecDeque::<u8>::new(), Vec::<u8>::new());
            let mut next = 0u8;
            for step in steps {
                match step {
                    Step::Extend(n) => {
                        let bytes: Vec<u8> = (0..n).map(|_| { next = next.wrapping_add(1); next }).collect();
                        chain.extend(&bytes);
                        model.extend(&bytes);
                    }
                    Step::Consume(n) => {
                        chain.consume(n);
                        model.drain(..n.min(model.len()));
                    }
                    Step::Take(n) => {
                        let moved = other.append_from(&mut chain, n);
                        prop_assert_eq!(moved, n.min(model.len()));
                        beyond.extend(model.drain(..moved));
                    }
                    Step::Copy(at, n) => {
                        let mut room = vec![0; n];
                        let copied = chain.copy_at(at, &mut room);
                        let expected: Vec<u8> = model.iter().skip(at).take(n).copied().collect();
                        prop_assert_eq!(&room[..copied], &expected[..]);
                    }
                    Step::Read(n) => {
                        let mut room = vec![0; n];
                        let read = chain.read(&mut room);
                        prop_assert_eq!(read, n.min(model.len()));
                        let expected: Vec<u8> = model.drain(..read).collect();
                        prop_assert_eq!(&room[..read], &expected[..]);
                    }
                }
                prop_assert_eq!(chain.len(), model.len());
                prop_assert_eq!(chain.front().is_empty(), model.is_empty());
                prop_assert!(chain.memory() <= 4 * chain.len() + (192 << 10), "{} for {}", chain.memory(), chain.len());
            }
            let mut all = vec![0; beyond.len()];
            prop_assert_eq!(other.read(&mut all), beyond.len());
            prop_assert_eq!(all, beyond);
        }
    }

    #[test]
    fn single_bytes_share_chunks_and_an_empty_chain_has_none() {
        let (mut chain, mut beyond) = (ByteQueue::default(), ByteQueue::default());
        for n in 0..100_000 {
            chain.extend(&[n as u8]);
            if n % 3 == 0 {
                beyond.append_from(&mut chain, usize::MAX);
            }
        }
        beyond.append_from(&mut chain, usize::MAX);
        assert!(beyond.memory() < 300_000, "{}", beyond.memory());
        beyond.consume(usize::MAX);
        assert!(beyond.memory() < 512 && chain.memory() < 512);
    }
}
