//! The database's file is moved away under a real gateway: nothing is acknowledged into a file that
//! nobody finds, health says so, and a gateway that starts without it makes no new one.

use super::stack::{Stack, TIMEOUT};
use crate::support::wait::within;
use serde_json::json;
use std::process::Stdio;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_moved_away_takes_no_writes_and_is_not_made_again() {
    let mut stack = Stack::gateway_only(&[]).await;
    stack.seed();
    let file = stack.data().join("portcullis.db");
    assert!(file.exists(), "{}", file.display());
    let kept = stack.dir.join("kept.db");
    let admin = stack.sign_in("admin").await;
    let user = json!({"email": "n@example.test", "name": "N", "role": "member", "password": super::stack::PASSWORD});

    std::fs::rename(&file, &kept).unwrap();
    let (status, answer) = stack.post("/api/users", Some(&admin.token), user.clone()).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("moved or replaced"), "{answer}");
    let (status, health) = stack.health().await;
    assert_eq!(
        (status, &health["dependencies"]["database"]["status"]),
        (503, &json!("down")),
        "{health}"
    );
    assert!(!file.exists());

    // Put back, all goes on.
    std::fs::rename(&kept, &file).unwrap();
    assert_eq!(stack.post("/api/users", Some(&admin.token), user).await.0, 201);
    let whole = within(TIMEOUT, async || {
        stack.health().await.1["dependencies"]["database"]["status"] == "ok"
    });
    assert!(whole.await.is_some());

    stack.stop().await;
    std::fs::rename(&file, &kept).unwrap();
    let refused = stack.command(&["serve"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("it is missing") && said.contains("accept-damage"), "{said}");
    assert!(!file.exists(), "no new one was made");
    std::fs::rename(&kept, &file).unwrap();
    stack.gateway_up().await;
    stack.assert_audit_chain_valid();
}
