//! The steps of one request. Every failure is a response, too.

use super::app::App;
use super::body::{Body, full_body};
use super::connection::OutboundRequest;
use super::context::AppContext;
use super::error::{self, ProxyError};
use super::exchange::exchange_on_new_connection;
use super::forwarded_body::ForwardedBody;
use super::head::request_line;
use super::page::{Page, accepts_html};
use super::progress::RequestProgress;
use super::request::{ProxyRequest, ProxyResponse, RequestError, request_target};
use super::request_log::RequestLogEntry;
use super::ws;
use crate::domain::web_app::{RequestOutcome, RequestRecord};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::sync::mpsc::OwnedPermit;

impl App {
    /// Serves a request of a browser that holds the application's cookie. Failures are responses,
    /// too. `client`: the browser's address.
    pub async fn serve(&self, request: Request<Incoming>, client: IpAddr) -> Response<Body> {
        let app = &self.context;
        let html = accepts_html(request.headers());
        let slot = match reserve_log_slot(app).await {
            Ok(slot) => slot,
            Err(page) => return page.response(html, app.rewriter.framing_origins()),
        };
        app.lifecycle.touch();
        let progress = RequestProgress::new();
        let mut entry = RequestLogEntry::new(
            slot,
            app.grant.broker.now(),
            request.method().as_str(),
            request.uri().path(),
            Arc::clone(&progress),
        );
        let outcome = respond(&ProxyRequest { app, client, progress: &progress }, request).await;
        // The end of the session wakes whoever waits for a connection and cancels every other wait,
        // so this is reached at once.
        match outcome {
            Ok(response) if !app.lifecycle.has_ended() => stream(app, response, entry),
            Err(error) if !app.lifecycle.has_ended() => {
                error_response(app, &mut entry, error, html)
            }
            Ok(_) | Err(_) => {
                entry.set_outcome(RequestOutcome::Revoked);
                let page = ended_page(app).unwrap_or_else(|| ProxyError::SessionEnded.page());
                entry.set_status(page.status.as_u16());
                page.response(html, app.rewriter.framing_origins())
            }
        }
    }

    /// Whether the application responds now; any HTTP response counts.
    ///
    /// # Errors
    /// The [`ProxyError`] that a request would fail with.
    pub async fn probe(&self) -> Result<(), ProxyError> {
        let app = &self.context;
        if app.lifecycle.has_ended() {
            return Err(ProxyError::SessionEnded);
        }
        let identity = app.identity_headers().await?;
        let start = app.upstream.config.start_path().parse::<Uri>();
        let target = start.unwrap_or_else(|_| Uri::from_static("/"));
        let mut head = request_line(&Method::GET, request_target(&target));
        let (fields, client) = (HeaderMap::new(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        app.rewriter.write_request_fields(&mut head, &fields, client, &identity);
        let request = OutboundRequest::new(head, &Method::GET, None);
        exchange_on_new_connection(app, request, &RequestProgress::new()).await.map(drop)
    }
}

/// The request may start: the application is open, and the request can be recorded.
async fn reserve_log_slot(app: &AppContext) -> Result<OwnedPermit<RequestRecord>, Page> {
    if let Some(page) = ended_page(app) {
        return Err(page);
    }
    let slot = app.log.reserve_slot(&app.lifecycle).await;
    slot.ok_or_else(|| ended_page(app).unwrap_or_else(|| ProxyError::AuditUnavailable.page()))
}

fn ended_page(app: &AppContext) -> Option<Page> {
    app.lifecycle.end().map(error::ended_page)
}

/// Authorizes the request, rewrites it, exchanges it, and checks and rewrites the response.
async fn respond(
    request: &ProxyRequest<'_>,
    incoming: Request<Incoming>,
) -> Result<ProxyResponse, RequestError> {
    let identity = request.app.identity_headers().await?;
    if ws::is_websocket_request(&incoming) {
        // Boxed, as every rarely taken branch: the future of each request reserves space for all.
        return Box::pin(ws::open(request, incoming, &identity)).await;
    }
    let (parts, body) = incoming.into_parts();
    let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
    request.authorize(&parts.method, &parts.uri, &parts.headers, length)?;
    let outbound = request.rewrite(&parts, body, length, &identity);
    let mut response = request.exchange(outbound).await?;
    request.check_response(&mut response).await?;
    request.rewrite_response(&mut response, parts.method == Method::HEAD);
    Ok(ProxyResponse::Forwarded(response))
}

/// Streams the response to the browser; the log entry ends with it.
fn stream(
    app: &Arc<AppContext>,
    response: ProxyResponse,
    mut entry: RequestLogEntry,
) -> Response<Body> {
    match response {
        ProxyResponse::Upgraded(response, relay) => {
            entry.set_status(response.status().as_u16());
            relay(entry);
            response
        }
        ProxyResponse::Forwarded(response) => {
            entry.progress().mark_response_started();
            let (parts, body) = response.into_parts();
            entry.set_status(parts.status.as_u16());
            if body.is_end_stream() {
                entry.set_outcome(RequestOutcome::Completed);
                return Response::from_parts(parts, full_body(Bytes::new()));
            }
            let is_use = !is_event_stream(&parts.headers);
            let body = ForwardedBody::new(body, entry, Arc::clone(app), is_use);
            Response::from_parts(parts, body.boxed_unsync())
        }
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// The page that replaces the application's response.
fn error_response(
    app: &AppContext,
    entry: &mut RequestLogEntry,
    error: RequestError,
    html: bool,
) -> Response<Body> {
    let page = match error {
        RequestError::Proxy(error) => {
            let session_id = app.grant.session_id();
            let cause = std::error::Error::source(&error).map(tracing::field::display);
            tracing::warn!(%session_id, code = error.code(), cause, "application.failed");
            entry.set_outcome(RequestOutcome::Failed);
            error.page()
        }
        RequestError::Refused(refusal, bytes) => {
            app.log.refusals.add(entry.refusal(refusal, bytes));
            entry.set_outcome(RequestOutcome::Refused);
            refusal.page()
        }
        RequestError::Handshake(text) => {
            entry.set_outcome(RequestOutcome::Failed);
            Page {
                status: StatusCode::BAD_REQUEST,
                code: "bad_handshake",
                title: "This is no WebSocket handshake.",
                text: text.to_owned(),
                action: "",
                retryable: false,
            }
        }
    };
    entry.set_status(page.status.as_u16());
    let mut response = page.response(html, app.rewriter.framing_origins());
    if page.status == StatusCode::METHOD_NOT_ALLOWED {
        // Required by RFC 9110 section 15.5.6.
        let methods = app.upstream.config.requests.methods.join(", ");
        if let Ok(methods) = HeaderValue::from_str(&methods) {
            response.headers_mut().insert(header::ALLOW, methods);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each idle browser connection reserves space for this future, and it is moved with it.
    #[test]
    fn the_future_of_a_request_is_small() {
        fn size<'a, F: Future>(_: impl FnOnce(&'a App, Request<Incoming>, IpAddr) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(App::serve);
        assert!(bytes <= 3 * 1024, "{bytes} bytes");
    }
}
