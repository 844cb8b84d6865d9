//! Authentication of the workspaces API: a bearer token, or the access cookie with CSRF checks.
//!
//! A browser sends its cookies with cross-site requests, too. An unsafe request that is authenticated
//! by the cookie must therefore carry `X-Portcullis-Csrf: 1`, a header that needs a CORS preflight
//! across origins (which is refused), and an `Origin` of this gateway.

use super::cookies;
use crate::domain::principal::Principal;
use crate::http::cookie_header::RequestCookie;
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::RequestMeta;
use crate::http::origin::{BrowserOrigin, classify_origin};
use crate::http::state::app_state;
use actix_web::HttpRequest;
use actix_web::http::header;

/// `1` in every unsafe request of the pages.
pub const CSRF_HEADER: &str = "X-Portcullis-Csrf";

/// The credentials of a request.
enum Credentials {
    /// From `Authorization`.
    Bearer(String),
    /// From the cookie.
    Cookie(String),
    /// The cookie twice.
    Repeated,
    /// None, or an `Authorization` of another scheme. A cookie beside it is ignored: the client
    /// chose a scheme.
    Missing,
}

/// The caller.
///
/// # Errors
/// 401 without a valid token (an invalid one is audited); 403 when the CSRF check fails; 400 when
/// the cookie is there twice.
pub async fn authenticate(req: &HttpRequest) -> ApiResult<Principal> {
    let state = app_state(req)?;
    let RequestMeta(source) = RequestMeta::of(req);
    match credentials_of(req) {
        Credentials::Missing => Err(ApiError::unauthenticated()),
        Credentials::Bearer(token) => {
            Ok(state.broker.logins().authenticate(&source, &token).await?)
        }
        Credentials::Cookie(token) => {
            let caller = state.broker.logins().authenticate(&source, &token).await?;
            check_csrf(req, Some(&caller)).await?;
            Ok(caller)
        }
        Credentials::Repeated => refuse_repeated_cookie(req).await,
    }
}

/// Whether the request has credentials, valid or not.
#[must_use]
pub fn has_credentials(req: &HttpRequest) -> bool {
    !matches!(credentials_of(req), Credentials::Missing)
}

/// Whether the request is authenticated by the cookie.
#[must_use]
pub fn uses_cookie(req: &HttpRequest) -> bool {
    matches!(credentials_of(req), Credentials::Cookie(_) | Credentials::Repeated)
}

/// Audits and refuses a request with a cookie of this gateway twice.
///
/// # Errors
/// 400; or the failure of the audit log.
pub async fn refuse_repeated_cookie<T>(req: &HttpRequest) -> ApiResult<T> {
    record_denial(req, None, "cookie_repeated").await?;
    Err(ApiError::repeated_cookie())
}

/// Refuses and audits an unsafe request that no page of this gateway made.
///
/// # Errors
/// 403.
pub async fn check_csrf(req: &HttpRequest, caller: Option<&Principal>) -> ApiResult<()> {
    if req.method().is_safe() {
        return Ok(());
    }
    let state = app_state(req)?;
    let has_header = req.headers().get(CSRF_HEADER).is_some_and(|v| v.as_bytes() == b"1");
    let reason = match (has_header, classify_origin(req, &state.settings.public_origins)) {
        (true, BrowserOrigin::Own) => return Ok(()),
        (false, _) => "csrf_header_missing",
        (true, BrowserOrigin::Absent | BrowserOrigin::Foreign) => "foreign_origin",
    };
    deny_and_audit(req, caller, reason).await
}

/// Audits a denial and refuses with 403.
///
/// # Errors
/// 403; or the failure of the audit log.
pub async fn deny_and_audit<T>(
    req: &HttpRequest,
    caller: Option<&Principal>,
    reason: &str,
) -> ApiResult<T> {
    record_denial(req, caller, reason).await?;
    Err(ApiError::forbidden("This request did not come from a page of this gateway"))
}

async fn record_denial(
    req: &HttpRequest,
    caller: Option<&Principal>,
    reason: &str,
) -> ApiResult<()> {
    let RequestMeta(source) = RequestMeta::of(req);
    let route = format!("{} {}", req.method(), req.match_pattern().unwrap_or_default());
    Ok(app_state(req)?.broker.audit().record_denial(&source, caller, &route, reason).await?)
}

fn credentials_of(req: &HttpRequest) -> Credentials {
    if let Some(value) = req.headers().get(header::AUTHORIZATION) {
        let bearer = value
            .to_str()
            .ok()
            .and_then(|v| v.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        return match bearer {
            Some((_, token)) if !token.trim().is_empty() => {
                Credentials::Bearer(token.trim().to_owned())
            }
            Some(_) | None => Credentials::Missing,
        };
    }
    match cookies::read(req, cookies::ACCESS) {
        RequestCookie::Once(token) => Credentials::Cookie(token.to_owned()),
        RequestCookie::Repeated => Credentials::Repeated,
        RequestCookie::Missing => Credentials::Missing,
    }
}
