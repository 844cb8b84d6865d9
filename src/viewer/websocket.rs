//! A browser over WebSocket (RFC 6455), on actix-ws.
//!
//! Output goes by a `lane` of its own, which holds the desktop back when the browser stops reading;
//! everything else goes through actix-ws.

use super::browser::{BrowserEvent, BrowserSink, BrowserSource, Disconnected};
use super::outbound_frames::{FrameBody, OutboundFrames};
use super::socket_shutdown::SocketShutdown;
use super::stream_end::StreamEnd;
use actix_web::body::MessageBody as _;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{CloseCode, CloseReason, Item, Message, MessageStream, ProtocolError, Session};
use bytes::Bytes;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// Longest frame a browser may send.
pub const MAX_FRAME: usize = 1024 * 1024;
/// How long the close frame may wait for a place behind output.
const CLOSE_FRAME_TIMEOUT: Duration = Duration::from_millis(250);
/// How long the browser has for its own close frame; then its connection is cut. A cut holds within
/// a second, also on a busy machine.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the close frame has to reach the kernel once the connection only writes.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(60);

/// A browser whose connection has become a WebSocket.
pub struct WebSocket {
    sink: WsSink,
    source: WsSource,
}

impl WebSocket {
    /// Both directions.
    pub(super) fn split(self) -> (WsSink, WsSource) {
        (self.sink, self.source)
    }
}

/// Answers a request for a WebSocket, and gives what comes after the answer.
///
/// # Errors
/// When the request is none (RFC 6455, section 4.2.1).
pub fn upgrade(
    request: &HttpRequest,
    body: web::Payload,
) -> actix_web::Result<(HttpResponse, WebSocket)> {
    let (response, session, messages) = actix_ws::handle(request, body)?;
    let lane = OutboundFrames::default();
    let response = response.map_body(|_, rest| FrameBody::new(lane.clone(), rest).boxed());
    Ok((
        response,
        WebSocket {
            sink: WsSink { session, frames: lane },
            source: WsSource { messages: messages.max_frame_size(MAX_FRAME) },
        },
    ))
}

/// Toward the browser.
#[derive(Clone)]
pub(super) struct WsSink {
    session: Session,
    frames: OutboundFrames,
}

impl BrowserSink for WsSink {
    async fn send(&mut self, chunk: Bytes) -> Result<(), Disconnected> {
        self.frames.send(chunk).await
    }

    async fn ping(&mut self, payload: &[u8]) -> Result<(), Disconnected> {
        self.session.ping(payload).await.map_err(|_| Disconnected)
    }

    async fn pong(&mut self, payload: &[u8]) -> Result<(), Disconnected> {
        self.session.pong(payload).await.map_err(|_| Disconnected)
    }
}

/// From the browser.
pub(super) struct WsSource {
    messages: MessageStream,
}

impl BrowserSource for WsSource {
    async fn next(&mut self) -> Result<BrowserEvent, StreamEnd> {
        loop {
            return match self.messages.recv().await {
                Some(Ok(message)) => match message {
                    Message::Binary(bytes) => Ok(BrowserEvent::Bytes(bytes)),
                    // The parts of a message need not be put together: the stream has no messages.
                    Message::Continuation(
                        Item::FirstBinary(bytes) | Item::Continue(bytes) | Item::Last(bytes),
                    ) => Ok(BrowserEvent::Bytes(bytes)),
                    Message::Text(_) | Message::Continuation(Item::FirstText(_)) => {
                        Err(StreamEnd::TextFrame)
                    }
                    Message::Ping(payload) => Ok(BrowserEvent::Ping(payload)),
                    Message::Pong(payload) => Ok(BrowserEvent::Pong(payload)),
                    Message::Close(_) => Err(StreamEnd::BrowserClosed),
                    Message::Nop => continue,
                },
                Some(Err(ProtocolError::Overflow)) => Err(StreamEnd::FrameTooBig),
                // Text that is not UTF-8.
                Some(Err(ProtocolError::Io(error))) if error.kind() == ErrorKind::InvalidData => {
                    Err(StreamEnd::TextFrame)
                }
                Some(Err(ProtocolError::Io(_))) | None => Err(StreamEnd::BrowserDisconnected),
                Some(Err(_)) => Err(StreamEnd::BadFrame),
            };
        }
    }
}

/// Tells the browser why, gives it a moment to say goodbye, then cuts its connection: one that does
/// not read keeps nothing open.
pub(super) async fn close(
    sink: WsSink,
    mut source: WsSource,
    end: &StreamEnd,
    hangup: Option<SocketShutdown>,
) {
    let cut_at = Instant::now() + CLOSE_TIMEOUT;
    let (code, description) = end.close_frame();
    let code = match code {
        1000 => CloseCode::Normal,
        1001 => CloseCode::Away,
        1002 => CloseCode::Protocol,
        1003 => CloseCode::Unsupported,
        1009 => CloseCode::Size,
        other => CloseCode::Other(other),
    };
    let reason = CloseReason {
        code,
        description: (!description.is_empty()).then(|| description.into_owned()),
    };
    let _ = timeout(CLOSE_FRAME_TIMEOUT, sink.session.close(Some(reason))).await;
    // The connection keeps what it reads until somebody takes it; what comes now is nobody's.
    let answered = async {
        while let Some(message) = source.messages.recv().await {
            match message {
                Ok(Message::Close(_)) => return true,
                Ok(_) => {}
                // Bytes that cannot be read stay, and would be found again and again.
                Err(_) => return std::future::pending().await,
            }
        }
        false
    };
    let answered = timeout_at(cut_at, answered).await;
    if let Some(hangup) = hangup {
        // A browser that has our word waits only for the connection to end (RFC 6455 section
        // 7.1.1), and its page tells its user no sooner. It has our word when it answered. When
        // actix reads no more, our word is written as far as the browser takes it: a moment, then.
        if matches!(answered, Ok(false)) {
            sleep_until(cut_at.min(Instant::now() + FLUSH_TIMEOUT)).await;
        }
        hangup.shut_down();
    }
}
