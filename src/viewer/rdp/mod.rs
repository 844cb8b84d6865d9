//! A stream of RDP: hear what the browser asks for, dial, negotiate, make TLS and check the
//! certificate, prove the credential, only then answer the browser, then relay through the gates.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`cleanpath`] | how a browser asks for a connection (RDCleanPath), and what it is told |
//! | [`nla`] | how the credential is proved before RDP begins (CredSSP) |
//! | `gates` | what of the stream is edited, and what policy lets through |
//!
//! - *selected*: the security protocol that the server chose. The browser is told that it is TLS,
//!   whatever the gateway did with the server.
//! - *placeholder*: what the browser says of user and password. The gateway writes the credential
//!   over it in the Client Info PDU, which is how a server without NLA learns it; so a wrong
//!   password there is not an end of the stream, but something that the desktop's own login screen
//!   says.
//!
//! A server that ends the connection says why, at most, in a PDU before it (Set Error Info); that
//! is what the stream ends with then, in words.

pub mod cleanpath;
mod filters;
pub mod nla;

use super::Duplex;
use super::attach::StreamContext;
use super::browser::{BrowserSink, BrowserSource, read_until_end};
use super::relay::{EarlyData, relay};
use super::stream_audit::StreamAudit;
use super::stream_end::StreamEnd;
use super::stream_filter::Direction;
use super::trust::{ExpectedServer, TlsUpstream, connect_tls};
use crate::domain::upstream::Credential;
use crate::protocol::rdp::RdpError;
use crate::protocol::rdp::error_info::ErrorInfo;
use crate::protocol::rdp::frame::{Framer, Measure};
use crate::protocol::rdp::x224::{self, ConnectionConfirm, HYBRID, NegotiationFailure, SSL};
use bytes::{Bytes, BytesMut};
use cleanpath::Request;
use nla::{LogonFailure, NlaError};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// How long a browser has to take the answer that there will be no connection; the close frame says
/// more.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// A server that took the credential, or needs none before RDP begins.
struct ConnectedDesktop {
    desktop: TlsStream<Box<dyn Duplex>>,
    /// The protocol it chose.
    selected: u32,
    /// What the browser is told.
    response: Bytes,
}

/// Runs the stream; an error is an end before the relay began.
pub(super) async fn run<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    mut sink: impl BrowserSink,
    source: &mut impl BrowserSource,
) -> Result<StreamEnd, StreamEnd> {
    let limits = stream.timeouts;
    let credential = stream.credential()?;
    let mut early = BytesMut::new();
    let asked = cleanpath::read_request(&mut sink, source, &mut early);
    let request = timeout(limits.handshake, asked)
        .await
        .map_err(|_| StreamEnd::BrowserHandshakeTimeout)??;
    let opened = tokio::select! {
        biased;
        opened = Box::pin(connect(stream, credential, &request)) => opened,
        end = read_until_end(&mut sink, source, &mut early, cleanpath::MAX_REQUEST) => return Err(end),
    };
    let ConnectedDesktop { desktop, selected, response: answer } = match opened {
        Ok(opened) => opened,
        Err(end) => {
            if let Some(refusal) = cleanpath::refusal(status(&end)) {
                let _ = timeout(REFUSAL_TIMEOUT, sink.send(refusal)).await;
            }
            return Err(end);
        }
    };
    sink.send(answer).await.map_err(|_| StreamEnd::BrowserDisconnected)?;
    let left = EarlyData { from_browser: early.freeze(), from_desktop: Bytes::new() };
    let server = stream.lease.upstream();
    let late = filters::LateLogonFailure::default();
    let (gates, said) = filters::stream_filters(server, credential, selected, &late);
    let end = relay(desktop, sink, source, left, gates, stream.counters, limits).await;
    let (info, error) = said.end_info();
    let (info, error) = (
        info.filter(|_| is_disconnect(&end)),
        error.filter(|_| matches!(end, StreamEnd::Filter(Direction::Down, _))),
    );
    let refusal = late.get().copied().or(match info {
        Some(ErrorInfo::NotGranted) => Some(LogonFailure::NotGranted),
        Some(ErrorInfo::FreshCredentialsRequired) => Some(LogonFailure::FreshCredentialsRequired),
        Some(_) | None => None,
    });
    Ok(match (refusal, info, error) {
        (Some(refusal), _, _) => {
            stream.login_refused(refusal.word(), NlaError::Refused(refusal)).await
        }
        (None, Some(info), _) => StreamEnd::DesktopDisconnected(info),
        (None, None, Some(RdpError::Redirected)) => StreamEnd::Redirected,
        (None, None, Some(error @ (RdpError::DesktopSize { .. } | RdpError::MonitorLayout))) => {
            StreamEnd::Rdp(error)
        }
        (None, None, Some(_) | None) => end,
    })
}

/// Whether one of the sides hung up: what the server said before is why, whichever of them was the
/// first to act on it.
fn is_disconnect(end: &StreamEnd) -> bool {
    matches!(
        end,
        StreamEnd::DesktopClosed | StreamEnd::BrowserClosed | StreamEnd::BrowserDisconnected
    )
}

/// Connects to the lease's server, and to no other.
async fn connect<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    credential: Option<&Credential>,
    request: &Request,
) -> Result<ConnectedDesktop, StreamEnd> {
    let session = stream.lease.session().id;
    if request.destination != cleanpath::destination(session) {
        stream
            .audit
            .destination_refused(&cleanpath::printable_destination(&request.destination))
            .await
            .map_err(StreamEnd::AuditFailed)?;
        return Err(StreamEnd::DestinationMismatch);
    }
    x224::parse_request(&request.connect).map_err(StreamEnd::BrowserRdp)?;
    let mut desktop = stream.dial().await?;
    // Without a credential there is nothing to prove before RDP begins.
    let protocols = if credential.is_some() { SSL | HYBRID } else { SSL };
    let negotiated = timeout(stream.timeouts.handshake, negotiate(&mut desktop, protocols)).await;
    let confirm = match negotiated
        .map_err(|_| StreamEnd::HandshakeIo(io::ErrorKind::TimedOut.into()))?
    {
        Err(StreamEnd::Rdp(RdpError::Refused(NegotiationFailure::HybridRequired)))
            if credential.is_none() =>
        {
            return Err(StreamEnd::CredentialRequired(stream.lease.upstream().credential_source));
        }
        other => other?,
    };
    let expected = ExpectedServer {
        trust: &stream.lease.upstream().trust,
        address: stream.lease.address(),
        name: "",
        timeout: stream.timeouts.handshake,
    };
    let TlsUpstream { stream: mut desktop, chain } =
        connect_tls(desktop, expected, stream.audit).await?;
    let own = chain.first().ok_or_else(|| {
        StreamEnd::TlsFailed(io::Error::other("the server showed no certificate"))
    })?;
    if confirm.selected == HYBRID
        && let Some(credential) = credential
    {
        let proved =
            timeout(stream.timeouts.handshake, nla::authenticate(&mut desktop, own, credential))
                .await;
        match proved.map_err(|_| StreamEnd::HandshakeIo(io::ErrorKind::TimedOut.into()))? {
            Ok(()) => {}
            Err(NlaError::Refused(refusal)) => {
                return Err(stream.login_refused(refusal.word(), NlaError::Refused(refusal)).await);
            }
            Err(error) => return Err(StreamEnd::Nla(error)),
        }
    }
    let chain = chain.into_iter().map(|certificate| certificate.to_vec()).collect();
    let answer = cleanpath::response(session, x224::encode_confirm(confirm).to_vec(), chain)
        .ok_or(StreamEnd::Rdp(RdpError::Malformed("certificate")))?;
    Ok(ConnectedDesktop { desktop, selected: confirm.selected, response: answer })
}

/// X.224, before TLS: nothing of the browser's request goes to the server.
async fn negotiate(
    desktop: &mut (impl AsyncRead + AsyncWrite + Unpin),
    protocols: u32,
) -> Result<ConnectionConfirm, StreamEnd> {
    let said = async {
        desktop.write_all(&x224::encode_request(protocols)).await?;
        desktop.flush().await
    };
    said.await.map_err(StreamEnd::HandshakeIo)?;
    let framer = Framer { credssp: false, limit: x224::MAX_LENGTH };
    let mut answer = Vec::with_capacity(32);
    let mut need = 1;
    while answer.len() < need {
        let seen = answer.len();
        answer.resize(need, 0);
        let Some(room) = answer.get_mut(seen..) else { break };
        desktop.read_exact(room).await.map_err(StreamEnd::HandshakeIo)?;
        // Whatever else RDP may begin a PDU with: not here.
        if let Some(&first) = answer.first().filter(|first| **first != 3) {
            return Err(StreamEnd::Rdp(RdpError::NotRdp { first }));
        }
        need = match framer.measure(&answer).map_err(StreamEnd::Rdp)? {
            Measure::Need(more) => more,
            Measure::Known(frame) => frame.length,
        };
    }
    x224::parse_confirm(&answer, protocols).map_err(StreamEnd::Rdp)
}

/// An end before the relay as an RDCleanPath client may be told it: an HTTP status.
fn status(end: &StreamEnd) -> u16 {
    match end.close_frame().0 {
        4005 | 4006 => 401,
        4004 | 4007 => 403,
        4002 => 502,
        1002 | 1009 => 400,
        _ => 503,
    }
}
