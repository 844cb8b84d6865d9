//! A stream of RFB: dial, prove the credential, only then greet the browser, then relay what policy
//! lets pass.

use super::attach::Stream;
use super::books::Books;
use super::browser::{BrowserSink, BrowserSource, wait_for_end};
use super::end::End;
use super::gate::{Channel, Direction, Gate, GateError, Gates, Open, Passed, Refused};
use super::handshake::{self, Proved, Unproved};
use super::relay::{Leftovers, relay};
use crate::domain::server::StreamPolicy;
use crate::protocol::rfb::filter::down::DownFilter;
use crate::protocol::rfb::filter::up::UpFilter;
use crate::protocol::rfb::filter::{FilterError, Format, Held, Rules, Sieve};
use crate::protocol::rfb::{MAX_PENDING, RfbError};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::time::timeout;

/// How often a desktop is dialled again because a type of VeNCrypt did not come about. Servers take
/// it badly to be dialled often without a login.
const REDIALS: usize = 2;

/// Runs the stream; an error is an end before the relay began.
pub(super) async fn run<B: Books>(
    stream: &Stream<'_, B>,
    mut sink: impl BrowserSink,
    source: &mut impl BrowserSource,
) -> Result<End, End> {
    let (limits, server) = (stream.limits, stream.lease.server());
    let mut early = BytesMut::new();
    let mut proved = tokio::select! {
        biased;
        // On the heap, like the relays with gates below: what lives a moment, or rarely, is not
        // room in every stream.
        connected = Box::pin(connect(stream)) => connected?,
        end = wait_for_end(&mut sink, source, &mut early, MAX_PENDING) => return Err(end),
    };
    let greeting = handshake::with_browser(&mut sink, source, early);
    let from_browser =
        timeout(limits.handshake, greeting).await.map_err(|_| End::BrowserIdle)??;
    let opening = handshake::open_desktop(&mut proved, server.exclusive);
    let (init, message) = timeout(limits.handshake, opening)
        .await
        .map_err(|_| End::HandshakeBroken(io::ErrorKind::TimedOut.into()))??;
    sink.send(message).await.map_err(|_| End::BrowserGone)?;
    let Proved { desktop, left } = proved;
    // A copy of what is left, mostly nothing: not the memory it was read into, which would stay as
    // long as the stream.
    let left = Leftovers { from_browser, from_desktop: Bytes::copy_from_slice(&left) };
    let (rules, observers) = (rules(server.policy), stream.observers);
    if rules == Rules::ALL {
        return Ok(relay(desktop, sink, source, left, Gates::OPEN, observers, limits).await);
    }
    let format = Format::new(init.format);
    let up = Up(UpFilter::new(rules, format.clone()));
    Ok(if rules.clipboard_out {
        Box::pin(relay(desktop, sink, source, left, Gates { up, down: Open }, observers, limits))
            .await
    } else {
        let down = Down(DownFilter::new(rules, format));
        Box::pin(relay(desktop, sink, source, left, Gates { up, down }, observers, limits)).await
    })
}

/// A desktop that offers types of VeNCrypt it cannot do, such as one with a certificate when it has
/// none, is asked again for the next best one: what is acceptable stays what the lease says. The
/// first failure is the one that is told.
async fn connect<B: Books>(stream: &Stream<'_, B>) -> Result<Proved, End> {
    let credential = stream.credential()?;
    let (mut avoided, mut first) = (Vec::new(), None);
    loop {
        let desktop = stream.dial().await?;
        let shaken = timeout(
            stream.limits.handshake,
            handshake::with_desktop(stream, desktop, credential, &avoided),
        )
        .await;
        match shaken.map_err(|_| End::HandshakeBroken(io::ErrorKind::TimedOut.into()))? {
            Ok(proved) => return Ok(proved),
            Err(Unproved { end: End::Handshake(error @ RfbError::Denied(_)), .. }) => {
                return Err(stream.login_refused(error.word(), error).await);
            }
            Err(Unproved { end, declined: Some(subtype) }) if avoided.len() < REDIALS => {
                avoided.push(subtype);
                first.get_or_insert(end);
            }
            Err(Unproved { end: End::Handshake(RfbError::NotCertified), .. })
                if first.is_none() =>
            {
                return Err(End::CertificateRefused("certificate_missing"));
            }
            Err(Unproved { end, .. }) => return Err(first.unwrap_or(end)),
        }
    }
}

/// The policy in RFB's words. RFB has no files.
fn rules(policy: StreamPolicy) -> Rules {
    let StreamPolicy { clipboard, read_only, files: _ } = policy;
    Rules {
        clipboard_in: clipboard.allows_in() && !read_only,
        clipboard_out: clipboard.allows_out(),
        input: !read_only,
    }
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
