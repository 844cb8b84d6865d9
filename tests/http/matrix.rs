//! Authorization matrix: every route times every role. Method and path come from the route's
//! declaration; a route without a row fails the test.
//!
//! The ids do not exist, so an authorized request reaches "not found" and changes nothing.

use crate::support::app::TestApp;
use crate::support::client::{Answer, Client};
use portcullis::http::api::definition::Route;
use portcullis::http::api::workspaces;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const UNKNOWN_ID: &str = "00000000-0000-4000-8000-000000000000";

/// A request body, and the status for an anonymous client, a member, an admin, and security.
pub(super) struct Row {
    pub(super) operation: &'static str,
    pub(super) body: Value,
    pub(super) expected: [u16; 4],
}

fn row(operation: &'static str, body: Value, expected: [u16; 4]) -> Row {
    Row { operation, body, expected }
}

pub(super) fn table() -> Vec<Row> {
    let none = || Value::Null;
    let credential = || json!({"username": "ann", "password": "p"});
    let user = json!({"email": "new@example.test", "name": "New", "password": "a long enough passphrase 1", "role": "member"});
    let host = json!({"token": "join_x", "name": "h", "public_key": "AAAA", "version": "1"});
    vec![
        row("login", json!({"email": "x@example.test", "password": "wrong"}), [401; 4]),
        row("verifyMfa", json!({"mfa_token": "x", "method": "totp", "code": "000000"}), [401; 4]),
        row("enrollTotp", json!({}), [401, 409, 409, 409]),
        row("confirmTotp", json!({"code": "000000"}), [401, 409, 409, 409]),
        row("refresh", json!({"refresh_token": "x"}), [401; 4]),
        row("me", none(), [401, 200, 200, 200]),
        row("listLogins", none(), [401, 200, 200, 200]),
        row("endLogin", none(), [401, 404, 404, 404]),
        row("listWorkspaces", none(), [401, 200, 200, 200]),
        row(
            "createWorkspace",
            json!({"id": "ws-new", "name": "New", "type": "linux"}),
            [401, 403, 201, 403],
        ),
        row("getWorkspace", none(), [401, 404, 404, 404]),
        row("updateWorkspace", json!({"name": "x"}), [401, 403, 404, 403]),
        row("deleteWorkspace", none(), [401, 403, 404, 403]),
        row("launchWorkspace", none(), [401, 404, 404, 404]),
        row("stopWorkspace", none(), [401, 404, 404, 404]),
        row("saveCredential", credential(), [401, 404, 404, 404]),
        row("forgetCredential", none(), [401, 404, 404, 404]),
        row("acceptCertificate", json!({"fingerprint": "ab".repeat(32)}), [401, 403, 404, 403]),
        row("listSessions", none(), [401, 200, 200, 200]),
        row("listActiveSessions", none(), [401, 200, 200, 200]),
        row("getSession", none(), [401, 404, 404, 404]),
        row("disconnectSession", none(), [401, 404, 404, 404]),
        row("extendSession", json!({"duration": "30m"}), [401, 404, 404, 404]),
        row("issueTicket", none(), [401, 404, 404, 404]),
        row("enterCredential", credential(), [401, 404, 404, 404]),
        row("listRequests", none(), [401, 403, 404, 404]),
        row("openStream", none(), [426; 4]),
        row("listAllSessions", none(), [401, 403, 200, 200]),
        row("terminateSession", none(), [401, 403, 404, 403]),
        row("listUsers", none(), [401, 403, 200, 200]),
        row("createUser", user, [401, 403, 201, 403]),
        row("updateUser", json!({"name": "x"}), [401, 403, 404, 403]),
        row("resetUserMfa", none(), [401, 403, 404, 403]),
        row("signOutUser", none(), [401, 403, 404, 403]),
        row("listHosts", none(), [401, 403, 200, 200]),
        row("createJoinToken", json!({}), [401, 403, 201, 403]),
        row("enrollHost", host, [422; 4]),
        row("addPeer", json!({"name": "p", "public_key": "AAAA"}), [401, 403, 422, 403]),
        row("showHostConfig", none(), [401, 403, 404, 403]),
        row("updateHost", json!({"drained": true}), [401, 403, 404, 403]),
        row("removeHost", none(), [401, 403, 404, 403]),
        row("listAudit", none(), [401, 403, 200, 200]),
        row("exportAudit", none(), [401, 403, 200, 200]),
        row("verifyAudit", none(), [401, 403, 200, 200]),
        row("events", none(), [401, 200, 200, 200]),
        row("health", none(), [200; 4]),
        row("openapi", none(), [200; 4]),
        row("jwks", none(), [200; 4]),
        row("metrics", none(), [200; 4]),
        // Last: it ends the logins.
        row("logout", none(), [401, 200, 200, 200]),
    ]
}

#[test]
fn every_route_has_a_row() {
    let rows = table();
    let listed: BTreeSet<_> = rows.iter().map(|r| r.operation.to_owned()).collect();
    let api = workspaces::api();
    let routed: BTreeSet<_> = api.routes.iter().map(|r| r.operation_id.clone()).collect();
    assert_eq!(listed, routed);
    assert_eq!((rows.len(), api.routes.len()), (routed.len(), routed.len()), "listed twice");
}

on_both! {
    async fn roles_times_routes(db) {
        let app = TestApp::start(db).await;
        let callers = [app.anonymous(), app.signed_in("member").await, app.signed_in("admin").await, app.signed_in("security").await];
        let api = workspaces::api();
        let mut wrong = Vec::new();
        for row in table() {
            let route = api.routes.iter().find(|r| r.operation_id == row.operation).unwrap();
            for ((caller, expected), role) in callers.iter().zip(row.expected).zip(["anonymous", "member", "admin", "security"]) {
                let status = status_of(caller, route, &row).await;
                if status != expected {
                    wrong.push(format!("{role} {} {}: {status}, expected {expected}", route.method, route.path));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// Sends the request of a row.
pub(super) async fn request(caller: &Client, route: &Route, path: &str, row: &Row) -> Answer {
    let body = (!row.body.is_null()).then(|| row.body.to_string().into_bytes());
    let method = Method::from_bytes(route.method.as_str().as_bytes()).unwrap();
    caller.send(method, path, body).await
}

/// The status only: an event stream does not end.
async fn status_of(caller: &Client, route: &Route, row: &Row) -> u16 {
    let id = if route.path.starts_with("/api/workspaces") { "ws-unknown" } else { UNKNOWN_ID };
    let path = route.path.replace("{id}", id);
    if route.operation_id == "events" {
        return caller.open(&path).await.status().as_u16();
    }
    let response = request(caller, route, &path, row).await;
    if response.status >= 400 {
        response.detail();
        assert_eq!(
            response.header("www-authenticate"),
            if response.status == 401 { "Bearer" } else { "" },
            "{path}"
        );
    }
    assert!(!response.header("x-request-id").is_empty(), "{path}");
    response.status
}

on_both! {
    async fn denials_are_audited(db) {
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
