//! Opening the WebSocket of a session: tickets, credentials, origins, close codes.

use crate::support::app::{TestApp, WORKSPACE};
use crate::support::client::Client;
use futures_util::StreamExt;
use serde_json::json;
use std::time::Duration;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

pub(super) type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// Opens it, or says with which status it was refused.
pub(super) async fn connect(
    app: &TestApp,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Socket, u16> {
    let mut request = format!("wss://localhost:{}{path}", app.port).into_client_request().unwrap();
    for (name, value) in headers {
        let name = reqwest::header::HeaderName::try_from(*name).unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let tls = Connector::Rustls(app.tls.clone());
    match tokio_tungstenite::connect_async_tls_with_config(request, None, false, Some(tls)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

pub(super) async fn launch(client: &Client) -> String {
    client.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await.json()["session_id"].as_str().unwrap().to_owned()
}

pub(super) async fn ticket(client: &Client, session: &str) -> String {
    let answer = client.post(&format!("/api/sessions/{session}/ticket"), json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    format!("{}?ticket={}", answer["url"].as_str().unwrap(), answer["ticket"].as_str().unwrap())
}

on_both! {
    async fn a_ticket_opens_one_stream_once(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let session = launch(&member).await;
        let url = ticket(&member, &session).await;
        let open = connect(&app, &url, &[("origin", &app.base)]).await.unwrap();
        assert_eq!(connect(&app, &url, &[]).await.unwrap_err(), 401, "used");
        assert_eq!(member.get(&format!("/api/sessions/{session}")).await.json()["viewers"], 1);
        drop(open);

        let late = ticket(&member, &session).await;
        app.advance(Duration::from_secs(31));
        assert_eq!(connect(&app, &late, &[]).await.unwrap_err(), 401, "expired");
        assert_eq!(connect(&app, &format!("/api/sessions/{session}/stream?ticket=x"), &[]).await.unwrap_err(), 401, "unknown");
        let reasons: Vec<_> = app.audit_entries("action=ticket_refused").await.iter().map(|e| e["reason"].as_str().unwrap().to_owned()).collect();
        for reason in ["used", "expired", "unknown"] {
            assert!(reasons.iter().any(|r| r == reason), "{reason} in {reasons:?}");
        }
    }
}

on_both! {
    async fn a_stream_takes_the_layout_of_the_browsers_keyboard(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let session = launch(&member).await;
        let answer = member.post(&format!("/api/sessions/{session}/ticket"), json!({})).await.json();
        assert_eq!(answer["keyboard"], json!(null), "no RDP server, no layout");
        let url = ticket(&member, &session).await;
        for wrong in ["german", "0x", "0x0", "0x123456789", "0x407%00"] {
            assert_eq!(connect(&app, &format!("{url}&keyboard={wrong}"), &[]).await.unwrap_err(), 400, "{wrong}");
        }
        connect(&app, &format!("{url}&keyboard=0x00000407"), &[]).await.expect("the ticket was not used");
    }
}

on_both! {
    async fn a_ticket_is_for_its_session_and_a_session_for_its_owner(db) {
        let app = TestApp::start(db).await;
        let (member, other) = (app.signed_in("member").await, app.signed_in("other").await);
        let (mine, theirs) = (launch(&member).await, launch(&other).await);
        let url = ticket(&member, &mine).await.replace(&mine, &theirs);
        assert_eq!(connect(&app, &url, &[]).await.unwrap_err(), 401, "a ticket of another session");
        let bearer = format!("Bearer {}", other.token());
        let path = format!("/api/sessions/{mine}/stream");
        assert_eq!(connect(&app, &path, &[("authorization", &bearer)]).await.unwrap_err(), 404, "somebody else's session");
        assert_eq!(connect(&app, &path, &[("authorization", "Bearer x")]).await.unwrap_err(), 401);
        assert_eq!(connect(&app, &path, &[]).await.unwrap_err(), 401);
        let own = format!("Bearer {}", member.token());
        connect(&app, &path, &[("authorization", &own)]).await.unwrap();
    }
}

on_both! {
    async fn only_own_pages_may_open_it(db) {
        let app = TestApp::start(db).await;
        let browser = app.browser("member").await;
        let session = launch(&browser).await;
        let path = format!("/api/sessions/{session}/stream");
        let cookie = browser.headers["cookie"].to_str().unwrap().to_owned();
        for foreign in ["https://evil.example", "null", "http://localhost"] {
            assert_eq!(connect(&app, &path, &[("cookie", &cookie), ("origin", foreign)]).await.unwrap_err(), 403, "{foreign}");
            let url = ticket(&browser, &session).await;
            assert_eq!(connect(&app, &url, &[("origin", foreign)]).await.unwrap_err(), 403, "{foreign}, with a ticket");
            connect(&app, &url, &[("origin", &app.base)]).await.expect("a refusal does not use the ticket up");
        }
        assert_eq!(connect(&app, &path, &[("cookie", &cookie)]).await.unwrap_err(), 403, "a cookie without an origin");
        connect(&app, &path, &[("cookie", &cookie), ("origin", &app.base)]).await.unwrap();
        assert!(app.audit_entries("action=access_denied&q=foreign_origin").await.len() >= 6);
    }
}

on_both! {
    async fn a_request_without_upgrade_gets_426(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let session = launch(&member).await;
        let url = ticket(&member, &session).await;
        let answer = app.anonymous().get(&url).await;
        assert_eq!(answer.status, 426);
        assert_eq!(answer.header("upgrade"), "websocket");
        answer.detail();
        connect(&app, &url, &[]).await.expect("the ticket is still good");
    }
}

on_both! {
    async fn the_end_of_the_session_closes_the_stream(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let session = launch(&member).await;
        let mut socket = connect(&app, &ticket(&member, &session).await, &[]).await.unwrap();
        member.post(&format!("/api/sessions/{session}/disconnect"), json!({})).await;
        assert_eq!(close_of(&mut socket).await, (4000, "user_disconnected".to_owned()));

        let session = launch(&member).await;
        let mut socket = connect(&app, &ticket(&member, &session).await, &[]).await.unwrap();
        member.post("/api/auth/logout", json!({})).await;
        assert_eq!(close_of(&mut socket).await, (4001, "signed_out".to_owned()));
    }
}

on_both! {
    async fn graceful_shutdown_closes_streams_with_1001(db) {
        let mut app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let session = launch(&member).await;
        let mut socket = connect(&app, &ticket(&member, &session).await, &[]).await.unwrap();
        let (in_time, close) = tokio::join!(app.stop(), close_of(&mut socket));
        assert_eq!(close.0, 1001);
        assert!(in_time, "an open stream does not hold the gateway up");
    }
}

on_both! {
    async fn too_many_viewers_get_close_code_4003(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let session = launch(&member).await;
        let mut open = Vec::new();
        for _ in 0..4 {
            open.push(connect(&app, &ticket(&member, &session).await, &[]).await.unwrap());
        }
        let mut fifth = connect(&app, &ticket(&member, &session).await, &[]).await.unwrap();
        assert_eq!(close_of(&mut fifth).await, (4003, "too_many_viewers".to_owned()));
        assert_eq!(member.get(&format!("/api/sessions/{session}")).await.json()["viewers"], 4);
        let denied = app.audit_entries("action=open_stream&outcome=denied").await;
        assert_eq!(denied[0]["reason"], "too_many_viewers");
    }
}

async fn close_of(socket: &mut Socket) -> (u16, String) {
    let received = tokio::time::timeout(Duration::from_secs(60), async {
        while let Some(message) = socket.next().await {
            if let Message::Close(frame) = message.unwrap() {
                let frame = frame.expect("says why");
                return (u16::from(frame.code), frame.reason.to_string());
            }
        }
        panic!("closed without a word");
    });
    received.await.unwrap()
}
