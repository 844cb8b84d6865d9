//! Attaches a browser to its desktop: lease, handshakes, relay, revocation.
//!
//! | file | contents |
//! | --- | --- |
//! | [`mod@attach`] | runs one stream until it ends or its authorization is lost |
//! | `vnc` | an RFB stream: dial, authenticate, greet, relay |
//! | [`rdp`] | an RDP stream: read the request, dial, TLS, authenticate, answer, relay |
//! | [`html5`] | the reverse proxy of web applications |
//! | `handshake` | drives the pure RFB handshakes over streams |
//! | [`trust`] | TLS to an upstream, and the check of its certificate |
//! | `anonymous` | TLS to an upstream that has no certificate |
//! | `relay` | bytes in both directions, with backpressure |
//! | [`stream_filter`] | what of a direction's bytes may pass |
//! | `injected_replies` | queue of a filter's replies to the side it reads from |
//! | [`stream_audit`] | audit entries of a stream |
//! | [`probe`] | readiness probe of a web application, at launch |
//! | `ping` | WebSocket keepalive and round-trip time |
//! | [`stream_end`] | why a stream ended: close code, close reason, reason code of the audit log |
//! | [`browser`] | the relay's interface to a browser |
//! | [`websocket`] | a browser over WebSocket |
//! | `outbound_frames` | queue of WebSocket frames to a browser |
//! | [`revocation`] | a revocation that many connections observe |
//! | [`socket_shutdown`] | closes the connection of a browser that does not read |
//!
//! - *grant*: authorization for one stream, with the lease that carries its target
//!   ([`StreamGrant`]).
//! - *desktop*: the upstream of the session, reached by [`Dial`] through the session's tunnel.
//! - *up*, *down*: browser to desktop, desktop to browser.

mod anonymous;
pub mod attach;
pub mod browser;
mod handshake;
pub mod html5;
mod injected_replies;
mod outbound_frames;
mod ping;
pub mod probe;
pub mod rdp;
mod relay;
pub mod revocation;
pub mod socket_shutdown;
pub mod stream_audit;
pub mod stream_end;
pub mod stream_filter;
pub mod trust;
mod vnc;
pub mod websocket;

use crate::broker::Broker;
use crate::broker::core::stream_registry::StreamGrant;
use crate::domain::lease::Lease;
use crate::domain::user::RequestSource;
use attach::{Attachment, attach};
use futures_util::future::BoxFuture;
use socket_shutdown::SocketShutdown;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use stream_audit::{BrokerStreamAudit, RefusalCounter, StreamAudit};
use stream_end::StreamEnd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use websocket::WebSocket;

pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// Opens connections to desktops. It takes a lease only: a target cannot be named in another way.
pub trait Dial: Send + Sync + 'static {
    fn dial<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>>;
}

/// Dependencies of every stream.
#[derive(Clone)]
pub struct Context {
    pub broker: Broker,
    pub dial: Arc<dyn Dial>,
    /// Becomes true when the gateway shuts down.
    pub draining: watch::Receiver<bool>,
}

/// Time limits of a stream.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Opening the connection to the desktop.
    pub dial: Duration,
    /// Each of the two handshakes.
    pub handshake: Duration,
    /// Between pings.
    pub ping_interval: Duration,
    /// Longest wait for a pong.
    pub pong: Duration,
    /// Longest time in which a desktop accepts no input.
    pub desktop_write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            dial: s(10),
            handshake: s(10),
            ping_interval: s(5),
            pong: s(20),
            desktop_write: s(30),
        }
    }
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
    sink: websocket::WsSink,
    source: websocket::WsSource,
}

impl EndedStream {
    /// Sends the close frame, then shuts the connection down if the browser does not close it.
    /// Takes less than a second.
    pub async fn close(self, shutdown: Option<SocketShutdown>) {
        websocket::close(self.sink, self.source, &self.end, shutdown).await;
    }
}

fn log_end(session_id: crate::domain::SessionId, end: &StreamEnd) {
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
    if let Err(error) = broker.close_stream(&origin, grant, reason).await {
        tracing::error!(%session_id, reason, %error, cause = error.source.as_deref().map(tracing::field::display), "viewer.stream.unrecorded");
    }
}
