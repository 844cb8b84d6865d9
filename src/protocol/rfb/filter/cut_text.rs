//! Clipboard messages: type, padding (3), length. A length below 0 says that the extended clipboard
//! is spoken (the community's rfbproto, "Extended Clipboard Pseudo-encoding"): flags follow, of
//! which one bit is the action, or one says that the message tells capabilities.
//!
//! | action | sent by a side that | counts as |
//! | --- | --- | --- |
//! | caps | says what it takes | no transfer |
//! | request, peek | wants the other side's text, or to know whether it has some | the other direction |
//! | notify | has text | an announcement |
//! | provide | sends text, compressed | a transfer |

use super::framer::Verdict;
use super::{FilterError, Held, MAX_CUT_TEXT, Sieve, u32_at};

const CAPS: u32 = 1 << 24;
const REQUEST: u32 = 1 << 25;
const PEEK: u32 = 1 << 26;
const NOTIFY: u32 = 1 << 27;
const PROVIDE: u32 = 1 << 28;
const ACTIONS: u32 = 0xff00_0000;

const PLAIN_HEAD: usize = 8;
const EXTENDED_HEAD: usize = 12;

/// Which ways text may go, as the sender of a message sees it.
#[derive(Clone, Copy)]
pub(super) struct Ways {
    /// From the sender.
    pub(super) away: bool,
    /// To the sender.
    pub(super) back: bool,
}

/// Judges a clipboard message of either direction.
pub(super) fn judge(head: &[u8], ways: Ways, out: &mut impl Sieve) -> Result<Verdict, FilterError> {
    if head.len() < PLAIN_HEAD {
        return Ok(Verdict::More(PLAIN_HEAD));
    }
    let length = u32_at(head, 4).cast_signed();
    let size = length.unsigned_abs();
    if size > MAX_CUT_TEXT {
        return Err(FilterError::Malformed("clipboard text is too long"));
    }
    if length >= 0 {
        return Ok(if ways.away {
            Verdict::Keep(size.into())
        } else {
            out.hold(Held::Clipboard, size.into());
            Verdict::Drop(size.into())
        });
    }
    if head.len() < EXTENDED_HEAD {
        return if size < 4 {
            Err(FilterError::Malformed("a clipboard message without flags"))
        } else {
            Ok(Verdict::More(EXTENDED_HEAD))
        };
    }
    let (flags, body) = (u32_at(head, PLAIN_HEAD), u64::from(size) - 4);
    let held = if flags & CAPS != 0 {
        // A size for each of at most sixteen formats; anything longer would be a way to carry text.
        if body > 4 * 16 {
            return Err(FilterError::Malformed("clipboard capabilities are too long"));
        }
        None
    } else {
        match flags & ACTIONS {
            REQUEST | PEEK if body > 0 => {
                return Err(FilterError::Malformed("a clipboard request with a body"));
            }
            REQUEST | PEEK if ways.back => None,
            // What it asks for would be held back; nobody needs to hear that it was asked.
            REQUEST | PEEK => return Ok(Verdict::Drop(body)),
            NOTIFY if body > 0 => {
                return Err(FilterError::Malformed("a clipboard announcement with a body"));
            }
            NOTIFY => (!ways.away).then_some(0),
            PROVIDE => (!ways.away).then_some(body),
            _ => return Err(FilterError::Malformed("a clipboard message of no known action")),
        }
    };
    Ok(match held {
        None => Verdict::Keep(body),
        Some(bytes) => {
            out.hold(Held::Clipboard, bytes);
            Verdict::Drop(body)
        }
    })
}
