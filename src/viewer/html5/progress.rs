//! Progress of one request, shared by the tasks that move its two bodies.

use crate::broker::core::stream_registry::StreamMeters;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Progress of one request.
#[derive(Debug)]
pub(super) struct RequestProgress {
    started_at: Instant,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    /// Milliseconds from `started_at` to the last byte of the request body.
    last_progress_ms: AtomicU64,
    too_large: AtomicBool,
    /// The browser has not sent the whole body yet.
    body_incomplete: AtomicBool,
    /// Cancelled when the application asks for a body that waits for `100 Continue`.
    continue_token: OnceLock<CancellationToken>,
    /// The response head has arrived.
    response_started: AtomicBool,
}

impl RequestProgress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            started_at: Instant::now(),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            last_progress_ms: AtomicU64::new(0),
            too_large: AtomicBool::new(false),
            body_incomplete: AtomicBool::new(false),
            continue_token: OnceLock::new(),
            response_started: AtomicBool::new(false),
        })
    }

    /// Counts bytes sent to the application, and returns their sum.
    pub(super) fn count_up(&self, bytes: usize, meters: &StreamMeters) -> u64 {
        meters.up.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last_progress_ms.store(
            u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        self.bytes_up.fetch_add(bytes as u64, Ordering::Relaxed).saturating_add(bytes as u64)
    }

    /// Counts bytes sent to the browser.
    pub(super) fn count_down(&self, bytes: usize, meters: &StreamMeters) {
        meters.down.fetch_add(bytes as u64, Ordering::Relaxed);
        self.bytes_down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn bytes_up(&self) -> u64 {
        self.bytes_up.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_down(&self) -> u64 {
        self.bytes_down.load(Ordering::Relaxed)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// When the last byte of the request body moved.
    pub(super) fn last_progress(&self) -> Instant {
        self.started_at + Duration::from_millis(self.last_progress_ms.load(Ordering::Relaxed))
    }

    pub(super) fn set_body_incomplete(&self, incomplete: bool) {
        self.body_incomplete.store(incomplete, Ordering::Relaxed);
    }

    pub(super) fn is_body_incomplete(&self) -> bool {
        self.body_incomplete.load(Ordering::Relaxed)
    }

    /// Sets the token that [`Self::release_body`] cancels.
    pub(super) fn set_continue_token(&self, token: CancellationToken) {
        let _ = self.continue_token.set(token);
    }

    /// The application sent `100 Continue`.
    pub(super) fn release_body(&self) {
        if let Some(token) = self.continue_token.get() {
            token.cancel();
        }
    }

    /// A body that still waits for `100 Continue` is not sent after its timeout any more.
    pub(super) fn mark_response_started(&self) {
        self.response_started.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_response_started(&self) -> bool {
        self.response_started.load(Ordering::Relaxed)
    }

    /// The body exceeds the size that policy allows.
    pub(super) fn mark_too_large(&self) {
        self.too_large.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }
}
