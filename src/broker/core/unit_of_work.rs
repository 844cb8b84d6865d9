//! Unit of work: a change and its audit entries in one transaction.
//!
//! - [`AuditedTx`] is a write transaction with its audit entries: both are committed, or neither. A
//!   use case that denies returns a denial from its transaction, so that the audit entry is
//!   committed while nothing else changed.
//! - [`Broker::audit_unauthenticated`] rate-limits entries about unauthenticated requests per
//!   source address; the next entry written says how many were suppressed.

use crate::broker::Broker;
use crate::broker::core::answers::{denial_error, organization_of};
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::stream_registry::StreamRegistry;
use crate::broker::core::text::json_int;
use crate::domain::audit::{Action, Draft};
use crate::domain::policy::{self, Permit, PolicyAction, Resource};
use crate::domain::principal::{Principal, SignedInUser};
use crate::domain::user::RequestSource;
use crate::domain::{Error, Result};
use crate::store::Tx;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;

/// Outcome of a transaction that may deny: a denial commits its audit entry and is an error for the
/// caller.
pub(in crate::broker) type Decision<T> = Result<Result<T>>;

/// A write transaction with its audit entries, which are written at its end because writing locks
/// the end of the chain.
pub(in crate::broker) struct AuditedTx<'a, 'tx> {
    tx: &'a mut Tx<'tx>,
    entries: Vec<Draft>,
}

impl AuditedTx<'_, '_> {
    /// Adds an entry, written when the transaction commits.
    pub(in crate::broker) fn add_entry(&mut self, note: &AuditEntryBuilder) {
        self.entries.push(note.draft.clone());
    }

    /// Audits a denial and returns it.
    pub(in crate::broker) fn deny<T>(
        &mut self,
        note: &AuditEntryBuilder,
        error: Error,
    ) -> Decision<T> {
        self.add_entry(note);
        Ok(Err(error))
    }
}

impl<'tx> Deref for AuditedTx<'_, 'tx> {
    type Target = Tx<'tx>;
    fn deref(&self) -> &Tx<'tx> {
        self.tx
    }
}

impl<'tx> DerefMut for AuditedTx<'_, 'tx> {
    fn deref_mut(&mut self) -> &mut Tx<'tx> {
        self.tx
    }
}

impl Broker {
    pub(in crate::broker) fn audit_entry(
        &self,
        origin: &RequestSource,
        action: Action,
    ) -> AuditEntryBuilder {
        AuditEntryBuilder::new(self.now(), origin, action)
    }

    /// Runs a write transaction with its audit entries, and remembers their sequence numbers for
    /// the change watcher.
    pub(in crate::broker) async fn write<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut AuditedTx<'_, '_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (value, written) = self
            .inner
            .store
            .write(move |tx| {
                let mut book = AuditedTx { tx, entries: Vec::new() };
                let value = f(&mut book)?;
                let AuditedTx { tx, entries: notes } = book;
                let written = notes
                    .into_iter()
                    .map(|draft| tx.append_audit_entry(draft).map(|entry| entry.seq));
                let written = written.collect::<Result<Vec<_>>>()?;
                Ok((value, written))
            })
            .await?;
        self.streams().record_own(&written);
        if !written.is_empty() {
            self.streams().notify_audit();
        }
        Ok(value)
    }

    /// Runs a write transaction that may deny.
    pub(in crate::broker) async fn transact<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut AuditedTx<'_, '_>) -> Decision<T> + Send + 'static,
        T: Send + 'static,
    {
        self.write(f).await?
    }

    pub(in crate::broker) async fn write_entry(&self, note: AuditEntryBuilder) -> Result<()> {
        self.write(move |book| {
            book.add_entry(&note);
            Ok(())
        })
        .await
    }

    /// Audits an unauthenticated request, within the rate limit of its source address.
    pub(in crate::broker) async fn audit_unauthenticated(
        &self,
        origin: &RequestSource,
        note: AuditEntryBuilder,
    ) -> Result<()> {
        match self.rate_limited(origin, note) {
            Some(note) => self.write_entry(note).await,
            None => Ok(()),
        }
    }

    /// The entry if the rate limit allows it, with the number of suppressed ones.
    pub(in crate::broker) fn rate_limited(
        &self,
        origin: &RequestSource,
        note: AuditEntryBuilder,
    ) -> Option<AuditEntryBuilder> {
        let account = note.draft.action.as_str();
        let account =
            origin.source_ip.map_or_else(|| account.to_owned(), |ip| format!("{account} {ip}"));
        if self.inner.audit_limiter.check(&account, origin.source_ip, self.now()).is_err() {
            self.inner.suppressed_entries.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let left_out = self.inner.suppressed_entries.swap(0, Ordering::Relaxed);
        Some(if left_out > 0 { note.with("left_out_before", json_int(left_out)) } else { note })
    }

    /// A permit of the policy, or an audited denial.
    pub(in crate::broker) async fn permit(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        act: PolicyAction,
    ) -> Result<Permit> {
        let resource = Resource::Organization(organization_of(caller)?);
        match policy::authorize(caller, act, &resource, &self.policy_context(origin, caller)) {
            Ok(permit) => Ok(permit),
            Err(denial) => {
                let note = self
                    .audit_entry(origin, Action::AccessDenied)
                    .by_caller(caller)
                    .on_named("route", Some(act.as_str()));
                self.write_entry(note.denied(denial.as_str())).await?;
                Err(denial_error(denial, "Resource"))
            }
        }
    }

    /// The circumstances a policy decision depends on.
    pub(in crate::broker) fn policy_context(
        &self,
        origin: &RequestSource,
        caller: &Principal,
    ) -> policy::Context {
        policy::Context::new(caller, origin, self.now())
    }

    /// The signed-in user, or an audited denial: API keys and the system have no logins, factors or
    /// credentials of their own.
    pub(in crate::broker) async fn require_user<'a>(
        &self,
        origin: &RequestSource,
        caller: &'a Principal,
    ) -> Result<&'a SignedInUser> {
        match caller.user() {
            Some(signed_in) => Ok(signed_in),
            None => {
                let note = self.audit_entry(origin, Action::AccessDenied).by_caller(caller);
                self.write_entry(note.denied("not_a_user")).await?;
                Err(Error::forbidden("Only a signed-in user can do this."))
            }
        }
    }

    pub(in crate::broker) fn streams(&self) -> &StreamRegistry {
        &self.inner.streams
    }
}
