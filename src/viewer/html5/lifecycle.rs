//! Last use and end of an opened application.

use super::error::ProxyError;
use crate::broker::core::input_counter::InputCounter;
use crate::viewer::stream_end::StreamEnd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Last use and end of an opened application.
pub(super) struct Lifecycle {
    end: OnceLock<StreamEnd>,
    /// Reason code given to [`super::App::close`].
    close_reason: OnceLock<&'static str>,
    /// Cancelled when the application has ended.
    end_token: CancellationToken,
    /// Cancelled when the end is in the audit log.
    closed_token: CancellationToken,
    opened_at: Instant,
    /// Milliseconds after `opened_at`.
    last_used_ms: AtomicU64,
    /// Counts uses as inputs of the session.
    input: Arc<InputCounter>,
}

impl Lifecycle {
    pub(super) fn new(input: Arc<InputCounter>) -> Self {
        Self {
            end: OnceLock::new(),
            close_reason: OnceLock::new(),
            end_token: CancellationToken::new(),
            closed_token: CancellationToken::new(),
            opened_at: Instant::now(),
            last_used_ms: AtomicU64::new(0),
            input,
        }
    }

    /// Records a use by the user: a request, progress of a body, a message from the browser.
    pub(super) fn touch(&self) {
        self.input.record();
        self.last_used_ms.store(
            u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    pub(super) fn last_used(&self) -> Instant {
        self.opened_at + Duration::from_millis(self.last_used_ms.load(Ordering::Relaxed))
    }

    /// Checked several times per request, so it does not take the token's lock.
    pub(super) fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    pub(super) fn end(&self) -> Option<&StreamEnd> {
        self.end.get()
    }

    /// Ends it. The first end is kept.
    pub(super) fn set_end(&self, end: StreamEnd) {
        // Set before the token is cancelled: tasks that the token wakes read the end.
        let _ = self.end.set(end);
        self.end_token.cancel();
    }

    /// Resolves when it has ended.
    pub(super) async fn ended(&self) {
        self.end_token.cancelled().await;
    }

    /// Runs `work` unless the application ends first.
    pub(super) async fn unless_ended<T>(
        &self,
        work: impl Future<Output = Result<T, ProxyError>>,
    ) -> Result<T, ProxyError> {
        tokio::select! {
            biased;
            () = self.end_token.cancelled() => Err(ProxyError::SessionEnded),
            outcome = work => outcome,
        }
    }

    /// The first reason is kept.
    pub(super) fn set_close_reason(&self, reason: &'static str) {
        let _ = self.close_reason.set(reason);
    }

    /// Reason code for the audit log.
    pub(super) fn reason(&self) -> &'static str {
        match (self.end.get(), self.close_reason.get()) {
            (Some(StreamEnd::BrowserClosed | StreamEnd::Idle), Some(reason)) => reason,
            (Some(end), _) => end.reason_code(),
            (None, _) => "aborted",
        }
    }

    /// The end is in the audit log, or could not be written.
    pub(super) fn mark_closed(&self) {
        self.closed_token.cancel();
    }

    /// Resolves at [`Self::mark_closed`].
    pub(super) async fn closed(&self) {
        self.closed_token.cancelled().await;
    }
}
