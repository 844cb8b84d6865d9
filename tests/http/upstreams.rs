//! Servers, policies and credentials over HTTP: schemas, visibility, invalid input.

use crate::support::app::{TestApp, WORKSPACE};
use crate::support::client::Client;
use reqwest::Method;
use serde_json::{Value, json};

const PASSWORD: &str = "a-server-password";

fn an_rdp(app: &TestApp, id: &str, server: Value) -> Value {
    json!({"id": id, "name": "Windows", "type": "rdp", "requires_mfa": false, "single_seat": false, "allowed_roles": ["member", "admin"],
        "target": {"host_id": app.host.to_string(), "service": "xrdp"}, "server": server})
}

async fn put(client: &Client, path: &str, body: Value) -> u16 {
    client.send(Method::PUT, path, Some(body.to_string().into_bytes())).await.status
}

async fn patch(client: &Client, id: &str, body: Value) -> (u16, Value) {
    let answer = client
        .send(Method::PATCH, &format!("/api/workspaces/{id}"), Some(body.to_string().into_bytes()))
        .await;
    assert!(!answer.body.contains(PASSWORD));
    (answer.status, answer.json())
}

on_both! {
    async fn admins_and_members_see_different_fields(db) {
        let app = TestApp::start(db).await;
        let (admin, member) = (app.signed_in("admin").await, app.signed_in("member").await);
        let mut body = an_rdp(&app, "ws-win", json!({"username": "svc", "domain": "CORP", "keyboard": "0x407", "trust": {"rule": "pinned", "fingerprint": "AB".repeat(32)}}));
        body["password"] = json!(PASSWORD);
        body["policy"] = json!({"clipboard": "out", "read_only": true});
        let made = admin.post("/api/workspaces", body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let made = made.json();
        assert_eq!(made["target"], json!({"host_id": app.host.to_string(), "service": "xrdp"}));
        assert_eq!(made["policy"], json!({"clipboard": "out", "files": false, "read_only": true}));
        let pin = ["ab"; 32].join(":");
        assert_eq!(made["server"], json!({"credential": "workspace", "credential_saved": true, "exclusive": false, "keyboard": "0x00000407",
            "username": "svc", "domain": "CORP", "trust": {"rule": "pinned", "fingerprint": pin}, "certificate": null}));
        let seen = member.get("/api/workspaces/ws-win").await.json();
        let plain = json!({"credential": "workspace", "credential_saved": true, "exclusive": false, "keyboard": "0x00000407"});
        assert_eq!((&seen["server"], &seen["target"], &seen["policy"]), (&plain, &Value::Null, &made["policy"]));
        let listed = member.get("/api/workspaces").await;
        assert!(!listed.body.contains("svc") && !listed.body.contains("CORP") && !listed.body.contains("fingerprint"));
        let listed = listed.json();
        let find = |id: &str| listed.as_array().unwrap().iter().find(|w| w["id"] == id).unwrap().clone();
        assert_eq!((&find("ws-win")["server"], &find(WORKSPACE)["server"]), (&plain, &Value::Null));
        assert_eq!(find(WORKSPACE)["policy"], json!({"clipboard": "both", "files": false, "read_only": false}));

        let launched = member.post("/api/workspaces/ws-win/launch", json!({})).await.json();
        assert_eq!(launched["workspace"]["server"], plain);
        let limits = &launched["security"]["policy"];
        assert_eq!((&limits["clipboard"], &limits["files"], &limits["read_only"]), (&json!("out"), &json!(false), &json!(true)));
        let id = launched["session_id"].as_str().unwrap();
        assert_eq!(patch(&admin, "ws-win", json!({"policy": {"files": true}})).await.0, 200);
        let now = json!({"clipboard": "out", "files": true, "read_only": true});
        assert_eq!(member.get(&format!("/api/sessions/{id}")).await.json()["policy"], now, "as of now");
        for path in ["/api/sessions", "/api/sessions/active"] {
            assert_eq!(member.get(path).await.json()[0]["policy"], now, "{path}");
        }
        // Null clears a keyboard, and changes nothing else.
        let (status, changed) = patch(&admin, "ws-win", json!({"server": {"keyboard": null, "username": null, "trust": null}})).await;
        assert_eq!((status, &changed["server"]["keyboard"], &changed["server"]["username"]), (200, &Value::Null, &json!("svc")));
        admin.send(Method::DELETE, "/api/workspaces/ws-win", None).await;
        assert_eq!(member.get(&format!("/api/sessions/{id}")).await.json()["policy"], Value::Null);
        for entry in app.audit_entries("").await {
            assert!(!entry.to_string().contains(PASSWORD), "{entry}");
        }
    }
}

on_both! {
    async fn credentials_are_write_only(db) {
        let app = TestApp::start(db).await;
        let (admin, member, other) = (app.signed_in("admin").await, app.signed_in("member").await, app.signed_in("other").await);
        for (id, source) in [("ws-own", "user"), ("ws-ask", "ask")] {
            assert_eq!(admin.post("/api/workspaces", an_rdp(&app, id, json!({"credential": source}))).await.status, 201);
        }
        let credential = json!({"username": "ann", "domain": "CORP", "password": PASSWORD});
        assert_eq!(put(&member, "/api/workspaces/ws-own/credential", credential.clone()).await, 204);
        let saved = |client: Client| async move { client.get("/api/workspaces/ws-own").await.json()["server"]["credential_saved"].clone() };
        assert_eq!((saved(member.clone()).await, saved(other.clone()).await), (json!(true), json!(false)));
        assert_eq!(put(&member, "/api/workspaces/ws-ask/credential", credential.clone()).await, 409);
        assert_eq!(put(&member, &format!("/api/workspaces/{WORKSPACE}/credential"), credential.clone()).await, 409);
        for _ in 0..2 {
            assert_eq!(member.send(Method::DELETE, "/api/workspaces/ws-own/credential", None).await.status, 204);
        }
        assert_eq!(saved(member.clone()).await, json!(false));

        let session = member.post("/api/workspaces/ws-ask/launch", json!({})).await.json()["session_id"].as_str().unwrap().to_owned();
        let enter = |client: Client, id: String| { let credential = credential.clone(); async move { client.post(&format!("/api/sessions/{id}/credential"), credential).await } };
        assert_eq!(enter(member.clone(), session.clone()).await.status, 204);
        let theirs = enter(other.clone(), session.clone()).await;
        let none = enter(other.clone(), uuid::Uuid::new_v4().to_string()).await;
        assert_eq!((theirs.status, &theirs.body), (404, &none.body), "not there, not theirs");
        let desk = member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await.json()["session_id"].as_str().unwrap().to_owned();
        assert_eq!(enter(member.clone(), desk).await.status, 409, "nobody asks");
        member.post(&format!("/api/sessions/{session}/disconnect"), json!({})).await;
        assert_eq!(enter(member.clone(), session).await.status, 409);
        for wrong in [json!({}), json!({"password": 1}), json!({"password": ""}), json!({"password": "p"}), json!({"username": "a", "password": "a\u{0}b"}),
            json!({"username": "a\nb", "password": PASSWORD}), json!({"username": "a".repeat(300), "password": PASSWORD}),
            json!({"username": "a", "password": "p".repeat(600)}), json!({"username": "a", "password": PASSWORD, "workspace": "x"})] {
            let answer = member.send(Method::PUT, "/api/workspaces/ws-own/credential", Some(wrong.to_string().into_bytes())).await;
            assert_eq!(answer.status, 422, "{wrong}: {}", answer.body);
            assert!(!answer.detail().contains(PASSWORD));
        }
        assert_eq!(saved(member).await, json!(false));
        for entry in app.audit_entries("").await {
            assert!(!entry.to_string().contains(PASSWORD), "{entry}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_input_is_refused_field_by_field() {
    let app = TestApp::sqlite().await;
    let admin = app.signed_in("admin").await;
    assert_eq!(admin.post("/api/workspaces", an_rdp(&app, "ws-win", json!({}))).await.status, 201);
    let (_, before) = patch(&admin, "ws-win", json!({})).await;
    let host = app.host.to_string();
    for wrong in [
        json!({"policy": {"clipboard": "all"}}),
        json!({"policy": {"clipboard": true}}),
        json!({"policy": {"files": "yes"}}),
        json!({"policy": {"read_only": 1}}),
        json!({"policy": {"printers": true}}),
        json!({"policy": "none"}),
        json!({"server": {"credential": "nobody"}}),
        json!({"server": {"username": 7}}),
        json!({"server": {"username": "a\u{7}"}}),
        json!({"server": {"domain": "d".repeat(300)}}),
        json!({"server": {"exclusive": true}}),
        json!({"server": {"keyboard": "german"}}),
        json!({"server": {"keyboard": "0x"}}),
        json!({"server": {"keyboard": "0x0"}}),
        json!({"server": {"keyboard": "0x123456789"}}),
        json!({"server": {"keyboard": "0x+407"}}),
        json!({"server": {"keyboard": 1031}}),
        json!({"server": {"password": "x"}}),
        json!({"server": {"trust": {"rule": "any"}}}),
        json!({"server": {"trust": {"rule": "pinned"}}}),
        json!({"server": {"trust": {"rule": "pinned", "fingerprint": "abc"}}}),
        json!({"server": {"trust": {"rule": "first_use", "fingerprint": "ab".repeat(32)}}}),
        json!({"server": {"trust": {"rule": "authority"}}}),
        json!({"server": {"trust": {"rule": "authority", "roots": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}}),
        json!({"target": {"host_id": host, "service": "A B"}}),
        json!({"target": {"host_id": host, "service": "x", "port": 1}}),
        json!({"target": {"host_id": host, "port": 3389}}),
        json!({"target": {"host_id": "nonsense", "service": "x"}}),
        json!({"target": {"host_id": uuid::Uuid::new_v4().to_string(), "service": "x"}}),
        json!({"target": {"service": "x"}}),
        json!({"password": "p".repeat(600)}),
    ] {
        let (status, answer) = patch(&admin, "ws-win", wrong.clone()).await;
        assert!(matches!(status, 400 | 422), "{wrong}: {status} {answer}");
    }
    assert_eq!(patch(&admin, "ws-win", json!({})).await.1, before, "nothing changed");
    let accept = |body: Value| {
        let admin = admin.clone();
        async move { admin.post("/api/workspaces/ws-win/certificate/accept", body).await.status }
    };
    assert_eq!(
        (
            accept(json!({})).await,
            accept(json!({"fingerprint": "x"})).await,
            accept(json!({"fingerprint": 1})).await
        ),
        (422, 422, 422)
    );
    assert_eq!(accept(json!({"fingerprint": "ab".repeat(32)})).await, 409, "none was offered");
    let member = app.signed_in("member").await;
    let path = "/api/workspaces/ws-win/certificate/accept";
    assert_eq!(member.post(path, json!({"fingerprint": "x"})).await.status, 403);
    let vnc = admin.post("/api/workspaces", json!({"name": "V", "type": "vnc"})).await;
    assert_eq!(
        (vnc.status, vnc.detail().as_str()),
        (422, "A workspace of type vnc names a server: give its target.")
    );
}
