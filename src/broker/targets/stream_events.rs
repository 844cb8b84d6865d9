//! Audit entries about streams: credentials that upstreams rejected, and what policy kept from
//! passing.

use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::text::{json_int, sanitize_line, truncate_utf8};
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::model::{RefusedRequest, TransferRefusal};
use crate::domain::Result;
use crate::domain::audit::{Action, Reason};
use crate::domain::lease::Lease;
use crate::domain::principal::Principal;
use crate::domain::user::RequestSource;

/// Maximum length of a path in the audit log, in bytes.
const PATH_MAX: usize = 512;
/// Maximum length of a method, in bytes.
const METHOD_MAX: usize = 32;

#[derive(Clone)]
pub struct StreamEvents {
    pub(in crate::broker) store: AuditedStore,
}

pub(in crate::broker) fn stream_entry(
    store: &AuditedStore,
    source: &RequestSource,
    action: Action,
    lease: &Lease,
    by: Option<&Principal>,
) -> AuditEntryBuilder {
    let entry = store.entry(source, action).on_session(lease.session());
    match by {
        Some(caller) => entry.by_caller(caller),
        None => entry.by_system(),
    }
}

impl StreamEvents {
    /// Audits that an upstream rejected the credential. `why` is a reason such as `wrong_password`,
    /// `locked`, `expired`.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn login_refused(
        &self,
        source: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        why: &'static str,
    ) -> Result<()> {
        let server = lease.upstream();
        let entry = stream_entry(&self.store, source, Action::LoginRefused, lease, by)
            .denied(Reason::External(why.to_owned()))
            .with("source", server.credential_source.as_str());
        let detail = |text: &str| Some(sanitize_line(text)).filter(|text| !text.is_empty());
        let credential = server.credential.as_ref();
        let entry = entry
            .with("username", credential.and_then(|c| detail(&c.username)))
            .with("domain", credential.and_then(|c| detail(&c.domain)));
        self.store.write_entry(entry).await
    }

    /// Audits what policy kept from passing in a stream.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn transfer_refused(
        &self,
        source: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        refused: &TransferRefusal,
    ) -> Result<()> {
        let entry = stream_entry(&self.store, source, Action::TransferRefused, lease, by)
            .denied(Reason::Policy);
        let entry = entry.with("channel", refused.channel).with("direction", refused.direction);
        self.store
            .write_entry(
                entry.with("bytes", json_int(refused.bytes)).with("count", json_int(refused.count)),
            )
            .await
    }

    /// Audits that a client asked for another destination than its session's.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn destination_refused(
        &self,
        source: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        asked: &str,
    ) -> Result<()> {
        let entry = stream_entry(&self.store, source, Action::DestinationRefused, lease, by)
            .denied(Reason::NotTheSessions);
        self.store.write_entry(entry.with("asked", sanitize_line(asked))).await
    }

    /// Audits requests that policy forbids.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn request_refused(
        &self,
        source: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        refused: &RefusedRequest,
    ) -> Result<()> {
        let entry = self
            .store
            .entry(source, Action::RequestRefused)
            .on_session(lease.session())
            .denied(Reason::External(refused.kind.to_owned()));
        let entry = match by {
            Some(caller) => entry.by_caller(caller),
            None => entry.by_system(),
        };
        let entry = entry
            .with("method", truncate_utf8(&refused.method, METHOD_MAX))
            .with("path", truncate_utf8(&refused.path, PATH_MAX));
        self.store
            .write_entry(
                entry.with("bytes", json_int(refused.bytes)).with("count", json_int(refused.count)),
            )
            .await
    }
}
