//! Why a stream ended: what the browser is told (close code and reason) and what the audit log is told (one word).

use crate::broker::live::Right;
use crate::domain::session::EndReason;
use crate::protocol::rfb::RfbError;
use std::borrow::Cow;

/// The end of a stream. Close codes are the contract's.
#[derive(Debug)]
pub enum End {
    /// The session ended: 4000, with its reason as the word the page shows a text for.
    Session(EndReason),
    /// The login ended; the session goes on: 4001.
    SignedOut,
    /// What the stream may carry was changed: 1001; it comes back under the new policy.
    PolicyChanged,
    /// The gateway is going away: 1001; the desktop stays, so the page comes back.
    Draining,
    /// Nobody watches over the right to this stream any more: 1001. Fails closed.
    Unwatched,
    /// The desktop could not be dialled, or not in time: 4002.
    Unreachable(std::io::Error),
    /// The desktop was reached, but the handshake failed: 4002.
    Handshake(RfbError),
    /// The desktop was reached, but the connection broke in the handshake, or it took too long: 4002.
    HandshakeBroken(std::io::Error),
    /// The desktop hung up, or the tunnel to it broke: 4002.
    DesktopGone,
    /// The desktop took no input for too long: 4002.
    DesktopStalled,
    /// The browser said goodbye: 1000.
    BrowserClosed,
    /// The browser's connection broke without a word.
    BrowserGone,
    /// The browser answered no ping for too long: 1001.
    BrowserSilent,
    /// The browser did not finish its handshake in time: 1002.
    BrowserIdle,
    /// The browser's part of the handshake is wrong: 1002.
    BrowserNonsense(RfbError),
    /// A text frame: 1003.
    Text,
    /// A frame, or what was sent before its time, is too big: 1009.
    TooBig,
    /// A frame that WebSocket does not know: 1002.
    BadFrame,
}

impl End {
    /// The end that losing the right is.
    #[must_use]
    pub(super) fn revoked(right: Right) -> Option<Self> {
        match right {
            Right::Held => None,
            Right::SessionEnded(reason) => Some(Self::Session(reason)),
            Right::SignedOut => Some(Self::SignedOut),
            Right::PolicyChanged => Some(Self::PolicyChanged),
        }
    }

    /// Code and reason of the close frame. A reason is at most 123 bytes (RFC 6455 section 5.5) and names nothing internal.
    #[must_use]
    pub fn close(&self) -> (u16, Cow<'static, str>) {
        match self {
            Self::Session(reason) => (4000, reason.as_str().into()),
            Self::SignedOut => (4001, "signed_out".into()),
            Self::PolicyChanged | Self::Draining | Self::Unwatched => (1001, "retry".into()),
            Self::Unreachable(_) => (4002, "The desktop cannot be reached.".into()),
            Self::Handshake(RfbError::Refused(_) | RfbError::Denied(_)) => (4002, "The desktop refused the connection.".into()),
            Self::Handshake(_) => (4002, "The desktop does not answer as a desktop should.".into()),
            Self::HandshakeBroken(_) => (4002, "The desktop does not answer.".into()),
            Self::DesktopGone | Self::DesktopStalled => (4002, "retry".into()),
            Self::BrowserClosed | Self::BrowserGone => (1000, "".into()),
            Self::BrowserSilent => (1001, "retry".into()),
            Self::BrowserIdle => (1002, "The handshake took too long.".into()),
            Self::BrowserNonsense(_) => (1002, "RFB 3.8 with security type None is spoken here.".into()),
            Self::Text => (1003, "Only binary frames are spoken here.".into()),
            Self::TooBig => (1009, "The frame is too big.".into()),
            Self::BadFrame => (1002, "The frame is malformed.".into()),
        }
    }

    /// Its word in the audit log.
    #[must_use]
    pub fn why(&self) -> &'static str {
        match self {
            Self::Session(reason) => reason.as_str(),
            Self::SignedOut => "signed_out",
            Self::PolicyChanged => "policy_changed",
            Self::Draining => "gateway_draining",
            Self::Unwatched => "right_unwatched",
            Self::Unreachable(_) => "desktop_unreachable",
            Self::Handshake(error) => error.word(),
            Self::HandshakeBroken(_) => "handshake_broken",
            Self::DesktopGone => "desktop_gone",
            Self::DesktopStalled => "desktop_stalled",
            Self::BrowserClosed => "browser_closed",
            Self::BrowserGone => "browser_gone",
            Self::BrowserSilent => "browser_silent",
            Self::BrowserIdle => "browser_idle",
            Self::BrowserNonsense(_) => "browser_nonsense",
            Self::Text => "text_frame",
            Self::TooBig => "frame_too_big",
            Self::BadFrame => "bad_frame",
        }
    }

    /// What the log says beside the word; for failures only.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) | Self::HandshakeBroken(error) => Some(error),
            Self::Handshake(error) | Self::BrowserNonsense(error) => Some(error),
            Self::Session(_)
            | Self::SignedOut
            | Self::PolicyChanged
            | Self::Draining
            | Self::Unwatched
            | Self::DesktopGone
            | Self::DesktopStalled
            | Self::BrowserClosed
            | Self::BrowserGone
            | Self::BrowserSilent
            | Self::BrowserIdle
            | Self::Text
            | Self::TooBig
            | Self::BadFrame => None,
        }
    }
}
