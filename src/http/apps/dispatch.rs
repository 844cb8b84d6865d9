//! What becomes of a request under the apps domain.

use super::host_header::{self, HostTarget};
use super::table::{AppTable, OpenApp};
use super::{AppsSettings, Body, entry, fetch_metadata, pages};
use crate::domain::user::RequestSource;
use crate::http::origin::client_address;
use crate::http::state::AppState;
use crate::viewer::html5::ProxyError;
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
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// What all connections share.
pub(in crate::http) struct Apps {
    pub(super) settings: AppsSettings,
    pub(super) table: AppTable,
    /// Where what outlives a connection runs.
    pub(super) runtime: Handle,
}

impl Apps {
    /// None open.
    pub(in crate::http) fn new(settings: AppsSettings, runtime: Handle) -> Self {
        Self { settings, table: AppTable::default(), runtime }
    }

    /// Closes applications that nobody uses, until the gateway goes away.
    pub(in crate::http) async fn close_idle(self: Arc<Self>, state: AppState) {
        let every = (self.settings.idle / 4).clamp(Duration::from_millis(50), SWEEP_INTERVAL_MAX);
        let mut going = state.draining();
        while tokio::time::timeout(every, going.wait_for(|going| *going)).await.is_err() {
            for app in self.table.sweep(self.settings.idle, Instant::now()) {
                app.close("idle").await;
            }
        }
    }
}

/// A request's circumstances.
pub(super) struct RequestContext<'a> {
    pub(super) state: &'a AppState,
    pub(super) apps: &'a Arc<Apps>,
    pub(super) peer: Option<IpAddr>,
}

impl RequestContext<'_> {
    /// Where it came from, for the audit log.
    pub(super) fn origin(&self, headers: &HeaderMap) -> RequestSource {
        let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        RequestSource {
            request_id: uuid::Uuid::now_v7().to_string(),
            source_ip: self.client_address(headers),
            user_agent: agent.map(|agent| agent.chars().take(256).collect()),
        }
    }

    /// The client's address.
    fn client_address(&self, headers: &HeaderMap) -> Option<IpAddr> {
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
pub(super) async fn respond(
    asked: &RequestContext<'_>,
    request: Request<Incoming>,
    serving: impl FnOnce(&Arc<OpenApp>),
) -> Response<Body> {
    let settings = &asked.apps.settings;
    let headers = request.headers();
    if headers.len() > HEADERS_MAX {
        return pages::plain(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "Too many header fields\n",
        );
    }
    if !has_single_framing(headers) {
        return bad_request(&request, "The request's framing is not understood\n");
    }
    let session = match host_header::host_target(request.uri(), headers, settings) {
        HostTarget::Session(session) => session,
        HostTarget::UnknownSubdomain => return pages::not_found(settings, None),
        HostTarget::Misdirected => {
            return pages::plain(StatusCode::MISDIRECTED_REQUEST, "Not served here\n");
        }
        HostTarget::Invalid => {
            return bad_request(&request, "The request does not name one host\n");
        }
    };
    if *request.method() == Method::TRACE
        || !host_header::is_origin_form(request.method(), request.uri())
    {
        return bad_request(&request, "The request does not name a path\n");
    }
    let opened = asked.apps.table.find(session, entry::cookie_values(headers));
    // Who has entered is known, and an application is asked as often as its pages like; everybody
    // else is counted by address.
    if opened.is_none() && asked.state.limits.any.check(asked.client_address(headers)).is_err() {
        return pages::rate_limited(settings);
    }
    if let Some(path) = request.uri().path().strip_prefix(OWN_PATHS) {
        return match path {
            "enter" => Box::pin(entry::enter(asked, session, request)).await,
            "state" => {
                Box::pin(app_state(asked, opened.as_deref(), request.uri().query(), headers)).await
            }
            _ => pages::not_found(settings, Some(session)),
        };
    }
    let Some(opened) = opened else { return pages::not_found(settings, Some(session)) };
    if let Some(ending) = opened.end() {
        return pages::ended(settings, session, ending);
    }
    if !fetch_metadata::is_allowed(request.method(), headers, || settings.origin(session)) {
        return pages::foreign_origin(settings);
    }
    let from = asked.client_address(headers).unwrap_or(IpAddr::from([0, 0, 0, 0]));
    serving(&opened);
    opened.app.serve(request, from).await
}

/// The leg that failed, and what a person reads of it.
fn probe_failure(fault: &ProxyError) -> Response<Body> {
    let leg = if fault.code() == "host_unreachable" { "host" } else { "application" };
    pages::json(
        &json!({"state": "failing", "leg": leg, "code": fault.code(), "detail": fault.page().title}),
    )
}

/// 400; and nothing that follows on the connection is believed.
fn bad_request(request: &Request<Incoming>, line: &'static str) -> Response<Body> {
    let mut answer = pages::plain(StatusCode::BAD_REQUEST, line);
    if request.version() < Version::HTTP_2 {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Chunked, once, is the one transfer coding that passes (RFC 9112 section 6.1: never twice; any
/// other would have to be undone here).
fn has_single_framing(headers: &HeaderMap) -> bool {
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
async fn app_state(
    asked: &RequestContext<'_>,
    opened: Option<&OpenApp>,
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
        Some(opened) => match opened.end() {
            Some(ending) => pages::json(&json!({"state": "ended", "reason": ending.as_str()})),
            None if !answering => pages::json(&json!({"state": "open"})),
            None => match opened.app.probe().await {
                Ok(()) => pages::json(&json!({"state": "open"})),
                Err(fault) => probe_failure(&fault),
            },
        },
    };
    let by_gateway = entry::is_from_gateway(asked, headers);
    if let (true, Some(origin)) = (by_gateway, headers.get(header::ORIGIN)) {
        entry::allow_cors(&mut answer, origin.clone());
    }
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
    answer
}
