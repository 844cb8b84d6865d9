//! An end that many connections share, such as that of a session. It is asked about at every read
//! and write, so there is no lock in it that they would share, too: each connection has a bell of
//! its own.

use crate::domain::sync::lock;
use futures_util::task::AtomicWaker;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

#[derive(Debug, Default)]
struct Shared {
    revoked: AtomicBool,
    wakers: Mutex<Vec<Arc<AtomicWaker>>>,
}

/// The end itself.
#[derive(Clone, Debug, Default)]
pub struct RevocationSource(Arc<Shared>);

impl RevocationSource {
    /// For one more connection, which may come after the end.
    #[must_use]
    pub fn token(&self) -> RevocationToken {
        let bell = Arc::default();
        lock(&self.0.wakers).push(Arc::clone(&bell));
        RevocationToken { waker: bell, shared: Arc::clone(&self.0) }
    }

    /// It is here: whoever waits at a connection is woken.
    pub fn revoke(&self) {
        self.0.revoked.store(true, Ordering::Release);
        for bell in &*lock(&self.0.wakers) {
            bell.wake();
        }
    }
}

/// Of one connection.
#[derive(Debug)]
pub struct RevocationToken {
    waker: Arc<AtomicWaker>,
    shared: Arc<Shared>,
}

impl RevocationToken {
    /// Whether the end is here.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.shared.revoked.load(Ordering::Acquire)
    }

    /// The same, for whoever is about to wait: they are woken by the end. Whoever asked this last,
    /// if several do.
    #[must_use]
    pub fn is_revoked_or_register(&self, cx: &Context<'_>) -> bool {
        // In this order: of a bell that rang before anybody listened, the end is seen.
        self.waker.register(cx.waker());
        self.is_revoked()
    }

    /// What may take its time, unless the end comes first: then `None`.
    pub async fn run_until_revoked<T>(&self, waits: impl Future<Output = T>) -> Option<T> {
        let mut waits = pin!(waits);
        poll_fn(|cx| match waits.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if self.is_revoked_or_register(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Drop for RevocationToken {
    fn drop(&mut self) {
        lock(&self.shared.wakers).retain(|bell| !Arc::ptr_eq(bell, &self.waker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn the_end_wakes_everybody_and_comes_once() {
        let cuts = RevocationSource::default();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let cut = cuts.token();
                tokio::spawn(async move {
                    (cut.run_until_revoked(pending::<()>()).await, cut.is_revoked())
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let gone = cuts.token();
        assert_eq!(
            (gone.is_revoked(), gone.run_until_revoked(async { 7 }).await),
            (false, Some(7))
        );
        drop(gone);
        assert_eq!(cuts.0.wakers.lock().unwrap().len(), 3);
        cuts.revoke();
        for ended in waiting {
            assert_eq!(ended.await.unwrap(), (None, true));
        }
        // Whoever comes later sees it at once; what is ready all the same is not lost.
        let late = cuts.token();
        assert_eq!(
            (
                late.run_until_revoked(pending::<()>()).await,
                late.run_until_revoked(async { 7 }).await
            ),
            (None, Some(7))
        );
        drop(late);
        assert!(cuts.0.wakers.lock().unwrap().is_empty());
    }
}
