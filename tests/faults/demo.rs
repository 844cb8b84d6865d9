//! A demo's life: it ends in time whatever is open, leaves nothing running, keeps its data, and
//! does not let itself be started over.

use crate::product::{Demo, command};
use crate::support::vnc::{VncClient, over_websocket};
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use tokio_tungstenite::Connector;

/// Another demo that is refused: exit status 1 and one line.
async fn refused(listen: &str, dir: &Path) -> String {
    let mut command = command(&["demo", "--listen", listen, "--data-dir"]);
    command.arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output: Output =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), message.lines().count()), (Some(1), 1), "{message}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_in_time_with_everything_open_and_begins_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let token = demo.sign_in("member").await;
    let (status, launched) =
        demo.post("/api/workspaces/ws-linux-desktop/launch", Some(&token), json!({})).await;
    assert_eq!(status, 200, "{launched}");
    let session = launched["session_id"].as_str().unwrap();
    let (_, ticket) =
        demo.post(&format!("/api/sessions/{session}/ticket"), Some(&token), json!({})).await;
    let url = format!(
        "{}?ticket={}",
        demo.url(ticket["url"].as_str().unwrap()),
        ticket["ticket"].as_str().unwrap()
    )
    .replacen("https", "wss", 1);
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(
            rustls::pki_types::CertificateDer::from_pem_file(
                demo.json["ca_cert"].as_str().unwrap(),
            )
            .unwrap(),
        )
        .unwrap();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let (socket, _) = tokio_tungstenite::connect_async_tls_with_config(
        url,
        None,
        false,
        Some(Connector::Rustls(Arc::new(tls))),
    )
    .await
    .unwrap();
    let (stream, ended) = over_websocket(socket);
    let mut desktop = VncClient::connect(stream).await.unwrap();
    desktop.frame().await.unwrap();
    // Also a page that listens for changes, and a file in the user's home.
    let events = demo.http.get(demo.url("/api/events")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(events.status(), 200);

    // A second demo on the folder, and one on the port, are refused without harm.
    let message = refused("127.0.0.1:0", dir.path()).await;
    assert!(
        message.contains("a demo runs on the folder") && message.contains("--data-dir"),
        "{message}"
    );
    let address = demo.json["base_url"].as_str().unwrap().replace("https://localhost", "127.0.0.1");
    let elsewhere = tempfile::tempdir().unwrap();
    let message = refused(&address, elsewhere.path()).await;
    assert!(
        message.contains(&format!("cannot listen on {address}")) && message.contains("in use"),
        "{message}"
    );
    let shown: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("demo.json")).unwrap()).unwrap();
    assert_eq!(shown, demo.json, "what the first one shows is still there");
    assert_eq!(demo.get("/api/auth/me", Some(&token)).await.0, 200);

    let users = demo.json["users"].clone();
    let (status, took) = demo.stop().await;
    println!("the demo ended after {took:?}");
    assert!(status.success(), "{status} after {took:?}");
    assert_eq!(
        ended.await.unwrap(),
        Some((1001, "retry".to_owned())),
        "the page is asked to reconnect"
    );
    drop(events);
    assert_eq!(Demo::leftover_processes(dir.path()), Vec::<String>::new());
    assert!(!dir.path().join("demo.json").exists());

    // The same people, the same log, the same host.
    let demo = Demo::start(dir.path()).await;
    assert_eq!(demo.json["users"], users);
    let admin = demo.sign_in("admin").await;
    let (_, log) = demo.get("/api/audit?action=launch_workspace", Some(&admin)).await;
    assert_eq!(log["entries"][0]["session_id"], session);
    let (_, hosts) = demo.get("/api/hosts", Some(&admin)).await;
    assert_eq!(hosts.as_array().unwrap().len(), 1, "{hosts}");
    // The keys are the same, too: who was signed in still is.
    let (status, answer) =
        demo.post("/api/workspaces/ws-linux-desktop/launch", Some(&token), json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let (_, proof) = demo.get("/api/audit/verify", Some(&admin)).await;
    assert_eq!(proof["ok"], true, "{proof}");
    let (status, took) = demo.stop().await;
    assert!(status.success(), "{status} after {took:?}");
    assert_eq!(Demo::leftover_processes(dir.path()), Vec::<String>::new());
}
