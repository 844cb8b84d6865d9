//! The timer by which hyper's HTTP/1.1 server waits for request heads. hyper starts and drops a
//! sleep per request; this timer keeps one runtime timer per connection and resets it only when it
//! fires, so that requests do not take the runtime's timer lock.

use crate::domain::sync::lock;
use hyper::rt::{Sleep, Timer};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Instant;

type SharedTimer = Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>;

/// The header read timer of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderReadTimer {
    /// The runtime timer, while no sleep uses it.
    timer: SharedTimer,
}

impl Timer for HeaderReadTimer {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let timer = lock(&self.timer).take();
        let timer = timer.unwrap_or_else(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        Box::pin(HeaderReadSleep { deadline, timer: Some(timer), shared: Arc::clone(&self.timer) })
    }
}

/// A sleep, which returns the runtime timer when it is dropped.
struct HeaderReadSleep {
    deadline: Instant,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    shared: SharedTimer,
}

impl Sleep for HeaderReadSleep {}

impl Future for HeaderReadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let Some(timer) = &mut self.timer else { return Poll::Ready(()) };
        // The timer was set for another sleep: a later deadline is moved forward here, an earlier one
        // when it fires, below.
        if timer.deadline() > deadline.into() {
            timer.as_mut().reset(deadline.into());
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline.into());
        }
    }
}

impl Drop for HeaderReadSleep {
    fn drop(&mut self) {
        *lock(&self.shared) = self.timer.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_reused_timer_keeps_each_deadline() {
        let timer = HeaderReadTimer::default();
        let mut hour = timer.sleep(Duration::from_secs(3600));
        assert!(timeout(Duration::from_millis(1), &mut hour).await.is_err());
        drop(hour);
        // The returned timer is set for a later deadline first, then for an earlier one.
        for wanted in [40, 90].map(Duration::from_millis) {
            let since = Instant::now();
            let mut sleep = timer.sleep(wanted);
            assert!(timer.timer.lock().unwrap().is_none());
            sleep.as_mut().await;
            assert!(since.elapsed() >= wanted, "{:?}", since.elapsed());
            drop(sleep);
            assert!(timer.timer.lock().unwrap().is_some());
        }
    }
}
