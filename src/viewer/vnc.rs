//! A stream of RFB: dial, prove the credential, only then greet the browser, then relay what policy lets pass.

use super::attach::Stream;
use super::books::Books;
use super::browser::{BrowserSink, BrowserSource, wait_for_end};
use super::end::End;
use super::gate::{Channel, Direction, Gate, GateError, Gates, Open, Passed, Refused};
use super::handshake::{self, Proved};
use super::relay::{Leftovers, relay};
use crate::domain::server::StreamPolicy;
use crate::protocol::rfb::filter::down::DownFilter;
use crate::protocol::rfb::filter::up::UpFilter;
use crate::protocol::rfb::filter::{FilterError, Format, Held, Rules, Sieve};
use crate::protocol::rfb::{MAX_PENDING, RfbError};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::time::timeout;

/// Runs the stream; an error is an end before the relay began.
pub(super) async fn run<B: Books>(stream: &Stream<'_, B>, mut sink: impl BrowserSink, source: &mut impl BrowserSource) -> Result<End, End> {
    let (limits, server) = (stream.limits, stream.lease.server());
    let mut early = BytesMut::new();
    let mut proved = tokio::select! {
        biased;
        // On the heap, like the relays with gates below: what lives a moment, or rarely, is not room in every stream.
        connected = Box::pin(connect(stream)) => connected?,
        end = wait_for_end(&mut sink, source, &mut early, MAX_PENDING) => return Err(end),
    };
    let greeting = handshake::with_browser(&mut sink, source, early);
    let from_browser = timeout(limits.handshake, greeting).await.map_err(|_| End::BrowserIdle)??;
    let opening = handshake::open_desktop(&mut proved, server.exclusive);
    let (init, message) = timeout(limits.handshake, opening).await.map_err(|_| End::HandshakeBroken(io::ErrorKind::TimedOut.into()))??;
    sink.send(message).await.map_err(|_| End::BrowserGone)?;
    let Proved { desktop, left } = proved;
    // A copy of what is left, mostly nothing: not the memory it was read into, which would stay as long as the stream.
    let left = Leftovers { from_browser, from_desktop: Bytes::copy_from_slice(&left) };
    let (rules, observers) = (rules(server.policy), stream.observers);
    if rules == Rules::ALL {
        return Ok(relay(desktop, sink, source, left, Gates::OPEN, observers, limits).await);
    }
    let format = Format::new(init.format);
    let up = Up(UpFilter::new(rules, format.clone()));
    Ok(if rules.clipboard_out {
        Box::pin(relay(desktop, sink, source, left, Gates { up, down: Open }, observers, limits)).await
    } else {
        let down = Down(DownFilter::new(rules, format));
        Box::pin(relay(desktop, sink, source, left, Gates { up, down }, observers, limits)).await
    })
}

async fn connect<B: Books>(stream: &Stream<'_, B>) -> Result<Proved, End> {
    let credential = stream.credential()?;
    let desktop = stream.dial().await?;
    let shaken = timeout(stream.limits.handshake, handshake::with_desktop(stream, desktop, credential)).await;
    match shaken.map_err(|_| End::HandshakeBroken(io::ErrorKind::TimedOut.into()))? {
        Err(End::Handshake(error @ RfbError::Denied(_))) => Err(stream.login_refused(error.word(), error).await),
        Err(End::Handshake(RfbError::NotCertified)) => Err(End::CertificateRefused("certificate_missing")),
        other => other,
    }
}

/// The policy in RFB's words. RFB has no files.
fn rules(policy: StreamPolicy) -> Rules {
    let StreamPolicy { clipboard, read_only, files: _ } = policy;
    Rules { clipboard_in: clipboard.allows_in() && !read_only, clipboard_out: clipboard.allows_out(), input: !read_only }
}

/// The gate of what a browser sends.
struct Up(UpFilter);

/// The gate of what a desktop sends.
struct Down(DownFilter);

// What RFB's filters hold back is not asked for, so nothing is answered.
impl Gate for Up {
    const ANSWERS: bool = false;

    fn feed(&mut self, chunk: Bytes, passed: &mut Passed) -> Result<(), GateError> {
        self.0.feed(&chunk, &mut Sorted(passed, Direction::Up)).map_err(refused)
    }

    fn between(&self) -> bool {
        self.0.between()
    }
}

impl Gate for Down {
    const ANSWERS: bool = false;

    fn feed(&mut self, chunk: Bytes, passed: &mut Passed) -> Result<(), GateError> {
        self.0.feed(&chunk, &mut Sorted(passed, Direction::Down)).map_err(refused)
    }

    fn between(&self) -> bool {
        self.0.between()
    }
}

fn refused(error: FilterError) -> GateError {
    match error {
        FilterError::Forbidden(what) => GateError::Forbidden(what),
        FilterError::Malformed(what) => GateError::Malformed(what),
    }
}

/// A filter's view of what passes.
struct Sorted<'a>(&'a mut Passed, Direction);

impl Sieve for Sorted<'_> {
    fn pass(&mut self, piece: Bytes) {
        self.0.onward.push_back(piece);
    }

    fn hold(&mut self, held: Held, bytes: u64) {
        let channel = match held {
            Held::Clipboard => Channel::Clipboard,
            Held::Input => Channel::Input,
        };
        self.0.refused.push(Refused { channel, direction: self.1, bytes, count: 1 });
    }
}
