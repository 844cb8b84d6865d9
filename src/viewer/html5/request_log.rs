//! What is kept of requests: each has a place in the queue to the store from its beginning, so that
//! none is answered that cannot be written down.

use super::app::Shared;
use super::policy::Refusal;
use crate::broker::model::RefusedRequest;
use crate::domain::Timestamp;
use crate::domain::sync::lock;
use crate::domain::web_app::{RequestOutcome, RequestRecord};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::sync::mpsc::OwnedPermit;
use tokio_util::sync::CancellationToken;

/// Longest path that is kept, in bytes; the store cuts it again.
const PATH_MAX: usize = 512;

/// What moves in one request. Shared by its two bodies, which two tasks read.
#[derive(Debug)]
pub(super) struct RequestProgress {
    started_at: Instant,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    /// Milliseconds after the beginning at which a byte of the request moved last.
    last_progress_ms: AtomicU64,
    too_large: AtomicBool,
    /// There is a body to wait for, which the browser has not sent to its end.
    body_incomplete: AtomicBool,
    /// Cancelled when the application asks for a body that waits for that.
    continue_token: OnceLock<CancellationToken>,
    /// The head of the answer is there.
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

    /// Counts bytes toward the application; how many there are now.
    pub(super) fn count_up(&self, bytes: usize, shared: &Shared) -> u64 {
        shared.meters().up.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last_progress_ms.store(
            u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        self.bytes_up.fetch_add(bytes as u64, Ordering::Relaxed).saturating_add(bytes as u64)
    }

    /// Counts bytes toward the browser.
    pub(super) fn count_down(&self, bytes: usize, shared: &Shared) {
        shared.meters().down.fetch_add(bytes as u64, Ordering::Relaxed);
        self.bytes_down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes toward the application so far.
    pub(super) fn bytes_up(&self) -> u64 {
        self.bytes_up.load(Ordering::Relaxed)
    }

    /// The moment at which a byte of the request moved last.
    pub(super) fn last_progress(&self) -> Instant {
        self.started_at + Duration::from_millis(self.last_progress_ms.load(Ordering::Relaxed))
    }

    /// Says whether more of the request is to come from the browser.
    pub(super) fn set_body_incomplete(&self, more: bool) {
        self.body_incomplete.store(more, Ordering::Relaxed);
    }

    pub(super) fn is_body_incomplete(&self) -> bool {
        self.body_incomplete.load(Ordering::Relaxed)
    }

    /// Holds the body back until the token is cancelled.
    pub(super) fn set_continue_token(&self, asks: CancellationToken) {
        let _ = self.continue_token.set(asks);
    }

    /// The head of the answer is there: a body that waits is not sent by itself any more.
    pub(super) fn mark_response_started(&self) {
        self.response_started.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_response_started(&self) -> bool {
        self.response_started.load(Ordering::Relaxed)
    }

    /// The application asks for a body that waits for that.
    pub(super) fn release_body(&self) {
        if let Some(asks) = self.continue_token.get() {
            asks.cancel();
        }
    }

    /// The request is larger than policy allows.
    pub(super) fn mark_too_large(&self) {
        self.too_large.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }
}

/// A request under way; written down when dropped, with what is known of its end by then.
pub(super) struct RequestLogEntry {
    slot: Option<OwnedPermit<RequestRecord>>,
    started_at: Timestamp,
    method: String,
    path: String,
    progress: Arc<RequestProgress>,
    status: u16,
    outcome: RequestOutcome,
}

impl RequestLogEntry {
    pub(super) fn new(
        place: OwnedPermit<RequestRecord>,
        started_at: Timestamp,
        method: &str,
        path: &str,
        progress: Arc<RequestProgress>,
    ) -> Self {
        let path = crate::viewer::html5::truncate_utf8(path, PATH_MAX).to_owned();
        Self {
            slot: Some(place),
            started_at,
            method: method.to_owned(),
            path,
            progress,
            status: 0,
            outcome: RequestOutcome::ClientAborted,
        }
    }

    pub(super) fn progress(&self) -> &Arc<RequestProgress> {
        &self.progress
    }

    pub(super) fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    pub(super) fn set_outcome(&mut self, ended: RequestOutcome) {
        self.outcome = ended;
    }

    /// The session ended under it. What is known already of its end stays.
    pub(super) fn set_revoked(&mut self) {
        if self.outcome == RequestOutcome::ClientAborted {
            self.outcome = RequestOutcome::Revoked;
        }
    }

    /// The refusal of it, for the audit log.
    pub(super) fn refusal(&self, refusal: Refusal, bytes: u64) -> RefusedRequest {
        RefusedRequest {
            kind: refusal.as_str(),
            method: self.method.clone(),
            path: self.path.clone(),
            bytes,
            count: 1,
        }
    }
}

impl Drop for RequestLogEntry {
    fn drop(&mut self) {
        let Some(place) = self.slot.take() else { return };
        place.send(RequestRecord {
            at: self.started_at,
            method: std::mem::take(&mut self.method),
            path: std::mem::take(&mut self.path),
            status: self.status,
            bytes_in: self.progress.bytes_up.load(Ordering::Relaxed),
            bytes_out: self.progress.bytes_down.load(Ordering::Relaxed),
            duration: self.progress.started_at.elapsed(),
            outcome: self.outcome,
        });
    }
}

/// Refused requests that are not in the audit log yet: one line a kind, so never more than a few.
#[derive(Debug, Default)]
pub(super) struct PendingRefusals {
    entries: Mutex<Vec<RefusedRequest>>,
    pub(super) changed: Notify,
}

impl PendingRefusals {
    /// Counts one, or puts back what could not be written.
    pub(super) fn add(&self, more: RefusedRequest) {
        let mut lines = lock(&self.entries);
        match lines.iter_mut().find(|line| line.kind == more.kind) {
            Some(line) => {
                line.bytes = line.bytes.saturating_add(more.bytes);
                line.count = line.count.saturating_add(more.count);
                (line.method, line.path) = (more.method, more.path);
            }
            None => lines.push(more),
        }
        drop(lines);
        self.changed.notify_one();
    }

    pub(super) fn take(&self) -> Vec<RefusedRequest> {
        std::mem::take(&mut *lock(&self.entries))
    }
}
