//! Messages of a desktop.

use super::cut_text::{self, AllowedDirections};
use super::framer::{Framer, HeadDecision, HeadParser};
use super::rects::{RectState, RectStep};
use super::{FilterError, FilterSink, Permissions, SharedPixelFormat, u16_at};
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

/// Filter of this direction.
#[derive(Debug)]
pub struct DownFilter {
    framer: Framer,
    messages: Messages,
}

#[derive(Debug)]
struct Messages {
    permissions: Permissions,
    format: SharedPixelFormat,
    state: State,
}

#[derive(Debug)]
enum State {
    /// At the start of a message.
    Message,
    /// So many rectangles of an update are left, at least one.
    Rects(u16),
    /// Inside a rectangle; so many are left after it.
    Inside(RectState, u16),
}

impl State {
    fn rects(left: u16) -> Self {
        if left == 0 { Self::Message } else { Self::Rects(left) }
    }
}

impl DownFilter {
    /// With these permissions; `format` is shared with the other direction.
    #[must_use]
    pub fn new(permissions: Permissions, format: SharedPixelFormat) -> Self {
        Self {
            framer: Framer::default(),
            messages: Messages { permissions, format, state: State::Message },
        }
    }

    /// Filters the next chunk.
    ///
    /// # Errors
    /// [`FilterError`] ends the stream.
    pub fn feed(&mut self, chunk: &Bytes, out: &mut impl FilterSink) -> Result<(), FilterError> {
        self.framer.feed(&mut self.messages, chunk, out)
    }

    /// Whether the output so far ends at a message boundary.
    #[must_use]
    pub fn at_message_boundary(&self) -> bool {
        self.framer.at_message_boundary() && self.messages.at_message_boundary()
    }
}

impl Messages {
    fn message(
        &mut self,
        head: &[u8],
        out: &mut impl FilterSink,
    ) -> Result<HeadDecision, FilterError> {
        let kind = head.first().copied().unwrap_or(0);
        let length = match kind {
            kind::UPDATE | kind::XVP => 4,
            kind::COLOUR_MAP => 6,
            kind::BELL | kind::END_OF_CONTINUOUS_UPDATES => 1,
            kind::CUT_TEXT => {
                let allowed = AllowedDirections {
                    from_sender: self.permissions.clipboard_out,
                    to_sender: self.permissions.clipboard_in,
                };
                return cut_text::decide(head, allowed, out);
            }
            kind::FENCE => 9,
            _ => return Err(FilterError::Forbidden("a message that the gateway does not know")),
        };
        if head.len() < length {
            return Ok(HeadDecision::NeedMore(length));
        }
        Ok(match kind {
            kind::UPDATE => {
                self.state = State::rects(u16_at(head, 2));
                HeadDecision::Pass(0)
            }
            kind::COLOUR_MAP => HeadDecision::Pass(6 * u64::from(u16_at(head, 4))),
            kind::FENCE => HeadDecision::Pass(head.last().copied().unwrap_or(0).into()),
            _ => HeadDecision::Pass(0),
        })
    }
}

impl Messages {
    /// Moves on after a head inside an update; returns the length of the body after it.
    fn finish_head(&mut self, step: RectStep, left: u16) -> u64 {
        let (state, body) = match step {
            RectStep::Last(body) => (State::rects(left), body),
            RectStep::Continue(body, rect) => (State::Inside(rect, left), body),
            RectStep::EndOfUpdate => (State::Message, 0),
            RectStep::NeedMore(_) => return 0,
        };
        self.state = state;
        body
    }

    /// One head inside an update, if it is complete: its length and that of its body.
    fn whole_head(&mut self, rest: &[u8]) -> Result<Option<u64>, FilterError> {
        let (step, length, left) = match &self.state {
            State::Message => match rest {
                // Most messages are updates; the others are decided on one by one.
                [kind::UPDATE, _, high, low, ..] => {
                    self.state = State::rects(u16::from_be_bytes([*high, *low]));
                    return Ok(Some(4));
                }
                _ => return Ok(None),
            },
            State::Rects(left) => {
                let Some(head) = rest.get(..RectState::HEAD) else { return Ok(None) };
                (RectState::begin(head, self.format.get())?, RectState::HEAD, left - 1)
            }
            State::Inside(rect, left) => {
                let mut length = 1;
                loop {
                    let Some(head) = rest.get(..length) else { return Ok(None) };
                    match rect.advance(head)? {
                        RectStep::NeedMore(more) => length = more.max(length + 1),
                        step @ (RectStep::Last(_)
                        | RectStep::Continue(..)
                        | RectStep::EndOfUpdate) => {
                            break (step, length, *left);
                        }
                    }
                }
            }
        };
        Ok(Some(length as u64 + self.finish_head(step, left)))
    }
}

impl HeadParser for Messages {
    fn min_head(&self) -> usize {
        match &self.state {
            State::Message => 1,
            State::Rects(_) => RectState::HEAD,
            State::Inside(..) => 1,
        }
    }

    fn at_message_boundary(&self) -> bool {
        matches!(self.state, State::Message)
    }

    fn skip_passing_heads(&mut self, rest: &[u8]) -> u64 {
        let format = self.format.get();
        let rest_at = |done: u64| {
            usize::try_from(done).ok().and_then(|at| rest.get(at..)).filter(|rest| !rest.is_empty())
        };
        let mut done = 0;
        while let Some(head) = rest_at(done) {
            if let State::Rects(mut left) = self.state {
                let start = done;
                while left > 0
                    && let Some(bytes) =
                        rest_at(done).and_then(|head| RectState::single_head_length(head, format))
                {
                    done += bytes;
                    left -= 1;
                }
                self.state = State::rects(left);
                if done > start {
                    continue;
                }
            }
            // A refused head is decided on again by itself, and refused then.
            match self.whole_head(head) {
                Ok(Some(bytes)) => done += bytes,
                Ok(None) | Err(_) => break,
            }
        }
        done
    }

    fn decide(
        &mut self,
        head: &[u8],
        out: &mut impl FilterSink,
    ) -> Result<HeadDecision, FilterError> {
        let (step, left) = match &self.state {
            State::Message => return self.message(head, out),
            State::Rects(left) => (RectState::begin(head, self.format.get())?, left - 1),
            State::Inside(rect, left) => (rect.advance(head)?, *left),
        };
        Ok(match step {
            RectStep::NeedMore(length) => HeadDecision::NeedMore(length),
            RectStep::Last(_) | RectStep::Continue(..) | RectStep::EndOfUpdate => {
                HeadDecision::Pass(self.finish_head(step, left))
            }
        })
    }
}
