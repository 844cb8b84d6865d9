//! Unit of work: a change and its audit entries in one transaction.
//!
//! - [`AuditedTx`] is a write transaction with its audit entries: both are committed, or neither. A
//!   use case that denies returns a denial from its transaction, so that the audit entry is
//!   committed while nothing else changed.
//! - [`AuditedStore::audit_unauthenticated`] rate-limits entries about unauthenticated requests per
//!   source address; the next entry written says how many were suppressed.
//! - Entries about refusals, which changed nothing, are rate-limited per principal and action.

use crate::auth::AttemptLimiter;
use crate::broker::core::answers::{denial_error, organization_of};
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::changes::Changes;
use crate::broker::core::refusal_limit::{IsRefusal, LEFT_OUT, RefusalLimit};
use crate::broker::core::text::json_int;
use crate::broker::core::throttles;
use crate::domain::audit::{Action, Draft, Outcome, Reason};
use crate::domain::policy::{self, Permit, PolicyAction, Resource};
use crate::domain::principal::{Principal, SignedInUser};
use crate::domain::rate_limit::Quota;
use crate::domain::user::RequestSource;
use crate::domain::{Clock, Error, OrganizationId, Result, Timestamp};
use crate::store::{SearchTx, Store, Tx};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Outcome of a transaction that may deny: a denial commits its audit entry and is an error for the
/// caller.
#[derive(Debug)]
pub(in crate::broker) enum Decision<T> {
    Allowed(T),
    Denied(Error),
}

/// A write transaction with its audit entries, which are written at its end because writing locks
/// the end of the chain.
pub(in crate::broker) struct AuditedTx<'a, 'tx> {
    tx: &'a mut Tx<'tx>,
    entries: Vec<(Draft, IsRefusal)>,
}

impl AuditedTx<'_, '_> {
    /// Adds an entry, written when the transaction commits.
    pub(in crate::broker) fn add_entry(&mut self, entry: &AuditEntryBuilder) {
        self.entries.push((entry.draft.clone(), IsRefusal(false)));
    }

    /// Adds an entry about something that was refused and changed nothing: written within the rate
    /// limit of its principal.
    pub(in crate::broker) fn add_refusal(&mut self, entry: &AuditEntryBuilder) {
        self.entries.push((entry.draft.clone(), IsRefusal(true)));
    }

    /// Audits a denial and returns it.
    pub(in crate::broker) fn deny<T>(
        &mut self,
        entry: &AuditEntryBuilder,
        error: Error,
    ) -> Result<Decision<T>> {
        self.add_refusal(entry);
        Ok(Decision::Denied(error))
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

/// The store with the audit log: every change goes through it.
#[derive(Clone)]
pub(in crate::broker) struct AuditedStore {
    store: Store,
    clock: Arc<dyn Clock>,
    changes: Changes,
    unauthenticated: Arc<UnauthenticatedLimit>,
    refusals: Arc<RefusalLimit>,
}

/// Rate limit of entries about unauthenticated requests.
struct UnauthenticatedLimit {
    limiter: AttemptLimiter,
    /// Entries suppressed since the last one written.
    suppressed: AtomicU64,
}

impl AuditedStore {
    /// `refusals`: entries about refusals, per principal and action.
    pub(in crate::broker) fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        changes: Changes,
        refusals: Quota,
    ) -> Self {
        let unauthenticated = Arc::new(UnauthenticatedLimit {
            limiter: throttles::audit_limiter(),
            suppressed: AtomicU64::new(0),
        });
        let refusals = Arc::new(RefusalLimit::new(refusals));
        Self { store, clock, changes, unauthenticated, refusals }
    }

    pub(in crate::broker) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The store itself, for what is not a transaction.
    pub(in crate::broker) fn inner(&self) -> &Store {
        &self.store
    }

    pub(in crate::broker) async fn read<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.store.read(f).await
    }

    /// Reads a list that a page shows.
    pub(in crate::broker) async fn list<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.store.list(f).await
    }

    /// Reads a part of a log.
    pub(in crate::broker) async fn search<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut SearchTx<'_, '_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.store.search(f).await
    }

    /// A write that is not audited: what the gateway keeps for itself, and the request log.
    pub(in crate::broker) async fn write_unaudited<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.store.write(f).await
    }

    pub(in crate::broker) fn entry(
        &self,
        source: &RequestSource,
        action: Action,
    ) -> AuditEntryBuilder {
        AuditEntryBuilder::new(self.now(), source, action)
    }

    /// Runs a write transaction with its audit entries, and remembers their sequence numbers for
    /// the change watcher.
    pub(in crate::broker) async fn write<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut AuditedTx<'_, '_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let refusals = self.refusals.clone();
        let (value, written, counts) = self
            .store
            .write(move |tx| {
                let mut audited = AuditedTx { tx, entries: Vec::new() };
                let value = f(&mut audited)?;
                let AuditedTx { tx, entries } = audited;
                let (mut entries, counts) = refusals.filter(entries);
                entries.iter_mut().try_for_each(|entry| name_target(tx, entry))?;
                let written = tx.append_audit_entries(entries)?;
                let written: Vec<i64> = written.into_iter().map(|entry| entry.seq).collect();
                Ok((value, written, counts))
            })
            .await?;
        counts.commit();
        self.changes.record_own(&written);
        if !written.is_empty() {
            self.changes.notify_audit();
        }
        Ok(value)
    }

    /// Runs a write transaction that may deny.
    pub(in crate::broker) async fn transact<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut AuditedTx<'_, '_>) -> Result<Decision<T>> + Send + 'static,
        T: Send + 'static,
    {
        match self.write(f).await? {
            Decision::Allowed(value) => Ok(value),
            Decision::Denied(error) => Err(error),
        }
    }

    /// Writes an entry of its own. A refusal that exceeds its principal's limit takes no
    /// transaction.
    pub(in crate::broker) async fn write_entry(&self, entry: AuditEntryBuilder) -> Result<()> {
        let is_refusal = IsRefusal(entry.draft.outcome != Outcome::Success);
        let (entries, counts) = self.refusals.filter(vec![(entry.draft, is_refusal)]);
        if !entries.is_empty() {
            self.write(move |tx| {
                tx.entries.extend(entries.iter().cloned().map(|entry| (entry, IsRefusal(false))));
                Ok(())
            })
            .await?;
        }
        counts.commit();
        Ok(())
    }

    /// Audits an unauthenticated request, within the rate limit of its source address.
    pub(in crate::broker) async fn audit_unauthenticated(
        &self,
        source: &RequestSource,
        entry: AuditEntryBuilder,
    ) -> Result<()> {
        match self.rate_limited(source, entry) {
            Some(entry) => self.write_entry(entry).await,
            None => Ok(()),
        }
    }

    /// The entry if the rate limit allows it, with the number of suppressed ones.
    pub(in crate::broker) fn rate_limited(
        &self,
        source: &RequestSource,
        entry: AuditEntryBuilder,
    ) -> Option<AuditEntryBuilder> {
        let account = entry.draft.action.as_str();
        let account =
            source.source_ip.map_or_else(|| account.to_owned(), |ip| format!("{account} {ip}"));
        if self.unauthenticated.limiter.check(&account, source.source_ip, self.now()).is_err() {
            self.unauthenticated.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let left_out = self.unauthenticated.suppressed.swap(0, Ordering::Relaxed);
        Some(if left_out > 0 { entry.with(LEFT_OUT, json_int(left_out)) } else { entry })
    }

    /// A permit of the policy to read everything that an action names, or an audited denial.
    pub(in crate::broker) async fn permit(
        &self,
        source: &RequestSource,
        caller: &Principal,
        action: PolicyAction,
    ) -> Result<Permit> {
        let entry = self.entry(source, Action::AccessDenied).on_named(read_by(action), None);
        self.authorize(source, caller, action, entry).await
    }

    /// The caller's organization, if the policy permits the act that `entry` is about there; or an
    /// audited denial, as of [`Self::authorize`].
    pub(in crate::broker) async fn permit_act(
        &self,
        source: &RequestSource,
        caller: &Principal,
        action: PolicyAction,
        entry: AuditEntryBuilder,
    ) -> Result<OrganizationId> {
        Ok(self.authorize(source, caller, action, entry).await?.organization_id())
    }

    /// A permit of the policy for the act that `entry` is about, or an audited denial that says which
    /// act was tried on which target, and which rule refused it.
    async fn authorize(
        &self,
        source: &RequestSource,
        caller: &Principal,
        action: PolicyAction,
        entry: AuditEntryBuilder,
    ) -> Result<Permit> {
        let resource = Resource::Organization(organization_of(caller)?);
        match policy::authorize(caller, action, &resource, &self.policy_context(source, caller)) {
            Ok(permit) => Ok(permit),
            Err(denial) => {
                let entry = entry.access_denied().by_caller(caller).with("rule", action.as_str());
                self.write_entry(entry.denied(denial)).await?;
                Err(denial_error(denial, "Resource"))
            }
        }
    }

    /// An entry by a caller whose request is not at hand: uses the source of their login.
    pub(in crate::broker) async fn entry_from_login(
        &self,
        caller: &Principal,
        action: Action,
    ) -> Result<AuditEntryBuilder> {
        let login = match caller.login_id() {
            Some(id) => self.read(move |tx| tx.login(id)).await?,
            None => None,
        };
        let (source_ip, user_agent) = login.map_or((None, None), |l| (l.source_ip, l.user_agent));
        let source_ip = source_ip.and_then(|ip| ip.parse().ok());
        let source = RequestSource { request_id: String::new(), source_ip, user_agent };
        Ok(self.entry(&source, action).by_caller(caller))
    }

    /// The circumstances a policy decision depends on.
    pub(in crate::broker) fn policy_context(
        &self,
        source: &RequestSource,
        caller: &Principal,
    ) -> policy::Context {
        policy::Context::new(caller, source, self.now())
    }

    /// The signed-in user, or an audited denial: API keys and the system have no logins, factors or
    /// credentials of their own.
    pub(in crate::broker) async fn require_user<'a>(
        &self,
        source: &RequestSource,
        caller: &'a Principal,
    ) -> Result<&'a SignedInUser> {
        match caller.user() {
            Some(signed_in) => Ok(signed_in),
            None => {
                let entry = self.entry(source, Action::AccessDenied).by_caller(caller);
                self.write_entry(entry.denied(Reason::NotAUser)).await?;
                Err(Error::forbidden("Only a signed-in user can do this."))
            }
        }
    }
}

/// What an action reads, as the target of its denial.
fn read_by(action: PolicyAction) -> &'static str {
    match action {
        PolicyAction::ManageUsers | PolicyAction::ReadUsers => "users",
        PolicyAction::ManageHosts | PolicyAction::ReadHosts => "hosts",
        PolicyAction::ReadLiveSessions
        | PolicyAction::TerminateSessions
        | PolicyAction::OpenStream
        | PolicyAction::ExtendSession => "sessions",
        PolicyAction::ReadAudit => "audit",
        PolicyAction::ManageWorkspaces
        | PolicyAction::ViewWorkspace
        | PolicyAction::LaunchWorkspace => "workspaces",
    }
}

/// Names the target of a denial that is known by its id only, if it is of the caller's organization:
/// one of another stays as unknown as one that does not exist. So does a workspace, whose id is a word:
/// it may be hidden from the caller.
fn name_target(tx: &mut Tx<'_>, entry: &mut Draft) -> Result<()> {
    let (Some(organization), Some(kind), Some(id), None) =
        (entry.organization_id, &entry.target.kind, &entry.target.id, &entry.target.name)
    else {
        return Ok(());
    };
    if entry.action != Action::AccessDenied {
        return Ok(());
    }
    let named = match kind.as_str() {
        "user" => match id.parse() {
            Ok(id) => tx.user(id)?.map(|user| (user.organization_id, user.email)),
            Err(_) => None,
        },
        "host" => match id.parse() {
            Ok(id) => tx.host(id)?.map(|host| (host.organization_id, host.name)),
            Err(_) => None,
        },
        "session" => match id.parse() {
            Ok(id) => tx.session(id)?.map(|s| (s.organization_id, s.workspace_name)),
            Err(_) => None,
        },
        _ => None,
    };
    let ours = named.filter(|(of, _)| *of == organization);
    entry.target.name = ours.map(|(_, name)| name);
    Ok(())
}
