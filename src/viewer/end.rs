//! Why a stream ended: what the browser is told (close code and reason) and what the audit log is
//! told (one word).
//!
//! What fails beyond the gateway names its *leg*: `host:` (gateway to host) or `desktop:` (host to
//! desktop), then a sentence.

use super::gate::{Direction, GateError};
use super::rdp::cleanpath::CleanPathError;
use super::rdp::nla::NlaError;
use crate::broker::live::Right;
use crate::domain::server::CredentialSource;
use crate::domain::session::EndReason;
use crate::protocol::rdp::RdpError;
use crate::protocol::rdp::error_info::ErrorInfo;
use crate::protocol::rdp::x224::Failure;
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
    /// Nobody used the application for a while: 1001. The session goes on.
    Idle,
    /// Nobody watches over the right to this stream any more: 1001. Fails closed.
    Unwatched,
    /// The desktop could not be dialled, or not in time: 4002.
    Unreachable(std::io::Error),
    /// The desktop was reached, but no secure connection to it came about: 4002.
    Insecure(std::io::Error),
    /// Its certificate is not the one expected, or it shows none where one is: 4004.
    CertificateRefused(&'static str),
    /// The user must say who they are to the desktop: 4005.
    CredentialRequired(CredentialSource),
    /// The desktop did not take the credential: 4006, with its source and the word that says why.
    CredentialRefused {
        /// Where the credential came from.
        source: CredentialSource,
        /// Its word in the audit log.
        why: &'static str,
        /// What the desktop said.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What must be written down before going on could not be: 1001. Fails closed.
    Unrecorded(crate::domain::Error),
    /// A gate lets nothing through any more: 4007 when policy forbids it, else 1002 or 4002, by the
    /// side it came from.
    Gate(Direction, GateError),
    /// The browser asked for another destination than its lease's: 4007.
    OtherDestination,
    /// The desktop sends its users to another server, which no lease names: 4007.
    Redirected,
    /// The desktop said why it hangs up: 4008, with its word.
    DesktopLeft(ErrorInfo),
    /// What is leased is no desktop: 1002. Fails closed.
    NoDesktop,
    /// The desktop was reached, but the handshake failed: 4002.
    Handshake(RfbError),
    /// The desktop was reached, but the connection broke in the handshake, or it took too long:
    /// 4002.
    HandshakeBroken(std::io::Error),
    /// The desktop was reached, but it does not speak RDP as it must, or refuses it: 4002.
    Rdp(RdpError),
    /// The desktop was reached, but its part of CredSSP is wrong: 4002.
    Nla(NlaError),
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
    /// What the browser asks for is no connection: 1002.
    BrowserCleanPath(CleanPathError),
    /// The browser's part of the RDP handshake is wrong: 1002.
    BrowserRdp(RdpError),
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

    /// Code and reason of the close frame. A reason is at most 123 bytes (RFC 6455 section 5.5) and
    /// names nothing internal.
    #[must_use]
    pub fn close(&self) -> (u16, Cow<'static, str>) {
        match self {
            Self::Session(reason) => (4000, reason.as_str().into()),
            Self::SignedOut => (4001, "signed_out".into()),
            Self::PolicyChanged | Self::Draining | Self::Unwatched => (1001, "retry".into()),
            Self::Idle => (1001, "idle".into()),
            Self::Unreachable(error) if reached_host(error) => (4002, "desktop: The desktop does not take connections.".into()),
            Self::Unreachable(_) => (4002, "host: The desktop's host cannot be reached.".into()),
            Self::Insecure(_) => (4002, "desktop: No secure connection to the desktop comes about.".into()),
            Self::CertificateRefused(_) => (4004, "certificate_changed".into()),
            Self::CredentialRequired(source) => (4005, source.as_str().into()),
            Self::CredentialRefused { source, why, .. } => (4006, format!("{} {why}", source.as_str()).into()),
            Self::Unrecorded(_) => (1001, "retry".into()),
            Self::Gate(_, GateError::Forbidden(_)) | Self::OtherDestination => (4007, "policy".into()),
            Self::Redirected => (4007, "redirected".into()),
            Self::DesktopLeft(info) => (4008, info.word().into()),
            Self::NoDesktop => (1002, "A web application has no desktop's stream.".into()),
            Self::Gate(Direction::Up, GateError::Malformed(_)) => (1002, "The browser does not speak as it should.".into()),
            Self::Gate(Direction::Down, GateError::Malformed(_)) => (4002, "desktop: The desktop does not speak as it should.".into()),
            Self::Handshake(RfbError::Refused(reason)) if reason.is_lockout() => {
                (4002, "desktop: After too many failed logins the desktop takes none for a while. Wait, then try again.".into())
            }
            Self::Handshake(RfbError::NoSecurity { .. }) => {
                (4002, "desktop: The desktop asks for another proof than this workspace has.".into())
            }
            Self::Handshake(RfbError::Declined(_)) => (4002, "desktop: The desktop offers a kind of security that it then does not do.".into()),
            Self::Handshake(RfbError::TooLarge { width, height }) => {
                (4002, format!("desktop: A picture of {width} x {height} is too large for a browser.").into())
            }
            Self::Handshake(RfbError::Refused(_) | RfbError::Denied(_)) => (4002, "desktop: The desktop refused the connection.".into()),
            Self::Handshake(_) => (4002, "desktop: The desktop does not answer as a desktop should.".into()),
            Self::HandshakeBroken(_) => (4002, "desktop: The desktop does not answer.".into()),
            Self::Rdp(error) => (4002, rdp_reason(error).into()),
            Self::Nla(error) => (4002, nla_reason(error).into()),
            Self::DesktopGone | Self::DesktopStalled => (4002, "retry".into()),
            Self::BrowserClosed | Self::BrowserGone => (1000, "".into()),
            Self::BrowserSilent => (1001, "retry".into()),
            Self::BrowserIdle => (1002, "The handshake took too long.".into()),
            Self::BrowserNonsense(_) => (1002, "RFB 3.8 with security type None is spoken here.".into()),
            Self::BrowserCleanPath(_) => (1002, "RDCleanPath is spoken here.".into()),
            Self::BrowserRdp(_) => (1002, "RDP with TLS is spoken here.".into()),
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
            Self::Idle => "idle",
            Self::Unwatched => "right_unwatched",
            Self::Unreachable(_) => "desktop_unreachable",
            Self::Insecure(_) => "desktop_insecure",
            Self::CertificateRefused("certificate_missing") => "certificate_missing",
            Self::CertificateRefused(_) => "certificate_refused",
            Self::CredentialRequired(_) => "credential_required",
            Self::CredentialRefused { why, .. } => why,
            Self::Unrecorded(_) => "not_recorded",
            Self::Gate(_, GateError::Forbidden(_)) => "policy",
            Self::Gate(Direction::Up, GateError::Malformed(_)) => "browser_malformed",
            Self::Gate(Direction::Down, GateError::Malformed(_)) => "desktop_malformed",
            Self::OtherDestination => "other_destination",
            Self::Redirected => "rdp_redirected",
            Self::DesktopLeft(info) => info.word(),
            Self::NoDesktop => "no_desktop",
            Self::Handshake(error) => error.word(),
            Self::HandshakeBroken(_) => "handshake_broken",
            Self::Rdp(error) | Self::BrowserRdp(error) => error.word(),
            Self::Nla(error) => error.word(),
            Self::BrowserCleanPath(_) => "browser_nonsense",
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
            Self::Unreachable(error) | Self::HandshakeBroken(error) | Self::Insecure(error) => {
                Some(error)
            }
            Self::Handshake(error) | Self::BrowserNonsense(error) => Some(error),
            Self::Gate(_, error) => Some(error),
            Self::Rdp(error) | Self::BrowserRdp(error) => Some(error),
            Self::Nla(error) => Some(error),
            Self::BrowserCleanPath(error) => Some(error),
            Self::Unrecorded(error) => Some(error),
            Self::CredentialRefused { cause, .. } => Some(&**cause),
            Self::Session(_)
            | Self::SignedOut
            | Self::PolicyChanged
            | Self::Draining
            | Self::Idle
            | Self::Unwatched
            | Self::CertificateRefused(_)
            | Self::CredentialRequired(_)
            | Self::OtherDestination
            | Self::Redirected
            | Self::DesktopLeft(_)
            | Self::NoDesktop
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

/// What a user can be told of a server that speaks no RDP for us.
fn rdp_reason(error: &RdpError) -> &'static str {
    match error {
        RdpError::Refused(Failure::HybridRequired) => {
            "desktop: It requires a login before the connection (NLA)."
        }
        RdpError::Refused(Failure::SslNotAllowed) | RdpError::NoTls => {
            "desktop: It offers no TLS, only RDP's own encryption, which is not safe."
        }
        RdpError::Refused(Failure::NoCertificate) => "desktop: It has no certificate for TLS.",
        RdpError::Refused(Failure::UserAuthRequired) => {
            "desktop: It requires a user's certificate."
        }
        RdpError::Refused(
            Failure::SslRequired | Failure::InconsistentFlags | Failure::Unknown(_),
        ) => "desktop: The desktop refused the connection.",
        RdpError::DesktopSize { .. } | RdpError::MonitorLayout => {
            "desktop: It names a screen of a size that cannot be."
        }
        RdpError::CredentialTooLong(_) => {
            "desktop: The stored user name or password is too long for RDP."
        }
        RdpError::Redirected => "desktop: It sends its users on to another server.",
        RdpError::NotRdp { .. }
        | RdpError::TooLong { .. }
        | RdpError::Malformed(_)
        | RdpError::Unexpected(_)
        | RdpError::Protocol(_)
        | RdpError::Encrypted
        | RdpError::Compressed(_)
        | RdpError::Flood
        | RdpError::Spent => "desktop: The desktop does not answer as a desktop should.",
    }
}

/// What a user can be told of a login that came to no end.
fn nla_reason(error: &NlaError) -> &'static str {
    match error {
        NlaError::Binding => {
            "desktop: It could not prove that it is the server whose certificate it shows."
        }
        NlaError::Username => "desktop: The stored user name and domain cannot be used together.",
        NlaError::Refused(_)
        | NlaError::Certificate
        | NlaError::Nonsense(_)
        | NlaError::Failed(_)
        | NlaError::Broken(_) => "desktop: Its login before the connection (NLA) failed.",
    }
}

/// A host that says no is a host that was reached: what failed is its desktop.
pub(super) fn reached_host(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof,
    };
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof
    )
}
