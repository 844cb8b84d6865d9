//! The clock of a connection of HTTP/1.1, by which the server waits for heads. Each request begins
//! such a wait and ends it; the runtime is told of one timer a connection, which is put forward
//! only when it rings.

use crate::domain::sync::lock;
use hyper::rt::{Sleep, Timer};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Instant;

type SharedTimer = Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderReadTimer {
    /// The timer, while nobody waits by it.
    timer: SharedTimer,
}

impl Timer for HeaderReadTimer {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let kept = lock(&self.timer).take();
        let timer = kept.unwrap_or_else(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        Box::pin(HeaderReadSleep { deadline, timer: Some(timer), shared: Arc::clone(&self.timer) })
    }
}

/// A wait, which gives its timer back.
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
        // It was set for another wait: for a later one it would ring too late, for an earlier one
        // it rings too soon and is put forward below.
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
    async fn a_wait_is_as_long_as_it_says() {
        let clock = HeaderReadTimer::default();
        let mut hour = clock.sleep(Duration::from_secs(3600));
        assert!(timeout(Duration::from_millis(1), &mut hour).await.is_err());
        drop(hour);
        // The timer that is given back was set for later, then for earlier than what is waited for.
        for wanted in [40, 90].map(Duration::from_millis) {
            let since = Instant::now();
            let mut wait = clock.sleep(wanted);
            assert!(clock.timer.lock().unwrap().is_none());
            wait.as_mut().await;
            assert!(since.elapsed() >= wanted, "{:?}", since.elapsed());
            drop(wait);
            assert!(clock.timer.lock().unwrap().is_some());
        }
    }
}
