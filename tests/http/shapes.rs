//! Bodies of a wrong shape: every field of every route, with values of other kinds. Whatever is
//! refused is refused in words of the API, never in those of its implementation.

use super::matrix::table;
use crate::support::app::TestApp;
use crate::support::db::{Backend, Db};
use portcullis::domain::rate_limit::Quota;
use portcullis::http::api::workspaces;

use reqwest::Method;
use serde_json::{Map, Value, json};

/// Words of the implementation's language and libraries.
const FOREIGN_WORDS: &[&str] = &[
    "struct",
    "enum",
    "variant",
    "untagged",
    "invalid type",
    "invalid value",
    "invalid length",
    "expected",
    "at line",
    "column",
    "missing field",
    "unknown field",
    "duplicate field",
    "deserial",
    "serde",
    "usize",
    "u8",
    "u16",
    "u32",
    "u64",
    "i64",
    "f64",
    "option<",
    "some(",
    "none",
    "uuid",
    "syntax",
    "parsing",
    "sequence",
    "tuple",
    " map",
    "a string",
    "a boolean",
    "`",
];

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).expect("a schema"),
        None => schema,
    }
}

/// The paths of all fields of a schema.
fn fields(document: &Value, schema: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
    let schema = resolve(document, schema);
    for form in ["oneOf", "anyOf", "allOf"] {
        for form in schema[form].as_array().into_iter().flatten() {
            fields(document, form, path, found);
        }
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = [path, std::slice::from_ref(name)].concat();
        if !found.contains(&path) {
            found.push(path.clone());
            fields(document, inner, &path, found);
        }
    }
}

/// A body with a value at a path.
fn with(body: &Value, path: &[String], value: &Value) -> Value {
    let Some((name, rest)) = path.split_first() else { return value.clone() };
    let mut object = body.as_object().cloned().unwrap_or_else(Map::new);
    let inner = object.get(name).cloned().unwrap_or_else(|| json!({}));
    object.insert(name.clone(), with(&inner, rest, value));
    Value::Object(object)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_shapes_are_refused_in_words_of_the_api() {
    let rate = Quota::per_second(100_000, 1_000_000);
    let app = TestApp::with(Db::new(Backend::Sqlite), |settings, _| {
        (settings.anonymous_rate, settings.any_rate) = (rate, rate);
    })
    .await;
    let admin = app.signed_in("admin").await;
    let api = workspaces::api();
    let document: Value = serde_json::from_slice(&api.document).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let is_compound = |name: &&String| name.chars().filter(|c| c.is_uppercase()).count() > 1;
    let names: Vec<&String> = schemas.keys().filter(is_compound).collect();
    let shapes = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!(70_000),
        json!(1e30),
        json!("secret x\u{e9}"),
        json!([]),
        json!([1]),
        json!([["a"], {}]),
        json!({}),
        json!({"extra": 1}),
        json!({"member": 1}),
    ];
    let mut wrong = Vec::new();
    let (mut refused, mut routes) = (0, 0);
    for row in table() {
        let route = api.routes.iter().find(|r| r.operation_id == row.operation).unwrap();
        let method = Method::from_bytes(route.method.as_str().as_bytes()).unwrap();
        let operation = &document["paths"][&route.path][route.method.as_str().to_lowercase()];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        routes += 1;
        let mut paths = vec![vec![], vec!["no_such_field".to_owned()]];
        fields(&document, schema, &[], &mut paths);
        let unknown = if route.path.contains("/workspaces") {
            "ws-unknown"
        } else {
            "00000000-0000-4000-8000-000000000000"
        };
        let path = route.path.replace("{id}", unknown);
        for field in &paths {
            // One that fits would end the login that asks.
            let all =
                shapes.iter().filter(|shape| row.operation != "logout" || !shape.is_boolean());
            for shape in all {
                let body = with(&row.body, field, shape);
                if row.operation == "logout" && (body == json!({}) || body.is_null()) {
                    continue;
                }
                let answer =
                    admin.send(method.clone(), &path, Some(body.to_string().into_bytes())).await;
                let what = format!("{} {} {body}", route.method, route.path);
                if answer.status >= 500 && answer.status != 503 {
                    wrong.push(format!("{what}: {} {}", answer.status, answer.body));
                }
                if answer.status != 400 && answer.status != 422 {
                    continue;
                }
                refused += 1;
                let detail = answer.detail();
                let lower = detail.to_lowercase();
                // The words for a field's values are the API's own.
                let said = lower.split(" must be one of: ").next().unwrap();
                let bad = FOREIGN_WORDS.iter().find(|word| said.contains(**word));
                let type_name = names.iter().find(|name| detail.contains(name.as_str()));
                if bad.is_some() || type_name.is_some() || lower.contains("secret") {
                    wrong.push(format!("{what}: {bad:?} {type_name:?} in {detail}"));
                }
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused > 500 && routes > 10, "{refused} {routes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_says_what_it_must_have() {
    let app = TestApp::sqlite().await;
    let admin = app.signed_in("admin").await;
    let id = "00000000-0000-4000-8000-000000000000";
    for (target, said) in [
        (json!({}), "host_id and port"),
        (json!({"host_id": id}), "host_id and port"),
        (json!({"host_id": id, "port": 1, "service": "x"}), "host_id and port"),
        (json!({"direct": "a", "port": 1}), "host_id and port"),
        (
            json!({"host_id": id, "port": 70_000}),
            "target.port must be a whole number from 0 to 65535.",
        ),
        (json!({"host_id": "x", "port": 1}), "target.host_id must be an id."),
        (json!({"hostid": id, "port": 1}), "There is no field target.hostid."),
        (json!("x"), "target must be an object."),
    ] {
        let body = json!({"name": "X", "type": "vnc", "target": target});
        let answer = admin.post("/api/workspaces", body).await;
        assert_eq!(answer.status, 422, "{target}: {}", answer.body);
        assert!(answer.detail().contains(said), "{target}: {}", answer.body);
    }
    for query in ["limit=x", "limit=-1", "limit=99999999999", "limit=1&limit=2"] {
        for path in ["/api/sessions", "/api/audit", "/api/audit/export?format=x&"] {
            let path = if path.contains('?') {
                format!("{path}{query}")
            } else {
                format!("{path}?{query}")
            };
            let answer = admin.get(&path).await;
            assert_eq!(answer.status, 422, "{path}: {}", answer.body);
            let lower = answer.detail().to_lowercase();
            let bad = FOREIGN_WORDS.iter().find(|word| lower.contains(**word));
            assert!(bad.is_none(), "{path}: {bad:?} in {lower}");
        }
    }
}
