//! What a desktop sends.

use super::cut_text::{self, Ways};
use super::framer::{Framer, Frames, Verdict};
use super::rects::{Part, Rect};
use super::{FilterError, Format, Rules, Sieve, u16_at};
use bytes::Bytes;

/// Message types.
mod kind {
    pub(super) const UPDATE: u8 = 0;
    pub(super) const COLOUR_MAP: u8 = 1;
    pub(super) const BELL: u8 = 2;
    pub(super) const CUT_TEXT: u8 = 3;
    pub(super) const END_OF_CONTINUOUS_UPDATES: u8 = 150;
    pub(super) const FENCE: u8 = 248;
    pub(super) const XVP: u8 = 250;
}

/// The filter of this direction.
#[derive(Debug)]
pub struct DownFilter {
    framer: Framer,
    messages: Messages,
}

#[derive(Debug)]
struct Messages {
    rules: Rules,
    format: Format,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A message begins.
    Message,
    /// So many rectangles of an update are left, at least one.
    Rects(u16),
    /// Inside a rectangle; so many are left behind it.
    Inside(Rect, u16),
}

impl State {
    fn rects(left: u16) -> Self {
        if left == 0 { Self::Message } else { Self::Rects(left) }
    }
}

impl DownFilter {
    /// Under these rules; `format` is shared with the other direction.
    #[must_use]
    pub fn new(rules: Rules, format: Format) -> Self {
        Self {
            framer: Framer::default(),
            messages: Messages { rules, format, state: State::Message },
        }
    }

    /// Takes what arrived next.
    ///
    /// # Errors
    /// [`FilterError`] ends the stream.
    pub fn feed(&mut self, chunk: &Bytes, out: &mut impl Sieve) -> Result<(), FilterError> {
        self.framer.feed(&mut self.messages, chunk, out)
    }

    /// Whether what was passed so far ends where a message ends.
    #[must_use]
    pub fn between(&self) -> bool {
        self.framer.between() && self.messages.between()
    }
}

impl Messages {
    fn message(&mut self, head: &[u8], out: &mut impl Sieve) -> Result<Verdict, FilterError> {
        let kind = head.first().copied().unwrap_or(0);
        let length = match kind {
            kind::UPDATE | kind::XVP => 4,
            kind::COLOUR_MAP => 6,
            kind::BELL | kind::END_OF_CONTINUOUS_UPDATES => 1,
            kind::CUT_TEXT => {
                let ways = Ways { away: self.rules.clipboard_out, back: self.rules.clipboard_in };
                return cut_text::judge(head, ways, out);
            }
            kind::FENCE => 9,
            _ => return Err(FilterError::Forbidden("a message that the gateway does not know")),
        };
        if head.len() < length {
            return Ok(Verdict::More(length));
        }
        Ok(match kind {
            kind::UPDATE => {
                self.state = State::rects(u16_at(head, 2));
                Verdict::Keep(0)
            }
            kind::COLOUR_MAP => Verdict::Keep(6 * u64::from(u16_at(head, 4))),
            kind::FENCE => Verdict::Keep(head.last().copied().unwrap_or(0).into()),
            _ => Verdict::Keep(0),
        })
    }
}

impl Messages {
    /// Goes on behind a head inside an update: how long what follows it is.
    fn enter(&mut self, part: Part, left: u16) -> u64 {
        let (state, body) = match part {
            Part::Last(body) => (State::rects(left), body),
            Part::Then(body, rect) => (State::Inside(rect, left), body),
            Part::EndOfUpdate => (State::Message, 0),
            Part::More(_) => return 0,
        };
        self.state = state;
        body
    }

    /// One head inside an update, if it is all there: its length and that of what follows it.
    fn whole(&mut self, rest: &[u8]) -> Result<Option<u64>, FilterError> {
        let (part, length, left) = match &self.state {
            State::Message => match rest {
                // Most messages are updates; the others are judged one by one.
                [kind::UPDATE, _, high, low, ..] => {
                    self.state = State::rects(u16::from_be_bytes([*high, *low]));
                    return Ok(Some(4));
                }
                _ => return Ok(None),
            },
            State::Rects(left) => {
                let Some(head) = rest.get(..Rect::HEAD) else { return Ok(None) };
                (Rect::begin(head, self.format.get())?, Rect::HEAD, left - 1)
            }
            State::Inside(rect, left) => {
                let mut length = 1;
                loop {
                    let Some(head) = rest.get(..length) else { return Ok(None) };
                    match rect.part(head)? {
                        Part::More(more) => length = more.max(length + 1),
                        part @ (Part::Last(_) | Part::Then(..) | Part::EndOfUpdate) => {
                            break (part, length, *left);
                        }
                    }
                }
            }
        };
        Ok(Some(length as u64 + self.enter(part, left)))
    }
}

impl Frames for Messages {
    fn least(&self) -> usize {
        match &self.state {
            State::Message => 1,
            State::Rects(_) => Rect::HEAD,
            State::Inside(..) => 1,
        }
    }

    fn between(&self) -> bool {
        matches!(self.state, State::Message)
    }

    fn skip(&mut self, rest: &[u8]) -> u64 {
        let format = self.format.get();
        let behind = |done: u64| {
            usize::try_from(done).ok().and_then(|at| rest.get(at..)).filter(|rest| !rest.is_empty())
        };
        let mut done = 0;
        while let Some(head) = behind(done) {
            if let State::Rects(mut left) = self.state {
                let before = done;
                while left > 0
                    && let Some(bytes) = behind(done).and_then(|head| Rect::plain(head, format))
                {
                    done += bytes;
                    left -= 1;
                }
                self.state = State::rects(left);
                if done > before {
                    continue;
                }
            }
            // A head that is refused is judged again, by itself, and refused then.
            match self.whole(head) {
                Ok(Some(bytes)) => done += bytes,
                Ok(None) | Err(_) => break,
            }
        }
        done
    }

    fn judge(&mut self, head: &[u8], out: &mut impl Sieve) -> Result<Verdict, FilterError> {
        let (part, left) = match &self.state {
            State::Message => return self.message(head, out),
            State::Rects(left) => (Rect::begin(head, self.format.get())?, left - 1),
            State::Inside(rect, left) => (rect.part(head)?, *left),
        };
        Ok(match part {
            Part::More(length) => Verdict::More(length),
            Part::Last(_) | Part::Then(..) | Part::EndOfUpdate => {
                Verdict::Keep(self.enter(part, left))
            }
        })
    }
}
