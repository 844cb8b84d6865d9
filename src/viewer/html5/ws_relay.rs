//! Relays WebSocket messages in both directions: one at a time and complete, each written before
//! the next is read, so that a slow side holds back the other.
//!
//! Close codes and reasons, pings, and unsolicited pongs (RFC 6455 section 5.5.3) are relayed. A
//! ping is answered at once by this end of its connection and also relayed to the far end, whose
//! pong stops here: the sender sees one pong. A side that disconnects without a close frame makes
//! the relay disconnect the other side likewise.

use super::context::AppContext;
use super::progress::RequestProgress;
use super::request_log::RequestLogEntry;
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
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// Longest message, in bytes.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// Read and write buffers, in bytes.
const BUFFER: usize = 16 * 1024;
/// Most messages per flush.
const BATCH_MAX: usize = 64;
/// How long each side has to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long sending close frames may take at the end of the session, which must take effect within
/// a second.
const REVOKED_CLOSE_TIMEOUT: Duration = Duration::from_millis(400);
/// Most relayed pings whose pong is awaited. The pong to an older one is relayed, which is
/// harmless.
const PENDING_PINGS_MAX: usize = 32;

type Socket = WebSocketStream<Box<dyn Duplex>>;
type Sink = SplitSink<Socket, Message>;
type Source = SplitStream<Socket>;

/// Pings relayed to one side and not answered by it. This end has answered them already.
#[derive(Default)]
struct PendingPings(Mutex<VecDeque<Bytes>>);

impl PendingPings {
    fn record(&self, payload: &Bytes) {
        let mut pending = lock(&self.0);
        if pending.len() >= PENDING_PINGS_MAX {
            pending.pop_front();
        }
        pending.push_back(payload.clone());
    }

    /// Whether this pong answers one of them; it also answers all before it.
    fn acknowledge(&self, payload: &Bytes) -> bool {
        let mut pending = lock(&self.0);
        let found = pending.iter().position(|ping| ping == payload);
        if let Some(index) = found {
            pending.drain(..=index);
        }
        found.is_some()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// Why one direction ended.
enum DirectionEnd {
    /// Its source sent a close frame, which was relayed.
    Closed,
    /// Its source disconnected.
    Disconnected,
    /// Its source violated the protocol or sent a message that is too long.
    ProtocolError(CloseCode),
    /// Its sink disconnected, or accepts nothing.
    Stalled,
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        // One message and what was buffered before it.
        .max_write_buffer_size(2 * MESSAGE_MAX)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
}

fn close_frame(code: CloseCode, reason: &str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

/// Both ends of a relay.
struct Ends {
    from_browser: Source,
    to_browser: Sink,
    from_application: Source,
    to_application: Sink,
}

/// Relays messages until one side or the session ends. `read_buf`: bytes already read from the
/// application.
pub(super) async fn run(
    app: &AppContext,
    browser: Upgraded,
    (application, read_buf): (Box<dyn Duplex>, Bytes),
    mut entry: RequestLogEntry,
) {
    let browser: Box<dyn Duplex> = Box::new(TokioIo::new(browser));
    let browser = WebSocketStream::from_raw_socket(browser, Role::Server, Some(config())).await;
    let application = WebSocketStream::from_partially_read(
        application,
        read_buf.into(),
        Role::Client,
        Some(config()),
    )
    .await;
    let (to_browser, from_browser) = browser.split();
    let (to_application, from_application) = application.split();
    let mut ends = Ends { from_browser, to_browser, from_application, to_application };
    let end = relay(app, entry.progress(), &mut ends).await;
    entry.set_outcome(close(app, &mut ends, end).await);
}

/// Relays messages. `None`: the session ended.
async fn relay(
    app: &AppContext,
    progress: &RequestProgress,
    ends: &mut Ends,
) -> Option<(Direction, DirectionEnd)> {
    let (pings_up, pings_down) = (PendingPings::default(), PendingPings::default());
    let up = Relay {
        app,
        progress,
        direction: Direction::Up,
        relayed_pings: &pings_up,
        opposite_pings: &pings_down,
    };
    let down = Relay {
        direction: Direction::Down,
        relayed_pings: &pings_down,
        opposite_pings: &pings_up,
        ..up
    };
    let Ends { from_browser, to_browser, from_application, to_application } = ends;
    tokio::select! {
        biased;
        () = app.lifecycle.ended() => None,
        end = up.run(from_browser, to_application) => Some((Direction::Up, end)),
        end = down.run(from_application, to_browser) => Some((Direction::Down, end)),
    }
}

/// Closes both sides as the end of a relay requires.
async fn close(
    app: &AppContext,
    ends: &mut Ends,
    end: Option<(Direction, DirectionEnd)>,
) -> RequestOutcome {
    let Ends { from_browser, to_browser, from_application, to_application } = ends;
    match end {
        None => {
            let end = app.lifecycle.end();
            let (code, reason) = end.map_or((1001, "retry".into()), StreamEnd::close_frame);
            let close = async {
                tokio::join!(
                    send_close(to_browser, close_frame(CloseCode::from(code), &reason)),
                    send_close(to_application, close_frame(CloseCode::Away, ""))
                )
            };
            let _ = timeout(REVOKED_CLOSE_TIMEOUT, close).await;
            RequestOutcome::Revoked
        }
        Some((_, DirectionEnd::Closed)) => {
            let drained = async { tokio::join!(drain(from_browser), drain(from_application)) };
            tokio::select! {
                _ = timeout(CLOSE_TIMEOUT, drained) => {}
                () = app.lifecycle.ended() => {}
            }
            RequestOutcome::Completed
        }
        Some((direction, DirectionEnd::ProtocolError(code))) => {
            let (source, other) = match direction {
                Direction::Up => (to_browser, to_application),
                Direction::Down => (to_application, to_browser),
            };
            let close = async {
                tokio::join!(
                    send_close(source, close_frame(code, "")),
                    send_close(other, close_frame(CloseCode::Away, ""))
                )
            };
            let _ = timeout(CLOSE_TIMEOUT, close).await;
            aborted_by(direction)
        }
        Some((direction, DirectionEnd::Disconnected)) => aborted_by(direction),
        Some((Direction::Up, DirectionEnd::Stalled)) => aborted_by(Direction::Down),
        Some((Direction::Down, DirectionEnd::Stalled)) => aborted_by(Direction::Up),
    }
}

/// The outcome where the source of a direction caused the end.
fn aborted_by(direction: Direction) -> RequestOutcome {
    match direction {
        Direction::Up => RequestOutcome::ClientAborted,
        Direction::Down => RequestOutcome::UpstreamAborted,
    }
}

async fn send_close(sink: &mut Sink, message: Message) {
    drop(sink.send(message).await);
}

/// Discards what arrives after a close frame; reading it answers the close frame (RFC 6455 section
/// 5.5.1).
async fn drain(source: &mut Source) {
    while let Some(Ok(_)) = source.next().await {}
}

/// One direction of a relay.
#[derive(Clone, Copy)]
struct Relay<'a> {
    app: &'a AppContext,
    progress: &'a RequestProgress,
    direction: Direction,
    /// Pings relayed in this direction.
    relayed_pings: &'a PendingPings,
    /// Pings relayed to the source of this direction.
    opposite_pings: &'a PendingPings,
}

impl Relay<'_> {
    async fn run(&self, source: &mut Source, sink: &mut Sink) -> DirectionEnd {
        let stall = self.app.upstream.limits.stall;
        loop {
            let mut next = source.next().await;
            let mut batched = 0;
            // Messages that have arrived already are written together.
            loop {
                let message = match next {
                    Some(Ok(message)) => message,
                    Some(Err(error)) => return classify_error(&error),
                    None => return DirectionEnd::Disconnected,
                };
                let is_close = message.is_close();
                self.count(&message);
                let is_answer = match &message {
                    Message::Ping(payload) => {
                        self.relayed_pings.record(payload);
                        false
                    }
                    Message::Pong(payload) => self.opposite_pings.acknowledge(payload),
                    Message::Text(_)
                    | Message::Binary(_)
                    | Message::Close(_)
                    | Message::Frame(_) => false,
                };
                if !is_answer && !matches!(timeout(stall, sink.feed(message)).await, Ok(Ok(()))) {
                    return DirectionEnd::Stalled;
                }
                if is_close {
                    return if matches!(timeout(stall, sink.flush()).await, Ok(Ok(()))) {
                        DirectionEnd::Closed
                    } else {
                        DirectionEnd::Stalled
                    };
                }
                batched += 1;
                if batched >= BATCH_MAX {
                    break;
                }
                match source.next().now_or_never() {
                    Some(message) => next = message,
                    None => break,
                }
            }
            if !matches!(timeout(stall, sink.flush()).await, Ok(Ok(()))) {
                return DirectionEnd::Stalled;
            }
        }
    }

    fn count(&self, message: &Message) {
        let meters = &self.app.grant.meters;
        match (self.direction, message) {
            (Direction::Up, Message::Text(_) | Message::Binary(_)) => {
                self.progress.count_up(message.len(), meters);
                self.app.lifecycle.touch();
            }
            (Direction::Down, Message::Text(_) | Message::Binary(_)) => {
                self.progress.count_down(message.len(), meters);
            }
            (_, Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {}
        }
    }
}

/// The close code for an error of a source (RFC 6455 section 7.4.1).
fn classify_error(error: &Error) -> DirectionEnd {
    match error {
        Error::Capacity(_) => DirectionEnd::ProtocolError(CloseCode::Size),
        Error::Utf8(_) => DirectionEnd::ProtocolError(CloseCode::Invalid),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => DirectionEnd::Disconnected,
        Error::Protocol(_) => DirectionEnd::ProtocolError(CloseCode::Protocol),
        _ => DirectionEnd::Disconnected,
    }
}
