//! Health, metrics, live updates.

use crate::support::app::{TestApp, WORKSPACE};
use crate::support::db::{Backend, Db};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn health_reports_its_parts() {
    let app = TestApp::sqlite().await;
    let answer = app.anonymous().get("/api/health").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let health = answer.json();
    assert_eq!((&health["status"], &health["service"]), (&json!("ok"), &json!("portcullis")));
    assert_eq!(
        health["dependencies"]["hosts"],
        json!({"status": "ok", "connected": 1, "total": 1})
    );
    assert!(health["dependencies"]["database"]["latency_ms"].as_f64().unwrap() >= 0.0);
    assert!(health["dependencies"]["audit"]["entries"].as_i64().unwrap() > 5);
    assert_eq!(health["dependencies"]["tunnel"]["peers"], 1);

    app.fleet.disconnect(app.host);
    let answer = app.anonymous().get("/api/health").await;
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (200, &json!("degraded")),
        "no host degrades; it is not down"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_configured_peers() {
    let app = TestApp::sqlite().await;
    let client = app.anonymous();
    client.get("/api/workspaces/some-thing").await;
    client.get("/invented/path").await;
    app.signed_in("member")
        .await
        .post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({}))
        .await;
    let page = client.get("/metrics").await;
    assert_eq!(page.status, 200);
    for line in [
        "portcullis_http_requests_total{method=\"GET\",route=\"/api/workspaces/{id}\",status=\"4xx\"} 1",
        "portcullis_http_requests_total{method=\"POST\",route=\"/api/workspaces/{id}/launch\",status=\"2xx\"} 1",
        "portcullis_sign_ins_total{outcome=\"success\"} 1",
        "portcullis_sign_ins_total{outcome=\"mfa_due\"} 1",
        "portcullis_sessions_live 1",
        "portcullis_hosts_connected 1",
        "portcullis_tunnel_peers{state=\"encrypted\"} 1",
        "process_start_time_seconds ",
        "portcullis_audit_entries ",
        "portcullis_http_request_duration_seconds_bucket",
        "# EOF",
    ] {
        assert!(page.body.contains(line), "{line} in {}", page.body);
    }
    assert!(
        !page.body.contains("some-thing") && !page.body.contains("invented"),
        "labels are bounded"
    );

    // Behind a proxy that is not trusted every client has its address.
    assert_eq!(client.header("x-forwarded-for", "203.0.113.9").get("/metrics").await.status, 403);
    let proxied = TestApp::with(Db::new(Backend::Sqlite), |s, _| {
        s.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()]
    })
    .await;
    let client = proxied.anonymous();
    assert_eq!(client.header("x-forwarded-for", "203.0.113.9").get("/metrics").await.status, 403);
    assert_eq!(client.header("x-forwarded-for", "127.0.0.2").get("/metrics").await.status, 200);
    client
        .header("x-forwarded-for", "203.0.113.9")
        .post("/api/auth/login", json!({"email": "a@b.test", "password": "x"}))
        .await;
    assert_eq!(proxied.audit_entries("action=login_failed").await[0]["source_ip"], "203.0.113.9");
    for (name, value, address) in [
        ("x-forwarded-for", "203.0.113.11:4711", "203.0.113.11"),
        ("x-forwarded-for", "[2001:db8::1]:443", "2001:db8::1"),
        ("forwarded", "for=203.0.113.12;proto=https", "203.0.113.12"),
        ("forwarded", "for=\"[2001:db8::2]:4711\"", "2001:db8::2"),
    ] {
        let client = client.header(name, value);
        client.post("/api/auth/login", json!({"email": "a@b.test", "password": "x"})).await;
        let entries = proxied.audit_entries("action=login_failed").await;
        assert_eq!(entries[0]["source_ip"], address, "{name}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_sent_as_events() {
    let app = TestApp::sqlite().await;
    let member = app.signed_in("member").await;
    let mut events = member.open("/api/events").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let mut received = String::new();
    let mut launched = false;
    let all = tokio::time::timeout(Duration::from_secs(60), async {
        while let Some(chunk) = events.chunk().await.unwrap() {
            received.push_str(std::str::from_utf8(&chunk).unwrap());
            if !launched {
                member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await;
                launched = true;
            }
            if received.contains("event: sessions\ndata: {}\n\n")
                && received.contains("event: workspaces\n")
            {
                return;
            }
        }
        panic!("the stream ended: {received}");
    });
    all.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_events_are_for_readers_of_the_log() {
    let app = TestApp::sqlite().await;
    let (member, security) = (app.signed_in("member").await, app.signed_in("security").await);
    let (mut member_events, mut events) =
        (member.open("/api/events").await, security.open("/api/events").await);
    for stream in [&mut member_events, &mut events] {
        assert!(
            std::str::from_utf8(&stream.chunk().await.unwrap().unwrap())
                .unwrap()
                .starts_with("retry:")
        );
    }
    app.anonymous()
        .post("/api/auth/login", json!({"email": "nobody@example.test", "password": "x"}))
        .await;
    let received = tokio::time::timeout(Duration::from_secs(60), events.chunk())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(received, "event: audit\ndata: {}\n\n".as_bytes());
    // The next event of a member is not about the log, although a launch writes entries before it
    // sends the event of sessions.
    member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await;
    let received = tokio::time::timeout(Duration::from_secs(60), member_events.chunk())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(!std::str::from_utf8(&received).unwrap().contains("audit"), "{received:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn graceful_shutdown_ends_event_streams() {
    let mut app = TestApp::sqlite().await;
    let member = app.signed_in("member").await;
    let mut events = member.open("/api/events").await;
    events.chunk().await.unwrap().unwrap();
    assert!(app.stop().await, "everything ended in time");
    while let Ok(Some(_)) = events.chunk().await {}
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", app.port)).await.is_err(),
        "nobody listens"
    );
}
