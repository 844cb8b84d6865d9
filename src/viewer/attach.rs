//! Attaches a browser to its desktop. Watched over all the way: losing the right, or a gateway that
//! goes away, drops whatever is going on at once.

use super::browser::{BrowserSink, BrowserSource};
use super::relay::StreamCounters;
use super::stream_audit::{RefusalCounter, StreamAudit};
use super::stream_end::StreamEnd;
use super::{Dial, Duplex, Timeouts, rdp, vnc};
use crate::broker::core::stream_registry::{StreamAuthorization, StreamMeters};
use crate::domain::lease::Lease;
use crate::domain::upstream::{Credential, CredentialSource};
use crate::domain::workspace::WorkspaceKind;
use std::error::Error;
use std::future::pending;
use std::io;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long an entry under way at the end is waited for. One that takes longer is written again, so
/// that none is lost.
const AUDIT_WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// What a stream needs, apart from the browser.
pub struct Attachment<'a, B> {
    /// What is dialled, and with which credential.
    pub lease: &'a Lease,
    /// Who dials.
    pub dial: &'a dyn Dial,
    /// The right to it.
    pub authorization: watch::Receiver<StreamAuthorization>,
    /// True when the gateway goes away.
    pub draining: watch::Receiver<bool>,
    /// Written by the relay.
    pub meters: &'a StreamMeters,
    /// Counts what policy holds back. What it still holds after the end is the caller's to write
    /// ([`RefusalCounter::flush`]).
    pub refusals: &'a RefusalCounter,
    /// Writes down what must be.
    pub audit: &'a B,
    /// How long things may take.
    pub timeouts: Timeouts,
}

/// What a protocol's part of a stream is given.
pub(super) struct StreamContext<'a, B> {
    pub(super) lease: &'a Lease,
    pub(super) dial: &'a dyn Dial,
    pub(super) counters: StreamCounters<'a>,
    pub(super) audit: &'a B,
    pub(super) timeouts: &'a Timeouts,
}

impl<B: StreamAudit> StreamContext<'_, B> {
    /// A connection to the desktop, in time.
    pub(super) async fn dial(&self) -> Result<Box<dyn Duplex>, StreamEnd> {
        let dialled = timeout(self.timeouts.dial, self.dial.dial(self.lease)).await;
        dialled
            .map_err(|_| StreamEnd::Unreachable(io::ErrorKind::TimedOut.into()))?
            .map_err(StreamEnd::Unreachable)
    }

    /// What is proved to the desktop; `None` when the workspace has nothing to prove. Before
    /// dialling: a user who must be asked first is asked first.
    pub(super) fn credential(&self) -> Result<Option<&Credential>, StreamEnd> {
        let server = self.lease.upstream();
        match (&server.credential, server.credential_source) {
            (Some(credential), _) => Ok(Some(credential)),
            (None, CredentialSource::Workspace) => Ok(None),
            (None, source @ (CredentialSource::User | CredentialSource::Ask)) => {
                Err(StreamEnd::CredentialRequired(source))
            }
        }
    }

    /// The end of a stream whose credential was not taken, once that is written down.
    pub(super) async fn login_refused(
        &self,
        why: &'static str,
        cause: impl Error + Send + Sync + 'static,
    ) -> StreamEnd {
        match self.audit.login_refused(why).await {
            Ok(()) => StreamEnd::CredentialRefused {
                source: self.lease.upstream().credential_source,
                why,
                cause: Box::new(cause),
            },
            Err(error) => StreamEnd::AuditFailed(error),
        }
    }
}

/// Runs a stream to its end. When this returns, or is dropped, the desktop's connection is closed;
/// telling the browser is the caller's.
pub async fn attach<B: StreamAudit>(
    attachment: Attachment<'_, B>,
    sink: impl BrowserSink,
    source: &mut impl BrowserSource,
) -> StreamEnd {
    let Attachment {
        lease,
        dial,
        authorization: right,
        draining,
        meters,
        refusals: tally,
        audit: books,
        timeouts: limits,
    } = attachment;
    let keeping = tally.write_periodically(books);
    tokio::pin!(keeping);
    let end = {
        let stream = async {
            let stream = StreamContext {
                lease,
                dial,
                counters: StreamCounters { meters, refusals: tally },
                audit: books,
                timeouts: &limits,
            };
            let run = match lease.session().workspace_kind {
                WorkspaceKind::Linux | WorkspaceKind::Vnc => vnc::run(&stream, sink, source).await,
                // Its requests are answered one by one (`html5`); nobody is dialled for a stream of
                // it.
                WorkspaceKind::Html5 => Err(StreamEnd::NoDesktop),
                // What the rarer protocol needs, not every stream pays for.
                WorkspaceKind::Rdp => Box::pin(rdp::run(&stream, sink, source)).await,
            };
            run.unwrap_or_else(|end| end)
        };
        tokio::select! {
            biased;
            end = authorization_lost(right) => end,
            end = drained(draining) => end,
            end = stream => end,
            never = &mut keeping => match never {},
        }
    };
    // The stream is gone; only an entry that is being written is waited for, and not for long.
    let last = async {
        tokio::select! {
            biased;
            never = &mut keeping => match never {},
            () = tally.wait_until_written() => {}
        }
    };
    let _ = timeout(AUDIT_WRITE_TIMEOUT, last).await;
    end
}

/// Resolves when the right is lost; also when nobody could tell us any more.
pub(super) async fn authorization_lost(
    mut right: watch::Receiver<StreamAuthorization>,
) -> StreamEnd {
    match right.wait_for(|r| *r != StreamAuthorization::Valid).await {
        Ok(lost) => StreamEnd::revoked(*lost).unwrap_or(StreamEnd::AuthorizationUnknown),
        Err(_) => StreamEnd::AuthorizationUnknown,
    }
}

pub(super) async fn drained(mut draining: watch::Receiver<bool>) -> StreamEnd {
    if draining.wait_for(|d| *d).await.is_err() {
        // Nobody will drain any more: that alone ends no stream.
        return pending().await;
    }
    StreamEnd::Draining
}
