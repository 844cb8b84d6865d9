//! The extension of a session.

use super::session::Session;
use crate::domain::duration::{duration_in_words, parse_duration};
use crate::domain::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// By how much a session is extended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendSession {
    /// Whole numbers with the units `d`, `h`, `m`, `s`: `30m`, `1h`, `2h30m`.
    #[schema(example = "30m")]
    duration: String,
}

impl ExtendSession {
    /// # Errors
    /// `Invalid` when it is not a duration.
    pub fn duration(&self) -> Result<Duration> {
        parse_duration(&self.duration).ok_or_else(|| {
            Error::invalid(
                "duration must be whole numbers with the units d, h, m, s, such as 30m, 1h or 2h30m, of 30 days at most.",
            )
        })
    }
}

/// A session that was extended.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExtendedSession {
    /// The session.
    pub session: Session,
    /// By how much, such as `Session extended by 30 minutes`.
    pub message: String,
}

impl ExtendedSession {
    /// From the session and the duration it was extended by.
    #[must_use]
    pub fn new(session: Session, by: Duration) -> Self {
        Self { session, message: format!("Session extended by {}", duration_in_words(by)) }
    }
}
