//! A ticket becomes a cookie. The viewer posts a form to `/.portcullis/enter` of the session's
//! origin; a ticket in the body is in no history, no `Referer` and no log. From then on the cookie
//! is what opens the application, in that browser alone.
//!
//! The form is sent by a script (`fetch`) where the cookie it brings back is the one the
//! application is then opened with. A request that a page of the gateway makes passes no service
//! worker of the application; a navigation would, and the worker could read the ticket. A tab of
//! another site than the gateway's keeps cookies of its own, so that into it the form is navigated.

use super::dispatch::RequestContext;
use super::{App, AppOrigin, AppsSettings, Body, pages};
use crate::broker::core::stream_registry::StreamGrant;
use crate::broker::model::{StreamProof, TooManyViewers};
use crate::domain::secret::SecretString;
use crate::domain::user::RequestSource;
use crate::domain::web_app::WebAppConfig;
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{Error, ErrorKind, SessionId};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use std::time::Duration;

/// Name of the cookie. `__Host-` (RFC 6265bis section 4.1.3.2): no sibling origin and no
/// application can set it for another host.
pub(super) const COOKIE: &str = "__Host-portcullis-app";
/// Longest form.
const FORM_MAX: usize = 4096;
/// Longest wait for it.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Values of our cookie among a request's.
pub(super) fn cookie_values(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|line| line.split(';'));
    all.filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

/// Answers `/.portcullis/enter`; to a page of the gateway so that its script may read it.
pub(super) async fn enter(
    asked: &RequestContext<'_>,
    session: SessionId,
    request: Request<Incoming>,
) -> Response<Body> {
    let readers = is_from_gateway(asked, request.headers())
        .then(|| request.headers().get(header::ORIGIN).cloned())
        .flatten();
    let mut answer = exchange_ticket(asked, session, request).await;
    if let Some(origin) = readers {
        allow_cors(&mut answer, origin);
    }
    answer
}

/// Lets scripts of an origin read an answer that has cookies (Fetch standard, section 3.3.3).
pub(super) fn allow_cors(answer: &mut Response<Body>, origin: HeaderValue) {
    answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    answer
        .headers_mut()
        .insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
}

async fn exchange_ticket(
    asked: &RequestContext<'_>,
    session: SessionId,
    request: Request<Incoming>,
) -> Response<Body> {
    let settings = &asked.apps.settings;
    if request.method() != Method::POST {
        let mut answer = pages::plain(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    let origin = asked.origin(request.headers());
    if asked.state.limits.anonymous.check(origin.source_ip).is_err() {
        return pages::rate_limited(settings);
    }
    // Only pages of the gateway bring tickets: with one of their own, another page could let its
    // reader work in a session of somebody else's.
    if !is_from_gateway(asked, request.headers()) {
        return match asked
            .state
            .broker
            .audit_denial(&origin, None, "POST /.portcullis/enter", "foreign_origin")
            .await
        {
            Ok(()) => pages::foreign_origin(settings),
            Err(_) => pages::unavailable(settings),
        };
    }
    let by_script = request
        .headers()
        .get(header::ACCEPT)
        .is_some_and(|accept| accept.as_bytes() == b"application/json");
    let Some(ticket) = read_ticket(request).await else { return pages::bad_ticket(settings) };
    let grant = match asked
        .state
        .broker
        .open_stream(&origin, session, StreamProof::Ticket(&ticket))
        .await
    {
        Ok(grant) => grant,
        Err(error) => return open_error(settings, &error),
    };
    match open_or_join(asked, origin, session, grant).await {
        Ok(entered) => entry_response(settings, session, &entered, by_script),
        Err(answer) => *answer,
    }
}

/// Whether one of the gateway's own pages made the request.
pub(super) fn is_from_gateway(asked: &RequestContext<'_>, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).into_iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    let known =
        std::iter::once(&asked.apps.settings.gateway).chain(&asked.state.settings.public_origins);
    known.into_iter().any(|ours| ours.as_bytes() == origin.as_bytes())
}

/// The form's ticket; `None` for what is no such form.
async fn read_ticket(request: Request<Incoming>) -> Option<SecretString> {
    let kind = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    if !kind.split(';').next()?.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return None;
    }
    let body = Limited::new(request.into_body(), FORM_MAX).collect();
    let bytes: Bytes = tokio::time::timeout(FORM_TIMEOUT, body).await.ok()?.ok()?.to_bytes();
    let text = std::str::from_utf8(&bytes).ok()?;
    let value = text.split('&').find_map(|pair| pair.strip_prefix("ticket="))?;
    // Tickets are of letters, digits, hyphen and underscore: nothing in them is ever escaped.
    let plain = !value.is_empty()
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    plain.then(|| SecretString::new(value.to_owned()))
}

/// Who entered: the cookie's value, and where the application opens.
struct EntryGrant {
    cookie: SecretString,
    start: String,
}

/// Opens the application, or joins the one that this login has open already.
async fn open_or_join(
    asked: &RequestContext<'_>,
    origin: RequestSource,
    session: SessionId,
    grant: StreamGrant,
) -> Result<EntryGrant, Box<Response<Body>>> {
    let settings = &asked.apps.settings;
    let (Some(login), WorkspaceKind::Html5) =
        (grant.caller().map(|caller| caller.login_id), grant.lease.session().workspace_kind)
    else {
        // A desktop's ticket: there is no application.
        let closed = asked.state.broker.close_stream(&origin, grant, "not_an_application").await;
        return Err(Box::new(if closed.is_ok() {
            pages::not_found(settings, Some(session))
        } else {
            pages::unavailable(settings)
        }));
    };
    let start =
        grant.lease.upstream().web_app.as_deref().map_or("/", WebAppConfig::start_path).to_owned();
    let Some(cookie) = random_cookie() else {
        drop(asked.state.broker.close_stream(&origin, grant, "aborted").await);
        return Err(Box::new(pages::unavailable(settings)));
    };
    if asked.apps.table.join(session, login, cookie.expose()) {
        return match asked.state.broker.close_stream(&origin, grant, "joined").await {
            Ok(()) => Ok(EntryGrant { cookie, start }),
            Err(_) => Err(Box::new(pages::unavailable(settings))),
        };
    }
    let right = grant.authorization.clone();
    let place = AppOrigin {
        origin: settings.origin(session),
        gateway_origin: settings.gateway.clone(),
        cross_site: settings.cross_site,
    };
    let app = {
        // What it keeps running outlives this connection, and the thread that serves it.
        let _runtime = asked.apps.runtime.enter();
        App::open(&asked.state.viewer, origin, grant, place)
    };
    asked.apps.table.add(session, app, right, cookie.expose());
    Ok(EntryGrant { cookie, start })
}

/// 256 random bits; `None` when the system has none to give.
fn random_cookie() -> Option<SecretString> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(SecretString::new(URL_SAFE_NO_PAD.encode(bytes)))
}

fn open_error(settings: &AppsSettings, error: &Error) -> Response<Body> {
    if error.source.as_deref().is_some_and(|cause| cause.is::<TooManyViewers>()) {
        return pages::too_many_viewers(settings);
    }
    match error.kind {
        ErrorKind::Throttled(_) => pages::rate_limited(settings),
        ErrorKind::Unavailable | ErrorKind::Internal => pages::unavailable(settings),
        ErrorKind::Malformed
        | ErrorKind::Invalid
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Conflict => pages::bad_ticket(settings),
    }
}

/// To where the application opens, by an absolute address: a start such as `//evil.example` names a
/// path and no host.
fn entry_response(
    settings: &AppsSettings,
    session: SessionId,
    entered: &EntryGrant,
    by_script: bool,
) -> Response<Body> {
    let start = format!("{}{}", settings.origin(session), entered.start);
    let mut answer = if by_script {
        pages::json(&json!({ "start": start }))
    } else {
        pages::empty(StatusCode::SEE_OTHER)
    };
    let site = if settings.cross_site { "None; Partitioned" } else { "Lax" };
    let cookie = HeaderValue::from_str(&format!(
        "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite={site}",
        entered.cookie.expose()
    ));
    let (Ok(location), Ok(mut cookie)) = (HeaderValue::from_str(&start), cookie) else {
        return pages::unavailable(settings);
    };
    cookie.set_sensitive(true);
    if !by_script {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer.headers_mut().insert(header::SET_COOKIE, cookie);
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}
