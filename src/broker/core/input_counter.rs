//! Counts the inputs of a session's users, without time and without the store: the reconciler looks
//! from time to time whether there were any.

use std::sync::atomic::{AtomicU64, Ordering};

/// The inputs in all streams of a session: keys, pointer, clipboard, requests to a web application.
#[derive(Debug, Default)]
pub struct InputCounter(AtomicU64);

impl InputCounter {
    pub fn record(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
