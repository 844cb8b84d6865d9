//! Attaching a browser to its desktop: lease, handshake, relay, cut.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`mod@attach`] | what a stream needs, and what cuts it |
//! | `vnc` | the order of things of RFB: dial, prove, greet, relay |
//! | [`rdp`] | the order of things of RDP: hear what is asked for, dial, TLS, prove, answer, relay |
//! | [`html5`] | the reverse proxy of web applications |
//! | `handshake` | the pure RFB handshakes, driven over streams |
//! | [`trust`] | TLS to a desktop's server, and whether its certificate is to be trusted |
//! | `anonymous` | TLS to a server that shows no certificate |
//! | `relay` | bytes both ways, held back by whoever is slow |
//! | [`gate`] | what of them may pass |
//! | `backlog` | what a gate answers in the other side's place |
//! | [`books`] | what a stream writes down |
//! | [`probe`] | whether a web application answers, asked when it is launched |
//! | `pulse` | whether the browser lives, and how far it is |
//! | [`end`] | why a stream ended: close code, reason, word for the audit log |
//! | [`browser`] | what the relay needs of a browser |
//! | [`ws`] | a browser over WebSocket |
//! | `lane` | output on its way to it |
//! | [`cut`] | an end that many connections share |
//! | [`hangup`] | how a connection is cut that nobody reads |
//!
//! - *grant*: the right to one stream, with the lease that carries its target ([`StreamGrant`]).
//! - *desktop*: the RFB server of the session, reached by [`Dial`] through the session's tunnel.
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

/// A connection to a desktop.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// Reaches desktops. Takes a lease and nothing else: there is no other way to name a target.
pub trait Dial: Send + Sync + 'static {
    /// A connection to the lease's desktop, through the session's tunnel.
    fn dial<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>>;
}

/// What every stream needs.
#[derive(Clone)]
pub struct Context {
    /// Told when a stream ends.
    pub broker: Broker,
    /// Reaches the desktop.
    pub dial: Arc<dyn Dial>,
    /// True when the gateway goes away.
    pub draining: watch::Receiver<bool>,
}

/// How long things may take.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Reaching the desktop.
    pub dial: Duration,
    /// Each of the two handshakes.
    pub handshake: Duration,
    /// Between pings.
    pub ping_interval: Duration,
    /// A browser that answers no ping for this long is gone.
    pub pong: Duration,
    /// A desktop that takes no input for this long is gone.
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

/// Serves one stream to its end. The browser's WebSocket is open already; spawn this with
/// `actix_web::rt::spawn`. A browser that reads nothing keeps its dead connection after the end;
/// [`serve_on`] ends that too.
pub async fn serve(ctx: Context, origin: RequestSource, grant: StreamGrant, browser: WebSocket) {
    serve_with_shutdown(ctx, origin, grant, browser, None).await;
}

/// [`serve`] on a connection that can be cut ([`hangup::on_connect`]).
pub async fn serve_with_shutdown(
    ctx: Context,
    origin: RequestSource,
    grant: StreamGrant,
    browser: WebSocket,
    hangup: Option<SocketShutdown>,
) {
    let Context { broker, dial, draining } = ctx;
    let tally = Arc::new(RefusalCounter::default());
    let closing = CloseGuard {
        open: Some(OpenStream { broker, origin, grant, refusals: Arc::clone(&tally) }),
    };
    let Some(OpenStream { broker, origin, grant, .. }) = &closing.open else { return };
    let attachment = Attachment {
        lease: &grant.lease,
        dial: &*dial,
        authorization: grant.authorization.clone(),
        draining,
        meters: &grant.meters,
        refusals: &tally,
        audit: &BrokerStreamAudit { broker, origin, grant },
        timeouts: Timeouts::default(),
    };
    let ended = stream(attachment, browser).await;
    let why = ended.end.reason_code();
    tokio::join!(closing.close(why), ended.close(hangup));
}

/// Runs an attachment over a WebSocket. When this returns, the desktop's connection is closed, and
/// the browser has not been told yet.
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

/// A stream that has ended, with the browser still there.
pub struct EndedStream {
    /// Why.
    pub end: StreamEnd,
    sink: websocket::WsSink,
    source: websocket::WsSource,
}

impl EndedStream {
    /// Tells the browser why, and cuts its connection when it does not go by itself. Takes less
    /// than a second.
    pub async fn close(self, hangup: Option<SocketShutdown>) {
        websocket::close(self.sink, self.source, &self.end, hangup).await;
    }
}

fn log_end(session_id: crate::domain::SessionId, end: &StreamEnd) {
    match end.cause() {
        Some(cause) => {
            tracing::warn!(%session_id, why = end.reason_code(), cause, "viewer.stream.failed")
        }
        None => tracing::info!(%session_id, why = end.reason_code(), "viewer.stream.closed"),
    }
}

/// Sees to it that every stream that was opened is closed in the books, also when its task is
/// dropped or panics.
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
    async fn close(mut self, why: &'static str) {
        if let Some(held) = self.open.take() {
            // A task of its own: once begun, it is not undone by whoever drops us.
            let _ = tokio::spawn(close(held, why)).await;
        }
    }
}

impl Drop for CloseGuard {
    fn drop(&mut self) {
        if let Some(held) = self.open.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(close(held, "aborted"));
        }
    }
}

async fn close(held: OpenStream, why: &str) {
    let OpenStream { broker, origin, grant, refusals: tally } = held;
    let session_id = grant.lease.session().id;
    tally.flush(&BrokerStreamAudit { broker: &broker, origin: &origin, grant: &grant }).await;
    if let Err(error) = broker.close_stream(&origin, grant, why).await {
        tracing::error!(%session_id, why, %error, cause = error.source.as_deref().map(tracing::field::display), "viewer.stream.unrecorded");
    }
}
