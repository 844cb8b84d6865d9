//! Why a command failed: one line for standard error.

use crate::config::ConfigError;
use crate::domain::{Error, ErrorKind};

/// Why a command failed: one clear line for standard error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure told as `sentence`.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        Self(e.to_string())
    }
}

impl From<Error> for Failure {
    /// Whoever is at the shell may read the cause that the API keeps for its log.
    fn from(e: Error) -> Self {
        match (e.kind, &e.source) {
            (ErrorKind::Internal, Some(cause)) => Self(format!("internal failure: {cause}")),
            (ErrorKind::Unavailable, Some(cause)) => Self(format!("{}: {cause}", e.message)),
            _ => Self(e.message),
        }
    }
}
