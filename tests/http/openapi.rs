//! The description of the API is the API: same routes, and the committed file is what the code
//! generates.

use portcullis::http::guard::Access;
use portcullis::http::{openapi, routes};
use serde_json::Value;
use std::collections::BTreeSet;

fn description() -> Value {
    serde_json::from_str(openapi::json()).unwrap()
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
fn the_committed_file_is_what_the_handlers_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/static/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, openapi::json()).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == openapi::json(),
        "static/openapi.json is old: run `portcullis openapi > static/openapi.json` (or this test with UPDATE_OPENAPI=1)"
    );
}

#[test]
fn every_route_is_described_and_everything_described_is_a_route() {
    let description = description();
    let described: BTreeSet<_> =
        operations(&description).into_iter().map(|(m, p, _)| (m, p)).collect();
    let routed: BTreeSet<_> =
        routes::TABLE.iter().map(|r| (r.method.to_owned(), r.path.to_owned())).collect();
    assert_eq!(described, routed);
    assert_eq!(routed.len(), routes::TABLE.len(), "a route is listed twice");
}

#[test]
fn a_route_says_what_proof_it_wants() {
    let description = description();
    for (method, path, operation) in operations(&description) {
        let route = routes::TABLE.iter().find(|r| r.method == method && r.path == path).unwrap();
        let asks = operation["security"].as_array().is_some_and(|s| {
            !s.is_empty() && s.iter().all(|way| !way.as_object().unwrap().is_empty())
        });
        assert_eq!(asks, route.access == Access::Signed, "{method} {path}");
        if asks {
            assert!(
                operation["responses"]["401"].is_object(),
                "{method} {path} does not describe its 401"
            );
        }
    }
}

#[test]
fn operations_are_named_once_and_every_reference_leads_somewhere() {
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
fn what_may_be_null_says_so_and_is_there() {
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
fn every_answer_says_what_it_is() {
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
