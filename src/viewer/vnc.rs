//! A stream of RFB: dial, prove the credential, only then greet the browser, then relay.

use super::attach::Stream;
use super::books::Books;
use super::browser::{BrowserSink, BrowserSource};
use super::end::End;
use super::gate::Gates;
use super::relay::{Leftovers, relay};
use super::{Duplex, handshake};
use crate::protocol::rfb::RfbError;
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::time::timeout;

/// Runs the stream; an error is an end before the relay began.
pub(super) async fn run<B: Books>(stream: &Stream<'_, B>, mut sink: impl BrowserSink, source: &mut impl BrowserSource) -> Result<End, End> {
    let limits = stream.limits;
    let mut early = BytesMut::new();
    let (desktop, from_desktop) = tokio::select! {
        biased;
        connected = connect(stream) => connected?,
        end = handshake::wait_for_end(&mut sink, source, &mut early) => return Err(end),
    };
    let greeting = handshake::with_browser(&mut sink, source, early);
    let from_browser = timeout(limits.handshake, greeting).await.map_err(|_| End::BrowserIdle)??;
    Ok(relay(desktop, sink, source, Leftovers { from_browser, from_desktop }, Gates::OPEN, stream.observers, limits).await)
}

async fn connect<B: Books>(stream: &Stream<'_, B>) -> Result<(Box<dyn Duplex>, Bytes), End> {
    let password = stream.credential()?.map_or(&[][..], |credential| credential.password.expose().as_bytes());
    let mut desktop = stream.dial().await?;
    let shaken = timeout(stream.limits.handshake, handshake::with_desktop(&mut desktop, password)).await;
    match shaken.map_err(|_| End::HandshakeBroken(io::ErrorKind::TimedOut.into()))? {
        Ok(left) => Ok((desktop, left)),
        Err(End::Handshake(error @ RfbError::Denied(_))) => Err(stream.login_refused("rfb_denied", error).await),
        Err(end) => Err(end),
    }
}
