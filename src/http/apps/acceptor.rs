//! One TCP port, two HTTP servers. The server name in the TLS ClientHello selects one: hyper for
//! names under the apps domain, and the gateway's own for all others and for none. Each has a TLS
//! configuration of its own, so that a TLS session of one cannot be resumed with the other.
//!
//! A connection goes through three stages, each with slots of its own (`http::connections`): it
//! sends its ClientHello, completes the handshake, and is open.

use super::connection::{self, ConnectionContext};
use super::context::Apps;
use crate::http::actix_exchange::CountedBody;
use crate::http::application::application;
use crate::http::body_refusal::SharedIo;
use crate::http::browser_io::BrowserIo;
use crate::http::connections::client::Client;
use crate::http::connections::header_block_io::HeaderBlockIo;
use crate::http::connections::lifetime::{Lifetime, LifetimeLimits};
use crate::http::connections::metrics::CloseReason;
use crate::http::connections::pool::{ConnectionHandle, ConnectionPool, ConnectionSlot};
use crate::http::connections::slot_io::SlotIo;
use crate::http::connections::stages::ConnectionStages;
use crate::http::head_refusal_io::HeadRefusalIo;
use crate::http::http2_gateway;
use crate::http::server_limits::ServerLimits;
use crate::http::state::AppState;
use crate::viewer::socket_shutdown;
use actix_http::{HttpService, Protocol};
use actix_service::{
    IntoServiceFactory as _, Service, ServiceFactory, ServiceFactoryExt as _, fn_factory,
    fn_service, map_config,
};
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// The byte stream of an HTTP/1.1 connection to one of the gateway's own names.
type Http1Io = SharedIo<SlotIo<HeadRefusalIo<TlsStream<TcpStream>>>>;

/// What the acceptor of a thread is built from.
#[derive(Clone)]
pub(in crate::http) struct Acceptor {
    pub(in crate::http) state: AppState,
    /// TLS settings of the gateway's own names.
    pub(in crate::http) tls: Arc<rustls::ServerConfig>,
    /// `None`: no apps domain is configured.
    pub(in crate::http) apps: Option<Arc<Apps>>,
    pub(in crate::http) stages: Arc<ConnectionStages>,
    pub(in crate::http) limits: ServerLimits,
}

/// The service of one thread's connections. `stopping` creates a future that resolves when the server
/// starts its graceful shutdown.
pub(in crate::http) fn service<S, F>(
    acceptor: Acceptor,
    stopping: S,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()>
where
    S: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let app =
        application(acceptor.state.clone()).into_factory().map_err(|error| error.error_response());
    let app = Rc::new(map_config(app, |()| AppConfig::default()));
    fn_factory(move || {
        let (acceptor, stopping, app) = (acceptor.clone(), stopping.clone(), Rc::clone(&app));
        async move {
            let limits = acceptor.limits;
            let app = Rc::new(app.new_service(()).await?);
            let counted = Rc::clone(&app);
            let http1 = HttpService::build()
                .graceful_shutdown_signal(stopping.clone())
                .keep_alive(limits.keep_alive)
                .client_request_timeout(limits.head_timeout)
                .client_disconnect_timeout(limits.disconnect_timeout)
                .on_connect_ext(|io: &Http1Io, data| {
                    io.with(|io| socket_shutdown::on_connect(io.get_ref().get_ref(), data));
                    data.insert(io.with(SlotIo::handle));
                    data.insert(io.with(|io| io.get_ref().watch_client()));
                })
                .finish(move |request: actix_http::Request| {
                    let connection = request.conn_data::<ConnectionHandle>();
                    // Without a limit of its own: HTTP/1.1 has one request at a time.
                    let mut guard = connection.and_then(|connection| connection.begin_request(0));
                    let answering = counted.call(request);
                    async move {
                        let response = actix_http::Response::from(answering.await?);
                        if let Some(guard) = &mut guard {
                            guard.set_answered();
                        }
                        let counted = response.map_body(|_, body| CountedBody::new(body, guard));
                        Ok::<_, actix_web::HttpResponse>(counted)
                    }
                });
            let http1 = Rc::new(http1.new_service(()).await?);
            Ok(fn_service(move |io: TcpStream| {
                let (acceptor, stopping, app, http1) =
                    (acceptor.clone(), stopping.clone(), Rc::clone(&app), Rc::clone(&http1));
                async move {
                    let peer = io.peer_addr().ok();
                    let Some((stream, slot, for_apps)) = accept(&acceptor, io).await else {
                        return Ok(());
                    };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let handle = (*slot).clone();
                    // HTTP/1.1 servers close idle connections themselves.
                    let lifetime = is_http2.then_some(LifetimeLimits {
                        idle: limits.keep_alive,
                        age: limits.connection_age,
                    });
                    let lifetime = Lifetime::new(handle.clone(), lifetime, stopping());
                    match acceptor.apps {
                        Some(apps) if for_apps => {
                            let connection = ConnectionContext {
                                state: acceptor.state,
                                apps,
                                peer: peer.map(|p| p.ip()),
                                limits,
                                handle,
                            };
                            connection::serve(connection, stream, slot, is_http2, lifetime).await;
                        }
                        Some(_) | None if is_http2 => {
                            let io = BrowserIo::new(stream, is_http2, limits.write_stall_timeout);
                            let io = HeaderBlockIo::new(io, handle, limits.head_timeout);
                            let io = SlotIo::new(io, slot);
                            http2_gateway::serve(io, app, peer, limits, lifetime).await;
                        }
                        Some(_) | None => {
                            let io = SlotIo::new(HeadRefusalIo::new(stream, is_http2), slot);
                            let io = SharedIo::new(io);
                            let served = forward(&*http1, (io.clone(), Protocol::Http1, peer));
                            tokio::select! {
                                // The error is logged where it happened.
                                _ = served => io.refuse_body(limits.disconnect_timeout).await,
                                () = handle.closing() => {}
                            }
                        }
                    }
                    Ok(())
                }
            }))
        }
    })
}

/// Calls a service when it is ready.
async fn forward<R>(service: &impl Service<R, Response = ()>, request: R) -> Result<(), ()> {
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(drop)?;
    service.call(request).await.map_err(drop)
}

/// Takes a connection through its stages; returns its stream, its slot, and whether the server name
/// is under the apps domain. `None`: it was refused, closed for another, or failed.
async fn accept(
    acceptor: &Acceptor,
    io: TcpStream,
) -> Option<(TlsStream<TcpStream>, ConnectionSlot, bool)> {
    let stages = &acceptor.stages;
    let client = stages.client(io.peer_addr().ok()?.ip());
    // No Nagle delay: input and cursor updates must not wait for acknowledgements.
    let _ = io.set_nodelay(true);
    let timeout = acceptor.limits.handshake_timeout;
    let (start, arrived) = stage(&stages.arriving, client, timeout, async {
        // Before the first byte a connection has no buffers.
        io.ready(Interest::READABLE).await?;
        LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io).await
    })
    .await?;
    let apps = acceptor.apps.as_ref().filter(|apps| {
        start.client_hello().server_name().is_some_and(|name| apps.settings.is_subdomain(name))
    });
    let for_apps = apps.is_some();
    let tls = apps.map_or(&acceptor.tls, |apps| &apps.settings.tls);
    drop(arrived);
    let handshake = start.into_stream(Arc::clone(tls));
    let (stream, done) = stage(&stages.handshaking, client, timeout, handshake).await?;
    drop(done);
    Some((stream, stages.open.acquire(client)?, for_apps))
}

/// Does the work of a stage in a slot of it, within its timeout.
async fn stage<T>(
    pool: &Arc<ConnectionPool>,
    client: Client,
    timeout: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Option<(T, ConnectionSlot)> {
    let slot = pool.acquire(client)?;
    tokio::select! {
        done = tokio::time::timeout(timeout, work) => match done {
            Ok(Ok(done)) => Some((done, slot)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "http.handshake.failed");
                None
            }
            Err(_) => {
                slot.count_closed(CloseReason::Timeout);
                None
            }
        },
        () = slot.closing() => None,
    }
}
