//! Drives the pure handshakes over real streams. What the other side sent beyond its handshake is returned, not lost.

use super::browser::{BrowserSink, BrowserSource, Heard};
use super::end::End;
use crate::protocol::rfb::MAX_PENDING;
use crate::protocol::rfb::client::ClientHandshake;
use crate::protocol::rfb::server::ServerHandshake;
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Proves `password` to a desktop.
///
/// # Errors
/// The [`End`] it means for the stream.
pub(super) async fn with_desktop(desktop: &mut (impl AsyncRead + AsyncWrite + Unpin + ?Sized), password: &[u8]) -> Result<Bytes, End> {
    let mut machine = ClientHandshake::new(password);
    let mut pending = BytesMut::with_capacity(MAX_PENDING);
    let mut reply = Vec::new();
    loop {
        let progress = machine.advance(&pending, &mut reply).map_err(End::Handshake)?;
        let _ = pending.split_to(progress.consumed);
        if !reply.is_empty() {
            desktop.write_all(&reply).await.map_err(|e| broken(e, &machine))?;
            desktop.flush().await.map_err(|e| broken(e, &machine))?;
            reply.clear();
        }
        if progress.done {
            // A copy of what is left, mostly nothing: not the memory it was read into, which would stay as long as the stream.
            return Ok(Bytes::copy_from_slice(&pending));
        }
        let room = MAX_PENDING.saturating_sub(pending.len());
        let mut limited = (&mut *desktop).take(room as u64);
        match limited.read_buf(&mut pending).await {
            Ok(0) => return Err(End::Handshake(machine.closed())),
            Ok(_) => {}
            Err(error) => return Err(broken(error, &machine)),
        }
    }
}

/// A connection that breaks is told as what it is: a server that closes with unread bytes looks like a reset.
fn broken(error: io::Error, machine: &ClientHandshake) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => End::Handshake(machine.closed()),
        _ => End::HandshakeBroken(error),
    }
}

/// Greets a browser. `pending` is what it sent before it was greeted.
///
/// # Errors
/// The [`End`] it means for the stream.
pub(super) async fn with_browser(sink: &mut impl BrowserSink, source: &mut impl BrowserSource, mut pending: BytesMut) -> Result<Bytes, End> {
    let mut reply = Vec::new();
    let mut machine = ServerHandshake::start(&mut reply);
    loop {
        let progress = machine.advance(&pending, &mut reply).map_err(End::BrowserNonsense)?;
        let _ = pending.split_to(progress.consumed);
        if !reply.is_empty() {
            sink.send(std::mem::take(&mut reply).into()).await.map_err(|_| End::BrowserGone)?;
        }
        if progress.done {
            // A copy of what is left, mostly nothing: not the memory it was read into, which would stay as long as the stream.
            return Ok(Bytes::copy_from_slice(&pending));
        }
        listen(sink, source, &mut pending).await?;
    }
}

/// Hears the browser out until it ends; its bytes are kept for later.
pub(super) async fn wait_for_end(sink: &mut impl BrowserSink, source: &mut impl BrowserSource, pending: &mut BytesMut) -> End {
    loop {
        if let Err(end) = listen(sink, source, pending).await {
            return end;
        }
    }
}

/// One thing heard before the relay begins.
async fn listen(sink: &mut impl BrowserSink, source: &mut impl BrowserSource, pending: &mut BytesMut) -> Result<(), End> {
    match source.next().await? {
        Heard::Bytes(bytes) if pending.len() + bytes.len() > MAX_PENDING => Err(End::TooBig),
        Heard::Bytes(bytes) => {
            pending.extend_from_slice(&bytes);
            Ok(())
        }
        Heard::Ping(payload) => sink.pong(&payload).await.map_err(|_| End::BrowserGone),
        Heard::Pong(_) => Ok(()),
    }
}
