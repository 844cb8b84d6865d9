//! `ServerInit` (section 7.3.2): size, pixel format and name of a desktop. Read by the gateway, so
//! that no browser receives a size it cannot hold.

use super::{Input, RfbError};

/// Bytes before the name.
const HEAD: usize = 24;
/// Bytes of a pixel format.
pub(super) const PIXEL_FORMAT: usize = 16;
/// Longest name of a desktop.
pub const MAX_NAME: usize = 2048;
/// Most pixels of a desktop on one side: X11's own limit.
pub const MAX_SIDE: u16 = 32_767;
/// Most pixels of a desktop: a browser keeps four bytes for each; four 4K screens have half as
/// many.
pub const MAX_AREA: u32 = 1 << 26;

/// Whether a browser can hold a picture of this size.
#[must_use]
pub(super) fn is_supported_size(width: u16, height: u16) -> bool {
    width <= MAX_SIDE && height <= MAX_SIDE && u32::from(width) * u32::from(height) <= MAX_AREA
}

/// Pixel format (section 7.4), as far as it determines lengths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PixelFormat {
    bits: u8,
    /// Tight encoding uses three bytes: depth 24, true colour, eight bits for each colour.
    packed_24: bool,
}

impl PixelFormat {
    /// Parses a pixel format of 16 bytes; `None` when it is invalid.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [bits, depth, _, colour, maxima @ ..] = bytes.first_chunk::<10>()?;
        if !matches!(bits, 8 | 16 | 32) {
            return None;
        }
        let three =
            *bits == 32 && *depth == 24 && *colour != 0 && *maxima == [0, 255, 0, 255, 0, 255];
        Some(Self { bits: *bits, packed_24: three })
    }

    /// Bytes of a pixel.
    #[must_use]
    pub fn bytes(self) -> u8 {
        self.bits / 8
    }

    /// Bytes of a pixel of Tight encoding.
    #[must_use]
    pub fn tight_bytes(self) -> u8 {
        if self.packed_24 { 3 } else { self.bytes() }
    }
}

/// A parsed `ServerInit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerInit {
    /// Length of the message, in bytes.
    pub length: usize,
    pub format: PixelFormat,
}

impl ServerInit {
    /// Parses the message at the front of the input; `None` while it is incomplete.
    ///
    /// # Errors
    /// [`RfbError`] for an unsupported size, pixel format or name.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, RfbError> {
        let mut input = Input::new(bytes);
        let Some(head) = input.array::<HEAD>() else { return Ok(None) };
        let at = |offset: usize| u16::from_be_bytes([head[offset], head[offset + 1]]);
        let (width, height) = (at(0), at(2));
        if !is_supported_size(width, height) {
            return Err(RfbError::TooLarge { width, height });
        }
        let format = PixelFormat::parse(&head[4..4 + PIXEL_FORMAT])
            .ok_or(RfbError::InvalidValue { what: "bits of a pixel", value: head[4].into() })?;
        let name = u32::from_be_bytes([head[20], head[21], head[22], head[23]]);
        match usize::try_from(name) {
            Ok(name) if name <= MAX_NAME => {
                Ok(input.take(name).map(|_| Self { length: HEAD + name, format }))
            }
            Ok(_) | Err(_) => {
                Err(RfbError::InvalidValue { what: "length of its name", value: name })
            }
        }
    }
}
