//! The request log: every request is recorded, and none starts that cannot be.

use super::harness::*;
use crate::support::wait::eventually;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::domain::web_app::RequestOutcome;
use portcullis::viewer::html5::Limits;
use portcullis::viewer::stream_end::StreamEnd;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

#[tokio::test]
async fn each_request_is_recorded_once() {
    let (to, _seen) = serve_canned(OK).await;
    let harness = Harness::new(to).await;
    assert_eq!(harness.get("/a?token=secret").await.status(), 200);
    assert_eq!(
        harness
            .request(
                "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
            )
            .await
            .status(),
        200
    );
    let records = harness.records(2).await;
    let brief: Vec<_> = records
        .iter()
        .map(|r| (r.method.as_str(), r.path.as_str(), r.status, r.bytes_in, r.bytes_out, r.outcome))
        .collect();
    assert_eq!(
        brief,
        [
            ("GET", "/a", 200, 0, 2, RequestOutcome::Completed),
            ("POST", "/b", 200, 3, 2, RequestOutcome::Completed)
        ]
    );
}

#[tokio::test]
async fn requests_are_refused_while_the_log_cannot_be_written() {
    let (to, _seen) = serve_canned(OK).await;
    let harness = Harness::new(to).await;
    harness.db.raw("ALTER TABLE app_requests RENAME TO hidden");
    // Requests before the failure was noticed are kept, and written when the store recovers.
    let mut passed = 0;
    let answer = eventually("the failure of the store is noticed", async || {
        let answer = harness.get("/x").await;
        if answer.status() == 503 {
            return Some(answer);
        }
        assert_eq!(answer.status(), 200);
        passed += 1;
        None
    })
    .await;
    assert_eq!((answer.code().as_str(), answer.field("retry-after")), ("not_recorded", Some("2")));
    harness.db.raw("ALTER TABLE hidden RENAME TO app_requests");
    assert_eq!(harness.records(passed).await.len(), passed);
    eventually("requests pass again", async || harness.get("/x").await.status() == 200).await;
}

#[tokio::test]
async fn a_request_waits_for_a_log_slot() {
    let (to, mut connections) = listen().await;
    let made = Setup::default();
    let harness =
        Harness::with_setup(to, Setup { limits: Limits { requests: 2, ..made.limits }, ..made })
            .await;
    let mut browsers = Vec::new();
    for path in ["/1", "/2", "/3"] {
        let mut browser = harness.connect().await;
        browser
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .await
            .unwrap();
        browsers.push(browser);
        if path != "/3" {
            let mut stream = next(&mut connections).await;
            read_head(&mut stream).await;
            browsers.push(stream);
        }
    }
    let [mut first, mut one, _second, _two, mut third] = <[_; 5]>::try_from(browsers).unwrap();
    // Two requests are in progress, so the third does not reach the application.
    assert!(timeout(Duration::from_millis(300), connections.recv()).await.is_err());
    // It closes its connection, so that the third request opens one of its own.
    one.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        .await
        .unwrap();
    drop(one);
    assert_eq!(read_all(&mut first).await.status(), 200);
    let mut three = next(&mut connections).await;
    read_head(&mut three).await;
    three.write_all(OK).await.unwrap();
    assert_eq!(read_all(&mut third).await.status(), 200);
}

#[tokio::test]
async fn closing_is_audited_and_frees_the_slot() {
    let (to, _seen) = serve_canned(OK).await;
    let harness = Harness::new(to).await;
    assert_eq!(harness.get("/").await.status(), 200);
    let viewers = |harness: &Harness| {
        let (broker, caller, id) =
            (harness.fixture.broker.clone(), harness.caller.clone(), harness.session.id);
        async move { broker.sessions().get(&caller, id).await.unwrap().viewers }
    };
    assert_eq!(viewers(&harness).await, 1);
    timeout(TIMEOUT, harness.app.close("idle")).await.unwrap();
    assert!(matches!(harness.app.end(), Some(StreamEnd::Idle)));
    assert_eq!(viewers(&harness).await, 0);
    let closed = harness.entries("close_stream", 1).await.remove(0);
    assert_eq!(
        (closed.reason.as_deref(), &closed.details["bytes_down"]),
        (Some("idle"), &2.into())
    );
    assert_eq!(harness.records(1).await.len(), 1, "written when it closes");
    let page = harness
        .request("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
        .await;
    assert!(page.status() == 410 && page.text().contains("nobody used it"), "{page:?}");
}

#[tokio::test]
async fn it_ends_with_its_login_and_with_its_handle() {
    let (to, _seen) = serve_canned(OK).await;
    let harness = Harness::new(to).await;
    harness
        .fixture
        .broker
        .logins()
        .logout(&crate::broker::fixture::origin(), &harness.caller, false)
        .await
        .unwrap();
    timeout(TIMEOUT, harness.app.ended()).await.unwrap();
    assert!(
        matches!(harness.app.end(), Some(StreamEnd::SignedOut)),
        "{:?}",
        StreamAuthorization::SignedOut
    );

    let harness = Harness::new(to).await;
    let Harness { app, fixture, .. } = harness;
    drop(app);
    eventually("the stream's end is audited", async || {
        fixture.audit_log().await.iter().any(|entry| entry.action == "close_stream")
    })
    .await;
}

#[tokio::test]
async fn draining_ends_the_application() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let mut browser = harness.connect().await;
    browser.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut stream = next(&mut connections).await;
    read_head(&mut stream).await;
    harness.draining.send(true).unwrap();
    let answer = read_all(&mut browser).await;
    assert_eq!((answer.status(), answer.code().as_str()), (410, "gateway_draining"));
    assert_eq!(harness.records(1).await[0].outcome, RequestOutcome::Revoked);
}
