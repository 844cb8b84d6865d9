//! Watches over an application: its right, the gateway's going away, its requests' way into the
//! store. One task each, from its opening to its end.

use super::app::Shared;
use crate::broker::core::stream_registry::{StreamAuthorization, StreamSlotGuard};
use crate::domain::web_app::RequestRecord;
use crate::viewer::attach::{authorization_lost, drained};
use crate::viewer::stream_end::StreamEnd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// Requests are written this long after they ended, at the latest, and refusals of one kind no
/// oftener.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Most requests written at once.
const BATCH_MAX: usize = 2048;
/// Idle connections are looked at this often, while there are any.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long requests that were cut have to come to their end, and the store to take them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the keeper of an application.
pub(super) fn supervise(
    shared: Arc<Shared>,
    right: watch::Receiver<StreamAuthorization>,
    draining: watch::Receiver<bool>,
    seat: StreamSlotGuard,
    mut queue: mpsc::Receiver<RequestRecord>,
) {
    let guard = CloseGuard { held: Some((Arc::clone(&shared), seat)) };
    tokio::spawn(async move {
        let over = shared.end_token();
        let watch = async {
            let end = tokio::select! {
                biased;
                () = over.cancelled() => return,
                end = authorization_lost(right) => end,
                end = drained(draining) => end,
            };
            shared.terminate(end);
        };
        // The writer is never dropped half-way: it goes on until the end is seen, so that nothing
        // is written twice or not at all.
        let mut batch = Vec::new();
        tokio::join!(watch, write_log(&shared, &mut queue, &mut batch));
        // Those under way were cut, and hand in what became of them.
        queue.close();
        if timeout(DRAIN_TIMEOUT, drain_queue(&shared, &mut queue, &mut batch)).await.is_err() {
            tracing::error!(session_id = %shared.lease().session().id, "application.requests.unrecorded");
        }
        guard.close().await;
    });
}

/// Writes what comes, until the end.
async fn write_log(
    shared: &Shared,
    queue: &mut mpsc::Receiver<RequestRecord>,
    batch: &mut Vec<RequestRecord>,
) {
    while !shared.has_ended() {
        let idle = shared.pool().sweep();
        let sweep = async {
            if idle > 0 { sleep(SWEEP_INTERVAL).await } else { std::future::pending().await }
        };
        tokio::select! {
            () = shared.end_token().cancelled() => {}
            _ = queue.recv_many(batch, BATCH_MAX) => {}
            () = shared.refusals.changed.notified() => {}
            () = sweep => continue,
        }
        // More of them are written at once. They are not waited for one by one: each would wake
        // this task, which is not on their way.
        tokio::select! {
            () = shared.end_token().cancelled() => {}
            () = shared.log_half_full.notified() => {}
            () = sleep(WRITE_INTERVAL) => {}
        }
        while batch.len() < BATCH_MAX
            && let Ok(record) = queue.try_recv()
        {
            batch.push(record);
        }
        // What the store does not take now is kept: no request begins until it does.
        while !write_batch(shared, batch).await && !shared.has_ended() {
            wait_before_retry(shared).await;
        }
    }
}

async fn wait_before_retry(shared: &Shared) {
    tokio::select! {
        () = shared.end_token().cancelled() => {}
        () = sleep(WRITE_INTERVAL) => {}
    }
}

/// Writes requests and refusals; false when the store did not take them. What it did not take is
/// kept.
async fn write_batch(shared: &Shared, batch: &mut Vec<RequestRecord>) -> bool {
    let session = shared.lease().session().id;
    let mut failed = None;
    if !batch.is_empty() {
        let records = Arc::new(std::mem::take(batch));
        if let Err(error) = shared.broker().log_requests(session, Arc::clone(&records)).await {
            *batch = Arc::unwrap_or_clone(records);
            failed = Some(error);
        }
    }
    for refused in shared.refusals.take() {
        if let Err(error) = shared
            .broker()
            .request_refused(shared.origin(), shared.lease(), shared.caller(), &refused)
            .await
        {
            shared.refusals.add(refused);
            failed = Some(error);
        }
    }
    shared.log_failing.store(failed.is_some(), Ordering::Relaxed);
    if let Some(error) = &failed {
        let cause = error.source.as_deref().map(tracing::field::display);
        tracing::error!(session_id = %session, %error, cause, requests = batch.len(), "application.requests.unwritten");
    }
    failed.is_none()
}

/// Writes everything that is left.
async fn drain_queue(
    shared: &Shared,
    queue: &mut mpsc::Receiver<RequestRecord>,
    batch: &mut Vec<RequestRecord>,
) {
    loop {
        let many = queue.recv_many(batch, BATCH_MAX).await;
        while !write_batch(shared, batch).await {
            sleep(Duration::from_millis(200)).await;
        }
        if many == 0 {
            return;
        }
    }
}

/// Sees to it that an application that was opened is closed in the books, also when its keeper is
/// dropped or panics.
struct CloseGuard {
    held: Option<(Arc<Shared>, StreamSlotGuard)>,
}

impl CloseGuard {
    async fn close(mut self) {
        if let Some((shared, seat)) = self.held.take() {
            close(shared, seat).await;
        }
    }
}

impl Drop for CloseGuard {
    fn drop(&mut self) {
        if let Some((shared, seat)) = self.held.take() {
            shared.terminate(StreamEnd::AuthorizationUnknown);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(close(shared, seat));
            }
        }
    }
}

async fn close(shared: Arc<Shared>, seat: StreamSlotGuard) {
    let session_id = shared.lease().session().id;
    let why = shared.reason();
    tracing::info!(%session_id, why, "viewer.application.closed");
    if let Err(error) = shared
        .broker()
        .close_shared_stream(shared.origin(), shared.lease(), shared.meters(), seat, why)
        .await
    {
        tracing::error!(%session_id, why, %error, cause = error.source.as_deref().map(tracing::field::display), "viewer.application.unrecorded");
    }
    shared.mark_closed();
}
