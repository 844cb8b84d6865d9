//! A connection under the apps domain: HTTP/1.1 or HTTP/2 by ALPN, spoken by hyper, whose parser is
//! strict, whose bodies stream, and which says `100 Continue` only when the body is asked for.

use super::browser_io::{BrowserIo, WriteProgress};
use super::dispatch::{Apps, HEADERS_MAX, RequestContext, respond};
use super::h2_streams::{H2Executor, StreamProgress, TrackedBody};
use super::header_timer::HeaderReadTimer;
use super::table::OpenApp;
use crate::broker::core::stream_registry::StreamAuthorization;
use crate::domain::sync::lock;
use crate::http::server_limits::ServerLimits;
use crate::http::state::AppState;
use actix_web::rt::net::TcpStream;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::borrow::Cow;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Largest head of a request, bytes; more is 431 (RFC 6585 section 5).
const HEAD_MAX: u32 = 64 * 1024;
/// Requests at once on an HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// What a browser may send ahead of the application taking it: on one HTTP/2 stream, and on all of
/// a connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// An HTTP/2 peer is asked so often whether it is there, and gone when it does not say.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// What is under way when the right to an application is lost may take so long to end, then the
/// connection is cut.
const REVOKE_TIMEOUT: Duration = Duration::from_millis(800);

/// What a connection is served with.
pub(super) struct ConnectionContext {
    pub(super) state: AppState,
    pub(super) apps: Arc<Apps>,
    pub(super) peer: Option<IpAddr>,
    pub(super) limits: ServerLimits,
}

/// The applications that a connection's requests went to: nearly always one. HTTP/2 may share a
/// connection among origins.
#[derive(Default)]
struct ConnectionApps {
    holds: Mutex<Vec<AppHold>>,
    changed: Notify,
}

struct AppHold {
    /// Which application.
    app_address: usize,
    right: watch::Receiver<StreamAuthorization>,
    /// Ends its streams.
    reset_token: CancellationToken,
}

impl AppHold {
    fn is_revoked(&self) -> bool {
        *self.right.borrow() != StreamAuthorization::Valid || self.right.has_changed().is_err()
    }
}

impl ConnectionApps {
    /// A request goes to this one; what ends its stream.
    fn hold(&self, opened: &Arc<OpenApp>) -> CancellationToken {
        let mut held = lock(&self.holds);
        let which = Arc::as_ptr(opened) as usize;
        if let Some(known) = held.iter().find(|known| known.app_address == which) {
            return known.reset_token.clone();
        }
        let cut = CancellationToken::new();
        held.push(AppHold {
            app_address: which,
            right: opened.right.clone(),
            reset_token: cut.clone(),
        });
        self.changed.notify_one();
        cut
    }

    /// Resolves when the right to one of them is lost.
    async fn any_revoked(&self) {
        loop {
            let rights: Vec<_> = lock(&self.holds).iter().map(|held| held.right.clone()).collect();
            let any = rights.into_iter().map(|mut right| {
                Box::pin(
                    async move { drop(right.wait_for(|r| *r != StreamAuthorization::Valid).await) },
                )
            });
            let any: Vec<_> = any.collect();
            let lost = async {
                if any.is_empty() {
                    return pending().await;
                }
                futures_util::future::select_all(any).await;
            };
            tokio::select! {
                () = lost => return,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Whether none is left.
    fn all_revoked(&self) -> bool {
        lock(&self.holds).iter().all(AppHold::is_revoked)
    }

    /// Ends the streams of those that are lost, and forgets them.
    fn reset_revoked(&self) {
        lock(&self.holds).retain(|held| {
            let lost = held.is_revoked();
            if lost {
                held.reset_token.cancel();
            }
            !lost
        });
    }
}

/// Serves a connection to its end. `stopping` resolves when the gateway stops.
pub(super) async fn serve(
    connection: ConnectionContext,
    stream: TlsStream<TcpStream>,
    is_http2: bool,
    stopping: impl Future<Output = ()>,
) {
    let served = Arc::new(ConnectionApps::default());
    let connection = Arc::new(connection);
    let limits = connection.limits;
    let service = service_fn({
        let served = Arc::clone(&served);
        move |request: Request<Incoming>| {
            handle(Arc::clone(&connection), Arc::clone(&served), request)
        }
    });
    let line = BrowserIo::new(stream, limits.write_stall_timeout);
    let marks = line.progress();
    let io = TokioIo::new(line);
    if is_http2 {
        let mut builder = http2::Builder::new(H2Executor { stall: limits.write_stall_timeout });
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL);
        let running = builder.serve_connection(io, service);
        drive(running, |running| running.graceful_shutdown(), &marks, &served, stopping).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(HeaderReadTimer::default())
            .header_read_timeout(limits.head_timeout)
            .max_headers(HEADERS_MAX)
            .max_header_size(usize::try_from(HEAD_MAX).unwrap_or(usize::MAX));
        let running = builder.serve_connection(io, service).with_upgrades();
        drive(running, |running| running.graceful_shutdown(), &marks, &served, stopping).await;
    }
}

/// What a connection has to hear of.
enum Event {
    /// The gateway stops.
    Shutdown,
    /// The right to one of its applications is lost.
    Revoked,
}

/// Lets a connection run until it ends, is to end, or must.
async fn drive<C, E>(
    running: C,
    end: impl Fn(Pin<&mut C>),
    marks: &WriteProgress,
    served: &ConnectionApps,
    stopping: impl Future<Output = ()>,
) where
    C: Future<Output = Result<(), E>>,
    E: std::error::Error,
{
    let (mut running, mut stopping) = (pin!(running), pin!(stopping));
    let (mut stops, mut cut) = (false, false);
    let ended = loop {
        // Asked only when they are woken themselves, not each time something moves: what they look
        // at, all connections share.
        let mut events = FuturesUnordered::from_iter([async {
            tokio::select! {
                () = stopping.as_mut(), if !stops => Event::Shutdown,
                () = served.any_revoked() => Event::Revoked,
            }
        }]);
        let event = tokio::select! {
            ended = running.as_mut() => break ended,
            event = events.next() => event,
        };
        drop(events);
        if let Some(Event::Shutdown) = event {
            // The server waits as long as it may, then the thread ends.
            stops = true;
            end(running.as_mut());
            continue;
        }
        // What is under way ends by itself, with a page that says why where there is no answer yet.
        let last = served.all_revoked();
        if last {
            cut = true;
            end(running.as_mut());
        }
        let taken = marks.completed();
        if let Ok(ended) = tokio::time::timeout(REVOKE_TIMEOUT, running.as_mut()).await {
            break ended;
        }
        served.reset_revoked();
        // A browser that reads nothing must not hold what it may no longer have. One that shows
        // other applications by this connection goes on with them.
        if last || marks.is_stalled_since(taken) {
            marks.reset_on_close();
            return;
        }
    };
    if let Err(error) = ended {
        if cut {
            marks.reset_on_close();
        }
        tracing::debug!(%error, "apps.connection.failed");
    }
}

async fn handle(
    connection: Arc<ConnectionContext>,
    served: Arc<ConnectionApps>,
    request: Request<Incoming>,
) -> Result<Response<TrackedBody>, Infallible> {
    let began = Instant::now();
    let method = request.method().clone();
    // Those wait, and would hide how long answers take.
    let route = if request.uri().path() == "/.portcullis/state" { "apps state" } else { "apps" };
    let turn = StreamProgress::current();
    let asked =
        RequestContext { state: &connection.state, apps: &connection.apps, peer: connection.peer };
    let answer = respond(&asked, request, |opened| {
        let cut = served.hold(opened);
        if let Some(turn) = &turn {
            turn.reset_on(cut);
        }
    })
    .await;
    let word = crate::http::observe::method_label(method.as_str());
    connection.state.metrics.record_request(
        word,
        Some(Cow::Borrowed(route)),
        answer.status().as_u16(),
        began.elapsed(),
    );
    Ok(answer.map(|body| TrackedBody::new(body, turn)))
}
