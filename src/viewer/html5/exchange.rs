//! One request to the application and its answer's head: sent once, or once again where that is
//! safe.

use super::app::Shared;
use super::connection::{ExchangeError, OutboundRequest};
use super::error::ProxyError;
use super::pool::connect;
use super::request_log::RequestProgress;
use super::response_body::ResponseBody;
use hyper::{Response, StatusCode};
use std::sync::Arc;

/// Asks over a connection of the pool, or a new one.
pub(super) async fn exchange(
    shared: &Arc<Shared>,
    mut request: OutboundRequest,
    flow: &Arc<RequestProgress>,
) -> Result<Response<ResponseBody>, ProxyError> {
    if let Some(connection) = shared.pool().checkout(request.is_retryable) {
        match connection.exchange(shared, &mut request, flow).await {
            Ok(response) => return reject_unrequested_upgrade(response),
            // It may have been closed before it was used: it took nothing, or not a byte of an
            // answer came.
            Err(ExchangeError::Unsent(_)) => {}
            Err(ExchangeError::NoResponse(_)) if request.is_retryable => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    reject_unrequested_upgrade(Box::pin(exchange_on_new_connection(shared, request, flow)).await?)
}

/// Asks over a connection of its own, which may become another protocol's.
pub(super) async fn exchange_on_new_connection(
    shared: &Arc<Shared>,
    mut request: OutboundRequest,
    flow: &Arc<RequestProgress>,
) -> Result<Response<ResponseBody>, ProxyError> {
    Ok(Box::pin(connect(shared)).await?.exchange(shared, &mut request, flow).await?)
}

/// A protocol that nobody asked to change to (RFC 9110 section 15.2.2) is not spoken.
fn reject_unrequested_upgrade(
    response: Response<ResponseBody>,
) -> Result<Response<ResponseBody>, ProxyError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ProxyError::InvalidResponse(
            "it changes to a protocol that nobody asked for".into(),
        ));
    }
    Ok(response)
}
