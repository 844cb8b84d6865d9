//! Workspaces and sessions over HTTP.

use crate::support::app::{SINGLE_SEAT_WORKSPACE, TestApp, WORKSPACE};
use crate::support::fake_fleet::Plan;
use crate::support::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    async fn launch_use_disconnect(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let listed = member.get("/api/workspaces").await.json();
        let desk = listed.as_array().unwrap().iter().find(|w| w["id"] == WORKSPACE).unwrap().clone();
        assert_eq!((&desk["status"], &desk["type"], &desk["active_session_id"]), (&json!("available"), &json!("linux"), &Value::Null));

        let launched = member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await;
        assert_eq!(launched.status, 200, "{}", launched.body);
        let launched = launched.json();
        let id = launched["session_id"].as_str().unwrap().to_owned();
        assert_eq!(launched["stream_url"], format!("/viewer/{id}"));
        assert_eq!(launched["tunnel_status"], "encrypted");
        assert_eq!(launched["workspace"]["status"], "in_use");
        assert_eq!(launched["security"]["tunnel"]["protocol"], "wireguard");
        assert_eq!(launched["security"]["recording"], false);
        let policy = json!({"max_duration_seconds": 43200, "idle_timeout_seconds": null, "clipboard": "both", "files": false, "read_only": false});
        assert_eq!(launched["security"]["policy"], policy);
        assert_eq!(member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await.json()["session_id"], id, "idempotent");

        let session = member.get(&format!("/api/sessions/{id}")).await.json();
        assert_eq!(session["status"], "active");
        assert_eq!(session["user_email"], "member@example.test");
        assert_eq!(session["mfa_verified"], true);
        assert_eq!(session["tunnel"]["rx_bytes"], 11);
        assert_eq!(session["latency"], json!({"browser_ms": null, "host_ms": 1.0, "desktop_ms": null, "slow_leg": null}));
        assert_eq!(session["end_reason"], Value::Null);
        assert!(session["ip_address"].as_str().unwrap().starts_with("10."));
        assert_eq!(member.get("/api/sessions/active").await.json().as_array().unwrap().len(), 1);
        assert_eq!(app.signed_in("admin").await.get("/api/admin/sessions").await.json()[0]["id"], id);

        let over = member.post(&format!("/api/sessions/{id}/disconnect"), json!({})).await;
        assert_eq!((over.status, over.json()), (200, json!({"message": "Session disconnected"})));
        let again = member.post(&format!("/api/sessions/{id}/disconnect"), json!({})).await;
        assert_eq!((again.status, again.detail().as_str()), (409, "Session is not active"));
        let session = member.get(&format!("/api/sessions/{id}")).await.json();
        assert_eq!((&session["status"], &session["end_reason"]), (&json!("disconnected"), &json!("user_disconnected")));
        assert_eq!(session["tunnel_status"], "down");
        assert_eq!(member.get("/api/sessions/active").await.json(), json!([]));
    }
}

on_both! {
    async fn users_stop_their_own_session_and_admins_all(db) {
        let app = TestApp::start(db).await;
        let (member, other, admin) = (app.signed_in("member").await, app.signed_in("other").await, app.signed_in("admin").await);
        let stop = format!("/api/workspaces/{WORKSPACE}/stop");
        let none = member.post(&stop, json!({})).await;
        assert_eq!((none.status, none.detail().as_str()), (409, "Workspace has no active session"));
        for client in [&member, &other] {
            client.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await;
        }
        let own = member.post(&stop, json!({})).await.json();
        assert_eq!(own["message"], "Workspace stopped");
        assert_eq!(own["session_ids"].as_array().unwrap().len(), 1);
        assert_eq!(other.get("/api/sessions/active").await.json().as_array().unwrap().len(), 1);
        assert_eq!(admin.post(&stop, json!({})).await.status, 200);
        assert_eq!(other.get("/api/sessions/active").await.json(), json!([]));
        assert_eq!(other.get("/api/sessions").await.json()[0]["end_reason"], "admin_stopped");
    }
}

on_both! {
    async fn a_single_seat_has_one_user(db) {
        let app = TestApp::start(db).await;
        let (member, other) = (app.signed_in("member").await, app.signed_in("other").await);
        let launch = format!("/api/workspaces/{SINGLE_SEAT_WORKSPACE}/launch");
        let (a, b) = tokio::join!(member.post(&launch, json!({})), other.post(&launch, json!({})));
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{} {}", a.body, b.body);
    }
}

on_both! {
    async fn admins_manage_workspaces(db) {
        let app = TestApp::start(db).await;
        let admin = app.signed_in("admin").await;
        let new = json!({"name": "Build Box", "type": "linux", "icon": "code", "tags": ["dev"], "allowed_roles": ["member", "admin"]});
        let made = admin.post("/api/workspaces", new.clone()).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let path = format!("/api/workspaces/{id}");
        let changed = admin.send(Method::PATCH, &path, Some(b"{\"maintenance\":true}".to_vec())).await.json();
        assert_eq!((&changed["maintenance"], &changed["status"], &changed["tags"]), (&json!(true), &json!("maintenance"), &json!(["dev"])));
        let member = app.signed_in("member").await;
        assert_eq!(member.post(&format!("{path}/launch"), json!({})).await.status, 409);
        assert_eq!(admin.send(Method::PATCH, &path, Some(b"{\"maintenence\":false}".to_vec())).await.status, 422, "a typing error is not ignored");
        assert_eq!(admin.send(Method::DELETE, &path, None).await.status, 200);
        assert_eq!(member.get(&path).await.status, 404);
        let taken = json!({"id": WORKSPACE, "name": "Again", "type": "linux"});
        assert_eq!(admin.post("/api/workspaces", taken).await.status, 409);
    }
}

on_both! {
    async fn listings_are_paginated(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let mut ids = Vec::new();
        for _ in 0..5 {
            let launched = member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await.json();
            ids.insert(0, launched["session_id"].clone());
            member.post(&format!("/api/sessions/{}/disconnect", launched["session_id"].as_str().unwrap()), json!({})).await;
            app.advance(std::time::Duration::from_millis(5));
        }
        let mut seen = Vec::new();
        let mut next = Some("/api/sessions?limit=2&status=disconnected".to_owned());
        while let Some(path) = next {
            let page = member.get(&path).await;
            assert_eq!(page.status, 200, "{path} {}", page.body);
            seen.extend(page.json().as_array().unwrap().iter().map(|s| s["id"].clone()));
            let link = page.header("link");
            next = link.strip_prefix('<').and_then(|l| l.strip_suffix(">; rel=\"next\"")).map(str::to_owned);
            assert_eq!(next.is_some(), !link.is_empty(), "{link}");
            assert!(seen.len() <= 5);
        }
        assert_eq!(seen, ids, "newest first, nothing twice, nothing missing");
    }
}

on_both! {
    async fn hosts_join_and_leave(db) {
        let app = TestApp::start(db).await;
        let admin = app.signed_in("admin").await;
        let token = admin.post("/api/hosts/join-tokens", json!({"name": "rack-2", "expires_in_seconds": 600})).await;
        assert_eq!(token.status, 201, "{}", token.body);
        let token = token.json();
        assert_eq!(token["command"], format!("portcullis agent --gateway {} --join {}", app.base, token["token"].as_str().unwrap()));
        let key = crate::support::app::wireguard_key();
        let enrollment = json!({"token": token["token"], "name": "x", "public_key": key, "version": "0.1.0"});
        let joined = app.anonymous().post("/api/hosts/enroll", enrollment.clone()).await;
        assert_eq!(joined.status, 201, "{}", joined.body);
        let joined = joined.json();
        for field in ["host_id", "name", "host_address", "gateway_address", "gateway_public_key", "gateway_endpoint", "preshared_key"] {
            assert!(joined[field].is_string(), "{field}");
        }
        assert_eq!(app.anonymous().post("/api/hosts/enroll", enrollment).await.status, 401, "a token works once");
        assert_eq!(admin.post("/api/hosts/join-tokens", json!({"expires_in_seconds": 1})).await.status, 422);

        let hosts = admin.get("/api/hosts").await.json();
        assert_eq!(hosts.as_array().unwrap().len(), 2);
        let old = hosts.as_array().unwrap().iter().find(|h| h["name"] == "host-1").unwrap();
        assert_eq!((&old["status"], &old["desktops"]), (&json!("connected"), &json!(0)));
        let path = format!("/api/hosts/{}", joined["host_id"].as_str().unwrap());
        assert_eq!(admin.send(Method::DELETE, &path, None).await.status, 200);
        assert_eq!(admin.send(Method::DELETE, &path, None).await.status, 404);
    }
}

on_both! {
    async fn a_closing_session_has_its_final_status(db) {
        let app = TestApp::start(db).await;
        let (member, admin) = (app.signed_in("member").await, app.signed_in("admin").await);
        let launched = member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await.json();
        let id = launched["session_id"].as_str().unwrap().to_owned();
        // The host does not confirm, so the session stays in the state closing.
        app.fleet.plan_stop(Plan::Gate);
        let terminate = {
            let (admin, path) = (admin.clone(), format!("/api/admin/sessions/{id}/terminate"));
            tokio::spawn(async move { admin.post(&path, json!({})).await.status })
        };
        let session = eventually("the session is closing", async || {
            let session = member.get(&format!("/api/sessions/{id}")).await.json();
            (session["status"] != "active").then_some(session)
        })
        .await;
        assert_eq!((&session["status"], &session["end_reason"], &session["ended_at"]), (&json!("terminated"), &json!("admin_stopped"), &Value::Null));
        assert_eq!(member.get("/api/sessions/active").await.json(), json!([]));
        assert_eq!(member.get("/api/sessions?status=active").await.json(), json!([]));
        for (status, count) in [("terminated", 1), ("disconnected", 0)] {
            let listed = member.get(&format!("/api/sessions?status={status}")).await.json();
            assert_eq!(listed.as_array().unwrap().len(), count, "{status}: {listed}");
        }
        assert_eq!(member.post(&format!("/api/sessions/{id}/ticket"), json!({})).await.status, 409);
        app.fleet.open_gate(1);
        assert_eq!(terminate.await.unwrap(), 200);
        let session = member.get(&format!("/api/sessions/{id}")).await.json();
        assert_eq!((&session["status"], session["ended_at"].is_string()), (&json!("terminated"), true));
    }
}
