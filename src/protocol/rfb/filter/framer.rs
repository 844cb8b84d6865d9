//! Cuts a stream into heads and bodies, wherever its chunks begin and end. Heads are judged when
//! they are all there; what is kept goes on as long slices.

use super::{FilterError, Sieve};
use bytes::Bytes;

/// Longest head: a `SetEncodings` of so many encodings as nobody has.
const MAX_HEAD: usize = 4 * 1024;

/// What becomes of a head.
pub(super) enum Verdict {
    /// It is longer: so many bytes in all.
    More(usize),
    /// It goes on, and so many bytes behind it.
    Keep(u64),
    /// It is held back, and so many bytes behind it.
    Drop(u64),
    /// Another goes on in its place.
    Replace(Bytes),
}

/// Reads heads of one direction.
pub(super) trait Frames {
    /// Bytes of the next head, at least; never 0.
    fn least(&self) -> usize;
    /// Judges a head. May be asked again with more of the same.
    fn judge(&mut self, head: &[u8], out: &mut impl Sieve) -> Result<Verdict, FilterError>;
    /// Whether the next head begins a message.
    fn between(&self) -> bool;
    /// Judges as many heads as are here whole and of which all goes on: so many bytes are done
    /// with, more perhaps than are here. 0: none; then the next is judged by itself.
    fn skip(&mut self, _rest: &[u8]) -> u64 {
        0
    }
}

/// Where the stream is.
#[derive(Debug, Default)]
pub(super) struct Framer {
    /// The beginning of a head whose rest has not arrived.
    head: Vec<u8>,
    /// Bytes of it that are needed; 0: not judged yet.
    want: usize,
    /// Bytes left of a body.
    body: u64,
    keep: bool,
}

impl Framer {
    /// Nothing is under way.
    pub(super) fn between(&self) -> bool {
        self.body == 0 && self.want == 0 && self.head.is_empty()
    }

    pub(super) fn feed(
        &mut self,
        frames: &mut impl Frames,
        chunk: &Bytes,
        out: &mut impl Sieve,
    ) -> Result<(), FilterError> {
        // `kept..at` is kept and not passed on yet.
        let (mut kept, mut at) = (0, 0);
        let done = loop {
            if self.body > 0 {
                let part = usize::try_from(self.body).unwrap_or(usize::MAX).min(chunk.len() - at);
                if !self.keep {
                    pass(chunk, kept, at, out);
                    kept = at + part;
                }
                at += part;
                self.body -= part as u64;
                if self.body > 0 {
                    break Ok(());
                }
            }
            if self.want == 0 && self.head.is_empty() {
                (self.body, self.keep) = (frames.skip(chunk.get(at..).unwrap_or_default()), true);
                if self.body > 0 {
                    continue;
                }
            }
            let want = self.want.max(frames.least());
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
            let verdict = match frames.judge(head, out) {
                Ok(verdict) => verdict,
                Err(error) => break Err(error),
            };
            let (keep, body, other) = match verdict {
                Verdict::More(more) => {
                    self.want = more.max(want + 1);
                    continue;
                }
                Verdict::Keep(body) => (true, body, None),
                Verdict::Drop(body) => (false, body, None),
                Verdict::Replace(other) => (false, 0, Some(other)),
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
            (self.want, self.body, self.keep) = (0, body, keep);
        };
        pass(chunk, kept, at, out);
        done
    }
}

fn pass(chunk: &Bytes, from: usize, to: usize, out: &mut impl Sieve) {
    if from < to {
        out.pass(chunk.slice(from..to));
    }
}
