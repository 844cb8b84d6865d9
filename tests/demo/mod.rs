//! `portcullis demo` keeps its promises: ready means working, a second start keeps everything, and
//! the end leaves nothing behind.

use crate::product::{Demo, command};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_keeps_everything_and_the_end_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().join("demo.json");

    let demo = Demo::start(dir.path()).await;
    assert_eq!(std::fs::metadata(&shown).unwrap().permissions().mode() & 0o777, 0o600);
    let (status, health) = demo.get("/api/health", None).await;
    assert_eq!(
        (status, health["status"].as_str(), health["dependencies"]["hosts"]["connected"].as_u64()),
        (200, Some("ok"), Some(1))
    );
    let roles: Vec<&str> = demo.json["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|u| u["role"].as_str().unwrap())
        .collect();
    for role in ["member", "admin", "security"] {
        assert!(roles.contains(&role), "{roles:?}");
    }
    let unenrolled: Vec<_> = demo.json["users"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|u| u["totp_secret"].is_null())
        .collect();
    assert_eq!((unenrolled.len(), unenrolled[0]["role"].as_str()), (1, Some("member")));
    for id in ["ws-linux-desktop", "ws-rdp-desktop"] {
        assert!(demo.json["workspaces"].as_array().unwrap().contains(&json!(id)), "{id}");
    }

    // Not the user who signs in again below: a code is valid once.
    let admin = demo.sign_in("admin").await;
    let (status, denied) = demo.get("/api/audit?outcome=denied", Some(&admin)).await;
    assert_eq!((status, &denied["entries"]), (200, &json!([])), "the seeding accuses nobody");

    let token = demo.sign_in("member").await;
    let (status, launched) =
        demo.post("/api/workspaces/ws-secure-desktop/launch", Some(&token), json!({})).await;
    assert_eq!(status, 200, "{launched}");
    assert!(
        !Demo::leftover_processes(dir.path()).is_empty(),
        "the desktop runs as a process that names the folder"
    );
    let (status, rdp) = demo.get("/api/workspaces/ws-rdp-desktop", Some(&token)).await;
    assert_eq!(
        (status, rdp["type"].as_str(), rdp["status"].as_str()),
        (200, Some("rdp"), Some("available")),
        "{rdp}"
    );
    let (status, launched) =
        demo.post("/api/workspaces/ws-rdp-desktop/launch", Some(&token), json!({})).await;
    assert_eq!(status, 200, "{launched}");
    let users = demo.json["users"].clone();
    let code = command(&["totp-code", "--user", "ALEX@demo.test", "--data-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&code.stdout).trim().len(), 6, "{code:?}");

    let (ended, took) = demo.stop().await;
    assert!(ended.success(), "{ended}");
    println!("stopping took {took:?}");
    assert_eq!(Demo::leftover_processes(dir.path()), Vec::<String>::new());
    assert!(!shown.exists(), "demo.json means ready");

    let again = Demo::start(dir.path()).await;
    assert_eq!(again.json["users"], users, "the same people, passwords and secrets");
    let token = again.sign_in("security").await;
    let (_, audit) = again.get("/api/audit?action=gateway_start", Some(&token)).await;
    assert_eq!(audit["entries"], serde_json::json!([]), "the start is of no organization");
    let export = command(&["audit", "export", "--data-dir"]).arg(dir.path()).output().unwrap();
    let log = String::from_utf8_lossy(&export.stdout).into_owned();
    assert_eq!(log.matches("\"gateway_start\"").count(), 2, "one log over both starts: {export:?}");
    let (_, hosts) = again.get("/api/hosts", Some(&token)).await;
    assert_eq!(hosts.as_array().unwrap().len(), 1, "the same host: {hosts}");
    let (_, verdict) = again.get("/api/audit/verify", Some(&token)).await;
    assert_eq!(verdict["ok"], true, "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out =
        command(&["demo", "--listen", &taken.local_addr().unwrap().to_string(), "--data-dir"])
            .arg(dir.path())
            .output()
            .unwrap();
    let message = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!((out.status.code(), message.lines().count()), (Some(1), 1), "{message}");
    assert!(message.contains("cannot listen on 127.0.0.1:"), "{message}");
}
