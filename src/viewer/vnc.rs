//! An RFB stream: dial, authenticate to the desktop, only then greet the browser, then relay what
//! policy allows.

use super::browser::{BrowserSink, BrowserSource, read_until_end};
use super::counted_input;
use super::handshake::{self, AuthenticatedDesktop, HandshakeFailure};
use super::relay::{EarlyData, relay};
use super::stream_audit::StreamAudit;
use super::stream_context::StreamContext;
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
use crate::protocol::rfb::input::InputDetector;
use crate::protocol::rfb::{MAX_PENDING, RfbError};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::time::timeout;

type CountedInput<'a, F> = counted_input::CountedInput<'a, F, InputDetector>;

/// How often a desktop is dialled again after a VeNCrypt subtype failed. Servers count connections
/// without a login as failed attempts.
const MAX_REDIALS: usize = 2;

/// Runs the stream; an error is an end before the relay began.
pub(super) async fn run<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
    exclusive: bool,
    mut sink: impl BrowserSink,
    source: &mut impl BrowserSource,
) -> Result<StreamEnd, StreamEnd> {
    let (timeouts, upstream) = (stream.timeouts, stream.lease.upstream());
    let mut early_input = BytesMut::new();
    let mut authenticated = tokio::select! {
        biased;
        // Boxed, like the relays with filters below: a short or rare future must not enlarge every
        // stream.
        connected = Box::pin(connect(stream)) => connected?,
        end = read_until_end(&mut sink, source, &mut early_input, MAX_PENDING) => return Err(end),
    };
    let greeting = handshake::server_handshake(&mut sink, source, early_input);
    let from_browser = timeout(timeouts.handshake, greeting)
        .await
        .map_err(|_| StreamEnd::BrowserHandshakeTimeout)??;
    let opening = handshake::open_desktop(&mut authenticated, exclusive);
    let (init, message) = timeout(timeouts.handshake, opening)
        .await
        .map_err(|_| StreamEnd::HandshakeIo(io::ErrorKind::TimedOut.into()))??;
    sink.send(message).await.map_err(|_| StreamEnd::BrowserDisconnected)?;
    let AuthenticatedDesktop { desktop, early_data } = authenticated;
    // A copy of the rest, which is mostly empty: the read buffer itself would be kept as long as
    // the stream.
    let early_data = EarlyData { from_browser, from_desktop: Bytes::copy_from_slice(&early_data) };
    let (allowed, counters) = (permissions(upstream.policy), stream.counters);
    let input = &*counters.meters.input;
    if allowed == Permissions::ALL {
        return Ok(relay(
            desktop,
            sink,
            source,
            early_data,
            StreamFilters { up: CountedInput::new(PassThrough, input), down: PassThrough },
            counters,
            timeouts,
        )
        .await);
    }
    let format = SharedPixelFormat::new(init.format);
    let up = CountedInput::new(BrowserFilter(UpFilter::new(allowed, format.clone())), input);
    Ok(if allowed.clipboard_out {
        Box::pin(relay(
            desktop,
            sink,
            source,
            early_data,
            StreamFilters { up, down: PassThrough },
            counters,
            timeouts,
        ))
        .await
    } else {
        let down = DesktopFilter(DownFilter::new(allowed, format));
        Box::pin(relay(
            desktop,
            sink,
            source,
            early_data,
            StreamFilters { up, down },
            counters,
            timeouts,
        ))
        .await
    })
}

/// A desktop that offers VeNCrypt subtypes it cannot perform, such as X.509 without a certificate,
/// is dialled again for the next best one; the lease still decides what is acceptable. The first
/// failure is reported.
async fn connect<B: StreamAudit>(
    stream: &StreamContext<'_, B>,
) -> Result<AuthenticatedDesktop, StreamEnd> {
    let credential = stream.credential()?;
    let (mut excluded, mut first) = (Vec::new(), None);
    loop {
        let desktop = stream.dial().await?;
        let handshaken = timeout(
            stream.timeouts.handshake + stream.timeouts.security_result,
            handshake::client_handshake(stream, desktop, credential, &excluded),
        )
        .await;
        match handshaken.map_err(|_| StreamEnd::HandshakeIo(io::ErrorKind::TimedOut.into()))? {
            Ok(authenticated) => return Ok(authenticated),
            Err(HandshakeFailure {
                end: StreamEnd::Handshake(error @ RfbError::AuthenticationFailed(_)),
                ..
            }) => {
                return Err(stream.login_refused(error.reason_code(), error).await);
            }
            Err(HandshakeFailure { end, declined: Some(subtype) })
                if excluded.len() < MAX_REDIALS =>
            {
                excluded.push(subtype);
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

/// The policy as RFB permissions. RFB has no file transfer.
fn permissions(policy: StreamPolicy) -> Permissions {
    let StreamPolicy { clipboard, read_only, files: _ } = policy;
    Permissions {
        clipboard_in: clipboard.allows_in() && !read_only,
        clipboard_out: clipboard.allows_out(),
        input: !read_only,
    }
}

/// Filter of the browser's messages.
struct BrowserFilter(UpFilter);

/// Filter of the desktop's messages.
struct DesktopFilter(DownFilter);

// What RFB's filters refuse was not requested, so there are no replies.
impl StreamFilter for BrowserFilter {
    const REPLIES: bool = false;

    fn feed(&mut self, chunk: Bytes, output: &mut Filtered) -> Result<(), StreamFilterError> {
        self.0.feed(&chunk, &mut FilterOutput(output, Direction::Up)).map_err(filter_error)
    }

    fn at_message_boundary(&self) -> bool {
        self.0.at_message_boundary()
    }
}

impl StreamFilter for DesktopFilter {
    const REPLIES: bool = false;

    fn feed(&mut self, chunk: Bytes, output: &mut Filtered) -> Result<(), StreamFilterError> {
        self.0.feed(&chunk, &mut FilterOutput(output, Direction::Down)).map_err(filter_error)
    }

    fn at_message_boundary(&self) -> bool {
        self.0.at_message_boundary()
    }
}

fn filter_error(error: FilterError) -> StreamFilterError {
    match error {
        FilterError::Forbidden(reason) => StreamFilterError::Forbidden(reason),
        FilterError::Malformed(reason) => StreamFilterError::Malformed(reason),
    }
}

/// Output of a filter, as a relay's.
struct FilterOutput<'a>(&'a mut Filtered, Direction);

impl FilterSink for FilterOutput<'_> {
    fn pass(&mut self, piece: Bytes) {
        self.0.forward.push_back(piece);
    }

    fn refuse(&mut self, content: RefusedContent, bytes: u64) {
        let channel = match content {
            RefusedContent::Clipboard => Channel::Clipboard,
            RefusedContent::Input => Channel::Input,
        };
        self.0.refused.push(RefusedTransfer { channel, direction: self.1, bytes, count: 1 });
    }
}
