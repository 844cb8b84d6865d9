//! An end that many connections share, such as that of a session. It is asked about at every read
//! and write, so there is no lock in it that they would share, too: each connection has a bell of
//! its own.

use futures_util::task::AtomicWaker;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

#[derive(Debug, Default)]
struct All {
    over: AtomicBool,
    bells: Mutex<Vec<Arc<AtomicWaker>>>,
}

/// The end itself.
#[derive(Clone, Debug, Default)]
pub struct Cuts(Arc<All>);

impl Cuts {
    /// For one more connection, which may come after the end.
    #[must_use]
    pub fn cut(&self) -> Cut {
        let bell = Arc::default();
        self.0.bells.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&bell));
        Cut { bell, all: Arc::clone(&self.0) }
    }

    /// It is here: whoever waits at a connection is woken.
    pub fn end(&self) {
        self.0.over.store(true, Ordering::Release);
        for bell in &*self.0.bells.lock().unwrap_or_else(PoisonError::into_inner) {
            bell.wake();
        }
    }
}

/// Of one connection.
#[derive(Debug)]
pub struct Cut {
    bell: Arc<AtomicWaker>,
    all: Arc<All>,
}

impl Cut {
    /// Whether the end is here.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.all.over.load(Ordering::Acquire)
    }

    /// The same, for whoever is about to wait: they are woken by the end. Whoever asked this last,
    /// if several do.
    #[must_use]
    pub fn is_over_or_wakes(&self, cx: &Context<'_>) -> bool {
        // In this order: of a bell that rang before anybody listened, the end is seen.
        self.bell.register(cx.waker());
        self.is_over()
    }

    /// What may take its time, unless the end comes first: then `None`.
    pub async fn unless<T>(&self, waits: impl Future<Output = T>) -> Option<T> {
        let mut waits = pin!(waits);
        poll_fn(|cx| match waits.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if self.is_over_or_wakes(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.all
            .bells
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|bell| !Arc::ptr_eq(bell, &self.bell));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn the_end_wakes_everybody_and_comes_once() {
        let cuts = Cuts::default();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let cut = cuts.cut();
                tokio::spawn(async move { (cut.unless(pending::<()>()).await, cut.is_over()) })
            })
            .collect();
        tokio::task::yield_now().await;
        let gone = cuts.cut();
        assert_eq!((gone.is_over(), gone.unless(async { 7 }).await), (false, Some(7)));
        drop(gone);
        assert_eq!(cuts.0.bells.lock().unwrap().len(), 3);
        cuts.end();
        for ended in waiting {
            assert_eq!(ended.await.unwrap(), (None, true));
        }
        // Whoever comes later sees it at once; what is ready all the same is not lost.
        let late = cuts.cut();
        assert_eq!(
            (late.unless(pending::<()>()).await, late.unless(async { 7 }).await),
            (None, Some(7))
        );
        drop(late);
        assert!(cuts.0.bells.lock().unwrap().is_empty());
    }
}
