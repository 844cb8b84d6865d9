//! Live updates: server-sent events that say "refetch", and nothing else. What may be seen is
//! decided by the request that fetches.

use crate::broker::live::{Change, Topic};
use crate::domain::{Error, ErrorKind, OrganizationId};
use crate::http::AppState;
use crate::http::error::{ApiError, ApiResult, Problem};
use crate::http::extract::Signed;
use crate::http::limit::ListenersPlace;
use actix_web::http::{StatusCode, header};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::stream::{self, Stream};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// A comment this often keeps proxies from thinking the stream dead.
const PING: Duration = Duration::from_secs(15);
/// When somebody with too many windows may try again.
const CROWDED: Duration = Duration::from_secs(30);
/// A stream ends after this and its page comes back with the token of then: a login that ended
/// listens no longer.
const LIFE: Duration = Duration::from_secs(300);

/// Events `workspaces`, `sessions`, `hosts` and, for those who may read it, `audit` (data `{}`) say
/// what to fetch again.
#[utoipa::path(get, path = "/api/events", tag = "events", operation_id = "events",
    responses((status = 200, content((String = "text/event-stream"))), (status = 401, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn events(state: web::Data<AppState>, Signed(caller): Signed) -> ApiResult {
    let (changes, entries) = (state.broker.changes(&caller), state.broker.audit_changes(&caller));
    let place = Arc::clone(&state.event_streams).try_acquire_owned().map_err(|_| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Too many event streams. Try again later.")
    })?;
    let own = state.listeners.take(caller.user.id).ok_or_else(|| {
        Error::new(
            ErrorKind::Throttled(CROWDED),
            "You have too many windows open. Close some of them.",
        )
    })?;
    let listener = Listener::new(
        changes,
        entries,
        caller.user.organization_id,
        state.going_away(),
        (place, own),
    );
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(listener.into_stream()))
}

struct Listener {
    changes: broadcast::Receiver<Change>,
    entries: Option<watch::Receiver<u64>>,
    organization: OrganizationId,
    going_away: watch::Receiver<bool>,
    ping: Interval,
    until: Instant,
    pending: VecDeque<Bytes>,
    _place: (OwnedSemaphorePermit, ListenersPlace),
}

impl Listener {
    fn new(
        changes: broadcast::Receiver<Change>,
        entries: Option<watch::Receiver<u64>>,
        organization: OrganizationId,
        going_away: watch::Receiver<bool>,
        place: (OwnedSemaphorePermit, ListenersPlace),
    ) -> Self {
        let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first bytes open the stream at once and say how soon to come back.
        let pending = VecDeque::from([Bytes::from_static(b"retry: 1000\n\n: open\n\n")]);
        Self {
            changes,
            entries,
            organization,
            going_away,
            ping,
            until: Instant::now() + LIFE,
            pending,
            _place: place,
        }
    }

    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut listener| async move {
            listener.next().await.map(|bytes| (Ok(bytes), listener))
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
                    Ok(change) if change.organization_id.is_none_or(|o| o == self.organization) => self.pending.push_back(event(change.topic)),
                    Ok(_) => {}
                    // Some were missed: fetch everything again.
                    Err(RecvError::Lagged(_)) => self.pending.extend([Topic::Workspaces, Topic::Sessions, Topic::Hosts].map(event)),
                    Err(RecvError::Closed) => return None,
                },
                () = moved(self.entries.as_mut()) => self.pending.push_back(Bytes::from_static(b"event: audit\ndata: {}\n\n")),
                _ = self.ping.tick() => return Some(Bytes::from_static(b": ping\n\n")),
                _ = self.going_away.wait_for(|gone| *gone) => return None,
                () = tokio::time::sleep_until(self.until) => return None,
            }
        }
    }
}

/// Waits until the log grows; for ever when there is nothing to wait for.
async fn moved(entries: Option<&mut watch::Receiver<u64>>) {
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
