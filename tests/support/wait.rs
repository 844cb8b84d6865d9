//! Waiting for conditions: the only place in the tests that polls.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Limit of a wait. A condition that comes true ends it at once, so it is long enough for a machine
/// that is busy.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Time between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The result of a check: true, or a value, ends the wait.
pub trait Condition {
    type Value;
    fn value(self) -> Option<Self::Value>;
}

impl Condition for bool {
    type Value = ();
    fn value(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Condition for Option<T> {
    type Value = T;
    fn value(self) -> Option<T> {
        self
    }
}

/// Waits until a check succeeds, and returns its value; panics with `what` after [`WAIT_TIMEOUT`].
pub async fn eventually<C: Condition>(
    what: impl Display,
    check: impl AsyncFnMut() -> C,
) -> C::Value {
    within(WAIT_TIMEOUT, check)
        .await
        .unwrap_or_else(|| panic!("{what}: not within {WAIT_TIMEOUT:?}"))
}

/// Waits until a check succeeds, and returns its value; `None` after `limit`. A check that does not
/// return is given up as well.
pub async fn within<C: Condition>(
    limit: Duration,
    mut check: impl AsyncFnMut() -> C,
) -> Option<C::Value> {
    let polling = async {
        loop {
            if let Some(value) = check().await.value() {
                return value;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(limit, polling).await.ok()
}

/// As [`within`], on a thread that may block.
pub fn within_blocking<C: Condition>(
    limit: Duration,
    mut check: impl FnMut() -> C,
) -> Option<C::Value> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check().value() {
            return Some(value);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
