//! One request: judged, mapped, sent, its answer judged, mapped and passed on. Whatever goes wrong
//! is an answer, too.

use super::allow::{self, Refusal};
use super::app::Shared;
use super::body::{Body, Passing, Streaming};
use super::connection::Outgoing;
use super::exchange::{alone, exchange};
use super::fault::{self, Fault};
use super::head::{self, Said};
use super::page::{Page, is_for_people};
use super::received::Received;
use super::record::{Entry, Flow};
use super::ws;
use crate::domain::web::{RequestEnd, RequestRecord};
use crate::protocol::http1::head::field;
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
const PLACE: Duration = Duration::from_secs(10);

/// What became of a request that was begun.
pub(super) enum Failed {
    /// The application gave no answer.
    Fault(Fault),
    /// Policy does not let it pass; so many bytes were held back.
    Refused(Refusal, u64),
    /// It is no WebSocket handshake as it must be.
    Handshake(&'static str),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// See [`super::App::serve`].
pub(super) async fn serve(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    from: IpAddr,
) -> Response<Body> {
    let people = is_for_people(request.headers());
    let frame = shared.names.gateway_origin();
    if let Some(end) = shared.end() {
        return fault::ended(end).response(people, frame);
    }
    // A request begins only when there is a place for what will be written of it.
    let Some(place) = place(shared).await else {
        return shared
            .end()
            .map_or_else(|| Fault::Unrecorded.page(), fault::ended)
            .response(people, frame);
    };
    shared.touch();
    let flow = Flow::new();
    let mut entry = Entry::new(
        place,
        shared.broker().now(),
        request.method().as_str(),
        request.uri().path(),
        Arc::clone(&flow),
    );
    let asked = Asked { shared, from, flow: &flow };
    // At the end of the session nothing waits any longer: whoever waits at a connection is woken,
    // and whatever else is waited for is not.
    let outcome = asked.pass(request).await;
    match outcome {
        Ok(answer) if !shared.is_over() => answer.into_response(shared, entry),
        Err(failed) if !shared.is_over() => refuse(shared, &mut entry, failed, people),
        Ok(_) | Err(_) => {
            entry.ended(RequestEnd::Cut);
            let page = shared.end().map_or_else(|| Fault::Over.page(), fault::ended);
            entry.answered(page.status.as_u16());
            page.response(people, frame)
        }
    }
}

/// A place in the queue to the store. Where requests come faster than it takes them, they wait.
async fn place(shared: &Shared) -> Option<OwnedPermit<RequestRecord>> {
    if shared.unwritten.load(Ordering::Relaxed) {
        return None;
    }
    if shared.records.capacity() <= shared.records.max_capacity() / 2 {
        shared.filling.notify_one();
    }
    match shared.records.clone().try_reserve_owned() {
        Ok(place) => Some(place),
        Err(TrySendError::Closed(_)) => None,
        Err(TrySendError::Full(records)) => tokio::select! {
            biased;
            () = shared.over_token().cancelled() => None,
            place = Box::pin(timeout(PLACE, records.reserve_owned())) => place.ok()?.ok(),
        },
    }
}

/// The page in place of an answer.
fn refuse(shared: &Shared, entry: &mut Entry, failed: Failed, people: bool) -> Response<Body> {
    let page = match failed {
        Failed::Fault(fault) => {
            let session_id = shared.lease().session().id;
            let cause = std::error::Error::source(&fault).map(tracing::field::display);
            tracing::warn!(%session_id, code = fault.code(), cause, "application.failed");
            entry.ended(RequestEnd::Failed);
            fault.page()
        }
        Failed::Refused(refusal, bytes) => {
            shared.refusals.add(entry.refused(refusal, bytes));
            entry.ended(RequestEnd::Refused);
            refusal.page()
        }
        Failed::Handshake(text) => {
            entry.ended(RequestEnd::Failed);
            let (status, title) = (StatusCode::BAD_REQUEST, "This is no WebSocket handshake.");
            Page {
                status,
                code: "bad_handshake",
                title,
                text: text.to_owned(),
                action: "",
                again: false,
            }
        }
    };
    entry.answered(page.status.as_u16());
    let mut response = page.response(people, shared.names.gateway_origin());
    if page.code == "method_not_allowed" {
        // RFC 9110 section 15.5.6: says which are.
        let methods = shared.terms().requests.methods.join(", ");
        if let Ok(methods) = HeaderValue::from_str(&methods) {
            response.headers_mut().insert(header::ALLOW, methods);
        }
    }
    response
}

/// An answer that may pass.
pub(super) enum Answer {
    /// As the application gave it.
    Passed(Response<Received>),
    /// A WebSocket: what the browser is answered, and what carries its messages from then on.
    Upgraded(Response<Body>, Box<dyn FnOnce(Entry) + Send>),
}

impl Answer {
    fn into_response(self, shared: &Arc<Shared>, mut entry: Entry) -> Response<Body> {
        match self {
            Self::Upgraded(response, carry) => {
                entry.answered(response.status().as_u16());
                carry(entry);
                response
            }
            Self::Passed(response) => {
                entry.flow().answer();
                let (parts, body) = response.into_parts();
                entry.answered(parts.status.as_u16());
                // Events that come by themselves are no use.
                let is_use = !parts
                    .headers
                    .get(header::CONTENT_TYPE)
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
                if body.is_end_stream() {
                    entry.ended(RequestEnd::Done);
                    return Response::from_parts(parts, super::body::whole(bytes::Bytes::new()));
                }
                let passing = Passing::new(body, entry, Arc::clone(shared), is_use);
                Response::from_parts(parts, passing.boxed_unsync())
            }
        }
    }
}

/// A request under way.
pub(super) struct Asked<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) from: IpAddr,
    pub(super) flow: &'a Arc<Flow>,
}

impl Asked<'_> {
    async fn pass(&self, request: Request<Incoming>) -> Result<Answer, Failed> {
        let shared = self.shared;
        let said = said(shared).await?;
        let rules = &shared.terms().requests;
        if ws::is_asked_for(&request) {
            allow::request(
                rules,
                request.method(),
                request.uri().path(),
                request.headers(),
                Some(0),
            )
            .map_err(|refusal| Failed::Refused(refusal, 0))?;
            // In a box, as everything is that few requests come to: each request has room for all
            // of it, and is moved with that.
            return Box::pin(ws::open(self, request, &said)).await;
        }
        let (parts, body) = request.into_parts();
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let judged = allow::request(rules, &parts.method, parts.uri.path(), &parts.headers, length);
        judged.map_err(|refusal| Failed::Refused(refusal, length.unwrap_or(0)))?;
        let to_head = parts.method == Method::HEAD;
        let response = self.ask(parts, body, length, &said).await?;
        self.answer(response, to_head).await
    }

    async fn ask(
        &self,
        parts: Parts,
        body: Incoming,
        length: Option<u64>,
        said: &Said,
    ) -> Result<Response<Received>, Failed> {
        let shared = self.shared;
        let mut head = head::begin(&parts.method, target(&parts.uri));
        head::to_application(
            &mut head,
            &parts.headers,
            &shared.names,
            self.from,
            said,
            &shared.jar,
        );
        match length {
            Some(0) if !parts.headers.contains_key(header::CONTENT_LENGTH) => {}
            Some(length) => field(&mut head, &header::CONTENT_LENGTH, &HeaderValue::from(length)),
            None => {
                field(&mut head, &header::TRANSFER_ENCODING, &HeaderValue::from_static("chunked"))
            }
        }
        let body = (length != Some(0)).then(|| {
            let waits = expects(&parts.headers);
            if waits {
                field(&mut head, &header::EXPECT, &HeaderValue::from_static("100-continue"));
            }
            Box::new(Streaming::new(body, Arc::clone(self.flow), Arc::clone(shared), waits))
        });
        match exchange(shared, Outgoing::new(head, &parts.method, body), self.flow).await {
            // The application may have answered to the half of it, or hung up: what counts is that
            // it was too much.
            _ if self.flow.is_refused() => Err(Failed::Refused(Refusal::Size, self.flow.sent())),
            Ok(answered) => Ok(answered),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Judges and maps an answer.
    pub(super) async fn answer(
        &self,
        mut response: Response<Received>,
        to_head: bool,
    ) -> Result<Answer, Failed> {
        let shared = self.shared;
        let empty = response.body().is_end_stream();
        let length = response.body().size_hint().exact();
        allow::answer(&shared.terms().requests, response.status(), response.headers(), empty)
            .map_err(|refusal| Failed::Refused(refusal, length.unwrap_or(0)))?;
        let signs_in = shared.terms().sign_in != crate::domain::web::SignIn::None;
        if signs_in && response.status() == StatusCode::UNAUTHORIZED {
            Box::pin(self.sign_in_refused()).await?;
            // A browser that is asked for a password would ask its user for one that is never used.
            response.headers_mut().remove(header::WWW_AUTHENTICATE);
        }
        head::to_browser(
            response.headers_mut(),
            &shared.names,
            shared.place.cross_site,
            &shared.jar,
        );
        frame_anew(&mut response, empty, length, to_head);
        Ok(Answer::Passed(response))
    }

    /// Written down once: an application that refuses one request refuses all.
    async fn sign_in_refused(&self) -> Result<(), Fault> {
        if self.shared.sign_in_refused.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        unless_over(self.shared, async {
            self.shared.books().login_refused("refused").await.map_err(|error| {
                self.shared.sign_in_refused.store(false, Ordering::Relaxed);
                tracing::error!(%error, "application.sign_in.unrecorded");
                Fault::Unrecorded
            })
        })
        .await
    }
}

/// Length of an answer: as its body is, not as its head says. In an answer to HEAD the head's is
/// kept: it says how long a body would be (RFC 9110 sections 8.6 and 9.3.2).
fn frame_anew(response: &mut Response<Received>, empty: bool, length: Option<u64>, is_head: bool) {
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
pub(super) fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

/// What the application is told of the user now.
async fn said(shared: &Shared) -> Result<Arc<Said>, Fault> {
    match shared.told() {
        Ok(told) => told.now(shared).await,
        Err(Fault::CredentialRequired(source)) => Err(Fault::CredentialRequired(*source)),
        Err(_) => Err(Fault::Over),
    }
}

fn expects(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// What may take its time, unless the session ends meanwhile.
pub(super) async fn unless_over<T>(
    shared: &Shared,
    waits: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::select! {
        biased;
        () = shared.over_token().cancelled() => Err(Fault::Over),
        outcome = waits => outcome,
    }
}

/// See [`super::App::probe`].
pub(super) async fn probe(shared: &Arc<Shared>) -> Result<(), Fault> {
    if shared.is_over() {
        return Err(Fault::Over);
    }
    let said = said(shared).await?;
    let target = shared.terms().opens_at().parse::<Uri>().unwrap_or_else(|_| Uri::from_static("/"));
    let mut head = head::begin(&Method::GET, self::target(&target));
    head::to_application(
        &mut head,
        &HeaderMap::new(),
        &shared.names,
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        &said,
        &shared.jar,
    );
    alone(shared, Outgoing::new(head, &Method::GET, None), &Flow::new()).await.map(drop)
}
