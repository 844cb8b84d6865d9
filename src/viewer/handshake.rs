//! Drives the pure handshakes over real streams. What the other side sent beyond its handshake is
//! returned, not lost.

use super::anonymous;
use super::attach::StreamContext;
use super::browser::{BrowserSink, BrowserSource, read_message};
use super::stream_audit::StreamAudit;
use super::stream_end::StreamEnd;
use super::trust::{ExpectedServer, connect_tls};
use super::{Duplex, Timeouts};
use crate::domain::lease::Lease;
use crate::domain::upstream::{Credential, TrustRule};
use crate::protocol::rfb::client::{ClientHandshake, Credentials};
use crate::protocol::rfb::init::ServerInit;
use crate::protocol::rfb::server::ServerHandshake;
use crate::protocol::rfb::{MAX_PENDING, RfbError, Tls};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// A desktop whose handshake is over, and what it sent beyond.
pub(super) struct AuthenticatedDesktop {
    pub(super) desktop: Box<dyn Duplex>,
    pub(super) early_data: BytesMut,
}

/// A desktop to which nothing was proved.
pub(super) struct HandshakeFailure {
    /// The end it means for the stream.
    pub(super) end: StreamEnd,
    /// The type of VeNCrypt that did not come about, when it was no more than that: another of the
    /// desktop's may.
    pub(super) declined: Option<u32>,
}

/// Proves the lease's credential to a desktop, inside TLS where the desktop speaks it; without the
/// types of VeNCrypt that are to be avoided.
///
/// # Errors
/// [`HandshakeFailure`].
pub(super) async fn client_handshake<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    desktop: Box<dyn Duplex>,
    credential: Option<&Credential>,
    avoided: &[u32],
) -> Result<AuthenticatedDesktop, HandshakeFailure> {
    let proof = Credentials {
        username: credential.map_or(&[], |c| c.username.as_bytes()),
        password: credential.map_or(&[], |c| c.password.expose().as_bytes()),
        require_certificate: expects_certificate(stream.lease),
    };
    let mut machine = ClientHandshake::new(&proof).excluding(avoided);
    authenticate(stream, desktop, &mut machine).await.map_err(|end| {
        let declined = if let StreamEnd::Handshake(RfbError::Declined(subtype)) = &end {
            Some(*subtype)
        } else {
            // TLS did not come about. A certificate that is refused is another matter: nothing less
            // is taken then.
            machine.unauthenticated_subtype().filter(|_| matches!(end, StreamEnd::TlsFailed(_)))
        };
        HandshakeFailure { end, declined }
    })
}

async fn authenticate<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    mut desktop: Box<dyn Duplex>,
    machine: &mut ClientHandshake,
) -> Result<AuthenticatedDesktop, StreamEnd> {
    let mut pending = BytesMut::with_capacity(MAX_PENDING);
    let mut reply = Zeroizing::new(Vec::new());
    loop {
        let progress = machine.advance(&pending, &mut reply).map_err(StreamEnd::Handshake)?;
        let _ = pending.split_to(progress.consumed);
        send(&mut desktop, &mut reply).await.map_err(|e| io_error(e, machine))?;
        if progress.done {
            return Ok(AuthenticatedDesktop { desktop, early_data: pending });
        }
        if let Some(tls) = progress.start_tls {
            if !pending.is_empty() {
                // It cannot know what we shall say: these bytes would be read as if they had come
                // through TLS.
                return Err(StreamEnd::Handshake(RfbError::InvalidValue {
                    what: "first byte before TLS",
                    value: pending[0].into(),
                }));
            }
            desktop = start_tls(stream, desktop, tls).await?;
            machine.tls_established(&mut reply).map_err(StreamEnd::Handshake)?;
            send(&mut desktop, &mut reply).await.map_err(|e| io_error(e, machine))?;
        }
        match read_more(&mut desktop, &mut pending).await {
            Ok(0) => return Err(StreamEnd::Handshake(machine.unexpected_close())),
            Ok(_) => {}
            Err(error) => return Err(io_error(error, machine)),
        }
    }
}

/// An admin named a certificate, or one was met before: a desktop that shows none is another one.
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

/// Opens a proved desktop (`ClientInit`, section 7.3.1): what it says of itself, the message as it
/// came, and what it sent beyond.
///
/// # Errors
/// The [`End`] it means for the stream.
pub(super) async fn open_desktop(
    proved: &mut AuthenticatedDesktop,
    exclusive: bool,
) -> Result<(ServerInit, Bytes), StreamEnd> {
    let AuthenticatedDesktop { desktop, early_data: left } = proved;
    send(desktop, &mut vec![u8::from(!exclusive)]).await.map_err(StreamEnd::HandshakeIo)?;
    loop {
        if let Some(init) = ServerInit::parse(left).map_err(StreamEnd::Handshake)? {
            return Ok((init, left.split_to(init.length).freeze()));
        }
        if read_more(desktop, left).await.map_err(StreamEnd::HandshakeIo)? == 0 {
            return Err(StreamEnd::Handshake(RfbError::Closed("its size and name")));
        }
    }
}

/// Sends and wipes what is to be said.
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

/// Reads more, up to what a machine can need.
async fn read_more(desktop: &mut Box<dyn Duplex>, pending: &mut BytesMut) -> io::Result<usize> {
    let room = MAX_PENDING.saturating_sub(pending.len());
    (&mut *desktop).take(room as u64).read_buf(pending).await
}

/// A connection that breaks is told as what it is: a server that closes with unread bytes looks
/// like a reset.
fn io_error(error: io::Error, machine: &ClientHandshake) -> StreamEnd {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => StreamEnd::Handshake(machine.unexpected_close()),
        _ => StreamEnd::HandshakeIo(error),
    }
}

/// Greets a browser. `pending` is what it sent before it was greeted.
///
/// # Errors
/// The [`End`] it means for the stream.
pub(super) async fn server_handshake(
    sink: &mut impl BrowserSink,
    source: &mut impl BrowserSource,
    mut pending: BytesMut,
) -> Result<Bytes, StreamEnd> {
    let mut reply = Vec::new();
    let mut machine = ServerHandshake::start(&mut reply);
    loop {
        let progress =
            machine.advance(&pending, &mut reply).map_err(StreamEnd::BrowserHandshake)?;
        let _ = pending.split_to(progress.consumed);
        if !reply.is_empty() {
            sink.send(std::mem::take(&mut reply).into())
                .await
                .map_err(|_| StreamEnd::BrowserDisconnected)?;
        }
        if progress.done {
            // A copy of what is left, mostly nothing: not the memory it was read into, which would
            // stay as long as the stream.
            return Ok(Bytes::copy_from_slice(&pending));
        }
        read_message(sink, source, &mut pending, MAX_PENDING).await?;
    }
}
