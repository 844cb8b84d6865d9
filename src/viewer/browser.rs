//! The relay's interface to a browser: a sink and a source. `websocket.rs` implements it; tests
//! have other implementations.

use super::stream_end::StreamEnd;
use bytes::{Bytes, BytesMut};

/// The browser's connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnected;

/// Something received from the browser.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BrowserEvent {
    /// Bytes of the stream. Message boundaries have no meaning: RFB is a byte stream.
    Bytes(Bytes),
    /// A ping; a pong with the same payload is due.
    Ping(Bytes),
    Pong(Bytes),
}

/// The direction to the browser. Clones send to the same browser: output and pings do not wait for
/// each other's futures.
///
/// `send` provides backpressure: it resolves when little is queued, so that a browser that stops
/// reading stops the desktop and does not fill memory.
pub trait BrowserSink: Clone {
    fn send(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), Disconnected>>;
    fn ping(&mut self, payload: &[u8]) -> impl Future<Output = Result<(), Disconnected>>;
    fn pong(&mut self, payload: &[u8]) -> impl Future<Output = Result<(), Disconnected>>;
}

/// The direction from the browser.
pub trait BrowserSource {
    /// The next event, or why there is none. Cancel safe: a dropped future has consumed nothing.
    fn next(&mut self) -> impl Future<Output = Result<BrowserEvent, StreamEnd>>;
}

/// Reads one event of a browser that is not relayed yet. Its bytes are appended to `pending`, of
/// which there may be `most`.
///
/// # Errors
/// Why the stream ends; [`StreamEnd::FrameTooBig`] when there are more bytes than that.
pub(super) async fn read_message(
    sink: &mut impl BrowserSink,
    source: &mut impl BrowserSource,
    pending: &mut BytesMut,
    max_pending: usize,
) -> Result<(), StreamEnd> {
    match source.next().await? {
        BrowserEvent::Bytes(bytes) if pending.len() + bytes.len() > max_pending => {
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

/// Reads until the stream ends, as [`read_message`] does.
pub(super) async fn read_until_end(
    sink: &mut impl BrowserSink,
    source: &mut impl BrowserSource,
    pending: &mut BytesMut,
    max_pending: usize,
) -> StreamEnd {
    loop {
        if let Err(end) = read_message(sink, source, pending, max_pending).await {
            return end;
        }
    }
}
