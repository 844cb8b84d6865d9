//! The task of an opened application: waits for its end, writes its request log, and records its
//! close.

use super::context::AppContext;
use crate::broker::core::stream_registry::{StreamAuthorization, StreamSlotGuard};
use crate::domain::web_app::RequestRecord;
use crate::viewer::attach::{authorization_lost, drained};
use crate::viewer::stream_end::StreamEnd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// Requests are written at most this long after they ended; refusals of one kind at most this often.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Most requests per write.
const BATCH_MAX: usize = 2048;
/// How often idle connections are checked, while there are any.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long after the end requests may still finish and be written.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts to write while draining.
const DRAIN_RETRY: Duration = Duration::from_millis(200);

/// Starts the task.
pub(super) fn spawn(
    app: Arc<AppContext>,
    authorization: watch::Receiver<StreamAuthorization>,
    draining: watch::Receiver<bool>,
    slot: StreamSlotGuard,
    mut queue: mpsc::Receiver<RequestRecord>,
) {
    let guard = CloseGuard { open: Some((Arc::clone(&app), slot)) };
    tokio::spawn(async move {
        let wait_for_end = async {
            let end = tokio::select! {
                biased;
                () = app.lifecycle.ended() => return,
                end = authorization_lost(authorization) => end,
                end = drained(draining) => end,
            };
            app.terminate(end);
        };
        // `join!`, not `select!`: a write in progress must not be dropped, or its records would be
        // written twice or not at all.
        let mut batch = Vec::new();
        tokio::join!(wait_for_end, write_log(&app, &mut queue, &mut batch));
        // Requests in progress were cut and now send their records.
        queue.close();
        if timeout(DRAIN_TIMEOUT, drain_queue(&app, &mut queue, &mut batch)).await.is_err() {
            tracing::error!(session_id = %app.grant.session_id(), "application.requests.unrecorded");
        }
        guard.close().await;
    });
}

/// Writes records in batches until the application ends.
async fn write_log(
    app: &AppContext,
    queue: &mut mpsc::Receiver<RequestRecord>,
    batch: &mut Vec<RequestRecord>,
) {
    while !app.lifecycle.has_ended() {
        let idle = app.upstream.pool.sweep();
        let sweep = async {
            if idle > 0 { sleep(SWEEP_INTERVAL).await } else { std::future::pending().await }
        };
        tokio::select! {
            () = app.lifecycle.ended() => {}
            _ = queue.recv_many(batch, BATCH_MAX) => {}
            () = app.log.refusals.changed.notified() => {}
            () = sweep => continue,
        }
        // Collect a batch without receiving: each `recv` would wake this task once per request.
        tokio::select! {
            () = app.lifecycle.ended() => {}
            () = app.log.half_full.notified() => {}
            () = sleep(WRITE_INTERVAL) => {}
        }
        while batch.len() < BATCH_MAX
            && let Ok(record) = queue.try_recv()
        {
            batch.push(record);
        }
        // A batch that cannot be written is kept, and no request starts until it is.
        while !write_batch(app, batch).await && !app.lifecycle.has_ended() {
            tokio::select! {
                () = app.lifecycle.ended() => {}
                () = sleep(WRITE_INTERVAL) => {}
            }
        }
    }
}

/// Writes requests and refusals; false when one failed. What failed is kept.
async fn write_batch(app: &AppContext, batch: &mut Vec<RequestRecord>) -> bool {
    let session = app.grant.session_id();
    let mut failed = None;
    if !batch.is_empty() {
        let records = Arc::new(std::mem::take(batch));
        if let Err(error) =
            app.grant.broker.web_requests().store(session, Arc::clone(&records)).await
        {
            *batch = Arc::unwrap_or_clone(records);
            failed = Some(error);
        }
    }
    for refused in app.log.refusals.take() {
        if let Err(error) = app.grant.request_refused(&refused).await {
            app.log.refusals.add(refused);
            failed = Some(error);
        }
    }
    app.log.failing.store(failed.is_some(), Ordering::Relaxed);
    if let Some(error) = &failed {
        let cause = error.source.as_deref().map(tracing::field::display);
        tracing::error!(session_id = %session, %error, cause, requests = batch.len(), "application.requests.unwritten");
    }
    failed.is_none()
}

/// Writes the records that are left, until every request has sent its record.
async fn drain_queue(
    app: &AppContext,
    queue: &mut mpsc::Receiver<RequestRecord>,
    batch: &mut Vec<RequestRecord>,
) {
    loop {
        let received = queue.recv_many(batch, BATCH_MAX).await;
        while !write_batch(app, batch).await {
            sleep(DRAIN_RETRY).await;
        }
        if received == 0 {
            return;
        }
    }
}

/// Records the close of the application in the audit log, also when the task is dropped or panics.
struct CloseGuard {
    open: Option<(Arc<AppContext>, StreamSlotGuard)>,
}

impl CloseGuard {
    async fn close(mut self) {
        if let Some((app, slot)) = self.open.take() {
            close(app, slot).await;
        }
    }
}

impl Drop for CloseGuard {
    fn drop(&mut self) {
        if let Some((app, slot)) = self.open.take() {
            app.terminate(StreamEnd::AuthorizationUnknown);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(close(app, slot));
            }
        }
    }
}

async fn close(app: Arc<AppContext>, slot: StreamSlotGuard) {
    let session_id = app.grant.session_id();
    let reason = app.lifecycle.reason();
    tracing::info!(%session_id, why = reason, "viewer.application.closed");
    if let Err(error) = app.grant.close(slot, reason).await {
        tracing::error!(%session_id, why = reason, %error, cause = error.source.as_deref().map(tracing::field::display), "viewer.application.unrecorded");
    }
    app.lifecycle.mark_closed();
}
