//! Rate limits of sign-ins and of audit entries, and the queue of password hashing.

use crate::auth::AttemptLimiter;
use crate::auth::password;
use crate::domain::rate_limit::Quota;
use crate::domain::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Requests that may wait for a password hash.
const HASH_QUEUE_LEN: usize = 32;
const HASH_QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Passwords: ten attempts per account, then two a minute; a hundred per address, then one a
/// second.
pub(in crate::broker) fn password_limiter() -> AttemptLimiter {
    AttemptLimiter::new(
        Quota { burst: 10, interval: Duration::from_secs(30) },
        Quota { burst: 100, interval: Duration::from_secs(1) },
    )
}

/// One-time codes: ten attempts per account, then two a minute. With three valid codes in a million,
/// guessing takes months.
pub(in crate::broker) fn otp_limiter() -> AttemptLimiter {
    AttemptLimiter::new(
        Quota { burst: 10, interval: Duration::from_secs(30) },
        Quota { burst: 100, interval: Duration::from_secs(1) },
    )
}

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

/// Runs password hashing with bounded concurrency and a bounded queue.
#[derive(Clone, Debug)]
pub(in crate::broker) struct HashQueue {
    permits: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    count: Arc<AtomicU64>,
}

impl Default for HashQueue {
    fn default() -> Self {
        // Half the cores, at least one.
        let concurrency = std::thread::available_parallelism().map_or(1, |n| n.get() / 2).max(1);
        Self {
            permits: Arc::new(Semaphore::new(concurrency)),
            queue: Arc::new(Semaphore::new(HASH_QUEUE_LEN)),
            count: Arc::default(),
        }
    }
}

impl HashQueue {
    /// Runs password hashing on the blocking pool, within the queue's limits.
    pub(in crate::broker) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let busy = || {
            Error::new(
                ErrorKind::Throttled(Duration::from_secs(2)),
                "Too many people sign in right now. Try again in a moment.",
            )
        };
        let queued = self.queue.clone().try_acquire_owned().map_err(|_| busy())?;
        let permit =
            tokio::time::timeout(HASH_QUEUE_TIMEOUT, self.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| busy())?.map_err(Error::internal)?;
        // The permits move into the work: a client that disconnects does not stop it and must not
        // free its slot.
        let count = self.count.clone();
        let work = move || {
            let before = password::computations();
            let done = work();
            count.fetch_add(password::computations() - before, Ordering::Relaxed);
            drop((permit, queued));
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }

    /// Number of Argon2id computations so far.
    pub(in crate::broker) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
