//! What is kept of requests: each has a place in the queue to the store from its beginning, so that
//! none is answered that cannot be written down.

use super::allow::Refusal;
use super::app::Shared;
use crate::broker::web::RequestRefused;
use crate::domain::Timestamp;
use crate::domain::web::{RequestEnd, RequestRecord};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::sync::mpsc::OwnedPermit;
use tokio_util::sync::CancellationToken;

/// Longest path that is kept, in bytes; the store cuts it again.
const PATH_MAX: usize = 512;

/// What moves in one request. Shared by its two bodies, which two tasks read.
#[derive(Debug)]
pub(super) struct Flow {
    began: Instant,
    up: AtomicU64,
    down: AtomicU64,
    /// Milliseconds after the beginning at which a byte of the request moved last.
    moved: AtomicU64,
    refused: AtomicBool,
    /// There is a body to wait for, which the browser has not sent to its end.
    streaming: AtomicBool,
    /// Cancelled when the application asks for a body that waits for that.
    asks: OnceLock<CancellationToken>,
    /// The head of the answer is there.
    answered: AtomicBool,
}

impl Flow {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            streaming: AtomicBool::new(false),
            asks: OnceLock::new(),
            answered: AtomicBool::new(false),
        })
    }

    /// Counts bytes toward the application; how many there are now.
    pub(super) fn up(&self, bytes: usize, shared: &Shared) -> u64 {
        shared.meters().up.fetch_add(bytes as u64, Ordering::Relaxed);
        self.moved.store(
            u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        self.up.fetch_add(bytes as u64, Ordering::Relaxed).saturating_add(bytes as u64)
    }

    /// Counts bytes toward the browser.
    pub(super) fn down(&self, bytes: usize, shared: &Shared) {
        shared.meters().down.fetch_add(bytes as u64, Ordering::Relaxed);
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes toward the application so far.
    pub(super) fn sent(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// The moment at which a byte of the request moved last.
    pub(super) fn moved_at(&self) -> Instant {
        self.began + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// Says whether more of the request is to come from the browser.
    pub(super) fn streams(&self, more: bool) {
        self.streaming.store(more, Ordering::Relaxed);
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Relaxed)
    }

    /// Holds the body back until the token is cancelled.
    pub(super) fn wait_for(&self, asks: CancellationToken) {
        let _ = self.asks.set(asks);
    }

    /// The head of the answer is there: a body that waits is not sent by itself any more.
    pub(super) fn answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// The application asks for a body that waits for that.
    pub(super) fn go_on(&self) {
        if let Some(asks) = self.asks.get() {
            asks.cancel();
        }
    }

    /// The request is larger than policy allows.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A request under way; written down when dropped, with what is known of its end by then.
pub(super) struct Entry {
    place: Option<OwnedPermit<RequestRecord>>,
    at: Timestamp,
    method: String,
    path: String,
    flow: Arc<Flow>,
    status: u16,
    ended: RequestEnd,
}

impl Entry {
    pub(super) fn new(
        place: OwnedPermit<RequestRecord>,
        at: Timestamp,
        method: &str,
        path: &str,
        flow: Arc<Flow>,
    ) -> Self {
        let path = crate::viewer::html5::cut(path, PATH_MAX).to_owned();
        Self {
            place: Some(place),
            at,
            method: method.to_owned(),
            path,
            flow,
            status: 0,
            ended: RequestEnd::ClientGone,
        }
    }

    pub(super) fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    pub(super) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    pub(super) fn ended(&mut self, ended: RequestEnd) {
        self.ended = ended;
    }

    /// The session ended under it. What is known already of its end stays.
    pub(super) fn cut(&mut self) {
        if self.ended == RequestEnd::ClientGone {
            self.ended = RequestEnd::Cut;
        }
    }

    /// The refusal of it, for the audit log.
    pub(super) fn refused(&self, refusal: Refusal, bytes: u64) -> RequestRefused {
        RequestRefused {
            kind: refusal.as_str(),
            method: self.method.clone(),
            path: self.path.clone(),
            bytes,
            count: 1,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        place.send(RequestRecord {
            at: self.at,
            method: std::mem::take(&mut self.method),
            path: std::mem::take(&mut self.path),
            status: self.status,
            bytes_in: self.flow.up.load(Ordering::Relaxed),
            bytes_out: self.flow.down.load(Ordering::Relaxed),
            duration: self.flow.began.elapsed(),
            ended: self.ended,
        });
    }
}

/// Refused requests that are not in the audit log yet: one line a kind, so never more than a few.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    lines: Mutex<Vec<RequestRefused>>,
    pub(super) stirred: Notify,
}

impl Refusals {
    /// Counts one, or puts back what could not be written.
    pub(super) fn add(&self, more: RequestRefused) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.iter_mut().find(|line| line.kind == more.kind) {
            Some(line) => {
                line.bytes = line.bytes.saturating_add(more.bytes);
                line.count = line.count.saturating_add(more.count);
                (line.method, line.path) = (more.method, more.path);
            }
            None => lines.push(more),
        }
        drop(lines);
        self.stirred.notify_one();
    }

    pub(super) fn take(&self) -> Vec<RequestRefused> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
