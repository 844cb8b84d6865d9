//! Who may pass to a handler. A route of the table is `Authenticated` (a caller is known, or 401) or
//! `Open` (the handler looks at what is asked).
//!
//! A token comes in `Authorization: Bearer`, or in the cookie. A browser sends its cookies by
//! itself, whoever wrote the page; so an unsafe request that rests on a cookie must also carry
//! `X-Portcullis-Csrf: 1` (a header only our own pages can add, since cross-origin ones are asked
//! first and refused) and an `RequestSource` of ours.

use super::error::{ApiError, ApiResult};
use super::extract::RequestMeta;
use super::origin::{BrowserOrigin, classify_origin};
use super::{AppState, cookies};
use crate::domain::user::Caller;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, web};
use tracing::Instrument as _;

/// Carries `1` in every unsafe request of our pages.
pub const CSRF_HEADER: &str = "X-Portcullis-Csrf";

/// Who may come to a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Anybody; counted per address. The handler decides.
    Open,
    /// Somebody with a valid token.
    Signed,
}

/// The proof a request carries.
enum Credentials {
    /// From `Authorization`.
    Bearer(String),
    /// From the cookie.
    Cookie(String),
    /// None, or an `Authorization` that is no bearer token. A cookie beside it does not count: the
    /// client said what it wants to be.
    Missing,
}

/// The middleware of every route of the table.
///
/// # Errors
/// Only when a handler panicked; every refusal is an answer.
pub async fn guard(
    access: Access,
    req: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, actix_web::Error> {
    if let Err(refusal) = authorize(access, req.request()).await {
        return Ok(req.error_response(refusal));
    }
    if req.method().is_safe() {
        return next.call(req).await;
    }
    // What changes something is finished even when its client goes away meanwhile: a use case is
    // not left half-way by a closed laptop.
    match actix_web::rt::spawn(next.call(req).in_current_span()).await {
        Ok(done) => done,
        Err(_) => Err(ApiError::internal().into()),
    }
}

async fn authorize(access: Access, req: &HttpRequest) -> ApiResult<()> {
    let state = app_state(req)?;
    match access {
        Access::Open => {
            let RequestMeta(origin) = RequestMeta::of(req);
            state.limits.anonymous.check(origin.source_ip).map_err(ApiError::rate_limited)
        }
        Access::Signed => {
            let caller = authenticate(req).await?;
            req.extensions_mut().insert(caller);
            Ok(())
        }
    }
}

/// The application's state.
///
/// # Errors
/// 500 when the application was put together without.
pub fn app_state(req: &HttpRequest) -> ApiResult<web::Data<AppState>> {
    req.app_data::<web::Data<AppState>>().cloned().ok_or_else(ApiError::internal)
}

/// Who is asking, by the token the request carries.
///
/// # Errors
/// 401 without a valid token (a refused one is audited); 403 when a cookie is used across sites.
pub async fn authenticate(req: &HttpRequest) -> ApiResult<Caller> {
    let state = app_state(req)?;
    let RequestMeta(origin) = RequestMeta::of(req);
    match credentials_of(req) {
        Credentials::Missing => Err(ApiError::unauthenticated()),
        Credentials::Bearer(token) => Ok(state.broker.authenticate(&origin, &token).await?),
        Credentials::Cookie(token) => {
            let caller = state.broker.authenticate(&origin, &token).await?;
            check_csrf(req, Some(&caller)).await?;
            Ok(caller)
        }
    }
}

/// Whether the request says who it is at all.
#[must_use]
pub fn has_credentials(req: &HttpRequest) -> bool {
    !matches!(credentials_of(req), Credentials::Missing)
}

/// Whether the request rests on the cookie.
#[must_use]
pub fn uses_cookie(req: &HttpRequest) -> bool {
    matches!(credentials_of(req), Credentials::Cookie(_))
}

/// Refuses, and audits, an unsafe request with a cookie that no page of ours made.
///
/// # Errors
/// 403.
pub async fn check_csrf(req: &HttpRequest, caller: Option<&Caller>) -> ApiResult<()> {
    if req.method().is_safe() {
        return Ok(());
    }
    let state = app_state(req)?;
    let has_header = req.headers().get(CSRF_HEADER).is_some_and(|v| v.as_bytes() == b"1");
    let reason = match (has_header, classify_origin(req, &state.settings.public_origins)) {
        (true, BrowserOrigin::Ours) => return Ok(()),
        (false, _) => "csrf_header_missing",
        (true, BrowserOrigin::Absent | BrowserOrigin::Foreign) => "foreign_origin",
    };
    deny_and_audit(req, caller, reason).await
}

/// Writes a denial this edge found, and refuses.
///
/// # Errors
/// 403; or the failure of the audit log.
pub async fn deny_and_audit<T>(
    req: &HttpRequest,
    caller: Option<&Caller>,
    reason: &str,
) -> ApiResult<T> {
    let RequestMeta(origin) = RequestMeta::of(req);
    let route = format!("{} {}", req.method(), req.match_pattern().unwrap_or_default());
    app_state(req)?.broker.audit_denial(&origin, caller, &route, reason).await?;
    Err(ApiError::forbidden("This request did not come from a page of this gateway"))
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
    match req.cookie(cookies::ACCESS) {
        Some(cookie) if !cookie.value().is_empty() => {
            Credentials::Cookie(cookie.value().to_owned())
        }
        Some(_) | None => Credentials::Missing,
    }
}
