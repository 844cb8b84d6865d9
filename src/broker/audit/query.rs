//! The audit log: query and verification. Reading the whole log is itself audited.

use crate::auth::Vault;
use crate::broker::audit::export::{AuditExport, PAGE_SIZE};
use crate::broker::core::log_search::{SearchKind, SearchSlots, gather};
use crate::broker::core::text::truncate_utf8;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::core::validate;
use crate::broker::model::{AuditQuery, SearchPage, VerificationReport};
use crate::domain::audit::{Action, ActorFilter, Entry, Reason};
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::user::RequestSource;
use crate::domain::{Error, ErrorKind, OrganizationId, Result};
use crate::store::{AuditFilter, HeadSigner};

impl HeadSigner for Vault {
    fn sign(&self, text: &str) -> String {
        self.sign_head(text)
    }

    fn verify(&self, text: &str, signature: &str) -> bool {
        self.verify_head(text, signature)
    }
}

/// Maximum length of the text that a query seeks, in bytes.
const TEXT_MAX: usize = 200;

/// The filter of a query, and its page size.
fn filter(query: AuditQuery) -> Result<(AuditFilter, usize)> {
    let limit = validate::page_limit(query.limit, 50)?;
    if query.q.as_ref().is_some_and(|q| q.len() > TEXT_MAX) {
        return Err(Error::invalid(format!("q has at most {TEXT_MAX} bytes.")));
    }
    let before_seq = query.cursor.as_deref().map(validate::parse_seq).transpose()?;
    let filter = AuditFilter {
        actor: query.actor,
        action: query.action,
        workspace_id: query.workspace_id,
        session_id: query.session_id,
        outcome: query.outcome,
        from: query.from,
        to: query.to,
        q: query.q,
        before_seq,
        after_seq: query.after,
        limit,
    };
    Ok((filter, limit))
}

#[derive(Clone)]
pub struct AuditLog {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) slots: SearchSlots,
}

impl AuditLog {
    /// A page of the log, newest first, as far as it is found within the time limit of searches.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid` when the query is not acceptable; `Throttled` when the caller searches
    /// too much at once.
    pub async fn query(
        &self,
        source: &RequestSource,
        caller: &Principal,
        query: impl TryInto<AuditQuery, Error: Into<Error>>,
    ) -> Result<SearchPage<Entry>> {
        let organization = self.permit_audit(source, caller).await?;
        let (filter, limit) = filter(validate::convert(query)?)?;
        let _slot = self.slots.acquire(caller.id(), SearchKind::Query).await?;
        let newest_seq = self.store.search(|tx| tx.newest_audit_seq()).await?;
        let (start, store) = (filter.before_seq, &self.store);
        let found = gather(limit, self.slots.budget(), start, |before_seq, missing| {
            let filter = AuditFilter { before_seq, limit: missing, ..filter.clone() };
            async move {
                let window = store.search(move |tx| tx.audit_window(organization, &filter)).await?;
                Ok((window.entries, window.next))
            }
        })
        .await?;
        let searched_to = match found.stopped_at() {
            Some(seq) => self.store.search(move |tx| tx.audit_time_at(seq)).await?,
            None => None,
        };
        Ok(found.into_page(searched_to, newest_seq, |entry| entry.seq))
    }

    /// Audits the export and returns the permitted reader; `next` gives entries oldest first, in
    /// pages.
    ///
    /// # Errors
    /// `Forbidden`; `Throttled` when the caller exports too much at once.
    pub async fn export(&self, source: &RequestSource, caller: &Principal) -> Result<AuditExport> {
        let organization = self.permit_audit(source, caller).await?;
        let slot = self.slots.acquire(caller.id(), SearchKind::Export).await?;
        let entry =
            self.store.entry(source, Action::ExportAudit).by_caller(caller).on_named("audit", None);
        self.store.write_entry(entry).await?;
        let head = self.store.read(|tx| tx.audit_head()).await?;
        Ok(AuditExport {
            store: self.store.clone(),
            after: 0,
            organization,
            filter: None,
            head,
            _slot: slot,
        })
    }

    /// Audits the export of what a query shows (its page size and cursor do not matter) and returns
    /// the permitted reader.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid` when the query is not acceptable; `Throttled` when the caller exports
    /// too much at once.
    pub async fn export_query(
        &self,
        source: &RequestSource,
        caller: &Principal,
        query: impl TryInto<AuditQuery, Error: Into<Error>>,
    ) -> Result<AuditExport> {
        let organization = self.permit_audit(source, caller).await?;
        let query = validate::convert(query)?;
        let (filter, _) = filter(AuditQuery { limit: None, cursor: None, after: None, ..query })?;
        let slot = self.slots.acquire(caller.id(), SearchKind::Export).await?;
        let mut entry =
            self.store.entry(source, Action::ExportAudit).by_caller(caller).on_named("audit", None);
        for (name, value) in [
            ("actor", filter.actor.as_ref().map(ActorFilter::to_string)),
            ("action", filter.action.map(|action| action.as_str().to_owned())),
            ("workspace_id", filter.workspace_id.clone()),
            ("session_id", filter.session_id.clone()),
            ("outcome", filter.outcome.map(|outcome| outcome.as_str().to_owned())),
            ("from", filter.from.map(|from| from.to_string())),
            ("to", filter.to.map(|to| to.to_string())),
            ("q", filter.q.clone()),
        ] {
            if let Some(value) = value {
                entry = entry.with(name, truncate_utf8(&value, TEXT_MAX));
            }
        }
        self.store.write_entry(entry).await?;
        let head = self.store.read(|tx| tx.audit_head()).await?;
        let filter =
            AuditFilter { before_seq: head.seq.checked_add(1), limit: PAGE_SIZE, ..filter };
        Ok(AuditExport {
            store: self.store.clone(),
            after: 0,
            organization,
            filter: Some(filter),
            head,
            _slot: slot,
        })
    }

    /// Reads the whole chain and compares it with its signed head.
    ///
    /// # Errors
    /// `Forbidden`; `Throttled`. A broken chain is an answer, not an error.
    pub async fn verify(
        &self,
        source: &RequestSource,
        caller: &Principal,
    ) -> Result<VerificationReport> {
        self.permit_audit(source, caller).await?;
        let _slot = self.slots.acquire(caller.id(), SearchKind::Verification).await?;
        let crate::store::ChainReport { entries, accepted_by, head, fault } =
            self.store.inner().verify_chain().await?;
        let verdict = VerificationReport { entries, accepted_by, head, fault };
        let entry = self
            .store
            .entry(source, Action::VerifyAudit)
            .by_caller(caller)
            .on_named("audit", None)
            .with("entries", verdict.entries);
        let entry = match &verdict.fault {
            Some(fault) => entry.failed(Reason::External(fault.to_string())),
            None => entry,
        };
        match self.store.write_entry(entry).await {
            // Nothing can be written, which is what the verdict says.
            Err(error) if error.kind == ErrorKind::Tampered && verdict.fault.is_some() => {}
            outcome => outcome?,
        }
        Ok(verdict)
    }

    /// Continues a log that does not verify, by an entry that says so: for whoever holds the master
    /// key, on the command line. Returns the number of that entry.
    ///
    /// # Errors
    /// `Conflict` when the log verifies.
    pub async fn accept_damage(&self, source: &RequestSource) -> Result<i64> {
        let entry =
            self.store.entry(source, Action::AcceptAuditDamage).by_system().on_named("audit", None);
        Ok(self.store.inner().accept_audit_damage(entry.into_draft()).await?.seq)
    }

    /// The organization whose entries the principal may read. `None`: all, and those of none, for
    /// the operator of the gateway.
    async fn permit_audit(
        &self,
        source: &RequestSource,
        caller: &Principal,
    ) -> Result<Option<OrganizationId>> {
        if let Principal::System { .. } = caller {
            return Ok(None);
        }
        let permit = self.store.permit(source, caller, PolicyAction::ReadAudit).await?;
        Ok(Some(permit.organization_id()))
    }

    /// Audits a denial by the HTTP layer (bad Origin, missing CSRF header).
    ///
    /// # Errors
    /// When the store cannot write it.
    pub async fn record_denial(
        &self,
        source: &RequestSource,
        caller: Option<&Principal>,
        route: &str,
        reason: &str,
    ) -> Result<()> {
        let entry = self
            .store
            .entry(source, Action::AccessDenied)
            .on_named("route", Some(route))
            .denied(Reason::External(reason.to_owned()));
        match caller {
            Some(caller) => self.store.write_entry(entry.by_caller(caller)).await,
            None => self.store.audit_unauthenticated(source, entry).await,
        }
    }
}
