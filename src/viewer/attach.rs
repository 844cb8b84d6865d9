//! Attaches a browser to its desktop: dial, prove the credential, only then greet the browser, then relay. Watched over all the way:
//! losing the right, or a gateway that goes away, drops whatever is going on at once.

use super::browser::{BrowserSink, BrowserSource};
use super::end::End;
use super::relay::{Leftovers, Observers, relay};
use super::tap::Tap;
use super::{Dial, Duplex, Limits, handshake};
use crate::broker::live::{Meters, Right};
use crate::domain::lease::Lease;
use bytes::{Bytes, BytesMut};
use std::future::pending;
use std::io;
use tokio::sync::watch;
use tokio::time::timeout;

/// What a stream needs, apart from the browser.
pub struct Attachment<'a, T> {
    /// What is dialled, and with which credential.
    pub lease: &'a Lease,
    /// Who dials.
    pub dial: &'a dyn Dial,
    /// The right to it.
    pub right: watch::Receiver<Right>,
    /// True when the gateway goes away.
    pub draining: watch::Receiver<bool>,
    /// Written by the relay.
    pub meters: &'a Meters,
    /// Sees what passes.
    pub tap: &'a T,
    /// How long things may take.
    pub limits: Limits,
}

/// Runs a stream to its end. When this returns, or is dropped, the desktop's connection is closed; telling the browser is the caller's.
pub async fn attach<T: Tap>(attachment: Attachment<'_, T>, sink: impl BrowserSink, source: &mut impl BrowserSource) -> End {
    let Attachment { lease, dial, right, draining, meters, tap, limits } = attachment;
    let stream = async {
        let observers = Observers { meters, tap };
        run(lease, dial, sink, source, observers, &limits).await.unwrap_or_else(|end| end)
    };
    tokio::select! {
        biased;
        end = revoked(right) => end,
        end = drained(draining) => end,
        end = stream => end,
    }
}

/// Resolves when the right is lost; also when nobody could tell us any more.
async fn revoked(mut right: watch::Receiver<Right>) -> End {
    match right.wait_for(|r| *r != Right::Held).await {
        Ok(lost) => End::revoked(*lost).unwrap_or(End::Unwatched),
        Err(_) => End::Unwatched,
    }
}

async fn drained(mut draining: watch::Receiver<bool>) -> End {
    if draining.wait_for(|d| *d).await.is_err() {
        // Nobody will drain any more: that alone ends no stream.
        return pending().await;
    }
    End::Draining
}

async fn run<T: Tap>(
    lease: &Lease,
    dial: &dyn Dial,
    mut sink: impl BrowserSink,
    source: &mut impl BrowserSource,
    observers: Observers<'_, T>,
    limits: &Limits,
) -> Result<End, End> {
    let mut early = BytesMut::new();
    let (desktop, from_desktop) = tokio::select! {
        biased;
        connected = connect(lease, dial, limits) => connected?,
        end = handshake::wait_for_end(&mut sink, source, &mut early) => return Err(end),
    };
    let greeting = handshake::with_browser(&mut sink, source, early);
    let from_browser = timeout(limits.handshake, greeting).await.map_err(|_| End::BrowserIdle)??;
    Ok(relay(desktop, sink, source, Leftovers { from_browser, from_desktop }, observers, limits).await)
}

async fn connect(lease: &Lease, dial: &dyn Dial, limits: &Limits) -> Result<(Box<dyn Duplex>, Bytes), End> {
    let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
    let dialled = timeout(limits.dial, dial.dial(lease)).await;
    let mut desktop = dialled.map_err(|_| End::Unreachable(timed_out()))?.map_err(End::Unreachable)?;
    let password = lease.server().credential.as_ref().map_or(&[][..], |credential| credential.password.expose().as_bytes());
    let shaken = timeout(limits.handshake, handshake::with_desktop(&mut desktop, password)).await;
    let left = shaken.map_err(|_| End::HandshakeBroken(timed_out()))??;
    Ok((desktop, left))
}
