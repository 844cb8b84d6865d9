//! Every answer of every route is in the OpenAPI document: each operation is asked in many wrong ways and
//! the right one, by four roles, and its status and media type are looked up.

use super::matrix;
use crate::support::app::{TestApp, WORKSPACE};
use crate::support::client::Client;
use portcullis::http::api::workspaces;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const UNKNOWN_ID: &str = "00000000-0000-4000-8000-000000000000";
/// Values of path parameters: there, not there, and of no form that an id has.
const IDS: [&str; 6] = [UNKNOWN_ID, WORKSPACE, "x", "%00", "..%2f..", "%F0%9F%94%92"];
/// Query strings of every listing, and nonsense.
const QUERIES: [&str; 8] = [
    "",
    "?limit=0",
    "?limit=-1&cursor=x",
    "?limit=99999999999999999999",
    "?status=nonsense",
    "?from=yesterday&outcome=maybe&action=x",
    "?format=csv",
    "?unknown=1&unknown=2&%ff=%00",
];

/// Bodies of no form, and the right one with one of its members of another type.
fn bodies(right: &Value) -> Vec<Option<Vec<u8>>> {
    let mut bodies: Vec<Option<Vec<u8>>> =
        ["", "{", "[]", "null", "1", "\"x\"", "{}", "{\"unknown\":1}", "\u{fffd}"]
            .map(|text| Some(text.as_bytes().to_vec()))
            .into();
    bodies.push(None);
    bodies.push(Some(vec![0xff, 0xfe, 0x00]));
    bodies.push(Some(format!("{{\"a\":\"{}\"}}", "x".repeat(70_000)).into_bytes()));
    for name in right.as_object().into_iter().flatten().map(|(name, _)| name) {
        for value in [json!(null), json!(-1), json!({}), json!(""), json!("\u{0}")] {
            let mut body = right.clone();
            body[name] = value;
            bodies.push(Some(body.to_string().into_bytes()));
        }
    }
    bodies.push((!right.is_null()).then(|| right.to_string().into_bytes()));
    bodies
}

struct Answers<'a> {
    document: &'a Value,
    undocumented: BTreeSet<String>,
    seen: BTreeSet<u16>,
}

impl Answers<'_> {
    async fn ask(
        &mut self,
        caller: &Client,
        route: (&Method, &str),
        path: &str,
        body: Option<Vec<u8>>,
    ) {
        let (method, pattern) = route;
        let mut request = caller
            .http
            .request(method.clone(), format!("{}{path}", caller.base))
            .headers(caller.headers.clone());
        if let Some(body) = body {
            if !caller.headers.contains_key("content-type") {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        self.seen.insert(status);
        let media = response.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned());
        let media = media.as_deref().and_then(|media| media.split(';').next()).unwrap_or("");
        let operation = &self.document["paths"][pattern][method.as_str().to_lowercase()];
        let documented = &operation["responses"][status.to_string()];
        if documented.is_null() {
            self.undocumented.insert(format!("{method} {pattern}: {status}"));
        } else if !media.is_empty() && documented["content"][media].is_null() {
            self.undocumented.insert(format!("{method} {pattern}: {status} as {media}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_documented() {
    let app = TestApp::sqlite().await;
    let callers = [
        app.anonymous(),
        app.signed_in("member").await,
        app.signed_in("admin").await,
        app.signed_in("security").await,
    ];
    let api = workspaces::api();
    let document: Value = serde_json::from_slice(&api.document).unwrap();
    let mut answers =
        Answers { document: &document, undocumented: BTreeSet::new(), seen: BTreeSet::new() };
    for row in matrix::table() {
        // It ends the logins; the matrix has its answers.
        if row.operation == "logout" {
            continue;
        }
        let route = api.routes.iter().find(|r| r.operation_id == row.operation).unwrap();
        let method = Method::from_bytes(route.method.as_str().as_bytes()).unwrap();
        let named = (&method, route.path.as_str());
        let ids: &[&str] = if route.path.contains("{id}") { &IDS } else { &IDS[..1] };
        for (caller, id) in callers.iter().flat_map(|caller| ids.iter().map(move |id| (caller, id)))
        {
            let path = route.path.replace("{id}", id);
            if method == Method::GET {
                for query in QUERIES {
                    answers.ask(caller, named, &format!("{path}{query}"), None).await;
                }
                continue;
            }
            for body in bodies(&row.body) {
                answers.ask(caller, named, &path, body).await;
            }
            let text = caller.header("content-type", "text/plain");
            answers.ask(&text, named, &path, Some(b"{}".to_vec())).await;
            let foreign = caller.header("origin", "https://elsewhere.example");
            answers.ask(&foreign, named, &path, Some(row.body.to_string().into_bytes())).await;
        }
        let elsewhere = callers[2].header("host", "elsewhere.example");
        answers.ask(&elsewhere, named, &route.path.replace("{id}", UNKNOWN_ID), None).await;
        let forged = callers[0].bearer("forged");
        answers.ask(&forged, named, &route.path.replace("{id}", UNKNOWN_ID), None).await;
    }
    assert!(answers.undocumented.is_empty(), "{:#?}", answers.undocumented);
    assert!(!answers.seen.contains(&500), "{:?}", answers.seen);
    for expected in [200, 201, 400, 401, 403, 404, 409, 413, 415, 421, 422] {
        assert!(answers.seen.contains(&expected), "no answer was {expected}: {:?}", answers.seen);
    }
}
