//! Credentials that the gateway presents to upstreams. A credential leaves the gateway only towards
//! the upstream.
//!
//! | source | stored | given to a stream |
//! | --- | --- | --- |
//! | workspace | sealed, for everybody who may launch the workspace | at every open |
//! | user | sealed for this workspace and this user | at every open by this user |
//! | ask | in memory, for two minutes, for one session, user and login | at the next open, once |

use crate::broker::Broker;
use crate::broker::core::answers::WORKSPACE;
use crate::broker::core::answers::{SESSION, not_active};
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::stream_registry::GrantConditions;
use crate::broker::core::unit_of_work::{AuditedTx, Decision};
use crate::broker::core::validate;
use crate::broker::model::NewCredential;
use crate::broker::sessions::launch;
use crate::domain::audit::Action;
use crate::domain::policy::{self, Denial};
use crate::domain::principal::{Principal, PrincipalId};
use crate::domain::route::{SessionRoute, TargetSpec};
use crate::domain::secret::{SecretBytes, SecretString};
use crate::domain::session::{Session, State};
use crate::domain::sync::lock;
use crate::domain::upstream::{
    Credential, CredentialSource, Fingerprint, TrustRule, Upstream, UpstreamTrust,
};
use crate::domain::user::RequestSource;
use crate::domain::workspace::{UpstreamState, Workspace, WorkspaceKind};
use crate::domain::{Error, LoginId, Result, SessionId, Timestamp, UserId, WorkspaceId};
use crate::store::LeaseRow;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Lifetime of an entered credential that no stream has used.
const EPHEMERAL_TTL: Duration = Duration::from_secs(120);
/// Maximum number of entered credentials in memory, of all users.
const EPHEMERAL_MAX: usize = 1024;
/// The account of a desktop that the host's agent started.
const DESKTOP_USER: &str = "user";

/// Plaintext of a sealed user credential.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct SealedCredential {
    username: String,
    domain: String,
    password: String,
}

type CredentialKey = (SessionId, PrincipalId, Option<LoginId>);

/// Entered credentials that no stream has used yet.
#[derive(Default)]
pub(in crate::broker) struct EphemeralCredentials {
    entries: Mutex<HashMap<CredentialKey, (Credential, Timestamp)>>,
}

impl EphemeralCredentials {
    fn lock(&self) -> MutexGuard<'_, HashMap<CredentialKey, (Credential, Timestamp)>> {
        lock(&self.entries)
    }

    /// `false` when the map is full.
    fn insert(&self, whose: CredentialKey, credential: Credential, now: Timestamp) -> bool {
        self.remove_expired(now);
        let mut waiting = self.lock();
        if waiting.len() >= EPHEMERAL_MAX && !waiting.contains_key(&whose) {
            return false;
        }
        waiting.insert(whose, (credential, now.after(EPHEMERAL_TTL)));
        true
    }

    /// Removes and returns a credential that has not expired.
    fn take(&self, whose: CredentialKey, now: Timestamp) -> Option<Credential> {
        self.lock()
            .remove(&whose)
            .filter(|(_, until)| now < *until)
            .map(|(credential, _)| credential)
    }

    pub(in crate::broker) fn remove_expired(&self, now: Timestamp) {
        self.lock().retain(|_, (_, until)| now < *until);
    }
}

/// What the transaction that opens a stream reads about the upstream.
pub(in crate::broker) struct UpstreamContext {
    pub(in crate::broker) workspace: Workspace,
    lease: LeaseRow,
    state: UpstreamState,
    /// The workspace's password or the user's credential, depending on the source.
    sealed: Option<String>,
}

impl UpstreamContext {
    pub(in crate::broker) fn conditions(&self) -> GrantConditions {
        grant_conditions(&self.workspace)
    }
}

fn grant_conditions(workspace: &Workspace) -> GrantConditions {
    GrantConditions {
        policy: workspace.policy,
        trust: workspace.upstream.trust.clone(),
        web: workspace.upstream.web_app.clone(),
    }
}

fn workspace_purpose(workspace: &WorkspaceId) -> String {
    format!("workspace password:{workspace}")
}

fn user_purpose(workspace: &WorkspaceId, user: UserId) -> String {
    format!("user credential:{workspace}:{user}")
}

fn secret_text(plain: &SecretBytes) -> Result<SecretString> {
    String::from_utf8(plain.expose().clone()).map(SecretString::new).map_err(Error::internal)
}

/// Whether the session's route still matches the workspace's target.
fn target_unchanged(session: &Session, workspace: &Workspace, lease: &LeaseRow) -> bool {
    match (&session.route, &workspace.target) {
        (SessionRoute::OwnTunnel, None) => true,
        (SessionRoute::OwnTunnel, Some(TargetSpec::Service { host_id, .. })) => {
            Some(*host_id) == session.host_id
        }
        (SessionRoute::HostTunnel, Some(TargetSpec::Host { host_id, port })) => {
            Some(*host_id) == session.host_id && i32::from(*port) == lease.port
        }
        (SessionRoute::Direct(name), Some(TargetSpec::Direct { name: named })) => name == named,
        (SessionRoute::OwnTunnel | SessionRoute::HostTunnel | SessionRoute::Direct(_), _) => false,
    }
}

impl AuditedTx<'_, '_> {
    /// The upstream of a session that may be streamed, or an audited denial.
    pub(in crate::broker) fn upstream_context(
        &mut self,
        session: &Session,
        note: &AuditEntryBuilder,
    ) -> Decision<UpstreamContext> {
        let lease = self.session_lease(session.id)?;
        let workspace = self
            .workspace(&session.workspace_id)?
            .filter(|w| w.organization_id == session.organization_id);
        let (Some(lease), Some(workspace)) = (lease, workspace) else {
            return self.deny(&note.clone().failed("no_lease"), not_active());
        };
        if !target_unchanged(session, &workspace, &lease) {
            // The new target's credentials must not be sent to the old one.
            let error = Error::conflict(
                "The server of this workspace was changed. Disconnect the session and launch it again.",
            );
            return self.deny(&note.clone().denied("target_changed"), error);
        }
        let state = self.upstream_state(&workspace.id)?;
        let sealed = match workspace.upstream.credential_source {
            CredentialSource::Workspace => self.workspace_password(&workspace.id)?,
            CredentialSource::User => match session.user_id() {
                Some(user) => self.user_credential(&workspace.id, user)?,
                None => None,
            },
            CredentialSource::Ask => None,
        };
        Ok(Ok(UpstreamContext { workspace, lease, state, sealed }))
    }
}

impl Broker {
    /// The upstream of a permitted stream. Consumes an entered credential.
    pub(in crate::broker) fn upstream_of(
        &self,
        session: &Session,
        behind: UpstreamContext,
        caller: &Principal,
    ) -> Result<Upstream> {
        let UpstreamContext { workspace, lease, state, sealed } = behind;
        let port = u16::try_from(lease.port).map_err(Error::internal)?;
        if workspace.is_agent_started() || !workspace.has_upstream() {
            let password = secret_text(
                &self
                    .inner
                    .vault
                    .unseal(&launch::credential_purpose(session.id), &lease.credential_sealed)?,
            )?;
            let own = Upstream::agent_started(port, password.clone(), workspace.policy);
            if workspace.kind != WorkspaceKind::Rdp {
                return Ok(own);
            }
            let certificate = lease.certificate.as_deref().and_then(Fingerprint::parse);
            let pin = certificate
                .ok_or_else(|| Error::internal("a started RDP desktop without a certificate"))?;
            let credential =
                Credential { username: DESKTOP_USER.to_owned(), domain: String::new(), password };
            let trust = UpstreamTrust { rule: TrustRule::Pinned(pin), pin: None };
            return Ok(Upstream {
                credential: Some(credential),
                trust,
                keyboard_layout: workspace.upstream.keyboard_layout,
                ..own
            });
        }
        let terms = workspace.upstream;
        let credential = match terms.credential_source {
            CredentialSource::Workspace => {
                let password = sealed
                    .map(|sealed| {
                        self.inner.vault.unseal(&workspace_purpose(&workspace.id), &sealed)
                    })
                    .transpose()?;
                let password = password
                    .as_ref()
                    .map(secret_text)
                    .transpose()?
                    .unwrap_or_else(|| SecretString::new(String::new()));
                Some(Credential { username: terms.username, domain: terms.domain, password })
            }
            CredentialSource::User => sealed
                .zip(session.user_id())
                .map(|(sealed, user)| self.open_user_credential(&workspace.id, user, &sealed))
                .transpose()?,
            CredentialSource::Ask => self
                .inner
                .ephemeral_credentials
                .take((session.id, caller.id(), caller.login_id()), self.now()),
        };
        let trust = UpstreamTrust { rule: terms.trust, pin: state.pinned.map(|(pin, _)| pin) };
        let (policy, exclusive, keyboard) =
            (workspace.policy, terms.exclusive, terms.keyboard_layout);
        let web = (workspace.kind == WorkspaceKind::Html5).then(|| Box::new(terms.web_app));
        Ok(Upstream {
            port,
            credential,
            credential_source: terms.credential_source,
            trust,
            policy,
            exclusive,
            keyboard_layout: keyboard,
            web_app: web,
        })
    }

    fn open_user_credential(
        &self,
        workspace: &WorkspaceId,
        user: UserId,
        sealed: &str,
    ) -> Result<Credential> {
        let plain = self.inner.vault.unseal(&user_purpose(workspace, user), sealed)?;
        let mut read: SealedCredential = serde_json::from_slice(plain.expose())
            .map_err(|_| Error::internal("a sealed credential cannot be parsed"))?;
        let (username, domain) =
            (std::mem::take(&mut read.username), std::mem::take(&mut read.domain));
        Ok(Credential {
            username,
            domain,
            password: SecretString::new(std::mem::take(&mut read.password)),
        })
    }

    fn seal_user_credential(
        &self,
        workspace: &WorkspaceId,
        user: UserId,
        credential: &Credential,
    ) -> Result<String> {
        let sealed = SealedCredential {
            username: credential.username.clone(),
            domain: credential.domain.clone(),
            password: credential.password.expose().clone(),
        };
        let plain = Zeroizing::new(serde_json::to_vec(&sealed).map_err(Error::internal)?);
        Ok(self.inner.vault.seal(&user_purpose(workspace, user), &plain))
    }

    /// Seals a workspace's password; `None` for an empty one, which removes it.
    pub(in crate::broker) fn seal_password(
        &self,
        workspace: &WorkspaceId,
        password: &SecretString,
    ) -> Option<String> {
        let plain = password.expose().as_bytes();
        (!plain.is_empty()).then(|| self.inner.vault.seal(&workspace_purpose(workspace), plain))
    }

    /// Revokes the streams of these sessions that were granted under other conditions than the
    /// workspace's present ones.
    pub(in crate::broker) fn revoke_outdated_streams(
        &self,
        workspace: &Workspace,
        sessions: &[Session],
    ) {
        let terms = grant_conditions(workspace);
        sessions.iter().for_each(|session| self.streams().revoke_outdated(session.id, &terms));
    }

    /// Stores the caller's own credential, sealed, for a workspace whose users bring their own.
    /// Replaces an earlier one.
    ///
    /// # Errors
    /// `NotFound` when there is no such workspace, or they do not see it; `Conflict` when its
    /// credential is another's; `Invalid`.
    pub async fn save_credential(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
        new: NewCredential,
    ) -> Result<()> {
        let credential = validate::validate_credential(new)?;
        let user = self.require_user(origin, caller).await?.user.id;
        let sealed = self.seal_user_credential(id, user, &credential)?;
        let note = self
            .audit_entry(origin, Action::SaveCredential)
            .by_caller(caller)
            .with("username", credential.username.clone());
        let (who, id) = (caller.clone(), id.clone());
        let context = self.policy_context(origin, caller);
        self.transact(move |book| {
            let workspace = match visible_workspace(book, &who, &context, &id, &note)? {
                Ok(workspace) => workspace,
                Err(error) => return Ok(Err(error)),
            };
            if let Err(error) = validate::validate_for(&credential, &workspace) {
                return Ok(Err(error));
            }
            let note = note.clone().on_workspace(&workspace);
            if workspace.upstream.credential_source != CredentialSource::User {
                let error = Error::conflict("This workspace does not use a credential of yours. Its administrator decides that.");
                return book.deny(&note.denied("not_the_users"), error);
            }
            book.upsert_user_credential(&id, user, &sealed, note.now())?;
            book.add_entry(&note);
            Ok(Ok(()))
        })
        .await
    }

    /// Deletes the caller's own credential for a workspace. Succeeds when there is none.
    ///
    /// # Errors
    /// `NotFound` when there is no such workspace, or they do not see it.
    pub async fn forget_credential(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<()> {
        let user = self.require_user(origin, caller).await?.user.id;
        let note = self.audit_entry(origin, Action::ForgetCredential).by_caller(caller);
        let (who, id) = (caller.clone(), id.clone());
        let context = self.policy_context(origin, caller);
        self.transact(move |book| {
            let workspace = match visible_workspace(book, &who, &context, &id, &note)? {
                Ok(workspace) => workspace,
                Err(error) => return Ok(Err(error)),
            };
            if book.delete_user_credential(&id, user)? {
                book.add_entry(&note.clone().on_workspace(&workspace));
            }
            Ok(Ok(()))
        })
        .await
    }

    /// Holds an entered credential in memory for the session's next stream from the same login, for
    /// two minutes at most.
    ///
    /// # Errors
    /// `NotFound` when the session is not theirs; `Conflict` when it is not active or its workspace
    /// asks for none; `Invalid`; `Unavailable` when too many wait.
    pub async fn enter_credential(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: SessionId,
        new: NewCredential,
    ) -> Result<()> {
        let credential = validate::validate_credential(new)?;
        let note = self
            .audit_entry(origin, Action::EnterCredential)
            .by_caller(caller)
            .with("username", credential.username.clone());
        let who = caller.clone();
        let typed = credential.clone();
        self.transact(move |book| {
            let session = book.session(id)?;
            let why = if session.is_some() { Denial::NotOwner.as_str() } else { "unknown" };
            let Some(session) = session.filter(|s| s.principal == who.id()) else {
                let note = note.clone().action(Action::AccessDenied).on_session_id(id);
                return book.deny(&note.denied(why), Error::not_found(SESSION));
            };
            let note = note.clone().on_session(&session);
            if session.state != State::Active {
                return book.deny(&note.denied(Denial::NotActive.as_str()), not_active());
            }
            let workspace = book.workspace(&session.workspace_id)?;
            let Some(workspace) = workspace.filter(|w| {
                w.has_upstream() && w.upstream.credential_source == CredentialSource::Ask
            }) else {
                let error = Error::conflict("This workspace does not ask for a credential.");
                return book.deny(&note.denied("not_asked"), error);
            };
            if let Err(error) = validate::validate_for(&typed, &workspace) {
                return Ok(Err(error));
            }
            book.add_entry(&note);
            Ok(Ok(()))
        })
        .await?;
        if self.inner.ephemeral_credentials.insert(
            (id, caller.id(), caller.login_id()),
            credential,
            self.now(),
        ) {
            return Ok(());
        }
        Err(Error::unavailable("Too many sign-ins wait at this moment. Try again shortly."))
    }
}

/// The workspace, if the caller sees it and it has an upstream; otherwise an audited denial.
fn visible_workspace(
    book: &mut AuditedTx<'_, '_>,
    who: &Principal,
    context: &policy::Context,
    id: &WorkspaceId,
    note: &AuditEntryBuilder,
) -> Decision<Workspace> {
    let found = book.workspace(id)?;
    let why = if found.is_some() { Denial::NotOwner.as_str() } else { "unknown" };
    let Some(workspace) = found.filter(|w| policy::can_view(who, w, context)) else {
        let note = note.clone().action(Action::AccessDenied).on_workspace_id(id);
        return book.deny(&note.denied(why), Error::not_found(WORKSPACE));
    };
    if !workspace.has_upstream() {
        let error = Error::conflict("This workspace has no server that asks for a credential.");
        return book.deny(&note.clone().on_workspace(&workspace).denied("no_server"), error);
    }
    Ok(Ok(workspace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose() -> CredentialKey {
        (SessionId::new(), PrincipalId::User(UserId::new()), Some(LoginId::new()))
    }

    #[test]
    fn entered_credential_is_used_once_by_its_login_and_in_time() {
        let entered = EphemeralCredentials::default();
        let (now, me) = (Timestamp(1000), whose());
        let typed = || Credential::password(SecretString::new("p".to_owned()));
        assert!(entered.insert(me, typed(), now));
        assert!(entered.take((me.0, me.1, Some(LoginId::new())), now).is_none(), "another login");
        assert!(entered.take(me, now).is_some());
        assert!(entered.take(me, now).is_none(), "used");
        assert!(entered.insert(me, typed(), now));
        assert!(entered.take(me, now.after(EPHEMERAL_TTL)).is_none(), "late");
        for _ in 0..EPHEMERAL_MAX {
            assert!(entered.insert(whose(), typed(), now));
        }
        assert!(!entered.insert(whose(), typed(), now), "full");
        assert!(
            entered.insert(whose(), typed(), now.after(EPHEMERAL_TTL)),
            "expired ones are removed"
        );
        assert_eq!(entered.lock().len(), 1);
    }
}
