//! Why a stream ended: close code and close reason for the browser, reason code for the audit log.
//!
//! The reason of a failure beyond the gateway begins with its *segment*: `host:` (gateway to host)
//! or `desktop:` (host to desktop), then a sentence.

use super::rdp::nla::NlaError;
use super::stream_filter::{Direction, StreamFilterError};
use crate::broker::core::stream_registry::StreamAuthorization;
use crate::domain::session::EndReason;
use crate::domain::upstream::CredentialSource;
use crate::protocol::rdp::RdpError;
use crate::protocol::rdp::cleanpath::CleanPathError;
use crate::protocol::rdp::error_info::ErrorInfo;
use crate::protocol::rdp::x224::NegotiationFailure;
use crate::protocol::rfb::RfbError;
use std::borrow::Cow;

/// The end of a stream, with its WebSocket close code.
#[derive(Debug)]
pub enum StreamEnd {
    /// The session ended: 4000; the close reason is the code for which the page shows a text.
    SessionEnded(EndReason),
    /// The login ended; the session goes on: 4001.
    SignedOut,
    /// The policy or the trust rule of the workspace was changed: 1001; the page reconnects under
    /// the new one.
    PolicyChanged,
    /// The gateway shuts down: 1001; the desktop stays, and the page reconnects.
    Draining,
    /// The application was not used for a while: 1001. The session goes on.
    Idle,
    /// The sender of the authorization is gone: 1001. Fails closed.
    AuthorizationUnknown,
    /// The desktop could not be dialled, or not in time: 4002.
    Unreachable(std::io::Error),
    /// The desktop was reached, but the TLS handshake failed: 4002.
    TlsFailed(std::io::Error),
    /// The certificate is not the expected one, or there is none where one is expected: 4004.
    CertificateRefused(&'static str),
    /// The user must enter a credential for the desktop: 4005.
    CredentialRequired(CredentialSource),
    /// The desktop did not accept the credential: 4006, with the credential's source and the reason
    /// code.
    CredentialRefused {
        source: CredentialSource,
        /// Reason code of the audit log.
        reason: &'static str,
        /// The desktop's error.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An audit entry that must be stored first could not be: 1001. Fails closed.
    AuditFailed(crate::domain::Error),
    /// A filter stopped the stream: 4007 when policy forbids its content, else 1002 or 4002, by the
    /// side it came from.
    Filter(Direction, StreamFilterError),
    /// The browser requested another destination than its lease's: 4007.
    DestinationMismatch,
    /// The desktop redirects to another server, which no lease names: 4007.
    Redirected,
    /// The desktop announced why it disconnects: 4008, with the reason code.
    DesktopDisconnected(ErrorInfo),
    /// The lease is for a workspace without a desktop: 1002. Fails closed.
    NoDesktop,
    /// The desktop was reached, but the handshake failed: 4002.
    Handshake(RfbError),
    /// The desktop was reached, but the connection failed during the handshake, or it took too
    /// long: 4002.
    HandshakeIo(std::io::Error),
    /// The desktop was reached, but its RDP is invalid, or it refuses the connection: 4002.
    Rdp(RdpError),
    /// The desktop was reached, but CredSSP failed: 4002.
    Nla(NlaError),
    /// The desktop closed the connection, or the tunnel to it failed: 4002.
    DesktopClosed,
    /// The desktop accepted no input for too long: 4002.
    DesktopStalled,
    /// The browser sent a close frame: 1000.
    BrowserClosed,
    /// The browser's connection ended without a close frame.
    BrowserDisconnected,
    /// The browser answered no ping for too long: 1001.
    BrowserUnresponsive,
    /// The browser did not finish its handshake in time: 1002.
    BrowserHandshakeTimeout,
    /// The browser's RFB handshake is invalid: 1002.
    BrowserHandshake(RfbError),
    /// The browser's RDCleanPath request is invalid: 1002.
    BrowserCleanPath(CleanPathError),
    /// The browser's RDP negotiation is invalid: 1002.
    BrowserRdp(RdpError),
    /// A text frame: 1003.
    TextFrame,
    /// A frame, or the bytes sent before the relay began, are too long: 1009.
    FrameTooBig,
    /// An invalid WebSocket frame: 1002.
    BadFrame,
}

impl StreamEnd {
    /// The end for a lost authorization; `None` while it holds.
    #[must_use]
    pub(super) fn revoked(authorization: StreamAuthorization) -> Option<Self> {
        match authorization {
            StreamAuthorization::Valid => None,
            StreamAuthorization::SessionEnded(reason) => Some(Self::SessionEnded(reason)),
            StreamAuthorization::SignedOut => Some(Self::SignedOut),
            StreamAuthorization::PolicyChanged => Some(Self::PolicyChanged),
        }
    }

    /// Code and reason of the close frame. A reason has at most 123 bytes (RFC 6455 section 5.5)
    /// and names nothing internal.
    #[must_use]
    pub fn close_frame(&self) -> (u16, Cow<'static, str>) {
        match self {
            Self::SessionEnded(reason) => (4000, reason.as_str().into()),
            Self::SignedOut => (4001, "signed_out".into()),
            Self::PolicyChanged | Self::Draining | Self::AuthorizationUnknown => (1001, "retry".into()),
            Self::Idle => (1001, "idle".into()),
            Self::Unreachable(error) if host_answered(error) => (4002, "desktop: The desktop does not take connections.".into()),
            Self::Unreachable(_) => (4002, "host: The desktop's host cannot be reached.".into()),
            Self::TlsFailed(_) => (4002, "desktop: No secure connection to the desktop comes about.".into()),
            Self::CertificateRefused(_) => (4004, "certificate_changed".into()),
            Self::CredentialRequired(source) => (4005, source.as_str().into()),
            Self::CredentialRefused { source, reason, .. } => (4006, format!("{} {reason}", source.as_str()).into()),
            Self::AuditFailed(_) => (1001, "retry".into()),
            Self::Filter(_, StreamFilterError::Forbidden(_)) | Self::DestinationMismatch => (4007, "policy".into()),
            Self::Redirected => (4007, "redirected".into()),
            Self::DesktopDisconnected(info) => (4008, info.reason_code().into()),
            Self::NoDesktop => (1002, "A web application has no desktop's stream.".into()),
            Self::Filter(Direction::Up, StreamFilterError::Malformed(_)) => (1002, "The browser does not speak as it should.".into()),
            Self::Filter(Direction::Down, StreamFilterError::Malformed(_)) => (4002, "desktop: The desktop does not speak as it should.".into()),
            Self::Handshake(RfbError::Refused(reason)) if reason.is_lockout() => {
                (4002, "desktop: After too many failed logins the desktop takes none for a while. Wait, then try again.".into())
            }
            Self::Handshake(RfbError::NoAcceptableSecurityType { .. }) => {
                (4002, "desktop: The desktop asks for another proof than this workspace has.".into())
            }
            Self::Handshake(RfbError::Declined(_)) => (4002, "desktop: The desktop offers a kind of security that it then does not do.".into()),
            Self::Handshake(RfbError::TooLarge { width, height }) => {
                (4002, format!("desktop: A picture of {width} x {height} is too large for a browser.").into())
            }
            Self::Handshake(RfbError::Refused(_) | RfbError::AuthenticationFailed(_)) => (4002, "desktop: The desktop refused the connection.".into()),
            Self::Handshake(_) => (4002, "desktop: The desktop does not answer as a desktop should.".into()),
            Self::HandshakeIo(_) => (4002, "desktop: The desktop does not answer.".into()),
            Self::Rdp(error) => (4002, rdp_reason(error).into()),
            Self::Nla(error) => (4002, nla_reason(error).into()),
            Self::DesktopClosed | Self::DesktopStalled => (4002, "retry".into()),
            Self::BrowserClosed | Self::BrowserDisconnected => (1000, "".into()),
            Self::BrowserUnresponsive => (1001, "retry".into()),
            Self::BrowserHandshakeTimeout => (1002, "The handshake took too long.".into()),
            Self::BrowserHandshake(_) => (1002, "RFB 3.8 with security type None is spoken here.".into()),
            Self::BrowserCleanPath(_) => (1002, "RDCleanPath is spoken here.".into()),
            Self::BrowserRdp(_) => (1002, "RDP with TLS is spoken here.".into()),
            Self::TextFrame => (1003, "Only binary frames are spoken here.".into()),
            Self::FrameTooBig => (1009, "The frame is too big.".into()),
            Self::BadFrame => (1002, "The frame is malformed.".into()),
        }
    }

    /// Reason code of the audit log.
    #[must_use]
    pub fn reason_code(&self) -> &'static str {
        match self {
            Self::SessionEnded(reason) => reason.as_str(),
            Self::SignedOut => "signed_out",
            Self::PolicyChanged => "policy_changed",
            Self::Draining => "gateway_draining",
            Self::Idle => "idle",
            Self::AuthorizationUnknown => "right_unwatched",
            Self::Unreachable(_) => "desktop_unreachable",
            Self::TlsFailed(_) => "desktop_insecure",
            Self::CertificateRefused("certificate_missing") => "certificate_missing",
            Self::CertificateRefused(_) => "certificate_refused",
            Self::CredentialRequired(_) => "credential_required",
            Self::CredentialRefused { reason, .. } => reason,
            Self::AuditFailed(_) => "not_recorded",
            Self::Filter(_, StreamFilterError::Forbidden(_)) => "policy",
            Self::Filter(Direction::Up, StreamFilterError::Malformed(_)) => "browser_malformed",
            Self::Filter(Direction::Down, StreamFilterError::Malformed(_)) => "desktop_malformed",
            Self::DestinationMismatch => "other_destination",
            Self::Redirected => "rdp_redirected",
            Self::DesktopDisconnected(info) => info.reason_code(),
            Self::NoDesktop => "no_desktop",
            Self::Handshake(error) => error.reason_code(),
            Self::HandshakeIo(_) => "handshake_broken",
            Self::Rdp(error) | Self::BrowserRdp(error) => error.reason_code(),
            Self::Nla(error) => error.reason_code(),
            Self::BrowserCleanPath(_) => "browser_nonsense",
            Self::DesktopClosed => "desktop_gone",
            Self::DesktopStalled => "desktop_stalled",
            Self::BrowserClosed => "browser_closed",
            Self::BrowserDisconnected => "browser_gone",
            Self::BrowserUnresponsive => "browser_silent",
            Self::BrowserHandshakeTimeout => "browser_idle",
            Self::BrowserHandshake(_) => "browser_nonsense",
            Self::TextFrame => "text_frame",
            Self::FrameTooBig => "frame_too_big",
            Self::BadFrame => "bad_frame",
        }
    }

    /// The error behind it; for failures only.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) | Self::HandshakeIo(error) | Self::TlsFailed(error) => {
                Some(error)
            }
            Self::Handshake(error) | Self::BrowserHandshake(error) => Some(error),
            Self::Filter(_, error) => Some(error),
            Self::Rdp(error) | Self::BrowserRdp(error) => Some(error),
            Self::Nla(error) => Some(error),
            Self::BrowserCleanPath(error) => Some(error),
            Self::AuditFailed(error) => Some(error),
            Self::CredentialRefused { cause, .. } => Some(&**cause),
            Self::SessionEnded(_)
            | Self::SignedOut
            | Self::PolicyChanged
            | Self::Draining
            | Self::Idle
            | Self::AuthorizationUnknown
            | Self::CertificateRefused(_)
            | Self::CredentialRequired(_)
            | Self::DestinationMismatch
            | Self::Redirected
            | Self::DesktopDisconnected(_)
            | Self::NoDesktop
            | Self::DesktopClosed
            | Self::DesktopStalled
            | Self::BrowserClosed
            | Self::BrowserDisconnected
            | Self::BrowserUnresponsive
            | Self::BrowserHandshakeTimeout
            | Self::TextFrame
            | Self::FrameTooBig
            | Self::BadFrame => None,
        }
    }
}

/// Close reason for an RDP error.
fn rdp_reason(error: &RdpError) -> &'static str {
    match error {
        RdpError::Refused(NegotiationFailure::HybridRequired) => {
            "desktop: It requires a login before the connection (NLA)."
        }
        RdpError::Refused(NegotiationFailure::SslNotAllowed) | RdpError::NoTls => {
            "desktop: It offers no TLS, only RDP's own encryption, which is not safe."
        }
        RdpError::Refused(NegotiationFailure::NoCertificate) => {
            "desktop: It has no certificate for TLS."
        }
        RdpError::Refused(NegotiationFailure::UserAuthRequired) => {
            "desktop: It requires a user's certificate."
        }
        RdpError::Refused(
            NegotiationFailure::SslRequired
            | NegotiationFailure::InconsistentFlags
            | NegotiationFailure::Unknown(_),
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
        | RdpError::TooManyPendingReplies
        | RdpError::AlreadyFailed => "desktop: The desktop does not answer as a desktop should.",
    }
}

/// Close reason for an NLA error.
fn nla_reason(error: &NlaError) -> &'static str {
    match error {
        NlaError::Binding => {
            "desktop: It could not prove that it is the server whose certificate it shows."
        }
        NlaError::Username => "desktop: The stored user name and domain cannot be used together.",
        NlaError::Refused(_)
        | NlaError::Certificate
        | NlaError::InvalidMessage(_)
        | NlaError::Failed(_)
        | NlaError::Io(_) => "desktop: Its login before the connection (NLA) failed.",
    }
}

/// Whether the host answered. A refusal comes from a reachable host, so the desktop on it failed.
pub(super) fn host_answered(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof,
    };
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof
    )
}
