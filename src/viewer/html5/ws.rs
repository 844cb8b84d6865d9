//! WebSockets (RFC 6455): a handshake with the browser and one with the application, each with its
//! own key. Sub-protocols are the two ends' own matter; extensions are not negotiated, since they
//! concern the connection, and there are two.

use super::app::Shared;
use super::body::full_body;
use super::connection::OutboundRequest;
use super::error::ProxyError;
use super::exchange::exchange_on_new_connection;
use super::head::{self, IdentityHeaders};
use super::policy::Refusal;
use super::response_body::ResponseBody;
use super::serve::{ProxyRequest, ProxyResponse, RequestError, request_target};
use super::ws_relay;
use crate::protocol::http1::head::write_field;
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

/// How long the browser's connection may take to become a WebSocket once both handshakes are done.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

fn has_token(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|t| t.trim().eq_ignore_ascii_case(word))
}

/// Whether a request asks for a WebSocket. Any other protocol it may ask for is not spoken: the
/// request goes on without it (RFC 9110 section 7.8).
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
        Ok(octets) if octets.len() == 16 => Ok(key),
        _ => Err(RequestError::Handshake("Its key must be 16 octets.")),
    }
}

/// Opens a WebSocket to the application for one that the browser asks for. What the application
/// refuses is answered as it refused it.
pub(super) async fn open(
    asked: &ProxyRequest<'_>,
    mut browser: Request<Incoming>,
    said: &IdentityHeaders,
) -> Result<ProxyResponse, RequestError> {
    let shared = asked.shared;
    // Browsers always say which page asks, and let pages of any origin ask (RFC 6455 section 10.2).
    if browser
        .headers()
        .get_all(header::ORIGIN)
        .iter()
        .any(|origin| !shared.origin_map.is_public_origin(origin))
    {
        return Err(RequestError::Refused(Refusal::Origin, 0));
    }
    let accept = derive_accept_key(client_key(&browser)?.as_bytes());
    let key = generate_key();
    let response = exchange_on_new_connection(
        shared,
        OutboundRequest::new(handshake_head(&browser, asked, said, &key), &Method::GET, None),
        asked.flow,
    )
    .await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return asked.rewrite_response(response, false).await;
    }
    check_handshake_response(&browser, &response, &key)?;
    let (parts, application) = response.into_parts();
    let (application, arrived, seat) = application
        .into_stream()
        .ok_or_else(|| ProxyError::InvalidResponse("it changes before it was asked to".into()))?;
    let browsers = hyper::upgrade::on(&mut browser);
    let answer = handshake_response(shared, parts.headers, &accept)?;
    let shared = Arc::clone(shared);
    let carry = move |entry| {
        tokio::spawn(async move {
            // It counts as a connection to the application until it ends.
            let _seat = seat;
            match upgraded(&shared, browsers).await {
                Some(browser) => {
                    ws_relay::run(&shared, browser, (application, arrived), entry).await
                }
                None => drop(entry),
            }
        });
    };
    Ok(ProxyResponse::Upgraded(answer, Box::new(carry)))
}

/// The handshake toward the application.
fn handshake_head(
    browser: &Request<Incoming>,
    asked: &ProxyRequest<'_>,
    said: &IdentityHeaders,
    key: &str,
) -> Vec<u8> {
    let shared = asked.shared;
    let mut out = head::request_line(&Method::GET, request_target(browser.uri()));
    head::write_request_fields(
        &mut out,
        browser.headers(),
        &shared.origin_map,
        asked.from,
        said,
        &shared.cookie_jar,
    );
    write_field(&mut out, &header::CONNECTION, &HeaderValue::from_static("Upgrade"));
    write_field(&mut out, &header::UPGRADE, &HeaderValue::from_static("websocket"));
    write_field(&mut out, &header::SEC_WEBSOCKET_VERSION, &HeaderValue::from_static("13"));
    if let Ok(key) = HeaderValue::from_str(key) {
        write_field(&mut out, &header::SEC_WEBSOCKET_KEY, &key);
    }
    for protocol in browser.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        write_field(&mut out, &header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    out
}

/// What RFC 6455 section 4.1 asks of the application's answer.
fn check_handshake_response(
    browser: &Request<Incoming>,
    response: &Response<ResponseBody>,
    key: &str,
) -> Result<(), ProxyError> {
    let headers = response.headers();
    let garbled = |why: &'static str| Err(ProxyError::InvalidResponse(why.into()));
    if !has_token(headers, &header::UPGRADE, "websocket")
        || !has_token(headers, &header::CONNECTION, "upgrade")
    {
        return garbled("it changes to another protocol than WebSocket");
    }
    if headers
        .get(header::SEC_WEBSOCKET_ACCEPT)
        .is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
    {
        return garbled("it accepts another WebSocket than was asked for");
    }
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return garbled("it extends a WebSocket by what nobody asked for");
    }
    let mut chosen = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    match (chosen.next().map(HeaderValue::to_str), chosen.next()) {
        (None, _) => Ok(()),
        (Some(Ok(protocol)), None)
            if has_token(browser.headers(), &header::SEC_WEBSOCKET_PROTOCOL, protocol.trim()) =>
        {
            Ok(())
        }
        _ => garbled("it chooses a sub-protocol that nobody asked for"),
    }
}

/// What the browser is answered.
fn handshake_response(
    shared: &Shared,
    mut headers: HeaderMap,
    accept: &str,
) -> Result<Response<super::Body>, ProxyError> {
    head::rewrite_response_fields(
        &mut headers,
        &shared.origin_map,
        shared.app_origin.cross_site,
        &shared.cookie_jar,
    );
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_SECURITY_POLICY);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(accept)
        .map_err(|error| ProxyError::InvalidResponse(Box::new(error)))?;
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    let mut answer = Response::new(full_body(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// The browser's connection, once it is a WebSocket.
async fn upgraded(shared: &Shared, browser: OnUpgrade) -> Option<Upgraded> {
    tokio::select! {
        biased;
        () = shared.end_token().cancelled() => None,
        changed = timeout(UPGRADE_TIMEOUT, browser) => changed.ok()?.ok(),
    }
}
