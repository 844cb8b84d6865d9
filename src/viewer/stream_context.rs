//! What a protocol is given to run a stream.

use super::dial::{Dial, Duplex};
use super::relay::StreamCounters;
use super::stream_audit::StreamAudit;
use super::stream_end::StreamEnd;
use super::timeouts::Timeouts;
use crate::domain::lease::Lease;
use crate::domain::upstream::{Credential, CredentialSource};
use std::error::Error;
use std::io;
use tokio::time::timeout;

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
