//! What is written down, and how a change and its entry become one.
//!
//! - A [`StickyNote`] is an audit entry in the making: who, what, to what, how it went.
//! - A [`Book`] is a write transaction that also keeps the log. Whatever a use case changes, it
//!   changes through a book and notes it there; both are committed or neither. A use case that
//!   refuses returns `Ok(Err(..))` from its transaction, so that the denial is committed while
//!   nothing else changed.
//! - [`Broker::strangers_note`] keeps people nobody knows from flooding the log: forged tokens,
//!   unknown tickets and throttled sign-ins are written until their address has used up its share;
//!   the next one written says how many were not.

use super::{Broker, live::Live};
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
pub(super) type Verdict<T> = Result<Result<T>>;

/// A write transaction with its log. Entries are written at its end, since writing one locks the
/// end of the chain.
pub(super) struct Book<'a, 'tx> {
    tx: &'a mut Tx<'tx>,
    notes: Vec<Draft>,
}

impl Book<'_, '_> {
    /// Writes an entry, when the transaction is kept.
    pub(super) fn note(&mut self, note: &Note) {
        self.notes.push(note.draft.clone());
    }

    /// Writes a denial and hands back the refusal.
    pub(super) fn refuse<T>(&mut self, note: &Note, error: Error) -> Verdict<T> {
        self.note(note);
        Ok(Err(error))
    }
}

impl<'tx> Deref for Book<'_, 'tx> {
    type Target = Tx<'tx>;
    fn deref(&self) -> &Tx<'tx> {
        self.tx
    }
}

impl<'tx> DerefMut for Book<'_, 'tx> {
    fn deref_mut(&mut self) -> &mut Tx<'tx> {
        self.tx
    }
}

/// An audit entry in the making.
#[derive(Clone, Debug)]
pub(super) struct Note {
    draft: Draft,
}

impl Note {
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

    pub(super) fn by(mut self, caller: &Caller) -> Self {
        if super::shell::is_shell(caller) {
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
    pub(super) fn by_typed(mut self, email: &str) -> Self {
        self.draft.actor = Actor { id: None, email: Some(cut(email, 254).to_owned()), role: None };
        self
    }

    pub(super) fn within(mut self, organization: OrganizationId) -> Self {
        self.draft.organization_id = Some(organization);
        self
    }

    fn on(mut self, kind: &str, id: Option<String>, name: Option<String>) -> Self {
        self.draft.target = EntryTarget { kind: Some(kind.to_owned()), id, name };
        self
    }

    pub(super) fn on_session(mut self, session: &Session) -> Self {
        self.draft.session_id = Some(session.id.to_string());
        self.draft.workspace_id = Some(session.workspace_id.to_string());
        self.draft.organization_id.get_or_insert(session.organization_id);
        self.on("session", Some(session.id.to_string()), Some(session.workspace_name.clone()))
    }

    pub(super) fn on_session_id(mut self, id: SessionId) -> Self {
        self.draft.session_id = Some(id.to_string());
        self.on("session", Some(id.to_string()), None)
    }

    pub(super) fn on_workspace(mut self, workspace: &Workspace) -> Self {
        self.draft.workspace_id = Some(workspace.id.to_string());
        self.on("workspace", Some(workspace.id.to_string()), Some(workspace.name.clone()))
    }

    pub(super) fn on_workspace_id(mut self, id: &crate::domain::WorkspaceId) -> Self {
        self.draft.workspace_id = Some(id.to_string());
        self.on("workspace", Some(id.to_string()), None)
    }

    /// Keeps the target, adds which session it was in.
    pub(super) fn in_session(mut self, session: &Session) -> Self {
        self.draft.session_id = Some(session.id.to_string());
        self.draft.workspace_id = Some(session.workspace_id.to_string());
        self
    }

    pub(super) fn on_user(self, user: &User) -> Self {
        self.on("user", Some(user.id.to_string()), Some(user.email.clone()))
    }

    pub(super) fn on_user_id(self, id: crate::domain::UserId) -> Self {
        self.on("user", Some(id.to_string()), None)
    }

    pub(super) fn on_host(mut self, host: &Host) -> Self {
        self.draft.organization_id.get_or_insert(host.organization_id);
        self.on("host", Some(host.id.to_string()), Some(host.name.clone()))
    }

    pub(super) fn on_host_id(self, id: crate::domain::HostId) -> Self {
        self.on("host", Some(id.to_string()), None)
    }

    pub(super) fn on_login(self, id: LoginId) -> Self {
        self.on("login", Some(id.to_string()), None)
    }

    pub(super) fn on_thing(self, kind: &str, name: Option<&str>) -> Self {
        self.on(kind, None, name.map(|n| cut(n, 254).to_owned()))
    }

    pub(super) fn denied(mut self, reason: &str) -> Self {
        self.draft.outcome = Outcome::Denied;
        self.because(reason)
    }

    pub(super) fn failed(mut self, reason: &str) -> Self {
        self.draft.outcome = Outcome::Error;
        self.because(reason)
    }

    pub(super) fn because(mut self, reason: &str) -> Self {
        self.draft.reason = Some(cut(reason, 200).to_owned());
        self
    }

    pub(super) fn acting(mut self, action: Action) -> Self {
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
pub(super) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A count as the log keeps numbers: a JSON integer every reader takes exactly (RFC 7493 section
/// 2.2).
pub(super) fn whole(n: u64) -> Value {
    Value::from(n.min((1 << 53) - 1))
}

impl Broker {
    /// An entry in the making, now.
    pub(super) fn note(&self, origin: &RequestSource, action: Action) -> Note {
        Note::new(self.now(), origin, action)
    }

    /// A write transaction with its log. Tells the live registry which entries are our own, so that
    /// the sentinel does not take them for another process's.
    pub(super) async fn write<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Book<'_, '_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (value, written) = self
            .inner
            .store
            .write(move |tx| {
                let mut book = Book { tx, notes: Vec::new() };
                let value = f(&mut book)?;
                let Book { tx, notes } = book;
                let written = notes
                    .into_iter()
                    .map(|draft| tx.append_audit_entry(draft).map(|entry| entry.seq));
                let written = written.collect::<Result<Vec<_>>>()?;
                Ok((value, written))
            })
            .await?;
        self.live().own(&written);
        if !written.is_empty() {
            self.live().log_grew();
        }
        Ok(value)
    }

    /// A write transaction that may refuse.
    pub(super) async fn decide<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Book<'_, '_>) -> Verdict<T> + Send + 'static,
        T: Send + 'static,
    {
        self.write(f).await?
    }

    /// Writes one entry by itself.
    pub(super) async fn write_note(&self, note: Note) -> Result<()> {
        self.write(move |book| {
            book.note(&note);
            Ok(())
        })
        .await
    }

    /// Writes an entry about somebody nobody knows, unless their address has used up its share of
    /// the log.
    pub(super) async fn strangers_note(&self, origin: &RequestSource, note: Note) -> Result<()> {
        match self.within_share(origin, note) {
            Some(note) => self.write_note(note).await,
            None => Ok(()),
        }
    }

    /// The note if its source's share allows it, with the number of those left out before it.
    pub(super) fn within_share(&self, origin: &RequestSource, note: Note) -> Option<Note> {
        let account = note.draft.action.as_str();
        let account =
            origin.source_ip.map_or_else(|| account.to_owned(), |ip| format!("{account} {ip}"));
        if self.inner.noise.check(&account, origin.source_ip, self.now()).is_err() {
            self.inner.unwritten.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let left_out = self.inner.unwritten.swap(0, Ordering::Relaxed);
        Some(if left_out > 0 { note.with("left_out_before", whole(left_out)) } else { note })
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
                    .note(origin, Action::AccessDenied)
                    .by(caller)
                    .on_thing("route", Some(act.as_str()));
                self.write_note(note.denied(denial.as_str())).await?;
                Err(refusal(denial, "Resource"))
            }
        }
    }

    pub(super) fn live(&self) -> &Live {
        &self.inner.live
    }
}

/// What its user reads of a denial.
pub(super) fn refusal(denial: Denial, what: &str) -> Error {
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
