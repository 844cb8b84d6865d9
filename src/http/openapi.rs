//! The description of the API (OpenAPI 3.1), generated from the handlers. `static/openapi.json` is
//! the same text; the UI's typed client is made from it.

use super::api::{audit, auth, events, hosts, ops, requests, sessions, users, workspaces};
use super::stream;
use actix_web::http::StatusCode;
use std::sync::OnceLock;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{Modify, OpenApi as _};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Portcullis", description = "A secure remote-workspace gateway: workspaces dialect.", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    paths(
        auth::login, auth::mfa_verify, auth::totp_enroll, auth::totp_confirm, auth::refresh, auth::logout, auth::me, auth::logins, auth::end_login,
        workspaces::list, workspaces::create, workspaces::get, workspaces::update, workspaces::delete, workspaces::launch, workspaces::stop,
        workspaces::save_credential, workspaces::forget_credential, workspaces::accept_certificate,
        sessions::list, sessions::active, sessions::get, sessions::disconnect, sessions::ticket, sessions::enter_credential, stream::open, sessions::all_live, sessions::terminate,
        requests::list,
        users::list, users::create, users::update, users::reset_mfa, users::sign_out,
        hosts::list, hosts::create_join_token, hosts::enroll, hosts::add_peer, hosts::config, hosts::remove,
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
    modifiers(&SecuritySchemes, &ResponseDescriptions, &LoginDiscriminants)
)]
struct ApiDoc;

struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = SecurityScheme::Http(
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build(),
        );
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            super::cookies::ACCESS,
            "Browsers. Unsafe requests also carry X-Portcullis-Csrf: 1 and an Origin of this gateway.",
        )));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", bearer);
        components.add_security_scheme("cookie", cookie);
    }
}

/// OpenAPI 3.1 wants a sentence for every answer; where a handler says none, the status says it.
struct ResponseDescriptions;

impl Modify for ResponseDescriptions {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for item in openapi.paths.paths.values_mut() {
            let operations =
                [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            for (status, answer) in
                operations.into_iter().flatten().flat_map(|o| o.responses.responses.iter_mut())
            {
                if let RefOr::T(answer) = answer
                    && answer.description.is_empty()
                {
                    let reason = status
                        .parse()
                        .ok()
                        .and_then(|s: u16| StatusCode::from_u16(s).ok())
                        .and_then(|s| s.canonical_reason());
                    answer.description = reason.unwrap_or("An answer").to_owned();
                }
            }
        }
    }
}

/// `mfa_required` tells the two answers to a login apart, so each says its one value.
struct LoginDiscriminants;

impl Modify for LoginDiscriminants {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for (name, value) in [("SignedIn", false), ("MfaDue", true)] {
            if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(name)
                && let Some(RefOr::T(Schema::Object(field))) =
                    object.properties.get_mut("mfa_required")
            {
                field.enum_values = Some(vec![value.into()]);
            }
        }
    }
}

/// The description.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    ApiDoc::openapi()
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
