//! The OpenAPI document: the committed file is what the code generates, and its operations are the
//! routes.

use portcullis::http::api::definition::Access;
use portcullis::http::api::workspaces;
use serde_json::Value;
use std::collections::BTreeSet;

fn text() -> String {
    String::from_utf8(workspaces::api().document.to_vec()).unwrap()
}

fn description() -> Value {
    serde_json::from_str(&text()).unwrap()
}

fn operations(description: &Value) -> Vec<(String, String, &Value)> {
    let mut all = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push((method.to_uppercase(), path.clone(), operation));
        }
    }
    all
}

#[test]
fn the_committed_file_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/static/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, text()).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text(),
        "static/openapi.json is outdated: run `portcullis openapi > static/openapi.json` (or this test with UPDATE_OPENAPI=1)"
    );
}

#[test]
fn every_operation_is_a_route() {
    let description = description();
    let described: BTreeSet<_> =
        operations(&description).into_iter().map(|(m, p, _)| (m, p)).collect();
    let api = workspaces::api();
    let routed: BTreeSet<_> =
        api.routes.iter().map(|r| (r.method.to_string(), r.path.clone())).collect();
    assert_eq!(described, routed);
    assert_eq!(routed.len(), api.routes.len(), "a route is listed twice");
}

#[test]
fn routes_that_require_authentication_describe_their_401() {
    let description = description();
    let api = workspaces::api();
    let required: Vec<_> =
        api.routes.iter().filter(|r| r.access == Access::Authenticated).collect();
    assert!(required.len() > 35, "{}", required.len());
    for route in required {
        let operation = &description["paths"][&route.path][route.method.as_str().to_lowercase()];
        for way in operation["security"].as_array().unwrap() {
            assert!(!way.as_object().unwrap().is_empty(), "{} {}", route.method, route.path);
        }
        assert!(operation["responses"]["401"].is_object(), "{} {}", route.method, route.path);
    }
}

/// A forgotten `security` attribute makes a route public; this list makes that visible.
#[test]
fn only_these_routes_are_public() {
    let public: BTreeSet<_> = workspaces::api()
        .routes
        .iter()
        .filter(|r| r.access == Access::Public)
        .map(|r| r.path.clone())
        .collect();
    let expected = [
        "/.well-known/jwks.json",
        "/api/auth/login",
        "/api/auth/mfa/totp/confirm",
        "/api/auth/mfa/totp/enroll",
        "/api/auth/mfa/verify",
        "/api/auth/refresh",
        "/api/health",
        "/api/hosts/enroll",
        "/api/openapi.json",
        "/api/sessions/{id}/stream",
        "/metrics",
    ];
    assert_eq!(public, expected.map(str::to_owned).into());
}

#[test]
fn operation_ids_are_unique_and_references_resolve() {
    let description = description();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let names: Vec<_> = operations(&description)
        .iter()
        .map(|(_, _, o)| o["operationId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    for word in [
        "Session",
        "Workspace",
        "User",
        "UserDetails",
        "AuditEntry",
        "AuditPage",
        "Host",
        "Health",
        "SignedIn",
        "MfaDue",
        "Problem",
    ] {
        assert!(description["components"]["schemas"][word].is_object(), "{word}");
    }
    let text = description.to_string();
    for reference in
        text.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap())
    {
        assert!(description["components"]["schemas"][reference].is_object(), "{reference}");
    }
}

#[test]
fn nullable_fields_are_required_and_typed() {
    let description = description();
    let session = &description["components"]["schemas"]["Session"];
    let required: Vec<_> =
        session["required"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
    for field in ["id", "ended_at", "started_at", "end_reason", "tunnel", "latency"] {
        assert!(required.contains(&field), "{field}");
    }
    assert_eq!(session["properties"]["ended_at"]["type"], serde_json::json!(["string", "null"]));
    assert_eq!(session["properties"]["id"]["format"], "uuid");
}

#[test]
fn every_response_has_a_description() {
    let description = description();
    for (method, path, operation) in operations(&description) {
        for (status, answer) in operation["responses"].as_object().unwrap() {
            assert!(
                answer["description"].as_str().is_some_and(|d| !d.is_empty()),
                "{method} {path} {status}"
            );
        }
    }
    assert_eq!(
        description["components"]["schemas"]["SignedIn"]["properties"]["mfa_required"]["enum"],
        serde_json::json!([false])
    );
    assert_eq!(
        description["components"]["schemas"]["MfaDue"]["properties"]["mfa_required"]["enum"],
        serde_json::json!([true])
    );
}
