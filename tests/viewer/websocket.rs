//! The same over real WebSockets: an actix server, tokio-tungstenite as the browser, and one that
//! is a bare socket.

use super::harness::{INIT, PIPE_CAPACITY, authenticate_desktop, is_closed, read, server_init};
use super::websocket_gateway::{CLOSE_DEADLINE, END_TIMEOUT, Gateway, receive, receive_close};
use crate::support::vnc::over_websocket;
use crate::support::wait::within;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::{SinkExt, StreamExt};
use portcullis::broker::core::stream_registry::{StreamAuthorization, StreamMeters};
use portcullis::domain::session::EndReason;
use portcullis::viewer::socket_shutdown::{SocketShutdown, on_connect};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

#[actix_web::test]
async fn a_stream_from_handshake_to_close() {
    let mut gateway = Gateway::start().await;
    let (mut socket, mut desktop) = gateway.joined().await;
    socket.send(Message::binary(&b"\x01"[..])).await.unwrap();
    assert_eq!(read(&mut desktop, 1).await, [1]);
    desktop.write_all(b"pixels").await.unwrap();
    assert_eq!(receive(&mut socket).await, b"pixels");
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    assert_eq!(gateway.end_reason().await, "browser_closed");
    assert!(is_closed(&mut desktop).await);
    assert_eq!(gateway.meters.down.load(Ordering::Relaxed), 6);
    assert!(gateway.meters.rtt().is_some(), "the first ping goes out at once");
    gateway.stop().await;
}

#[actix_web::test]
async fn fragments_are_forwarded_as_a_stream() {
    let mut gateway = Gateway::start().await;
    let (mut socket, mut desktop) = gateway.joined().await;
    for (opcode, last, text) in [
        (Data::Binary, false, "one "),
        (Data::Continue, false, "two "),
        (Data::Continue, true, "three"),
    ] {
        let header = FrameHeader {
            is_final: last,
            opcode: OpCode::Data(opcode),
            mask: Some([1, 2, 3, 4]),
            ..FrameHeader::default()
        };
        socket.send(Message::Frame(Frame::from_payload(header, text.into()))).await.unwrap();
    }
    assert_eq!(read(&mut desktop, 13).await, b"one two three");
    gateway.stop().await;
}

#[actix_web::test]
async fn a_text_frame_ends_it() {
    let mut gateway = Gateway::start().await;
    let (mut socket, mut desktop) = gateway.joined().await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(
        receive_close(&mut socket).await,
        (1003, "Only binary frames are spoken here.".into())
    );
    assert_eq!(gateway.end_reason().await, "text_frame");
    assert!(is_closed(&mut desktop).await);

    let (mut socket, _desktop) = gateway.browser().await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(receive_close(&mut socket).await.0, 1003, "before the handshake, too");
    gateway.stop().await;
}

#[actix_web::test]
async fn a_giant_frame_ends_it() {
    let mut gateway = Gateway::start().await;
    let (mut socket, mut desktop) = gateway.joined().await;
    let reader = tokio::spawn(async move {
        let mut got = vec![0; 1024 * 1024];
        desktop.read_exact(&mut got).await.unwrap();
        desktop
    });
    socket.send(Message::binary(vec![1; 1024 * 1024])).await.unwrap();
    let mut desktop = reader.await.unwrap();
    let _ = socket.send(Message::binary(vec![2; 1024 * 1024 + 1])).await;
    assert_eq!(receive_close(&mut socket).await, (1009, "The frame is too big.".into()));
    assert_eq!(gateway.end_reason().await, "frame_too_big");
    assert!(is_closed(&mut desktop).await);
    gateway.stop().await;
}

#[actix_web::test]
async fn an_invalid_frame_ends_it() {
    let mut gateway = Gateway::start().await;
    let (mut socket, _desktop) = gateway.joined().await;
    let MaybeTlsStream::Plain(tcp) = socket.get_mut() else { panic!("plain") };
    // Reserved opcode 3.
    tcp.write_all(&[0x83, 0x80, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(receive_close(&mut socket).await.0, 1002);
    gateway.stop().await;
}

#[actix_web::test]
async fn a_closed_connection_ends_it() {
    let mut gateway = Gateway::start().await;
    let (socket, mut desktop) = gateway.joined().await;
    drop(socket);
    assert_eq!(gateway.end_reason().await, "browser_gone");
    assert!(is_closed(&mut desktop).await);
    gateway.stop().await;
}

#[actix_web::test]
async fn the_close_frame_has_the_reason() {
    for (authorization, output) in [
        (
            StreamAuthorization::SessionEnded(EndReason::UserDisconnected),
            (4000, "user_disconnected".to_owned()),
        ),
        (StreamAuthorization::SessionEnded(EndReason::Expired), (4000, "expired".to_owned())),
        (StreamAuthorization::SignedOut, (4001, "signed_out".to_owned())),
    ] {
        let mut gateway = Gateway::start().await;
        let (mut socket, mut desktop) = gateway.joined().await;
        let start = Instant::now();
        gateway.authorization.send(authorization).unwrap();
        assert_eq!(receive_close(&mut socket).await, output);
        assert!(is_closed(&mut desktop).await);
        assert!(start.elapsed() < CLOSE_DEADLINE, "{:?}", start.elapsed());
        gateway.stop().await;
    }
}

#[actix_web::test]
async fn the_close_reason_of_an_unusable_desktop_is_a_sentence() {
    let mut gateway = Gateway::start().await;
    let (mut socket, desktop) = gateway.browser().await;
    drop(desktop);
    assert_eq!(
        receive_close(&mut socket).await,
        (4002, "desktop: The desktop does not answer as a desktop should.".into())
    );
    assert_eq!(gateway.end_reason().await, "rfb_closed");
    gateway.stop().await;
}

/// Upgrades, performs the handshake, and then reads nothing.
async fn non_reading_browser(gateway: &mut Gateway) -> (TcpStream, DuplexStream) {
    // A small receive buffer, so that little is in the kernel.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut tcp = socket.connect(gateway.address).await.unwrap();
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        gateway.address
    );
    tcp.write_all(upgrade.as_bytes()).await.unwrap();
    let mut desktop = gateway.dialed.recv().await.unwrap();
    authenticate_desktop(&mut desktop).await;
    // Masked with zeros: the version, the choice, `ClientInit`.
    tcp.write_all(b"\x82\x8c\0\0\0\0RFB 003.008\n\x82\x81\0\0\0\0\x01\x82\x81\0\0\0\0\x01")
        .await
        .unwrap();
    server_init(&mut desktop, 1).await;
    let mut head = Vec::new();
    while !head.ends_with(&INIT) {
        head.push(tcp.read_u8().await.unwrap());
    }
    (tcp, desktop)
}

/// Writes until nothing was accepted for longer than a busy machine pauses; returns the bytes
/// written.
async fn flood(desktop: &mut DuplexStream, meters: &StreamMeters) -> usize {
    let (mut accepted, mut still, mut seen) = (0, 0, 0);
    while still < 5 {
        match timeout(Duration::from_millis(200), desktop.write(&[9; 4096])).await {
            Ok(written) => (accepted, still) = (accepted + written.unwrap(), 0),
            Err(_) => {
                let relayed = meters.down.load(Ordering::Relaxed);
                still = if relayed == seen { still + 1 } else { 0 };
                seen = relayed;
            }
        }
    }
    accepted
}

#[actix_web::test]
async fn a_browser_that_stops_reading_fills_no_memory() {
    let mut gateway = Gateway::with_room(Some(16 * 1024)).await;
    let (tcp, mut desktop) = non_reading_browser(&mut gateway).await;
    let accepted = flood(&mut desktop, &gateway.meters).await;
    let relayed = usize::try_from(gateway.meters.down.load(Ordering::Relaxed)).unwrap();
    println!(
        "accepted from the desktop: {accepted} bytes, of which handed to the connection: {relayed}"
    );
    assert!(accepted < 1024 * 1024, "{accepted} bytes");

    // Input still passes.
    let (read_half, mut write_half) = tcp.into_split();
    write_half.write_all(b"\x82\x83\0\0\0\0key").await.unwrap();
    assert_eq!(read(&mut desktop, 3).await, b"key");
    drop(read_half);
    gateway.stop().await;
}

#[actix_web::test]
async fn a_browser_that_stops_reading_is_disconnected_at_once() {
    let mut gateway = Gateway::with_room(Some(16 * 1024)).await;
    let (mut tcp, mut desktop) = non_reading_browser(&mut gateway).await;
    let accepted = flood(&mut desktop, &gateway.meters).await;
    let start = Instant::now();
    gateway.authorization.send(StreamAuthorization::SessionEnded(EndReason::AdminStopped)).unwrap();
    assert_eq!(gateway.end_reason().await, "admin_stopped");
    assert!(is_closed(&mut desktop).await, "the desktop's side is closed");
    let desktop_cut = start.elapsed();

    // The browser still reads nothing; what it sends is answered by a reset.
    let reset = async || tcp.write_all(b"\x82\x80\0\0\0\0").await.is_err();
    within(END_TIMEOUT, reset).await.expect("the connection ends");
    let browser_cut = start.elapsed();
    println!("cut: desktop after {desktop_cut:?}, browser after {browser_cut:?}");
    assert!(browser_cut < CLOSE_DEADLINE, "{browser_cut:?}");
    let mut rest = Vec::new();
    let _ = tcp.read_to_end(&mut rest).await;
    assert!(rest.len() < accepted, "what was in the gateway's own buffers never left it");
    gateway.stop().await;
}

#[actix_web::test]
async fn throughput() {
    const TOTAL: usize = 64 * 1024 * 1024;
    let mut gateway = Gateway::start().await;
    let (socket, mut desktop) = gateway.joined().await;
    let (mut bytes, _ended) = over_websocket(socket);
    let start = Instant::now();
    let writer = tokio::spawn(async move {
        let piece = vec![3; PIPE_CAPACITY];
        for _ in 0..TOTAL / PIPE_CAPACITY {
            desktop.write_all(&piece).await.unwrap();
        }
        desktop
    });
    let mut got = 0;
    let mut buffer = vec![0; PIPE_CAPACITY];
    while got < TOTAL {
        got += bytes.read(&mut buffer).await.unwrap();
    }
    println!("{TOTAL} bytes in {:?}", start.elapsed());
    drop(writer.await.unwrap());
    gateway.stop().await;
}

/// Over TLS the socket is inside the TLS stream; the handle must be found there, too.
#[actix_web::test]
async fn a_tls_connection_can_be_shut_down() {
    async fn cut(request: HttpRequest) -> HttpResponse {
        HttpResponse::Ok().body(request.conn_data::<SocketShutdown>().is_some().to_string())
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let server_config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let server = HttpServer::new(|| App::new().route("/", web::get().to(cut)))
        .on_connect(on_connect)
        .workers(1)
        .disable_signals()
        .bind_rustls_0_23(("127.0.0.1", 0), server_config)
        .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    tokio::spawn(server);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let client_config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config));
    let mut tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    tls.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = tls.read_to_string(&mut answer).await;
    assert!(answer.ends_with("\r\n\r\ntrue"), "{answer}");
    handle.stop(false).await;
}
