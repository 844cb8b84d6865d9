//! Splits a stream into heads and bodies, independent of chunk boundaries. A head is decided on
//! when it is complete; what passes is output in slices as long as possible.

use super::{FilterError, FilterSink};
use bytes::Bytes;

/// Longest head: a `SetEncodings` with more encodings than any browser has.
const MAX_HEAD: usize = 4 * 1024;

/// Decision on a head.
pub(super) enum HeadDecision {
    /// It is incomplete: its length in bytes is at least this.
    NeedMore(usize),
    /// Forward it and so many bytes after it.
    Pass(u64),
    /// Drop it and so many bytes after it.
    Drop(u64),
    /// Forward this in its place.
    Replace(Bytes),
}

/// Parses the heads of one direction.
pub(super) trait HeadParser {
    /// Least length of the next head in bytes; never 0.
    fn min_head(&self) -> usize;
    /// Decides on a head. Called again with more bytes after [`HeadDecision::NeedMore`].
    fn decide(
        &mut self,
        head: &[u8],
        out: &mut impl FilterSink,
    ) -> Result<HeadDecision, FilterError>;
    fn at_message_boundary(&self) -> bool;
    /// Skips the complete heads at the front of `rest` that are forwarded with their bodies:
    /// returns the number of bytes, which may exceed those available. 0: the next head needs its
    /// own decision.
    fn skip_passing_heads(&mut self, _rest: &[u8]) -> u64 {
        0
    }
}

/// Position in the stream.
#[derive(Debug, Default)]
pub(super) struct Framer {
    /// The beginning of an incomplete head.
    head: Vec<u8>,
    /// Bytes of it that are needed; 0: not decided on yet.
    needed: usize,
    body: u64,
    pass_body: bool,
}

impl Framer {
    /// No head or body is incomplete.
    pub(super) fn at_message_boundary(&self) -> bool {
        self.body == 0 && self.needed == 0 && self.head.is_empty()
    }

    pub(super) fn feed(
        &mut self,
        parser: &mut impl HeadParser,
        chunk: &Bytes,
        out: &mut impl FilterSink,
    ) -> Result<(), FilterError> {
        // `pass_from..pos` passes and was not output yet.
        let (mut pass_from, mut pos) = (0, 0);
        let done = loop {
            if self.body > 0 {
                let taken = usize::try_from(self.body).unwrap_or(usize::MAX).min(chunk.len() - pos);
                if !self.pass_body {
                    pass(chunk, pass_from, pos, out);
                    pass_from = pos + taken;
                }
                pos += taken;
                self.body -= taken as u64;
                if self.body > 0 {
                    break Ok(());
                }
            }
            if self.needed == 0 && self.head.is_empty() {
                (self.body, self.pass_body) =
                    (parser.skip_passing_heads(chunk.get(pos..).unwrap_or_default()), true);
                if self.body > 0 {
                    continue;
                }
            }
            let needed = self.needed.max(parser.min_head());
            if needed > MAX_HEAD {
                break Err(FilterError::Malformed("a message is too long"));
            }
            let in_chunk = self.head.is_empty() && chunk.len() - pos >= needed;
            if !in_chunk {
                pass(chunk, pass_from, pos, out);
                let taken = (needed - self.head.len()).min(chunk.len() - pos);
                self.head.extend_from_slice(&chunk[pos..pos + taken]);
                pos += taken;
                pass_from = pos;
                if self.head.len() < needed {
                    break Ok(());
                }
            }
            let head = if in_chunk { &chunk[pos..pos + needed] } else { &self.head[..] };
            let decision = match parser.decide(head, out) {
                Ok(decision) => decision,
                Err(error) => break Err(error),
            };
            let (passes, body, replacement) = match decision {
                HeadDecision::NeedMore(more) => {
                    self.needed = more.max(needed + 1);
                    continue;
                }
                HeadDecision::Pass(body) => (true, body, None),
                HeadDecision::Drop(body) => (false, body, None),
                HeadDecision::Replace(replacement) => (false, 0, Some(replacement)),
            };
            if in_chunk {
                if !passes {
                    pass(chunk, pass_from, pos, out);
                    pass_from = pos + needed;
                }
                pos += needed;
            } else if passes {
                out.pass(Bytes::copy_from_slice(&self.head));
            }
            if let Some(replacement) = replacement {
                out.pass(replacement);
            }
            self.head.clear();
            (self.needed, self.body, self.pass_body) = (0, body, passes);
        };
        pass(chunk, pass_from, pos, out);
        done
    }
}

fn pass(chunk: &Bytes, from: usize, to: usize, out: &mut impl FilterSink) {
    if from < to {
        out.pass(chunk.slice(from..to));
    }
}
