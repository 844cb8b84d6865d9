//! Rate limit of audit entries about unauthenticated requests, and the answer to a throttled one.

use crate::auth::AttemptLimiter;
use crate::domain::rate_limit::Quota;
use crate::domain::{Error, ErrorKind};
use std::time::Duration;

/// Audit entries about unauthenticated requests: thirty per action and address, then one in ten
/// seconds; twice that per address over all actions.
pub(in crate::broker) fn audit_limiter() -> AttemptLimiter {
    AttemptLimiter::new(
        Quota { burst: 30, interval: Duration::from_secs(10) },
        Quota { burst: 60, interval: Duration::from_secs(5) },
    )
}

pub(in crate::broker) fn throttled_error(wait: Duration) -> Error {
    Error::new(ErrorKind::Throttled(wait), "Too many tries. Wait a moment, then try again.")
}
