//! No secret in any log line, at trace level, after every kind of request.

use crate::support::app::{TestApp, WORKSPACE};
use crate::support::logs;
use futures_util::StreamExt;
use serde_json::json;
use tokio_tungstenite::Connector;

#[tokio::test(flavor = "multi_thread")]
async fn logs_contain_no_secret() {
    let app = TestApp::sqlite().await;
    let mut secrets = vec![("password", app.password.clone())];
    secrets.push(("totp secret", app.user("member").totp.clone().unwrap().expose().clone()));

    let tokens = app.sign_in(&app.anonymous(), "member").await.json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    secrets.push(("refresh token", text(&tokens["refresh_token"])));
    let renewed = app
        .anonymous()
        .post("/api/auth/refresh", json!({"refresh_token": tokens["refresh_token"]}))
        .await
        .json();
    secrets.extend([
        ("access token", text(&renewed["access_token"])),
        ("refresh token", text(&renewed["refresh_token"])),
    ]);
    let member = app.anonymous().bearer(renewed["access_token"].as_str().unwrap());

    let due = app
        .anonymous()
        .post(
            "/api/auth/login",
            json!({"email": "newcomer@example.test", "password": app.password}),
        )
        .await
        .json();
    secrets.push(("mfa token", text(&due["mfa_token"])));
    let seed = app
        .anonymous()
        .post("/api/auth/mfa/totp/enroll", json!({"mfa_token": due["mfa_token"]}))
        .await
        .json();
    secrets.push(("new totp secret", text(&seed["secret"])));
    let typed = format!("typed-{}", uuid::Uuid::new_v4());
    app.anonymous()
        .post("/api/auth/login", json!({"email": "member@example.test", "password": typed}))
        .await;
    app.anonymous().post("/api/auth/login", json!({"email": ["x"], "password": typed})).await;
    secrets.push(("wrong password", typed));
    let forged = format!("forged-{}", uuid::Uuid::new_v4());
    app.anonymous().bearer(&forged).get("/api/auth/me").await;
    app.anonymous().get(&format!("/api/nothing?ticket={forged}")).await;
    secrets.push(("forged token", forged));

    let admin = app.signed_in("admin").await;
    let join = admin.post("/api/hosts/join-tokens", json!({})).await.json();
    secrets.push(("join token", text(&join["token"])));
    let enrollment = json!({"token": join["token"], "name": "h", "public_key": crate::support::app::wireguard_key(), "version": "1"});
    let joined = app.anonymous().post("/api/hosts/enroll", enrollment).await.json();
    secrets.push(("preshared key", text(&joined["preshared_key"])));

    let session = member
        .post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({}))
        .await
        .json()["session_id"]
        .clone();
    let ticket =
        member.post(&format!("/api/sessions/{}/ticket", text(&session)), json!({})).await.json();
    secrets.push(("ticket", text(&ticket["ticket"])));
    let url = format!(
        "wss://localhost:{}{}?ticket={}",
        app.port,
        text(&ticket["url"]),
        text(&ticket["ticket"])
    );
    let tls = Connector::Rustls(app.tls.clone());
    let (mut socket, _) =
        tokio_tungstenite::connect_async_tls_with_config(&url, None, false, Some(tls.clone()))
            .await
            .unwrap();
    assert!(
        tokio_tungstenite::connect_async_tls_with_config(&url, None, false, Some(tls))
            .await
            .is_err()
    );
    member.post(&format!("/api/sessions/{}/disconnect", text(&session)), json!({})).await;
    while let Some(Ok(_)) = socket.next().await {}

    let logs = logs::collected();
    assert!(logs.contains("/api/sessions/{id}/stream"), "access lines are there");
    for (what, secret) in &secrets {
        assert!(secret.len() > 15, "{what} is worth looking for");
        let found = logs.lines().find(|line| line.contains(secret.as_str()));
        assert!(found.is_none(), "a {what} is in the log: {found:?}");
    }
    let audit = admin.get("/api/audit/export").await.body;
    for (what, secret) in &secrets {
        assert!(!audit.contains(secret.as_str()), "a {what} is in the audit log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log_lines_have_request_id_and_route() {
    let app = TestApp::sqlite().await;
    let member = app.signed_in("member").await;
    let answer = member.get(&format!("/api/sessions/{}?x=y", uuid::Uuid::new_v4())).await;
    let id = answer.header("x-request-id").to_owned();
    // The line is written before the answer's head leaves.
    let logs = logs::collected();
    let line = logs
        .lines()
        .find(|l| l.contains(&id) && l.contains("portcullis::access"))
        .expect("an access line");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["route"], "/api/sessions/{id}");
    assert_eq!(line["status"], 404);
    assert_eq!(line["user"], app.user("member").id.to_string());
    assert_eq!(line["span"]["request_id"], id);
}
