//! The kinds of failure. A code inside may have many causes; an edge needs only the kind and a
//! sentence for its user.

use std::time::Duration;

/// `Result` with the domain's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; each dialect maps the kind to its own status and shape, in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be read (400).
    Malformed,
    /// The request reads, but a value in it cannot be accepted (422).
    Invalid,
    /// Nobody proved who they are (401).
    Unauthenticated,
    /// They may not (403).
    Forbidden,
    /// There is none, or it is not theirs: the same answer (404).
    NotFound,
    /// The present state does not allow it (409).
    Conflict,
    /// Too often (429); try again after this long.
    Throttled(Duration),
    /// A part that is needed is not working now (503).
    Unavailable,
    /// Our fault (500). The message stays general; the source is for the log.
    Internal,
}

/// A failure: its kind, a sentence for the user that says what to do, and the cause for the log.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind.
    pub kind: ErrorKind,
    /// What the user reads. Never holds a secret or an internal name.
    pub message: String,
    /// The cause, for the log only.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `kind`, told as `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// [`ErrorKind::Unauthenticated`].
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unauthenticated, message)
    }

    /// [`ErrorKind::Forbidden`].
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    /// [`ErrorKind::NotFound`], "`what` not found".
    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("{what} not found"))
    }

    /// [`ErrorKind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// [`ErrorKind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// [`ErrorKind::Internal`] with its cause; the user reads a general sentence.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, "Something went wrong on our side. Try again; if it stays, tell your administrator the request id.")
            .caused_by(source)
    }
}
