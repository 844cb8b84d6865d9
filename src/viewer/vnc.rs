//! A stream of RFB: dial, prove the credential, only then greet the browser, then relay what policy
//! lets pass.

use super::attach::StreamContext;
use super::browser::{BrowserSink, BrowserSource, read_until_end};
use super::handshake::{self, AuthenticatedDesktop, HandshakeFailure};
use super::relay::{EarlyData, relay};
use super::stream_audit::StreamAudit;
use super::stream_end::StreamEnd;
use super::stream_filter::{
    Channel, Direction, Filtered, PassThrough, RefusedTransfer, StreamFilter, StreamFilterError,
    StreamFilters,
};
use crate::domain::upstream::StreamPolicy;
use crate::protocol::rfb::filter::down::DownFilter;
use crate::protocol::rfb::filter::up::UpFilter;
use crate::protocol::rfb::filter::{
    FilterError, FilterSink, Permissions, RefusedContent, SharedPixelFormat,
};
use crate::protocol::rfb::{MAX_PENDING, RfbError};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::time::timeout;

/// How often a desktop is dialled again because a type of VeNCrypt did not come about. Servers take
/// it badly to be dialled often without a login.
const MAX_REDIALS: usize = 2;

/// Runs the stream; an error is an end before the relay began.
pub(super) async fn run<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    mut sink: impl BrowserSink,
    source: &mut impl BrowserSource,
) -> Result<StreamEnd, StreamEnd> {
    let (limits, server) = (stream.timeouts, stream.lease.upstream());
    let mut early = BytesMut::new();
    let mut proved = tokio::select! {
        biased;
        // On the heap, like the relays with gates below: what lives a moment, or rarely, is not
        // room in every stream.
        connected = Box::pin(connect(stream)) => connected?,
        end = read_until_end(&mut sink, source, &mut early, MAX_PENDING) => return Err(end),
    };
    let greeting = handshake::server_handshake(&mut sink, source, early);
    let from_browser = timeout(limits.handshake, greeting)
        .await
        .map_err(|_| StreamEnd::BrowserHandshakeTimeout)??;
    let opening = handshake::open_desktop(&mut proved, server.exclusive);
    let (init, message) = timeout(limits.handshake, opening)
        .await
        .map_err(|_| StreamEnd::HandshakeIo(io::ErrorKind::TimedOut.into()))??;
    sink.send(message).await.map_err(|_| StreamEnd::BrowserDisconnected)?;
    let AuthenticatedDesktop { desktop, early_data: left } = proved;
    // A copy of what is left, mostly nothing: not the memory it was read into, which would stay as
    // long as the stream.
    let left = EarlyData { from_browser, from_desktop: Bytes::copy_from_slice(&left) };
    let (rules, observers) = (permissions(server.policy), stream.counters);
    if rules == Permissions::ALL {
        return Ok(relay(
            desktop,
            sink,
            source,
            left,
            StreamFilters::PASS_THROUGH,
            observers,
            limits,
        )
        .await);
    }
    let format = SharedPixelFormat::new(init.format);
    let up = BrowserFilter(UpFilter::new(rules, format.clone()));
    Ok(if rules.clipboard_out {
        Box::pin(relay(
            desktop,
            sink,
            source,
            left,
            StreamFilters { up, down: PassThrough },
            observers,
            limits,
        ))
        .await
    } else {
        let down = DesktopFilter(DownFilter::new(rules, format));
        Box::pin(relay(desktop, sink, source, left, StreamFilters { up, down }, observers, limits))
            .await
    })
}

/// A desktop that offers types of VeNCrypt it cannot do, such as one with a certificate when it has
/// none, is asked again for the next best one: what is acceptable stays what the lease says. The
/// first failure is the one that is told.
async fn connect<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
) -> Result<AuthenticatedDesktop, StreamEnd> {
    let credential = stream.credential()?;
    let (mut avoided, mut first) = (Vec::new(), None);
    loop {
        let desktop = stream.dial().await?;
        let shaken = timeout(
            stream.timeouts.handshake,
            handshake::client_handshake(stream, desktop, credential, &avoided),
        )
        .await;
        match shaken.map_err(|_| StreamEnd::HandshakeIo(io::ErrorKind::TimedOut.into()))? {
            Ok(proved) => return Ok(proved),
            Err(HandshakeFailure {
                end: StreamEnd::Handshake(error @ RfbError::AuthenticationFailed(_)),
                ..
            }) => {
                return Err(stream.login_refused(error.reason_code(), error).await);
            }
            Err(HandshakeFailure { end, declined: Some(subtype) })
                if avoided.len() < MAX_REDIALS =>
            {
                avoided.push(subtype);
                first.get_or_insert(end);
            }
            Err(HandshakeFailure {
                end: StreamEnd::Handshake(RfbError::NoCertificate), ..
            }) if first.is_none() => {
                return Err(StreamEnd::CertificateRefused("certificate_missing"));
            }
            Err(HandshakeFailure { end, .. }) => return Err(first.unwrap_or(end)),
        }
    }
}

/// The policy in RFB's words. RFB has no files.
fn permissions(policy: StreamPolicy) -> Permissions {
    let StreamPolicy { clipboard, read_only, files: _ } = policy;
    Permissions {
        clipboard_in: clipboard.allows_in() && !read_only,
        clipboard_out: clipboard.allows_out(),
        input: !read_only,
    }
}

/// The gate of what a browser sends.
struct BrowserFilter(UpFilter);

/// The gate of what a desktop sends.
struct DesktopFilter(DownFilter);

// What RFB's filters hold back is not asked for, so nothing is answered.
impl StreamFilter for BrowserFilter {
    const REPLIES: bool = false;

    fn feed(&mut self, chunk: Bytes, passed: &mut Filtered) -> Result<(), StreamFilterError> {
        self.0.feed(&chunk, &mut FilterOutput(passed, Direction::Up)).map_err(filter_error)
    }

    fn at_message_boundary(&self) -> bool {
        self.0.at_message_boundary()
    }
}

impl StreamFilter for DesktopFilter {
    const REPLIES: bool = false;

    fn feed(&mut self, chunk: Bytes, passed: &mut Filtered) -> Result<(), StreamFilterError> {
        self.0.feed(&chunk, &mut FilterOutput(passed, Direction::Down)).map_err(filter_error)
    }

    fn at_message_boundary(&self) -> bool {
        self.0.at_message_boundary()
    }
}

fn filter_error(error: FilterError) -> StreamFilterError {
    match error {
        FilterError::Forbidden(what) => StreamFilterError::Forbidden(what),
        FilterError::Malformed(what) => StreamFilterError::Malformed(what),
    }
}

/// A filter's view of what passes.
struct FilterOutput<'a>(&'a mut Filtered, Direction);

impl FilterSink for FilterOutput<'_> {
    fn pass(&mut self, piece: Bytes) {
        self.0.forward.push_back(piece);
    }

    fn refuse(&mut self, held: RefusedContent, bytes: u64) {
        let channel = match held {
            RefusedContent::Clipboard => Channel::Clipboard,
            RefusedContent::Input => Channel::Input,
        };
        self.0.refused.push(RefusedTransfer { channel, direction: self.1, bytes, count: 1 });
    }
}
