//! Cuts a stream into heads and bodies, wherever its chunks begin and end. Heads are judged when
//! they are all there; what is kept goes on as long slices.

use super::{FilterError, FilterSink};
use bytes::Bytes;

/// Longest head: a `SetEncodings` of so many encodings as nobody has.
const MAX_HEAD: usize = 4 * 1024;

/// What becomes of a head.
pub(super) enum HeadDecision {
    /// It is longer: so many bytes in all.
    NeedMore(usize),
    /// It goes on, and so many bytes behind it.
    Pass(u64),
    /// It is held back, and so many bytes behind it.
    Drop(u64),
    /// Another goes on in its place.
    Replace(Bytes),
}

/// Reads heads of one direction.
pub(super) trait HeadParser {
    /// Bytes of the next head, at least; never 0.
    fn min_head(&self) -> usize;
    /// Judges a head. May be asked again with more of the same.
    fn decide(
        &mut self,
        head: &[u8],
        out: &mut impl FilterSink,
    ) -> Result<HeadDecision, FilterError>;
    /// Whether the next head begins a message.
    fn at_message_boundary(&self) -> bool;
    /// Judges as many heads as are here whole and of which all goes on: so many bytes are done
    /// with, more perhaps than are here. 0: none; then the next is judged by itself.
    fn skip_passing_heads(&mut self, _rest: &[u8]) -> u64 {
        0
    }
}

/// Where the stream is.
#[derive(Debug, Default)]
pub(super) struct Framer {
    /// The beginning of a head whose rest has not arrived.
    head: Vec<u8>,
    /// Bytes of it that are needed; 0: not judged yet.
    needed: usize,
    /// Bytes left of a body.
    body: u64,
    pass_body: bool,
}

impl Framer {
    /// Nothing is under way.
    pub(super) fn at_message_boundary(&self) -> bool {
        self.body == 0 && self.needed == 0 && self.head.is_empty()
    }

    pub(super) fn feed(
        &mut self,
        frames: &mut impl HeadParser,
        chunk: &Bytes,
        out: &mut impl FilterSink,
    ) -> Result<(), FilterError> {
        // `kept..at` is kept and not passed on yet.
        let (mut kept, mut at) = (0, 0);
        let done = loop {
            if self.body > 0 {
                let part = usize::try_from(self.body).unwrap_or(usize::MAX).min(chunk.len() - at);
                if !self.pass_body {
                    pass(chunk, kept, at, out);
                    kept = at + part;
                }
                at += part;
                self.body -= part as u64;
                if self.body > 0 {
                    break Ok(());
                }
            }
            if self.needed == 0 && self.head.is_empty() {
                (self.body, self.pass_body) =
                    (frames.skip_passing_heads(chunk.get(at..).unwrap_or_default()), true);
                if self.body > 0 {
                    continue;
                }
            }
            let want = self.needed.max(frames.min_head());
            if want > MAX_HEAD {
                break Err(FilterError::Malformed("a message is too long"));
            }
            let whole = self.head.is_empty() && chunk.len() - at >= want;
            if !whole {
                pass(chunk, kept, at, out);
                let part = (want - self.head.len()).min(chunk.len() - at);
                self.head.extend_from_slice(&chunk[at..at + part]);
                at += part;
                kept = at;
                if self.head.len() < want {
                    break Ok(());
                }
            }
            let head = if whole { &chunk[at..at + want] } else { &self.head[..] };
            let verdict = match frames.decide(head, out) {
                Ok(verdict) => verdict,
                Err(error) => break Err(error),
            };
            let (keep, body, other) = match verdict {
                HeadDecision::NeedMore(more) => {
                    self.needed = more.max(want + 1);
                    continue;
                }
                HeadDecision::Pass(body) => (true, body, None),
                HeadDecision::Drop(body) => (false, body, None),
                HeadDecision::Replace(other) => (false, 0, Some(other)),
            };
            if whole {
                if !keep {
                    pass(chunk, kept, at, out);
                    kept = at + want;
                }
                at += want;
            } else if keep {
                out.pass(Bytes::copy_from_slice(&self.head));
            }
            if let Some(other) = other {
                out.pass(other);
            }
            self.head.clear();
            (self.needed, self.body, self.pass_body) = (0, body, keep);
        };
        pass(chunk, kept, at, out);
        done
    }
}

fn pass(chunk: &Bytes, from: usize, to: usize, out: &mut impl FilterSink) {
    if from < to {
        out.pass(chunk.slice(from..to));
    }
}
