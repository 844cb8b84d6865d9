//! How long sessions of a workspace last.

use crate::broker::model::SessionLimitsChange;
use crate::domain::session_times;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// How long sessions of a workspace last, in seconds; null: as the installation is configured, which
/// is also the most.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionLimits {
    /// How long a session lasts unless it is extended.
    #[schema(required = true)]
    pub duration_seconds: Option<u64>,
    /// By how much a session can be extended in all; 0: not at all.
    #[schema(required = true)]
    pub extension_seconds: Option<u64>,
    /// A session without input for so long ends; 0: never.
    #[schema(required = true)]
    pub idle_timeout_seconds: Option<u64>,
}

impl From<session_times::SessionLimits> for SessionLimits {
    fn from(limits: session_times::SessionLimits) -> Self {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
        Self {
            duration_seconds: seconds(limits.duration),
            extension_seconds: seconds(limits.extension),
            idle_timeout_seconds: seconds(limits.idle_timeout),
        }
    }
}

/// A change of how long sessions last; a missing field stays as it is, null is the installation's.
/// Sessions that run keep the end they have.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionLimitsInput {
    /// How long a session lasts unless it is extended: 60 to 2592000.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u64>)]
    duration_seconds: Option<Option<u64>>,
    /// By how much a session can be extended in all: 0 (not at all) to 2592000.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u64>)]
    extension_seconds: Option<Option<u64>>,
    /// A session without input for so long ends: 0 (never), or 60 to 2592000.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u64>)]
    idle_timeout_seconds: Option<Option<u64>>,
}

/// Distinguishes null from a missing field.
fn nullable<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(d).map(Some)
}

impl From<SessionLimitsInput> for SessionLimitsChange {
    fn from(input: SessionLimitsInput) -> Self {
        let duration = |value: Option<Option<u64>>| value.map(|v| v.map(Duration::from_secs));
        Self {
            duration: duration(input.duration_seconds),
            extension: duration(input.extension_seconds),
            idle_timeout: duration(input.idle_timeout_seconds),
        }
    }
}
