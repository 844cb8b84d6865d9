//! When a connection is closed: without a request for a time, open for a long time, for another
//! one, or when the gateway stops. Requests in progress end by themselves, however long they last:
//! WebSockets and event streams are not cut by that.

use super::metrics::CloseReason;
use super::pool::ConnectionHandle;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a connection without a request has to close after it was told to (GOAWAY); also how
/// often one with requests is looked at.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the connection's task is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum LifetimeEvent {
    /// No further requests; those in progress end.
    Retire,
    /// Close it now.
    Close,
}

/// How long a connection may be idle, and open.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct LifetimeLimits {
    pub(in crate::http) idle: Duration,
    pub(in crate::http) age: Duration,
}

/// The rest of a connection's life.
pub(in crate::http) struct Lifetime<F> {
    handle: ConnectionHandle,
    /// `None`: the HTTP server has timeouts of its own.
    limits: Option<LifetimeLimits>,
    opened_at: Instant,
    stopping: Pin<Box<F>>,
    is_retired: bool,
}

impl<F: Future<Output = ()>> Lifetime<F> {
    /// `stopping` resolves when the gateway starts its shutdown.
    pub(in crate::http) fn new(
        handle: ConnectionHandle,
        limits: Option<LifetimeLimits>,
        stopping: F,
    ) -> Self {
        let (opened_at, stopping) = (Instant::now(), Box::pin(stopping));
        Self { handle, limits, opened_at, stopping, is_retired: false }
    }

    /// The next event. It may be dropped and called again.
    pub(in crate::http) async fn next(&mut self) -> LifetimeEvent {
        if self.is_retired {
            return self.closed().await;
        }
        tokio::select! {
            () = self.stopping.as_mut() => {}
            () = self.handle.closing() => {
                if self.handle.is_forced() {
                    return LifetimeEvent::Close;
                }
            }
            reason = expired(&self.handle, self.limits, self.opened_at) => {
                self.handle.count_closed(reason);
            }
        }
        self.is_retired = true;
        LifetimeEvent::Retire
    }

    /// Resolves when a retired connection has no request any more.
    async fn closed(&self) -> LifetimeEvent {
        loop {
            sleep(CLOSE_TIMEOUT).await;
            let timeout = CLOSE_TIMEOUT.as_millis();
            let is_idle = self.handle.idle_ms().is_some_and(|idle| u128::from(idle) >= timeout);
            if is_idle || self.handle.is_forced() {
                return LifetimeEvent::Close;
            }
        }
    }
}

/// Resolves when a connection is idle for too long, or open.
async fn expired(
    handle: &ConnectionHandle,
    limits: Option<LifetimeLimits>,
    opened_at: Instant,
) -> CloseReason {
    let Some(limits) = limits else { return std::future::pending().await };
    let old_at = opened_at + limits.age;
    loop {
        let idle = handle.idle_ms().map(Duration::from_millis);
        if idle.is_some_and(|idle| idle >= limits.idle) {
            return CloseReason::Idle;
        }
        let now = Instant::now();
        if now >= old_at {
            return CloseReason::Age;
        }
        // The clock of idle times counts whole milliseconds.
        let rest = limits.idle.saturating_sub(idle.unwrap_or_default()) + Duration::from_millis(1);
        sleep_until((now + rest).min(old_at)).await;
    }
}
