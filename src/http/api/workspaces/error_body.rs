//! The error body of the workspaces API: `{"detail": "<a sentence for the user>"}`.

use super::cookies;
use crate::http::error::ApiError;
use crate::http::head_limit::CLEAR_COOKIES;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

/// The body of every error response.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Problem {
    /// What happened and what to do, for the user.
    pub detail: String,
}

/// Renders an error.
#[must_use]
pub fn error_response(error: &ApiError) -> HttpResponse {
    let mut response = error.response();
    if error.status() == StatusCode::UNAUTHORIZED {
        response.insert_header((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
    }
    if error.removes_cookies() {
        // A cookie of another path or domain is removed only by the latter.
        response.insert_header(("clear-site-data", CLEAR_COOKIES));
        for cookie in cookies::removal_cookies() {
            response.cookie(cookie);
        }
    }
    response.json(Problem { detail: error.detail().to_owned() })
}
