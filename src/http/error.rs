//! Errors of handlers, and the status of each kind of failure. The API that a path belongs to
//! renders the body ([`super::api::definition::Api::error_response`]).

use crate::domain::{Error, ErrorKind};
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use std::time::Duration;

/// An error response, without the body that an API gives it.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    status: StatusCode,
    detail: String,
    retry_after: Option<Duration>,
    allow: Option<String>,
    removes_cookies: bool,
    is_tampered: bool,
}

/// Tells a page that the audit log was altered, so that it does not advise to try again.
const AUDIT_HEADER: &str = "x-portcullis-audit";

/// Result of a handler.
pub type ApiResult<T = HttpResponse> = Result<T, ApiError>;

impl ApiError {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            retry_after: None,
            allow: None,
            removes_cookies: false,
            is_tampered: false,
        }
    }

    /// 401.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Not signed in")
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404, "`what` not found": the same whether it does not exist or is not theirs.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Error::not_found(what).into()
    }

    /// 422.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 429.
    #[must_use]
    pub fn rate_limited(retry_after: Duration) -> Self {
        Error::new(ErrorKind::Throttled(retry_after), "Too many requests. Try again shortly.")
            .into()
    }

    /// 405 with the methods the path has, as in `Allow`.
    #[must_use]
    pub fn method_not_allowed(allow: &str) -> Self {
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
        Self { allow: Some(allow.to_owned()), ..error }
    }

    /// 400: the request has a cookie of this gateway twice, so that one of them is not the gateway's.
    #[must_use]
    pub fn repeated_cookie() -> Self {
        let detail = "Your browser sent this gateway's cookie twice, so that one of them was set by another page. They have been removed: load the page \
            again, and sign in again.";
        Self { removes_cookies: true, ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }

    /// Whether the response is to remove the API's cookies.
    #[must_use]
    pub fn removes_cookies(&self) -> bool {
        self.removes_cookies
    }

    /// 500 for a panic or a lost task: the log has the cause, the user has the request id.
    #[must_use]
    pub fn internal() -> Self {
        Self::from(Error::internal("a handler did not finish"))
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A sentence for the user.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// A response with the status, `Retry-After` and `Allow`, to which an API adds the body.
    #[must_use]
    pub fn response(&self) -> HttpResponseBuilder {
        let mut response = HttpResponse::build(self.status);
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up (RFC 9110 section 10.2.3), or an exact client is refused
            // again.
            response.insert_header((
                header::RETRY_AFTER,
                wait.as_millis().div_ceil(1000).max(1).to_string(),
            ));
        }
        if self.is_tampered {
            response.insert_header((AUDIT_HEADER, "tampered"));
        }
        if let Some(allow) = &self.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (status, retry_after) = match error.kind {
            ErrorKind::Malformed => (StatusCode::BAD_REQUEST, None),
            ErrorKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, None),
            ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, None),
            ErrorKind::Forbidden => (StatusCode::FORBIDDEN, None),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, None),
            ErrorKind::Conflict => (StatusCode::CONFLICT, None),
            ErrorKind::Throttled(wait) => (StatusCode::TOO_MANY_REQUESTS, Some(wait)),
            ErrorKind::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(2)))
            }
            // Trying again does not help.
            ErrorKind::Tampered => (StatusCode::SERVICE_UNAVAILABLE, None),
            ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        if status.is_server_error() {
            log_failure(status, &error);
        }
        let is_tampered = error.kind == ErrorKind::Tampered;
        Self { retry_after, is_tampered, ..Self::new(status, error.message) }
    }
}

/// Logs a server error with its causes; the user gets the message only.
fn log_failure(status: StatusCode, error: &Error) {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    tracing::error!(status = status.as_u16(), detail = %error, cause = causes.join(": "), "request failed");
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    /// Only until [`super::observe`] renders it by the API of the path.
    fn error_response(&self) -> HttpResponse {
        self.response().finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_kind_has_a_status() {
        let kinds = [
            (ErrorKind::Malformed, 400),
            (ErrorKind::Invalid, 422),
            (ErrorKind::Unauthenticated, 401),
            (ErrorKind::Forbidden, 403),
            (ErrorKind::NotFound, 404),
            (ErrorKind::Conflict, 409),
            (ErrorKind::Throttled(Duration::from_millis(1500)), 429),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::Tampered, 503),
            (ErrorKind::Internal, 500),
        ];
        for (kind, status) in kinds {
            let answer = ApiError::from(Error::new(kind, "x")).error_response();
            assert_eq!(answer.status().as_u16(), status);
            if status == 429 {
                assert_eq!(answer.headers().get(header::RETRY_AFTER).unwrap(), "2");
            }
        }
    }
}
