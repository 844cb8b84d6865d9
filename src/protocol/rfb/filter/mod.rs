//! Filters an RFB stream by policy: a parser of messages in each direction, from the byte after
//! `ServerInit` on.
//!
//! | file | contents |
//! | --- | --- |
//! | `framer` | splits a stream into heads, which are decided on, and bodies, which are skipped: slices of the input, never decoded |
//! | [`up`] | messages of a browser (RFC 6143 section 7.5, and the extensions that browsers use) |
//! | [`down`] | messages of a desktop (section 7.6) |
//! | `rects` | the length of a rectangle, for each encoding for which it can be computed without decoding (section 7.7) |
//! | `cut_text` | clipboard messages, plain and extended |
//!
//! Clipboard text from the desktop stands between rectangles, so [`down`] must find the end of
//! each; therefore [`up`] removes encodings of unknown length from the browser's list
//! (`SetEncodings`), and fixes the initial pixel format. Forbidden content that cannot be removed,
//! and every unknown message, ends the stream.
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

/// Longest clipboard message that is accepted.
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
    pub const ALL: Self = Self { clipboard_in: true, clipboard_out: true, input: true };
}

/// What was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusedContent {
    /// Clipboard text, or its announcement.
    Clipboard,
    /// A key, the pointer, or a desktop size.
    Input,
}

/// Receives the output of a filter.
pub trait FilterSink {
    /// Forwards a piece.
    fn pass(&mut self, piece: Bytes);
    /// Counts refused content; `bytes` is 0 for an announcement.
    fn refuse(&mut self, content: RefusedContent, bytes: u64);
}

/// Why a filter stops the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FilterError {
    /// Policy forbids it, and it cannot be removed.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The protocol does not allow it, or it exceeds a limit.
    #[error("{0}")]
    Malformed(&'static str),
}

/// The current pixel format, shared by both directions.
#[derive(Clone, Debug)]
pub struct SharedPixelFormat(Arc<AtomicU32>);

impl SharedPixelFormat {
    /// Starts with the format of `ServerInit`.
    #[must_use]
    pub fn new(format: PixelFormat) -> Self {
        let shared = Self(Arc::default());
        shared.set(format);
        shared
    }

    fn set(&self, format: PixelFormat) {
        self.0.store(
            u32::from(format.bytes()) << 8 | u32::from(format.tight_bytes()),
            Ordering::Relaxed,
        );
    }

    /// Bytes of a pixel, and of a pixel of Tight encoding.
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
