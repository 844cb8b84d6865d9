//! The control API's server: reads and validates a request, calls the [`ControlHandler`], responds.

use super::messages::{
    BODY_MAX, Changes, DesktopInfo, ErrorBody, GRACE_MAX, Health, NAME_MAX, Order, PROTOCOL,
    READ_TIMEOUT, Refusal, Started,
};
use crate::domain::SessionId;
use crate::domain::workspace::WorkspaceKind;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Handles the requests of the API.
pub trait ControlHandler: Send + Sync + 'static {
    fn health(self: Arc<Self>) -> BoxFuture<'static, Health>;
    fn desktops(&self) -> Vec<DesktopInfo>;
    /// The count of changes, once it differs from `since`, or after a while.
    fn changed(self: Arc<Self>, since: Option<u64>) -> BoxFuture<'static, u64>;
    /// Starts a desktop, or returns the one that runs.
    fn start(self: Arc<Self>, order: Order) -> BoxFuture<'static, Result<Started, Refusal>>;
    /// Ends a desktop, which has ended when this resolves.
    fn stop(self: Arc<Self>, session: SessionId) -> BoxFuture<'static, Result<(), Refusal>>;
}

/// Serves one connection until the caller closes it, sends an invalid request or is too slow.
///
/// # Errors
/// The connection's failure.
pub async fn serve<S: ControlHandler>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Arc<S>,
) -> Result<(), hyper::Error> {
    serve_within(io, service, READ_TIMEOUT).await
}

/// As [`serve`], with another limit for reading a head or a body.
///
/// # Errors
/// As [`serve`].
pub async fn serve_within<S: ControlHandler>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Arc<S>,
    limit: Duration,
) -> Result<(), hyper::Error> {
    let handler = hyper::service::service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(handle(request, service, limit).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_headers(32)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(io), handler)
        .await
}

type ControlResponse = Response<Full<Bytes>>;

async fn handle<S: ControlHandler>(
    request: Request<Incoming>,
    service: Arc<S>,
    limit: Duration,
) -> ControlResponse {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    match path.as_str() {
        "/v1/health" if method == Method::GET => {
            json_response(StatusCode::OK, &service.health().await)
        }
        "/v1/desktops" if method == Method::GET => {
            json_response(StatusCode::OK, &service.desktops())
        }
        "/v1/desktops" if method == Method::POST => start(request, service, limit).await,
        "/v1/changes" if method == Method::GET => {
            let since = request
                .uri()
                .query()
                .and_then(|query| query.strip_prefix("since="))
                .and_then(|n| n.parse().ok());
            json_response(StatusCode::OK, &Changes { generation: service.changed(since).await })
        }
        "/v1/health" | "/v1/changes" => not_allowed("GET"),
        "/v1/desktops" => not_allowed("GET, POST"),
        other => match other.strip_prefix("/v1/desktops/").map(str::parse::<SessionId>) {
            Some(Ok(session)) if method == Method::DELETE => stop(session, service).await,
            Some(Ok(_)) => not_allowed("DELETE"),
            Some(Err(_)) | None => error_response(StatusCode::NOT_FOUND, "no such path"),
        },
    }
}

async fn start<S: ControlHandler>(
    request: Request<Incoming>,
    service: Arc<S>,
    limit: Duration,
) -> ControlResponse {
    let body = Limited::new(request.into_body(), BODY_MAX).collect();
    let bytes = match tokio::time::timeout(limit, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => {
            return error_response(StatusCode::PAYLOAD_TOO_LARGE, "the order is too large");
        }
        Ok(Err(_)) => return error_response(StatusCode::BAD_REQUEST, "the order was cut short"),
        Err(_) => {
            return error_response(
                StatusCode::REQUEST_TIMEOUT,
                "the order took too long to arrive",
            );
        }
    };
    let order: Order = match serde_json::from_slice(&bytes) {
        Ok(order) => order,
        // The position only: the body contains a key.
        Err(cause) if cause.is_data() => {
            return error_response(
                StatusCode::UNPROCESSABLE_ENTITY,
                &format!("not an order: line {}, column {}", cause.line(), cause.column()),
            );
        }
        Err(_) => return error_response(StatusCode::BAD_REQUEST, "not JSON"),
    };
    if let Err(refusal) = validate_order(&order) {
        return refusal_response(&refusal);
    }
    // In its own task, so that a caller that disconnects does not leave a desktop half started.
    match tokio::spawn(service.start(order)).await {
        Ok(Ok(started)) => json_response(StatusCode::OK, &started),
        Ok(Err(refusal)) => refusal_response(&refusal),
        Err(_) => error_response(StatusCode::INTERNAL_SERVER_ERROR, "the agent failed"),
    }
}

async fn stop<S: ControlHandler>(session: SessionId, service: Arc<S>) -> ControlResponse {
    match tokio::spawn(service.stop(session)).await {
        Ok(Ok(())) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Ok(Err(refusal)) => refusal_response(&refusal),
        Err(_) => error_response(StatusCode::INTERNAL_SERVER_ERROR, "the agent failed"),
    }
}

/// Validates an order without executing it.
fn validate_order(order: &Order) -> Result<(), Refusal> {
    let invalid = |why: &str| Err(Refusal::Invalid(why.to_owned()));
    if order.protocol != PROTOCOL {
        return Err(Refusal::Invalid(format!(
            "this agent speaks protocol {PROTOCOL}, not {}",
            order.protocol
        )));
    }
    let kind = order.workspace.kind.properties();
    if order.workspace.service.is_some() {
        if !kind.has_server {
            let kinds = WorkspaceKind::list_names(|kind| kind.has_server, "or");
            return Err(Refusal::Invalid(format!("a service of a host is {kinds}")));
        }
    } else if !kind.is_started_by_agents {
        return Err(Refusal::Invalid(not_started_here()));
    }
    if order.user_name.chars().count() > NAME_MAX || order.workspace.name.chars().count() > NAME_MAX
    {
        return invalid("a name is too long");
    }
    if order.grace_seconds > GRACE_MAX.as_secs() {
        return invalid("grace is too long");
    }
    let (host, gateway) = (order.tunnel.host_address, order.tunnel.gateway_address);
    let usable =
        |at: std::net::IpAddr| !at.is_unspecified() && !at.is_multicast() && !at.is_loopback();
    if host == gateway || host.is_ipv4() != gateway.is_ipv4() || !usable(host) || !usable(gateway) {
        return invalid("not a pair of tunnel addresses");
    }
    Ok(())
}

/// The refusal of a kind that agents do not start.
pub(in crate::host) fn not_started_here() -> String {
    let kinds = WorkspaceKind::list_names(|kind| kind.is_started_by_agents, "and");
    format!("a host starts {kinds} desktops only")
}

fn json_response(status: StatusCode, body: &impl Serialize) -> ControlResponse {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = Response::new(Full::new(Bytes::from(bytes)));
            *response.status_mut() = status;
            response
                .headers_mut()
                .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
            response
                .headers_mut()
                .insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
            response
        }
        Err(_) => error_response(StatusCode::INTERNAL_SERVER_ERROR, "the agent failed"),
    }
}

fn error_response(status: StatusCode, detail: &str) -> ControlResponse {
    let mut response = json_response(StatusCode::OK, &ErrorBody { detail: detail.to_owned() });
    *response.status_mut() = status;
    response
}

fn refusal_response(refusal: &Refusal) -> ControlResponse {
    error_response(
        StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        &refusal.to_string(),
    )
}

fn not_allowed(allowed: &'static str) -> ControlResponse {
    let mut response = error_response(StatusCode::METHOD_NOT_ALLOWED, "not that method");
    response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static(allowed));
    response
}
