//! Request smuggling: whatever a client sends, the application receives as many requests as the
//! client gets responses for, each with one framing.

use super::AppsGateway;
use super::application::ReceivedRequest;
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A gateway with an application that was entered.
struct EnteredApp {
    gateway: AppsGateway,
    session: String,
    cookie: String,
}

impl EnteredApp {
    async fn new() -> Self {
        // Incomplete requests time out soon.
        let gateway =
            AppsGateway::with(|_, limits| limits.head_timeout = Duration::from_secs(2)).await;
        let member = gateway.app.browser("member").await;
        let session = gateway.launch(&member).await;
        let cookie = gateway.enter(&member, &session).await;
        Self { gateway, session, cookie }
    }

    fn host(&self) -> String {
        AppsGateway::host(&self.session)
    }

    /// Sends bytes, then a plain request that closes the connection; returns the statuses of all
    /// responses.
    async fn send(&self, attack: &[u8]) -> Vec<u16> {
        let last = format!(
            "GET /last HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\nConnection: close\r\n\r\n",
            self.host(),
            self.cookie
        );
        self.send_only(&[attack, last.as_bytes()].concat()).await
    }

    async fn send_only(&self, bytes: &[u8]) -> Vec<u16> {
        let mut stream = self.gateway.connect(&self.host(), &[b"http/1.1"]).await;
        let received = tokio::time::timeout(TIMEOUT, async {
            // The connection may be closed before all is sent.
            let _ = stream.write_all(bytes).await;
            let mut received = Vec::new();
            let _ = stream.read_to_end(&mut received).await;
            received
        });
        let received = received.await.expect("the connection is closed in time");
        let text = String::from_utf8_lossy(&received);
        text.split("HTTP/1.").skip(1).map(|response| response[2..5].parse().unwrap()).collect()
    }

    /// A request with unusual fields.
    fn request(&self, method: &str, odd: &str, body: &str) -> Vec<u8> {
        let (host, cookie) = (self.host(), &self.cookie);
        format!("{method} /attack HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n{odd}\r\n{body}")
            .into_bytes()
    }
}

/// One framing, and no line that another parser could read differently.
fn is_sound(seen: &ReceivedRequest) -> bool {
    let (lengths, codings) = (seen.all("content-length"), seen.all("transfer-encoding"));
    let framings = lengths.len() + codings.len();
    let lines = seen.head.matches('\n').count() == seen.head.matches("\r\n").count();
    let folded = seen.head.contains("\n ") || seen.head.contains("\n\t");
    framings <= 1
        && lines
        && !folded
        && codings.iter().all(|c| *c == "chunked")
        && seen.all("host").len() == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_is_refused_or_normalized() {
    let entered = EnteredApp::new().await;
    let long = format!("X-Long: {}\r\n", "a".repeat(70_000));
    let many = (0..10_000).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let over_many = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    // Name, fields, body, and whether it must be refused.
    let corpus: Vec<(&str, &str, &str, bool)> = vec![
        ("CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", false),
        (
            "TE.CL",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "1\r\nx\r\n0\r\n\r\n",
            false,
        ),
        (
            "TE.TE",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "0\r\n\r\n",
            true,
        ),
        (
            "TE twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            true,
        ),
        ("TE of two", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n", true),
        ("TE x", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", true),
        ("TE space before colon", "Transfer-Encoding : chunked\r\n", "0\r\n\r\n", true),
        ("TE tab", "Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n", false),
        ("TE vertical tab", "Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n", true),
        ("TE quoted", "Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n", true),
        ("TE null", "Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n", true),
        ("TE not last", "Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n", true),
        ("TE folded", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n", true),
        ("folded", "X-A: 1\r\n 2\r\n", "", true),
        ("folded first", " X-A: 1\r\n", "", true),
        ("bare LF", "X-A: 1\nX-B: 2\r\n", "", false),
        ("bare CR", "X-A: 1\rX-B: 2\r\n", "", true),
        ("two lengths", "Content-Length: 1\r\nContent-Length: 2\r\n", "xy", true),
        ("the same length twice", "Content-Length: 1\r\nContent-Length: 1\r\n", "x", false),
        ("lengths in a list", "Content-Length: 1, 1\r\n", "x", true),
        ("a signed length", "Content-Length: +1\r\n", "x", true),
        ("a negative length", "Content-Length: -1\r\n", "x", true),
        ("a hexadecimal length", "Content-Length: 0x1\r\n", "x", true),
        ("an empty length", "Content-Length: \r\n", "", true),
        ("a length past 64 bits", "Content-Length: 18446744073709551617\r\n", "x", true),
        (
            "a chunk past 64 bits",
            "Transfer-Encoding: chunked\r\n",
            "10000000000000001\r\nx\r\n0\r\n\r\n",
            true,
        ),
        ("a chunk without size", "Transfer-Encoding: chunked\r\n", "\r\n\r\n", true),
        ("a signed chunk", "Transfer-Encoding: chunked\r\n", "+1\r\nx\r\n0\r\n\r\n", true),
        ("a hexadecimal chunk", "Transfer-Encoding: chunked\r\n", "0x1\r\nx\r\n0\r\n\r\n", true),
        ("a chunk with a bare LF", "Transfer-Encoding: chunked\r\n", "1\nx\r\n0\r\n\r\n", true),
        (
            "a chunk longer than said",
            "Transfer-Encoding: chunked\r\n",
            "1\r\nxyz\r\n0\r\n\r\n",
            true,
        ),
        (
            "a chunk extension with LF",
            "Transfer-Encoding: chunked\r\n",
            "1;a\n=b\r\nx\r\n0\r\n\r\n",
            true,
        ),
        ("two hosts", "Host: evil.example\r\n", "", true),
        ("10,000 header lines", &many, "", true),
        ("101 header lines", &over_many, "", true),
        ("a long header", &long, "", true),
        ("a name with a space", "X A: 1\r\n", "", true),
        ("an empty name", ": 1\r\n", "", true),
        ("no colon", "Transfer-Encoding\r\n", "", true),
    ];
    for (what, odd, body, refused) in corpus {
        entered.gateway.application.take_requests();
        let statuses = entered.send(&entered.request("POST", odd, body)).await;
        let seen = entered.gateway.application.take_requests();
        assert!(seen.iter().all(is_sound), "{what}: {seen:?}");
        let passed = statuses.iter().filter(|status| **status == 200).count();
        // A body that is truncated may reach the application in part, without a response.
        assert!(seen.len() <= statuses.len().max(1), "{what}: {statuses:?} {seen:?}");
        assert!(seen.len() >= passed, "{what}: {statuses:?} {seen:?}");
        if refused {
            assert_eq!(passed, 0, "{what}: {statuses:?}");
            assert!(statuses.iter().all(|s| [400, 431, 502].contains(s)), "{what}: {statuses:?}");
            if what.contains("chunk") {
                assert_eq!(statuses, [400], "{what}");
            }
            assert!(
                !seen.iter().any(|s| s.line().contains("/last")),
                "{what}: bytes after an invalid request are not parsed"
            );
        } else {
            assert!(passed >= 1, "{what}: {statuses:?}");
        }
        if ["CL.TE", "TE.CL"].contains(&what) {
            // RFC 9112 section 6.1: the connection is closed after such a request.
            assert_eq!((statuses.as_slice(), seen.len()), (&[200][..], 1), "{what}: {seen:?}");
            assert_eq!(seen[0].all("transfer-encoding"), ["chunked"], "{what}: {seen:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_targets_and_hosts() {
    let entered = EnteredApp::new().await;
    let (host, cookie) = (entered.host(), entered.cookie.clone());
    let other = AppsGateway::host(&uuid::Uuid::new_v4().to_string());
    let corpus = [
        (format!("GET https://{host}/absolute HTTP/1.1\r\nHost: {host}\r\n"), 200),
        (format!("GET https://{host}/absolute HTTP/1.1\r\nHost: evil.example\r\n"), 400),
        (format!("GET http://{host}/absolute HTTP/1.1\r\nHost: {host}\r\n"), 400),
        (format!("GET https://{other}/absolute HTTP/1.1\r\nHost: {other}\r\n"), 404),
        (format!("GET https://user@{host}/absolute HTTP/1.1\r\n"), 400),
        (format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n"), 400),
        (format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n"), 400),
        (format!("TRACE / HTTP/1.1\r\nHost: {host}\r\n"), 400),
        ("GET / HTTP/1.1\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost:\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n".to_owned(), 421),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {host} {host}\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {host}/../evil\r\n"), 400),
        (format!("GET / HTTP/1.0\r\nHost: {host}\r\n"), 200),
        (format!("GET / HTTP/2.0\r\nHost: {host}\r\n"), 400),
        (format!("GET  / HTTP/1.1\r\nHost: {host}\r\n"), 400),
        (format!("GET /a b HTTP/1.1\r\nHost: {host}\r\n"), 400),
    ];
    for (head, status) in corpus {
        let request = format!("{head}Cookie: {cookie}\r\nConnection: close\r\n\r\n");
        assert_eq!(entered.send_only(request.as_bytes()).await, [status], "{head}");
    }
    let seen = entered.gateway.application.take_requests();
    assert!(seen.iter().all(is_sound), "{seen:?}");
    assert!(seen.iter().all(|s| !s.head.contains("evil.example")));
    assert!(
        seen.iter().any(|s| s.line() == "GET /absolute HTTP/1.1"),
        "a target with a host becomes a path: {seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_authority_and_host_must_agree() {
    let entered = EnteredApp::new().await;
    let host = entered.host();
    let stream = entered.gateway.connect(&host, &[b"h2"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let elsewhere = AppsGateway::host(&uuid::Uuid::new_v4().to_string());
    for (authority, named, status) in [
        (host.as_str(), None, 200),
        (&host, Some(host.as_str()), 200),
        (&host, Some("evil.example"), 400),
        (&host, Some(elsewhere.as_str()), 400),
        (&elsewhere, None, 404),
        ("localhost", None, 421),
        ("evil.example", Some(host.as_str()), 400),
    ] {
        let mut request = hyper::Request::get(format!("https://{authority}/h2"))
            .header("cookie", &entered.cookie);
        if let Some(named) = named {
            request = request.header("host", named);
        }
        let answer =
            sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{authority} {named:?}");
    }
    let many = (0..101).fold(hyper::Request::get(format!("https://{host}/")), |request, n| {
        request.header(format!("x-{n}"), "1")
    });
    let answer = sender.send_request(many.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 431);
    let seen = entered.gateway.application.take_requests();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(is_sound), "{seen:?}");
    drop(sender);
    connection.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_request_head_times_out() {
    let entered = EnteredApp::new().await;
    let mut stream = entered.gateway.connect(&entered.host(), &[b"http/1.1"]).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
    let mut received = Vec::new();
    tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut received))
        .await
        .expect("the connection is closed in time")
        .ok();
    assert!(!received.starts_with(b"HTTP/1.1 200"));
    // Half a ClientHello times out, too.
    let mut tcp = tokio::net::TcpStream::connect(entered.gateway.address()).await.unwrap();
    tcp.write_all(&[22, 3, 1, 2]).await.unwrap();
    received.clear();
    tokio::time::timeout(TIMEOUT, tcp.read_to_end(&mut received))
        .await
        .expect("the connection is closed in time")
        .ok();
}
