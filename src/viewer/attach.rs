//! Attaches a browser to its desktop. Losing the authorization, or a shutdown of the gateway, drops
//! the stream at any point.

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

/// Longest wait, at the end, for an audit entry that is being written. One that takes longer is
/// written again by [`RefusalCounter::flush`], so that none is lost.
const AUDIT_WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// Everything a stream needs, except the browser.
pub struct Attachment<'a, B> {
    /// Target and credential.
    pub lease: &'a Lease,
    pub dial: &'a dyn Dial,
    pub authorization: watch::Receiver<StreamAuthorization>,
    /// Becomes true when the gateway shuts down.
    pub draining: watch::Receiver<bool>,
    pub meters: &'a StreamMeters,
    /// Counts refused transfers. The caller writes what is left in it after the end
    /// ([`RefusalCounter::flush`]).
    pub refusals: &'a RefusalCounter,
    pub audit: &'a B,
    pub timeouts: Timeouts,
}

/// Context of a stream, passed to the protocol that runs it.
pub(super) struct StreamContext<'a, B> {
    pub(super) lease: &'a Lease,
    pub(super) dial: &'a dyn Dial,
    pub(super) counters: StreamCounters<'a>,
    pub(super) audit: &'a B,
    pub(super) timeouts: &'a Timeouts,
}

impl<B: StreamAudit> StreamContext<'_, B> {
    /// Dials the desktop within the time limit.
    pub(super) async fn dial(&self) -> Result<Box<dyn Duplex>, StreamEnd> {
        let dialled = timeout(self.timeouts.dial, self.dial.dial(self.lease)).await;
        dialled
            .map_err(|_| StreamEnd::Unreachable(io::ErrorKind::TimedOut.into()))?
            .map_err(StreamEnd::Unreachable)
    }

    /// The credential for the desktop; `None` when the workspace has none. Called before dialling, so that a user
    /// who must enter one is asked first.
    pub(super) fn credential(&self) -> Result<Option<&Credential>, StreamEnd> {
        let upstream = self.lease.upstream();
        match (&upstream.credential, upstream.credential_source) {
            (Some(credential), _) => Ok(Some(credential)),
            (None, CredentialSource::Workspace) => Ok(None),
            (None, source @ (CredentialSource::User | CredentialSource::Ask)) => {
                Err(StreamEnd::CredentialRequired(source))
            }
        }
    }

    /// Records that the desktop refused the credential.
    pub(super) async fn login_refused(
        &self,
        reason: &'static str,
        cause: impl Error + Send + Sync + 'static,
    ) -> StreamEnd {
        match self.audit.login_refused(reason).await {
            Ok(()) => StreamEnd::CredentialRefused {
                source: self.lease.upstream().credential_source,
                reason,
                cause: Box::new(cause),
            },
            Err(error) => StreamEnd::AuditFailed(error),
        }
    }
}

/// Runs a stream until it ends. When this returns, or is dropped, the desktop's connection is
/// closed; the caller sends the close frame.
pub async fn attach<B: StreamAudit>(
    attachment: Attachment<'_, B>,
    sink: impl BrowserSink,
    source: &mut impl BrowserSource,
) -> StreamEnd {
    let Attachment { lease, dial, authorization, draining, meters, refusals, audit, timeouts } =
        attachment;
    let periodic_writes = refusals.write_periodically(audit);
    tokio::pin!(periodic_writes);
    let end = {
        let stream = async {
            let stream = StreamContext {
                lease,
                dial,
                counters: StreamCounters { meters, refusals },
                audit,
                timeouts: &timeouts,
            };
            let run = match lease.session().workspace_kind {
                WorkspaceKind::Linux | WorkspaceKind::Vnc => vnc::run(&stream, sink, source).await,
                // Its requests are served one by one (`html5`); there is no stream to dial.
                WorkspaceKind::Html5 => Err(StreamEnd::NoDesktop),
                // Boxed, so that the larger future of RDP does not enlarge every stream.
                WorkspaceKind::Rdp => Box::pin(rdp::run(&stream, sink, source)).await,
            };
            run.unwrap_or_else(|end| end)
        };
        tokio::select! {
            biased;
            end = authorization_lost(authorization) => end,
            end = drained(draining) => end,
            end = stream => end,
            never = &mut periodic_writes => match never {},
        }
    };
    // The stream is dropped; only an entry that is being written is waited for, and not for long.
    let last_write = async {
        tokio::select! {
            biased;
            never = &mut periodic_writes => match never {},
            () = refusals.wait_until_written() => {}
        }
    };
    let _ = timeout(AUDIT_WRITE_TIMEOUT, last_write).await;
    end
}

/// Resolves when the authorization is lost, and also when its sender is gone (fails closed).
pub(super) async fn authorization_lost(
    mut authorization: watch::Receiver<StreamAuthorization>,
) -> StreamEnd {
    match authorization.wait_for(|r| *r != StreamAuthorization::Valid).await {
        Ok(lost) => StreamEnd::revoked(*lost).unwrap_or(StreamEnd::AuthorizationUnknown),
        Err(_) => StreamEnd::AuthorizationUnknown,
    }
}

pub(super) async fn drained(mut draining: watch::Receiver<bool>) -> StreamEnd {
    if draining.wait_for(|d| *d).await.is_err() {
        // The sender is gone, so no shutdown will be announced; that alone does not end a stream.
        return pending().await;
    }
    StreamEnd::Draining
}
