//! Follows the frames of an HTTP/2 connection (RFC 9113 section 4.1), to see which header block is
//! incomplete. Their contents are not read.

/// Length of the client's connection preface (RFC 9113 section 3.4).
const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// The header block of a request that is being received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeaderBlock {
    /// None is, or it is complete.
    Complete,
    /// In one frame, which has not arrived as a whole.
    Incomplete,
    /// In several frames.
    Fragmented,
}

/// Follows one connection.
#[derive(Debug)]
pub(super) struct FrameScanner {
    /// Bytes to skip: of the preface, or of a frame's payload.
    skip: usize,
    head: [u8; FRAME_HEAD],
    /// Bytes of `head` that have arrived.
    head_length: usize,
    /// State after the present frame's payload.
    next: HeaderBlock,
    block: HeaderBlock,
    /// Number of header blocks that were completed.
    completed: u64,
}

impl FrameScanner {
    pub(super) fn new() -> Self {
        let complete = HeaderBlock::Complete;
        Self {
            skip: PREFACE,
            head: [0; FRAME_HEAD],
            head_length: 0,
            next: complete,
            block: complete,
            completed: 0,
        }
    }

    /// Number of header blocks that were completed.
    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    /// The next bytes; returns the state after them.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> HeaderBlock {
        let mut rest = bytes;
        loop {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = rest.get(skipped..).unwrap_or_default();
            if self.skip > 0 {
                return self.block;
            }
            if self.head_length == FRAME_HEAD {
                let is_end = self.block != HeaderBlock::Complete;
                self.completed += u64::from(is_end && self.next == HeaderBlock::Complete);
                self.block = self.next;
                self.head_length = 0;
            }
            if rest.is_empty() {
                return self.block;
            }
            let free = self.head.get_mut(self.head_length..).unwrap_or_default();
            let taken = free.len().min(rest.len());
            for (to, from) in free.iter_mut().zip(rest) {
                *to = *from;
            }
            self.head_length += taken;
            rest = rest.get(taken..).unwrap_or_default();
            if self.head_length == FRAME_HEAD {
                self.start_frame();
            }
        }
    }

    fn start_frame(&mut self) {
        let [l0, l1, l2, kind, flags, ..] = self.head;
        self.skip = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        if !matches!(kind, HEADERS | CONTINUATION) {
            self.next = self.block;
            return;
        }
        let ends = flags & END_HEADERS != 0;
        let is_fragment = kind == CONTINUATION || !ends;
        self.block = if is_fragment { HeaderBlock::Fragmented } else { HeaderBlock::Incomplete };
        self.next = if ends { HeaderBlock::Complete } else { HeaderBlock::Fragmented };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(vec![0xff; length.into()]);
        frame
    }

    #[test]
    fn blocks_are_followed_however_the_bytes_arrive() {
        let mut bytes = vec![0xff; PREFACE];
        let mut expected = vec![(PREFACE, HeaderBlock::Complete)];
        for (kind, flags, length, during, after) in [
            (4, 0, 0, HeaderBlock::Complete, HeaderBlock::Complete),
            (HEADERS, END_HEADERS, 7, HeaderBlock::Incomplete, HeaderBlock::Complete),
            (0, 0, 3, HeaderBlock::Complete, HeaderBlock::Complete),
            (HEADERS, 1, 5, HeaderBlock::Fragmented, HeaderBlock::Fragmented),
            (CONTINUATION, 0, 0, HeaderBlock::Fragmented, HeaderBlock::Fragmented),
            (CONTINUATION, END_HEADERS, 9, HeaderBlock::Fragmented, HeaderBlock::Complete),
            (HEADERS, END_HEADERS, 0, HeaderBlock::Complete, HeaderBlock::Complete),
        ] {
            bytes.extend(frame(kind, flags, length));
            if length > 0 {
                expected.push((bytes.len() - 1, during));
            }
            expected.push((bytes.len(), after));
        }
        for (until, block) in expected {
            for size in [1, 2, 8, 9, 10, bytes.len()] {
                let mut scanner = FrameScanner::new();
                let last = bytes[..until].chunks(size).map(|part| scanner.feed(part)).last();
                assert_eq!(last, Some(block), "{until} in parts of {size}");
                let complete = until == bytes.len();
                assert_eq!(scanner.completed() == 3, complete, "{until} in parts of {size}");
            }
        }
    }
}
