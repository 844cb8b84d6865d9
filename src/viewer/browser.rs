//! The browser as the relay sees it: something to send to, and something to hear from. WebSocket
//! (`ws.rs`) is one; tests have others.

use super::stream_end::StreamEnd;
use bytes::{Bytes, BytesMut};

/// Nobody is there to send to any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnected;

/// Something heard from the browser.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BrowserEvent {
    /// Bytes of the stream. Where messages begin and end means nothing: RFB is a stream.
    Bytes(Bytes),
    /// A question whether we live; a pong with the same bytes is due.
    Ping(Bytes),
    /// The answer to a ping.
    Pong(Bytes),
}

/// Toward the browser. Clones send to the same browser: output and pings do not wait for each
/// other's futures.
///
/// `send` must hold its caller back: it resolves when little is queued, so that a browser that
/// stops reading stops the desktop and fills no memory.
pub trait BrowserSink: Clone {
    /// Sends bytes of the stream.
    fn send(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), Disconnected>>;
    /// Sends a ping.
    fn ping(&mut self, payload: &[u8]) -> impl Future<Output = Result<(), Disconnected>>;
    /// Answers a ping.
    fn pong(&mut self, payload: &[u8]) -> impl Future<Output = Result<(), Disconnected>>;
}

/// From the browser.
pub trait BrowserSource {
    /// The next thing heard; or how it ended. Cancel safe: a dropped future has taken nothing.
    fn next(&mut self) -> impl Future<Output = Result<BrowserEvent, StreamEnd>>;
}

/// Hears one thing of a browser that is not relayed yet. Its bytes are kept in `pending`, of which
/// there may be `most`.
///
/// # Errors
/// How it ended; [`End::TooBig`] when it says more.
pub(super) async fn read_message(
    sink: &mut impl BrowserSink,
    source: &mut impl BrowserSource,
    pending: &mut BytesMut,
    most: usize,
) -> Result<(), StreamEnd> {
    match source.next().await? {
        BrowserEvent::Bytes(bytes) if pending.len() + bytes.len() > most => {
            Err(StreamEnd::FrameTooBig)
        }
        BrowserEvent::Bytes(bytes) => {
            pending.extend_from_slice(&bytes);
            Ok(())
        }
        BrowserEvent::Ping(payload) => {
            sink.pong(&payload).await.map_err(|_| StreamEnd::BrowserDisconnected)
        }
        BrowserEvent::Pong(_) => Ok(()),
    }
}

/// Hears a browser out until it ends, as [`listen`] does.
pub(super) async fn read_until_end(
    sink: &mut impl BrowserSink,
    source: &mut impl BrowserSource,
    pending: &mut BytesMut,
    most: usize,
) -> StreamEnd {
    loop {
        if let Err(end) = read_message(sink, source, pending, most).await {
            return end;
        }
    }
}
