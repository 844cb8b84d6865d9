//! The description of the API (OpenAPI 3.1), generated from the handlers. `static/openapi.json` is the same text; the UI's typed client is made from it.

use super::api::{audit, auth, events, hosts, ops, sessions, users, workspaces};
use super::stream;
use std::sync::OnceLock;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi as _};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Portcullis", description = "A secure remote-workspace gateway: workspaces dialect.", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    paths(
        auth::login, auth::mfa_verify, auth::totp_enroll, auth::totp_confirm, auth::refresh, auth::logout, auth::me,
        workspaces::list, workspaces::create, workspaces::get, workspaces::update, workspaces::delete, workspaces::launch, workspaces::stop,
        sessions::list, sessions::active, sessions::get, sessions::disconnect, sessions::ticket, stream::open, sessions::all_live, sessions::terminate,
        users::list, users::create, users::update, users::reset_mfa, users::sign_out,
        hosts::list, hosts::create_join_token, hosts::enroll, hosts::remove,
        audit::list, audit::export, audit::verify,
        events::events, ops::health, ops::openapi, ops::jwks, ops::metrics,
    ),
    tags(
        (name = "auth", description = "Signing in, second factors, renewal"),
        (name = "workspaces", description = "What can be launched"),
        (name = "sessions", description = "Live and past connections to workspaces"),
        (name = "admin", description = "Users and everybody's sessions"),
        (name = "hosts", description = "Where workspaces run"),
        (name = "audit", description = "What happened, provably"),
        (name = "events", description = "Live updates"),
        (name = "operations", description = "Health, numbers, keys"),
    ),
    modifiers(&Schemes)
)]
struct Description;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build());
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            super::cookies::ACCESS,
            "Browsers. Unsafe requests also carry X-Portcullis-Csrf: 1 and an Origin of this gateway.",
        )));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", bearer);
        components.add_security_scheme("cookie", cookie);
    }
}

/// The description.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// The description as text, as committed and as served.
#[must_use]
pub fn json() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut text = openapi().to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    })
}
