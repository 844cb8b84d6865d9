//! WebSockets (RFC 6455): a handshake with the browser and one with the application, each with its
//! own key. Sub-protocols are the two ends' own matter; extensions are not negotiated, since they
//! concern the connection, and there are two.

use super::allow::Refusal;
use super::app::Shared;
use super::body::whole;
use super::connection::Outgoing;
use super::exchange::alone;
use super::fault::Fault;
use super::head::{self, Said};
use super::pump;
use super::received::Received;
use super::serve::{Answer, Asked, Failed, target};
use crate::protocol::http1::head::field;
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
const CHANGE: Duration = Duration::from_secs(10);

fn token(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|t| t.trim().eq_ignore_ascii_case(word))
}

/// Whether a request asks for a WebSocket. Any other protocol it may ask for is not spoken: the
/// request goes on without it (RFC 9110 section 7.8).
pub(super) fn is_asked_for(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_11
        && token(request.headers(), &header::UPGRADE, "websocket")
        && token(request.headers(), &header::CONNECTION, "upgrade")
}

/// The browser's key (RFC 6455 section 4.2.1).
fn key_of(request: &Request<Incoming>) -> Result<&HeaderValue, Failed> {
    let headers = request.headers();
    if *request.method() != Method::GET {
        return Err(Failed::Handshake("It must be a GET."));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Failed::Handshake("Its version must be 13."));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(Failed::Handshake("It must have one key."));
    };
    match STANDARD.decode(key.as_bytes()) {
        Ok(octets) if octets.len() == 16 => Ok(key),
        _ => Err(Failed::Handshake("Its key must be 16 octets.")),
    }
}

/// Opens a WebSocket to the application for one that the browser asks for. What the application
/// refuses is answered as it refused it.
pub(super) async fn open(
    asked: &Asked<'_>,
    mut browser: Request<Incoming>,
    said: &Said,
) -> Result<Answer, Failed> {
    let shared = asked.shared;
    // Browsers always say which page asks, and let pages of any origin ask (RFC 6455 section 10.2).
    if browser
        .headers()
        .get_all(header::ORIGIN)
        .iter()
        .any(|origin| !shared.names.is_own_origin(origin))
    {
        return Err(Failed::Refused(Refusal::Origin, 0));
    }
    let accept = derive_accept_key(key_of(&browser)?.as_bytes());
    let key = generate_key();
    let response = alone(
        shared,
        Outgoing::new(head(&browser, asked, said, &key), &Method::GET, None),
        asked.flow,
    )
    .await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return asked.answer(response, false).await;
    }
    check(&browser, &response, &key)?;
    let (parts, application) = response.into_parts();
    let (application, arrived, seat) = application
        .into_stream()
        .ok_or_else(|| Fault::Garbled("it changes before it was asked to".into()))?;
    let browsers = hyper::upgrade::on(&mut browser);
    let answer = answer(shared, parts.headers, &accept)?;
    let shared = Arc::clone(shared);
    let carry = move |entry| {
        tokio::spawn(async move {
            // It counts as a connection to the application until it ends.
            let _seat = seat;
            match changed(&shared, browsers).await {
                Some(browser) => pump::run(&shared, browser, (application, arrived), entry).await,
                None => drop(entry),
            }
        });
    };
    Ok(Answer::Upgraded(answer, Box::new(carry)))
}

/// The handshake toward the application.
fn head(browser: &Request<Incoming>, asked: &Asked<'_>, said: &Said, key: &str) -> Vec<u8> {
    let shared = asked.shared;
    let mut out = head::begin(&Method::GET, target(browser.uri()));
    head::to_application(&mut out, browser.headers(), &shared.names, asked.from, said, &shared.jar);
    field(&mut out, &header::CONNECTION, &HeaderValue::from_static("Upgrade"));
    field(&mut out, &header::UPGRADE, &HeaderValue::from_static("websocket"));
    field(&mut out, &header::SEC_WEBSOCKET_VERSION, &HeaderValue::from_static("13"));
    if let Ok(key) = HeaderValue::from_str(key) {
        field(&mut out, &header::SEC_WEBSOCKET_KEY, &key);
    }
    for protocol in browser.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        field(&mut out, &header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    out
}

/// What RFC 6455 section 4.1 asks of the application's answer.
fn check(
    browser: &Request<Incoming>,
    response: &Response<Received>,
    key: &str,
) -> Result<(), Fault> {
    let headers = response.headers();
    let garbled = |why: &'static str| Err(Fault::Garbled(why.into()));
    if !token(headers, &header::UPGRADE, "websocket")
        || !token(headers, &header::CONNECTION, "upgrade")
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
            if token(browser.headers(), &header::SEC_WEBSOCKET_PROTOCOL, protocol.trim()) =>
        {
            Ok(())
        }
        _ => garbled("it chooses a sub-protocol that nobody asked for"),
    }
}

/// What the browser is answered.
fn answer(
    shared: &Shared,
    mut headers: HeaderMap,
    accept: &str,
) -> Result<Response<super::Body>, Fault> {
    head::to_browser(&mut headers, &shared.names, shared.place.cross_site, &shared.jar);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_SECURITY_POLICY);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(accept).map_err(|error| Fault::Garbled(Box::new(error)))?;
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    let mut answer = Response::new(whole(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// The browser's connection, once it is a WebSocket.
async fn changed(shared: &Shared, browser: OnUpgrade) -> Option<Upgraded> {
    tokio::select! {
        biased;
        () = shared.over_token().cancelled() => None,
        changed = timeout(CHANGE, browser) => changed.ok()?.ok(),
    }
}
