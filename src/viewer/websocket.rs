//! A browser over WebSocket (RFC 6455), on actix-ws.
//!
//! Output goes through [`super::outbound_frames`], which provides backpressure; everything else
//! goes through actix-ws.

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
/// Longest wait for a place of the close frame behind output.
const CLOSE_FRAME_TIMEOUT: Duration = Duration::from_millis(250);
/// Longest wait for the browser's close frame; then the connection is shut down. A revocation must
/// hold within a second, also on a busy machine.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Time for the close frame to reach the kernel once the connection only writes.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(60);

pub struct WebSocket {
    sink: WsSink,
    source: WsSource,
}

impl WebSocket {
    pub(super) fn split(self) -> (WsSink, WsSource) {
        (self.sink, self.source)
    }
}

/// Accepts a WebSocket request: the response, and the WebSocket after it.
///
/// # Errors
/// When it is not a WebSocket request (RFC 6455 section 4.2.1).
pub fn upgrade(
    request: &HttpRequest,
    body: web::Payload,
) -> actix_web::Result<(HttpResponse, WebSocket)> {
    let (response, session, messages) = actix_ws::handle(request, body)?;
    let frames = OutboundFrames::default();
    let response = response
        .map_body(|_, control_frames| FrameBody::new(frames.clone(), control_frames).boxed());
    Ok((
        response,
        WebSocket {
            sink: WsSink { session, frames },
            source: WsSource { messages: messages.max_frame_size(MAX_FRAME) },
        },
    ))
}

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

pub(super) struct WsSource {
    messages: MessageStream,
}

impl BrowserSource for WsSource {
    async fn next(&mut self) -> Result<BrowserEvent, StreamEnd> {
        loop {
            return match self.messages.recv().await {
                Some(Ok(message)) => match message {
                    Message::Binary(bytes) => Ok(BrowserEvent::Bytes(bytes)),
                    // Fragments need not be reassembled: the stream has no message boundaries.
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

/// Sends the close frame, waits a moment for the browser's, then shuts the connection down, so that
/// a browser that does not read keeps nothing open.
pub(super) async fn close(
    sink: WsSink,
    mut source: WsSource,
    end: &StreamEnd,
    shutdown: Option<SocketShutdown>,
) {
    let deadline = Instant::now() + CLOSE_TIMEOUT;
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
    // The connection buffers input until it is taken; input after the end is discarded.
    let answered = async {
        while let Some(message) = source.messages.recv().await {
            match message {
                Ok(Message::Close(_)) => return true,
                Ok(_) => {}
                // Bytes that cannot be parsed stay in the buffer and would fail again.
                Err(_) => return std::future::pending().await,
            }
        }
        false
    };
    let answered = timeout_at(deadline, answered).await;
    if let Some(shutdown) = shutdown {
        // A browser that received the close frame waits for the connection to end (RFC 6455 section
        // 7.1.1), and its page shows the reason only then. It has received it when it answered.
        // When actix reads no more, the frame is being written, as far as the browser accepts it:
        // wait a moment for that.
        if matches!(answered, Ok(false)) {
            sleep_until(deadline.min(Instant::now() + FLUSH_TIMEOUT)).await;
        }
        shutdown.shut_down();
    }
}
