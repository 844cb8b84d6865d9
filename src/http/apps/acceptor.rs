//! One TCP port, two HTTP servers. The server name in the TLS ClientHello selects one: hyper for
//! names under the apps domain, actix for all others and for none. Each has a TLS configuration of
//! its own, so that a TLS session of one cannot be resumed with the other.

use super::connection::{self, ConnectionContext};
use super::context::Apps;
use crate::http::application::application;
use crate::http::head_refusal_io::HeadRefusalIo;
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
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// Concurrent TLS handshakes per thread; further ones wait, within their timeout.
const HANDSHAKES_MAX: usize = 256;

/// What the acceptor of a thread is built from.
#[derive(Clone)]
pub(in crate::http) struct Acceptor {
    pub(in crate::http) state: AppState,
    /// TLS settings of the gateway's own names.
    pub(in crate::http) tls: Arc<rustls::ServerConfig>,
    /// `None`: no apps domain is configured.
    pub(in crate::http) apps: Option<Arc<Apps>>,
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
    let limits = acceptor.limits;
    let app =
        application(acceptor.state.clone()).into_factory().map_err(|error| error.error_response());
    let http = HttpService::build()
        .graceful_shutdown_signal(stopping.clone())
        .keep_alive(limits.keep_alive)
        .client_request_timeout(limits.head_timeout)
        .client_disconnect_timeout(limits.disconnect_timeout)
        .on_connect_ext(|io: &HeadRefusalIo<TlsStream<TcpStream>>, data| {
            socket_shutdown::on_connect(io.get_ref(), data);
        })
        .finish(map_config(app, |()| AppConfig::default()));
    fn_factory(move || {
        let http = http.new_service(());
        let (acceptor, stopping) = (acceptor.clone(), stopping.clone());
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        async move {
            let http = Rc::new(http.await?);
            Ok(fn_service(move |io: TcpStream| {
                let (acceptor, stopping, http, handshakes) =
                    (acceptor.clone(), stopping.clone(), Rc::clone(&http), Arc::clone(&handshakes));
                async move {
                    let peer = io.peer_addr().ok();
                    // No Nagle delay: input and cursor updates must not wait for acknowledgements.
                    let _ = io.set_nodelay(true);
                    let Some((stream, for_apps)) = handshake(&acceptor, io, &handshakes).await
                    else {
                        return Ok(());
                    };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    match acceptor.apps {
                        Some(apps) if for_apps => {
                            let connection = ConnectionContext {
                                state: acceptor.state,
                                apps,
                                peer: peer.map(|p| p.ip()),
                                limits,
                            };
                            connection::serve(connection, stream, is_http2, stopping()).await;
                            Ok(())
                        }
                        Some(_) | None => {
                            let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
                            let stream = HeadRefusalIo::new(stream, is_http2);
                            forward(&*http, (stream, protocol, peer)).await
                        }
                    }
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

/// The TLS handshake, within its timeout; and whether the server name is under the apps domain.
async fn handshake(
    acceptor: &Acceptor,
    io: TcpStream,
    handshakes: &Semaphore,
) -> Option<(TlsStream<TcpStream>, bool)> {
    let handshake = async {
        let _permit = handshakes.acquire().await.map_err(io::Error::other)?;
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io).await?;
        let apps = acceptor.apps.as_ref().filter(|apps| {
            start.client_hello().server_name().is_some_and(|name| apps.settings.is_subdomain(name))
        });
        let for_apps = apps.is_some();
        let tls = apps.map_or(&acceptor.tls, |apps| &apps.settings.tls);
        let stream = start.into_stream(Arc::clone(tls)).await?;
        Ok::<_, io::Error>((stream, for_apps))
    };
    match tokio::time::timeout(acceptor.limits.handshake_timeout, handshake).await {
        Ok(Ok(accepted)) => Some(accepted),
        Ok(Err(error)) => {
            tracing::debug!(%error, "http.handshake.failed");
            None
        }
        Err(_) => None,
    }
}
