//! Messages of a WebSocket, both ways: one at a time, whole, each written before the next is read,
//! so that whoever is slow holds the other side back.
//!
//! Close codes and reasons are carried, pings too, and pongs that nobody asked for (RFC 6455
//! section 5.5.3). A ping is answered at once by this end of its connection, and goes on to the far
//! end, whose answer to it ends here: a ping has one pong. A side that breaks off without a close
//! frame is broken off on the other side, so that the other end sees the same.

use super::app::Shared;
use super::record::{Entry, Flow};
use crate::domain::web::RequestEnd;
use crate::viewer::Duplex;
use crate::viewer::stream_end::StreamEnd;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
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
const TOGETHER: usize = 64;
/// How long each side has to answer a close frame.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a close frame may take at the end of the session. A cut holds within a second.
const CUT: Duration = Duration::from_millis(400);

type Socket = WebSocketStream<Box<dyn Duplex>>;
type Sink = SplitSink<Socket, Message>;
type Source = SplitStream<Socket>;

/// Most pings that were passed on to a side and wait for its pong there. Older ones are forgotten:
/// a pong for them would be passed on, which harms nobody.
const PINGS: usize = 32;

/// What was passed on to one side as pings and was not answered yet; each was answered already by
/// this end.
#[derive(Default)]
struct Pings(Mutex<VecDeque<Bytes>>);

impl Pings {
    fn passed(&self, payload: &Bytes) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= PINGS {
            waiting.pop_front();
        }
        waiting.push_back(payload.clone());
    }

    /// Whether this pong answers one of them. It answers those before it, too.
    fn answered(&self, payload: &Bytes) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.iter().position(|ping| ping == payload);
        if let Some(at) = found {
            waiting.drain(..=at);
        }
        found.is_some()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Why one way came to its end.
enum Stop {
    /// Its source said goodbye, and that was passed on.
    Closed,
    /// Its source broke off.
    Gone,
    /// What its source says is no WebSocket, or too long.
    Wrong(CloseCode),
    /// Its sink broke off, or takes nothing.
    Stuck,
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

fn frame(code: CloseCode, reason: &str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

/// Carries messages until one side ends, or the session does. `arrived`: what the application has
/// sent already.
pub(super) async fn run(
    shared: &Shared,
    browser: Upgraded,
    (application, arrived): (Box<dyn Duplex>, Bytes),
    mut entry: Entry,
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
    let flow = std::sync::Arc::clone(entry.flow());
    let (to_far, to_near) = (Pings::default(), Pings::default());
    let stop = {
        let up = carry(
            shared,
            &flow,
            Way::Up,
            &mut from_browser,
            &mut to_application,
            (&to_far, &to_near),
        );
        let down = carry(
            shared,
            &flow,
            Way::Down,
            &mut from_application,
            &mut to_browser,
            (&to_near, &to_far),
        );
        tokio::select! {
            biased;
            () = shared.over_token().cancelled() => None,
            stop = up => Some((Way::Up, stop)),
            stop = down => Some((Way::Down, stop)),
        }
    };
    let ended = match stop {
        None => {
            let (code, reason) =
                shared.end().map_or((1001, "retry".into()), StreamEnd::close_frame);
            let told = async {
                tokio::join!(
                    tell(&mut to_browser, frame(CloseCode::from(code), &reason)),
                    tell(&mut to_application, frame(CloseCode::Away, ""))
                )
            };
            let _ = timeout(CUT, told).await;
            RequestEnd::Cut
        }
        Some((_, Stop::Closed)) => {
            let rest = async { tokio::join!(rest(&mut from_browser), rest(&mut from_application)) };
            let over = async {
                tokio::select! {
                    _ = timeout(GOODBYE, rest) => {}
                    () = shared.over_token().cancelled() => {}
                }
            };
            over.await;
            RequestEnd::Done
        }
        Some((way, Stop::Wrong(code))) => {
            let (mut source, mut other) = (&mut to_browser, &mut to_application);
            if way == Way::Down {
                std::mem::swap(&mut source, &mut other);
            }
            let told = async {
                tokio::join!(tell(source, frame(code, "")), tell(other, frame(CloseCode::Away, "")))
            };
            let _ = timeout(GOODBYE, told).await;
            if way == Way::Up { RequestEnd::ClientGone } else { RequestEnd::ApplicationGone }
        }
        Some((Way::Up, Stop::Gone) | (Way::Down, Stop::Stuck)) => RequestEnd::ClientGone,
        Some((Way::Down, Stop::Gone) | (Way::Up, Stop::Stuck)) => RequestEnd::ApplicationGone,
    };
    entry.ended(ended);
}

async fn tell(sink: &mut Sink, message: Message) {
    drop(sink.send(message).await);
}

/// What comes after a goodbye is not looked at; reading it answers the close frame (RFC 6455
/// section 5.5.1).
async fn rest(source: &mut Source) {
    while let Some(Ok(_)) = source.next().await {}
}

/// One way. `pings`: those passed on this way, and those passed on the other way, to the source.
async fn carry(
    shared: &Shared,
    flow: &Flow,
    way: Way,
    source: &mut Source,
    sink: &mut Sink,
    pings: (&Pings, &Pings),
) -> Stop {
    let stall = shared.limits().stall;
    loop {
        let mut next = source.next().await;
        let mut together = 0;
        // What has come already goes in one write.
        loop {
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(error)) => return broken(&error),
                None => return Stop::Gone,
            };
            let last = message.is_close();
            count(shared, flow, way, &message);
            let ends_here = match &message {
                Message::Ping(payload) => {
                    pings.0.passed(payload);
                    false
                }
                Message::Pong(payload) => pings.1.answered(payload),
                Message::Text(_) | Message::Binary(_) | Message::Close(_) | Message::Frame(_) => {
                    false
                }
            };
            if !ends_here && !matches!(timeout(stall, sink.feed(message)).await, Ok(Ok(()))) {
                return Stop::Stuck;
            }
            if last {
                return if matches!(timeout(stall, sink.flush()).await, Ok(Ok(()))) {
                    Stop::Closed
                } else {
                    Stop::Stuck
                };
            }
            together += 1;
            if together >= TOGETHER {
                break;
            }
            match source.next().now_or_never() {
                Some(more) => next = more,
                None => break,
            }
        }
        if !matches!(timeout(stall, sink.flush()).await, Ok(Ok(()))) {
            return Stop::Stuck;
        }
    }
}

fn count(shared: &Shared, flow: &Flow, way: Way, message: &Message) {
    match (way, message) {
        (Way::Up, Message::Text(_) | Message::Binary(_)) => {
            flow.up(message.len(), shared);
            shared.touch();
        }
        (Way::Down, Message::Text(_) | Message::Binary(_)) => flow.down(message.len(), shared),
        (_, Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {}
    }
}

/// RFC 6455 section 7.4.1.
fn broken(error: &Error) -> Stop {
    match error {
        Error::Capacity(_) => Stop::Wrong(CloseCode::Size),
        Error::Utf8(_) => Stop::Wrong(CloseCode::Invalid),
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => Stop::Gone,
        Error::Protocol(_) => Stop::Wrong(CloseCode::Protocol),
        _ => Stop::Gone,
    }
}
