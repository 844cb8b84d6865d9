//! One request: judged, mapped, sent, its answer judged, mapped and passed on. Whatever goes wrong is an answer, too.

use super::allow::{self, Refusal};
use super::app::Shared;
use super::body::{Body, Passing, Upload};
use super::exchange::{alone, exchange};
use super::fault::{self, Fault};
use super::head::{self, Said};
use super::page::{Page, is_for_people};
use super::pool::Sender;
use super::record::{Entry, Flow};
use super::ws;
use crate::domain::web::{RequestEnd, RequestRecord};
use crate::viewer::books::Books as _;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

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
pub(super) async fn serve(shared: &Arc<Shared>, request: Request<Incoming>, from: IpAddr) -> Response<Body> {
    let people = is_for_people(request.headers());
    let frame = shared.names.gateway_origin();
    if let Some(end) = shared.end() {
        return fault::ended(end).response(people, frame);
    }
    // A request begins only when there is a place for what will be written of it.
    let Some(place) = place(shared).await else {
        return shared.end().map_or_else(|| Fault::Unrecorded.page(), fault::ended).response(people, frame);
    };
    shared.touch();
    let flow = Flow::new();
    let mut entry = Entry::new(place, shared.broker().now(), request.method().as_str(), request.uri().path(), Arc::clone(&flow));
    let asked = Asked { shared, from, flow: &flow };
    // At the end of the session nothing waits any longer: what is being asked loses its connection, and whatever else it waits for is not waited for.
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
            place = timeout(PLACE, records.reserve_owned()) => place.ok()?.ok(),
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
            Page { status, code: "bad_handshake", title, text: text.to_owned(), action: "", again: false }
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
    /// As the application gave it; its connection comes back when its body was read.
    Passed(Response<Incoming>, Sender),
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
            Self::Passed(response, sender) => {
                entry.flow().answer();
                let (mut parts, body) = response.into_parts();
                entry.answered(parts.status.as_u16());
                parts.version = Version::HTTP_11;
                parts.extensions.clear();
                // Events that come by themselves are no use.
                let is_use = !parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
                if body.is_end_stream() {
                    entry.ended(RequestEnd::Done);
                    if !entry.flow().abandon() {
                        shared.pool().put(sender);
                    }
                    return Response::from_parts(parts, super::body::whole(bytes::Bytes::new()));
                }
                let passing = Passing::new(body, Some(sender), entry, Arc::clone(shared), is_use);
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
            allow::request(rules, request.method(), request.uri().path(), request.headers(), Some(0))
                .map_err(|refusal| Failed::Refused(refusal, 0))?;
            return ws::open(self, request, &said).await;
        }
        let (parts, body) = request.into_parts();
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let judged = allow::request(rules, &parts.method, parts.uri.path(), &parts.headers, length);
        judged.map_err(|refusal| Failed::Refused(refusal, length.unwrap_or(0)))?;
        let method = parts.method.clone();
        let (response, sender) = self.ask(parts, body, length, &said).await?;
        self.answer(response, sender, &method).await
    }

    async fn ask(&self, parts: Parts, body: Incoming, length: Option<u64>, said: &Said) -> Result<(Response<Incoming>, Sender), Failed> {
        let shared = self.shared;
        let target = target(&parts.uri)?;
        let head = || head::to_application(&parts.headers, &shared.names, self.from, said, &shared.jar);
        let outcome = if length == Some(0) {
            let make = || {
                let mut fields = head();
                if parts.headers.contains_key(header::CONTENT_LENGTH) {
                    fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
                request(&parts.method, &target, fields, Upload::Empty)
            };
            exchange(shared, make(), parts.method.is_idempotent().then_some(&make), self.flow).await
        } else {
            let mut fields = head();
            if let Some(length) = length {
                fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            let waits = expects(&parts.headers).then(CancellationToken::new);
            let upload = Upload::streaming(body, Arc::clone(self.flow), Arc::clone(shared), shared.terms().requests.max_request, waits.clone());
            let mut asked = request(&parts.method, &target, fields, upload);
            if let Some(go) = waits {
                asked.headers_mut().insert(header::EXPECT, HeaderValue::from_static("100-continue"));
                hyper::ext::on_informational(&mut asked, move |said| {
                    if said.status() == StatusCode::CONTINUE {
                        go.cancel();
                    }
                });
            }
            exchange(shared, asked, None::<fn() -> Request<Upload>>, self.flow).await
        };
        match outcome {
            // The application may have answered to the half of it, or hung up: what counts is that it was too much.
            _ if self.flow.is_refused() => Err(Failed::Refused(Refusal::Size, self.flow.sent())),
            Ok(answered) => Ok(answered),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Judges and maps an answer.
    pub(super) async fn answer(&self, mut response: Response<Incoming>, sender: Sender, method: &Method) -> Result<Answer, Failed> {
        let shared = self.shared;
        if response.headers().contains_key(header::TRANSFER_ENCODING) && response.headers().contains_key(header::CONTENT_LENGTH) {
            // RFC 9112 section 6.3: of two framings one is wrong, and what follows may be another answer.
            return Err(Fault::Garbled("its answer has two framings".into()).into());
        }
        let empty = response.body().is_end_stream();
        let length = response.body().size_hint().exact();
        allow::answer(&shared.terms().requests, response.status(), response.headers(), empty)
            .map_err(|refusal| Failed::Refused(refusal, length.unwrap_or(0)))?;
        let signs_in = shared.terms().sign_in != crate::domain::web::SignIn::None;
        if signs_in && response.status() == StatusCode::UNAUTHORIZED {
            self.sign_in_refused().await?;
            // A browser that is asked for a password would ask its user for one that is never used.
            response.headers_mut().remove(header::WWW_AUTHENTICATE);
        }
        head::to_browser(response.headers_mut(), &shared.names, shared.place.cross_site, &shared.jar);
        frame_anew(&mut response, empty, length, *method == Method::HEAD);
        Ok(Answer::Passed(response, sender))
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

/// Length of an answer: as its body is, not as its head says. In an answer to HEAD the head's is kept: it says how long a body would be (RFC 9110
/// sections 8.6 and 9.3.2).
fn frame_anew(response: &mut Response<Incoming>, empty: bool, length: Option<u64>, is_head: bool) {
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

/// The target of a request in origin form or `*` (RFC 9112 section 3.2), octet by octet as the browser wrote it.
pub(super) fn target(uri: &Uri) -> Result<Uri, Failed> {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::builder().path_and_query(path).build().map_err(|_| Failed::Refused(Refusal::Path, 0))
}

pub(super) fn request(method: &Method, target: &Uri, fields: HeaderMap, body: Upload) -> Request<Upload> {
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = target.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = fields;
    request
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
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// What may take its time, unless the session ends meanwhile.
pub(super) async fn unless_over<T>(shared: &Shared, waits: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
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
    let fields = head::to_application(&HeaderMap::new(), &shared.names, IpAddr::V4(Ipv4Addr::LOCALHOST), &said, &shared.jar);
    let target = shared.terms().opens_at().parse::<Uri>().unwrap_or_else(|_| Uri::from_static("/"));
    let asked = request(&Method::GET, &target, fields, Upload::Empty);
    let flow = Flow::new();
    alone(shared, asked, &flow).await.map(drop)
}
