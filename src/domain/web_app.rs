//! A web application behind a workspace of type `html5`: how it is proxied, which identity it
//! receives, and which requests may pass.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`WebAppConfig`] | the configuration an administrator wrote; it contains no secret |
//! | [`IdentityForwarding`] | what the application receives about the user |
//! | [`UpstreamSignIn`] | how the gateway signs in to the application on the user's behalf; the secret is the workspace's or the user's [`super::upstream::Credential`] |
//! | [`RequestPolicy`] | methods, paths, directions and sizes, enforced on every request |
//! | [`RequestRecord`] | a completed request, as it is stored for administrators |

use super::Timestamp;
use std::fmt;
use std::time::Duration;

/// The protocol between gateway and application.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Scheme {
    /// Plain HTTP inside the session's tunnel.
    #[default]
    Http,
    /// HTTPS inside the tunnel; the certificate is verified by the workspace's
    /// [`super::upstream::TrustRule`].
    Https,
}

impl Scheme {
    pub const ALL: [Self; 2] = [Self::Http, Self::Https];

    /// Its name in APIs, in the store, and in URLs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.as_str() == name)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the application receives about the user. Headers of these names from the browser are always
/// removed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IdentityForwarding {
    /// `X-Forwarded-User` (the e-mail address), `X-Forwarded-Name`, `X-Forwarded-Groups` (the
    /// role).
    pub headers: bool,
    /// `X-Portcullis-Assertion`: a JWT valid for one minute, signed by a key of the gateway's JWKS
    /// endpoint, for this audience. `None`: none is sent.
    pub assertion_audience: Option<String>,
}

/// How the gateway signs in to the application on the user's behalf.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum UpstreamSignIn {
    #[default]
    None,
    /// `Authorization: Basic` with the credential's name and password (RFC 7617).
    Basic,
    /// A header of this name (lower case) with the credential's password as its value.
    Header(String),
}

/// Which requests may pass. The default allows everything, with bodies of any size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestPolicy {
    /// Methods, upper case; empty: all but `CONNECT` and `TRACE`, which never pass.
    pub methods: Vec<String>,
    /// Allowed paths, by prefix of whole segments (`/wiki` allows `/wiki` and `/wiki/a`, not
    /// `/wikis`); empty: all.
    pub paths: Vec<String>,
    /// Uploads are allowed: requests with a body of type `multipart/form-data` or of a file type.
    pub upload: bool,
    /// Downloads are allowed: responses with `Content-Disposition: attachment`, or of a type that
    /// browsers save.
    pub download: bool,
    /// Largest request body, bytes; 0: unlimited.
    pub max_request: u64,
}

impl Default for RequestPolicy {
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            paths: Vec::new(),
            upload: true,
            download: true,
            max_request: 0,
        }
    }
}

/// How a web application is proxied. Trust and credential are those of every upstream
/// ([`super::upstream::Upstream`]).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WebAppConfig {
    pub scheme: Scheme,
    /// The name the application expects, `name` or `name:port`: sent as `Host` and as the TLS
    /// server name. Empty: the name of the session's own origin.
    pub host: String,
    /// The path of its first page, such as `/lab`; starts with a slash.
    pub start: String,
    pub identity: IdentityForwarding,
    pub sign_in: UpstreamSignIn,
    pub requests: RequestPolicy,
}

impl WebAppConfig {
    /// The path of its first page: the configured one, or the root.
    #[must_use]
    pub fn start_path(&self) -> &str {
        if self.start.starts_with('/') { &self.start } else { "/" }
    }
}

/// The path of a start page that may have a query.
#[must_use]
pub fn path_of(start: &str) -> &str {
    start.split_once('?').map_or(start, |(path, _)| path)
}

/// How a request to an application ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestOutcome {
    Completed,
    /// The browser closed the connection first.
    ClientAborted,
    /// The application closed the connection within its response.
    UpstreamAborted,
    /// The session, or the authorization for it, ended.
    Revoked,
    Refused,
    /// The application gave no response that could be forwarded.
    Failed,
}

impl RequestOutcome {
    pub const ALL: [Self; 6] = [
        Self::Completed,
        Self::ClientAborted,
        Self::UpstreamAborted,
        Self::Revoked,
        Self::Refused,
        Self::Failed,
    ];

    /// Its name in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "done",
            Self::ClientAborted => "client_gone",
            Self::UpstreamAborted => "application_gone",
            Self::Revoked => "cut",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.as_str() == name)
    }
}

/// Which statuses of requests are sought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusFilter {
    /// The browser received no response.
    None,
    /// One status.
    Code(u16),
    Class(StatusClass),
}

/// Classes of statuses (RFC 9110 section 15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusClass {
    Informational,
    Successful,
    Redirection,
    ClientError,
    ServerError,
}

impl StatusFilter {
    /// The first and the last status; 0 stands for none, as in [`RequestRecord::status`].
    #[must_use]
    pub fn range(self) -> (u16, u16) {
        match self {
            Self::None => (0, 0),
            Self::Code(code) => (code, code),
            Self::Class(StatusClass::Informational) => (100, 199),
            Self::Class(StatusClass::Successful) => (200, 299),
            Self::Class(StatusClass::Redirection) => (300, 399),
            Self::Class(StatusClass::ClientError) => (400, 499),
            Self::Class(StatusClass::ServerError) => (500, 599),
        }
    }
}

/// A completed request to an application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestRecord {
    pub at: Timestamp,
    pub method: String,
    /// Path without its query; the store keeps the first 512 bytes.
    pub path: String,
    /// The status the browser received; 0: none.
    pub status: u16,
    /// Bytes of the request body, or of the WebSocket messages from the browser.
    pub bytes_in: u64,
    /// Bytes of the response body, or of the WebSocket messages to the browser.
    pub bytes_out: u64,
    /// From the request head to the end of the exchange.
    pub duration: Duration,
    pub outcome: RequestOutcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        assert!(Scheme::ALL.into_iter().all(|value| Scheme::parse(value.as_str()) == Some(value)));
        assert!(
            RequestOutcome::ALL
                .into_iter()
                .all(|value| RequestOutcome::parse(value.as_str()) == Some(value))
        );
    }
}
