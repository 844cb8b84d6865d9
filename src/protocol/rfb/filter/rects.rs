//! Lengths of rectangles. Only lengths are read; the browser validates the pixels.

use super::{FilterError, u16_at, u32_at};
use crate::protocol::rfb::init::is_supported_size;

/// Encodings (RFC 6143 section 7.7, the community's rfbproto).
mod encoding {
    pub(super) const RAW: i32 = 0;
    pub(super) const COPY_RECT: i32 = 1;
    pub(super) const RRE: i32 = 2;
    pub(super) const HEXTILE: i32 = 5;
    pub(super) const ZLIB: i32 = 6;
    pub(super) const TIGHT: i32 = 7;
    pub(super) const ZRLE: i32 = 16;
    pub(super) const H264: i32 = 50;
    pub(super) const TIGHT_PNG: i32 = -260;
    pub(super) const DESKTOP_SIZE: i32 = -223;
    pub(super) const LAST_RECT: i32 = -224;
    pub(super) const CURSOR: i32 = -239;
    pub(super) const X_CURSOR: i32 = -240;
    pub(super) const QEMU_KEYS: i32 = -258;
    pub(super) const QEMU_LEDS: i32 = -261;
    pub(super) const DESKTOP_NAME: i32 = -307;
    pub(super) const EXTENDED_DESKTOP_SIZE: i32 = -308;
    pub(super) const XVP: i32 = -309;
    pub(super) const FENCE: i32 = -312;
    pub(super) const CONTINUOUS_UPDATES: i32 = -313;
    pub(super) const VMWARE_CURSOR: i32 = 0x574d_5664;
    pub(super) const VMWARE_LEDS: i32 = 0x574d_5668;
}

/// Longest name of a desktop.
const MAX_NAME: u64 = 64 * 1024;
/// Bytes that a rectangle's data may have beyond its pixels.
const MAX_OVERHEAD: u64 = 64 * 1024;

/// Tight compression control of a JPEG, in the upper bits.
const JPEG: u8 = 9;
/// Pixel data of a Tight rectangle below this many bytes is not compressed and has no length field.
const MIN_COMPRESSED: u64 = 12;

/// Whether the length of such rectangles can be computed, or it is a pseudo-encoding without
/// rectangles: quality and compression levels, and the like.
pub(super) fn has_known_length(encoding: i32) -> bool {
    use encoding::{
        CONTINUOUS_UPDATES, COPY_RECT, CURSOR, DESKTOP_NAME, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE,
        FENCE, H264, HEXTILE, LAST_RECT, QEMU_KEYS, QEMU_LEDS, RAW, RRE, TIGHT, TIGHT_PNG,
        VMWARE_CURSOR, VMWARE_LEDS, X_CURSOR, XVP, ZLIB, ZRLE,
    };
    matches!(
        encoding,
        RAW | COPY_RECT
            | RRE
            | HEXTILE
            | ZLIB
            | TIGHT
            | ZRLE
            | H264
            | TIGHT_PNG
            | DESKTOP_SIZE
            | LAST_RECT
            | CURSOR
            | X_CURSOR
            | QEMU_KEYS
            | QEMU_LEDS
            | DESKTOP_NAME
            | EXTENDED_DESKTOP_SIZE
            | XVP
            | FENCE
            | CONTINUOUS_UPDATES
            | VMWARE_CURSOR
            | VMWARE_LEDS
            // JPEG quality; compression; fine quality and subsampling of TurboVNC.
            | -32..=-23
            | -256..=-247
            | -768..=-763
            | -512..=-412
    )
}

/// Result of reading a head inside an update.
pub(super) enum RectStep {
    /// The head is incomplete: its length in bytes is at least this.
    NeedMore(usize),
    /// So many bytes follow, and the rectangle ends.
    Last(u64),
    /// So many bytes follow, then another head of this rectangle.
    Continue(u64, RectState),
    /// There are no more rectangles, whatever the count was.
    EndOfUpdate,
}

/// A rectangle with more heads.
#[derive(Clone, Copy, Debug)]
pub(super) struct RectState {
    width: u64,
    height: u64,
    pixel: u64,
    tight_pixel: u64,
    next: NextHead,
}

/// The next head of a rectangle.
#[derive(Clone, Copy, Debug)]
enum NextHead {
    /// A count of subrectangles.
    Rre,
    /// The next tile, counted by row.
    Tile(u64),
    /// A byte count of 4 bytes.
    Length,
    /// A byte count of 4 bytes, and flags.
    H264,
    /// A name's byte count.
    Name,
    /// A compression control.
    Tight,
    /// A byte count of 1 to 3 bytes.
    TightLength,
    /// A number of screens.
    Screens,
    /// A kind of cursor.
    VmwareCursor,
}

impl RectState {
    /// Length of a rectangle's first head.
    pub(super) const HEAD: usize = 12;

    /// Reads a rectangle's first head; `pixel` and `tight_pixel` are bytes of a pixel.
    pub(super) fn begin(
        head: &[u8],
        (pixel, tight_pixel): (u64, u64),
    ) -> Result<RectStep, FilterError> {
        let (width, height) = (u16_at(head, 4), u16_at(head, 6));
        if !is_supported_size(width, height) {
            return Err(FilterError::Malformed("a rectangle is too large"));
        }
        let (width, height) = (u64::from(width), u64::from(height));
        let area = width * height;
        let then =
            |due| RectStep::Continue(0, Self { width, height, pixel, tight_pixel, next: due });
        Ok(match u32_at(head, 8).cast_signed() {
            encoding::RAW => RectStep::Last(area * pixel),
            encoding::COPY_RECT => RectStep::Last(4),
            encoding::RRE => then(NextHead::Rre),
            encoding::HEXTILE if area == 0 => RectStep::Last(0),
            encoding::HEXTILE => then(NextHead::Tile(0)),
            encoding::ZLIB | encoding::ZRLE => then(NextHead::Length),
            encoding::H264 => then(NextHead::H264),
            encoding::TIGHT | encoding::TIGHT_PNG => then(NextHead::Tight),
            encoding::DESKTOP_SIZE | encoding::QEMU_KEYS => RectStep::Last(0),
            encoding::LAST_RECT => RectStep::EndOfUpdate,
            encoding::CURSOR => RectStep::Last(area * pixel + width.div_ceil(8) * height),
            encoding::X_CURSOR if area == 0 => RectStep::Last(0),
            encoding::X_CURSOR => RectStep::Last(6 + 2 * width.div_ceil(8) * height),
            encoding::QEMU_LEDS => RectStep::Last(1),
            encoding::VMWARE_LEDS => RectStep::Last(4),
            encoding::DESKTOP_NAME => then(NextHead::Name),
            encoding::EXTENDED_DESKTOP_SIZE => then(NextHead::Screens),
            encoding::VMWARE_CURSOR => then(NextHead::VmwareCursor),
            _ => return Err(FilterError::Forbidden("a rectangle whose length cannot be told")),
        })
    }

    /// The length of a whole rectangle that can be computed from its first bytes; `None` when more
    /// heads are needed, or the head needs its own decision. These are the bulk of updates: many
    /// small rectangles cost one head each.
    #[inline]
    pub(super) fn single_head_length(rest: &[u8], (pixel, tight_pixel): (u64, u64)) -> Option<u64> {
        let head = rest.first_chunk::<12>()?;
        let [_, _, _, _, w1, w0, h1, h0, e3, e2, e1, e0] = *head;
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        if !is_supported_size(width, height) {
            return None;
        }
        let (width, height) = (u64::from(width), u64::from(height));
        let state = Self { width, height, pixel, tight_pixel, next: NextHead::Length };
        let head = Self::HEAD as u64;
        match i32::from_be_bytes([e3, e2, e1, e0]) {
            encoding::RAW => Some(head + width * height * pixel),
            encoding::COPY_RECT => Some(head + 4),
            encoding::ZLIB | encoding::ZRLE => {
                let length =
                    rest.get(Self::HEAD..)?.first_chunk().copied().map(u32::from_be_bytes)?;
                Some(head + 4 + state.checked_length(length.into(), 0).ok()?)
            }
            encoding::TIGHT => {
                let (control, rest) = rest.get(Self::HEAD..)?.split_first()?;
                // Pixels without a filter, long enough to have a length field; or a JPEG, which
                // always has one.
                let has_length = match control >> 4 {
                    0..=3 => width * height * tight_pixel >= MIN_COMPRESSED,
                    JPEG => true,
                    _ => false,
                };
                let (bytes, length) = match *rest {
                    [a @ ..0x80, ..] => (1, u64::from(a)),
                    [a, b @ ..0x80, ..] => (2, u64::from(a & 0x7f) | u64::from(b) << 7),
                    [a, b, c, ..] => {
                        (3, u64::from(a & 0x7f) | u64::from(b & 0x7f) << 7 | u64::from(c) << 14)
                    }
                    [..] => return None,
                };
                has_length.then_some(())?;
                Some(head + 1 + bytes + state.checked_length(length, 0).ok()?)
            }
            _ => None,
        }
    }

    /// Reads a further head.
    pub(super) fn advance(&self, head: &[u8]) -> Result<RectStep, FilterError> {
        let first = u64::from(head.first().copied().unwrap_or(0));
        let min_length = match self.next {
            NextHead::Rre | NextHead::Length | NextHead::Name => 4,
            NextHead::H264 => 8,
            NextHead::VmwareCursor => 2,
            NextHead::Screens => 4,
            NextHead::Tile(_) | NextHead::Tight | NextHead::TightLength => 1,
        };
        if head.len() < min_length {
            return Ok(RectStep::NeedMore(min_length));
        }
        let number = u64::from(u32_at(head, 0));
        Ok(match self.next {
            NextHead::Rre => RectStep::Last(
                self.checked_length(self.pixel + number * (self.pixel + 8), 8 * (self.area() + 1))?,
            ),
            NextHead::Length | NextHead::H264 => RectStep::Last(self.checked_length(number, 0)?),
            NextHead::Name if number > MAX_NAME => {
                return Err(FilterError::Malformed("a desktop's name is too long"));
            }
            NextHead::Name => RectStep::Last(number),
            NextHead::Screens => RectStep::Last(16 * first),
            NextHead::VmwareCursor => match first {
                0 => RectStep::Last(2 * self.area() * self.pixel),
                1 => RectStep::Last(4 * self.area()),
                _ => return Err(FilterError::Malformed("a cursor of no known kind")),
            },
            NextHead::Tile(tile) => self.tile(tile, head),
            NextHead::Tight => self.tight(head)?,
            NextHead::TightLength => {
                let byte = |at: usize| u64::from(head.get(at).copied().unwrap_or(0));
                match head.len() {
                    1 if byte(0) & 0x80 != 0 => RectStep::NeedMore(2),
                    2 if byte(1) & 0x80 != 0 => RectStep::NeedMore(3),
                    1 => RectStep::Last(byte(0)),
                    2 => RectStep::Last(byte(0) & 0x7f | byte(1) << 7),
                    _ => RectStep::Last(self.checked_length(
                        byte(0) & 0x7f | (byte(1) & 0x7f) << 7 | byte(2) << 14,
                        0,
                    )?),
                }
            }
        })
    }

    fn area(&self) -> u64 {
        self.width * self.height
    }

    /// Checks that a length is plausible for these pixels.
    fn checked_length(&self, length: u64, extra: u64) -> Result<u64, FilterError> {
        let max = 2 * self.area() * self.pixel.max(4) + extra + MAX_OVERHEAD;
        if length > max {
            Err(FilterError::Malformed("a rectangle claims more bytes than it can need"))
        } else {
            Ok(length)
        }
    }

    fn continue_with(&self, body: u64, due: NextHead) -> RectStep {
        RectStep::Continue(body, Self { next: due, ..*self })
    }

    /// Section 7.7.4: tiles of 16 by 16, each with a mask of what follows.
    fn tile(&self, tile: u64, head: &[u8]) -> RectStep {
        const RAW: u8 = 1;
        const BACKGROUND: u8 = 2;
        const FOREGROUND: u8 = 4;
        const SUBRECTS: u8 = 8;
        const COLOURED: u8 = 16;
        let tiles_per_row = self.width.div_ceil(16);
        let (column, row) = (tile % tiles_per_row, tile / tiles_per_row);
        let size = (self.width - 16 * column).min(16) * (self.height - 16 * row).min(16);
        let mask = head.first().copied().unwrap_or(0);
        let has = |bit: u8| mask & bit != 0;
        let colours = self.pixel * (u64::from(has(BACKGROUND)) + u64::from(has(FOREGROUND)));
        let body = if has(RAW) {
            size * self.pixel
        } else if has(SUBRECTS) {
            let length = usize::try_from(2 + colours).unwrap_or(usize::MAX);
            if head.len() < length {
                return RectStep::NeedMore(length);
            }
            let each = 2 + if has(COLOURED) { self.pixel } else { 0 };
            each * u64::from(head.last().copied().unwrap_or(0))
        } else {
            colours
        };
        if tile + 1 == tiles_per_row * self.height.div_ceil(16) {
            RectStep::Last(body)
        } else {
            self.continue_with(body, NextHead::Tile(tile + 1))
        }
    }

    /// rfbproto, "Tight Encoding": a control byte, perhaps a filter and its palette, and data that
    /// have a length from 12 bytes on.
    fn tight(&self, head: &[u8]) -> Result<RectStep, FilterError> {
        const FILL: u8 = 8;
        const PNG: u8 = 10;
        const WITH_FILTER: u8 = 4;
        let control = head.first().copied().unwrap_or(0) >> 4;
        let (prefix, data) = match control {
            FILL => return Ok(RectStep::Last(self.tight_pixel)),
            JPEG | PNG => return Ok(self.continue_with(0, NextHead::TightLength)),
            11.. => return Err(FilterError::Malformed("a Tight rectangle of no known kind")),
            _ if control & WITH_FILTER == 0 => (0, self.area() * self.tight_pixel),
            _ => match (head.get(1), head.get(2)) {
                (None, _) => return Ok(RectStep::NeedMore(2)),
                (Some(0 | 2), _) => (0, self.area() * self.tight_pixel),
                (Some(1), None) => return Ok(RectStep::NeedMore(3)),
                (Some(1), Some(last)) => {
                    let colours = u64::from(*last) + 1;
                    let row = if colours <= 2 { self.width.div_ceil(8) } else { self.width };
                    (colours * self.tight_pixel, row * self.height)
                }
                (Some(_), _) => {
                    return Err(FilterError::Malformed("a Tight filter of no known kind"));
                }
            },
        };
        Ok(if data < MIN_COMPRESSED {
            RectStep::Last(prefix + data)
        } else {
            self.continue_with(prefix, NextHead::TightLength)
        })
    }
}
