//! Filters that enforce policy: one for each direction of a relay.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`StreamFilter`] | reads the bytes of one direction and returns what may pass; parses the protocol's framing, never its pictures |
//! | *forward* | to the other side |
//! | *reply* | to the side the bytes came from, in place of the other side's answer |
//! | [`RefusedTransfer`] | what policy refused: size and direction, never content |
//! | [`PassThrough`] | the filter of a stream from which nothing is refused: compiled away |
//!
//! A chunk is whatever arrived at once; message boundaries are unrelated to it. Pieces are slices
//! of it, not copies.

use bytes::Bytes;
use std::collections::VecDeque;

/// Direction of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// Browser to desktop.
    Up,
    /// Desktop to browser.
    Down,
}

impl Direction {
    /// Its name in the audit log, where *in* is into the desktop.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "in",
            Self::Down => "out",
        }
    }
}

/// The channel of a refused transfer.
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
    /// Its name in the audit log.
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

/// Refused transfers of one channel and direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefusedTransfer {
    pub channel: Channel,
    pub direction: Direction,
    /// Bytes of content; 0 for an announcement, or when the size is unknown.
    pub bytes: u64,
    pub count: u64,
}

/// Why a filter stops the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StreamFilterError {
    /// Policy forbids it, and it cannot be removed without breaking the stream.
    #[error("policy forbids {0}")]
    Forbidden(&'static str),
    /// The protocol does not allow these bytes there, or they exceed a limit.
    #[error("the stream is malformed: {0}")]
    Malformed(&'static str),
}

/// Output of a filter for one chunk. Reused for the next one, so that nothing is allocated per
/// chunk.
#[derive(Debug, Default)]
pub struct Filtered {
    /// For the other side, in order.
    pub forward: VecDeque<Bytes>,
    /// For the side that sent the chunk, in order. Whole messages.
    pub replies: VecDeque<Bytes>,
    /// Refused transfers.
    pub refused: Vec<RefusedTransfer>,
}

/// Decides what of one direction may pass.
pub trait StreamFilter: Send {
    /// True when everything passes; the relay then skips the bookkeeping of refusals and replies.
    const PASS_THROUGH: bool = false;
    /// False when the filter never replies to the side it reads from.
    const REPLIES: bool = true;

    /// Filters the next chunk.
    ///
    /// # Errors
    /// [`StreamFilterError`] ends the stream. What was passed before may be sent.
    fn feed(&mut self, chunk: Bytes, passed: &mut Filtered) -> Result<(), StreamFilterError>;

    /// Whether the bytes forwarded so far end at a message boundary. The other filter's replies are
    /// inserted only there.
    fn at_message_boundary(&self) -> bool {
        true
    }
}

/// Forwards everything, at no cost.
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

/// One filter for each direction.
#[derive(Debug, Default)]
pub struct StreamFilters<U, D> {
    /// Browser to desktop.
    pub up: U,
    /// Desktop to browser.
    pub down: D,
}

impl StreamFilters<PassThrough, PassThrough> {
    /// Nothing is refused.
    pub const PASS_THROUGH: Self = Self { up: PassThrough, down: PassThrough };
}
