//! Listeners, TLS, and graceful shutdown.

use super::apps::acceptor::{self, Acceptor};
use super::apps::context::Apps;
use super::apps::settings::with_alpn;
use super::connections::stages::ConnectionStages;
use super::server_limits::ServerLimits;
use super::state::AppState;
use actix_web::dev::{Server, ServerHandle};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// A running server.
pub struct RunningServer {
    state: AppState,
    addresses: Vec<SocketAddr>,
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
    drain_timeout: Duration,
}

/// Serves HTTP/2 and HTTP/1.1 over TLS on bound listeners. Must be called inside a tokio runtime.
///
/// # Errors
/// When a listener cannot be used.
pub fn start(
    state: AppState,
    listeners: Vec<TcpListener>,
    tls: &rustls::ServerConfig,
    limits: ServerLimits,
) -> io::Result<RunningServer> {
    let mut server = Server::build()
        .workers(limits.workers)
        // Never reached: connections beyond the limits are refused or closed, and do not wait.
        .max_concurrent_connections(ConnectionStages::total_max(limits.connections))
        .shutdown_timeout(limits.drain_timeout.as_secs().max(1))
        .disable_signals();
    let apps = state
        .settings
        .apps
        .clone()
        .map(|settings| Arc::new(Apps::new(settings, Handle::current())));
    if let Some(apps) = &apps {
        tokio::spawn(Arc::clone(apps).close_idle(state.clone()));
    }
    let stages = Arc::new(ConnectionStages::new(
        limits.connections,
        limits.connections_per_address,
        state.settings.trusted_proxies.clone(),
        &state.metrics.connections,
    ));
    let front = Acceptor { state: state.clone(), tls: with_alpn(tls), apps, stages, limits };
    let signal = server.graceful_shutdown_signal();
    let stopping = move || {
        let signal = signal.clone();
        async move { signal.notified().await }
    };
    let mut addresses = Vec::new();
    for listener in listeners {
        addresses.push(listener.local_addr()?);
        let (front, stopping) = (front.clone(), stopping.clone());
        server = server.listen("https", listener, move || {
            acceptor::service(front.clone(), stopping.clone())
        })?;
    }
    let server = server.run();
    let handle = server.handle();
    Ok(RunningServer {
        state,
        addresses,
        handle,
        task: tokio::spawn(server),
        drain_timeout: limits.drain_timeout,
    })
}

impl RunningServer {
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until the server ends by itself, which is a failure.
    pub async fn wait(&mut self) -> io::Result<()> {
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(lost) => Err(io::Error::other(lost)),
        }
    }

    /// Closes all connections without waiting.
    pub fn abort(self) {
        self.state.start_draining();
        // The command is sent when the future is created; it is not awaited.
        drop(self.handle.stop(false));
    }

    /// Stops accepting, closes streams, and waits for requests that are in progress. True when all
    /// ended in time.
    pub async fn stop(self) -> bool {
        self.state.start_draining();
        let grace = self.drain_timeout + Duration::from_secs(1);
        let in_time = tokio::time::timeout(grace, self.handle.stop(true)).await.is_ok();
        if !in_time {
            tracing::warn!(
                seconds = grace.as_secs(),
                "some connections did not end in time; they are cut"
            );
            self.handle.stop(false).await;
        }
        in_time
    }
}
