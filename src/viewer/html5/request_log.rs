//! The request log of an application. Every request reserves a slot in the queue to the store
//! before it starts, so that none is answered that cannot be recorded.

use super::lifecycle::Lifecycle;
use super::policy::Refusal;
use super::progress::RequestProgress;
use crate::broker::model::RefusedRequest;
use crate::domain::Timestamp;
use crate::domain::sync::lock;
use crate::domain::web_app::{RequestOutcome, RequestRecord};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::time::timeout;

/// Longest path that is recorded, in bytes.
const PATH_MAX: usize = 512;
/// How long a request waits for a slot.
const LOG_SLOT_TIMEOUT: Duration = Duration::from_secs(10);

/// The request log of an application.
pub(super) struct RequestLog {
    queue: mpsc::Sender<RequestRecord>,
    /// Notified when half of the slots are taken: the writer then does not wait for its interval.
    pub(super) half_full: Notify,
    /// The last write to the store failed; no request starts until one succeeds.
    pub(super) failing: AtomicBool,
    pub(super) refusals: PendingRefusals,
}

impl RequestLog {
    /// `slots`: requests in progress plus requests not written yet, at least 1.
    pub(super) fn new(slots: usize) -> (Self, mpsc::Receiver<RequestRecord>) {
        let (queue, records) = mpsc::channel(slots.max(1));
        let log = Self {
            queue,
            half_full: Notify::new(),
            failing: AtomicBool::new(false),
            refusals: PendingRefusals::default(),
        };
        (log, records)
    }

    /// Reserves the slot of a request; waits where requests arrive faster than the store accepts
    /// them. `None`: the store fails, or the application ended.
    pub(super) async fn reserve_slot(
        &self,
        lifecycle: &Lifecycle,
    ) -> Option<OwnedPermit<RequestRecord>> {
        if self.failing.load(Ordering::Relaxed) {
            return None;
        }
        if self.queue.capacity() <= self.queue.max_capacity() / 2 {
            self.half_full.notify_one();
        }
        match self.queue.clone().try_reserve_owned() {
            Ok(slot) => Some(slot),
            Err(TrySendError::Closed(_)) => None,
            Err(TrySendError::Full(queue)) => tokio::select! {
                biased;
                () = lifecycle.ended() => None,
                slot = Box::pin(timeout(LOG_SLOT_TIMEOUT, queue.reserve_owned())) => slot.ok()?.ok(),
            },
        }
    }
}

/// The log entry of a request in progress. Dropping it sends the record to the writer.
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
        slot: OwnedPermit<RequestRecord>,
        started_at: Timestamp,
        method: &str,
        path: &str,
        progress: Arc<RequestProgress>,
    ) -> Self {
        let path = path.get(..path.floor_char_boundary(PATH_MAX)).unwrap_or_default().to_owned();
        Self {
            slot: Some(slot),
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

    pub(super) fn set_outcome(&mut self, outcome: RequestOutcome) {
        self.outcome = outcome;
    }

    /// The application ended during the request. An outcome that is already known is kept.
    pub(super) fn set_revoked(&mut self) {
        if self.outcome == RequestOutcome::ClientAborted {
            self.outcome = RequestOutcome::Revoked;
        }
    }

    /// The audit entry of a refusal of this request.
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
        let Some(slot) = self.slot.take() else { return };
        slot.send(RequestRecord {
            at: self.started_at,
            method: std::mem::take(&mut self.method),
            path: std::mem::take(&mut self.path),
            status: self.status,
            bytes_in: self.progress.bytes_up(),
            bytes_out: self.progress.bytes_down(),
            duration: self.progress.elapsed(),
            outcome: self.outcome,
        });
    }
}

/// Refused requests that are not in the audit log yet: one entry per kind, so the number is bounded.
#[derive(Debug, Default)]
pub(super) struct PendingRefusals {
    entries: Mutex<Vec<RefusedRequest>>,
    pub(super) changed: Notify,
}

impl PendingRefusals {
    /// Adds a refusal, or returns one whose write failed.
    pub(super) fn add(&self, refused: RefusedRequest) {
        let mut entries = lock(&self.entries);
        match entries.iter_mut().find(|entry| entry.kind == refused.kind) {
            Some(entry) => {
                entry.bytes = entry.bytes.saturating_add(refused.bytes);
                entry.count = entry.count.saturating_add(refused.count);
                (entry.method, entry.path) = (refused.method, refused.path);
            }
            None => entries.push(refused),
        }
        drop(entries);
        self.changed.notify_one();
    }

    pub(super) fn take(&self) -> Vec<RefusedRequest> {
        std::mem::take(&mut *lock(&self.entries))
    }
}
