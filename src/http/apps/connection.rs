//! A connection under the apps domain: HTTP/1.1 or HTTP/2 by ALPN, spoken by hyper, whose parser is
//! strict, whose bodies stream, and which says `100 Continue` only when the body is asked for.

use super::clock::Clock;
use super::dispatch::{Apps, Asked, HEADERS_MAX, answer};
use super::line::{Line, Marks};
use super::streams::{Streams, Taken, Turn};
use super::table::Opened;
use crate::broker::live::Right;
use crate::http::AppState;
use crate::http::server::ServerLimits;
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
use std::sync::{Arc, Mutex, PoisonError};
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
const PING_EVERY: Duration = Duration::from_secs(20);
/// What is under way when the right to an application is lost may take so long to end, then the
/// connection is cut.
const CUT_AFTER: Duration = Duration::from_millis(800);

/// What a connection is served with.
pub(super) struct Connection {
    pub(super) state: AppState,
    pub(super) apps: Arc<Apps>,
    pub(super) peer: Option<IpAddr>,
    pub(super) limits: ServerLimits,
}

/// The applications that a connection's requests went to: nearly always one. HTTP/2 may share a
/// connection among origins.
#[derive(Default)]
struct Served {
    held: Mutex<Vec<Held>>,
    more: Notify,
}

struct Held {
    /// Which application.
    which: usize,
    right: watch::Receiver<Right>,
    /// Ends its streams.
    cut: CancellationToken,
}

impl Held {
    fn is_lost(&self) -> bool {
        *self.right.borrow() != Right::Held || self.right.has_changed().is_err()
    }
}

impl Served {
    /// A request goes to this one; what ends its stream.
    fn note(&self, opened: &Arc<Opened>) -> CancellationToken {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let which = Arc::as_ptr(opened) as usize;
        if let Some(known) = held.iter().find(|known| known.which == which) {
            return known.cut.clone();
        }
        let cut = CancellationToken::new();
        held.push(Held { which, right: opened.right.clone(), cut: cut.clone() });
        self.more.notify_one();
        cut
    }

    /// Resolves when the right to one of them is lost.
    async fn lost(&self) {
        loop {
            let rights: Vec<_> = self
                .held
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .map(|held| held.right.clone())
                .collect();
            let any = rights.into_iter().map(|mut right| {
                Box::pin(async move { drop(right.wait_for(|r| *r != Right::Held).await) })
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
                () = self.more.notified() => {}
            }
        }
    }

    /// Whether none is left.
    fn all_lost(&self) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).iter().all(Held::is_lost)
    }

    /// Ends the streams of those that are lost, and forgets them.
    fn cut_lost(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).retain(|held| {
            let lost = held.is_lost();
            if lost {
                held.cut.cancel();
            }
            !lost
        });
    }
}

/// Serves a connection to its end. `stopping` resolves when the gateway stops.
pub(super) async fn serve(
    connection: Connection,
    stream: TlsStream<TcpStream>,
    is_http2: bool,
    stopping: impl Future<Output = ()>,
) {
    let served = Arc::new(Served::default());
    let connection = Arc::new(connection);
    let limits = connection.limits;
    let service = service_fn({
        let served = Arc::clone(&served);
        move |request: Request<Incoming>| one(Arc::clone(&connection), Arc::clone(&served), request)
    });
    let line = Line::new(stream, limits.stall);
    let marks = line.marks();
    let io = TokioIo::new(line);
    if is_http2 {
        let mut builder = http2::Builder::new(Streams { stall: limits.stall });
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY);
        let running = builder.serve_connection(io, service);
        tend(running, |running| running.graceful_shutdown(), &marks, &served, stopping).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(Clock::default())
            .header_read_timeout(limits.head_timeout)
            .max_headers(HEADERS_MAX)
            .max_header_size(usize::try_from(HEAD_MAX).unwrap_or(usize::MAX));
        let running = builder.serve_connection(io, service).with_upgrades();
        tend(running, |running| running.graceful_shutdown(), &marks, &served, stopping).await;
    }
}

/// What a connection has to hear of.
enum Event {
    /// The gateway stops.
    Stops,
    /// The right to one of its applications is lost.
    Lost,
}

/// Lets a connection run until it ends, is to end, or must.
async fn tend<C, E>(
    running: C,
    end: impl Fn(Pin<&mut C>),
    marks: &Marks,
    served: &Served,
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
                () = stopping.as_mut(), if !stops => Event::Stops,
                () = served.lost() => Event::Lost,
            }
        }]);
        let event = tokio::select! {
            ended = running.as_mut() => break ended,
            event = events.next() => event,
        };
        drop(events);
        if let Some(Event::Stops) = event {
            // The server waits as long as it may, then the thread ends.
            stops = true;
            end(running.as_mut());
            continue;
        }
        // What is under way ends by itself, with a page that says why where there is no answer yet.
        let last = served.all_lost();
        if last {
            cut = true;
            end(running.as_mut());
        }
        let taken = marks.taken();
        if let Ok(ended) = tokio::time::timeout(CUT_AFTER, running.as_mut()).await {
            break ended;
        }
        served.cut_lost();
        // A browser that reads nothing must not hold what it may no longer have. One that shows
        // other applications by this connection goes on with them.
        if last || marks.is_stuck_since(taken) {
            marks.reset();
            return;
        }
    };
    if let Err(error) = ended {
        if cut {
            marks.reset();
        }
        tracing::debug!(%error, "apps.connection.failed");
    }
}

async fn one(
    connection: Arc<Connection>,
    served: Arc<Served>,
    request: Request<Incoming>,
) -> Result<Response<Taken>, Infallible> {
    let began = Instant::now();
    let method = request.method().clone();
    // Those wait, and would hide how long answers take.
    let route = if request.uri().path() == "/.portcullis/state" { "apps state" } else { "apps" };
    let turn = Turn::here();
    let asked = Asked { state: &connection.state, apps: &connection.apps, peer: connection.peer };
    let answer = answer(&asked, request, |opened| {
        let cut = served.note(opened);
        if let Some(turn) = &turn {
            turn.ends_with(cut);
        }
    })
    .await;
    let word = crate::http::observe::method_word(method.as_str());
    connection.state.metrics.request(
        word,
        Some(Cow::Borrowed(route)),
        answer.status().as_u16(),
        began.elapsed(),
    );
    Ok(answer.map(|body| Taken::new(body, turn)))
}
