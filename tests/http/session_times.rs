//! Extending a session over HTTP, and what is shown of how long it lasts.

use crate::support::app::{TestApp, WORKSPACE};
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    async fn a_session_is_extended(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let launched = member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await.json();
        let id = launched["session_id"].as_str().unwrap().to_owned();
        let path = format!("/api/sessions/{id}/extend");
        let session = || async { member.get(&format!("/api/sessions/{id}")).await.json() };
        let fresh = session().await;
        let time = |value: &Value| portcullis::domain::Timestamp::parse(value.as_str().unwrap()).unwrap();
        let (end, cap) = (time(&fresh["expires_at"]), time(&fresh["extendable_until"]));
        assert_eq!(cap.since(end).as_secs(), 4 * 3600);
        assert_eq!((&fresh["idle_timeout_seconds"], &fresh["idle_ends_at"]), (&Value::Null, &Value::Null));

        for bad in [json!(""), json!("0m"), json!("-30m"), json!("30"), json!("30x"), json!("1.5h"), json!(30), json!(null), json!(["30m"]), json!("9999999d")] {
            let refused = member.post(&path, json!({"duration": bad})).await;
            assert_eq!(refused.status, 422, "{bad}: {}", refused.body);
        }
        for bad in [json!({}), json!({"duration": "30m", "by": 1}), json!([]), json!("30m")] {
            assert!([400, 422].contains(&member.post(&path, bad).await.status));
        }
        let beyond = member.post(&path, json!({"duration": "5h"})).await;
        assert_eq!(beyond.status, 409, "{}", beyond.body);
        assert_eq!(beyond.detail(), "This session may last 12 hours in all: it can be extended by 4 hours at most.");
        assert_eq!(session().await["expires_at"], fresh["expires_at"], "nothing changed");

        let extended = member.post(&path, json!({"duration": "2h30m"})).await;
        assert_eq!(extended.status, 200, "{}", extended.body);
        let extended = extended.json();
        assert_eq!(extended["message"], "Session extended by 2 hours 30 minutes");
        assert_eq!(time(&extended["session"]["expires_at"]).since(end).as_secs(), 9000);
        assert_eq!(extended["session"]["id"], id);
        for listing in ["/api/sessions", "/api/sessions/active"] {
            assert_eq!(member.get(listing).await.json()[0]["expires_at"], extended["session"]["expires_at"], "{listing}");
        }
        let admin = app.signed_in("admin").await;
        let shown = admin.get("/api/admin/sessions").await.json();
        assert_eq!(shown[0]["expires_at"], extended["session"]["expires_at"]);
        for other in [app.signed_in("other").await, admin] {
            let refused = other.post(&path, json!({"duration": "30m"})).await;
            assert_eq!((refused.status, refused.detail().as_str()), (404, "Session not found"));
        }
        let entries = app.audit_entries("action=extend_session").await;
        assert_eq!(entries.len(), 2, "{entries:?}");
        assert_eq!((&entries[0]["outcome"], &entries[1]["outcome"]), (&json!("success"), &json!("denied")));
        assert_eq!(entries[1]["reason"], "duration_limit");
        member.post(&format!("/api/sessions/{id}/disconnect"), json!({})).await;
        let ended = member.post(&path, json!({"duration": "30m"})).await;
        assert_eq!((ended.status, ended.detail().as_str()), (409, "Session is not active"));
        assert_eq!(session().await["extendable_until"], Value::Null);
    }

    async fn a_workspace_limits_its_sessions(db) {
        let app = TestApp::start(db).await;
        let admin = app.signed_in("admin").await;
        let path = format!("/api/workspaces/{WORKSPACE}");
        let patch = |limits: Value| {
            let (admin, path) = (&admin, &path);
            async move { admin.send(Method::PATCH, path, Some(json!({"session_limits": limits}).to_string().into_bytes())).await }
        };
        let unset = json!({"duration_seconds": null, "extension_seconds": null, "idle_timeout_seconds": null});
        assert_eq!(admin.get(&path).await.json()["session_limits"], unset);
        let set = patch(json!({"duration_seconds": 3600, "extension_seconds": 0, "idle_timeout_seconds": 600})).await;
        assert_eq!(set.status, 200, "{}", set.body);
        let launched = admin.post(&format!("{path}/launch"), json!({})).await.json();
        let policy = &launched["security"]["policy"];
        assert_eq!((&policy["max_duration_seconds"], &policy["idle_timeout_seconds"]), (&json!(3600), &json!(600)));
        let session = admin.get(&format!("/api/sessions/{}", launched["session_id"].as_str().unwrap())).await.json();
        assert_eq!((&session["extendable_until"], &session["idle_timeout_seconds"]), (&Value::Null, &json!(600)));
        assert!(session["idle_ends_at"].is_string());
        // One is left to the installation again, the others stay.
        let kept = patch(json!({"extension_seconds": null})).await.json();
        assert_eq!(kept["session_limits"], json!({"duration_seconds": 3600, "extension_seconds": null, "idle_timeout_seconds": 600}));
        for bad in [json!({"duration_seconds": 59}), json!({"duration_seconds": -1}), json!({"extension_seconds": 99_999_999}), json!({"idle_timeout_seconds": 1}), json!({"idle_timeout_seconds": "1h"}), json!({"other": 1})] {
            assert_eq!(patch(bad.clone()).await.status, 422, "{bad}");
        }
    }
}
