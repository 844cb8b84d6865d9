//! Responses: framing, ranges, trailers, event streams, and rewritten heads.

use super::harness::*;
use portcullis::domain::web_app::{Scheme, WebAppConfig};
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn responses_without_a_body_keep_their_declared_length() {
    let (to, mut seen) =
        serve_canned(b"HTTP/1.1 200 OK\r\nContent-Length: 4321\r\nETag: \"x\"\r\n\r\n").await;
    let harness = Harness::new(to).await;
    let answer =
        harness.request("HEAD /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(
        (answer.status(), answer.field("content-length"), answer.raw.len()),
        (200, Some("4321"), 0)
    );
    assert!(seen.recv().await.unwrap().starts_with("HEAD /big HTTP/1.1\r\n"));

    let (to, mut seen) =
        serve_canned(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n")
            .await;
    let harness = Harness::new(to).await;
    let answer = harness
        .request("GET /c HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"x\"\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!((answer.status(), answer.field("etag"), answer.raw.len()), (304, Some("\"x\""), 0));
    assert!(seen.recv().await.unwrap().to_ascii_lowercase().contains("if-none-match: \"x\""));

    let (to, _seen) = serve_canned(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let answer = Harness::new(to)
        .await
        .request("DELETE /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!((answer.status(), answer.raw.len(), answer.field("content-length")), (204, 0, None));
}

#[tokio::test]
async fn targets_and_ranges_are_forwarded_unchanged() {
    let (to, mut seen) = serve_canned(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/5\r\nContent-Length: 2\r\n\r\nbc").await;
    let harness = Harness::new(to).await;
    for target in ["/a%2Fb/../c//d?x=%26&y=[z]", "/%ff%00?q=a+b%20c", "/a;p=1/b?", "*"] {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        let answer = harness.request(&format!("{method} {target} HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(
            (answer.status(), answer.field("content-range"), answer.text().as_str()),
            (206, Some("bytes 1-2/5"), "bc")
        );
        let head = seen.recv().await.unwrap();
        assert!(head.starts_with(&format!("{method} {target} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains("range: bytes=1-2\r\n"), "{head}");
    }
    assert_eq!(harness.dialled.load(Ordering::SeqCst), 1, "the connection is reused");
}

#[tokio::test]
async fn compressed_bodies_are_forwarded_undecoded() {
    // The start of a gzip stream, then bytes that are not gzip: it is not decoded.
    let (to, _seen) = serve_canned(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\n\x1f\x8b\x08\0bomb",
    )
    .await;
    let answer = Harness::new(to).await.get("/").await;
    assert_eq!(
        (answer.field("content-encoding"), &answer.raw[..]),
        (Some("gzip"), &b"\x1f\x8b\x08\0bomb"[..])
    );
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_the_connection() {
    // In HTTP/1.0 the end of the connection ends the body.
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let serve = async {
        let mut stream = next(&mut connections).await;
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold and whole")
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(harness.get("/"), serve);
    assert_eq!(
        (answer.field("transfer-encoding"), answer.text().as_str()),
        (Some("chunked"), "old and whole")
    );
    assert!(answer.head.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn trailers_are_forwarded_in_both_directions() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let serve = async {
        let mut stream = next(&mut connections).await;
        let head = read_head(&mut stream).await;
        let mut body = String::new();
        while !body.contains("0\r\n") || !body.ends_with("\r\n\r\n") {
            body.push(char::from(read(&mut stream, 1).await[0]));
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Set-Cookie\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=1\r\n\r\n")
            .await
            .unwrap();
        (head, body, stream)
    };
    let ask = harness.request(
        "POST / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close, TE\r\nTransfer-Encoding: chunked\r\nTrailer: X-Up, Host\r\n\r\n3;ext=1\r\nabc\r\n0\r\nX-Up: 9\r\nHost: evil\r\n\r\n",
    );
    let (answer, (head, body, _held)) = tokio::join!(ask, serve);
    assert!(head.contains("te: trailers\r\n") && head.contains("connection: te\r\n"), "{head}");
    assert_eq!(body.to_ascii_lowercase(), "3\r\nabc\r\n0\r\nx-up: 9\r\n\r\n");
    let raw = String::from_utf8(answer.raw).unwrap().to_ascii_lowercase();
    assert_eq!(raw, "2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n");
}

#[tokio::test]
async fn event_streams_are_not_buffered_and_end_with_the_session() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let mut browser = harness.connect().await;
    browser.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut stream = next(&mut connections).await;
    read_head(&mut stream).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    assert!(read_head(&mut browser).await.contains("text/event-stream"));
    for n in 0..3 {
        stream.write_all(format!("9\r\ndata: {n}\n\n\r\n").as_bytes()).await.unwrap();
        assert_eq!(read(&mut browser, 14).await, format!("9\r\ndata: {n}\n\n\r\n").as_bytes());
    }
    let used = harness.app.last_used();
    harness.disconnect().await;
    let rest = read_rest(&mut browser).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the response is not complete");
    // The application is disconnected, too.
    assert!(read_rest(&mut stream).await.is_empty());
    assert_eq!(harness.app.last_used(), used, "events of the application do not count as use");
    let gone = harness.get("/more").await;
    assert_eq!((gone.status(), gone.code().as_str()), (410, "user_disconnected"));
    let record = harness.records(1).await.remove(0);
    assert_eq!(
        (record.path.as_str(), record.outcome),
        ("/events", portcullis::domain::web_app::RequestOutcome::Revoked)
    );
    assert_eq!(harness.dialled.load(Ordering::SeqCst), 1, "no request is sent after the end");
}

async fn read_rest(stream: &mut tokio::net::TcpStream) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("it ends");
    rest
}

#[tokio::test]
async fn redirects_and_cookies_are_mapped_to_the_public_origin() {
    let (to, mut seen) =
        serve_canned(b"HTTP/1.1 302 Found\r\nLocation: http://wiki.corp/in?a=b\r\nSet-Cookie: sid=mine; Domain=wiki.corp; Path=/\r\nX-Frame-Options: DENY\r\nContent-Length: 0\r\n\r\n")
            .await;
    let config =
        WebAppConfig { scheme: Scheme::Http, host: "wiki.corp".into(), ..WebAppConfig::default() };
    let harness =
        Harness::with_setup(to, Setup { config, cross_site: true, ..Setup::default() }).await;
    let answer = harness.get("/").await;
    assert_eq!(answer.field("location"), Some("https://s1.apps.gw.test/in?a=b"));
    assert_eq!(
        answer.field("set-cookie"),
        Some("sid=mine; Path=/; SameSite=None; Secure; Partitioned")
    );
    assert_eq!(
        (answer.field("x-frame-options"), answer.field("content-security-policy")),
        (None, Some("frame-ancestors 'self' https://gw.test"))
    );
    let head = seen.recv().await.unwrap();
    assert!(
        head.contains("host: wiki.corp\r\n")
            && head.contains("x-forwarded-host: s1.apps.gw.test\r\n")
            && head.contains("x-forwarded-for: 127.0.0.1\r\n"),
        "{head}"
    );
    // A page of a sibling origin has set a cookie of the same name (cookie tossing).
    harness.request("GET / HTTP/1.1\r\nHost: x\r\nCookie: sid=evil; sid=mine; __Host-portcullis-app=s\r\nConnection: close\r\n\r\n").await;
    let head = seen.recv().await.unwrap();
    assert!(
        head.contains("cookie: sid=mine\r\n")
            && !head.contains("evil")
            && !head.contains("portcullis"),
        "{head}"
    );
}

#[tokio::test]
async fn http2_requests_are_forwarded_likewise() {
    use http_body_util::{BodyExt, Full};
    let (to, mut seen) = serve_canned(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n").await;
    let harness = Harness::new(to).await;
    let io = hyper_util::rt::TokioIo::new(harness.connect().await);
    let (mut asks, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io)
            .await
            .unwrap();
    tokio::spawn(connection);
    for n in 0..3 {
        let request = hyper::Request::post(format!("https://s1.apps.gw.test/h2?{n}"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(Full::new(bytes::Bytes::from_static(b"body")))
            .unwrap();
        let answer = asks.send_request(request).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
        assert!(!answer.headers().contains_key("keep-alive"));
        let whole = answer.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["x-sum"], "7");
        assert_eq!(whole.to_bytes(), "ok");
        let head = seen.recv().await.unwrap();
        assert!(
            head.starts_with(&format!("POST /h2?{n} HTTP/1.1\r\n"))
                && head.contains("cookie: a=1; b=2\r\n")
                && head.ends_with("\r\n\r\nbody"),
            "{head}"
        );
        assert!(
            head.contains("content-length: 4\r\n") && !head.contains("transfer-encoding"),
            "{head}"
        );
    }
}

#[tokio::test]
async fn request_and_response_bodies_stream_concurrently() {
    const SIZE: usize = 8 * 1024 * 1024;
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let serve = async {
        let mut stream = next(&mut connections).await;
        read_head(&mut stream).await;
        let (mut reader, mut writer) = stream.split();
        // It sends the whole response before it has read the whole request.
        let answer = async {
            writer
                .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            writer.write_all(&vec![b'd'; SIZE]).await.unwrap();
        };
        let mut body = vec![0; SIZE];
        let (_, read) = tokio::join!(answer, reader.read_exact(&mut body));
        read.unwrap();
        assert!(body.iter().all(|octet| *octet == b'u'));
        stream
    };
    let ask = async {
        let mut browser = harness.connect().await;
        browser
            .write_all(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        // Like browsers, it reads nothing before everything is sent.
        browser.write_all(&vec![b'u'; SIZE]).await.unwrap();
        read_all(&mut browser).await
    };
    let (_held, answer) = tokio::time::timeout(TIMEOUT, async { tokio::join!(serve, ask) })
        .await
        .expect("neither direction waits for the other");
    assert!(
        answer.status() == 200
            && answer.raw.len() == SIZE
            && answer.raw.iter().all(|octet| *octet == b'd')
    );
}
