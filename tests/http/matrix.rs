//! Who may do what, in one table: every route times every role. A route that is not in the table
//! fails the test.
//!
//! The ids in it lead nowhere, so that whoever may gets as far as "not found" and nobody breaks
//! anything.

use crate::support::app::TestApp;
use crate::support::client::Client;
use portcullis::http::routes;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const NOWHERE: &str = "00000000-0000-4000-8000-000000000000";

/// What each gets: nobody, a member, an admin, security.
struct Row {
    method: &'static str,
    path: &'static str,
    body: Value,
    expected: [u16; 4],
}

fn row(method: &'static str, path: &'static str, body: Value, expected: [u16; 4]) -> Row {
    Row { method, path, body, expected }
}

fn table() -> Vec<Row> {
    let none = || Value::Null;
    let credential = || json!({"username": "ann", "password": "p"});
    let user = json!({"email": "new@example.test", "name": "New", "password": "a long enough passphrase 1", "role": "member"});
    let host = json!({"token": "join_x", "name": "h", "public_key": "AAAA", "version": "1"});
    vec![
        row(
            "POST",
            "/api/auth/login",
            json!({"email": "x@example.test", "password": "wrong"}),
            [401; 4],
        ),
        row(
            "POST",
            "/api/auth/mfa/verify",
            json!({"mfa_token": "x", "method": "totp", "code": "000000"}),
            [401; 4],
        ),
        row("POST", "/api/auth/mfa/totp/enroll", json!({}), [401, 409, 409, 409]),
        row("POST", "/api/auth/mfa/totp/confirm", json!({"code": "000000"}), [401, 409, 409, 409]),
        row("POST", "/api/auth/refresh", json!({"refresh_token": "x"}), [401; 4]),
        row("GET", "/api/auth/me", none(), [401, 200, 200, 200]),
        row("GET", "/api/auth/logins", none(), [401, 200, 200, 200]),
        row("POST", "/api/auth/logins/{id}/sign-out", none(), [401, 404, 404, 404]),
        row("GET", "/api/workspaces", none(), [401, 200, 200, 200]),
        row(
            "POST",
            "/api/workspaces",
            json!({"id": "ws-new", "name": "New", "type": "linux"}),
            [401, 403, 201, 403],
        ),
        row("GET", "/api/workspaces/{id}", none(), [401, 404, 404, 404]),
        row("PATCH", "/api/workspaces/{id}", json!({"name": "x"}), [401, 403, 404, 403]),
        row("DELETE", "/api/workspaces/{id}", none(), [401, 403, 404, 403]),
        row("POST", "/api/workspaces/{id}/launch", none(), [401, 404, 404, 404]),
        row("POST", "/api/workspaces/{id}/stop", none(), [401, 404, 404, 404]),
        row("PUT", "/api/workspaces/{id}/credential", credential(), [401, 404, 404, 404]),
        row("DELETE", "/api/workspaces/{id}/credential", none(), [401, 404, 404, 404]),
        row(
            "POST",
            "/api/workspaces/{id}/certificate/accept",
            json!({"fingerprint": "ab".repeat(32)}),
            [401, 403, 404, 403],
        ),
        row("GET", "/api/sessions", none(), [401, 200, 200, 200]),
        row("GET", "/api/sessions/active", none(), [401, 200, 200, 200]),
        row("GET", "/api/sessions/{id}", none(), [401, 404, 404, 404]),
        row("POST", "/api/sessions/{id}/disconnect", none(), [401, 404, 404, 404]),
        row("POST", "/api/sessions/{id}/ticket", none(), [401, 404, 404, 404]),
        row("POST", "/api/sessions/{id}/credential", credential(), [401, 404, 404, 404]),
        row("GET", "/api/sessions/{id}/requests", none(), [401, 403, 404, 404]),
        row("GET", "/api/sessions/{id}/stream", none(), [426; 4]),
        row("GET", "/api/admin/sessions", none(), [401, 403, 200, 200]),
        row("POST", "/api/admin/sessions/{id}/terminate", none(), [401, 403, 404, 403]),
        row("GET", "/api/users", none(), [401, 403, 200, 200]),
        row("POST", "/api/users", user, [401, 403, 201, 403]),
        row("PATCH", "/api/users/{id}", json!({"name": "x"}), [401, 403, 404, 403]),
        row("POST", "/api/users/{id}/reset-mfa", none(), [401, 403, 404, 403]),
        row("POST", "/api/users/{id}/sign-out", none(), [401, 403, 404, 403]),
        row("GET", "/api/hosts", none(), [401, 403, 200, 200]),
        row("POST", "/api/hosts/join-tokens", json!({}), [401, 403, 201, 403]),
        row("POST", "/api/hosts/enroll", host, [422; 4]),
        row(
            "POST",
            "/api/hosts/peers",
            json!({"name": "p", "public_key": "AAAA"}),
            [401, 403, 422, 403],
        ),
        row("POST", "/api/hosts/{id}/config", none(), [401, 403, 404, 403]),
        row("DELETE", "/api/hosts/{id}", none(), [401, 403, 404, 403]),
        row("GET", "/api/audit", none(), [401, 403, 200, 200]),
        row("GET", "/api/audit/export", none(), [401, 403, 200, 200]),
        row("GET", "/api/audit/verify", none(), [401, 403, 200, 200]),
        row("GET", "/api/events", none(), [401, 200, 200, 200]),
        row("GET", "/api/health", none(), [200; 4]),
        row("GET", "/api/openapi.json", none(), [200; 4]),
        row("GET", "/.well-known/jwks.json", none(), [200; 4]),
        row("GET", "/metrics", none(), [200; 4]),
        // Last: it ends the logins.
        row("POST", "/api/auth/logout", none(), [401, 200, 200, 200]),
    ]
}

#[test]
fn every_route_is_in_the_table() {
    let listed: BTreeSet<_> = table().iter().map(|r| (r.method, r.path)).collect();
    let routed: BTreeSet<_> = routes::TABLE.iter().map(|r| (r.method, r.path)).collect();
    assert_eq!(listed, routed);
}

on_both! {
    async fn roles_times_routes(db) {
        let app = TestApp::start(db).await;
        let callers = [app.anonymous(), app.signed_in("member").await, app.signed_in("admin").await, app.signed_in("security").await];
        let mut wrong = Vec::new();
        for row in table() {
            for ((caller, expected), who) in callers.iter().zip(row.expected).zip(["nobody", "member", "admin", "security"]) {
                let status = ask(caller, &row).await;
                if status != expected {
                    wrong.push(format!("{who} {} {}: {status}, expected {expected}", row.method, row.path));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// Only the head of the answer: an event stream has no end.
async fn ask(caller: &Client, row: &Row) -> u16 {
    let id = if row.path.starts_with("/api/workspaces") { "ws-nowhere" } else { NOWHERE };
    let path = row.path.replace("{id}", id);
    if row.path == "/api/events" {
        return caller.open(&path).await.status().as_u16();
    }
    let body = (!row.body.is_null()).then(|| row.body.to_string().into_bytes());
    let answer = caller.send(Method::from_bytes(row.method.as_bytes()).unwrap(), &path, body).await;
    if answer.status >= 400 {
        answer.detail();
        assert_eq!(
            answer.header("www-authenticate"),
            if answer.status == 401 { "Bearer" } else { "" },
            "{path}"
        );
    }
    assert!(!answer.header("x-request-id").is_empty(), "{path}");
    answer.status
}

on_both! {
    async fn denials_are_written_down(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        assert_eq!(member.get("/api/audit").await.status, 403);
        assert_eq!(member.get("/api/users").await.status, 403);
        let denied = app.audit_entries("action=access_denied&outcome=denied").await;
        assert!(denied.len() >= 2, "{denied:?}");
        for entry in denied {
            assert_eq!(entry["actor"]["email"], "member@example.test");
            assert_eq!(entry["source_ip"], "127.0.0.1");
            assert!(entry["request_id"].is_string());
        }
    }
}
