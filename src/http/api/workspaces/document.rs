//! The OpenAPI 3.1 document of the workspaces API. `static/openapi.json` is the same text; the
//! typed client of the UI is generated from it.

use super::cookies;
use crate::http::api::definition::{Route, describe};
use actix_web::http::StatusCode;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Schema};
use utoipa::{Modify, OpenApi as _};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Portcullis", description = "A secure remote-workspace gateway: workspaces API.", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    tags(
        (name = "auth", description = "Signing in, second factors, renewal"),
        (name = "workspaces", description = "What can be launched"),
        (name = "sessions", description = "Live and past connections to workspaces"),
        (name = "admin", description = "Users and everybody's sessions"),
        (name = "hosts", description = "Where workspaces run"),
        (name = "audit", description = "What happened, provably"),
        (name = "events", description = "Live updates"),
        (name = "operations", description = "Health, numbers, keys"),
    )
)]
struct ApiDoc;

struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, openapi: &mut OpenApi) {
        let bearer = SecurityScheme::Http(
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build(),
        );
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            cookies::ACCESS,
            "Browsers. Unsafe requests also carry X-Portcullis-Csrf: 1 and an Origin of this gateway.",
        )));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", bearer);
        components.add_security_scheme("cookie", cookie);
    }
}

/// Answers that any operation of its kind may give, beside those that its handler names.
struct CommonResponses;

impl CommonResponses {
    const ALWAYS: [(&'static str, &'static str); 6] = [
        ("400", "The request is malformed, or has a cookie of this gateway twice"),
        ("421", "The request is for a host that this gateway does not serve"),
        ("429", "Too many requests; `Retry-After` says when to try again"),
        ("431", "The header fields are too large"),
        ("500", "An internal error; the log has its cause under the request's id"),
        ("503", "A part of the gateway does not work at the moment"),
    ];
    const WITH_BODY: [(&'static str, &'static str); 4] = [
        ("408", "The body did not arrive in time"),
        ("413", "The body is too large"),
        ("415", "The body is not JSON"),
        ("422", "A value in the request is not acceptable"),
    ];
    const WITH_PARAMETERS: [(&'static str, &'static str); 1] =
        [("422", "A parameter is not acceptable")];
    /// Of requests that change something, which browsers must not send for another site.
    const UNSAFE: [(&'static str, &'static str); 1] =
        [("403", "The caller may not do this, or a browser sent it for another site")];

    fn add(operation: &mut Operation, responses: &[(&str, &str)]) {
        for (status, description) in responses {
            operation.responses.responses.entry((*status).to_owned()).or_insert_with(|| {
                let problem = Ref::from_schema_name("Problem");
                let content = ContentBuilder::new().schema(Some(problem)).build();
                let response = ResponseBuilder::new()
                    .description(*description)
                    .content("application/json", content);
                RefOr::T(response.build())
            });
        }
    }
}

impl Modify for CommonResponses {
    fn modify(&self, openapi: &mut OpenApi) {
        for item in openapi.paths.paths.values_mut() {
            let changing =
                [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter();
            for operation in changing.flatten() {
                Self::add(operation, &Self::UNSAFE);
            }
            let all =
                [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            for operation in all.into_iter().flatten() {
                Self::add(operation, &Self::ALWAYS);
                if operation.request_body.is_some() {
                    Self::add(operation, &Self::WITH_BODY);
                }
                if operation.parameters.as_ref().is_some_and(|list| !list.is_empty()) {
                    Self::add(operation, &Self::WITH_PARAMETERS);
                }
            }
        }
    }
}

/// OpenAPI 3.1 requires a description of every response; the default is the reason phrase.
struct ResponseDescriptions;

impl Modify for ResponseDescriptions {
    fn modify(&self, openapi: &mut OpenApi) {
        for item in openapi.paths.paths.values_mut() {
            let operations =
                [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            let mut operations = operations.into_iter().flatten().collect::<Vec<_>>();
            for summary in operations.iter_mut().filter_map(|o| o.summary.as_mut()) {
                // Comments are wrapped; a summary is one line.
                *summary = summary.replace('\n', " ");
            }
            for (status, answer) in
                operations.into_iter().flat_map(|o| o.responses.responses.iter_mut())
            {
                if let RefOr::T(answer) = answer
                    && answer.description.is_empty()
                {
                    let reason = status
                        .parse()
                        .ok()
                        .and_then(|s: u16| StatusCode::from_u16(s).ok())
                        .and_then(|s| s.canonical_reason());
                    answer.description = reason.unwrap_or("Response").to_owned();
                }
            }
        }
    }
}

/// `mfa_required` discriminates the two responses to a login, so each has one value of it.
struct LoginDiscriminants;

impl Modify for LoginDiscriminants {
    fn modify(&self, openapi: &mut OpenApi) {
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

/// The document of these routes, as JSON.
pub(super) fn json(routes: &[Route]) -> String {
    let mut document = describe(ApiDoc::openapi(), routes);
    SecuritySchemes.modify(&mut document);
    CommonResponses.modify(&mut document);
    ResponseDescriptions.modify(&mut document);
    LoginDiscriminants.modify(&mut document);
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
