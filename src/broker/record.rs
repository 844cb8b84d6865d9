//! What is written down, and how a change and its entry become one.
//!
//! - A [`Note`] is an audit entry in the making: who, what, to what, how it went.
//! - A [`AuditedTx`] is a write transaction that also keeps the log. Whatever a use case changes, it
//!   changes through a book and notes it there; both are committed or neither. A use case that
//!   refuses returns `Ok(Err(..))` from its transaction, so that the denial is committed while
//!   nothing else changed.
//! - [`Broker::strangers_note`] keeps people nobody knows from flooding the log: forged tokens,
//!   unknown tickets and throttled sign-ins are written until their address has used up its share;
//!   the next one written says how many were not.

use super::{Broker, live::StreamRegistry};
use crate::domain::audit::{Action, Actor, Draft, EntryTarget, Outcome};
use crate::domain::host::Host;
use crate::domain::policy::{self, Denial, Permit, PolicyAction};
use crate::domain::session::Session;
use crate::domain::user::{Caller, RequestSource, User};
use crate::domain::workspace::Workspace;
use crate::domain::{Error, LoginId, OrganizationId, Result, SessionId, Timestamp};
use crate::store::Tx;
use serde_json::{Map, Value};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;

/// A transaction's own refusal: committed (with the entry that tells it), yet a failure to who
/// asked.
pub(super) type Decision<T> = Result<Result<T>>;

/// A write transaction with its log. Entries are written at its end, since writing one locks the
/// end of the chain.
pub(super) struct AuditedTx<'a, 'tx> {
    tx: &'a mut Tx<'tx>,
    entries: Vec<Draft>,
}

impl AuditedTx<'_, '_> {
    /// Writes an entry, when the transaction is kept.
    pub(super) fn add_entry(&mut self, note: &AuditEntryBuilder) {
        self.entries.push(note.draft.clone());
    }

    /// Writes a denial and hands back the refusal.
    pub(super) fn deny<T>(&mut self, note: &AuditEntryBuilder, error: Error) -> Decision<T> {
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

/// An audit entry in the making.
#[derive(Clone, Debug)]
pub(super) struct AuditEntryBuilder {
    draft: Draft,
}

impl AuditEntryBuilder {
    /// `action` at `now`, asked for from `origin`, by nobody known, a success so far.
    pub(super) fn new(now: Timestamp, origin: &RequestSource, action: Action) -> Self {
        Self {
            draft: Draft {
                time: now,
                organization_id: None,
                actor: Actor::default(),
                action,
                target: EntryTarget::default(),
                outcome: Outcome::Success,
                reason: None,
                source_ip: origin.source_ip.map(|ip| ip.to_string()),
                user_agent: origin.user_agent.clone(),
                session_id: None,
                workspace_id: None,
                request_id: Some(origin.request_id.clone()).filter(|id| !id.is_empty()),
                details: Map::new(),
            },
        }
    }

    pub(super) fn by_caller(mut self, caller: &Caller) -> Self {
        if super::shell::is_system(caller) {
            self.draft.organization_id = Some(caller.user.organization_id);
            return self.by_system();
        }
        self = self.by_user(&caller.user);
        self
    }

    pub(super) fn by_user(mut self, user: &User) -> Self {
        self.draft.organization_id = Some(user.organization_id);
        self.draft.actor = Actor {
            id: Some(user.id.to_string()),
            email: Some(user.email.clone()),
            role: Some(user.role.as_str().to_owned()),
        };
        self
    }

    /// The gateway itself, or its command line.
    pub(super) fn by_system(mut self) -> Self {
        self.draft.actor = Actor { id: None, email: None, role: Some("system".to_owned()) };
        self
    }

    /// Nobody known, who typed this address.
    pub(super) fn by_unknown_email(mut self, email: &str) -> Self {
        self.draft.actor =
            Actor { id: None, email: Some(truncate_utf8(email, 254).to_owned()), role: None };
        self
    }

    pub(super) fn in_organization(mut self, organization: OrganizationId) -> Self {
        self.draft.organization_id = Some(organization);
        self
    }

    fn on_target(mut self, kind: &str, id: Option<String>, name: Option<String>) -> Self {
        self.draft.target = EntryTarget { kind: Some(kind.to_owned()), id, name };
        self
    }

    pub(super) fn on_session(mut self, session: &Session) -> Self {
        self.draft.session_id = Some(session.id.to_string());
        self.draft.workspace_id = Some(session.workspace_id.to_string());
        self.draft.organization_id.get_or_insert(session.organization_id);
        self.on_target(
            "session",
            Some(session.id.to_string()),
            Some(session.workspace_name.clone()),
        )
    }

    pub(super) fn on_session_id(mut self, id: SessionId) -> Self {
        self.draft.session_id = Some(id.to_string());
        self.on_target("session", Some(id.to_string()), None)
    }

    pub(super) fn on_workspace(mut self, workspace: &Workspace) -> Self {
        self.draft.workspace_id = Some(workspace.id.to_string());
        self.on_target("workspace", Some(workspace.id.to_string()), Some(workspace.name.clone()))
    }

    pub(super) fn on_workspace_id(mut self, id: &crate::domain::WorkspaceId) -> Self {
        self.draft.workspace_id = Some(id.to_string());
        self.on_target("workspace", Some(id.to_string()), None)
    }

    /// Keeps the target, adds which session it was in.
    pub(super) fn in_session(mut self, session: &Session) -> Self {
        self.draft.session_id = Some(session.id.to_string());
        self.draft.workspace_id = Some(session.workspace_id.to_string());
        self
    }

    pub(super) fn on_user(self, user: &User) -> Self {
        self.on_target("user", Some(user.id.to_string()), Some(user.email.clone()))
    }

    pub(super) fn on_user_id(self, id: crate::domain::UserId) -> Self {
        self.on_target("user", Some(id.to_string()), None)
    }

    pub(super) fn on_host(mut self, host: &Host) -> Self {
        self.draft.organization_id.get_or_insert(host.organization_id);
        self.on_target("host", Some(host.id.to_string()), Some(host.name.clone()))
    }

    pub(super) fn on_host_id(self, id: crate::domain::HostId) -> Self {
        self.on_target("host", Some(id.to_string()), None)
    }

    pub(super) fn on_login(self, id: LoginId) -> Self {
        self.on_target("login", Some(id.to_string()), None)
    }

    pub(super) fn on_named(self, kind: &str, name: Option<&str>) -> Self {
        self.on_target(kind, None, name.map(|n| truncate_utf8(n, 254).to_owned()))
    }

    pub(super) fn denied(mut self, reason: &str) -> Self {
        self.draft.outcome = Outcome::Denied;
        self.reason(reason)
    }

    pub(super) fn failed(mut self, reason: &str) -> Self {
        self.draft.outcome = Outcome::Error;
        self.reason(reason)
    }

    pub(super) fn reason(mut self, reason: &str) -> Self {
        self.draft.reason = Some(truncate_utf8(reason, 200).to_owned());
        self
    }

    pub(super) fn action(mut self, action: Action) -> Self {
        self.draft.action = action;
        self
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.draft.details.insert(name.to_owned(), value.into());
        self
    }

    /// When it happens.
    pub(super) fn now(&self) -> Timestamp {
        self.draft.time
    }
}

/// The longest start of `text` of at most `max` bytes that ends between characters.
pub(super) fn truncate_utf8(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A count as the log keeps numbers: a JSON integer every reader takes exactly (RFC 7493 section
/// 2.2).
pub(super) fn json_int(n: u64) -> Value {
    Value::from(n.min((1 << 53) - 1))
}

impl Broker {
    /// An entry in the making, now.
    pub(super) fn audit_entry(&self, origin: &RequestSource, action: Action) -> AuditEntryBuilder {
        AuditEntryBuilder::new(self.now(), origin, action)
    }

    /// A write transaction with its log. Tells the live registry which entries are our own, so that
    /// the sentinel does not take them for another process's.
    pub(super) async fn write<T, F>(&self, f: F) -> Result<T>
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

    /// A write transaction that may refuse.
    pub(super) async fn transact<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut AuditedTx<'_, '_>) -> Decision<T> + Send + 'static,
        T: Send + 'static,
    {
        self.write(f).await?
    }

    /// Writes one entry by itself.
    pub(super) async fn write_entry(&self, note: AuditEntryBuilder) -> Result<()> {
        self.write(move |book| {
            book.add_entry(&note);
            Ok(())
        })
        .await
    }

    /// Writes an entry about somebody nobody knows, unless their address has used up its share of
    /// the log.
    pub(super) async fn audit_unauthenticated(
        &self,
        origin: &RequestSource,
        note: AuditEntryBuilder,
    ) -> Result<()> {
        match self.rate_limited(origin, note) {
            Some(note) => self.write_entry(note).await,
            None => Ok(()),
        }
    }

    /// The note if its source's share allows it, with the number of those left out before it.
    pub(super) fn rate_limited(
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

    /// Policy's permit for an act, or a refusal that is written down.
    pub(super) async fn permit(
        &self,
        origin: &RequestSource,
        caller: &Caller,
        act: PolicyAction,
    ) -> Result<Permit> {
        match policy::authorize(caller, act) {
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

    pub(super) fn streams(&self) -> &StreamRegistry {
        &self.inner.streams
    }
}

/// What its user reads of a denial.
pub(super) fn denial_error(denial: Denial, what: &str) -> Error {
    match denial {
        Denial::Role => Error::forbidden("Your role does not allow this."),
        Denial::MfaRequired => {
            Error::forbidden("This workspace needs a second factor. Sign in again with your code.")
        }
        Denial::NotOwner => Error::not_found(what),
        Denial::NotActive => Error::conflict("Session is not active"),
        Denial::Disabled => Error::unauthenticated("Invalid or expired token"),
    }
}
