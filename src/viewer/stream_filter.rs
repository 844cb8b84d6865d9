//! Where bytes pass under policy: one gate in each direction of a relay.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`Gate`] | is fed what arrives, says what of it goes on; knows the protocol's framing, never its pictures |
//! | *onward* | to the other side |
//! | *back* | an answer to the side it came from, in place of the other side's |
//! | [`Refused`] | what policy held back: how much, which way, never what |
//! | [`Open`] | the gate of a stream from which nothing is held back: compiled away |
//!
//! A chunk is whatever arrived at once; it says nothing about where messages begin. Pieces are
//! slices of it, not copies.

use bytes::Bytes;
use std::collections::VecDeque;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// Browser to desktop.
    Up,
    /// Desktop to browser.
    Down,
}

impl Direction {
    /// Its word in the audit log, where *in* is into the desktop.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "in",
            Self::Down => "out",
        }
    }
}

/// What a refused transfer would have used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Channel {
    /// Clipboard text.
    Clipboard,
    /// Files and drives.
    Files,
    /// Keys and pointer.
    Input,
    /// Another channel of the protocol.
    Other,
}

impl Channel {
    /// Its word in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clipboard => "clipboard",
            Self::Files => "files",
            Self::Input => "input",
            Self::Other => "channel",
        }
    }
}

/// Something that policy held back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefusedTransfer {
    /// Over what.
    pub channel: Channel,
    /// Which way.
    pub direction: Direction,
    /// Bytes of content; 0 when it was an announcement or its size is not known.
    pub bytes: u64,
    /// How many times.
    pub count: u64,
}

/// Why a gate lets nothing through any more: the stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StreamFilterError {
    /// Something that policy forbids and that cannot be taken out without breaking the stream.
    #[error("policy forbids {0}")]
    Forbidden(&'static str),
    /// Bytes that the protocol does not allow there, or beyond a limit.
    #[error("the stream is malformed: {0}")]
    Malformed(&'static str),
}

/// What a gate made of a chunk. Used again for the next one, so that nothing is allocated for each.
#[derive(Debug, Default)]
pub struct Filtered {
    /// To the other side, in order.
    pub forward: VecDeque<Bytes>,
    /// To the side that sent the chunk, in order. Whole messages.
    pub replies: VecDeque<Bytes>,
    /// What was held back.
    pub refused: Vec<RefusedTransfer>,
}

/// Decides what of one direction passes.
pub trait StreamFilter: Send {
    /// True when everything passes; then it is not asked.
    const PASS_THROUGH: bool = false;
    /// False when it never answers the side it hears.
    const REPLIES: bool = true;

    /// Takes what arrived next.
    ///
    /// # Errors
    /// [`StreamFilterError`] ends the stream. What was passed until then may be sent.
    fn feed(&mut self, chunk: Bytes, passed: &mut Filtered) -> Result<(), StreamFilterError>;

    /// Whether what went onward so far ends where a message ends. Only there the other gate's
    /// answers are put between.
    fn at_message_boundary(&self) -> bool {
        true
    }
}

/// Lets everything through, and costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassThrough;

impl StreamFilter for PassThrough {
    const PASS_THROUGH: bool = true;
    const REPLIES: bool = false;

    fn feed(&mut self, chunk: Bytes, passed: &mut Filtered) -> Result<(), StreamFilterError> {
        passed.forward.push_back(chunk);
        Ok(())
    }
}

/// A gate for each direction.
#[derive(Debug, Default)]
pub struct StreamFilters<U, D> {
    /// Browser to desktop.
    pub up: U,
    /// Desktop to browser.
    pub down: D,
}

impl StreamFilters<PassThrough, PassThrough> {
    /// Nothing is held back.
    pub const PASS_THROUGH: Self = Self { up: PassThrough, down: PassThrough };
}
