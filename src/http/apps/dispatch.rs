//! What becomes of a request under the apps domain.

use super::name::{self, Named};
use super::table::{Opened, Table};
use super::{AppsSettings, Body, entry, pages, site};
use crate::domain::user::Origin;
use crate::http::AppState;
use crate::http::origin::client_address;
use crate::viewer::html5::Fault;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Most header lines; more is 431.
pub(super) const HEADERS_MAX: usize = 100;
/// Where the gateway's own paths of an application's origin begin.
const OWN_PATHS: &str = "/.portcullis/";
/// The viewer is told of an application's end at once, by a request that waits for it this long.
const STATE_WAIT: Duration = Duration::from_secs(25);
/// How often idle applications are looked for, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What all connections share.
pub(in crate::http) struct Apps {
    pub(super) settings: AppsSettings,
    pub(super) table: Table,
    /// Where what outlives a connection runs.
    pub(super) runtime: Handle,
}

impl Apps {
    /// None open.
    pub(in crate::http) fn new(settings: AppsSettings, runtime: Handle) -> Self {
        Self { settings, table: Table::default(), runtime }
    }

    /// Closes applications that nobody uses, until the gateway goes away.
    pub(in crate::http) async fn tend(self: Arc<Self>, state: AppState) {
        let every = (self.settings.idle / 4).clamp(Duration::from_millis(50), SWEEP_EVERY);
        let mut going = state.going_away();
        while tokio::time::timeout(every, going.wait_for(|going| *going)).await.is_err() {
            for app in self.table.sweep(self.settings.idle, Instant::now()) {
                app.close("idle").await;
            }
        }
    }
}

/// A request's circumstances.
pub(super) struct Asked<'a> {
    pub(super) state: &'a AppState,
    pub(super) apps: &'a Arc<Apps>,
    pub(super) peer: Option<IpAddr>,
}

impl Asked<'_> {
    /// Where it came from, for the audit log.
    pub(super) fn origin(&self, headers: &HeaderMap) -> Origin {
        let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        Origin {
            request_id: uuid::Uuid::now_v7().to_string(),
            source_ip: self.client(headers),
            user_agent: agent.map(|agent| agent.chars().take(256).collect()),
        }
    }

    /// The client's address.
    fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let forwarded = headers
            .get_all("x-forwarded-for")
            .into_iter()
            .filter_map(|v| v.to_str().ok())
            .collect::<Vec<_>>()
            .join(",");
        self.peer.map(|peer| client_address(peer, &forwarded, &self.state.settings.trusted_proxies))
    }
}

/// Answers a request. `serving` hears which application it goes to.
pub(super) async fn answer(
    asked: &Asked<'_>,
    request: Request<Incoming>,
    serving: impl FnOnce(&Arc<Opened>),
) -> Response<Body> {
    let settings = &asked.apps.settings;
    let headers = request.headers();
    if headers.len() > HEADERS_MAX {
        return pages::plain(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "Too many header fields\n",
        );
    }
    if !is_framed_once(headers) {
        return unclear(&request, "The request's framing is not understood\n");
    }
    let session = match name::named(request.uri(), headers, settings) {
        Named::Session(session) => session,
        Named::Nobody => return pages::not_found(settings, None),
        Named::Elsewhere => {
            return pages::plain(StatusCode::MISDIRECTED_REQUEST, "Not served here\n");
        }
        Named::Unclear => return unclear(&request, "The request does not name one host\n"),
    };
    if *request.method() == Method::TRACE || !name::is_origin_form(request.method(), request.uri())
    {
        return unclear(&request, "The request does not name a path\n");
    }
    let opened = asked.apps.table.find(session, entry::cookies(headers));
    // Who has entered is known, and an application is asked as often as its pages like; everybody
    // else is counted by address.
    if opened.is_none() && asked.state.limits.any.check(asked.client(headers)).is_err() {
        return pages::too_often(settings);
    }
    if let Some(path) = request.uri().path().strip_prefix(OWN_PATHS) {
        return match path {
            "enter" => Box::pin(entry::enter(asked, session, request)).await,
            "state" => {
                Box::pin(state(asked, opened.as_deref(), request.uri().query(), headers)).await
            }
            _ => pages::not_found(settings, Some(session)),
        };
    }
    let Some(opened) = opened else { return pages::not_found(settings, Some(session)) };
    if let Some(ending) = opened.ending() {
        return pages::ended(settings, session, ending);
    }
    if !site::may_pass(request.method(), headers, || settings.origin(session)) {
        return pages::foreign(settings);
    }
    let from = asked.client(headers).unwrap_or(IpAddr::from([0, 0, 0, 0]));
    serving(&opened);
    opened.app.serve(request, from).await
}

/// The leg that failed, and what a person reads of it.
fn failing(fault: &Fault) -> Response<Body> {
    let leg = if fault.code() == "host_unreachable" { "host" } else { "application" };
    pages::json(
        &json!({"state": "failing", "leg": leg, "code": fault.code(), "detail": fault.page().title}),
    )
}

/// 400; and nothing that follows on the connection is believed.
fn unclear(request: &Request<Incoming>, line: &'static str) -> Response<Body> {
    let mut answer = pages::plain(StatusCode::BAD_REQUEST, line);
    if request.version() < Version::HTTP_2 {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Chunked, once, is the one transfer coding that passes (RFC 9112 section 6.1: never twice; any
/// other would have to be undone here).
fn is_framed_once(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    let (first, second) = (codings.next(), codings.next());
    second.is_none()
        && first.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// For the viewer, which cannot look into a frame of another origin: whether this browser may use
/// the application, and whether that answers. The same for an unknown session as for one without a
/// cookie. The application itself is asked only when the viewer wants to know (`?answering`): one
/// that is watched is not to be knocked at all the time. With `?wait` the answer is there when the
/// state is another, or after a while.
async fn state(
    asked: &Asked<'_>,
    opened: Option<&Opened>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Response<Body> {
    let answering = query == Some("answering");
    if let (Some(opened), Some("wait")) = (opened, query) {
        // Either way there is something to say.
        let _ = tokio::time::timeout(STATE_WAIT, opened.app.ended()).await;
    }
    let mut answer = match opened {
        None => pages::json(&json!({"state": "none"})),
        Some(opened) => match opened.ending() {
            Some(ending) => pages::json(&json!({"state": "ended", "reason": ending.as_str()})),
            None if !answering => pages::json(&json!({"state": "open"})),
            None => match opened.app.probe().await {
                Ok(()) => pages::json(&json!({"state": "open"})),
                Err(fault) => failing(&fault),
            },
        },
    };
    let by_gateway = entry::is_from_gateway(asked, headers);
    if let (true, Some(origin)) = (by_gateway, headers.get(header::ORIGIN)) {
        entry::readable(&mut answer, origin.clone());
    }
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
    answer
}
