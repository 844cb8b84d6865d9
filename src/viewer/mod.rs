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
mod backlog;
pub mod books;
pub mod browser;
pub mod cut;
pub mod end;
pub mod gate;
mod handshake;
pub mod hangup;
pub mod html5;
mod lane;
pub mod probe;
mod pulse;
pub mod rdp;
mod relay;
pub mod trust;
mod vnc;
pub mod ws;

use crate::broker::Broker;
use crate::broker::live::StreamGrant;
use crate::domain::lease::Lease;
use crate::domain::user::Origin;
use attach::{Attachment, attach};
use books::{Books, BrokerBooks, Tally};
use end::End;
use futures_util::future::BoxFuture;
use hangup::Hangup;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use ws::WebSocket;

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
pub struct Limits {
    /// Reaching the desktop.
    pub dial: Duration,
    /// Each of the two handshakes.
    pub handshake: Duration,
    /// Between pings.
    pub ping_every: Duration,
    /// A browser that answers no ping for this long is gone.
    pub patience: Duration,
    /// A desktop that takes no input for this long is gone.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { dial: s(10), handshake: s(10), ping_every: s(5), patience: s(20), stall: s(30) }
    }
}

/// Serves one stream to its end. The browser's WebSocket is open already; spawn this with
/// `actix_web::rt::spawn`. A browser that reads nothing keeps its dead connection after the end;
/// [`serve_on`] ends that too.
pub async fn serve(ctx: Context, origin: Origin, grant: StreamGrant, browser: WebSocket) {
    serve_on(ctx, origin, grant, browser, None).await;
}

/// [`serve`] on a connection that can be cut ([`hangup::on_connect`]).
pub async fn serve_on(
    ctx: Context,
    origin: Origin,
    grant: StreamGrant,
    browser: WebSocket,
    hangup: Option<Hangup>,
) {
    let Context { broker, dial, draining } = ctx;
    let tally = Arc::new(Tally::default());
    let closing = Closing { held: Some(Held { broker, origin, grant, tally: Arc::clone(&tally) }) };
    let Some(Held { broker, origin, grant, .. }) = &closing.held else { return };
    let attachment = Attachment {
        lease: &grant.lease,
        dial: &*dial,
        right: grant.right.clone(),
        draining,
        meters: &grant.meters,
        tally: &tally,
        books: &BrokerBooks { broker, origin, grant },
        limits: Limits::default(),
    };
    let ended = stream(attachment, browser).await;
    let why = ended.end.why();
    tokio::join!(closing.close(why), ended.farewell(hangup));
}

/// Runs an attachment over a WebSocket. When this returns, the desktop's connection is closed, and
/// the browser has not been told yet.
pub async fn stream<B: Books>(attachment: Attachment<'_, B>, browser: WebSocket) -> Ended {
    let (sink, mut source) = browser.split();
    let session_id = attachment.lease.session().id;
    let end = attach(attachment, sink.clone(), &mut source).await;
    note(session_id, &end);
    Ended { end, sink, source }
}

/// A stream that has ended, with the browser still there.
pub struct Ended {
    /// Why.
    pub end: End,
    sink: ws::WsSink,
    source: ws::WsSource,
}

impl Ended {
    /// Tells the browser why, and cuts its connection when it does not go by itself. Takes less
    /// than a second.
    pub async fn farewell(self, hangup: Option<Hangup>) {
        ws::farewell(self.sink, self.source, &self.end, hangup).await;
    }
}

fn note(session_id: crate::domain::SessionId, end: &End) {
    match end.cause() {
        Some(cause) => tracing::warn!(%session_id, why = end.why(), cause, "viewer.stream.failed"),
        None => tracing::info!(%session_id, why = end.why(), "viewer.stream.closed"),
    }
}

/// Sees to it that every stream that was opened is closed in the books, also when its task is
/// dropped or panics.
struct Closing {
    held: Option<Held>,
}

struct Held {
    broker: Broker,
    origin: Origin,
    grant: StreamGrant,
    tally: Arc<Tally>,
}

impl Closing {
    async fn close(mut self, why: &'static str) {
        if let Some(held) = self.held.take() {
            // A task of its own: once begun, it is not undone by whoever drops us.
            let _ = tokio::spawn(close(held, why)).await;
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(held) = self.held.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(close(held, "aborted"));
        }
    }
}

async fn close(held: Held, why: &str) {
    let Held { broker, origin, grant, tally } = held;
    let session_id = grant.lease.session().id;
    tally.flush(&BrokerBooks { broker: &broker, origin: &origin, grant: &grant }).await;
    if let Err(error) = broker.close_stream(&origin, grant, why).await {
        tracing::error!(%session_id, why, %error, cause = error.source.as_deref().map(tracing::field::display), "viewer.stream.unrecorded");
    }
}
