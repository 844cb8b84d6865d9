//! Serves streams over WebSockets, and records their ends.

use super::attach::{Attachment, attach};
use super::dial::Dial;
use super::socket_shutdown::SocketShutdown;
use super::stream_audit::{BrokerStreamAudit, RefusalCounter, StreamAudit};
use super::stream_end::StreamEnd;
use super::timeouts::Timeouts;
use super::websocket::{self, WebSocket, WsSink, WsSource};
use crate::broker::Broker;
use crate::broker::core::stream_registry::StreamGrant;
use crate::domain::SessionId;
use crate::domain::user::RequestSource;
use std::sync::Arc;
use tokio::sync::watch;

/// Dependencies of every stream.
#[derive(Clone)]
pub struct Context {
    pub broker: Broker,
    pub dial: Arc<dyn Dial>,
    /// Becomes true when the gateway shuts down.
    pub draining: watch::Receiver<bool>,
}

/// Runs one stream until it ends. The browser's WebSocket is open already; spawn this with
/// `actix_web::rt::spawn`. The connection of a browser that does not read stays open afterwards;
/// [`serve_with_shutdown`] closes that, too.
pub async fn serve(ctx: Context, origin: RequestSource, grant: StreamGrant, browser: WebSocket) {
    serve_with_shutdown(ctx, origin, grant, browser, None).await;
}

/// [`serve`] on a connection that can be shut down ([`socket_shutdown::on_connect`]).
pub async fn serve_with_shutdown(
    ctx: Context,
    origin: RequestSource,
    grant: StreamGrant,
    browser: WebSocket,
    shutdown: Option<SocketShutdown>,
) {
    let Context { broker, dial, draining } = ctx;
    let refusals = Arc::new(RefusalCounter::default());
    let guard = CloseGuard {
        open: Some(OpenStream { broker, origin, grant, refusals: Arc::clone(&refusals) }),
    };
    let Some(OpenStream { broker, origin, grant, .. }) = &guard.open else { return };
    let attachment = Attachment {
        lease: &grant.lease,
        dial: &*dial,
        authorization: grant.authorization.clone(),
        draining,
        meters: &grant.meters,
        refusals: &refusals,
        audit: &BrokerStreamAudit { broker, origin, grant },
        timeouts: Timeouts::default(),
    };
    let ended = stream(attachment, browser).await;
    let reason = ended.end.reason_code();
    tokio::join!(guard.close(reason), ended.close(shutdown));
}

/// Runs an attachment over a WebSocket. When this returns, the desktop's connection is closed, and
/// the close frame has not been sent yet.
pub async fn stream<B: StreamAudit>(
    attachment: Attachment<'_, B>,
    browser: WebSocket,
) -> EndedStream {
    let (sink, mut source) = browser.split();
    let session_id = attachment.lease.session().id;
    let end = attach(attachment, sink.clone(), &mut source).await;
    log_end(session_id, &end);
    EndedStream { end, sink, source }
}

/// A stream that has ended; its browser is still connected.
pub struct EndedStream {
    pub end: StreamEnd,
    sink: WsSink,
    source: WsSource,
}

impl EndedStream {
    /// Sends the close frame, then shuts the connection down if the browser does not close it.
    /// Takes less than a second.
    pub async fn close(self, shutdown: Option<SocketShutdown>) {
        websocket::close(self.sink, self.source, &self.end, shutdown).await;
    }
}

fn log_end(session_id: SessionId, end: &StreamEnd) {
    match end.cause() {
        Some(cause) => {
            tracing::warn!(%session_id, reason = end.reason_code(), cause, "viewer.stream.failed")
        }
        None => tracing::info!(%session_id, reason = end.reason_code(), "viewer.stream.closed"),
    }
}

/// Records the end of every stream that was opened, also when its task is dropped or panics.
struct CloseGuard {
    open: Option<OpenStream>,
}

struct OpenStream {
    broker: Broker,
    origin: RequestSource,
    grant: StreamGrant,
    refusals: Arc<RefusalCounter>,
}

impl CloseGuard {
    async fn close(mut self, reason: &'static str) {
        if let Some(opened) = self.open.take() {
            // A task of its own, so that dropping the caller does not cancel it.
            let _ = tokio::spawn(close(opened, reason)).await;
        }
    }
}

impl Drop for CloseGuard {
    fn drop(&mut self) {
        if let Some(opened) = self.open.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(close(opened, "aborted"));
        }
    }
}

async fn close(opened: OpenStream, reason: &str) {
    let OpenStream { broker, origin, grant, refusals } = opened;
    let session_id = grant.lease.session().id;
    refusals.flush(&BrokerStreamAudit { broker: &broker, origin: &origin, grant: &grant }).await;
    if let Err(error) = broker.streams().close(&origin, grant, reason).await {
        tracing::error!(%session_id, reason, %error, cause = error.source.as_deref().map(tracing::field::display), "viewer.stream.unrecorded");
    }
}
