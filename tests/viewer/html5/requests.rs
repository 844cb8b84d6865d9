//! Requests: policy, `100 Continue`, identity and sign-in headers.

use super::harness::*;
use base64::Engine as _;
use portcullis::domain::secret::SecretString;
use portcullis::domain::upstream::{Credential, CredentialSource, Upstream};
use portcullis::domain::web_app::{
    IdentityForwarding, RequestOutcome, RequestPolicy, UpstreamSignIn, WebAppConfig,
};
use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;

fn with_policy(requests: RequestPolicy) -> WebAppConfig {
    WebAppConfig { requests, ..WebAppConfig::default() }
}

#[tokio::test]
async fn refused_requests_are_not_sent_and_are_audited() {
    let (to, mut seen) = serve_canned(OK).await;
    let rules = RequestPolicy {
        methods: vec!["GET".into(), "POST".into()],
        paths: vec!["/wiki".into()],
        upload: false,
        download: true,
        max_request: 10,
    };
    let harness = Harness::with_config(to, with_policy(rules)).await;
    for (request, status, code) in [
        ("DELETE /wiki/a?secret=1 HTTP/1.1\r\nHost: x\r\n", 405, "method_not_allowed"),
        ("TRACE /wiki HTTP/1.1\r\nHost: x\r\n", 405, "method_not_allowed"),
        ("GET /admin HTTP/1.1\r\nHost: x\r\n", 403, "path_not_allowed"),
        ("GET /wiki/%2e%2e/admin HTTP/1.1\r\nHost: x\r\n", 403, "path_not_allowed"),
        (
            "POST /wiki HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 3\r\n",
            403,
            "upload_not_allowed",
        ),
        (
            "POST /wiki HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n",
            413,
            "request_too_large",
        ),
    ] {
        let answer = harness.request(&format!("{request}Connection: close\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.code().as_str()), (status, code), "{request}");
        if status == 405 {
            assert_eq!(answer.field("allow"), Some("GET, POST"));
        }
    }
    assert_eq!(harness.dialled.load(Ordering::SeqCst), 0, "no request was sent");
    assert_eq!(harness.get("/wiki").await.status(), 200);
    assert!(seen.recv().await.unwrap().starts_with("GET /wiki "));
    let records = harness.records(7).await;
    assert_eq!(
        records.iter().filter(|record| record.outcome == RequestOutcome::Refused).count(),
        6
    );
    assert!(records.iter().all(|record| !record.path.contains("secret")));
    let mut kinds: Vec<(String, u64)> = Vec::new();
    let mut counted = 0;
    while counted < 6 {
        kinds = harness
            .entries("request_refused", 1)
            .await
            .iter()
            .map(|e| (e.reason.clone().unwrap(), e.details["count"].as_u64().unwrap()))
            .collect();
        counted = kinds.iter().map(|(_, count)| count).sum();
    }
    kinds.sort();
    kinds.dedup_by_key(|(kind, _)| kind.clone());
    assert_eq!(
        kinds.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(),
        ["method", "path", "size", "upload"]
    );
}

#[tokio::test]
async fn a_body_that_exceeds_the_limit_is_aborted() {
    let (to, mut connections) = listen().await;
    let harness = Harness::with_config(
        to,
        with_policy(RequestPolicy { max_request: 5, ..RequestPolicy::default() }),
    )
    .await;
    let ask =
        harness.request("POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nfour\r\n4\r\nmore\r\n0\r\n\r\n");
    let (answer, mut stream) = tokio::join!(ask, next(&mut connections));
    assert_eq!((answer.status(), answer.code().as_str()), (413, "request_too_large"));
    let got = read_all_text(&mut stream).await;
    assert!(!got.contains("more") && !got.ends_with("0\r\n\r\n"), "{got}");
    let entry = harness.entries("request_refused", 1).await.remove(0);
    assert_eq!(
        (entry.reason.as_deref(), entry.details["path"].as_str()),
        (Some("size"), Some("/up"))
    );
}

async fn read_all_text(stream: &mut tokio::net::TcpStream) -> String {
    use tokio::io::AsyncReadExt;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("it ends");
    String::from_utf8(rest).unwrap()
}

#[tokio::test]
async fn downloads_are_refused() {
    let (to, _seen) = serve_canned(b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=pay.pdf\r\nContent-Length: 6\r\n\r\nsecret").await;
    let harness = Harness::with_config(
        to,
        with_policy(RequestPolicy { download: false, ..RequestPolicy::default() }),
    )
    .await;
    let answer = harness.get("/pay.pdf").await;
    assert_eq!((answer.status(), answer.code().as_str()), (403, "download_not_allowed"));
    assert!(!answer.text().contains("secret"));
    let entry = harness.entries("request_refused", 1).await.remove(0);
    assert_eq!((entry.reason.as_deref(), &entry.details["bytes"]), (Some("download"), &6.into()));
}

#[tokio::test]
async fn a_body_waits_for_100_continue() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let mut browser = harness.connect().await;
    browser.write_all(b"PUT /f HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut stream = next(&mut connections).await;
    let head = read_head(&mut stream).await;
    assert!(
        head.contains("expect: 100-continue\r\n") && head.contains("content-length: 4\r\n"),
        "{head}"
    );
    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert_eq!(read_head(&mut browser).await, "HTTP/1.1 100 Continue\r\n\r\n");
    browser.write_all(b"body").await.unwrap();
    assert_eq!(read(&mut stream, 4).await, b"body");
    stream.write_all(OK).await.unwrap();
    assert_eq!(read_all(&mut browser).await.status(), 200);
}

#[tokio::test]
async fn a_body_is_not_requested_after_a_final_response() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let mut browser = harness.connect().await;
    browser.write_all(b"PUT /f HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut stream = next(&mut connections).await;
    read_head(&mut stream).await;
    stream
        .write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
        .await
        .unwrap();
    let answer = read_all(&mut browser).await;
    assert_eq!((answer.status(), answer.text().as_str()), (417, "no"));
}

#[tokio::test]
async fn identity_headers_are_added() {
    let (to, mut seen) = serve_canned(OK).await;
    let identity = IdentityForwarding { headers: true, assertion_audience: Some("wiki".into()) };
    let config =
        WebAppConfig { identity, sign_in: UpstreamSignIn::Basic, ..WebAppConfig::default() };
    let credential = Credential {
        username: "svc".into(),
        domain: String::new(),
        password: SecretString::new("pä:ss".into()),
    };
    let server = Box::new(|server: Upstream| Upstream { credential: Some(credential), ..server });
    let harness = Harness::with_setup(to, Setup { config, server, ..Setup::default() }).await;
    let forged = "X-Forwarded-User: root\r\nX_Forwarded_User: root\r\nX-Portcullis-Assertion: forged\r\nAuthorization: Basic forged\r\n";
    let answer = harness
        .request(&format!("GET / HTTP/1.1\r\nHost: x\r\n{forged}Connection: close\r\n\r\n"))
        .await;
    assert_eq!(answer.status(), 200);
    let head = seen.recv().await.unwrap();
    assert!(!head.contains("root") && !head.contains("forged"), "{head}");
    let basic = base64::engine::general_purpose::STANDARD.encode("svc:pä:ss");
    for line in [
        "x-forwarded-user: ada@example.com",
        "x-forwarded-name: ada",
        "x-forwarded-groups: member",
        &format!("authorization: Basic {basic}"),
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
    }
    let token = |head: &str| {
        head.split_once("x-portcullis-assertion: ").unwrap().1.lines().next().unwrap().to_owned()
    };
    let first = token(&head);
    harness.get("/").await;
    assert_eq!(token(&seen.recv().await.unwrap()), first, "an assertion is reused");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(first.split('.').nth(1).unwrap())
        .unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["aud"], &claims["email"]), (&"wiki".into(), &"ada@example.com".into()));
}

#[tokio::test]
async fn a_refused_sign_in_is_audited_without_a_browser_prompt() {
    let (to, mut seen) = serve_canned(
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno",
    )
    .await;
    let config = WebAppConfig {
        sign_in: UpstreamSignIn::Header("x-api-key".into()),
        ..WebAppConfig::default()
    };
    let server = Box::new(|server: Upstream| Upstream {
        credential: Some(Credential::password(SecretString::new("key-1".into()))),
        ..server
    });
    let harness = Harness::with_setup(to, Setup { config, server, ..Setup::default() }).await;
    for _ in 0..3 {
        let answer = harness.get("/").await;
        assert_eq!((answer.status(), answer.field("www-authenticate")), (401, None));
        assert!(seen.recv().await.unwrap().contains("x-api-key: key-1\r\n"));
    }
    assert_eq!(harness.entries("login_refused", 1).await.len(), 1);
}

#[tokio::test]
async fn without_a_credential_no_request_is_sent() {
    let (to, _seen) = serve_canned(OK).await;
    let config = WebAppConfig { sign_in: UpstreamSignIn::Basic, ..WebAppConfig::default() };
    let server = Box::new(|server: Upstream| Upstream {
        credential: None,
        credential_source: CredentialSource::User,
        ..server
    });
    let harness = Harness::with_setup(to, Setup { config, server, ..Setup::default() }).await;
    let answer = harness.get("/").await;
    assert_eq!((answer.status(), answer.code().as_str()), (403, "credential_required"));
    assert_eq!(harness.dialled.load(Ordering::SeqCst), 0);
}
