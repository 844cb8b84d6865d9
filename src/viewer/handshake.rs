//! Drives the pure handshakes over real streams. What the other side sent beyond its handshake is
//! returned, not lost.

use super::anonymous;
use super::attach::Stream;
use super::books::Books;
use super::browser::{BrowserSink, BrowserSource, listen};
use super::end::End;
use super::trust::{Expected, secure};
use super::{Duplex, Limits};
use crate::domain::lease::Lease;
use crate::domain::server::{Credential, TrustRule};
use crate::protocol::rfb::client::{ClientHandshake, Proof};
use crate::protocol::rfb::init::ServerInit;
use crate::protocol::rfb::server::ServerHandshake;
use crate::protocol::rfb::{MAX_PENDING, RfbError, Tls};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// A desktop whose handshake is over, and what it sent beyond.
pub(super) struct Proved {
    pub(super) desktop: Box<dyn Duplex>,
    pub(super) left: BytesMut,
}

/// A desktop to which nothing was proved.
pub(super) struct Unproved {
    /// The end it means for the stream.
    pub(super) end: End,
    /// The type of VeNCrypt that did not come about, when it was no more than that: another of the
    /// desktop's may.
    pub(super) declined: Option<u32>,
}

/// Proves the lease's credential to a desktop, inside TLS where the desktop speaks it; without the
/// types of VeNCrypt that are to be avoided.
///
/// # Errors
/// [`Unproved`].
pub(super) async fn with_desktop<B: Books>(
    stream: &Stream<'_, B>,
    desktop: Box<dyn Duplex>,
    credential: Option<&Credential>,
    avoided: &[u32],
) -> Result<Proved, Unproved> {
    let proof = Proof {
        username: credential.map_or(&[], |c| c.username.as_bytes()),
        password: credential.map_or(&[], |c| c.password.expose().as_bytes()),
        certified: expects_certificate(stream.lease),
    };
    let mut machine = ClientHandshake::new(&proof).avoiding(avoided);
    prove(stream, desktop, &mut machine).await.map_err(|end| {
        let declined = if let End::Handshake(RfbError::Declined(subtype)) = &end {
            Some(*subtype)
        } else {
            // TLS did not come about. A certificate that is refused is another matter: nothing less
            // is taken then.
            machine.unproved().filter(|_| matches!(end, End::Insecure(_)))
        };
        Unproved { end, declined }
    })
}

async fn prove<B: Books>(
    stream: &Stream<'_, B>,
    mut desktop: Box<dyn Duplex>,
    machine: &mut ClientHandshake,
) -> Result<Proved, End> {
    let mut pending = BytesMut::with_capacity(MAX_PENDING);
    let mut reply = Zeroizing::new(Vec::new());
    loop {
        let progress = machine.advance(&pending, &mut reply).map_err(End::Handshake)?;
        let _ = pending.split_to(progress.consumed);
        send(&mut desktop, &mut reply).await.map_err(|e| broken(e, machine))?;
        if progress.done {
            return Ok(Proved { desktop, left: pending });
        }
        if let Some(tls) = progress.secure {
            if !pending.is_empty() {
                // It cannot know what we shall say: these bytes would be read as if they had come
                // through TLS.
                return Err(End::Handshake(RfbError::Nonsense {
                    what: "first byte before TLS",
                    value: pending[0].into(),
                }));
            }
            desktop = inside(stream, desktop, tls).await?;
            machine.secured(&mut reply).map_err(End::Handshake)?;
            send(&mut desktop, &mut reply).await.map_err(|e| broken(e, machine))?;
        }
        match fill(&mut desktop, &mut pending).await {
            Ok(0) => return Err(End::Handshake(machine.closed())),
            Ok(_) => {}
            Err(error) => return Err(broken(error, machine)),
        }
    }
}

/// An admin named a certificate, or one was met before: a desktop that shows none is another one.
fn expects_certificate(lease: &Lease) -> bool {
    let trust = &lease.server().trust;
    match &trust.rule {
        TrustRule::FirstUse => trust.pin.is_some(),
        TrustRule::Pinned(_) | TrustRule::Authority { .. } => true,
    }
}

async fn inside<B: Books>(
    stream: &Stream<'_, B>,
    desktop: Box<dyn Duplex>,
    tls: Tls,
) -> Result<Box<dyn Duplex>, End> {
    let Limits { handshake: limit, .. } = *stream.limits;
    match tls {
        Tls::Certified => {
            let expected = Expected {
                trust: &stream.lease.server().trust,
                address: stream.lease.address(),
                name: "",
                limit,
            };
            Ok(Box::new(secure(desktop, expected, stream.books).await?.stream))
        }
        Tls::Anonymous => Ok(Box::new(anonymous::secure(desktop, limit).await?)),
    }
}

/// Opens a proved desktop (`ClientInit`, section 7.3.1): what it says of itself, the message as it
/// came, and what it sent beyond.
///
/// # Errors
/// The [`End`] it means for the stream.
pub(super) async fn open_desktop(
    proved: &mut Proved,
    exclusive: bool,
) -> Result<(ServerInit, Bytes), End> {
    let Proved { desktop, left } = proved;
    send(desktop, &mut vec![u8::from(!exclusive)]).await.map_err(End::HandshakeBroken)?;
    loop {
        if let Some(init) = ServerInit::parse(left).map_err(End::Handshake)? {
            return Ok((init, left.split_to(init.length).freeze()));
        }
        if fill(desktop, left).await.map_err(End::HandshakeBroken)? == 0 {
            return Err(End::Handshake(RfbError::Closed("its size and name")));
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
async fn fill(desktop: &mut Box<dyn Duplex>, pending: &mut BytesMut) -> io::Result<usize> {
    let room = MAX_PENDING.saturating_sub(pending.len());
    (&mut *desktop).take(room as u64).read_buf(pending).await
}

/// A connection that breaks is told as what it is: a server that closes with unread bytes looks
/// like a reset.
fn broken(error: io::Error, machine: &ClientHandshake) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => End::Handshake(machine.closed()),
        _ => End::HandshakeBroken(error),
    }
}

/// Greets a browser. `pending` is what it sent before it was greeted.
///
/// # Errors
/// The [`End`] it means for the stream.
pub(super) async fn with_browser(
    sink: &mut impl BrowserSink,
    source: &mut impl BrowserSource,
    mut pending: BytesMut,
) -> Result<Bytes, End> {
    let mut reply = Vec::new();
    let mut machine = ServerHandshake::start(&mut reply);
    loop {
        let progress = machine.advance(&pending, &mut reply).map_err(End::BrowserNonsense)?;
        let _ = pending.split_to(progress.consumed);
        if !reply.is_empty() {
            sink.send(std::mem::take(&mut reply).into()).await.map_err(|_| End::BrowserGone)?;
        }
        if progress.done {
            // A copy of what is left, mostly nothing: not the memory it was read into, which would
            // stay as long as the stream.
            return Ok(Bytes::copy_from_slice(&pending));
        }
        listen(sink, source, &mut pending, MAX_PENDING).await?;
    }
}
