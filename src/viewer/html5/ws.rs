//! WebSocket handshakes (RFC 6455): one with the browser and one with the application, each with
//! its own key. Subprotocols are negotiated end to end. Extensions are not offered, because they
//! belong to a single connection.

use super::body::{Body, full_body};
use super::connection::OutboundRequest;
use super::context::AppContext;
use super::error::ProxyError;
use super::exchange::exchange_on_new_connection;
use super::head::{IdentityHeaders, request_line};
use super::policy::Refusal;
use super::request::{ProxyRequest, ProxyResponse, RequestError, request_target};
use super::response_body::ResponseBody;
use super::ws_relay;
use crate::protocol::http1::write_field;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode, Version};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// From the end of both handshakes to the upgrade of the browser's connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
}

/// Whether a request asks for a WebSocket. A request for any other protocol is forwarded without
/// its `Upgrade` (RFC 9110 section 7.8).
pub(super) fn is_websocket_request(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_11
        && has_token(request.headers(), &header::UPGRADE, "websocket")
        && has_token(request.headers(), &header::CONNECTION, "upgrade")
}

/// The browser's key (RFC 6455 section 4.2.1).
fn client_key(request: &Request<Incoming>) -> Result<&HeaderValue, RequestError> {
    let headers = request.headers();
    if *request.method() != Method::GET {
        return Err(RequestError::Handshake("It must be a GET."));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(RequestError::Handshake("Its version must be 13."));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(RequestError::Handshake("It must have one key."));
    };
    match STANDARD.decode(key.as_bytes()) {
        Ok(bytes) if bytes.len() == 16 => Ok(key),
        _ => Err(RequestError::Handshake("Its key must be 16 octets.")),
    }
}

/// Opens a WebSocket to the application for a browser's handshake. A response other than 101 is
/// forwarded.
pub(super) async fn open(
    request: &ProxyRequest<'_>,
    mut incoming: Request<Incoming>,
    identity: &IdentityHeaders,
) -> Result<ProxyResponse, RequestError> {
    let app = request.app;
    request.authorize(incoming.method(), incoming.uri(), incoming.headers(), Some(0))?;
    // Pages of any origin can open a WebSocket, and browsers always send which (RFC 6455 section
    // 10.2).
    let mut origins = incoming.headers().get_all(header::ORIGIN).iter();
    if origins.any(|origin| !app.rewriter.is_public_origin(origin)) {
        return Err(RequestError::Refused(Refusal::Origin, 0));
    }
    let accept = derive_accept_key(client_key(&incoming)?.as_bytes());
    let key = generate_key();
    let head = handshake_head(&incoming, request, identity, &key);
    let outbound = OutboundRequest::new(head, &Method::GET, None);
    let mut response = exchange_on_new_connection(app, outbound, request.progress).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        request.check_response(&mut response).await?;
        request.rewrite_response(&mut response, false);
        return Ok(ProxyResponse::Forwarded(response));
    }
    check_handshake_response(&incoming, &response, &key)?;
    let (parts, body) = response.into_parts();
    let (application, read_buf, permit) = body
        .into_stream()
        .ok_or_else(|| ProxyError::InvalidResponse("upgrade before the request was sent".into()))?;
    let upgrade = hyper::upgrade::on(&mut incoming);
    let response = handshake_response(app, parts.headers, &accept)?;
    let app = Arc::clone(app);
    let relay = move |entry| {
        tokio::spawn(async move {
            // It counts as a connection to the application until it ends.
            let _permit = permit;
            match upgraded(&app, upgrade).await {
                Some(browser) => ws_relay::run(&app, browser, (application, read_buf), entry).await,
                None => drop(entry),
            }
        });
    };
    Ok(ProxyResponse::Upgraded(response, Box::new(relay)))
}

/// The handshake toward the application.
fn handshake_head(
    incoming: &Request<Incoming>,
    request: &ProxyRequest<'_>,
    identity: &IdentityHeaders,
    key: &str,
) -> Vec<u8> {
    let mut out = request_line(&Method::GET, request_target(incoming.uri()));
    let rewriter = &request.app.rewriter;
    rewriter.write_request_fields(&mut out, incoming.headers(), request.client, identity);
    write_field(&mut out, &header::CONNECTION, &HeaderValue::from_static("Upgrade"));
    write_field(&mut out, &header::UPGRADE, &HeaderValue::from_static("websocket"));
    write_field(&mut out, &header::SEC_WEBSOCKET_VERSION, &HeaderValue::from_static("13"));
    if let Ok(key) = HeaderValue::from_str(key) {
        write_field(&mut out, &header::SEC_WEBSOCKET_KEY, &key);
    }
    for protocol in incoming.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        write_field(&mut out, &header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    out
}

/// Checks the application's response as RFC 6455 section 4.1 requires.
fn check_handshake_response(
    incoming: &Request<Incoming>,
    response: &Response<ResponseBody>,
    key: &str,
) -> Result<(), ProxyError> {
    let headers = response.headers();
    let invalid = |reason: &'static str| Err(ProxyError::InvalidResponse(reason.into()));
    if !has_token(headers, &header::UPGRADE, "websocket")
        || !has_token(headers, &header::CONNECTION, "upgrade")
    {
        return invalid("upgrade to another protocol than WebSocket");
    }
    if headers
        .get(header::SEC_WEBSOCKET_ACCEPT)
        .is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
    {
        return invalid("Sec-WebSocket-Accept does not match the key");
    }
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return invalid("WebSocket extension that was not offered");
    }
    let mut chosen = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    match (chosen.next().map(HeaderValue::to_str), chosen.next()) {
        (None, _) => Ok(()),
        (Some(Ok(protocol)), None)
            if has_token(incoming.headers(), &header::SEC_WEBSOCKET_PROTOCOL, protocol.trim()) =>
        {
            Ok(())
        }
        _ => invalid("WebSocket subprotocol that was not offered"),
    }
}

/// The response to the browser.
fn handshake_response(
    app: &AppContext,
    mut headers: HeaderMap,
    accept: &str,
) -> Result<Response<Body>, ProxyError> {
    app.rewriter.rewrite_response_fields(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_SECURITY_POLICY);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(accept)
        .map_err(|error| ProxyError::InvalidResponse(Box::new(error)))?;
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    let mut response = Response::new(full_body(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The browser's connection, once it is upgraded.
async fn upgraded(app: &AppContext, upgrade: OnUpgrade) -> Option<Upgraded> {
    tokio::select! {
        biased;
        () = app.lifecycle.ended() => None,
        upgraded = timeout(UPGRADE_TIMEOUT, upgrade) => upgraded.ok()?.ok(),
    }
}
