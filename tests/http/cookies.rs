//! Cookies that another page set: none is taken for the gateway's, and none keeps anybody out.

use crate::support::app::{APPS_DOMAIN, TestApp};
use crate::support::client::{Answer, Client};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::http::api::definition::Access;
use portcullis::http::api::workspaces;
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The value of a cookie in a `Cookie` header.
fn value_of(client: &Client, name: &str) -> String {
    let all = client.headers["cookie"].to_str().unwrap();
    let found = all.split("; ").find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    found.unwrap_or_else(|| panic!("{name} in {all}")).to_owned()
}

fn with_more(client: &Client, first: &str) -> Client {
    let own = client.headers["cookie"].to_str().unwrap();
    client.header("cookie", &format!("{first}; {own}"))
}

async fn email(client: &Client) -> (u16, String) {
    let me = client.get("/api/auth/me").await;
    (me.status, me.json()["email"].as_str().unwrap_or_default().to_owned())
}

async fn refresh(client: &Client) -> Answer {
    client.send(Method::POST, "/api/auth/refresh", None).await
}

fn removed(answer: &Answer) -> Vec<String> {
    let removals = answer.set_cookies().into_iter().filter(|c| c.contains("Max-Age=0"));
    removals.map(|c| c.split('=').next().unwrap().to_owned()).collect()
}

const ALL: [&str; 4] = [
    "__Host-portcullis",
    "__Host-portcullis-refresh",
    "__Secure-portcullis-refresh",
    "__Host-portcullis-here",
];

#[tokio::test(flavor = "multi_thread")]
async fn names_are_not_decoded_and_other_cookies_hide_nothing() {
    let app = TestApp::sqlite().await;
    let other = app.browser("other").await;
    let theirs = ["__Host-portcullis", "__Host-portcullis-refresh"].map(|n| value_of(&other, n));
    // Any page of the parent domain may set such names; with a longer path they come first.
    for (access, renewal) in [
        ("__Host%2Dportcullis", "__Host%2Dportcullis-refresh"),
        ("__Host-portculli%73", "__Host-portcullis-refres%68"),
        ("__host-portcullis", "__host-portcullis-refresh"),
        ("__Secure-portcullis", "__Secure-portcullis-refresh"),
    ] {
        let tossed = format!("{access}={}; {renewal}={}", theirs[0], theirs[1]);
        let alone = app.anonymous().header("cookie", &tossed);
        assert_eq!(alone.get("/api/auth/me").await.status, 401, "{access}");
        let alone = alone.header("origin", &app.base).header("x-portcullis-csrf", "1");
        assert_eq!(refresh(&alone).await.status, 401, "{renewal}");
        let member = with_more(&app.browser("member").await, &tossed);
        assert_eq!(email(&member).await, (200, "member@example.test".to_owned()), "{access}");
        let renewed = refresh(&member).await;
        assert_eq!(renewed.status, 200, "{renewal}: {}", renewed.body);
        assert_eq!(renewed.json()["user"]["email"], "member@example.test", "{renewal}");
    }
    let member = app.browser("member").await;
    for cookie in ["x=%ff", "%=%", "=", "x", "a\u{e9}=\u{e9}", ";;"] {
        assert_eq!(email(&with_more(&member, cookie)).await.0, 200, "{cookie:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_of_the_gateway_twice_is_refused_on_every_route_that_reads_it() {
    let app = TestApp::sqlite().await;
    let member = app.browser("member").await;
    let doubled = with_more(&member, "__Host-portcullis=x");
    let is_refused = |what: &str, answer: &Answer| {
        assert_eq!(answer.status, 400, "{what}: {}", answer.body);
        assert!(answer.detail().contains("twice"), "{what}: {}", answer.body);
        assert_eq!(answer.header("clear-site-data"), "\"cookies\"", "{what}");
        assert_eq!(removed(answer), ALL, "{what}");
    };
    let mut asked = 0;
    for route in &workspaces::api().routes {
        let reads = ["refresh", "enrollTotp", "confirmTotp"].contains(&&*route.operation_id);
        if route.access != Access::Authenticated && !reads {
            continue;
        }
        let path = route.path.replace("{id}", "00000000-0000-4000-8000-000000000000");
        let method = Method::from_bytes(route.method.as_str().as_bytes()).unwrap();
        let body = match &*route.operation_id {
            "confirmTotp" => Some(b"{\"code\":\"000000\"}".to_vec()),
            _ => None,
        };
        is_refused(&path, &doubled.send(method, &path, body).await);
        asked += 1;
    }
    assert!(asked > 30, "{asked}");
    for cookie in ["__Host-portcullis-refresh=x", "__Host-portcullis-refresh="] {
        is_refused(cookie, &refresh(&with_more(&member, cookie)).await);
    }
    let twice = "__Host-portcullis-browser=a; __Host-portcullis-browser=b";
    let (login, body) = ("/api/auth/login", json!({"email": "x@example.test", "password": "x"}));
    is_refused(login, &app.anonymous().header("cookie", twice).post(login, body).await);
    let stream = "/api/sessions/00000000-0000-4000-8000-000000000000/stream";
    let upgrade = doubled.header("connection", "upgrade").header("upgrade", "websocket");
    is_refused(stream, &upgrade.get(stream).await);
    let denied = app.audit_entries("action=access_denied").await;
    assert!(denied.iter().any(|e| e["reason"] == "cookie_repeated"), "{denied:?}");
    // A bearer token is what the client chose: its cookies are not read.
    let program =
        app.signed_in("other").await.header("cookie", "__Host-portcullis=a; __Host-portcullis=b");
    assert_eq!(email(&program).await, (200, "other@example.test".to_owned()));
    assert_eq!(email(&member).await.0, 200, "the login is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_two_logins_are_refused() {
    let app = TestApp::sqlite().await;
    let (member, other) = (app.browser("member").await, app.browser("other").await);
    let tossed = format!(
        "__Host-portcullis={}; __Host-portcullis-refresh={}; __Host-portcullis-here=1",
        value_of(&member, "__Host-portcullis"),
        value_of(&other, "__Host-portcullis-refresh")
    );
    let mixed = member.header("cookie", &tossed);
    let refused = refresh(&mixed).await;
    assert_eq!((refused.status, removed(&refused)), (401, ALL.map(str::to_owned).to_vec()));
    // Also when the access token is past its time, and when it is none of ours.
    app.advance(Duration::from_secs(700));
    assert_eq!(refresh(&mixed).await.status, 401);
    let forged = tossed.replace("__Host-portcullis=", "__Host-portcullis=x");
    assert_eq!(refresh(&member.header("cookie", &forged)).await.status, 401);
    let reasons: Vec<_> = app
        .audit_entries("action=token_refused")
        .await
        .iter()
        .map(|e| e["reason"].clone())
        .collect();
    assert_eq!(reasons.iter().filter(|reason| *reason == "other_login").count(), 2, "{reasons:?}");
    // Neither login suffered, and an expired access token of the same login does not matter.
    for (client, name) in [(member, "member"), (other, "other")] {
        let renewed = refresh(&client).await;
        assert_eq!(renewed.status, 200, "{name}: {}", renewed.body);
        assert_eq!(renewed.json()["user"]["email"], format!("{name}@example.test"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refresh_cookie_of_earlier_versions_is_not_read_and_removed() {
    let app = TestApp::sqlite().await;
    let member = app.browser("member").await;
    let token = value_of(&member, "__Host-portcullis-refresh");
    let old = member.header("cookie", &format!("__Secure-portcullis-refresh={token}"));
    let refused = refresh(&old).await;
    assert_eq!((refused.status, removed(&refused)), (401, ALL.map(str::to_owned).to_vec()));
    // A page of another site cannot have the cookies removed.
    let foreign = refresh(&old.without("x-portcullis-csrf")).await;
    assert_eq!((foreign.status, foreign.set_cookies().len()), (401, 0));
    let renewed = refresh(&with_more(&member, "__Secure-portcullis-refresh=old")).await;
    assert_eq!((renewed.status, removed(&renewed)), (200, vec![ALL[2].to_owned()]));
    let old = renewed.set_cookies().pop().unwrap();
    assert!(old.contains("Path=/api/auth"), "{old}");
}

/// Cookies of 4 KiB, as a script can set them for a parent domain.
fn cookies_of_4k(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("c{n}={}", "v".repeat(4090))).collect()
}

/// A response, from one of two HTTP versions.
struct Refusal {
    status: u16,
    head: String,
    body: String,
}

pub async fn connect(app: &TestApp, name: &str, alpn: &[u8]) -> TlsStream<TcpStream> {
    let mut tls = (*app.tls).clone();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(("127.0.0.1", app.port)).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap()
}

async fn ask_http1(
    app: &TestApp,
    name: &str,
    path: &str,
    accept: &str,
    cookies: &[String],
) -> Refusal {
    let mut stream = connect(app, name, b"http/1.1").await;
    let cookies = cookies.join("; ");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {name}\r\nAccept: {accept}\r\nCookie: {cookies}\r\n\r\n"
    );
    // As browsers do, the client sends all of it before it reads.
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
            if body.len() >= length {
                let status = head[9..12].parse().unwrap();
                return Refusal { status, head, body: body.to_owned() };
            }
        }
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut part)).await;
        let read = read.expect("a response in time").unwrap();
        assert!(read > 0, "the connection ended after {text:?}");
        answer.extend_from_slice(&part[..read]);
    }
}

async fn ask_http2(
    app: &TestApp,
    name: &str,
    path: &str,
    accept: &str,
    cookies: &[String],
) -> Refusal {
    let stream = connect(app, name, b"h2").await;
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driven = tokio::spawn(connection);
    let mut request =
        hyper::Request::get(format!("https://{name}:{}{path}", app.port)).header("accept", accept);
    for cookie in cookies {
        request = request.header("cookie", cookie);
    }
    let response =
        requests.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let head = format!("{:?}", parts.headers).replace("\\\"", "\"");
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    driven.abort();
    Refusal { status: parts.status.as_u16(), head, body }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_cookies_are_explained_and_removed() {
    let app = TestApp::sqlite().await;
    let session = format!("{}.{APPS_DOMAIN}", uuid::Uuid::new_v4());
    for name in ["localhost", &session] {
        for count in [17, 31, 50, 180] {
            let cookies = cookies_of_4k(count);
            for accept in ["text/html,*/*;q=0.8", "*/*"] {
                for version in [1, 2] {
                    let what = format!("{name} HTTP/{version} {accept}, {count} cookies");
                    let refused = match version {
                        1 => ask_http1(&app, name, "/api/auth/me", accept, &cookies).await,
                        _ => ask_http2(&app, name, "/api/auth/me", accept, &cookies).await,
                    };
                    assert_eq!(refused.status, 431, "{what}: {}", refused.body);
                    assert!(refused.head.contains("clear-site-data"), "{what}: {}", refused.head);
                    assert!(refused.head.contains("\"cookies\""), "{what}: {}", refused.head);
                    assert!(refused.body.contains("sign in again"), "{what}: {}", refused.body);
                    let is_page = refused.body.starts_with("<!doctype html>");
                    assert_eq!(is_page, accept.contains("html"), "{what}");
                    if !is_page {
                        let body: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
                        assert!(body["detail"].is_string() && body.as_object().unwrap().len() == 1);
                    }
                }
            }
        }
    }
    assert_eq!(app.anonymous().get("/api/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_large_heads_remove_no_cookies() {
    let app = TestApp::sqlite().await;
    let session = format!("{}.{APPS_DOMAIN}", uuid::Uuid::new_v4());
    // A page of another site can have its visitors ask for any address.
    let path = format!("/{}", "p".repeat(60_000));
    let cookies = cookies_of_4k(4);
    for name in ["localhost", &session] {
        for version in [1, 2] {
            let refused = match version {
                1 => ask_http1(&app, name, &path, "*/*", &cookies).await,
                _ => ask_http2(&app, name, &path, "*/*", &cookies).await,
            };
            assert_eq!(refused.status, 431, "{name} {version}: {}", refused.body);
            assert!(refused.body.contains("longer than this gateway accepts"), "{}", refused.body);
            assert!(
                !refused.head.contains("clear-site-data"),
                "{name} {version}: {}",
                refused.head
            );
        }
    }
    let long = format!("/{}", "p".repeat(200_000));
    let refused = ask_http1(&app, "localhost", &long, "*/*", &cookies).await;
    assert!(!refused.head.contains("clear-site-data"), "{}", refused.head);
}
