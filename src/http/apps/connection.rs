//! A connection under the apps domain: HTTP/1.1 or HTTP/2 by ALPN, spoken by hyper, whose parser is strict, whose bodies stream, and which says `100 Continue`
//! only when the body is asked for.

use super::dispatch::{Apps, Asked, HEADERS_MAX, answer};
use super::table::Opened;
use crate::broker::live::Right;
use crate::http::AppState;
use crate::http::server::ServerLimits;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Largest head of a request, bytes; more is 431 (RFC 6585 section 5).
const HEAD_MAX: u32 = 64 * 1024;
/// Requests at once on an HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// What a browser may send ahead of the application taking it: on one HTTP/2 stream, and on all of a connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// An HTTP/2 peer is asked so often whether it is there, and gone when it does not say.
const PING_EVERY: Duration = Duration::from_secs(20);
/// What is under way when the right to an application is lost may take so long to end, then the connection is cut.
const CUT_AFTER: Duration = Duration::from_millis(800);

/// What a connection is served with.
pub(super) struct Connection {
    pub(super) state: AppState,
    pub(super) apps: Arc<Apps>,
    pub(super) peer: Option<IpAddr>,
    pub(super) limits: ServerLimits,
}

/// The applications that a connection's requests went to: nearly always one. HTTP/2 may share a connection among origins.
#[derive(Default)]
struct Served {
    rights: Mutex<Vec<(usize, watch::Receiver<Right>)>>,
    more: Notify,
}

impl Served {
    fn note(&self, opened: &Arc<Opened>) {
        let mut rights = self.rights.lock().unwrap_or_else(PoisonError::into_inner);
        let which = Arc::as_ptr(opened) as usize;
        if !rights.iter().any(|(known, _)| *known == which) {
            rights.push((which, opened.right.clone()));
            self.more.notify_one();
        }
    }

    /// Resolves when the right to one of them is lost.
    async fn lost(&self) {
        loop {
            let rights: Vec<_> = self.rights.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, right)| right.clone()).collect();
            let any = rights.into_iter().map(|mut right| Box::pin(async move { drop(right.wait_for(|r| *r != Right::Held).await) }));
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
}

/// Serves a connection to its end. `stopping` resolves when the gateway stops.
pub(super) async fn serve<S>(connection: Connection, stream: S, is_http2: bool, stopping: impl Future<Output = ()>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let served = Arc::new(Served::default());
    let connection = Arc::new(connection);
    let limits = connection.limits;
    let service = service_fn({
        let served = Arc::clone(&served);
        move |request: Request<Incoming>| one(Arc::clone(&connection), Arc::clone(&served), request)
    });
    let io = TokioIo::new(stream);
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY);
        let running = builder.serve_connection(io, service);
        tend(running, |running| running.graceful_shutdown(), &served, stopping).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_headers(HEADERS_MAX)
            .max_header_size(usize::try_from(HEAD_MAX).unwrap_or(usize::MAX));
        let running = builder.serve_connection(io, service).with_upgrades();
        tend(running, |running| running.graceful_shutdown(), &served, stopping).await;
    }
}

/// Lets a connection run until it ends, is to end, or must.
async fn tend<C, E>(running: C, end: impl Fn(Pin<&mut C>), served: &Served, stopping: impl Future<Output = ()>)
where
    C: Future<Output = Result<(), E>>,
    E: std::error::Error,
{
    let (mut running, mut stopping) = (pin!(running), pin!(stopping));
    let ended = tokio::select! {
        ended = running.as_mut() => ended,
        () = stopping.as_mut() => {
            end(running.as_mut());
            // The server waits as long as it may, then the thread ends.
            tokio::select! {
                ended = running.as_mut() => ended,
                () = served.lost() => return,
            }
        }
        () = served.lost() => {
            end(running.as_mut());
            // A browser that reads nothing must not hold what it may no longer have.
            match tokio::time::timeout(CUT_AFTER, running.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "apps.connection.failed");
    }
}

async fn one(connection: Arc<Connection>, served: Arc<Served>, request: Request<Incoming>) -> Result<Response<super::Body>, Infallible> {
    let began = Instant::now();
    let method = request.method().clone();
    let asked = Asked { state: &connection.state, apps: &connection.apps, peer: connection.peer };
    let answer = answer(&asked, request, |opened| served.note(opened)).await;
    let word = crate::http::observe::method_word(method.as_str());
    connection.state.metrics.request(word, Some("apps"), answer.status().as_u16(), began.elapsed());
    Ok(answer)
}
