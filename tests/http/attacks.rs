//! Attacks on the running gateway: forged tokens, foreign host names, request smuggling, HTTP/2.

use crate::support::app::{TestApp, WORKSPACE};
use crate::support::wait::eventually;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// A token with another header and the same claims.
fn forge(header: &Value, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text = format!("{}.{claims}", encode(header.to_string()));
    let signature = sign(text.as_bytes());
    format!("{text}.{}", encode(signature))
}

on_both! {
    async fn forged_tokens_are_refused(db) {
        use hmac::{Hmac, KeyInit as _, Mac as _};
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let token = member.token();
        let [header, claims, _]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        let kid = serde_json::from_slice::<Value>(&decode(header)).unwrap()["kid"].clone();
        let public = decode(app.anonymous().get("/.well-known/jwks.json").await.json()["keys"][0]["x"].as_str().unwrap());
        let mine = SigningKey::from_bytes(&[5; 32]);
        let signed = |text: &[u8]| mine.sign(text).to_bytes().to_vec();
        let hmac = |text: &[u8]| {
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&public).unwrap();
            mac.update(text);
            mac.finalize().into_bytes().to_vec()
        };
        let forged = [
            ("none", forge(&json!({"alg": "none", "typ": "JWT", "kid": kid}), claims, |_| Vec::new())),
            ("HS256 under the public key", forge(&json!({"alg": "HS256", "typ": "JWT", "kid": kid}), claims, hmac)),
            ("another key under our name", forge(&json!({"alg": "EdDSA", "typ": "JWT", "kid": kid}), claims, signed)),
            ("another key under its name", forge(&json!({"alg": "EdDSA", "typ": "JWT", "kid": "mine"}), claims, signed)),
            ("no name", forge(&json!({"alg": "EdDSA", "typ": "JWT"}), claims, signed)),
            ("its own key", forge(&json!({"alg": "EdDSA", "typ": "JWT", "kid": kid, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": encode(mine.verifying_key())}}), claims, signed)),
        ];
        for (what, token) in &forged {
            let thief = app.anonymous().bearer(token);
            for answer in [thief.get("/api/auth/me").await, thief.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await] {
                assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{what}: {}", answer.body);
            }
            let by_cookie = app.anonymous().header("cookie", &format!("__Host-portcullis={token}")).get("/api/auth/me").await;
            assert_eq!(by_cookie.status, 401, "{what}, as a cookie");
        }
        // The token of an ended login is refused, although signature and expiry are valid.
        assert_eq!(member.post("/api/auth/logout", json!({})).await.status, 200);
        assert_eq!(member.get("/api/auth/me").await.status, 401);
        let refused = app.audit_entries("action=token_refused").await;
        let count = |reason: &str| refused.iter().filter(|e| e["reason"] == reason).count();
        assert!(count("forged") >= forged.len() && count("revoked") == 1, "{refused:?}");
    }
}

/// The response to raw bytes, until the gateway closes or sends nothing more.
async fn raw(app: &TestApp, sent: &[u8]) -> String {
    let tcp = TcpStream::connect(("127.0.0.1", app.port)).await.unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(app.tls.clone())
        .connect("localhost".try_into().unwrap(), tcp)
        .await
        .unwrap();
    tls.write_all(sent).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let mut read_timeout = Duration::from_secs(60);
    while let Ok(Ok(n @ 1..)) = tokio::time::timeout(read_timeout, tls.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..n]);
        read_timeout = Duration::from_millis(700);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_host_names_are_misdirected() {
    let app = TestApp::sqlite().await;
    let ask = async |host: &str, path: &str| {
        raw(
            &app,
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await
    };
    for foreign in ["evil.example", "localhost.evil.example", &format!("evil.example:{}", app.port)]
    {
        for path in [
            "/",
            "/api/auth/me",
            "/viewer/00000000-0000-4000-8000-000000000000",
            "/assets/x.js",
            "/nothing",
        ] {
            let answer = ask(foreign, path).await;
            assert!(
                answer.starts_with("HTTP/1.1 421")
                    && answer.contains("{\"detail\":")
                    && answer.contains("x-request-id"),
                "{foreign} {path}: {answer}"
            );
        }
        assert!(
            ask(foreign, "/api/health").await.starts_with("HTTP/1.1 200"),
            "monitoring may use any host name"
        );
    }
    for ours in ["localhost", "LOCALHOST:1", "127.0.0.1:8443", "[::1]"] {
        assert!(ask(ours, "/api/auth/me").await.starts_with("HTTP/1.1 401"), "{ours}");
    }
    // DNS rebinding: a page of a foreign name can neither sign in nor use a cookie.
    let browser = app.browser("member").await;
    let rebound = browser.header("host", "evil.example").header("origin", "https://evil.example");
    assert_eq!(rebound.get("/api/auth/me").await.status, 421);
    assert_eq!(
        rebound.post("/api/auth/login", json!({"email": "x", "password": "y"})).await.status,
        421
    );
    assert!(
        raw(&app, b"GET /api/auth/me HTTP/1.1\r\nConnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400"),
        "no host at all"
    );
    assert!(
        raw(&app, b"GET /api/auth/me HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400"),
        "two hosts"
    );
    // The absolute form of the request target wins over `Host` (RFC 9112 section 3.2.2).
    assert!(
        raw(&app, b"GET https://evil.example/api/auth/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 421")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn request_smuggling_is_refused() {
    let app = TestApp::sqlite().await;
    const HIDDEN: &str = "GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = |headers: &str, body: &str| {
        format!(
            "POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n{body}"
        )
    };
    let length = HIDDEN.len();
    for (what, request) in [
        (
            "length and chunks",
            post(
                &format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
                &format!("0\r\n\r\n{HIDDEN}"),
            ),
        ),
        (
            "chunks and length",
            post(
                &format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
                &format!("0\r\n\r\n{HIDDEN}"),
            ),
        ),
        (
            "two lengths",
            post(
                &format!("Content-Length: 2\r\nContent-Length: {}\r\n", length + 2),
                &format!("{{}}{HIDDEN}"),
            ),
        ),
        ("a signed length", post("Content-Length: +2\r\n", &format!("{{}}{HIDDEN}"))),
        ("a list of lengths", post("Content-Length: 2, 2\r\n", &format!("{{}}{HIDDEN}"))),
        ("an unknown encoding", post("Transfer-Encoding: cow\r\n", &format!("0\r\n\r\n{HIDDEN}"))),
        (
            "an encoding twice",
            post("Transfer-Encoding: chunked, chunked\r\n", &format!("0\r\n\r\n{HIDDEN}")),
        ),
        (
            "a hidden encoding",
            post("Transfer-Encoding: xchunked\r\nContent-Length: 2\r\n", &format!("{{}}{HIDDEN}")),
        ),
        ("a space before the colon", post("Content-Length : 2\r\n", &format!("{{}}{HIDDEN}"))),
        ("a folded header", post("X: y\r\n Content-Length: 2\r\n", &format!("{{}}{HIDDEN}"))),
        (
            "a bad chunk",
            post("Transfer-Encoding: chunked\r\n", &format!("zz\r\n{{}}\r\n0\r\n\r\n{HIDDEN}")),
        ),
        (
            "a huge chunk",
            post("Transfer-Encoding: chunked\r\n", &format!("fffffffffffffffff\r\n{HIDDEN}")),
        ),
    ] {
        let answer = raw(&app, request.as_bytes()).await;
        let said = statuses(&answer);
        assert!(!said.contains(&"200"), "{what}: the hidden request was answered: {answer}");
        assert!(said.iter().all(|status| status.starts_with('4')), "{what}: {answer}");
        if ["a bad chunk", "a huge chunk"].contains(&what) {
            assert_eq!(said, ["400"], "{what}: {answer}");
        }
    }
    // Two pipelined requests are two. The second one closes the connection, which ends the responses.
    let two = format!("{HIDDEN}{}", HIDDEN.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(statuses(&raw(&app, two.as_bytes()).await), ["200", "200"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_supported_and_refuses_streams() {
    let app = TestApp::sqlite().await;
    let mut tls = (*app.tls).clone();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(("127.0.0.1", app.port)).await.unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls))
        .connect("localhost".try_into().unwrap(), tcp)
        .await
        .unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // The preface and empty settings (RFC 9113 section 3.4).
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut settings = Vec::new();
    while settings.is_empty() {
        let mut head = [0; 9];
        tokio::time::timeout(Duration::from_secs(60), tls.read_exact(&mut head))
            .await
            .unwrap()
            .unwrap();
        let mut body = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        tls.read_exact(&mut body).await.unwrap();
        if head[3] == 4 && head[4] & 1 == 0 {
            settings = body;
        }
    }
    // Extended CONNECT (RFC 8441, setting 8) would bypass the checks of the upgrade.
    assert!(
        !settings.chunks_exact(6).any(|s| s[..2] == [0, 8] && s[2..] != [0; 4]),
        "{settings:?}"
    );
    // A real client on it.
    let member = app.signed_in("member").await;
    let session = member
        .post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({}))
        .await
        .json()["session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    for (path, status) in
        [("/api/auth/me".to_owned(), "200"), (format!("/api/sessions/{session}/stream"), "426")]
    {
        let mut curl = tokio::process::Command::new("curl");
        curl.args([
            "--http2",
            "--insecure",
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_version} %{http_code}",
            "--header",
        ]);
        let done = curl
            .arg(format!("Authorization: Bearer {}", member.token()))
            .arg(format!("{}{path}", app.base))
            .output()
            .await
            .unwrap();
        assert_eq!(String::from_utf8(done.stdout).unwrap(), format!("2 {status}"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_are_limited_per_user() {
    let app = TestApp::sqlite().await;
    let (first, second) = (app.signed_in("member").await, app.signed_in("other").await);
    let mut open = Vec::new();
    let refused = loop {
        let answer = first.open("/api/events").await;
        if answer.status().as_u16() != 200 {
            break answer;
        }
        open.push(answer);
        assert!(open.len() < 100, "no end");
    };
    assert_eq!(refused.status().as_u16(), 429);
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(second.open("/api/events").await.status().as_u16(), 200);
    open.clear();
    // Freed as soon as the server writes an event to the closed connections.
    let mut acts = ["launch", "stop"].into_iter().cycle();
    eventually("connections are free again", async || {
        let act = acts.next().unwrap();
        first.post(&format!("/api/workspaces/{WORKSPACE}/{act}"), json!({})).await;
        first.open("/api/events").await.status().as_u16() == 200
    })
    .await;
}
