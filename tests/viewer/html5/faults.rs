//! Faults of applications: each is distinguished, affects no other request, and yields a response.

use super::harness::*;
use portcullis::domain::web_app::RequestOutcome;
use portcullis::viewer::html5::Limits;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn with_limits(limits: impl FnOnce(&mut Limits)) -> Setup {
    let mut made = Setup::default();
    limits(&mut made.limits);
    made
}

#[tokio::test]
async fn a_missing_response_times_out() {
    let (to, mut connections) = listen().await;
    let harness =
        Harness::with_setup(to, with_limits(|limits| limits.head = Duration::from_millis(300)))
            .await;
    let (answer, mut held) = tokio::join!(harness.get("/"), next(&mut connections));
    assert_eq!((answer.status(), answer.code().as_str()), (504, "application_slow"));
    assert!(answer.text().contains("does not answer"), "{}", answer.text());
    let mut rest = Vec::new();
    held.read_to_end(&mut rest).await.unwrap();
    assert_eq!(harness.records(1).await[0].outcome, RequestOutcome::Failed);
}

#[tokio::test]
async fn a_refused_connection_is_reported() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let harness = Harness::new(gone).await;
    let answer = harness.get("/").await;
    assert_eq!((answer.status(), answer.code().as_str()), (502, "application_refused"));
    assert_eq!(harness.app.probe().await.unwrap_err().code(), "application_refused");
    let page = harness
        .request("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("nothing listens there"));
    assert!(
        page.field("content-security-policy")
            .unwrap()
            .contains("frame-ancestors 'self' https://gw.test")
    );
}

#[tokio::test]
async fn an_unreachable_host_is_distinguished() {
    let dial = crate::viewer::harness::FnDialer(|| {
        Box::pin(std::future::pending::<io::Result<Box<dyn portcullis::viewer::Duplex>>>()) as _
    });
    let made = with_limits(|limits| limits.dial = Duration::from_millis(200));
    let harness = Harness::with_dial(dial, Arc::default(), made).await;
    assert_eq!(harness.get("/").await.code(), "host_unreachable");
}

#[tokio::test]
async fn invalid_responses_are_reported() {
    for (said, code) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], "application_garbled"),
        (b"HTTP/1.1 2OO OK\r\n\r\n", "application_garbled"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "application_garbled"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "application_garbled"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\nx\r\n0\r\n\r\n", "application_garbled"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 0\r\n\r\n", "application_garbled"),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", "application_garbled"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "application_garbled"),
        (b"", "application_hung_up"),
        (b"HTTP/1.1 200 O", "application_hung_up"),
    ] {
        let (to, mut connections) = listen().await;
        let harness = Harness::new(to).await;
        let serve = async {
            let mut stream = next(&mut connections).await;
            read_head(&mut stream).await;
            stream.write_all(said).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let (answer, _held) = tokio::join!(harness.get("/"), serve);
        assert_eq!((answer.status(), answer.code().as_str()), (502, code), "{}", String::from_utf8_lossy(said));
    }
}

#[tokio::test]
async fn a_line_without_a_field_name_is_left_out() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let serve = async {
        let mut stream = next(&mut connections).await;
        read_head(&mut stream).await;
        let said = b"HTTP/1.1 200 OK\r\nX-Odd : 1\r\nno colon\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
        stream.write_all(said).await.unwrap();
        stream
    };
    let (answer, _held) = tokio::join!(harness.get("/"), serve);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert!(!answer.head.to_lowercase().contains("odd"), "{}", answer.head);
    assert!(answer.head.contains("text/plain"), "{}", answer.head);
}

#[tokio::test]
async fn an_unrequested_second_response_is_discarded() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let mut browser = harness.connect().await;
    browser.write_all(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = next(&mut connections).await;
    read_head(&mut first).await;
    first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await.unwrap();
    assert!(read_head(&mut browser).await.contains("200"));
    assert_eq!(read(&mut browser, 3).await, b"one");
    // The connection is closed, so that the next request does not read the second response.
    let mut rest = Vec::new();
    let _ =
        tokio::time::timeout(TIMEOUT, first.read_to_end(&mut rest)).await.expect("it is closed");
    browser.write_all(b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut second = next(&mut connections).await;
    assert!(read_head(&mut second).await.starts_with("GET /2 "));
    second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo").await.unwrap();
    assert!(read_head(&mut browser).await.contains("200"));
    assert_eq!(read(&mut browser, 3).await, b"two");
}

#[tokio::test]
async fn a_truncated_response_is_not_completed() {
    for (said, framing) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..], "content-length"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "transfer-encoding",
        ),
    ] {
        let (to, mut connections) = listen().await;
        let harness = Harness::new(to).await;
        let mut browser = harness.connect().await;
        browser.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut stream = next(&mut connections).await;
        read_head(&mut stream).await;
        stream.write_all(said).await.unwrap();
        drop(stream);
        let answer = read_all(&mut browser).await;
        assert!(answer.field(framing).is_some());
        assert!(!answer.raw.ends_with(b"0\r\n\r\n") && answer.raw.len() < 10, "{answer:?}");
        let record = harness.records(1).await.remove(0);
        assert_eq!((record.outcome, record.status), (RequestOutcome::UpstreamAborted, 200));
    }
}

#[tokio::test]
async fn single_octets_are_forwarded_at_once() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let mut browser = harness.connect().await;
    browser.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut stream = next(&mut connections).await;
    read_head(&mut stream).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await.unwrap();
    assert!(read_head(&mut browser).await.contains("200 OK"));
    for octet in b"alive" {
        stream.write_all(&[*octet]).await.unwrap();
        assert_eq!(read(&mut browser, 1).await, [*octet]);
    }
}

#[tokio::test]
async fn interim_responses_are_skipped() {
    let (to, _seen) =
        serve_canned(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
    let harness = Harness::new(to).await;
    let answer = harness.get("/").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
}

#[tokio::test]
async fn endless_interim_responses_are_rejected() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let serve = async {
        let mut stream = next(&mut connections).await;
        read_head(&mut stream).await;
        // Until the gateway disconnects.
        while stream.write_all(&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(100)).await.is_ok() {}
    };
    let (answer, ()) =
        tokio::time::timeout(TIMEOUT, async { tokio::join!(harness.get("/"), serve) })
            .await
            .expect("it ends");
    assert_eq!((answer.status(), answer.code().as_str()), (502, "application_garbled"));
}

#[tokio::test]
async fn a_closed_idle_connection_is_replaced_once() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    // The first connection serves one request, reads another, and is closed.
    let serve = async {
        let mut first = next(&mut connections).await;
        read_head(&mut first).await;
        first.write_all(ok).await.unwrap();
        read_head(&mut first).await;
        drop(first);
        let mut second = next(&mut connections).await;
        let again = read_head(&mut second).await;
        second.write_all(ok).await.unwrap();
        // A request with a body is sent once: this one fails without a third connection.
        let posted = read_head(&mut second).await;
        drop(second);
        (again, posted)
    };
    let ask = async {
        let mut browser = harness.connect().await;
        for _ in 0..2 {
            browser.write_all(b"GET /again HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            assert!(read_head(&mut browser).await.contains("200 OK"));
            assert_eq!(read(&mut browser, 2).await, b"ok");
        }
        harness.request(
            "POST /once HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        )
        .await
    };
    let ((again, posted), failed) = tokio::join!(serve, ask);
    assert!(again.starts_with("GET /again ") && posted.starts_with("POST /once "));
    assert_eq!(failed.code(), "application_hung_up");
    assert_eq!(harness.dialled.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_incomplete_request_times_out() {
    let (to, mut connections) = listen().await;
    let harness =
        Harness::with_setup(to, with_limits(|limits| limits.head = Duration::from_millis(300)))
            .await;
    let ask = harness.request(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf",
    );
    let (answer, _held) = tokio::join!(ask, next(&mut connections));
    assert_eq!((answer.status(), answer.code().as_str()), (408, "request_incomplete"));
}

#[tokio::test]
async fn an_application_that_reads_nothing_times_out() {
    let (to, mut connections) = listen().await;
    let harness =
        Harness::with_setup(to, with_limits(|limits| limits.stall = Duration::from_millis(300)))
            .await;
    let mut browser = harness.connect().await;
    let feed = tokio::spawn(async move {
        browser.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n").await.unwrap();
        let chunk = [&b"8000\r\n"[..], &[b'x'; 0x8000], b"\r\n"].concat();
        let (mut reader, mut writer) = browser.split();
        let mut answer = Vec::new();
        tokio::select! {
            _ = reader.read_to_end(&mut answer) => {}
            () = async { while writer.write_all(&chunk).await.is_ok() {}; std::future::pending().await } => {}
        }
        answer
    });
    let _held = next(&mut connections).await;
    let answer = tokio::time::timeout(TIMEOUT, feed).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("application_slow"), "{answer}");
}

#[tokio::test]
async fn a_response_with_too_many_fields_is_rejected() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let serve = async {
        let mut stream = next(&mut connections).await;
        read_head(&mut stream).await;
        let fields: String = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect();
        let _ = stream
            .write_all(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n").as_bytes())
            .await;
        stream
    };
    let (answer, _held) = tokio::join!(harness.get("/"), serve);
    assert_eq!((answer.status(), answer.code().as_str()), (502, "application_garbled"));
}

#[tokio::test]
async fn waiting_requests_end_with_the_session() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let asked = async {
        let mut held = next(&mut connections).await;
        read_head(&mut held).await;
        harness.disconnect().await;
        let mut rest = Vec::new();
        held.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "its connection is closed");
    };
    let (answer, ()) = tokio::join!(harness.get("/"), asked);
    assert_eq!((answer.status(), answer.code().as_str()), (410, "user_disconnected"));
    assert_eq!(harness.records(1).await[0].outcome, RequestOutcome::Revoked);

    let (dials, mut dialled) = tokio::sync::mpsc::unbounded_channel();
    let dial = crate::viewer::harness::FnDialer(move || {
        dials.send(()).unwrap();
        Box::pin(std::future::pending::<io::Result<Box<dyn portcullis::viewer::Duplex>>>()) as _
    });
    let harness = Harness::with_dial(dial, Arc::default(), Setup::default()).await;
    let (answer, ()) = tokio::join!(harness.get("/"), async {
        dialled.recv().await.unwrap();
        harness.disconnect().await;
    });
    assert_eq!((answer.status(), answer.code().as_str()), (410, "user_disconnected"));
    assert_eq!(harness.records(1).await[0].outcome, RequestOutcome::Revoked);
}

#[tokio::test]
async fn bytes_on_an_idle_connection_are_discarded() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut browser = harness.connect().await;
    // One connection is closed while idle, another sends a response: neither is used again,
    // although the next request must not be sent twice.
    let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let mut held = Vec::new();
    for (spoils, swept) in [(&b""[..], true), (evil, true), (b"", false), (evil, false)] {
        let post = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
        browser.write_all(post).await.unwrap();
        let mut first = next(&mut connections).await;
        read_head(&mut first).await;
        read(&mut first, 2).await;
        first.write_all(ok).await.unwrap();
        assert!(read_head(&mut browser).await.contains("200 OK"));
        assert_eq!(read(&mut browser, 2).await, b"ok");
        if spoils.is_empty() {
            first.shutdown().await.unwrap();
        } else {
            first.write_all(spoils).await.unwrap();
        }
        if !swept {
            // The next request detects it.
            held.push(first);
            continue;
        }
        // The pool's sweep closes it within seconds.
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(TIMEOUT, first.read_to_end(&mut rest))
            .await
            .expect("it is closed");
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
    browser.write_all(b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut fresh = next(&mut connections).await;
    assert!(read_head(&mut fresh).await.starts_with("GET /2 "));
    fresh.write_all(ok).await.unwrap();
    assert!(read_head(&mut browser).await.contains("200 OK"));
    assert_eq!(
        (read(&mut browser, 2).await, harness.dialled.load(Ordering::SeqCst)),
        (b"ok".to_vec(), 5)
    );
    // Nothing else was sent on those.
    for mut first in held {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(TIMEOUT, first.read_to_end(&mut rest))
            .await
            .expect("it is closed");
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn a_response_may_precede_the_end_of_the_request() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let mut browser = harness.connect().await;
    browser.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\nConnection: close\r\n\r\nsome of it").await.unwrap();
    let mut stream = next(&mut connections).await;
    read_head(&mut stream).await;
    stream
        .write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nless")
        .await
        .unwrap();
    let answer = read_all(&mut browser).await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "less"));
    // The rest of the request is not read any more.
    let mut rest = Vec::new();
    let _ =
        tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("it is closed");
    assert_eq!(rest, b"some of it");
}
