//! The browser as the relay sees it: something to send to, and something to hear from. WebSocket
//! (`ws.rs`) is one; tests have others.

use super::end::End;
use bytes::{Bytes, BytesMut};

/// Nobody is there to send to any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

/// Something heard from the browser.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
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
    fn send(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), Gone>>;
    /// Sends a ping.
    fn ping(&mut self, payload: &[u8]) -> impl Future<Output = Result<(), Gone>>;
    /// Answers a ping.
    fn pong(&mut self, payload: &[u8]) -> impl Future<Output = Result<(), Gone>>;
}

/// From the browser.
pub trait BrowserSource {
    /// The next thing heard; or how it ended. Cancel safe: a dropped future has taken nothing.
    fn next(&mut self) -> impl Future<Output = Result<Heard, End>>;
}

/// Hears one thing of a browser that is not relayed yet. Its bytes are kept in `pending`, of which
/// there may be `most`.
///
/// # Errors
/// How it ended; [`End::TooBig`] when it says more.
pub(super) async fn listen(
    sink: &mut impl BrowserSink,
    source: &mut impl BrowserSource,
    pending: &mut BytesMut,
    most: usize,
) -> Result<(), End> {
    match source.next().await? {
        Heard::Bytes(bytes) if pending.len() + bytes.len() > most => Err(End::TooBig),
        Heard::Bytes(bytes) => {
            pending.extend_from_slice(&bytes);
            Ok(())
        }
        Heard::Ping(payload) => sink.pong(&payload).await.map_err(|_| End::BrowserGone),
        Heard::Pong(_) => Ok(()),
    }
}

/// Hears a browser out until it ends, as [`listen`] does.
pub(super) async fn wait_for_end(
    sink: &mut impl BrowserSink,
    source: &mut impl BrowserSource,
    pending: &mut BytesMut,
    most: usize,
) -> End {
    loop {
        if let Err(end) = listen(sink, source, pending, most).await {
            return end;
        }
    }
}
