//! Invalid input: refused with the error body, without any change, and never a 5xx.

use crate::support::app::{TestApp, WORKSPACE};
use crate::support::db::{Backend, Db};
use portcullis::domain::rate_limit::Quota;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bodies_are_refused() {
    let app = TestApp::sqlite().await;
    let admin = app.signed_in("admin").await;
    let before = admin.get("/api/users").await.json();
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("{\"email\":", 400),
        ("nonsense", 400),
        ("[]", 422),
        ("null", 422),
        ("[\"a@b.test\",\"n\",\"a long enough passphrase\",\"member\"]", 422),
        ("{}", 422),
        ("{\"email\":1,\"name\":\"n\",\"password\":\"p\",\"role\":\"member\"}", 422),
        (
            "{\"email\":\"a@b.test\",\"name\":\"n\",\"password\":\"a long enough passphrase\",\"role\":\"root\"}",
            422,
        ),
        (
            "{\"email\":\"a@b.test\",\"name\":\"n\",\"password\":\"a long enough passphrase\",\"role\":\"member\",\"admin\":true}",
            422,
        ),
        (
            "{\"email\":\"a@b.test\",\"email\":\"c@d.test\",\"name\":\"n\",\"password\":\"x\",\"role\":\"member\"}",
            422,
        ),
    ] {
        let answer = admin.send(Method::POST, "/api/users", Some(body.as_bytes().to_vec())).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(!answer.detail().contains("passphrase"), "{}", answer.body);
    }
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(admin.send(Method::POST, "/api/users", Some(deep.into_bytes())).await.status, 422);
    let invalid = admin.send(Method::POST, "/api/users", Some(vec![0xff, 0xfe, b'{'])).await;
    assert_eq!(invalid.status, 400);
    assert_eq!(admin.get("/api/users").await.json(), before, "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_must_be_json_and_within_the_limit() {
    let app = TestApp::sqlite().await;
    let client = app.anonymous();
    let form = client
        .header("content-type", "text/plain")
        .send(Method::POST, "/api/auth/login", Some(b"{}".to_vec()))
        .await;
    assert_eq!(form.status, 415);
    form.detail();
    let big = json!({"email": "x".repeat(70_000), "password": "x"}).to_string().into_bytes();
    let answer = client.send(Method::POST, "/api/auth/login", Some(big)).await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    answer.detail();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_mebibytes_are_refused_before_they_are_read() {
    let app = TestApp::sqlite().await;
    let client = app.anonymous();
    let mut answered = 0;
    for _ in 0..3 {
        // The server answers and closes while the client still sends. A client that does not listen
        // meanwhile may see a reset, never a success.
        match client.try_send(Method::POST, "/api/auth/login", vec![b' '; 10 * 1024 * 1024]).await {
            Ok(answer) => {
                assert_eq!(answer.status, 413);
                answer.detail();
                answered += 1;
            }
            Err(error) => assert!(!error.is_timeout(), "{error:?}"),
        }
    }
    assert!(answered > 0, "a 413 was received");
    assert_eq!(client.get("/api/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_foreign_ids_get_the_same_response() {
    let app = TestApp::sqlite().await;
    let (owner, other) = (app.signed_in("member").await, app.signed_in("other").await);
    let session = owner
        .post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({}))
        .await
        .json()["session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let nowhere = uuid::Uuid::new_v4().to_string();
    for (method, path) in
        [(Method::GET, ""), (Method::POST, "/disconnect"), (Method::POST, "/ticket")]
    {
        let ask = |id: &str| {
            let (other, method, path) =
                (other.clone(), method.clone(), format!("/api/sessions/{id}{path}"));
            async move { other.send(method, &path, None).await }
        };
        let (theirs, none, nonsense) =
            (ask(&session).await, ask(&nowhere).await, ask("nonsense").await);
        assert_eq!((theirs.status, &theirs.body), (none.status, &none.body), "{path}");
        assert_eq!((none.status, &none.body), (nonsense.status, &nonsense.body), "{path}");
        assert_eq!((theirs.status, theirs.detail().as_str()), (404, "Session not found"), "{path}");
    }
    assert_eq!(
        owner.get(&format!("/api/sessions/{session}")).await.json()["status"],
        "active",
        "nothing changed"
    );
    assert!(
        !app.audit_entries(&format!("actor=other@example.test&session_id={session}"))
            .await
            .is_empty(),
        "a foreign id is written down"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_methods_and_parameters() {
    let app = TestApp::sqlite().await;
    let member = app.signed_in("member").await;
    let missing = app.anonymous().get("/api/nothing").await;
    assert_eq!(missing.status, 404);
    missing.detail();
    let method = member.send(Method::PUT, "/api/workspaces", None).await;
    assert_eq!(method.status, 405);
    assert_eq!(method.header("allow"), "GET, POST");
    method.detail();
    assert_eq!(app.anonymous().send(Method::POST, "/", None).await.status, 405);
    for query in
        ["limit=abc", "limit=-1", "limit=0", "limit=100000", "cursor=nonsense", "status=nonsense"]
    {
        let answer = member.get(&format!("/api/sessions?{query}")).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.body);
        answer.detail();
    }
    for id in ["UPPER", "%00", "a%2Fb", "%ff", &"x".repeat(300)] {
        let answer = member.get(&format!("/api/workspaces/{id}")).await;
        assert_eq!(answer.status, 404, "{id}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_rate_limited_per_address() {
    let app =
        TestApp::with(Db::new(Backend::Sqlite), |s, _| s.anonymous_rate = Quota::per_second(1, 5))
            .await;
    let client = app.anonymous();
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(client.get("/api/health").await);
    }
    let refused = statuses.iter().find(|a| a.status == 429).expect("the sixth is too many");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    refused.detail();
    assert_eq!(
        client.get("/").await.status,
        app.anonymous().get("/").await.status,
        "pages are counted apart"
    );
    assert_ne!(client.get("/").await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_is_one_500_and_nothing_more() {
    let app = TestApp::sqlite().await;
    app.probe_panics.store(true, std::sync::atomic::Ordering::SeqCst);
    let answer = app.anonymous().get("/api/health").await;
    assert_eq!(answer.status, 500);
    assert!(!answer.detail().contains("panic"));
    assert!(!answer.header("x-request-id").is_empty());
    assert!(answer.header("content-security-policy").contains("default-src 'none'"));
    app.probe_panics.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(app.anonymous().get("/api/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_requests_time_out() {
    // Short, but not so short that a busy machine shakes no hand in time: the honest ones come by
    // the same door.
    let short = Duration::from_secs(2);
    let app = TestApp::with(Db::new(Backend::Sqlite), |settings, limits| {
        settings.body_timeout = short / 4;
        (limits.head_timeout, limits.handshake_timeout) = (short, short);
    })
    .await;
    let said = |sent: &'static str| {
        let (tls, port) = (app.tls.clone(), app.port);
        async move {
            let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let name = "localhost".try_into().unwrap();
            let mut tls = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await.unwrap();
            tls.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // The end may come without a TLS goodbye; that it comes is what counts.
            let read =
                tokio::time::timeout(Duration::from_secs(60), tls.read_to_end(&mut answer)).await;
            assert!(read.is_ok(), "still open after {sent:?}");
            String::from_utf8(answer).unwrap()
        }
    };
    let head = said("GET /api/health HTTP/1.1\r\nHost: localh").await;
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
    let request = "POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{";
    let body = said(request).await;
    assert!(body.starts_with("HTTP/1.1 408") && body.ends_with("}"), "{body}");

    let mut silent = TcpStream::connect(("127.0.0.1", app.port)).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(60), silent.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "no handshake, no connection: {read:?}");
    assert_eq!(app.anonymous().get("/api/health").await.status, 200);
}
