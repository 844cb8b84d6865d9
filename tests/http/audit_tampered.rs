//! A log that was altered under a running gateway: an anonymous failed sign-in must not sign it,
//! and from then on nothing is written.

use crate::support::app::{TestApp, WORKSPACE};
use crate::support::db::{Backend, Db};
use crate::support::forge::{EndDamage, stored_log};
use crate::support::logs;
use serde_json::{Value, json};

async fn check(backend: Backend, damage: EndDamage) {
    let db = Db::new(backend);
    let (url, store) = (db.url.clone(), db.store.clone());
    let app = TestApp::start(db).await;
    let admin = app.signed_in("admin").await;
    // An entry with details is the last one.
    app.anonymous().post("/api/auth/login", json!({"email": "a@b.test", "password": "x"})).await;
    admin.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await;
    admin.post("/api/users", json!({"email": "n@example.test", "name": "N", "role": "member", "password": "Sesame-open-8731"})).await;
    damage.apply(&store, &url).await;
    let before = stored_log(&url);

    let sign_in = || async {
        app.anonymous().post("/api/auth/login", json!({"email": "a@b.test", "password": "x"})).await
    };
    for _ in 0..2 {
        let answer = sign_in().await;
        assert_eq!(answer.status, 503, "{damage:?}: {}", answer.body);
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains("audit log was altered"), "{damage:?}: {detail}");
        assert_eq!(answer.header("x-portcullis-audit"), "tampered", "{damage:?}");
        assert_eq!(answer.header("retry-after"), "", "{damage:?}: trying again does not help");
    }
    let health = app.anonymous().get("/api/health").await;
    assert_eq!(health.status, 503, "{damage:?}: {}", health.body);
    let health = health.json();
    assert_eq!(health["status"], "down");
    assert_eq!(health["dependencies"]["audit"]["status"], "tampered", "{damage:?}");
    assert_eq!(health["dependencies"]["database"]["status"], "ok", "{damage:?}");
    let verdict = admin.get("/api/audit/verify").await;
    assert_eq!(verdict.status, 200, "{damage:?}: {}", verdict.body);
    assert_eq!(verdict.json()["ok"], false, "{damage:?}");
    assert_ne!(verdict.json()["first_error"], Value::Null);
    assert_eq!(
        admin.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await.status,
        503
    );
    assert_eq!(stored_log(&url), before, "{damage:?}: nothing was signed");
    assert!(logs::collected().contains("audit.tampered"), "a log line says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sign_in_signs_no_forgery_on_sqlite() {
    for damage in EndDamage::ALL {
        check(Backend::Sqlite, damage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sign_in_signs_no_forgery_on_postgres() {
    for damage in EndDamage::ALL {
        check(Backend::Postgres, damage).await;
    }
}
