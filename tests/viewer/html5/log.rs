//! What is written down: every request, and nothing passes that cannot be.

use super::harness::*;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::domain::web_app::RequestOutcome;
use portcullis::viewer::html5::Limits;
use portcullis::viewer::stream_end::StreamEnd;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

#[tokio::test]
async fn each_request_is_one_line() {
    let (to, _seen) = serve_canned(OK).await;
    let rig = Harness::new(to).await;
    assert_eq!(rig.get("/a?token=secret").await.status(), 200);
    assert_eq!(
        rig.request(
            "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
        )
        .await
        .status(),
        200
    );
    let records = rig.records(2).await;
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
async fn what_cannot_be_written_down_does_not_pass() {
    let (to, _seen) = serve_canned(OK).await;
    let rig = Harness::new(to).await;
    rig.db.raw("ALTER TABLE app_requests RENAME TO hidden");
    // Those that came before the store was found wanting are kept, and written when it is well
    // again.
    let mut passed = 0;
    let refused = async {
        loop {
            let answer = rig.get("/x").await;
            if answer.status() == 503 {
                return answer;
            }
            assert_eq!(answer.status(), 200);
            passed += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = timeout(TIMEOUT, refused).await.expect("it is noticed");
    assert_eq!((answer.code().as_str(), answer.field("retry-after")), ("not_recorded", Some("2")));
    rig.db.raw("ALTER TABLE hidden RENAME TO app_requests");
    assert_eq!(rig.records(passed).await.len(), passed);
    let again = async {
        while rig.get("/x").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, again).await.expect("it passes again");
}

#[tokio::test]
async fn a_request_waits_for_a_place_among_those_to_be_written_down() {
    let (to, mut connections) = listen().await;
    let made = Setup::default();
    let rig =
        Harness::with_setup(to, Setup { limits: Limits { requests: 2, ..made.limits }, ..made })
            .await;
    let mut browsers = Vec::new();
    for path in ["/1", "/2", "/3"] {
        let mut browser = rig.connect().await;
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
    // Two are under way, so the third does not reach the application.
    assert!(timeout(Duration::from_millis(300), connections.recv()).await.is_err());
    // It closes, so that the third needs a connection of its own.
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
async fn its_end_is_in_the_books_and_its_place_is_free() {
    let (to, _seen) = serve_canned(OK).await;
    let rig = Harness::new(to).await;
    assert_eq!(rig.get("/").await.status(), 200);
    let viewers = |rig: &Harness| {
        let (broker, caller, id) = (rig.fixture.broker.clone(), rig.caller.clone(), rig.session.id);
        async move { broker.session(&caller, id).await.unwrap().viewers }
    };
    assert_eq!(viewers(&rig).await, 1);
    timeout(TIMEOUT, rig.app.close("idle")).await.unwrap();
    assert!(matches!(rig.app.end(), Some(StreamEnd::Idle)));
    assert_eq!(viewers(&rig).await, 0);
    let closed = rig.entries("close_stream", 1).await.remove(0);
    assert_eq!(
        (closed.reason.as_deref(), &closed.details["bytes_down"]),
        (Some("idle"), &2.into())
    );
    assert_eq!(rig.records(1).await.len(), 1, "written at the end, not a while later");
    let page = rig
        .request("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
        .await;
    assert!(page.status() == 410 && page.text().contains("nobody used it"), "{page:?}");
}

#[tokio::test]
async fn it_ends_with_its_login_and_with_its_handle() {
    let (to, _seen) = serve_canned(OK).await;
    let rig = Harness::new(to).await;
    rig.fixture.broker.logout(&crate::broker::fixture::origin(), &rig.caller, false).await.unwrap();
    timeout(TIMEOUT, rig.app.ended()).await.unwrap();
    assert!(
        matches!(rig.app.end(), Some(StreamEnd::SignedOut)),
        "{:?}",
        StreamAuthorization::SignedOut
    );

    let rig = Harness::new(to).await;
    let Harness { app, fixture: world, .. } = rig;
    drop(app);
    let wait = async {
        while !world.audit_log().await.iter().any(|entry| entry.action == "close_stream") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, wait).await.expect("it is closed in the books");
}

#[tokio::test]
async fn a_gateway_that_goes_away_ends_it() {
    let (to, mut connections) = listen().await;
    let rig = Harness::new(to).await;
    let mut browser = rig.connect().await;
    browser.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut stream = next(&mut connections).await;
    read_head(&mut stream).await;
    rig.draining.send(true).unwrap();
    let answer = read_all(&mut browser).await;
    assert_eq!((answer.status(), answer.code().as_str()), (410, "gateway_draining"));
    assert_eq!(rig.records(1).await[0].outcome, RequestOutcome::Revoked);
}
