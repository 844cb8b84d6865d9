//! Why there is no response of the application, on which segment of the path it failed, and the page
//! that says so.

use super::page::Page;
use super::policy::Refusal;
use crate::domain::session::EndReason;
use crate::domain::upstream::CredentialSource;
use crate::viewer::stream_end::{StreamEnd, host_answered};
use hyper::StatusCode;
use std::io;

/// Why a request to the application failed.
#[derive(Debug)]
pub enum ProxyError {
    /// The application could not be dialled, or not in time: the host or the application is
    /// unreachable.
    Unreachable(io::Error),
    /// The TLS handshake failed.
    Tls(io::Error),
    /// Its certificate is not trusted.
    Certificate(&'static str),
    /// It did not accept the request, or did not respond, in time.
    ResponseTimeout,
    /// It closed the connection without a response.
    ConnectionClosed(io::Error),
    /// Its response is not valid HTTP, or not the protocol that was requested.
    InvalidResponse(Box<dyn std::error::Error + Send + Sync>),
    /// The browser's request body is not valid HTTP, or not as long as it says.
    InvalidRequest(io::Error),
    /// The browser did not send the whole request in time.
    RequestTimeout,
    /// The gateway has no credential to sign in with.
    CredentialRequired(CredentialSource),
    /// A required audit entry could not be written. Fails closed.
    AuditUnavailable,
    /// All connections to the application are in use.
    ConnectionLimit,
    /// The session, or the authorization for it, has ended.
    SessionEnded,
}

impl ProxyError {
    /// The error for the end of a TLS handshake.
    pub(super) fn from_tls_end(end: StreamEnd) -> Self {
        match end {
            StreamEnd::CertificateRefused(reason) => Self::Certificate(reason),
            StreamEnd::AuditFailed(_) => Self::AuditUnavailable,
            StreamEnd::TlsFailed(error) => Self::Tls(error),
            other => Self::Tls(io::Error::other(other.reason_code())),
        }
    }

    /// Error code, for programs and support.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(error) if host_answered(error) => "application_refused",
            Self::Unreachable(_) => "host_unreachable",
            Self::Tls(_) => "application_insecure",
            Self::Certificate(_) => "certificate_refused",
            Self::ResponseTimeout => "application_slow",
            Self::ConnectionClosed(_) => "application_hung_up",
            Self::InvalidResponse(_) => "application_garbled",
            Self::InvalidRequest(_) => "request_invalid",
            Self::RequestTimeout => "request_incomplete",
            Self::CredentialRequired(_) => "credential_required",
            Self::AuditUnavailable => "not_recorded",
            Self::ConnectionLimit => "busy",
            Self::SessionEnded => "over",
        }
    }

    /// The page that the user reads.
    #[must_use]
    pub fn page(&self) -> Page {
        let bad = StatusCode::BAD_GATEWAY;
        let (status, title, text, action, retryable) = match self {
            Self::Unreachable(error) if host_answered(error) => (
                bad,
                "The application does not take connections.",
                "Its host was reached through the tunnel, but nothing listens there.",
                "It may be restarting. Try again in a moment; if it stays, tell your administrator.",
                true,
            ),
            Self::Unreachable(_) => (
                bad,
                "The application's host cannot be reached.",
                "The way from the gateway to the host is broken.",
                "Try again in a moment; if it stays, tell your administrator.",
                true,
            ),
            Self::Tls(_) => (
                bad,
                "No secure connection to the application comes about.",
                "It was reached, but it does not speak TLS as it should.",
                "Tell your administrator: the workspace may be set to HTTPS by mistake.",
                true,
            ),
            Self::Certificate(_) => (
                bad,
                "The application shows another certificate than it should.",
                "Somebody may be in its place, so nothing was sent to it.",
                "Tell your administrator, who sees both certificates and can accept the new one.",
                false,
            ),
            Self::ResponseTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "The application does not answer.",
                "It took the request and gave no answer in time.",
                "It may be busy. Try again in a moment.",
                true,
            ),
            Self::ConnectionClosed(_) => (
                bad,
                "The application hung up.",
                "Its host was reached through the tunnel, but the connection was closed without an answer.",
                "It may be stopped or restarting. Try again in a moment; if it stays, tell your administrator.",
                true,
            ),
            Self::InvalidResponse(_) => (
                bad,
                "The application does not answer as a web application should.",
                "What came back is not valid HTTP.",
                "Tell your administrator: another service may be behind this workspace's port.",
                true,
            ),
            Self::InvalidRequest(_) => (
                StatusCode::BAD_REQUEST,
                "The request is not understood.",
                "Its body is not valid HTTP, or not as long as it says.",
                "Try again. If it stays, tell your administrator which application you use.",
                true,
            ),
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "The request did not arrive.",
                "The rest of it did not come from your browser in time.",
                "Check your connection and try again.",
                true,
            ),
            Self::CredentialRequired(_) => (
                StatusCode::FORBIDDEN,
                "This application needs your sign-in.",
                "The gateway signs in to it for you, and has no credential of yours.",
                "Save your user name and password for this workspace in the portal, then open it again.",
                false,
            ),
            Self::AuditUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The gateway cannot write its log now.",
                "Nothing passes that cannot be recorded.",
                "Try again in a moment; if it stays, tell your administrator.",
                true,
            ),
            Self::ConnectionLimit => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many requests are under way.",
                "This session has as many open as it may have.",
                "Close a tab of the application, or try again in a moment.",
                true,
            ),
            Self::SessionEnded => (
                StatusCode::GONE,
                "This session has ended.",
                "",
                "Open the workspace again from the portal.",
                false,
            ),
        };
        Page { status, code: self.code(), title, text: text.to_owned(), action, retryable }
    }
}

impl std::fmt::Display for ProxyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Page { title, text, .. } = self.page();
        write!(f, "{title} {text}")
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error)
            | Self::Tls(error)
            | Self::ConnectionClosed(error)
            | Self::InvalidRequest(error) => Some(error),
            Self::InvalidResponse(error) => Some(&**error),
            Self::Certificate(_)
            | Self::ResponseTimeout
            | Self::RequestTimeout
            | Self::CredentialRequired(_)
            | Self::AuditUnavailable
            | Self::ConnectionLimit
            | Self::SessionEnded => None,
        }
    }
}

impl Refusal {
    /// The page that the user reads.
    pub(super) fn page(self) -> Page {
        let (title, text, action) = match self {
            Self::Method => (
                "This action is not allowed here.",
                "The rules of this workspace do not allow this kind of request.",
                ASK_ADMINISTRATOR,
            ),
            Self::Path => (
                "This page is not allowed here.",
                "The rules of this workspace do not allow this address.",
                ASK_ADMINISTRATOR,
            ),
            Self::Upload => (
                "Uploads are not allowed here.",
                "The file was not sent. That it was tried is recorded.",
                ASK_ADMINISTRATOR,
            ),
            Self::Download => (
                "Downloads are not allowed here.",
                "The file was not fetched. That it was tried is recorded.",
                ASK_ADMINISTRATOR,
            ),
            Self::Size => (
                "This is too large.",
                "The rules of this workspace limit how much a request may send.",
                "Send less at once, or ask your administrator.",
            ),
            Self::Origin => (
                "This connection is not allowed.",
                "A page of another address asked for it.",
                "Open the workspace from the portal.",
            ),
        };
        Page {
            status: self.status(),
            code: self.code(),
            title,
            text: text.to_owned(),
            action,
            retryable: false,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Method => "method_not_allowed",
            Self::Path => "path_not_allowed",
            Self::Upload => "upload_not_allowed",
            Self::Download => "download_not_allowed",
            Self::Size => "request_too_large",
            Self::Origin => "foreign_origin",
        }
    }
}

const ASK_ADMINISTRATOR: &str = "If you need it for your work, ask your administrator.";

/// The page that the user reads after the application has ended.
#[must_use]
pub fn ended_page(end: &StreamEnd) -> Page {
    let (title, text, retryable) = match end {
        StreamEnd::SessionEnded(EndReason::UserDisconnected) => {
            ("You ended this session.", "", false)
        }
        StreamEnd::SessionEnded(EndReason::WorkspaceStopped) => {
            ("This workspace was stopped.", "", false)
        }
        StreamEnd::SessionEnded(EndReason::AdminStopped) => {
            ("An administrator ended this session.", "", false)
        }
        StreamEnd::SessionEnded(EndReason::SignedOut) => {
            ("You signed out everywhere, which ended this session.", "", false)
        }
        StreamEnd::SessionEnded(EndReason::SignedOutByAdmin) => {
            ("An administrator signed you out, which ended this session.", "", false)
        }
        StreamEnd::SessionEnded(EndReason::UserDisabled) => {
            ("Your account was disabled.", "", false)
        }
        StreamEnd::SessionEnded(EndReason::WorkspaceRemoved) => {
            ("This workspace was removed.", "", false)
        }
        StreamEnd::SessionEnded(EndReason::Expired) => ("This session's time is over.", "", false),
        StreamEnd::SessionEnded(EndReason::IdleTimeout) => {
            ("This session has ended, since nobody used it.", "", false)
        }
        StreamEnd::SessionEnded(EndReason::HostLost) => {
            ("The host of this application was lost.", "It may be restarting.", false)
        }
        StreamEnd::SessionEnded(EndReason::HostRestarted) => (
            "The agent on this application's host was restarted, which ended this session.",
            "Open the application again.",
            false,
        ),
        StreamEnd::SessionEnded(EndReason::LaunchFailed) => {
            ("This session could not be started.", "", false)
        }
        StreamEnd::SignedOut => {
            ("You signed out.", "The session goes on; sign in to come back to it.", false)
        }
        StreamEnd::PolicyChanged => (
            "The rules of this workspace were changed.",
            "The session goes on under the new ones.",
            false,
        ),
        StreamEnd::Idle => (
            "This application was closed because nobody used it for a while.",
            "The session goes on.",
            false,
        ),
        StreamEnd::Draining => ("The gateway is restarting.", "The session goes on.", true),
        StreamEnd::AuthorizationUnknown
        | StreamEnd::Unreachable(_)
        | StreamEnd::TlsFailed(_)
        | StreamEnd::CertificateRefused(_)
        | StreamEnd::CredentialRequired(_)
        | StreamEnd::CredentialRefused { .. }
        | StreamEnd::AuditFailed(_)
        | StreamEnd::Filter(..)
        | StreamEnd::DestinationMismatch
        | StreamEnd::Handshake(_)
        | StreamEnd::HandshakeIo(_)
        | StreamEnd::Rdp(_)
        | StreamEnd::Nla(_)
        | StreamEnd::DesktopClosed
        | StreamEnd::DesktopStalled
        | StreamEnd::BrowserClosed
        | StreamEnd::BrowserDisconnected
        | StreamEnd::BrowserUnresponsive
        | StreamEnd::BrowserHandshakeTimeout
        | StreamEnd::BrowserHandshake(_)
        | StreamEnd::BrowserCleanPath(_)
        | StreamEnd::BrowserRdp(_)
        | StreamEnd::TextFrame
        | StreamEnd::FrameTooBig
        | StreamEnd::Redirected
        | StreamEnd::DesktopDisconnected(_)
        | StreamEnd::NoDesktop
        | StreamEnd::BadFrame => ("The connection to this application has ended.", "", false),
    };
    let action = if retryable {
        "Wait a moment, then open it again from the portal."
    } else {
        "Open the workspace again from the portal."
    };
    Page {
        status: StatusCode::GONE,
        code: end.reason_code(),
        title,
        text: text.to_owned(),
        action,
        retryable: false,
    }
}
