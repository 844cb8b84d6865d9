//! A gateway whose only route is a stream, and a browser over WebSocket.

use super::harness::{
    INIT, PipeConnections, PipeDial, authenticate_desktop, lease, pipe_dial, server_init,
};
use super::recording_audit::RecordingAudit;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::{SinkExt, StreamExt};
use portcullis::broker::core::stream_registry::{StreamAuthorization, StreamMeters};
use portcullis::viewer::attach::Attachment;
use portcullis::viewer::socket_shutdown::{SocketShutdown, on_connect};
use portcullis::viewer::stream_audit::RefusalCounter;
use portcullis::viewer::websocket::upgrade;
use portcullis::viewer::{Timeouts, stream};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longest wait for a quick step, on a busy machine.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(60);
/// The close has time limits of 0.75 s in total. Longer than this, on a busy machine, would be the
/// pong's time limit, 20 s.
pub(super) const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// A gateway whose only route is a stream.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) dialed: PipeConnections,
    pub(super) authorization: watch::Sender<StreamAuthorization>,
    _draining: watch::Sender<bool>,
    pub(super) meters: Arc<StreamMeters>,
    pub(super) ends: mpsc::UnboundedReceiver<&'static str>,
    pub(super) server: actix_web::dev::ServerHandle,
}

#[derive(Clone)]
struct Shared {
    dial: Arc<PipeDial>,
    authorization: watch::Receiver<StreamAuthorization>,
    draining: watch::Receiver<bool>,
    meters: Arc<StreamMeters>,
    ended: mpsc::UnboundedSender<&'static str>,
}

async fn open(
    request: HttpRequest,
    body: web::Payload,
    shared: web::Data<Shared>,
) -> actix_web::Result<HttpResponse> {
    let (response, browser) = upgrade(&request, body)?;
    let shutdown = request.conn_data::<SocketShutdown>().cloned();
    let Shared { dial, authorization, draining, meters, ended } = shared.get_ref().clone();
    actix_web::rt::spawn(async move {
        let lease = lease();
        let (timeouts, refusals, audit) =
            (Timeouts::default(), RefusalCounter::default(), RecordingAudit::default());
        let attachment = Attachment {
            lease: &lease,
            dial: &*dial,
            authorization,
            draining,
            meters: &meters,
            refusals: &refusals,
            audit: &audit,
            timeouts,
        };
        let over = stream(attachment, browser).await;
        let _ = ended.send(over.end.reason_code());
        over.close(shutdown).await;
    });
    Ok(response)
}

impl Gateway {
    pub(super) async fn start() -> Self {
        Self::with_room(None).await
    }

    /// `room`: size of the kernel's send buffer; small, so that output accumulates in the gateway
    /// where it can be measured.
    pub(super) async fn with_room(room: Option<usize>) -> Self {
        let (dial, connections) = pipe_dial();
        let (authorization, watched) = watch::channel(StreamAuthorization::Valid);
        let (draining, drained) = watch::channel(false);
        let (ended, ends) = mpsc::unbounded_channel();
        let meters = Arc::new(StreamMeters::default());
        let shared = Shared {
            dial: Arc::new(dial),
            authorization: watched,
            draining: drained,
            meters: Arc::clone(&meters),
            ended,
        };
        let data = web::Data::new(shared);
        let server = HttpServer::new(move || {
            App::new().app_data(data.clone()).route("/", web::get().to(open))
        })
        .on_connect(move |connection, data| {
            on_connect(connection, data);
            let socket =
                connection.downcast_ref::<actix_web::rt::net::TcpStream>().expect("plain TCP");
            if let Some(bytes) = room {
                rustix::net::sockopt::set_socket_send_buffer_size(socket, bytes).unwrap();
            }
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self {
            address,
            dialed: connections,
            authorization,
            _draining: draining,
            meters,
            ends,
            server: handle,
        }
    }

    /// A browser after the upgrade, and its desktop.
    pub(super) async fn browser(&mut self) -> (Socket, DuplexStream) {
        let (socket, _) =
            tokio_tungstenite::connect_async(format!("ws://{}/", self.address)).await.unwrap();
        let desktop = self.dialed.recv().await.unwrap();
        (socket, desktop)
    }

    /// The same, after both handshakes.
    pub(super) async fn joined(&mut self) -> (Socket, DuplexStream) {
        let (mut socket, mut desktop) = self.browser().await;
        authenticate_desktop(&mut desktop).await;
        assert_eq!(receive(&mut socket).await, b"RFB 003.008\n");
        socket.send(Message::binary(&b"RFB 003.008\n"[..])).await.unwrap();
        assert_eq!(receive(&mut socket).await, [1, 1]);
        socket.send(Message::binary(&[1][..])).await.unwrap();
        assert_eq!(receive(&mut socket).await, [0; 4]);
        socket.send(Message::binary(&[1][..])).await.unwrap();
        server_init(&mut desktop, 1).await;
        assert_eq!(receive(&mut socket).await, INIT);
        (socket, desktop)
    }

    pub(super) async fn end_reason(&mut self) -> &'static str {
        timeout(END_TIMEOUT, self.ends.recv()).await.expect("it ends").unwrap()
    }

    pub(super) async fn stop(self) {
        self.server.stop(false).await;
    }
}

/// The next binary message. tungstenite answers pings by itself.
pub(super) async fn receive(socket: &mut Socket) -> Vec<u8> {
    loop {
        match socket.next().await.expect("open").expect("sound") {
            Message::Binary(bytes) => return bytes.to_vec(),
            Message::Ping(_) => {}
            other => panic!("expected bytes, heard {other:?}"),
        }
    }
}

/// Receives the close frame, and asserts that the connection ends after it.
pub(super) async fn receive_close(socket: &mut Socket) -> (u16, String) {
    let mut output = None;
    let all = async {
        while let Some(message) = socket.next().await {
            if let Ok(Message::Close(Some(frame))) = message {
                output = Some((u16::from(frame.code), frame.reason.to_string()));
            }
        }
    };
    timeout(END_TIMEOUT, all).await.expect("the connection ends");
    output.expect("a close frame")
}
