//! The failure of a command.

use crate::config::ConfigError;
use crate::domain::{Error, ErrorKind};

/// One line for standard error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
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
    /// Includes the cause, which the API writes to the log only.
    fn from(e: Error) -> Self {
        match (e.kind, &e.source) {
            (ErrorKind::Internal, Some(cause)) => Self(format!("internal failure: {cause}")),
            (ErrorKind::Unavailable | ErrorKind::Tampered, Some(cause)) => {
                Self(format!("{}: {cause}", e.message))
            }
            _ => Self(e.message),
        }
    }
}
