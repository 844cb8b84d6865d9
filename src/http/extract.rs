//! Extractors: the parts of a request that handlers use.
//!
//! | extractor | value | errors |
//! | --- | --- | --- |
//! | [`RequestMeta`] | request id, address, user agent | none |
//! | [`Authenticated`] | the authenticated caller | 401 |
//! | [`JsonBody`] | a JSON body | 400 malformed, 408 timeout, 413 too large, 415 not JSON, 422 invalid |
//! | [`OptionalJsonBody`] | the same, or the default when there is no body | the same |
//! | [`QueryParams`] | query parameters | 422 |
//! | [`PathId`] | the id in the path | 404, as for an unknown id |

use super::error::{ApiError, ApiResult};
use super::json_error::json_error;
use super::state::app_state;
use crate::domain::principal::Principal;
use crate::domain::user::RequestSource;
use crate::domain::{HostId, LoginId, SessionId, UserId, WorkspaceId};
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::{self, Bytes};
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use futures_util::future::LocalBoxFuture;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::future::{Ready, ready};
use std::str::FromStr;

/// Largest JSON body, bytes.
pub const BODY_MAX: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub struct RequestMeta(pub RequestSource);

impl RequestMeta {
    /// As set by [`super::observe`].
    #[must_use]
    pub fn of(req: &HttpRequest) -> Self {
        Self(
            req.extensions()
                .get::<RequestSource>()
                .cloned()
                .unwrap_or_else(|| RequestSource::local("unobserved")),
        )
    }
}

impl FromRequest for RequestMeta {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;
    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(req)))
    }
}

/// The caller. Set by the middleware of routes with `Access::Authenticated` only, so that any
/// other route gets 401.
#[derive(Clone, Debug)]
pub struct Authenticated(pub Principal);

impl FromRequest for Authenticated {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;
    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(
            req.extensions()
                .get::<Principal>()
                .cloned()
                .map(Self)
                .ok_or_else(ApiError::unauthenticated),
        )
    }
}

/// A JSON body.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;
    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(req);
        let body = read_body(req, payload);
        Box::pin(async move {
            let body = body.await?;
            if !is_json {
                return Err(unsupported_media_type());
            }
            parse_object(&body).map(Self)
        })
    }
}

/// A JSON body, or the default when there is none.
#[derive(Debug)]
pub struct OptionalJsonBody<T>(pub T);

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalJsonBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;
    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(req);
        let body = read_body(req, payload);
        Box::pin(async move {
            match body.await? {
                nothing if nothing.is_empty() => Ok(Self(T::default())),
                _ if !is_json => Err(unsupported_media_type()),
                body => parse_object(&body).map(Self),
            }
        })
    }
}

/// Query parameters.
#[derive(Debug)]
pub struct QueryParams<T>(pub T);

impl<T: DeserializeOwned> FromRequest for QueryParams<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;
    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(
            web::Query::<T>::from_query(req.query_string())
                .map(|q| Self(q.into_inner()))
                .map_err(|_| ApiError::invalid("A query parameter has a value of the wrong kind")),
        )
    }
}

/// The text of `{id}` in the path. A malformed id is treated as an unknown one.
#[derive(Debug)]
pub struct PathId(String);

impl PathId {
    /// # Errors
    /// 404.
    pub fn workspace(&self) -> ApiResult<WorkspaceId> {
        self.parse("Workspace")
    }
    /// # Errors
    /// 404.
    pub fn session(&self) -> ApiResult<SessionId> {
        self.parse("Session")
    }
    /// # Errors
    /// 404.
    pub fn user(&self) -> ApiResult<UserId> {
        self.parse("User")
    }
    /// # Errors
    /// 404.
    pub fn login(&self) -> ApiResult<LoginId> {
        self.parse("Sign-in")
    }
    /// # Errors
    /// 404.
    pub fn host(&self) -> ApiResult<HostId> {
        self.parse("Host")
    }

    fn parse<T: FromStr>(&self, what: &str) -> ApiResult<T> {
        self.0.parse().map_err(|_| ApiError::not_found(what))
    }
}

impl FromRequest for PathId {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;
    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(req.match_info().get("id").unwrap_or_default().to_owned())))
    }
}

/// Other content types are refused: an HTML form of a foreign page cannot send `application/json`
/// without a CORS preflight.
fn is_json(req: &HttpRequest) -> bool {
    let kind =
        req.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case("application/json"))
}

/// Parses a JSON object. An array is refused, although serde would accept one as a sequence of
/// fields.
fn parse_object<T: DeserializeOwned>(body: &[u8]) -> ApiResult<T> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        serde_json::from_slice::<IgnoredAny>(body).map_err(|e| json_error(body, &e))?;
        return Err(ApiError::invalid("The body must be a JSON object."));
    }
    serde_json::from_slice(body).map_err(|e| json_error(body, &e))
}

fn unsupported_media_type() -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Send JSON, with Content-Type: application/json",
    )
}

fn read_body(
    req: &HttpRequest,
    payload: &mut Payload,
) -> LocalBoxFuture<'static, ApiResult<Bytes>> {
    let too_big = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is larger than {BODY_MAX} bytes"),
        )
    };
    let bytes = web::Bytes::from_request(req, payload);
    let state = app_state(req);
    Box::pin(async move {
        match tokio::time::timeout(state?.settings.body_timeout, bytes).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(match error.as_error::<PayloadError>() {
                Some(PayloadError::Overflow) => too_big(),
                Some(_) | None => {
                    ApiError::new(StatusCode::BAD_REQUEST, "The body could not be read")
                }
            }),
            Err(_) => {
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time"))
            }
        }
    })
}
