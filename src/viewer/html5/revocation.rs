//! A revocation that many connections observe. It is checked at every read and write, so the check
//! takes no lock that the connections share: each connection has a waker of its own.

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

/// Revokes all its tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct RevocationSource(Arc<Shared>);

impl RevocationSource {
    /// A token for one connection. It may be made after the revocation.
    pub(super) fn token(&self) -> RevocationToken {
        let waker = Arc::default();
        lock(&self.0.wakers).push(Arc::clone(&waker));
        RevocationToken { waker, shared: Arc::clone(&self.0) }
    }

    /// Revokes: every connection that waits is woken.
    pub(super) fn revoke(&self) {
        self.0.revoked.store(true, Ordering::Release);
        for waker in &*lock(&self.0.wakers) {
            waker.wake();
        }
    }
}

/// Observes the revocation for one connection.
#[derive(Debug)]
pub(super) struct RevocationToken {
    waker: Arc<AtomicWaker>,
    shared: Arc<Shared>,
}

impl RevocationToken {
    pub(super) fn is_revoked(&self) -> bool {
        self.shared.revoked.load(Ordering::Acquire)
    }

    /// [`RevocationToken::is_revoked`] before waiting: the task of `cx` is woken by the revocation.
    /// The last caller is, if there are several.
    pub(super) fn is_revoked_or_register(&self, cx: &Context<'_>) -> bool {
        // Register before the check, so that a revocation between the two is not missed.
        self.waker.register(cx.waker());
        self.is_revoked()
    }

    /// Awaits `future`; `None` when the revocation comes first.
    pub(super) async fn run_until_revoked<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if self.is_revoked_or_register(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Drop for RevocationToken {
    fn drop(&mut self) {
        lock(&self.shared.wakers).retain(|waker| !Arc::ptr_eq(waker, &self.waker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn a_revocation_wakes_every_waiting_token() {
        let source = RevocationSource::default();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let token = source.token();
                tokio::spawn(async move {
                    (token.run_until_revoked(pending::<()>()).await, token.is_revoked())
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let dropped = source.token();
        assert_eq!(
            (dropped.is_revoked(), dropped.run_until_revoked(async { 7 }).await),
            (false, Some(7))
        );
        drop(dropped);
        assert_eq!(source.0.wakers.lock().unwrap().len(), 3);
        source.revoke();
        for ended in waiting {
            assert_eq!(ended.await.unwrap(), (None, true));
        }
        // A token made later is revoked at once; a future that is ready is still polled to its
        // output.
        let late = source.token();
        assert_eq!(
            (
                late.run_until_revoked(pending::<()>()).await,
                late.run_until_revoked(async { 7 }).await
            ),
            (None, Some(7))
        );
        drop(late);
        assert!(source.0.wakers.lock().unwrap().is_empty());
    }
}
