//! Drives the pure handshakes over real streams. Bytes that the other side sent after its handshake
//! are returned, not lost.

use super::anonymous;
use super::browser::{BrowserSink, BrowserSource, read_message};
use super::dial::Duplex;
use super::stream_audit::StreamAudit;
use super::stream_context::StreamContext;
use super::stream_end::StreamEnd;
use super::timeouts::Timeouts;
use super::trust::{ExpectedServer, connect_tls};
use crate::domain::lease::Lease;
use crate::domain::upstream::{Credential, TrustRule};
use crate::protocol::rfb::client::{ClientHandshake, Credentials};
use crate::protocol::rfb::init::ServerInit;
use crate::protocol::rfb::server::ServerHandshake;
use crate::protocol::rfb::{MAX_PENDING, RfbError, Tls};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

/// A desktop after its handshake, and the bytes it sent after that.
pub(super) struct AuthenticatedDesktop {
    pub(super) desktop: Box<dyn Duplex>,
    pub(super) early_data: BytesMut,
}

/// A failed handshake.
pub(super) struct HandshakeFailure {
    /// Why the stream ends.
    pub(super) end: StreamEnd,
    /// The VeNCrypt subtype that the desktop offered and did not perform, if only that failed:
    /// another one may work.
    pub(super) declined: Option<u32>,
}

/// Authenticates to a desktop with the lease's credential, inside TLS where the desktop offers it,
/// and without the VeNCrypt subtypes to avoid.
pub(super) async fn client_handshake<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    desktop: Box<dyn Duplex>,
    credential: Option<&Credential>,
    excluded: &[u32],
) -> Result<AuthenticatedDesktop, HandshakeFailure> {
    let credentials = Credentials {
        username: credential.map_or(&[], |c| c.username.as_bytes()),
        password: credential.map_or(&[], |c| c.password.expose().as_bytes()),
        require_certificate: expects_certificate(stream.lease),
    };
    let mut handshake = ClientHandshake::new(&credentials).excluding(excluded);
    authenticate(stream, desktop, &mut handshake).await.map_err(|end| {
        let declined = if let StreamEnd::Handshake(RfbError::Declined(subtype)) = &end {
            Some(*subtype)
        } else {
            // The TLS handshake failed. A refused certificate is different: no weaker type is tried
            // then.
            handshake.unauthenticated_subtype().filter(|_| matches!(end, StreamEnd::TlsFailed(_)))
        };
        HandshakeFailure { end, declined }
    })
}

async fn authenticate<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    mut desktop: Box<dyn Duplex>,
    handshake: &mut ClientHandshake,
) -> Result<AuthenticatedDesktop, StreamEnd> {
    let mut pending = BytesMut::with_capacity(MAX_PENDING);
    let mut reply = Zeroizing::new(Vec::new());
    let mut deadline = Instant::now() + stream.timeouts.handshake;
    let mut asked = false;
    loop {
        let progress = handshake.advance(&pending, &mut reply).map_err(StreamEnd::Handshake)?;
        let _ = pending.split_to(progress.consumed);
        send(&mut desktop, &mut reply).await.map_err(|e| io_error(e, handshake))?;
        if progress.done {
            return Ok(AuthenticatedDesktop { desktop, early_data: pending });
        }
        if let Some(tls) = progress.start_tls {
            if !pending.is_empty() {
                // Bytes before the TLS handshake would be read as if they had come through TLS.
                return Err(StreamEnd::Handshake(RfbError::InvalidValue {
                    what: "first byte before TLS",
                    value: pending[0].into(),
                }));
            }
            desktop = start_tls(stream, desktop, tls).await?;
            handshake.tls_established(&mut reply).map_err(StreamEnd::Handshake)?;
            send(&mut desktop, &mut reply).await.map_err(|e| io_error(e, handshake))?;
        }
        if handshake.awaits_result() && !asked {
            asked = true;
            deadline = Instant::now() + stream.timeouts.security_result;
        }
        let read = timeout_at(deadline, read_more(&mut desktop, &mut pending)).await;
        match read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(0) => return Err(StreamEnd::Handshake(handshake.unexpected_close())),
            Ok(_) => {}
            Err(error) => return Err(io_error(error, handshake)),
        }
    }
}

/// Whether a certificate is expected: an administrator configured one, or one was pinned. A desktop
/// that shows none is refused then.
fn expects_certificate(lease: &Lease) -> bool {
    let trust = &lease.upstream().trust;
    match &trust.rule {
        TrustRule::FirstUse => trust.pin.is_some(),
        TrustRule::Pinned(_) | TrustRule::Authority { .. } => true,
    }
}

async fn start_tls<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    desktop: Box<dyn Duplex>,
    tls: Tls,
) -> Result<Box<dyn Duplex>, StreamEnd> {
    let Timeouts { handshake: limit, .. } = *stream.timeouts;
    match tls {
        Tls::X509 => {
            let expected = ExpectedServer {
                trust: &stream.lease.upstream().trust,
                address: stream.lease.address(),
                name: "",
                timeout: limit,
            };
            Ok(Box::new(connect_tls(desktop, expected, stream.audit).await?.stream))
        }
        Tls::Anonymous => Ok(Box::new(anonymous::connect(desktop, limit).await?)),
    }
}

/// Sends `ClientInit` (section 7.3.1) and reads `ServerInit`: parsed, and as it came.
///
/// # Errors
/// Why the stream ends.
pub(super) async fn open_desktop(
    authenticated: &mut AuthenticatedDesktop,
    exclusive: bool,
) -> Result<(ServerInit, Bytes), StreamEnd> {
    let AuthenticatedDesktop { desktop, early_data } = authenticated;
    send(desktop, &mut vec![u8::from(!exclusive)]).await.map_err(StreamEnd::HandshakeIo)?;
    loop {
        if let Some(init) = ServerInit::parse(early_data).map_err(StreamEnd::Handshake)? {
            return Ok((init, early_data.split_to(init.length).freeze()));
        }
        if read_more(desktop, early_data).await.map_err(StreamEnd::HandshakeIo)? == 0 {
            return Err(StreamEnd::Handshake(RfbError::Closed("its size and name")));
        }
    }
}

/// Sends `reply` and wipes it.
async fn send(
    desktop: &mut (impl AsyncWrite + Unpin + ?Sized),
    reply: &mut Vec<u8>,
) -> io::Result<()> {
    if reply.is_empty() {
        return Ok(());
    }
    desktop.write_all(reply).await?;
    desktop.flush().await?;
    reply.fill(0);
    reply.clear();
    Ok(())
}

/// Reads more, up to what a handshake can need.
async fn read_more(desktop: &mut Box<dyn Duplex>, pending: &mut BytesMut) -> io::Result<usize> {
    let free = MAX_PENDING.saturating_sub(pending.len());
    (&mut *desktop).take(free as u64).read_buf(pending).await
}

/// Maps a connection error: a server that closes with unread bytes looks like a reset, so both are
/// reported as closed.
fn io_error(error: io::Error, handshake: &ClientHandshake) -> StreamEnd {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => StreamEnd::Handshake(handshake.unexpected_close()),
        _ => StreamEnd::HandshakeIo(error),
    }
}

/// Performs the handshake with a browser. `pending` holds what it sent before.
///
/// # Errors
/// Why the stream ends.
pub(super) async fn server_handshake(
    sink: &mut impl BrowserSink,
    source: &mut impl BrowserSource,
    mut pending: BytesMut,
) -> Result<Bytes, StreamEnd> {
    let mut reply = Vec::new();
    let mut handshake = ServerHandshake::start(&mut reply);
    loop {
        let progress =
            handshake.advance(&pending, &mut reply).map_err(StreamEnd::BrowserHandshake)?;
        let _ = pending.split_to(progress.consumed);
        if !reply.is_empty() {
            sink.send(std::mem::take(&mut reply).into())
                .await
                .map_err(|_| StreamEnd::BrowserDisconnected)?;
        }
        if progress.done {
            // A copy of the rest, which is mostly empty: the read buffer itself would be kept as
            // long as the stream.
            return Ok(Bytes::copy_from_slice(&pending));
        }
        read_message(sink, source, &mut pending, MAX_PENDING).await?;
    }
}
