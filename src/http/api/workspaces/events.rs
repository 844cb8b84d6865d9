//! Live updates: server-sent events that name what changed. They contain no data; the request that
//! reads it is authorized as any other.

use super::error_body::Problem;
use crate::broker::core::changes::Topic;
use crate::broker::jobs::change_feed::ChangeSubscription;
use crate::domain::{Error, ErrorKind};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::Authenticated;
use crate::http::rate_limit::EventStreamSlot;
use crate::http::state::AppState;
use actix_web::http::{StatusCode, header};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::stream::{self, Stream};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Interval of comments, which keep proxies from closing an idle stream.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// `Retry-After` for a user with too many streams.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Longest duration of a stream. Its page reconnects with the token of that time, so that an ended
/// login gets no more events.
const MAX_DURATION: Duration = Duration::from_secs(300);

/// Events `workspaces`, `sessions`, `hosts` and, for its readers, `audit` (data `{}`) name what has
/// changed.
#[utoipa::path(get, path = "/api/events", tag = "events", operation_id = "events",
    responses((status = 200, content((String = "text/event-stream"))), (status = 401, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn events(state: web::Data<AppState>, Authenticated(caller): Authenticated) -> ApiResult {
    let (changes, entries) = (
        state.broker.change_feed().subscribe(&caller),
        state.broker.change_feed().subscribe_audit(&caller),
    );
    let slot = Arc::clone(&state.event_streams).try_acquire_owned().map_err(|_| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Too many event streams. Try again later.")
    })?;
    let user_slot = state.user_event_streams.acquire(caller.id()).ok_or_else(|| {
        Error::new(
            ErrorKind::Throttled(RETRY_AFTER),
            "You have too many windows open. Close some of them.",
        )
    })?;
    let stream = EventStream::new(changes, entries, state.draining(), (slot, user_slot));
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(stream.into_stream()))
}

struct EventStream {
    changes: ChangeSubscription,
    entries: Option<watch::Receiver<u64>>,
    draining: watch::Receiver<bool>,
    ping: Interval,
    deadline: Instant,
    pending: VecDeque<Bytes>,
    _slots: (OwnedSemaphorePermit, EventStreamSlot),
}

impl EventStream {
    fn new(
        changes: ChangeSubscription,
        entries: Option<watch::Receiver<u64>>,
        draining: watch::Receiver<bool>,
        slots: (OwnedSemaphorePermit, EventStreamSlot),
    ) -> Self {
        let mut ping =
            tokio::time::interval_at(Instant::now() + KEEPALIVE_INTERVAL, KEEPALIVE_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first bytes open the stream and set the reconnection time.
        let pending = VecDeque::from([Bytes::from_static(b"retry: 1000\n\n: open\n\n")]);
        Self {
            changes,
            entries,
            draining,
            ping,
            deadline: Instant::now() + MAX_DURATION,
            pending,
            _slots: slots,
        }
    }

    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut stream_state| async move {
            stream_state.next().await.map(|bytes| (Ok(bytes), stream_state))
        })
    }

    /// The next bytes; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Some(bytes);
            }
            tokio::select! {
                change = self.changes.recv() => match change {
                    Ok(topic) => self.pending.push_back(event(topic)),
                    // Events were lost: everything may have changed.
                    Err(RecvError::Lagged(_)) => self.pending.extend([Topic::Workspaces, Topic::Sessions, Topic::Hosts].map(event)),
                    Err(RecvError::Closed) => return None,
                },
                () = audit_log_grew(self.entries.as_mut()) => self.pending.push_back(Bytes::from_static(b"event: audit\ndata: {}\n\n")),
                _ = self.ping.tick() => return Some(Bytes::from_static(b": ping\n\n")),
                _ = self.draining.wait_for(|draining| *draining) => return None,
                () = tokio::time::sleep_until(self.deadline) => return None,
            }
        }
    }
}

/// Waits until the audit log grows; forever without a receiver.
async fn audit_log_grew(entries: Option<&mut watch::Receiver<u64>>) {
    if let Some(entries) = entries
        && entries.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn event(topic: Topic) -> Bytes {
    Bytes::from_static(match topic {
        Topic::Workspaces => b"event: workspaces\ndata: {}\n\n",
        Topic::Sessions => b"event: sessions\ndata: {}\n\n",
        Topic::Hosts => b"event: hosts\ndata: {}\n\n",
    })
}
