//! One request to the application and its response head: sent once, or once again where that is
//! safe.

use super::connection::{Connection, ExchangeError, OutboundRequest};
use super::context::AppContext;
use super::error::ProxyError;
use super::progress::RequestProgress;
use super::response_body::{ResponseBody, into_response};
use super::write_timeout::WriteTimeout;
use crate::domain::web_app::Scheme;
use crate::viewer::Duplex;
use crate::viewer::trust::{ExpectedServer, connect_tls};
use hyper::{Response, StatusCode};
use std::io;
use std::sync::Arc;
use tokio::time::timeout;

/// Exchanges on an idle connection of the pool, or on a new one.
pub(super) async fn exchange(
    app: &AppContext,
    mut request: OutboundRequest,
    progress: &RequestProgress,
) -> Result<Response<ResponseBody>, ProxyError> {
    let pool = &app.upstream.pool;
    if let Some(connection) = pool.checkout(request.is_retryable) {
        match connection.exchange(&mut request, progress, app.upstream.limits.head).await {
            Ok(exchanged) => {
                return reject_unrequested_upgrade(into_response(exchanged, Arc::clone(pool)));
            }
            // The application may have closed it before: it accepted nothing, or sent no byte of a
            // response.
            Err(ExchangeError::Unsent(_)) => {}
            Err(ExchangeError::NoResponse(_)) if request.is_retryable => {}
            Err(error) => return Err(error.into()),
        }
    }
    reject_unrequested_upgrade(Box::pin(exchange_on_new_connection(app, request, progress)).await?)
}

/// Exchanges on a new connection, which the response may upgrade to another protocol.
pub(super) async fn exchange_on_new_connection(
    app: &AppContext,
    mut request: OutboundRequest,
    progress: &RequestProgress,
) -> Result<Response<ResponseBody>, ProxyError> {
    let connection = Box::pin(app.lifecycle.unless_ended(connect(app))).await?;
    let exchanged = connection.exchange(&mut request, progress, app.upstream.limits.head).await?;
    Ok(into_response(exchanged, Arc::clone(&app.upstream.pool)))
}

/// A new connection to the lease's target.
async fn connect(app: &AppContext) -> Result<Connection, ProxyError> {
    let upstream = &app.upstream;
    let limits = upstream.limits;
    let permit = upstream.pool.reserve(limits.dial).await?;
    let lease = &app.grant.lease;
    let stream = timeout(limits.dial, upstream.dial.dial(lease)).await;
    let stream = stream
        .map_err(|_| ProxyError::Unreachable(io::ErrorKind::TimedOut.into()))?
        .map_err(ProxyError::Unreachable)?;
    let stream: WriteTimeout<Box<dyn Duplex>> = WriteTimeout::new(stream, limits.stall);
    let stream: Box<dyn Duplex> = match upstream.config.scheme {
        Scheme::Http => Box::new(stream),
        Scheme::Https => {
            let expected = ExpectedServer {
                trust: &lease.upstream().trust,
                address: lease.address(),
                name: &upstream.server_name,
                timeout: limits.dial,
            };
            let tls = connect_tls(stream, expected, &app.grant).await;
            Box::new(tls.map_err(ProxyError::from_tls_end)?.stream)
        }
    };
    Ok(upstream.pool.adopt(stream, permit))
}

/// Only the WebSocket handshake asks for another protocol (RFC 9110 section 15.2.2).
fn reject_unrequested_upgrade(
    response: Response<ResponseBody>,
) -> Result<Response<ResponseBody>, ProxyError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ProxyError::InvalidResponse("unrequested protocol upgrade".into()));
    }
    Ok(response)
}
