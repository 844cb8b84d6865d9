//! A disk that is full under the database of a real gateway: nothing is half-done, it says so, what
//! runs goes on, and with room again so does all.
//!
//! The disk is a small tmpfs that only the gateway's mount namespace has; from outside it is
//! reached through `/proc/PID/root`.

use super::stack::{Stack, TIMEOUT};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use tokio::time::timeout;

/// Fills what is left of the disk, to the last byte.
fn fill(filler: &PathBuf) {
    let mut file = File::create(filler).unwrap();
    for size in [64 * 1024, 4096, 1] {
        while file.write_all(&vec![7; size]).and_then(|()| file.flush()).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_database_is_told_and_harms_nothing() {
    // Made on the real disk, then taken to the small one.
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let url = format!("sqlite:{}", disk.join("p.db").display());
    let mut stack = Stack::gateway_only(&[("DATABASE__URL", &url)]).await;
    stack.seed();
    stack.gateway_kill();
    stack.mount = Some((disk.clone(), "6m"));
    stack.gateway_up().await;
    let inside = PathBuf::from(format!("/proc/{}/root{}", stack.gateway_pid(), disk.display()));
    let filler = inside.join("filler");
    stack.agent_up_with(&stack.join_token_over_http().await).await;

    let (member, other, admin) =
        (stack.sign_in("member").await, stack.sign_in("other").await, stack.sign_in("admin").await);
    let session = stack.launch(&member).await;
    let (mut desktop, ended) = stack.open(&member, &session).await;
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
    stack.wait_until("all is well", async |stack| stack.health().await.0 == 200).await;

    fill(&filler);
    // SQLite may still have some room inside its own files: acts are let through until it has none.
    let refused = async |what: &str,
                         request: &dyn Fn() -> reqwest::RequestBuilder,
                         token: Option<&str>| {
        for _ in 0..2000 {
            let (status, answer) = stack.send(request(), token).await;
            if status == 503 {
                let detail = answer["detail"].as_str().unwrap_or_default();
                assert!(
                    detail.contains("disk") && detail.contains("administrator"),
                    "{what}: {answer}"
                );
                return;
            }
            assert!(status == 200 || status == 201 || status == 429, "{what}: {status} {answer}");
            fill(&filler);
        }
        panic!("{what}: never refused");
    };
    let create = || {
        stack
            .http
            .post(stack.url("/api/workspaces"))
            .json(&json!({"name": "x".repeat(60), "type": "linux"}))
    };
    refused("create", &create, Some(&admin.token)).await;
    let workspaces =
        async || stack.get("/api/workspaces", Some(&admin.token)).await.1.as_array().unwrap().len();
    let before = workspaces().await;
    let launch = || stack.http.post(stack.url("/api/workspaces/ws-desk/launch")).json(&json!({}));
    refused("launch", &launch, Some(&other.token)).await;
    let login = || {
        stack
            .http
            .post(stack.url("/api/auth/login"))
            .json(&json!({"email": "member@example.test", "password": super::stack::PASSWORD}))
    };
    refused("sign-in", &login, None).await;
    refused("create", &create, Some(&admin.token)).await;
    assert_eq!(workspaces().await, before, "nothing half-done");
    assert_eq!(
        stack.get("/api/sessions", Some(&other.token)).await,
        (200, json!([])),
        "no half a session"
    );
    assert_eq!(stack.display_servers().len(), 1, "no desktop without a session");
    let (status, health) = stack.health().await;
    assert_eq!(
        (status, &health["status"], &health["dependencies"]["database"]["status"]),
        (503, &json!("down"), &json!("down")),
        "{health}"
    );
    // Whoever works goes on working, and may look at things.
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
    assert_eq!(stack.session(&member, &session).await["status"], "active");

    std::fs::remove_file(&filler).unwrap();
    stack.wait_until("all is well again", async |stack| stack.health().await.0 == 200).await;
    let second = stack.launch(&other).await;
    let (status, answer) = stack
        .post(&format!("/api/sessions/{session}/disconnect"), Some(&member.token), json!({}))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        timeout(TIMEOUT, ended).await.unwrap().unwrap(),
        Some((4000, "user_disconnected".to_owned()))
    );
    stack.wait_until("one desktop is left", async |stack| stack.display_servers().len() == 1).await;
    assert_eq!(stack.session(&other, &second).await["status"], "active");
    let (_, proof): (u16, Value) = stack.get("/api/audit/verify", Some(&admin.token)).await;
    assert_eq!(proof["ok"], true, "{proof}");
}
