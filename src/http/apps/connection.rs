//! A connection under the apps domain, apps by hyper: HTTP/1.1 or HTTP/2, by ALPN. hyper's parser
//! is strict, its bodies stream, and it sends `100 Continue` only when the body is polled.

use super::context::{Apps, RequestContext};
use super::dispatch::{HEADERS_MAX, refuse_large_head, respond};
use super::header_timer::HeaderReadTimer;
use super::pages;
use super::table::OpenApp;
use crate::broker::core::stream_registry::StreamAuthorization;
use crate::domain::sync::lock;
use crate::http::browser_io::{BrowserIo, WriteProgress};
use crate::http::connections::header_block_io::HeaderBlockIo;
use crate::http::connections::http2::{self, APP_BUFFERS};
use crate::http::connections::lifetime::{Lifetime, LifetimeEvent};
use crate::http::connections::pool::{ConnectionHandle, ConnectionSlot, RequestGuard};
use crate::http::connections::slot_io::SlotIo;
use crate::http::h2_streams::{H2Executor, StreamProgress, TrackedBody};
use crate::http::head_limit::HEAD_MAX;
use crate::http::http2_gateway::kept_head;
use crate::http::observe::method_label;
use crate::http::server_limits::ServerLimits;
use crate::http::state::AppState;
use crate::viewer::html5::Body;
use actix_web::rt::net::TcpStream;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::borrow::Cow;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How long requests in progress may take to end after the authorization for an application is
/// revoked; then the connection is reset.
const REVOKE_TIMEOUT: Duration = Duration::from_millis(800);

/// What the requests of a connection share.
pub(super) struct ConnectionContext {
    pub(super) state: AppState,
    pub(super) apps: Arc<Apps>,
    pub(super) peer: Option<IpAddr>,
    pub(super) limits: ServerLimits,
    pub(super) handle: ConnectionHandle,
}

/// The applications that the requests of a connection were sent to: nearly always one, but HTTP/2 may
/// share a connection among origins.
#[derive(Default)]
struct ConnectionApps {
    holds: Mutex<Vec<AppHold>>,
    changed: Notify,
}

struct AppHold {
    /// Address of the [`OpenApp`], as its identity.
    app_address: usize,
    authorization: watch::Receiver<StreamAuthorization>,
    /// Resets its HTTP/2 streams.
    reset_token: CancellationToken,
}

impl AppHold {
    fn is_revoked(&self) -> bool {
        *self.authorization.borrow() != StreamAuthorization::Valid
            || self.authorization.has_changed().is_err()
    }
}

impl ConnectionApps {
    fn holds(&self) -> MutexGuard<'_, Vec<AppHold>> {
        lock(&self.holds)
    }

    /// Records a request to an application. The token resets the request's stream.
    fn hold(&self, app: &Arc<OpenApp>) -> CancellationToken {
        let mut holds = self.holds();
        let app_address = Arc::as_ptr(app) as usize;
        if let Some(hold) = holds.iter().find(|hold| hold.app_address == app_address) {
            return hold.reset_token.clone();
        }
        let reset_token = CancellationToken::new();
        holds.push(AppHold {
            app_address,
            authorization: app.authorization.clone(),
            reset_token: reset_token.clone(),
        });
        self.changed.notify_one();
        reset_token
    }

    /// Resolves when the authorization for one of them is revoked.
    async fn any_revoked(&self) {
        loop {
            let revocations: Vec<_> = self
                .holds()
                .iter()
                .map(|hold| hold.authorization.clone())
                .map(|mut authorization| {
                    Box::pin(async move {
                        drop(authorization.wait_for(|a| *a != StreamAuthorization::Valid).await);
                    })
                })
                .collect();
            let revoked = async {
                if revocations.is_empty() {
                    return pending().await;
                }
                futures_util::future::select_all(revocations).await;
            };
            tokio::select! {
                () = revoked => return,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Whether none is authorized any more.
    fn all_revoked(&self) -> bool {
        self.holds().iter().all(AppHold::is_revoked)
    }

    /// Resets the streams of those that are revoked, and removes them.
    fn reset_revoked(&self) {
        self.holds().retain(|hold| {
            let is_revoked = hold.is_revoked();
            if is_revoked {
                hold.reset_token.cancel();
            }
            !is_revoked
        });
    }
}

/// Serves a connection to its end.
pub(super) async fn serve<F: Future<Output = ()>>(
    context: ConnectionContext,
    stream: TlsStream<TcpStream>,
    slot: ConnectionSlot,
    is_http2: bool,
    lifetime: Lifetime<F>,
) {
    let apps = Arc::new(ConnectionApps::default());
    let context = Arc::new(context);
    let limits = context.limits;
    let service = service_fn({
        let apps = Arc::clone(&apps);
        move |mut request: Request<Incoming>| {
            // Before the request waits for its task: its fields are dropped here.
            let refusal = refuse_large_head(&context.apps.settings, &mut request);
            handle(Arc::clone(&context), Arc::clone(&apps), request, refusal)
        }
    });
    let io = BrowserIo::new(stream, is_http2, limits.write_stall_timeout);
    let progress = io.progress();
    if is_http2 {
        let io = HeaderBlockIo::new(io, (*slot).clone(), limits.head_timeout);
        let io = TokioIo::new(SlotIo::new(io, slot));
        let executor = H2Executor { stall: limits.write_stall_timeout };
        let connection = http2::builder(executor, APP_BUFFERS).serve_connection(io, service);
        drive(connection, |c| c.graceful_shutdown(), &progress, &apps, lifetime).await;
    } else {
        let io = TokioIo::new(SlotIo::new(io, slot));
        let mut builder = http1::Builder::new();
        builder
            .timer(HeaderReadTimer::default())
            .header_read_timeout(limits.head_timeout)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_MAX);
        let connection = builder.serve_connection(io, service).with_upgrades();
        drive(connection, |c| c.graceful_shutdown(), &progress, &apps, lifetime).await;
    }
}

/// Events that end a connection.
enum Event {
    Lifetime(LifetimeEvent),
    /// The authorization for one of its applications is revoked.
    Revoked,
}

/// Drives a connection until it ends by itself, by its lifetime, or by a revocation.
async fn drive<C, E, F>(
    connection: C,
    graceful_shutdown: impl Fn(Pin<&mut C>),
    progress: &WriteProgress,
    apps: &ConnectionApps,
    mut lifetime: Lifetime<F>,
) where
    C: Future<Output = Result<(), E>>,
    E: std::error::Error,
    F: Future<Output = ()>,
{
    let mut connection = pin!(connection);
    let mut is_revoked = false;
    let outcome = loop {
        // In a `FuturesUnordered`, so that they are polled only when they are woken themselves and
        // not at each read or write: they lock state that all connections share.
        let mut events = FuturesUnordered::from_iter([async {
            tokio::select! {
                event = lifetime.next() => Event::Lifetime(event),
                () = apps.any_revoked() => Event::Revoked,
            }
        }]);
        let event = tokio::select! {
            outcome = connection.as_mut() => break outcome,
            event = events.next() => event,
        };
        drop(events);
        match event {
            Some(Event::Lifetime(LifetimeEvent::Retire)) => {
                // At a shutdown the server waits up to its drain timeout, then the thread ends.
                graceful_shutdown(connection.as_mut());
                continue;
            }
            Some(Event::Lifetime(LifetimeEvent::Close)) => return,
            Some(Event::Revoked) | None => {}
        }
        // Requests in progress end by themselves; those without a response yet get a page.
        let all_revoked = apps.all_revoked();
        if all_revoked {
            is_revoked = true;
            graceful_shutdown(connection.as_mut());
        }
        let completed = progress.completed();
        if let Ok(outcome) = tokio::time::timeout(REVOKE_TIMEOUT, connection.as_mut()).await {
            break outcome;
        }
        apps.reset_revoked();
        // A browser that reads nothing must not receive buffered data later. A connection that also
        // serves other applications continues.
        if all_revoked || progress.is_stalled_since(completed) {
            progress.reset_on_close();
            return;
        }
    };
    if let Err(error) = outcome {
        if is_revoked {
            progress.reset_on_close();
        }
        tracing::debug!(%error, "apps.connection.failed");
    }
}

async fn handle(
    context: Arc<ConnectionContext>,
    apps: Arc<ConnectionApps>,
    request: Request<Incoming>,
    refusal: Option<Response<Body>>,
) -> Result<Response<TrackedBody<Body>>, Infallible> {
    let started_at = Instant::now();
    let mut guard = context.handle.begin_request(kept_head(&request));
    let method = request.method().clone();
    // Long polls have a route of their own: they would distort the duration of other requests.
    let route = if request.uri().path() == "/.portcullis/state" { "apps state" } else { "apps" };
    let progress = StreamProgress::current();
    let request_context =
        RequestContext { state: &context.state, apps: &context.apps, peer: context.peer };
    let on_app = |app: &_| {
        context.handle.set_authenticated();
        let reset_token = apps.hold(app);
        if let Some(progress) = &progress {
            progress.reset_on(reset_token);
        }
    };
    let response = match refusal {
        Some(refusal) => refusal,
        None if guard.is_none() => pages::rate_limited(&context.apps.settings),
        None => respond(&request_context, request, on_app).await,
    };
    context.state.metrics.record_request(
        method_label(method.as_str()),
        Some(Cow::Borrowed(route)),
        response.status().as_u16(),
        started_at.elapsed(),
    );
    if let Some(guard) = &mut guard {
        guard.set_answered();
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        guard.take().into_iter().for_each(RequestGuard::keep);
    }
    Ok(response.map(|body| TrackedBody::new(body, progress, guard)))
}
