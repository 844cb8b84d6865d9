//! Messages of a browser.

use super::cut_text::{self, AllowedDirections};
use super::framer::{Framer, HeadDecision, HeadParser};
use super::rects::has_known_length;
use super::{
    FilterError, FilterSink, Permissions, RefusedContent, SharedPixelFormat, u16_at, u32_at,
};
use crate::protocol::rfb::init::PixelFormat;
use bytes::{BufMut, Bytes, BytesMut};

/// Message types.
mod kind {
    pub(super) const SET_PIXEL_FORMAT: u8 = 0;
    pub(super) const SET_ENCODINGS: u8 = 2;
    pub(super) const UPDATE_REQUEST: u8 = 3;
    pub(super) const KEY: u8 = 4;
    pub(super) const POINTER: u8 = 5;
    pub(super) const CUT_TEXT: u8 = 6;
    pub(super) const CONTINUOUS_UPDATES: u8 = 150;
    pub(super) const FENCE: u8 = 248;
    /// Shuts down or restarts the machine of the desktop.
    pub(super) const XVP: u8 = 250;
    pub(super) const SET_DESKTOP_SIZE: u8 = 251;
    pub(super) const QEMU: u8 = 255;
}

/// Pseudo-encodings that allow the browser messages of other lengths. They are removed, because
/// such messages could bypass a policy.
mod pseudo {
    /// Pointer messages may be a byte longer.
    pub(super) const EXTENDED_MOUSE_BUTTONS: i32 = -316;
    pub(super) const QEMU_AUDIO: i32 = -259;
    /// Further input devices.
    pub(super) const GII: i32 = -305;
    pub(super) const EXTENDED_CLIPBOARD: i32 = 0xc0a1_e5ce_u32.cast_signed();
}

/// Filter of this direction.
#[derive(Debug)]
pub struct UpFilter {
    framer: Framer,
    messages: Messages,
}

#[derive(Debug)]
struct Messages {
    permissions: Permissions,
    format: SharedPixelFormat,
    /// An update was requested: from now on the desktop may send rectangles in the current pixel
    /// format.
    update_requested: bool,
}

impl UpFilter {
    /// With these permissions; `format` is shared with the other direction.
    #[must_use]
    pub fn new(permissions: Permissions, format: SharedPixelFormat) -> Self {
        Self {
            framer: Framer::default(),
            messages: Messages { permissions, format, update_requested: false },
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
        self.framer.at_message_boundary()
    }
}

impl Messages {
    /// Decides on a message that acts on the desktop.
    fn input(&self, length: usize, body: u64, out: &mut impl FilterSink) -> HeadDecision {
        if self.permissions.input {
            return HeadDecision::Pass(body);
        }
        out.refuse(RefusedContent::Input, length as u64 + body);
        HeadDecision::Drop(body)
    }

    fn allows_encoding(&self, encoding: i32) -> bool {
        match encoding {
            pseudo::EXTENDED_MOUSE_BUTTONS | pseudo::QEMU_AUDIO | pseudo::GII => false,
            // Where text may not pass at all, plain messages tell how much was refused.
            pseudo::EXTENDED_CLIPBOARD => {
                self.permissions.clipboard_in || self.permissions.clipboard_out
            }
            encoding => self.permissions.clipboard_out || has_known_length(encoding),
        }
    }

    /// `SetEncodings` with the allowed encodings.
    fn encodings(&self, head: &[u8]) -> Bytes {
        let allowed_encodings = head
            .split_at(4)
            .1
            .chunks_exact(4)
            .filter(|encoding| self.allows_encoding(u32_at(encoding, 0).cast_signed()));
        let mut message = BytesMut::with_capacity(head.len());
        message.put_slice(&[kind::SET_ENCODINGS, 0, 0, 0]);
        let mut count = 0_u16;
        for encoding in allowed_encodings {
            message.put_slice(encoding);
            count += 1;
        }
        message[2..4].copy_from_slice(&count.to_be_bytes());
        message.freeze()
    }
}

impl HeadParser for Messages {
    fn min_head(&self) -> usize {
        1
    }

    fn at_message_boundary(&self) -> bool {
        true
    }

    fn decide(
        &mut self,
        head: &[u8],
        out: &mut impl FilterSink,
    ) -> Result<HeadDecision, FilterError> {
        let kind = head.first().copied().unwrap_or(0);
        let length = match kind {
            kind::SET_PIXEL_FORMAT => 20,
            kind::SET_ENCODINGS if head.len() < 4 => 4,
            kind::SET_ENCODINGS => 4 + 4 * usize::from(u16_at(head, 2)),
            kind::UPDATE_REQUEST | kind::CONTINUOUS_UPDATES => 10,
            kind::KEY => 8,
            kind::POINTER => 6,
            kind::CUT_TEXT => {
                let allowed = AllowedDirections {
                    from_sender: self.permissions.clipboard_in,
                    to_sender: self.permissions.clipboard_out,
                };
                return cut_text::decide(head, allowed, out);
            }
            kind::FENCE => 9,
            kind::XVP => 4,
            kind::SET_DESKTOP_SIZE => 8,
            // Of QEMU's messages only keys pass; sound would be another channel.
            kind::QEMU if head.get(1).is_some_and(|submessage| *submessage != 0) => {
                return Err(FilterError::Forbidden("a message of QEMU other than keys"));
            }
            kind::QEMU => 12,
            _ => return Err(FilterError::Forbidden("a message that the gateway does not know")),
        };
        if head.len() < length {
            return Ok(HeadDecision::NeedMore(if kind == kind::QEMU && head.len() < 2 {
                2
            } else {
                length
            }));
        }
        Ok(match kind {
            kind::SET_PIXEL_FORMAT => {
                if self.update_requested && !self.permissions.clipboard_out {
                    return Err(FilterError::Forbidden("another pixel format in mid-stream"));
                }
                let format = PixelFormat::parse(head.split_at(4).1)
                    .ok_or(FilterError::Malformed("pixels of an impossible size"))?;
                self.format.set(format);
                HeadDecision::Pass(0)
            }
            kind::SET_ENCODINGS => HeadDecision::Replace(self.encodings(head)),
            kind::UPDATE_REQUEST | kind::CONTINUOUS_UPDATES => {
                self.update_requested = true;
                HeadDecision::Pass(0)
            }
            kind::FENCE => HeadDecision::Pass(head.last().copied().unwrap_or(0).into()),
            kind::SET_DESKTOP_SIZE => {
                self.input(length, 16 * u64::from(head.get(6).copied().unwrap_or(0)), out)
            }
            _ => self.input(length, 0, out),
        })
    }
}
