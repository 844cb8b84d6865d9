//! One request: judged, mapped, sent, its answer judged, mapped and passed on. Whatever goes wrong
//! is an answer, too.

use super::app::Shared;
use super::body::{Body, ForwardedBody, RequestBody};
use super::connection::OutboundRequest;
use super::error::{self, ProxyError};
use super::exchange::{exchange, exchange_on_new_connection};
use super::head::{self, IdentityHeaders};
use super::page::{Page, accepts_html};
use super::policy::{self, Refusal};
use super::request_log::{RequestLogEntry, RequestProgress};
use super::response_body::ResponseBody;
use super::ws;
use crate::domain::web_app::{RequestOutcome, RequestRecord};
use crate::protocol::http1::head::write_field;
use crate::viewer::stream_audit::StreamAudit as _;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

/// Longest wait for the store to have taken earlier requests.
const LOG_SLOT_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a request that was begun.
pub(super) enum RequestError {
    /// The application gave no answer.
    Proxy(ProxyError),
    /// Policy does not let it pass; so many bytes were held back.
    Refused(Refusal, u64),
    /// It is no WebSocket handshake as it must be.
    Handshake(&'static str),
}

impl From<ProxyError> for RequestError {
    fn from(fault: ProxyError) -> Self {
        Self::Proxy(fault)
    }
}

/// See [`super::App::serve`].
pub(super) async fn serve(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    from: IpAddr,
) -> Response<Body> {
    let people = accepts_html(request.headers());
    let frame = shared.origin_map.gateway_origin();
    if let Some(end) = shared.end() {
        return error::ended_page(end).response(people, frame);
    }
    // A request begins only when there is a place for what will be written of it.
    let Some(place) = reserve_log_slot(shared).await else {
        return shared
            .end()
            .map_or_else(|| ProxyError::AuditUnavailable.page(), error::ended_page)
            .response(people, frame);
    };
    shared.touch();
    let flow = RequestProgress::new();
    let mut entry = RequestLogEntry::new(
        place,
        shared.broker().now(),
        request.method().as_str(),
        request.uri().path(),
        Arc::clone(&flow),
    );
    let asked = ProxyRequest { shared, from, flow: &flow };
    // At the end of the session nothing waits any longer: whoever waits at a connection is woken,
    // and whatever else is waited for is not.
    let outcome = asked.forward(request).await;
    match outcome {
        Ok(answer) if !shared.has_ended() => answer.into_response(shared, entry),
        Err(failed) if !shared.has_ended() => error_response(shared, &mut entry, failed, people),
        Ok(_) | Err(_) => {
            entry.set_outcome(RequestOutcome::Revoked);
            let page =
                shared.end().map_or_else(|| ProxyError::SessionEnded.page(), error::ended_page);
            entry.set_status(page.status.as_u16());
            page.response(people, frame)
        }
    }
}

/// A place in the queue to the store. Where requests come faster than it takes them, they wait.
async fn reserve_log_slot(shared: &Shared) -> Option<OwnedPermit<RequestRecord>> {
    if shared.log_failing.load(Ordering::Relaxed) {
        return None;
    }
    if shared.log_queue.capacity() <= shared.log_queue.max_capacity() / 2 {
        shared.log_half_full.notify_one();
    }
    match shared.log_queue.clone().try_reserve_owned() {
        Ok(place) => Some(place),
        Err(TrySendError::Closed(_)) => None,
        Err(TrySendError::Full(records)) => tokio::select! {
            biased;
            () = shared.end_token().cancelled() => None,
            place = Box::pin(timeout(LOG_SLOT_TIMEOUT, records.reserve_owned())) => place.ok()?.ok(),
        },
    }
}

/// The page in place of an answer.
fn error_response(
    shared: &Shared,
    entry: &mut RequestLogEntry,
    failed: RequestError,
    people: bool,
) -> Response<Body> {
    let page = match failed {
        RequestError::Proxy(fault) => {
            let session_id = shared.lease().session().id;
            let cause = std::error::Error::source(&fault).map(tracing::field::display);
            tracing::warn!(%session_id, code = fault.code(), cause, "application.failed");
            entry.set_outcome(RequestOutcome::Failed);
            fault.page()
        }
        RequestError::Refused(refusal, bytes) => {
            shared.refusals.add(entry.refusal(refusal, bytes));
            entry.set_outcome(RequestOutcome::Refused);
            refusal.page()
        }
        RequestError::Handshake(text) => {
            entry.set_outcome(RequestOutcome::Failed);
            let (status, title) = (StatusCode::BAD_REQUEST, "This is no WebSocket handshake.");
            Page {
                status,
                code: "bad_handshake",
                title,
                text: text.to_owned(),
                action: "",
                retryable: false,
            }
        }
    };
    entry.set_status(page.status.as_u16());
    let mut response = page.response(people, shared.origin_map.gateway_origin());
    if page.code == "method_not_allowed" {
        // RFC 9110 section 15.5.6: says which are.
        let methods = shared.config().requests.methods.join(", ");
        if let Ok(methods) = HeaderValue::from_str(&methods) {
            response.headers_mut().insert(header::ALLOW, methods);
        }
    }
    response
}

/// An answer that may pass.
pub(super) enum ProxyResponse {
    /// As the application gave it.
    Forwarded(Response<ResponseBody>),
    /// A WebSocket: what the browser is answered, and what carries its messages from then on.
    Upgraded(Response<Body>, Box<dyn FnOnce(RequestLogEntry) + Send>),
}

impl ProxyResponse {
    fn into_response(self, shared: &Arc<Shared>, mut entry: RequestLogEntry) -> Response<Body> {
        match self {
            Self::Upgraded(response, carry) => {
                entry.set_status(response.status().as_u16());
                carry(entry);
                response
            }
            Self::Forwarded(response) => {
                entry.progress().mark_response_started();
                let (parts, body) = response.into_parts();
                entry.set_status(parts.status.as_u16());
                // Events that come by themselves are no use.
                let is_use = !parts
                    .headers
                    .get(header::CONTENT_TYPE)
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
                if body.is_end_stream() {
                    entry.set_outcome(RequestOutcome::Completed);
                    return Response::from_parts(
                        parts,
                        super::body::full_body(bytes::Bytes::new()),
                    );
                }
                let passing = ForwardedBody::new(body, entry, Arc::clone(shared), is_use);
                Response::from_parts(parts, passing.boxed_unsync())
            }
        }
    }
}

/// A request under way.
pub(super) struct ProxyRequest<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) from: IpAddr,
    pub(super) flow: &'a Arc<RequestProgress>,
}

impl ProxyRequest<'_> {
    async fn forward(&self, request: Request<Incoming>) -> Result<ProxyResponse, RequestError> {
        let shared = self.shared;
        let said = identity_headers(shared).await?;
        let rules = &shared.config().requests;
        if ws::is_websocket_request(&request) {
            policy::check_request(
                rules,
                request.method(),
                request.uri().path(),
                request.headers(),
                Some(0),
            )
            .map_err(|refusal| RequestError::Refused(refusal, 0))?;
            // In a box, as everything is that few requests come to: each request has room for all
            // of it, and is moved with that.
            return Box::pin(ws::open(self, request, &said)).await;
        }
        let (parts, body) = request.into_parts();
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let judged =
            policy::check_request(rules, &parts.method, parts.uri.path(), &parts.headers, length);
        judged.map_err(|refusal| RequestError::Refused(refusal, length.unwrap_or(0)))?;
        let to_head = parts.method == Method::HEAD;
        let response = self.exchange(parts, body, length, &said).await?;
        self.rewrite_response(response, to_head).await
    }

    async fn exchange(
        &self,
        parts: Parts,
        body: Incoming,
        length: Option<u64>,
        said: &IdentityHeaders,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let shared = self.shared;
        let mut head = head::request_line(&parts.method, request_target(&parts.uri));
        head::write_request_fields(
            &mut head,
            &parts.headers,
            &shared.origin_map,
            self.from,
            said,
            &shared.cookie_jar,
        );
        match length {
            Some(0) if !parts.headers.contains_key(header::CONTENT_LENGTH) => {}
            Some(length) => {
                write_field(&mut head, &header::CONTENT_LENGTH, &HeaderValue::from(length))
            }
            None => write_field(
                &mut head,
                &header::TRANSFER_ENCODING,
                &HeaderValue::from_static("chunked"),
            ),
        }
        let body = (length != Some(0)).then(|| {
            let waits = expects_continue(&parts.headers);
            if waits {
                write_field(&mut head, &header::EXPECT, &HeaderValue::from_static("100-continue"));
            }
            Box::new(RequestBody::new(body, Arc::clone(self.flow), Arc::clone(shared), waits))
        });
        match exchange(shared, OutboundRequest::new(head, &parts.method, body), self.flow).await {
            // The application may have answered to the half of it, or hung up: what counts is that
            // it was too much.
            _ if self.flow.is_too_large() => {
                Err(RequestError::Refused(Refusal::Size, self.flow.bytes_up()))
            }
            Ok(answered) => Ok(answered),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Judges and maps an answer.
    pub(super) async fn rewrite_response(
        &self,
        mut response: Response<ResponseBody>,
        to_head: bool,
    ) -> Result<ProxyResponse, RequestError> {
        let shared = self.shared;
        let empty = response.body().is_end_stream();
        let length = response.body().size_hint().exact();
        policy::check_response(
            &shared.config().requests,
            response.status(),
            response.headers(),
            empty,
        )
        .map_err(|refusal| RequestError::Refused(refusal, length.unwrap_or(0)))?;
        let signs_in = shared.config().sign_in != crate::domain::web_app::UpstreamSignIn::None;
        if signs_in && response.status() == StatusCode::UNAUTHORIZED {
            Box::pin(self.audit_sign_in_refused()).await?;
            // A browser that is asked for a password would ask its user for one that is never used.
            response.headers_mut().remove(header::WWW_AUTHENTICATE);
        }
        head::rewrite_response_fields(
            response.headers_mut(),
            &shared.origin_map,
            shared.app_origin.cross_site,
            &shared.cookie_jar,
        );
        set_response_framing(&mut response, empty, length, to_head);
        Ok(ProxyResponse::Forwarded(response))
    }

    /// Written down once: an application that refuses one request refuses all.
    async fn audit_sign_in_refused(&self) -> Result<(), ProxyError> {
        if self.shared.sign_in_refused.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        unless_ended(self.shared, async {
            self.shared.audit().login_refused("refused").await.map_err(|error| {
                self.shared.sign_in_refused.store(false, Ordering::Relaxed);
                tracing::error!(%error, "application.sign_in.unrecorded");
                ProxyError::AuditUnavailable
            })
        })
        .await
    }
}

/// Length of an answer: as its body is, not as its head says. In an answer to HEAD the head's is
/// kept: it says how long a body would be (RFC 9110 sections 8.6 and 9.3.2).
fn set_response_framing(
    response: &mut Response<ResponseBody>,
    empty: bool,
    length: Option<u64>,
    is_head: bool,
) {
    let no_content = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    if empty && is_head {
        return;
    }
    headers.remove(header::CONTENT_LENGTH);
    if let Some(length) = length.filter(|_| !no_content) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The target of a request in origin form or `*` (RFC 9112 section 3.2), octet by octet as the
/// browser wrote it.
pub(super) fn request_target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

/// What the application is told of the user now.
async fn identity_headers(shared: &Shared) -> Result<Arc<IdentityHeaders>, ProxyError> {
    match shared.identity() {
        Ok(told) => told.headers(shared).await,
        Err(ProxyError::CredentialRequired(source)) => Err(ProxyError::CredentialRequired(*source)),
        Err(_) => Err(ProxyError::SessionEnded),
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// What may take its time, unless the session ends meanwhile.
pub(super) async fn unless_ended<T>(
    shared: &Shared,
    waits: impl Future<Output = Result<T, ProxyError>>,
) -> Result<T, ProxyError> {
    tokio::select! {
        biased;
        () = shared.end_token().cancelled() => Err(ProxyError::SessionEnded),
        outcome = waits => outcome,
    }
}

/// See [`super::App::probe`].
pub(super) async fn probe(shared: &Arc<Shared>) -> Result<(), ProxyError> {
    if shared.has_ended() {
        return Err(ProxyError::SessionEnded);
    }
    let said = identity_headers(shared).await?;
    let target =
        shared.config().start_path().parse::<Uri>().unwrap_or_else(|_| Uri::from_static("/"));
    let mut head = head::request_line(&Method::GET, self::request_target(&target));
    head::write_request_fields(
        &mut head,
        &HeaderMap::new(),
        &shared.origin_map,
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        &said,
        &shared.cookie_jar,
    );
    exchange_on_new_connection(
        shared,
        OutboundRequest::new(head, &Method::GET, None),
        &RequestProgress::new(),
    )
    .await
    .map(drop)
}
