//! The workspaces API: people and programs launch workspaces, use sessions, and administer.
//!
//! Handlers extract their arguments, call the broker, map the result to a DTO, and respond. They run
//! no query, check no role and read no clock.

mod audit;
mod auth;
mod authentication;
mod catalog;
mod cookies;
mod csv;
mod document;
mod dto;
mod error_body;
mod events;
mod hosts;
mod ops;
mod requests;
mod responses;
mod sessions;
mod stream;
mod users;

use super::definition::{Api, Route};
use bytes::Bytes;
use std::sync::Arc;

/// Every route. Method, path and access are in the `#[utoipa::path]` attributes of the handlers.
fn routes() -> Vec<Route> {
    crate::api_routes![
        auth::login,
        auth::mfa_verify,
        auth::totp_enroll,
        auth::totp_confirm,
        auth::refresh,
        auth::logout,
        auth::me,
        auth::logins,
        auth::end_login,
        catalog::list,
        catalog::create,
        catalog::get,
        catalog::update,
        catalog::delete,
        catalog::launch,
        catalog::stop,
        catalog::save_credential,
        catalog::forget_credential,
        catalog::accept_certificate,
        sessions::list,
        sessions::active,
        sessions::get,
        sessions::disconnect,
        sessions::extend,
        sessions::ticket,
        sessions::enter_credential,
        sessions::all_live,
        sessions::terminate,
        stream::open,
        requests::list,
        users::list,
        users::create,
        users::update,
        users::reset_mfa,
        users::sign_out,
        hosts::list,
        hosts::create_join_token,
        hosts::enroll,
        hosts::add_peer,
        hosts::config,
        hosts::update,
        hosts::remove,
        audit::list,
        audit::export,
        audit::verify,
        events::events,
        ops::health,
        ops::openapi,
        ops::jwks,
        ops::metrics,
    ]
}

/// The API. Its error body is also that of paths that belong to no API.
#[must_use]
pub fn api() -> Arc<Api> {
    let routes = routes();
    Arc::new(Api {
        prefix: "/",
        document: Bytes::from(document::json(&routes)),
        routes,
        error_response: error_body::error_response,
        authenticate: |req| Box::pin(async move { authentication::authenticate(&req).await }),
    })
}
