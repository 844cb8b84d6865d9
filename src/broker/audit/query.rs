//! The audit log: query and verification. Reading the whole log is itself audited.

use crate::auth::Vault;
use crate::broker::audit::export::{AuditExport, PAGE_SIZE};
use crate::broker::core::text::truncate_utf8;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::core::validate;
use crate::broker::model::{AuditQuery, Page, VerificationReport};
use crate::domain::audit::{Action, ChainFault, Entry, Head, Outcome, Reason};
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::user::RequestSource;
use crate::domain::{Error, OrganizationId, Result, Timestamp};
use crate::store::{AuditFilter, HeadSigner};

impl HeadSigner for Vault {
    fn sign(&self, text: &str) -> String {
        self.sign_head(text)
    }

    fn verify(&self, text: &str, signature: &str) -> bool {
        self.verify_head(text, signature)
    }
}

fn parse_query(query: AuditQuery) -> Result<(AuditFilter, usize)> {
    let limit = validate::page_limit(query.limit, 50)?;
    let time = |what: &str, text: Option<String>| {
        let parsed = text.filter(|t| !t.is_empty()).map(|t| Timestamp::parse(&t)).transpose();
        parsed.map_err(|_| {
            Error::invalid(format!("{what} must be a time such as 2026-03-05T14:30:00Z."))
        })
    };
    let word = |text: Option<String>| text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    let action = word(query.action);
    if action.as_deref().is_some_and(|a| Action::parse(a).is_none()) {
        return Err(Error::invalid("action must be one of the log's action names."));
    }
    let outcome = word(query.outcome).map(|o| {
        Outcome::parse(&o)
            .ok_or_else(|| Error::invalid("outcome must be success, denied or error."))
    });
    let q = word(query.q);
    if q.as_ref().is_some_and(|q| q.len() > 200) {
        return Err(Error::invalid("q has at most 200 bytes."));
    }
    let before_seq = query
        .cursor
        .map(|c| {
            c.parse().map_err(|_| Error::invalid("cursor must be one that a former page gave."))
        })
        .transpose()?;
    let filter = AuditFilter {
        actor: word(query.actor),
        action,
        workspace_id: word(query.workspace_id),
        session_id: word(query.session_id),
        outcome: outcome.transpose()?,
        from: time("from", query.from)?,
        to: time("to", query.to)?,
        q,
        before_seq,
        limit: limit + 1,
    };
    Ok((filter, limit))
}

#[derive(Clone)]
pub struct AuditLog {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) vault: Vault,
}

impl AuditLog {
    /// A page of the log, newest first.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid` when the query is not acceptable.
    pub async fn query(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        query: AuditQuery,
    ) -> Result<Page<Entry>> {
        let organization = self.permit_audit(origin, caller).await?;
        let (filter, limit) = parse_query(query)?;
        let entries = self.store.read(move |tx| tx.audit_page(organization, &filter)).await?;
        Ok(validate::page(entries, limit, |entry| entry.seq.to_string()))
    }

    /// Audits the export and returns the permitted reader; `next` gives entries oldest first, in
    /// pages.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn export(&self, origin: &RequestSource, caller: &Principal) -> Result<AuditExport> {
        let organization = self.permit_audit(origin, caller).await?;
        let note =
            self.store.entry(origin, Action::ExportAudit).by_caller(caller).on_named("audit", None);
        self.store.write_entry(note).await?;
        let head = self.store.read(|tx| tx.audit_head()).await?;
        Ok(AuditExport { store: self.store.clone(), after: 0, organization, filter: None, head })
    }

    /// Audits the export of what a query shows (its page size and cursor do not matter) and returns
    /// the permitted reader.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid` when the query is not acceptable.
    pub async fn export_query(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        query: AuditQuery,
    ) -> Result<AuditExport> {
        let organization = self.permit_audit(origin, caller).await?;
        let mut note =
            self.store.entry(origin, Action::ExportAudit).by_caller(caller).on_named("audit", None);
        for (name, value) in [
            ("actor", &query.actor),
            ("action", &query.action),
            ("workspace_id", &query.workspace_id),
            ("session_id", &query.session_id),
            ("outcome", &query.outcome),
            ("from", &query.from),
            ("to", &query.to),
            ("q", &query.q),
        ] {
            if let Some(value) = value {
                note = note.with(name, truncate_utf8(value, 200));
            }
        }
        let (filter, _) = parse_query(AuditQuery { limit: None, cursor: None, ..query })?;
        self.store.write_entry(note).await?;
        let head = self.store.read(|tx| tx.audit_head()).await?;
        let filter =
            AuditFilter { before_seq: head.seq.checked_add(1), limit: PAGE_SIZE, ..filter };
        Ok(AuditExport {
            store: self.store.clone(),
            after: 0,
            organization,
            filter: Some(filter),
            head,
        })
    }

    /// Reads the whole chain and compares it with its signed head.
    ///
    /// # Errors
    /// `Forbidden`. A broken chain is an answer, not an error.
    pub async fn verify(
        &self,
        origin: &RequestSource,
        caller: &Principal,
    ) -> Result<VerificationReport> {
        self.permit_audit(origin, caller).await?;
        let crate::store::ChainReport { entries, head, fault } =
            self.store.inner().verify_chain().await?;
        let verdict = VerificationReport { entries, head, fault };
        let note = self
            .store
            .entry(origin, Action::VerifyAudit)
            .by_caller(caller)
            .on_named("audit", None)
            .with("entries", verdict.entries);
        let note = match &verdict.fault {
            Some(fault) => note.failed(Reason::External(fault.to_string())),
            None => note,
        };
        self.store.write_entry(note).await?;
        Ok(verdict)
    }

    /// The organization whose entries the principal may read. `None`: all, and those of none, for
    /// the operator of the gateway.
    async fn permit_audit(
        &self,
        origin: &RequestSource,
        caller: &Principal,
    ) -> Result<Option<OrganizationId>> {
        if let Principal::System { .. } = caller {
            return Ok(None);
        }
        let permit = self.store.permit(origin, caller, PolicyAction::ReadAudit).await?;
        Ok(Some(permit.organization_id()))
    }

    pub(in crate::broker) fn head_fault(&self, head: &Head) -> Option<ChainFault> {
        let text = Head::signed_text(head.seq, &head.hash);
        let good = self.vault.verify_head(&text, &head.signature);
        (!good).then(|| ChainFault::BadHead {
            detail: "its signature is not this gateway's".to_owned(),
        })
    }

    /// Audits a denial by the HTTP layer (bad Origin, missing CSRF header).
    ///
    /// # Errors
    /// When the store cannot write it.
    pub async fn record_denial(
        &self,
        origin: &RequestSource,
        caller: Option<&Principal>,
        route: &str,
        reason: &str,
    ) -> Result<()> {
        let entry = self
            .store
            .entry(origin, Action::AccessDenied)
            .on_named("route", Some(route))
            .denied(Reason::External(reason.to_owned()));
        match caller {
            Some(caller) => self.store.write_entry(entry.by_caller(caller)).await,
            None => self.store.audit_unauthenticated(origin, entry).await,
        }
    }
}
