//! A whole session on a standard peer: the real binary, its printed configuration in `wg-quick`,
//! TigerVNC behind it, and a browser's WebSocket. And the same server as a direct target, which is
//! reported as unprotected everywhere.

use super::netns::{Netns, TIMEOUT, run, wait_until};
use crate::product::{Demo, command};
use crate::support::vnc::{Closed, VncClient, over_websocket};
use crate::support::wait::within;
use portcullis::tunnel::PrivateKey;
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::Connector;

/// DES of "vncpass1" with RFB's fixed key, as `tigervncpasswd -f` makes it.
const PASSWORD_FILE: [u8; 8] = [0x26, 0x5a, 0x14, 0xa0, 0x71, 0x8c, 0xeb, 0x37];
const PASSWORD: &str = "vncpass1";

fn vnc(netns: &Netns, mut program: std::process::Command, port: u16) -> std::process::Command {
    let password = netns.dir.path().join("passwd");
    std::fs::write(&password, PASSWORD_FILE).unwrap();
    program.args([
        "-displayfd",
        "1",
        "-rfbport",
        &port.to_string(),
        "-SecurityTypes",
        "VncAuth",
        "-geometry",
        "640x480",
        "-depth",
        "24",
    ]);
    program
        .args(["-AlwaysShared", "-nolisten", "tcp", "-desktop", "A standard peer", "-PasswordFile"])
        .arg(password);
    program.stdout(Stdio::null()).stderr(Stdio::null());
    program
}

async fn post(demo: &Demo, path: &str, token: &str, body: Value, expected: u16) -> Value {
    let (status, answer) = demo.post(path, Some(token), body).await;
    assert_eq!(status, expected, "{path}: {answer}");
    answer
}

/// Opens a session's stream as the page does.
async fn open(demo: &Demo, session: &str, token: &str) -> (DuplexStream, JoinHandle<Closed>) {
    let ticket =
        post(demo, &format!("/api/sessions/{session}/ticket"), token, json!({}), 200).await;
    let url = demo
        .url(&format!(
            "/api/sessions/{session}/stream?ticket={}",
            ticket["ticket"].as_str().unwrap()
        ))
        .replacen("https", "wss", 1);
    let mut roots = rustls::RootCertStore::empty();
    use rustls_pki_types::pem::PemObject as _;
    let ca =
        rustls_pki_types::CertificateDer::from_pem_file(demo.json["ca_cert"].as_str().unwrap())
            .unwrap();
    roots.add(ca).unwrap();
    let tls = Connector::Rustls(Arc::new(
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
    ));
    let (socket, _) =
        tokio_tungstenite::connect_async_tls_with_config(&url, None, false, Some(tls))
            .await
            .unwrap();
    over_websocket(socket)
}

async fn connected(demo: &Demo, netns: &Netns, host: &Value, token: &str) {
    let mut seen = Value::Null;
    let connected = within(TIMEOUT, async || {
        (_, seen) = demo.get("/api/hosts", Some(token)).await;
        let mut hosts = seen.as_array().unwrap().iter();
        hosts.any(|found| found["id"] == *host && found["status"] == "connected")
    });
    if connected.await.is_none() {
        panic!("the host is not connected after {TIMEOUT:?}: {seen}\n{}", netns.state());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_desktop_behind_a_standard_peer() {
    let mut netns = Netns::new();
    let free = crate::support::free_port();
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("PORTCULLIS_TUNNEL__LISTEN", format!("{}:0", netns.local)),
        ("PORTCULLIS_DIRECT__ALLOW", format!("old-box=127.0.0.1:{free}")),
    ];
    let demo = Demo::start_with(dir.path(), &settings).await;
    let (admin, member) = (demo.sign_in("admin").await, demo.sign_in("member").await);

    // The host: its private key is its own, everything else is what we print.
    let key = PrivateKey::generate().unwrap();
    let host = post(
        &demo,
        "/api/hosts/peers",
        &admin,
        json!({"name": "rack-7", "public_key": key.public_key().to_string()}),
        201,
    )
    .await;
    assert_eq!(
        (host["kind"].as_str(), host["status"].as_str()),
        (Some("peer"), Some("offline")),
        "{host}"
    );
    let (inner, port) = (host["address"].as_str().unwrap(), 5901);
    let printed = run(command(&["host", "config", "rack-7", "--data-dir"]).arg(dir.path()));
    let shown = post(
        &demo,
        &format!("/api/hosts/{}/config", host["id"].as_str().unwrap()),
        &admin,
        json!({}),
        200,
    )
    .await;
    assert_eq!(
        shown["config"].as_str(),
        Some(printed.as_str()),
        "shell and API print the same file"
    );
    let psk = printed.lines().find_map(|l| l.strip_prefix("PresharedKey = ")).unwrap();
    let file =
        printed.replace("REPLACE_WITH_THE_PRIVATE_KEY", &super::netns::base64(&*key.expose()));
    let file = netns.write(&format!("{}.conf", netns.interface), &file);
    // wg-quick prefers the kernel's WireGuard where there is one.
    let mut up = netns.command("wg-quick");
    up.args(["up"]).arg(file).env("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go");
    run(&mut up);
    connected(&demo, &netns, &host["id"], &admin).await;

    // A workspace on it whose server is not running yet: the launch fails with 503.
    let body = json!({"id": "ws-rack", "name": "Rack", "type": "vnc", "target": {"host_id": host["id"], "port": port}, "password": PASSWORD});
    let created = post(&demo, "/api/workspaces", &admin, body, 201).await;
    assert_eq!(
        (created["single_seat"].as_bool(), created["target"]["port"].as_u64()),
        (Some(true), Some(port)),
        "{created}"
    );
    post(&demo, "/api/workspaces/ws-rack/launch", &member, json!({}), 503).await;
    let mut server = vnc(&netns, netns.command("Xtigervnc"), u16::try_from(port).unwrap());
    server.args(["-interface", inner]);
    netns.spawn_owned(&mut server);
    let probe = format!("import socket; socket.create_connection(('{inner}', {port}), 1)");
    wait_until("Xtigervnc", || {
        netns
            .command("python3")
            .args(["-c", &probe])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    });

    let launched = post(&demo, "/api/workspaces/ws-rack/launch", &member, json!({}), 200).await;
    assert_eq!(launched["tunnel_status"], "encrypted", "{launched}");
    assert_eq!(launched["security"]["tunnel"]["peer_public_key"], key.public_key().to_string());
    assert_eq!(launched["security"]["tunnel"]["address"], inner);
    assert_eq!(launched["workspace"]["target"], Value::Null, "where it is, is not for members");
    let session = launched["session_id"].as_str().unwrap().to_owned();
    let began = Instant::now();
    let (stream, closed) = open(&demo, &session, &member).await;
    let mut client = timeout(TIMEOUT, VncClient::connect(stream)).await.unwrap().unwrap();
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
    println!("ticket to first frame: {:?}", began.elapsed());
    assert_eq!((client.width, client.height, client.name.as_str()), (640, 480, "A standard peer"));

    let (_, seen) = demo.get(&format!("/api/sessions/{session}"), Some(&member)).await;
    assert_eq!(
        (seen["ip_address"].as_str(), seen["tunnel_status"].as_str()),
        (Some(inner), Some("encrypted")),
        "{seen}"
    );
    assert!(seen["tunnel"]["rx_bytes"].as_u64().unwrap() > 640 * 480 * 4, "{seen}");
    assert!(
        seen["latency"]["host_ms"].is_f64()
            && seen["latency"]["desktop_ms"].is_f64()
            && seen["latency"]["slow_leg"].is_null(),
        "{seen}"
    );
    println!("legs: {}", seen["latency"]);
    let (_, page) = demo.get("/metrics", None).await;
    let page = page.as_str().unwrap().to_owned();
    for line in [
        "portcullis_session_leg_sessions{leg=\"host_desktop\",le=\"+Inf\"} 1",
        "portcullis_session_handshake_age_sessions{le=\"60\"} 1",
    ] {
        assert!(page.contains(line), "{page}");
    }
    assert!(!page.contains(&session) && !page.contains(inner), "labels are bounded");

    // A restarted gateway reaches the peer at its last endpoint, even from another port, and
    // restores the session.
    demo.stop().await;
    let _ = timeout(TIMEOUT, closed).await.unwrap();
    let demo = Demo::start_with(dir.path(), &settings).await;
    connected(&demo, &netns, &host["id"], &admin).await;
    let (stream, closed) = open(&demo, &session, &member).await;
    let mut client = timeout(TIMEOUT, VncClient::connect(stream)).await.unwrap().unwrap();
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();

    // Terminating ends the stream at once; the host's tunnel, which others may use, stays.
    let began = Instant::now();
    post(&demo, &format!("/api/admin/sessions/{session}/terminate"), &admin, json!({}), 200).await;
    let closed = timeout(TIMEOUT, closed).await.unwrap().unwrap();
    let elapsed = began.elapsed();
    assert_eq!(closed, Some((4000, "admin_stopped".to_owned())));
    println!("terminate to close frame: {elapsed:?}");
    connected(&demo, &netns, &host["id"], &admin).await;
    let (status, _) =
        demo.post(&format!("/api/sessions/{session}/ticket"), Some(&member), json!({})).await;
    assert_eq!(status, 409);

    // A direct target that the configuration does not allow.
    let not_allowed =
        json!({"id": "ws-not", "name": "Not", "type": "vnc", "target": {"direct": "not-there"}});
    post(&demo, "/api/workspaces", &admin, not_allowed, 201).await;
    let (status, body) = demo.post("/api/workspaces/ws-not/launch", Some(&member), json!({})).await;
    assert_eq!(status, 503, "{body}");

    direct(&demo, &mut netns, free, &admin, &member).await;

    let (_, log) = demo.get("/api/audit?action=show_host_config", Some(&admin)).await;
    assert_eq!(
        log["entries"].as_array().unwrap().len(),
        2,
        "each showing of the key is written down: {log}"
    );
    let (_, export) = demo.get("/api/audit/export?format=jsonl", Some(&admin)).await;
    for secret in [psk, PASSWORD] {
        assert!(!export.to_string().contains(secret), "secrets must not be logged");
    }
    let (_, verdict) = demo.get("/api/audit/verify", Some(&admin)).await;
    assert_eq!(verdict["ok"], true, "{verdict}");
}

/// A server on this machine, which the configuration allows by name.
async fn direct(demo: &Demo, netns: &mut Netns, port: u16, admin: &str, member: &str) {
    let mut server = vnc(netns, std::process::Command::new("Xtigervnc"), port);
    server.args(["-interface", "127.0.0.1", "-localhost=1"]);
    netns.spawn_owned(&mut server);
    wait_until("Xtigervnc", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let body = json!({"id": "ws-old", "name": "Old box", "type": "vnc", "target": {"direct": "old-box"}, "password": PASSWORD});
    post(demo, "/api/workspaces", admin, body, 201).await;
    let launched = post(demo, "/api/workspaces/ws-old/launch", member, json!({}), 200).await;
    assert_eq!(
        (launched["tunnel_status"].as_str(), launched["security"]["tunnel"]["protocol"].as_str()),
        (Some("none"), Some("none")),
        "{launched}"
    );
    assert_eq!(launched["security"]["tunnel"]["peer_public_key"], Value::Null);
    let session = launched["session_id"].as_str().unwrap();
    let (stream, closed) = open(demo, session, member).await;
    let mut client = timeout(TIMEOUT, VncClient::connect(stream)).await.unwrap().unwrap();
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
    let (_, seen) = demo.get(&format!("/api/sessions/{session}"), Some(member)).await;
    assert_eq!(
        (seen["tunnel_status"].as_str(), seen["ip_address"].as_str()),
        (Some("none"), Some("127.0.0.1")),
        "{seen}"
    );
    for action in ["launch_workspace", "open_stream"] {
        let (_, log) = demo
            .get(&format!("/api/audit?action={action}&session_id={session}"), Some(admin))
            .await;
        assert_eq!(log["entries"][0]["details"]["tunnel_status"], "none", "{log}");
    }
    post(demo, &format!("/api/sessions/{session}/disconnect"), member, json!({}), 200).await;
    assert_eq!(
        timeout(TIMEOUT, closed).await.unwrap().unwrap(),
        Some((4000, "user_disconnected".to_owned()))
    );
    let (_, seen) = demo.get(&format!("/api/sessions/{session}"), Some(member)).await;
    assert_eq!(
        (seen["status"].as_str(), seen["tunnel_status"].as_str()),
        (Some("disconnected"), Some("none")),
        "{seen}"
    );
}
