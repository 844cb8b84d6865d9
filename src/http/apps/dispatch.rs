//! Chooses the handler of a request under the apps domain: a page of the gateway, a refusal, or the
//! application.

use super::context::RequestContext;
use super::host_header::{self, HostTarget};
use super::settings::AppsSettings;
use super::table::OpenApp;
use super::{entry, fetch_metadata, pages};
use crate::domain::SessionId;
use crate::http::cookie_header::RequestCookie;
use crate::http::head_limit::HeadTooLarge;
use crate::viewer::html5::page::accepts_html;
use crate::viewer::html5::{Body, ProxyError};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Most header fields, without cookies, of which HTTP/2 sends each in a field of its own; more is 431.
pub(super) const HEADERS_MAX: usize = 100;
/// Prefix of the gateway's own paths at an application's origin.
const OWN_PATHS: &str = "/.portcullis/";
/// Longest duration of a long poll for the end of an application.
const STATE_WAIT: Duration = Duration::from_secs(25);

/// Responds to a request. `on_app` is called with the application that the request is sent to.
pub(super) async fn respond(
    context: &RequestContext<'_>,
    request: Request<Incoming>,
    on_app: impl FnOnce(&Arc<OpenApp>),
) -> Response<Body> {
    let session = match target_session(context, &request) {
        Ok(session) => session,
        Err(refusal) => return *refusal,
    };
    let (settings, headers) = (&context.apps.settings, request.headers());
    let cookie = entry::cookie(headers);
    let open = match cookie {
        RequestCookie::Once(value) => context.apps.table.find(session, value),
        RequestCookie::Missing | RequestCookie::Repeated => None,
    };
    // Requests with a valid cookie are not limited, because pages of an application may send many.
    // All others are limited per address.
    if open.is_none() && context.state.limits.any.check(context.client_address(headers)).is_err() {
        return pages::rate_limited(settings);
    }
    if let Some(path) = request.uri().path().strip_prefix(OWN_PATHS) {
        return match path {
            "enter" => Box::pin(entry::enter(context, session, request)).await,
            "state" => {
                Box::pin(app_state(context, open.as_deref(), request.uri().query(), headers)).await
            }
            _ => pages::not_found(settings, Some(session)),
        };
    }
    if cookie == RequestCookie::Repeated {
        return entry::refuse_repeated_cookie(settings, session);
    }
    let Some(open) = open else { return pages::not_found(settings, Some(session)) };
    if let Some(end) = open.end() {
        return pages::ended(settings, session, end);
    }
    if !fetch_metadata::is_allowed(request.method(), headers, || settings.origin(session)) {
        return pages::foreign_origin(settings);
    }
    let client = context.client_address(headers).unwrap_or(IpAddr::from([0, 0, 0, 0]));
    on_app(&open);
    open.app.serve(request, client).await
}

/// The refusal of a too large head. It takes the head's fields, so that many large heads do not add
/// up while their requests wait.
pub(super) fn refuse_large_head<B>(
    settings: &AppsSettings,
    request: &mut Request<B>,
) -> Option<Response<Body>> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers = request.headers();
    let fields = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let cookies = headers.get_all(header::COOKIE).iter().count();
    let too_many = headers.len() - cookies > HEADERS_MAX;
    let reason =
        HeadTooLarge::check(target, fields).or_else(|| too_many.then_some(HeadTooLarge::Other))?;
    let html = accepts_html(headers);
    request.headers_mut().clear();
    Some(pages::head_too_large(settings, reason, html))
}

/// The session that a request names, or the response to one that names none.
fn target_session(
    context: &RequestContext<'_>,
    request: &Request<Incoming>,
) -> Result<SessionId, Box<Response<Body>>> {
    let settings = &context.apps.settings;
    let headers = request.headers();
    if !has_single_framing(headers) {
        return Err(bad_request(request, "The request's framing is not understood\n"));
    }
    let session = match host_header::host_target(request.uri(), headers, settings) {
        HostTarget::Session(session) => session,
        HostTarget::UnknownSubdomain => return Err(Box::new(pages::not_found(settings, None))),
        HostTarget::Misdirected => {
            let status = StatusCode::MISDIRECTED_REQUEST;
            return Err(Box::new(pages::plain(status, "Not served here\n")));
        }
        HostTarget::Invalid => {
            return Err(bad_request(request, "The request does not name one host\n"));
        }
    };
    if *request.method() == Method::TRACE
        || !host_header::is_origin_form(request.method(), request.uri())
    {
        return Err(bad_request(request, "The request does not name a path\n"));
    }
    Ok(session)
}

/// The segment of the path that failed, and the text for the user.
fn probe_failure(error: &ProxyError) -> Response<Body> {
    let leg = if error.code() == "host_unreachable" { "host" } else { "application" };
    pages::json(
        &json!({"state": "failing", "leg": leg, "code": error.code(), "detail": error.page().title}),
    )
}

/// 400, and closes an HTTP/1.1 connection: bytes that follow an invalid request are not parsed.
fn bad_request(request: &Request<Incoming>, text: &'static str) -> Box<Response<Body>> {
    let mut response = pages::plain(StatusCode::BAD_REQUEST, text);
    if request.version() < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Box::new(response)
}

/// Only `chunked`, once, is accepted (RFC 9112 section 6.1): any other transfer coding would have to
/// be decoded here.
fn has_single_framing(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    let (first, second) = (codings.next(), codings.next());
    second.is_none()
        && first.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// The state of an application, for the viewer, which cannot read a frame of another origin. The
/// same for an unknown session as for a request without a valid cookie. `?answering` also probes the
/// application; `?wait` responds when the application ends, or after [`STATE_WAIT`].
async fn app_state(
    context: &RequestContext<'_>,
    open: Option<&OpenApp>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Response<Body> {
    let probe = query == Some("answering");
    if let (Some(open), Some("wait")) = (open, query) {
        // The state is the response in both cases.
        let _ = tokio::time::timeout(STATE_WAIT, open.app.ended()).await;
    }
    let mut response = match open {
        None => pages::json(&json!({"state": "none"})),
        Some(open) => match open.end() {
            Some(end) => pages::json(&json!({"state": "ended", "reason": end.as_str()})),
            None if !probe => pages::json(&json!({"state": "open"})),
            None => match open.app.probe().await {
                Ok(()) => pages::json(&json!({"state": "open"})),
                Err(error) => probe_failure(&error),
            },
        },
    };
    let by_gateway = entry::is_from_gateway(context, headers);
    if let (true, Some(origin)) = (by_gateway, headers.get(header::ORIGIN)) {
        entry::allow_cors(&mut response, origin.clone());
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
    response
}
