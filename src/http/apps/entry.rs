//! Exchanges a ticket for a cookie. The viewer posts a form to `/.portcullis/enter` of the session's
//! origin; a ticket in the body appears in no history, `Referer` or log. The cookie then grants access
//! to the application in that browser.
//!
//! The viewer sends the form by `fetch` where the application is then opened with the cookie that it
//! receives. A request of a gateway page is not seen by service workers of the application; a
//! navigation would be, and the worker could read the ticket. A tab of another site than the
//! gateway's has a cookie jar of its own, so there the form is navigated.

use super::context::RequestContext;
use super::pages;
use super::settings::AppsSettings;
use crate::broker::core::stream_registry::StreamGrant;
use crate::broker::model::{StreamProof, TooManyViewers};
use crate::domain::principal::Principal;
use crate::domain::secret::SecretString;
use crate::domain::user::RequestSource;
use crate::domain::{Error, ErrorKind, SessionId};
use crate::http::cookie_header::{self, RequestCookie};
use crate::viewer::html5::{App, AppOrigin, Body};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use std::time::Duration;

/// Name of the cookie. The prefix `__Host-` (RFC 6265bis section 4.1.3.2) keeps sibling origins and
/// applications from setting it for another host.
pub(super) const COOKIE: &str = "__Host-portcullis-app";
/// Largest form, in bytes.
const FORM_MAX: usize = 4096;
/// How long receiving the form may take.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// [`COOKIE`] in a request.
pub(super) fn cookie(headers: &HeaderMap) -> RequestCookie<'_> {
    cookie_header::find(headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes), COOKIE)
}

/// Refuses a request with [`COOKIE`] twice, as a script of the application can make it, since a
/// browser keeps partitioned cookies apart from others of the same name. Removes both.
pub(super) fn refuse_repeated_cookie(
    settings: &AppsSettings,
    session: SessionId,
) -> Response<Body> {
    let mut response = pages::repeated_cookie(settings, session);
    for site in ["Lax", "None; Partitioned"] {
        let removal = format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite={site}; Max-Age=0");
        if let Ok(removal) = HeaderValue::from_str(&removal) {
            response.headers_mut().append(header::SET_COOKIE, removal);
        }
    }
    response
}

/// Handles `/.portcullis/enter`. Scripts of the gateway's pages may read the response.
pub(super) async fn enter(
    context: &RequestContext<'_>,
    session: SessionId,
    request: Request<Incoming>,
) -> Response<Body> {
    let readers = is_from_gateway(context, request.headers())
        .then(|| request.headers().get(header::ORIGIN).cloned())
        .flatten();
    let mut response = exchange_ticket(context, session, request).await;
    if let Some(origin) = readers {
        allow_cors(&mut response, origin);
    }
    response
}

/// Lets scripts of an origin read a response with credentials (Fetch standard, section 3.3.3).
pub(super) fn allow_cors(response: &mut Response<Body>, origin: HeaderValue) {
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
}

async fn exchange_ticket(
    context: &RequestContext<'_>,
    session: SessionId,
    request: Request<Incoming>,
) -> Response<Body> {
    let settings = &context.apps.settings;
    if request.method() != Method::POST {
        let mut response = pages::plain(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let source = context.source(request.headers());
    if context.state.limits.anonymous.check(source.source_ip).is_err() {
        return pages::rate_limited(settings);
    }
    // Only pages of the gateway may present tickets: otherwise a page could log its visitor in to
    // the attacker's session (login CSRF).
    if !is_from_gateway(context, request.headers()) {
        return match context
            .state
            .broker
            .audit()
            .record_denial(&source, None, "POST /.portcullis/enter", "foreign_origin")
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
    let grant = match context
        .state
        .broker
        .streams()
        .open(&source, session, StreamProof::Ticket(&ticket))
        .await
    {
        Ok(grant) => grant,
        Err(error) => return open_error(settings, &error),
    };
    match open_or_join(context, source, session, grant).await {
        Ok(entered) => entry_response(settings, session, &entered, by_script),
        Err(response) => *response,
    }
}

/// Whether a page of the gateway sent the request.
pub(super) fn is_from_gateway(context: &RequestContext<'_>, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).into_iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    let known = context.apps.settings.gateways.iter().chain(&context.state.settings.public_origins);
    known.into_iter().any(|known| known.as_bytes() == origin.as_bytes())
}

/// The ticket in the form; `None`: not a valid form.
async fn read_ticket(request: Request<Incoming>) -> Option<SecretString> {
    let kind = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    if !kind.split(';').next()?.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return None;
    }
    let body = Limited::new(request.into_body(), FORM_MAX).collect();
    let bytes: Bytes = tokio::time::timeout(FORM_TIMEOUT, body).await.ok()?.ok()?.to_bytes();
    let text = std::str::from_utf8(&bytes).ok()?;
    let value = text.split('&').find_map(|pair| pair.strip_prefix("ticket="))?;
    // Tickets consist of letters, digits, hyphens and underscores, so the form never escapes them.
    let plain = !value.is_empty()
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    plain.then(|| SecretString::new(value.to_owned()))
}

/// The cookie's value, and the path at which the application opens.
struct EntryGrant {
    cookie: SecretString,
    start: String,
}

/// Opens the application, or adds a cookie to the one that this login has open already.
async fn open_or_join(
    context: &RequestContext<'_>,
    source: RequestSource,
    session: SessionId,
    grant: StreamGrant,
) -> Result<EntryGrant, Box<Response<Body>>> {
    let settings = &context.apps.settings;
    let (Some(login), Some(config)) =
        (grant.caller().and_then(Principal::login_id), grant.lease.upstream().web_app())
    else {
        // The ticket of a desktop.
        let closed =
            context.state.broker.streams().close(&source, grant, "not_an_application").await;
        return Err(Box::new(if closed.is_ok() {
            pages::not_found(settings, Some(session))
        } else {
            pages::unavailable(settings)
        }));
    };
    let start = config.start_path().to_owned();
    let Some(cookie) = random_cookie() else {
        drop(context.state.broker.streams().close(&source, grant, "aborted").await);
        return Err(Box::new(pages::unavailable(settings)));
    };
    if context.apps.table.join(session, login, cookie.expose()) {
        return match context.state.broker.streams().close(&source, grant, "joined").await {
            Ok(()) => Ok(EntryGrant { cookie, start }),
            Err(_) => Err(Box::new(pages::unavailable(settings))),
        };
    }
    let authorization = grant.authorization.clone();
    let app_origin = AppOrigin {
        origin: settings.origin(session),
        gateway_origins: settings.gateways.clone(),
        cross_site: settings.cross_site,
    };
    let app = {
        // Its tasks outlive this connection and its thread.
        let _runtime = context.apps.runtime.enter();
        App::open(&context.state.viewer, source, grant, app_origin)
    };
    context.apps.table.add(session, app, authorization, cookie.expose());
    Ok(EntryGrant { cookie, start })
}

/// 256 random bits; `None`: the system's random generator failed.
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
        ErrorKind::Unavailable | ErrorKind::Tampered | ErrorKind::Internal => {
            pages::unavailable(settings)
        }
        ErrorKind::Malformed
        | ErrorKind::Invalid
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Conflict => pages::bad_ticket(settings),
    }
}

/// Leads to the start of the application, by an absolute URL, so that a start path such as
/// `//evil.example` is not taken for a host.
fn entry_response(
    settings: &AppsSettings,
    session: SessionId,
    entered: &EntryGrant,
    by_script: bool,
) -> Response<Body> {
    let start = format!("{}{}", settings.origin(session), entered.start);
    let mut response = if by_script {
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
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
