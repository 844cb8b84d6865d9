//! Messages of a WebSocket, both ways: one at a time, whole, each written before the next is read,
//! so that whoever is slow holds the other side back.
//!
//! Close codes and reasons are carried, pings too, and pongs that nobody asked for (RFC 6455
//! section 5.5.3). A ping is answered at once by this end of its connection, and goes on to the far
//! end, whose answer to it ends here: a ping has one pong. A side that breaks off without a close
//! frame is broken off on the other side, so that the other end sees the same.

use super::app::Shared;
use super::request_log::{RequestLogEntry, RequestProgress};
use crate::domain::sync::lock;
use crate::domain::web_app::RequestOutcome;
use crate::viewer::Duplex;
use crate::viewer::stream_end::StreamEnd;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// Longest message, in bytes, either way.
pub(super) const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// What is read and written at a time, in bytes.
const BUFFER: usize = 16 * 1024;
/// Most messages put together into one write.
const BATCH_MAX: usize = 64;
/// How long each side has to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a close frame may take at the end of the session. A cut holds within a second.
const REVOKED_CLOSE_TIMEOUT: Duration = Duration::from_millis(400);

type Socket = WebSocketStream<Box<dyn Duplex>>;
type Sink = SplitSink<Socket, Message>;
type Source = SplitStream<Socket>;

/// Most pings that were passed on to a side and wait for its pong there. Older ones are forgotten:
/// a pong for them would be passed on, which harms nobody.
const PENDING_PINGS_MAX: usize = 32;

/// What was passed on to one side as pings and was not answered yet; each was answered already by
/// this end.
#[derive(Default)]
struct PendingPings(Mutex<VecDeque<Bytes>>);

impl PendingPings {
    fn record(&self, payload: &Bytes) {
        let mut waiting = lock(&self.0);
        if waiting.len() >= PENDING_PINGS_MAX {
            waiting.pop_front();
        }
        waiting.push_back(payload.clone());
    }

    /// Whether this pong answers one of them. It answers those before it, too.
    fn acknowledge(&self, payload: &Bytes) -> bool {
        let mut waiting = lock(&self.0);
        let found = waiting.iter().position(|ping| ping == payload);
        if let Some(at) = found {
            waiting.drain(..=at);
        }
        found.is_some()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// Why one way came to its end.
enum DirectionEnd {
    /// Its source said goodbye, and that was passed on.
    Closed,
    /// Its source broke off.
    Disconnected,
    /// What its source says is no WebSocket, or too long.
    ProtocolError(CloseCode),
    /// Its sink broke off, or takes nothing.
    Stalled,
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        // One message and what went before it: more is never written ahead.
        .max_write_buffer_size(2 * MESSAGE_MAX)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
}

fn close_frame(code: CloseCode, reason: &str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

/// Carries messages until one side ends, or the session does. `arrived`: what the application has
/// sent already.
pub(super) async fn run(
    shared: &Shared,
    browser: Upgraded,
    (application, arrived): (Box<dyn Duplex>, Bytes),
    mut entry: RequestLogEntry,
) {
    let browser: Box<dyn Duplex> = Box::new(TokioIo::new(browser));
    let browser = WebSocketStream::from_raw_socket(browser, Role::Server, Some(config())).await;
    let application = WebSocketStream::from_partially_read(
        application,
        arrived.into(),
        Role::Client,
        Some(config()),
    )
    .await;
    let (mut to_browser, mut from_browser) = browser.split();
    let (mut to_application, mut from_application) = application.split();
    let flow = std::sync::Arc::clone(entry.progress());
    let (to_far, to_near) = (PendingPings::default(), PendingPings::default());
    let stop = {
        let up = relay_direction(
            shared,
            &flow,
            Direction::Up,
            &mut from_browser,
            &mut to_application,
            (&to_far, &to_near),
        );
        let down = relay_direction(
            shared,
            &flow,
            Direction::Down,
            &mut from_application,
            &mut to_browser,
            (&to_near, &to_far),
        );
        tokio::select! {
            biased;
            () = shared.end_token().cancelled() => None,
            stop = up => Some((Direction::Up, stop)),
            stop = down => Some((Direction::Down, stop)),
        }
    };
    let ended = match stop {
        None => {
            let (code, reason) =
                shared.end().map_or((1001, "retry".into()), StreamEnd::close_frame);
            let told = async {
                tokio::join!(
                    send_close(&mut to_browser, close_frame(CloseCode::from(code), &reason)),
                    send_close(&mut to_application, close_frame(CloseCode::Away, ""))
                )
            };
            let _ = timeout(REVOKED_CLOSE_TIMEOUT, told).await;
            RequestOutcome::Revoked
        }
        Some((_, DirectionEnd::Closed)) => {
            let rest =
                async { tokio::join!(drain(&mut from_browser), drain(&mut from_application)) };
            let over = async {
                tokio::select! {
                    _ = timeout(CLOSE_TIMEOUT, rest) => {}
                    () = shared.end_token().cancelled() => {}
                }
            };
            over.await;
            RequestOutcome::Completed
        }
        Some((way, DirectionEnd::ProtocolError(code))) => {
            let (mut source, mut other) = (&mut to_browser, &mut to_application);
            if way == Direction::Down {
                std::mem::swap(&mut source, &mut other);
            }
            let told = async {
                tokio::join!(
                    send_close(source, close_frame(code, "")),
                    send_close(other, close_frame(CloseCode::Away, ""))
                )
            };
            let _ = timeout(CLOSE_TIMEOUT, told).await;
            if way == Direction::Up {
                RequestOutcome::ClientAborted
            } else {
                RequestOutcome::UpstreamAborted
            }
        }
        Some(
            (Direction::Up, DirectionEnd::Disconnected) | (Direction::Down, DirectionEnd::Stalled),
        ) => RequestOutcome::ClientAborted,
        Some(
            (Direction::Down, DirectionEnd::Disconnected) | (Direction::Up, DirectionEnd::Stalled),
        ) => RequestOutcome::UpstreamAborted,
    };
    entry.set_outcome(ended);
}

async fn send_close(sink: &mut Sink, message: Message) {
    drop(sink.send(message).await);
}

/// What comes after a goodbye is not looked at; reading it answers the close frame (RFC 6455
/// section 5.5.1).
async fn drain(source: &mut Source) {
    while let Some(Ok(_)) = source.next().await {}
}

/// One way. `pings`: those passed on this way, and those passed on the other way, to the source.
async fn relay_direction(
    shared: &Shared,
    flow: &RequestProgress,
    way: Direction,
    source: &mut Source,
    sink: &mut Sink,
    pings: (&PendingPings, &PendingPings),
) -> DirectionEnd {
    let stall = shared.limits().stall;
    loop {
        let mut next = source.next().await;
        let mut together = 0;
        // What has come already goes in one write.
        loop {
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(error)) => return classify_error(&error),
                None => return DirectionEnd::Disconnected,
            };
            let last = message.is_close();
            count(shared, flow, way, &message);
            let ends_here = match &message {
                Message::Ping(payload) => {
                    pings.0.record(payload);
                    false
                }
                Message::Pong(payload) => pings.1.acknowledge(payload),
                Message::Text(_) | Message::Binary(_) | Message::Close(_) | Message::Frame(_) => {
                    false
                }
            };
            if !ends_here && !matches!(timeout(stall, sink.feed(message)).await, Ok(Ok(()))) {
                return DirectionEnd::Stalled;
            }
            if last {
                return if matches!(timeout(stall, sink.flush()).await, Ok(Ok(()))) {
                    DirectionEnd::Closed
                } else {
                    DirectionEnd::Stalled
                };
            }
            together += 1;
            if together >= BATCH_MAX {
                break;
            }
            match source.next().now_or_never() {
                Some(more) => next = more,
                None => break,
            }
        }
        if !matches!(timeout(stall, sink.flush()).await, Ok(Ok(()))) {
            return DirectionEnd::Stalled;
        }
    }
}

fn count(shared: &Shared, flow: &RequestProgress, way: Direction, message: &Message) {
    match (way, message) {
        (Direction::Up, Message::Text(_) | Message::Binary(_)) => {
            flow.count_up(message.len(), shared);
            shared.touch();
        }
        (Direction::Down, Message::Text(_) | Message::Binary(_)) => {
            flow.count_down(message.len(), shared)
        }
        (_, Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {}
    }
}

/// RFC 6455 section 7.4.1.
fn classify_error(error: &Error) -> DirectionEnd {
    match error {
        Error::Capacity(_) => DirectionEnd::ProtocolError(CloseCode::Size),
        Error::Utf8(_) => DirectionEnd::ProtocolError(CloseCode::Invalid),
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => DirectionEnd::Disconnected,
        Error::Protocol(_) => DirectionEnd::ProtocolError(CloseCode::Protocol),
        _ => DirectionEnd::Disconnected,
    }
}
