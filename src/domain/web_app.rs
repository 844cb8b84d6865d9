//! A web application behind a workspace of type `html5`: how it is met, what it is told about the
//! user, and which requests may pass.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`WebAppConfig`] | all of it, as an admin said; no secret is in it |
//! | [`IdentityForwarding`] | what the application is told about the user |
//! | [`UpstreamSignIn`] | how the gateway signs in to the application in the user's place; its secret is the workspace's or the user's [`super::server::Credential`] |
//! | [`RequestPolicy`] | methods, paths, directions and sizes, enforced on every request |
//! | [`RequestRecord`] | a request that was, as it is kept for admins |

use super::Timestamp;
use std::fmt;
use std::time::Duration;

/// How the gateway speaks to the application.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Scheme {
    /// Plain HTTP inside the session's tunnel.
    #[default]
    Http,
    /// HTTPS inside the tunnel; the certificate is checked by the workspace's
    /// [`super::server::TrustRule`].
    Https,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 2] = [Self::Http, Self::Https];

    /// Its word in APIs, in the store, and in URLs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The scheme of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.as_str() == word)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the application is told about the user. Copies of these headers that a browser sends are
/// always taken out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IdentityForwarding {
    /// `X-Forwarded-User` (the e-mail address), `X-Forwarded-Name`, `X-Forwarded-Groups` (the
    /// role).
    pub headers: bool,
    /// `X-Portcullis-Assertion`: a JWT of a minute's life, signed by a key of the gateway's JWKS
    /// endpoint, for this audience. `None`: none is sent.
    pub assertion_audience: Option<String>,
}

/// How the gateway signs in to the application in the user's place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum UpstreamSignIn {
    /// It does not.
    #[default]
    None,
    /// `Authorization: Basic` of the credential's name and password (RFC 7617).
    Basic,
    /// A header of this name (lower case), whose value is the credential's password.
    Header(String),
}

/// Which requests may pass. As new: everything, with bodies of any size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestPolicy {
    /// Methods, upper case; empty: every one but `CONNECTION_REQUEST` and `TRACE`, which never pass.
    pub methods: Vec<String>,
    /// Paths that may be asked for, by prefix of whole segments (`/wiki` allows `/wiki` and
    /// `/wiki/a`, not `/wikis`); empty: every one.
    pub paths: Vec<String>,
    /// Files may go to the application: requests with a body of type `multipart/form-data` or of a
    /// file's type.
    pub upload: bool,
    /// Files may come out of it: responses with `Content-Disposition: attachment`, or of a type
    /// that browsers save.
    pub download: bool,
    /// Largest request body, bytes; 0: any.
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

/// How a web application is met. Its server's trust and credential are those of every workspace
/// ([`super::server::Server`]).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WebAppConfig {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// The name it knows itself by, `name` or `name:port`: sent as `HostTunnel` and as the TLS server
    /// name. Empty: the session's own origin's.
    pub host: String,
    /// Path at which it opens, such as `/lab`; begins with a slash.
    pub start: String,
    /// What it is told about the user.
    pub identity: IdentityForwarding,
    /// How the gateway signs in to it.
    pub sign_in: UpstreamSignIn,
    /// Which requests may pass.
    pub requests: RequestPolicy,
}

impl WebAppConfig {
    /// The path at which it opens: as an admin said, or its root.
    #[must_use]
    pub fn start_path(&self) -> &str {
        if self.start.starts_with('/') { &self.start } else { "/" }
    }
}

/// How a request to an application ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestOutcome {
    /// Answered to the end.
    Completed,
    /// The browser went before the end.
    ClientAborted,
    /// The application broke off its answer.
    UpstreamAborted,
    /// The session, or the right to it, ended.
    Revoked,
    /// Policy does not allow it.
    Refused,
    /// The application gave no answer that could be passed on.
    Failed,
}

impl RequestOutcome {
    /// Every end.
    pub const ALL: [Self; 6] = [
        Self::Completed,
        Self::ClientAborted,
        Self::UpstreamAborted,
        Self::Revoked,
        Self::Refused,
        Self::Failed,
    ];

    /// Its word in APIs and in the store.
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

    /// The end of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.as_str() == word)
    }
}

/// A request to an application, as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestRecord {
    /// When it came.
    pub at: Timestamp,
    /// Method.
    pub method: String,
    /// Path without its query; the store keeps the first 512 bytes.
    pub path: String,
    /// The status the browser was answered; 0: none was.
    pub status: u16,
    /// Bytes of its body, or from the browser in a WebSocket's messages.
    pub bytes_in: u64,
    /// Bytes of the answer's body, or to the browser in a WebSocket's messages.
    pub bytes_out: u64,
    /// From its head to its end.
    pub duration: Duration,
    /// How it ended.
    pub outcome: RequestOutcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        assert!(Scheme::ALL.into_iter().all(|value| Scheme::parse(value.as_str()) == Some(value)));
        assert!(
            RequestOutcome::ALL
                .into_iter()
                .all(|value| RequestOutcome::parse(value.as_str()) == Some(value))
        );
    }
}
