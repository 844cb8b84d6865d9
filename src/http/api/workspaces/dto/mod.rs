//! Request and response bodies, by noun. Type names are the schema names of the OpenAPI document.

pub mod audit;
pub mod audit_query;
pub mod auth;
pub mod extension;
pub mod host;
pub mod ops;
pub mod request;
pub mod session;
pub mod session_limits;
pub mod tunnel;
pub mod upstream;
pub mod user;
pub mod web;
pub mod workspace;
pub mod workspace_input;

use serde::Serialize;
use utoipa::ToSchema;

/// A sentence that says what was done.
#[derive(Serialize, ToSchema)]
pub struct Message {
    /// The sentence.
    pub message: String,
}

/// Whole milliseconds, when there are any.
pub(super) fn millis(d: Option<std::time::Duration>) -> Option<f64> {
    d.map(|d| (d.as_secs_f64() * 10_000.0).round() / 10.0)
}
