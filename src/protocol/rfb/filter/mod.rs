//! What of an RFB stream may pass, by policy: a parser of frames in each direction, from the byte
//! behind `ServerInit` on.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `framer` | heads, which are judged, and bodies, which are skipped: bytes are slices of what arrived, never decoded |
//! | [`up`] | what a browser sends (RFC 6143 section 7.5, and the extensions that browsers use) |
//! | [`down`] | what a desktop sends (section 7.6) |
//! | `rects` | how long a rectangle is, for each encoding whose length can be told without decoding it (section 7.7) |
//! | `cut_text` | clipboard messages, plain and extended |
//!
//! Clipboard text out of the desktop stands between rectangles, so [`down`] must know where each
//! ends; therefore [`up`] takes encodings whose length cannot be told out of the browser's list
//! (`SetEncodings`), and holds the browser to the pixel format it began with. What policy forbids
//! and cannot be taken out, and every message that is not known, ends the stream: nothing passes
//! because it was not understood.
//!
//! Pure. Memory: a head of at most 4 KiB for each direction, whatever the lengths say.

mod cut_text;
pub mod down;
mod framer;
mod rects;
pub mod up;

use super::init::PixelFormat;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Longest clipboard message. A longer one is a lie, or nothing a browser could take.
pub const MAX_CUT_TEXT: u32 = 16 * 1024 * 1024;

/// What policy allows. *In* is into the desktop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permissions {
    /// Clipboard text into the desktop.
    pub clipboard_in: bool,
    /// Clipboard text out of the desktop.
    pub clipboard_out: bool,
    /// Keys, pointer, and the desktop's size.
    pub input: bool,
}

impl Permissions {
    /// Nothing is forbidden.
    pub const ALL: Self = Self { clipboard_in: true, clipboard_out: true, input: true };
}

/// What was held back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusedContent {
    /// Clipboard text, or the announcement of some.
    Clipboard,
    /// A key, the pointer, another size.
    Input,
}

/// Takes what a filter makes of a chunk.
pub trait FilterSink {
    /// This goes on.
    fn pass(&mut self, piece: Bytes);
    /// This was held back; so many bytes of content, 0 for an announcement.
    fn refuse(&mut self, held: RefusedContent, bytes: u64);
}

/// Why a filter lets nothing through any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FilterError {
    /// Under this policy it may not be sent, and it cannot be taken out.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The protocol does not allow it, or it is beyond a limit.
    #[error("{0}")]
    Malformed(&'static str),
}

/// The pixel format in force, known to both directions.
#[derive(Clone, Debug)]
pub struct SharedPixelFormat(Arc<AtomicU32>);

impl SharedPixelFormat {
    /// That of `ServerInit`.
    #[must_use]
    pub fn new(format: PixelFormat) -> Self {
        let this = Self(Arc::default());
        this.set(format);
        this
    }

    fn set(&self, format: PixelFormat) {
        self.0.store(
            u32::from(format.bytes()) << 8 | u32::from(format.tight_bytes()),
            Ordering::Relaxed,
        );
    }

    /// Bytes of a pixel, and of one of Tight encoding.
    fn get(&self) -> (u64, u64) {
        let both = self.0.load(Ordering::Relaxed);
        ((both >> 8).into(), (both & 0xff).into())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_be_bytes)
}
