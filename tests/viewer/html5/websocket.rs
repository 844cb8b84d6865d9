//! WebSockets: tungstenite or raw bytes at both ends of the proxy.

use super::harness::*;
use futures_util::{SinkExt, StreamExt};
use portcullis::domain::web_app::RequestOutcome;
use portcullis::viewer::html5::Limits;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async_with_config};

type Socket = WebSocketStream<TcpStream>;

/// The application's end of the next WebSocket; it accepts the first subprotocol offered.
async fn accept(connections: &mut mpsc::UnboundedReceiver<TcpStream>) -> (Socket, String) {
    let stream = next(connections).await;
    let mut seen = String::new();
    #[allow(clippy::result_large_err, reason = "tungstenite's own type")]
    let answer = |request: &Request, mut response: Response| {
        seen = format!("{} {:?}", request.uri(), request.headers());
        if let Some(offered) = request.headers().get("sec-websocket-protocol") {
            let first =
                offered.to_str().unwrap().split(',').next().unwrap().trim().parse().unwrap();
            response.headers_mut().insert("sec-websocket-protocol", first);
        }
        response.headers_mut().insert("set-cookie", "ws=1; Domain=corp".parse().unwrap());
        Ok(response)
    };
    let socket = timeout(TIMEOUT, accept_hdr_async(stream, answer)).await.unwrap().unwrap();
    (socket, seen)
}

/// The browser's end.
async fn connect_browser(
    front: SocketAddr,
    fields: &[(&'static str, &str)],
) -> Result<(Socket, tokio_tungstenite::tungstenite::handshake::client::Response), Error> {
    let mut request = "ws://s1.apps.gw.test/kernel?id=secret".into_client_request().unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(front).await.unwrap();
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    timeout(TIMEOUT, client_async_with_config(request, stream, Some(config)))
        .await
        .expect("a handshake in time")
}

/// Both ends.
async fn connect_both(
    harness: &Harness,
    connections: &mut mpsc::UnboundedReceiver<TcpStream>,
) -> (Socket, Socket) {
    let (browser, (application, _)) = tokio::join!(
        connect_browser(harness.proxy, &[("origin", APP_ORIGIN)]),
        accept(connections)
    );
    (browser.unwrap().0, application)
}

async fn receive(socket: &mut Socket) -> Message {
    timeout(TIMEOUT, socket.next())
        .await
        .expect("a message in time")
        .expect("a message")
        .expect("a good one")
}

/// The next message other than ping and pong.
async fn receive_data(socket: &mut Socket) -> Message {
    loop {
        match receive(socket).await {
            Message::Ping(_) | Message::Pong(_) => {}
            other => return other,
        }
    }
}

#[tokio::test]
async fn messages_are_relayed_in_both_directions() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let fields = [
        ("origin", APP_ORIGIN),
        ("sec-websocket-protocol", "v1.kernel, other"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("cookie", "a=1; __Host-portcullis-app=s"),
    ];
    let (browser, (mut application, seen)) =
        tokio::join!(connect_browser(harness.proxy, &fields), accept(&mut connections));
    let (mut browser, response) = browser.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "v1.kernel");
    assert_eq!(response.headers()["set-cookie"], "ws=1");
    assert!(!response.headers().contains_key("sec-websocket-extensions"));
    assert!(
        seen.starts_with("/kernel?id=secret ")
            && !seen.contains("portcullis")
            && !seen.contains("deflate")
            && seen.contains("a=1"),
        "{seen}"
    );
    assert!(seen.contains("x-forwarded-proto") && seen.contains("s1.apps.gw.test"), "{seen}");
    browser.send(Message::text("grüße")).await.unwrap();
    assert_eq!(receive(&mut application).await, Message::text("grüße"));
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let blob = Message::binary(vec![7; size]);
        application.send(blob.clone()).await.unwrap();
        assert_eq!(receive(&mut browser).await, blob, "{size}");
    }
    browser.close(None).await.unwrap();
    assert_eq!(receive(&mut application).await, Message::Close(None));
    let record = harness.records(1).await.remove(0);
    assert_eq!(
        (record.method.as_str(), record.path.as_str(), record.status, record.outcome),
        ("GET", "/kernel", 101, RequestOutcome::Completed)
    );
    assert_eq!(record.bytes_in, 7);
}

#[tokio::test]
async fn pings_and_close_codes_are_relayed() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let (mut browser, mut application) = connect_both(&harness, &mut connections).await;
    application.send(Message::Ping("beat".into())).await.unwrap();
    assert_eq!(receive(&mut browser).await, Message::Ping("beat".into()));
    // The browser sends its pong with its next read or write.
    browser.send(Message::text("x")).await.unwrap();
    let mut pongs = 0;
    while pongs == 0 {
        match receive(&mut application).await {
            Message::Pong(payload) => pongs += usize::from(payload == "beat"),
            other => assert_eq!(other, Message::text("x")),
        }
    }
    let goodbye = CloseFrame { code: CloseCode::Library(4321), reason: "kernel died".into() };
    application.close(Some(goodbye.clone())).await.unwrap();
    assert_eq!(receive_data(&mut browser).await, Message::Close(Some(goodbye)));

    let (mut browser, mut application) = connect_both(&harness, &mut connections).await;
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    browser.close(Some(goodbye.clone())).await.unwrap();
    assert_eq!(receive_data(&mut application).await, Message::Close(Some(goodbye)));
}

#[tokio::test]
async fn a_disconnect_of_one_side_disconnects_the_other() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let (mut browser, application) = connect_both(&harness, &mut connections).await;
    drop(application);
    let end = timeout(TIMEOUT, browser.next()).await.unwrap();
    assert!(!matches!(end, Some(Ok(_))), "no close frame is invented: {end:?}");
    let (browser, mut application) = connect_both(&harness, &mut connections).await;
    drop(browser);
    let end = timeout(TIMEOUT, application.next()).await.unwrap();
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    let mut ends: Vec<_> =
        harness.records(2).await.into_iter().map(|record| record.outcome.as_str()).collect();
    ends.sort_unstable();
    assert_eq!(ends, ["application_gone", "client_gone"]);
}

#[tokio::test]
async fn the_end_of_the_session_closes_it_with_a_reason() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let (mut browser, mut application) = connect_both(&harness, &mut connections).await;
    harness.disconnect().await;
    let Message::Close(Some(said)) = receive(&mut browser).await else { panic!("no close frame") };
    assert_eq!((u16::from(said.code), said.reason.as_str()), (4000, "user_disconnected"));
    assert!(
        matches!(receive(&mut application).await, Message::Close(Some(said)) if said.code == CloseCode::Away)
    );
    assert_eq!(harness.records(1).await[0].outcome, RequestOutcome::Revoked);
    // A later request gets the reason.
    let Err(Error::Http(answer)) = connect_browser(harness.proxy, &[]).await else {
        panic!("it was accepted")
    };
    assert_eq!(answer.status().as_u16(), 410);
}

#[tokio::test]
async fn a_message_that_is_too_long_closes_it() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let (mut browser, mut application) = connect_both(&harness, &mut connections).await;
    let _ = timeout(TIMEOUT, browser.send(Message::binary(vec![0; (16 << 20) + 1]))).await;
    let close = async {
        match application.next().await {
            Some(Ok(Message::Close(frame))) => frame.map(|f| f.code),
            Some(Ok(_)) => panic!("it was relayed"),
            Some(Err(_)) | None => None,
        }
    };
    assert!(matches!(timeout(TIMEOUT, close).await.unwrap(), Some(CloseCode::Away) | None));
    let ended = async {
        loop {
            match browser.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return Some(frame.code),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    };
    // The close frame may be lost while the message is still being sent.
    assert!(matches!(timeout(TIMEOUT, ended).await.unwrap(), Some(CloseCode::Size) | None));
    assert_eq!(harness.records(1).await[0].outcome, RequestOutcome::ClientAborted);
}

/// A WebSocket handshake, without its final empty line.
const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn invalid_handshakes_are_refused() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    for (request, status, code) in [
        (HANDSHAKE.replace("13", "8"), 400, "bad_handshake"),
        (HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400, "bad_handshake"),
        (HANDSHAKE.replace("GET", "POST"), 400, "bad_handshake"),
        (format!("{HANDSHAKE}Origin: https://s2.apps.gw.test\r\n"), 403, "foreign_origin"),
        (format!("{HANDSHAKE}Origin: https://gw.test\r\n"), 403, "foreign_origin"),
        (format!("{HANDSHAKE}Origin: null\r\n"), 403, "foreign_origin"),
    ] {
        let mut browser = harness.connect().await;
        browser.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let head = read_head(&mut browser).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
        let length =
            head.split_once("content-length: ").unwrap().1.lines().next().unwrap().parse().unwrap();
        let page = String::from_utf8(read(&mut browser, length).await).unwrap();
        assert!(page.contains(code), "{page}");
    }
    assert!(connections.try_recv().is_err(), "no request reached the application");
}

#[tokio::test]
async fn other_responses_to_a_handshake_are_forwarded() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let good = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    for (said, status, body) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nlog in".to_owned(), 403, "log in"),
        (format!("{good}Sec-WebSocket-Accept: wrong\r\n\r\n"), 502, "application_garbled"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
                .to_owned(),
            502,
            "application_garbled",
        ),
    ] {
        let mut browser = harness.connect().await;
        browser
            .write_all(format!("{HANDSHAKE}Origin: {APP_ORIGIN}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut stream = next(&mut connections).await;
        read_head(&mut stream).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        let head = read_head(&mut browser).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let length =
            head.split_once("content-length: ").unwrap().1.lines().next().unwrap().parse().unwrap();
        assert!(String::from_utf8(read(&mut browser, length).await).unwrap().contains(body));
    }
}

#[tokio::test]
async fn an_application_without_websocket_framing_is_disconnected() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let (browser, mut stream) = tokio::join!(connect_browser(harness.proxy, &[]), async {
        let mut stream = next(&mut connections).await;
        let head = read_head(&mut stream).await;
        let key = head.split_once("sec-websocket-key: ").unwrap().1.lines().next().unwrap();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        let said = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        // Bytes with reserved bits right after the handshake.
        stream.write_all(&[said.as_bytes(), &[0xff; 64]].concat()).await.unwrap();
        stream
    });
    let (mut browser, _) = browser.unwrap();
    let end = timeout(TIMEOUT, browser.next()).await.unwrap();
    assert!(!matches!(end, Some(Ok(Message::Text(_) | Message::Binary(_)))), "{end:?}");
    let mut rest = Vec::new();
    let _ =
        timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("its connection is closed");
    assert_eq!(harness.records(1).await[0].outcome, RequestOutcome::UpstreamAborted);
}

#[tokio::test]
async fn a_browser_that_reads_nothing_holds_back_the_application() {
    let (to, mut connections) = listen().await;
    let never = Duration::from_secs(3600);
    let harness = Harness::with_setup(
        to,
        Setup {
            limits: Limits { dial: TIMEOUT, head: TIMEOUT, stall: never, requests: 4096 },
            ..Setup::default()
        },
    )
    .await;
    let (mut browser, mut application) = connect_both(&harness, &mut connections).await;
    let blob = vec![7_u8; 256 * 1024];
    let mut sent = 0_usize;
    // The kernel buffers of two connections hold some of it, and the relay little more; then
    // writing blocks.
    loop {
        match timeout(Duration::from_secs(3), application.send(Message::binary(blob.clone()))).await
        {
            Ok(outcome) => outcome.unwrap(),
            Err(_) => break,
        }
        sent += blob.len();
        assert!(sent < 256 << 20, "writing is not blocked");
    }
    // The end of the session does not wait for the blocked write, whose timeout exceeds the test.
    let began = std::time::Instant::now();
    harness.disconnect().await;
    let ended = async { while let Some(Ok(_)) = application.next().await {} };
    timeout(TIMEOUT, ended).await.expect("the application's side has ended");
    println!("cut to the end of the application's WebSocket: {:?}", began.elapsed());
    let ended = async { while let Some(Ok(_)) = browser.next().await {} };
    timeout(TIMEOUT, ended).await.expect("the browser's side has ended");
    assert_eq!(harness.records(1).await[0].outcome, RequestOutcome::Revoked);
}

#[tokio::test]
async fn browser_messages_count_as_use() {
    let (to, mut connections) = listen().await;
    let harness = Harness::new(to).await;
    let (mut browser, mut application) = connect_both(&harness, &mut connections).await;
    let before = harness.app.last_used();
    application.send(Message::text("tick")).await.unwrap();
    assert_eq!(receive(&mut browser).await, Message::text("tick"));
    assert_eq!(harness.app.last_used(), before, "messages of the application do not count as use");
    tokio::time::sleep(Duration::from_millis(5)).await;
    browser.send(Message::text("typed")).await.unwrap();
    assert_eq!(receive(&mut application).await, Message::text("typed"));
    assert!(harness.app.last_used() > before);
}
