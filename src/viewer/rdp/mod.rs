//! An RDP stream: read the browser's request, dial, negotiate, TLS and certificate check,
//! authenticate, only then answer the browser, then relay through the filters.
//!
//! | file | contents |
//! | --- | --- |
//! | [`cleanpath`] | RDCleanPath: the browser's request and the response |
//! | [`nla`] | authentication before RDP begins (CredSSP) |
//! | `filters` | edits of the stream, and policy |
//!
//! - *selected*: the security protocol that the server selected. The browser is told TLS, whatever
//!   the gateway performed with the server.
//! - *placeholder*: user and password in the browser's Client Info PDU. The gateway overwrites them
//!   with the credential, which is how a server without NLA receives it; a wrong password there
//!   does not end the stream, but is shown by the desktop's own login screen.
//!
//! A server that ends the connection gives its reason, if any, in a PDU before that (Set Error
//! Info); the stream then ends with this reason.

pub mod cleanpath;
mod filters;
pub mod nla;

use super::browser::{BrowserSink, BrowserSource, read_until_end};
use super::counted_input::CountedInput;
use super::dial::Duplex;
use super::relay::{EarlyData, relay};
use super::stream_audit::StreamAudit;
use super::stream_context::StreamContext;
use super::stream_end::StreamEnd;
use super::stream_filter::{Direction, StreamFilters};
use super::trust::{ExpectedServer, TlsUpstream, connect_tls};
use crate::domain::upstream::Credential;
use crate::protocol::rdp::RdpError;
use crate::protocol::rdp::error_info::ErrorInfo;
use crate::protocol::rdp::frame::{Framer, Measure};
use crate::protocol::rdp::input::InputDetector;
use crate::protocol::rdp::x224::{self, ConnectionConfirm, HYBRID, NegotiationFailure, SSL};
use bytes::{Bytes, BytesMut};
use cleanpath::Request;
use nla::{LogonFailure, NlaError};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// Longest wait to send the failure response; the close frame says more.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// A server that accepted the credential, or needs none before RDP begins.
struct ConnectedDesktop {
    desktop: TlsStream<Box<dyn Duplex>>,
    /// The security protocol it selected.
    selected: u32,
    /// The RDCleanPath response.
    response: Bytes,
}

/// Runs the stream; an error is an end before the relay began.
pub(super) async fn run<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    keyboard_layout: Option<u32>,
    mut sink: impl BrowserSink,
    source: &mut impl BrowserSource,
) -> Result<StreamEnd, StreamEnd> {
    let timeouts = stream.timeouts;
    let credential = stream.credential()?;
    let mut early_input = BytesMut::new();
    let requested = cleanpath::read_request(&mut sink, source, &mut early_input);
    let request = timeout(timeouts.handshake, requested)
        .await
        .map_err(|_| StreamEnd::BrowserHandshakeTimeout)??;
    let connected = tokio::select! {
        biased;
        connected = Box::pin(connect(stream, credential, &request)) => connected,
        end = read_until_end(&mut sink, source, &mut early_input, cleanpath::MAX_REQUEST) => return Err(end),
    };
    let ConnectedDesktop { desktop, selected, response } = match connected {
        Ok(connected) => connected,
        Err(end) => {
            if let Some(refusal) = cleanpath::refusal(status(&end)) {
                let _ = timeout(REFUSAL_TIMEOUT, sink.send(refusal)).await;
            }
            return Err(end);
        }
    };
    sink.send(response).await.map_err(|_| StreamEnd::BrowserDisconnected)?;
    let early_data = EarlyData { from_browser: early_input.freeze(), from_desktop: Bytes::new() };
    let policy = stream.lease.upstream().policy;
    let late_failure = filters::LateLogonFailure::default();
    let (StreamFilters { up, down }, end_info) =
        filters::stream_filters(policy, keyboard_layout, credential, selected, &late_failure);
    let counters = stream.counters;
    let up = CountedInput::<_, InputDetector>::new(up, &counters.meters.input);
    let filters = StreamFilters { up, down };
    let end = relay(desktop, sink, source, early_data, filters, counters, timeouts).await;
    let (info, error) = end_info.end_info();
    let (info, error) = (
        info.filter(|_| is_disconnect(&end)),
        error.filter(|_| matches!(end, StreamEnd::Filter(Direction::Down, _))),
    );
    let refusal = late_failure.get().copied().or(match info {
        Some(ErrorInfo::NotGranted) => Some(LogonFailure::NotGranted),
        Some(ErrorInfo::FreshCredentialsRequired) => Some(LogonFailure::FreshCredentialsRequired),
        Some(_) | None => None,
    });
    Ok(match (refusal, info, error) {
        (Some(refusal), _, _) => {
            stream.login_refused(refusal.reason_code(), NlaError::Refused(refusal)).await
        }
        (None, Some(info), _) => StreamEnd::DesktopDisconnected(info),
        (None, None, Some(RdpError::Redirected)) => StreamEnd::Redirected,
        (None, None, Some(error @ (RdpError::DesktopSize { .. } | RdpError::MonitorLayout))) => {
            StreamEnd::Rdp(error)
        }
        (None, None, Some(_) | None) => end,
    })
}

/// Whether one of the sides disconnected: the server's announced reason is then the reason,
/// whichever side acted on it first.
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
    check_destination(stream, request).await?;
    x224::parse_request(&request.connect).map_err(StreamEnd::BrowserRdp)?;
    let mut desktop = stream.dial().await?;
    // Without a credential NLA is not offered.
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
        authenticate(stream, &mut desktop, own, credential).await?;
    }
    let chain = chain.into_iter().map(|certificate| certificate.to_vec()).collect();
    let response = cleanpath::response(session, x224::encode_confirm(confirm).to_vec(), chain)
        .ok_or(StreamEnd::Rdp(RdpError::Malformed("certificate")))?;
    Ok(ConnectedDesktop { desktop, selected: confirm.selected, response })
}

/// The session's page may name its own session only.
async fn check_destination<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    request: &Request,
) -> Result<(), StreamEnd> {
    if request.destination == cleanpath::destination(stream.lease.session().id) {
        return Ok(());
    }
    stream
        .audit
        .destination_refused(&cleanpath::printable_destination(&request.destination))
        .await
        .map_err(StreamEnd::AuditFailed)?;
    Err(StreamEnd::DestinationMismatch)
}

/// Performs NLA within the time limit, and records a refusal.
async fn authenticate<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    desktop: &mut (impl AsyncRead + AsyncWrite + Unpin),
    certificate: &[u8],
    credential: &Credential,
) -> Result<(), StreamEnd> {
    let result =
        timeout(stream.timeouts.handshake, nla::authenticate(desktop, certificate, credential))
            .await;
    match result.map_err(|_| StreamEnd::HandshakeIo(io::ErrorKind::TimedOut.into()))? {
        Ok(()) => Ok(()),
        Err(NlaError::Refused(refusal)) => {
            Err(stream.login_refused(refusal.reason_code(), NlaError::Refused(refusal)).await)
        }
        Err(error) => Err(StreamEnd::Nla(error)),
    }
}

/// X.224 negotiation, before TLS. Nothing of the browser's request is sent to the server.
async fn negotiate(
    desktop: &mut (impl AsyncRead + AsyncWrite + Unpin),
    protocols: u32,
) -> Result<ConnectionConfirm, StreamEnd> {
    let written = async {
        desktop.write_all(&x224::encode_request(protocols)).await?;
        desktop.flush().await
    };
    written.await.map_err(StreamEnd::HandshakeIo)?;
    let framer = Framer { credssp: false, limit: x224::MAX_LENGTH };
    let mut response = Vec::with_capacity(32);
    let mut need = 1;
    while response.len() < need {
        let seen = response.len();
        response.resize(need, 0);
        let Some(room) = response.get_mut(seen..) else { break };
        desktop.read_exact(room).await.map_err(StreamEnd::HandshakeIo)?;
        // Only TPKT is valid here.
        if let Some(&first) = response.first().filter(|first| **first != 3) {
            return Err(StreamEnd::Rdp(RdpError::NotRdp { first }));
        }
        need = match framer.measure(&response).map_err(StreamEnd::Rdp)? {
            Measure::Need(more) => more,
            Measure::Known(frame) => frame.length,
        };
    }
    x224::parse_confirm(&response, protocols).map_err(StreamEnd::Rdp)
}

/// HTTP status of the RDCleanPath response for an end before the relay.
fn status(end: &StreamEnd) -> u16 {
    match end.close_frame().0 {
        4005 | 4006 => 401,
        4004 | 4007 => 403,
        4002 => 502,
        1002 | 1009 => 400,
        _ => 503,
    }
}
