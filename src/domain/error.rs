//! The kinds of failure. Code inside may fail for many reasons; an API needs only the kind and a
//! sentence for its user.

use std::convert::Infallible;
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of a failure; each API maps it to its own status and error body, in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be parsed (400).
    Malformed,
    /// The request parses, but a value in it is not acceptable (422).
    Invalid,
    /// The client is not authenticated (401).
    Unauthenticated,
    /// The principal is not authorized (403).
    Forbidden,
    /// There is no such object, or it belongs to somebody else: the same answer (404).
    NotFound,
    /// The present state does not allow it (409).
    Conflict,
    /// Too many requests (429); retry after this time.
    Throttled(Duration),
    /// A required part does not work at the moment (503).
    Unavailable,
    /// The audit log does not verify: nothing is written until an administrator accepts it (503).
    Tampered,
    /// Internal error (500). The message is general; the source is for the log.
    Internal,
}

/// A failure: its kind, a sentence for the user that says what to do, and the cause for the log.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    /// Shown to the user. Never contains a secret or an internal name.
    pub message: String,
    /// The cause, for the log only.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// For conversions that may fail in one API and cannot in another.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Error {
    /// A failure of `kind` with the user's `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unauthenticated, message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("{what} not found"))
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// [`ErrorKind::Tampered`] with the fault, which is for the log only.
    pub fn tampered(fault: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(
            ErrorKind::Tampered,
            "The audit log was altered from outside, so nothing is changed any more. Tell your administrator.",
        )
        .caused_by(fault)
    }

    /// [`ErrorKind::Internal`] with its cause and a general message.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, "Something went wrong on our side. Try again; if it stays, tell your administrator the request id.")
            .caused_by(source)
    }
}
