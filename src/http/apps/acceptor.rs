//! One TCP port, two HTTP servers. The name in a connection's TLS hello says which server gets it:
//! hyper for names under the apps domain, actix for every other, and for none. Each has a TLS
//! configuration of its own, so that a session resumed with the one is unknown to the other.

use super::connection::{self, ConnectionContext};
use super::dispatch::Apps;
use crate::http::application::application;
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

/// TLS handshakes at once, of each thread; the next ones wait within their time.
const HANDSHAKES_MAX: usize = 256;

/// What a thread's front is made of.
#[derive(Clone)]
pub(in crate::http) struct Acceptor {
    pub(in crate::http) state: AppState,
    /// TLS of the gateway's own names.
    pub(in crate::http) tls: Arc<rustls::ServerConfig>,
    /// Where applications are shown, when they are.
    pub(in crate::http) apps: Option<Arc<Apps>>,
    pub(in crate::http) limits: ServerLimits,
}

/// The TLS settings of a server that offers HTTP/2 and HTTP/1.1 (RFC 7301).
pub(in crate::http) fn with_alpn(tls: &rustls::ServerConfig) -> Arc<rustls::ServerConfig> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(tls)
}

/// The service of one thread's connections. `stopping` makes a future that resolves when the server
/// stops in order.
pub(in crate::http) fn service<S, F>(
    front: Acceptor,
    stopping: S,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()>
where
    S: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let limits = front.limits;
    let app =
        application(front.state.clone()).into_factory().map_err(|error| error.error_response());
    let http = HttpService::build()
        .graceful_shutdown_signal(stopping.clone())
        .keep_alive(limits.keep_alive)
        .client_request_timeout(limits.head_timeout)
        .client_disconnect_timeout(limits.disconnect_timeout)
        .on_connect_ext(|io: &TlsStream<TcpStream>, data| socket_shutdown::on_connect(io, data))
        .finish(map_config(app, |()| AppConfig::default()));
    fn_factory(move || {
        let http = http.new_service(());
        let (front, stopping) = (front.clone(), stopping.clone());
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        async move {
            let http = Rc::new(http.await?);
            Ok(fn_service(move |io: TcpStream| {
                let (front, stopping, http, handshakes) =
                    (front.clone(), stopping.clone(), Rc::clone(&http), Arc::clone(&handshakes));
                async move {
                    let peer = io.peer_addr().ok();
                    // Small frames are sent at once: keys and cursors must not wait for the
                    // acknowledgement of what went before.
                    let _ = io.set_nodelay(true);
                    let Some((stream, for_apps)) = handshake(&front, io, &handshakes).await else {
                        return Ok(());
                    };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    match front.apps {
                        Some(apps) if for_apps => {
                            let connection = ConnectionContext {
                                state: front.state,
                                apps,
                                peer: peer.map(|p| p.ip()),
                                limits,
                            };
                            connection::serve(connection, stream, is_http2, stopping()).await;
                            Ok(())
                        }
                        Some(_) | None => {
                            let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
                            forward(&*http, (stream, protocol, peer)).await
                        }
                    }
                }
            }))
        }
    })
}

/// Gives a service what it is for, when it is ready.
async fn forward<R>(service: &impl Service<R, Response = ()>, what: R) -> Result<(), ()> {
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(drop)?;
    service.call(what).await.map_err(drop)
}

/// The TLS handshake, in time; and whether the connection is under the apps domain.
async fn handshake(
    front: &Acceptor,
    io: TcpStream,
    handshakes: &Semaphore,
) -> Option<(TlsStream<TcpStream>, bool)> {
    let handshake = async {
        let _turn = handshakes.acquire().await.map_err(io::Error::other)?;
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io).await?;
        let apps = front.apps.as_ref().filter(|apps| {
            start.client_hello().server_name().is_some_and(|name| apps.settings.is_subdomain(name))
        });
        let for_apps = apps.is_some();
        let tls = apps.map_or(&front.tls, |apps| &apps.settings.tls);
        let stream = start.into_stream(Arc::clone(tls)).await?;
        Ok::<_, io::Error>((stream, for_apps))
    };
    match tokio::time::timeout(front.limits.handshake_timeout, handshake).await {
        Ok(Ok(accepted)) => Some(accepted),
        Ok(Err(error)) => {
            tracing::debug!(%error, "http.handshake.failed");
            None
        }
        Err(_) => None,
    }
}
