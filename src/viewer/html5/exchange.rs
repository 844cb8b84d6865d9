//! One request to the application and its answer's head: sent once, or once again where that is
//! safe.

use super::app::Shared;
use super::connection::{Failure, Outgoing};
use super::fault::Fault;
use super::pool::connect;
use super::received::Received;
use super::record::Flow;
use hyper::{Response, StatusCode};
use std::sync::Arc;

/// Asks over a connection of the pool, or a new one.
pub(super) async fn exchange(
    shared: &Arc<Shared>,
    mut request: Outgoing,
    flow: &Arc<Flow>,
) -> Result<Response<Received>, Fault> {
    if let Some(connection) = shared.pool().take(request.is_repeatable) {
        match connection.ask(shared, &mut request, flow).await {
            Ok(response) => return accept(response),
            // It may have been closed before it was used: it took nothing, or not a byte of an
            // answer came.
            Err(Failure::Unsent(_)) => {}
            Err(Failure::Unanswered(_)) if request.is_repeatable => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    accept(Box::pin(alone(shared, request, flow)).await?)
}

/// Asks over a connection of its own, which may become another protocol's.
pub(super) async fn alone(
    shared: &Arc<Shared>,
    mut request: Outgoing,
    flow: &Arc<Flow>,
) -> Result<Response<Received>, Fault> {
    Ok(Box::pin(connect(shared)).await?.ask(shared, &mut request, flow).await?)
}

/// A protocol that nobody asked to change to (RFC 9110 section 15.2.2) is not spoken.
fn accept(response: Response<Received>) -> Result<Response<Received>, Fault> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Fault::Garbled("it changes to a protocol that nobody asked for".into()));
    }
    Ok(response)
}
