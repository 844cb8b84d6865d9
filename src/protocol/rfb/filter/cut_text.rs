//! Clipboard messages: type, padding (3), length. A negative length marks the extended clipboard
//! (the community's rfbproto, "Extended Clipboard Pseudo-encoding"): flags follow, with one bit for
//! the action, or one for capabilities.
//!
//! | action | meaning | counts as |
//! | --- | --- | --- |
//! | caps | supported formats and sizes | no transfer |
//! | request, peek | requests the other side's text, or whether it has some | the other direction |
//! | notify | text is available | an announcement |
//! | provide | text, compressed | a transfer |

use super::framer::HeadDecision;
use super::{FilterError, FilterSink, MAX_CUT_TEXT, RefusedContent, u32_at};

const CAPS: u32 = 1 << 24;
const REQUEST: u32 = 1 << 25;
const PEEK: u32 = 1 << 26;
const NOTIFY: u32 = 1 << 27;
const PROVIDE: u32 = 1 << 28;
const ACTIONS: u32 = 0xff00_0000;

const PLAIN_HEAD: usize = 8;
const EXTENDED_HEAD: usize = 12;

/// Allowed directions of text, relative to the sender of a message.
#[derive(Clone, Copy)]
pub(super) struct AllowedDirections {
    /// From the sender.
    pub(super) from_sender: bool,
    /// To the sender.
    pub(super) to_sender: bool,
}

/// Decides on a clipboard message of either direction.
pub(super) fn decide(
    head: &[u8],
    allowed: AllowedDirections,
    out: &mut impl FilterSink,
) -> Result<HeadDecision, FilterError> {
    if head.len() < PLAIN_HEAD {
        return Ok(HeadDecision::NeedMore(PLAIN_HEAD));
    }
    let length = u32_at(head, 4).cast_signed();
    let size = length.unsigned_abs();
    if size > MAX_CUT_TEXT {
        return Err(FilterError::Malformed("clipboard text is too long"));
    }
    if length >= 0 {
        return Ok(if allowed.from_sender {
            HeadDecision::Pass(size.into())
        } else {
            out.refuse(RefusedContent::Clipboard, size.into());
            HeadDecision::Drop(size.into())
        });
    }
    if head.len() < EXTENDED_HEAD {
        return if size < 4 {
            Err(FilterError::Malformed("a clipboard message without flags"))
        } else {
            Ok(HeadDecision::NeedMore(EXTENDED_HEAD))
        };
    }
    let (flags, body) = (u32_at(head, PLAIN_HEAD), u64::from(size) - 4);
    let refused = if flags & CAPS != 0 {
        // A size for each of at most sixteen formats; a longer body could carry text.
        if body > 4 * 16 {
            return Err(FilterError::Malformed("clipboard capabilities are too long"));
        }
        None
    } else {
        match flags & ACTIONS {
            REQUEST | PEEK if body > 0 => {
                return Err(FilterError::Malformed("a clipboard request with a body"));
            }
            REQUEST | PEEK if allowed.to_sender => None,
            // The requested text would be refused; the request is dropped without a count.
            REQUEST | PEEK => return Ok(HeadDecision::Drop(body)),
            NOTIFY if body > 0 => {
                return Err(FilterError::Malformed("a clipboard announcement with a body"));
            }
            NOTIFY => (!allowed.from_sender).then_some(0),
            PROVIDE => (!allowed.from_sender).then_some(body),
            _ => return Err(FilterError::Malformed("a clipboard message of no known action")),
        }
    };
    Ok(match refused {
        None => HeadDecision::Pass(body),
        Some(bytes) => {
            out.refuse(RefusedContent::Clipboard, bytes);
            HeadDecision::Drop(body)
        }
    })
}
