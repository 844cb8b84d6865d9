//! Credentials that the gateway presents to upstreams. A credential leaves the gateway only towards
//! the upstream.
//!
//! | source | stored | given to a stream |
//! | --- | --- | --- |
//! | workspace | sealed, for everybody who may launch the workspace | at every open |
//! | user | sealed for this workspace and this user | at every open by this user |
//! | ask | in memory, for two minutes, for one session, user and login | at the next open, once |

use crate::broker::core::answers::{
    SESSION, WORKSPACE, hidden_reason, not_active, organization_of,
};
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::unit_of_work::{AuditedStore, AuditedTx, Decision};
use crate::broker::core::validate;
use crate::broker::model::NewCredential;
use crate::broker::targets::ephemeral_credentials::EphemeralCredentials;
use crate::broker::targets::upstream_context::UpstreamContext;
use crate::domain::audit::{Action, Reason};
use crate::domain::policy::{self, Denial};
use crate::domain::principal::Principal;
use crate::domain::secret::SecretString;
use crate::domain::session::{Session, State};
use crate::domain::upstream::{
    Credential, CredentialSource, Fingerprint, TrustRule, Upstream, UpstreamTrust,
};
use crate::domain::user::RequestSource;
use crate::domain::workspace::{DesktopAuthentication, Workspace};
use crate::domain::{Error, Result, SessionId, UserId, WorkspaceId, WorkspaceKey};
use crate::store::LeaseRow;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The account of a desktop that the host's agent started.
const DESKTOP_USER: &str = "user";

/// Plaintext of a sealed user credential.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct SealedCredential {
    username: String,
    domain: String,
    password: String,
}

#[derive(Clone)]
pub struct Credentials {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) ephemeral: Arc<EphemeralCredentials>,
}

impl Credentials {
    /// The upstream of a permitted stream. Consumes an entered credential.
    pub(in crate::broker) fn upstream_of(
        &self,
        session: &Session,
        upstream: UpstreamContext,
        caller: &Principal,
    ) -> Result<Upstream> {
        let UpstreamContext { workspace, lease, state, sealed } = upstream;
        let port = u16::try_from(lease.port).map_err(Error::internal)?;
        let driver = workspace.driver();
        let (policy, protocol) = (driver.policy(), driver.protocol());
        if let Some(desktop) = driver.started_desktop() {
            let (credential, trust) =
                self.desktop_credential(session, &lease, desktop.authentication)?;
            return Ok(Upstream {
                port,
                credential: Some(credential),
                credential_source: CredentialSource::Workspace,
                trust,
                policy,
                protocol,
            });
        }
        let access = driver
            .access()
            .ok_or_else(|| Error::internal("a workspace without a desktop and a server"))?;
        let credential = match access.credential_source {
            CredentialSource::Workspace => {
                let purpose = SealingPurpose::WorkspacePassword(&workspace.id);
                let password = sealed
                    .map(|sealed| self.sealer.unseal_text(purpose, &sealed))
                    .transpose()?
                    .unwrap_or_else(|| SecretString::new(String::new()));
                let upstream = driver.fields().upstream;
                Some(Credential { username: upstream.username, domain: upstream.domain, password })
            }
            CredentialSource::User => sealed
                .zip(session.user_id())
                .map(|(sealed, user)| self.open_user_credential(&workspace.id, user, &sealed))
                .transpose()?,
            CredentialSource::Ask => {
                self.ephemeral.take((session.id, caller.id(), caller.login_id()), self.store.now())
            }
        };
        let trust =
            UpstreamTrust { rule: access.trust.clone(), pin: state.pinned.map(|(pin, _)| pin) };
        let credential_source = access.credential_source;
        Ok(Upstream { port, credential, credential_source, trust, policy, protocol })
    }

    /// The credential and the certificate that were made for the session's desktop.
    fn desktop_credential(
        &self,
        session: &Session,
        lease: &LeaseRow,
        authentication: DesktopAuthentication,
    ) -> Result<(Credential, UpstreamTrust)> {
        let purpose = SealingPurpose::DesktopCredential(session.id);
        let password = self.sealer.unseal_text(purpose, &lease.credential_sealed)?;
        match authentication {
            DesktopAuthentication::Password => {
                Ok((Credential::password(password), UpstreamTrust::default()))
            }
            DesktopAuthentication::AccountAndCertificate => {
                let certificate = lease.certificate.as_deref().and_then(Fingerprint::parse);
                let pin = certificate
                    .ok_or_else(|| Error::internal("a started desktop without a certificate"))?;
                let (username, domain) = (DESKTOP_USER.to_owned(), String::new());
                let trust = UpstreamTrust { rule: TrustRule::Pinned(pin), pin: None };
                Ok((Credential { username, domain, password }, trust))
            }
        }
    }

    fn open_user_credential(
        &self,
        workspace: &WorkspaceId,
        user: UserId,
        sealed: &str,
    ) -> Result<Credential> {
        let plain = self.sealer.unseal(SealingPurpose::UserCredential(workspace, user), sealed)?;
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
        Ok(self.sealer.seal(SealingPurpose::UserCredential(workspace, user), &plain))
    }

    /// Stores the caller's own credential, sealed, for a workspace whose users bring their own.
    /// Replaces an earlier one.
    ///
    /// # Errors
    /// `NotFound` when there is no such workspace, or they do not see it; `Conflict` when its
    /// credential is another's; `Invalid`.
    pub async fn save(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
        new: NewCredential,
    ) -> Result<()> {
        let credential = validate::validate_credential(new)?;
        let user = self.store.require_user(source, caller).await?.user.id;
        let sealed = self.seal_user_credential(id, user, &credential)?;
        let entry = self
            .store
            .entry(source, Action::SaveCredential)
            .by_caller(caller)
            .with("username", credential.username.clone());
        let (who, id) = (caller.clone(), id.clone());
        let context = self.store.policy_context(source, caller);
        self.store.transact(move |tx| {
            let workspace = match visible_workspace(tx, &who, &context, &id, &entry)? {
                Decision::Allowed(workspace) => workspace,
                Decision::Denied(error) => return Ok(Decision::Denied(error)),
            };
            if let Err(error) = workspace.driver().validate_credential(&credential) {
                return Ok(Decision::Denied(error));
            }
            let entry = entry.clone().on_workspace(&workspace);
            if workspace.credential_source() != Some(CredentialSource::User) {
                let error = Error::conflict("This workspace does not use a credential of yours. Its administrator decides that.");
                return tx.deny(&entry.denied(Reason::NotTheUsers), error);
            }
            tx.upsert_user_credential(&workspace.key(), user, &sealed, entry.now())?;
            tx.add_entry(&entry);
            Ok(Decision::Allowed(()))
        })
        .await
    }

    /// Deletes the caller's own credential for a workspace. Succeeds when there is none.
    ///
    /// # Errors
    /// `NotFound` when there is no such workspace, or they do not see it.
    pub async fn forget(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<()> {
        let user = self.store.require_user(source, caller).await?.user.id;
        let entry = self.store.entry(source, Action::ForgetCredential).by_caller(caller);
        let (who, id) = (caller.clone(), id.clone());
        let context = self.store.policy_context(source, caller);
        self.store
            .transact(move |tx| {
                let workspace = match visible_workspace(tx, &who, &context, &id, &entry)? {
                    Decision::Allowed(workspace) => workspace,
                    Decision::Denied(error) => return Ok(Decision::Denied(error)),
                };
                if tx.delete_user_credential(&workspace.key(), user)? {
                    tx.add_entry(&entry.clone().on_workspace(&workspace));
                }
                Ok(Decision::Allowed(()))
            })
            .await
    }

    /// Holds an entered credential in memory for the session's next stream from the same login, for
    /// two minutes at most.
    ///
    /// # Errors
    /// `NotFound` when the session is not theirs; `Conflict` when it is not active or its workspace
    /// asks for none; `Invalid`; `Unavailable` when too many wait.
    pub async fn enter(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: SessionId,
        new: NewCredential,
    ) -> Result<()> {
        let credential = validate::validate_credential(new)?;
        let entry = self
            .store
            .entry(source, Action::EnterCredential)
            .by_caller(caller)
            .with("username", credential.username.clone());
        let who = caller.clone();
        let typed = credential.clone();
        self.store
            .transact(move |tx| {
                let session = tx.session(id)?;
                let why = hidden_reason(&who, session.as_ref().map(|s| s.organization_id));
                let Some(session) = session.filter(|s| s.principal == who.id()) else {
                    let entry = entry.clone().access_denied().on_session_id(id);
                    return tx.deny(&entry.denied(why), Error::not_found(SESSION));
                };
                let entry = entry.clone().on_session(&session);
                if session.state != State::Active {
                    return tx.deny(&entry.denied(Denial::NotActive), not_active());
                }
                let workspace = tx.workspace(&session.workspace_key())?;
                let Some(workspace) =
                    workspace.filter(|w| w.credential_source() == Some(CredentialSource::Ask))
                else {
                    let error = Error::conflict("This workspace does not ask for a credential.");
                    return tx.deny(&entry.denied(Reason::NotAsked), error);
                };
                if let Err(error) = workspace.driver().validate_credential(&typed) {
                    return Ok(Decision::Denied(error));
                }
                tx.add_entry(&entry);
                Ok(Decision::Allowed(()))
            })
            .await?;
        if self.ephemeral.insert((id, caller.id(), caller.login_id()), credential, self.store.now())
        {
            return Ok(());
        }
        Err(Error::unavailable("Too many sign-ins wait at this moment. Try again shortly."))
    }
}

/// The workspace, if the caller sees it and it has an upstream; otherwise an audited denial.
fn visible_workspace(
    tx: &mut AuditedTx<'_, '_>,
    who: &Principal,
    context: &policy::Context,
    id: &WorkspaceId,
    entry: &AuditEntryBuilder,
) -> Result<Decision<Workspace>> {
    let key = WorkspaceKey { organization_id: organization_of(who)?, id: id.clone() };
    let found = tx.workspace(&key)?;
    let Some(workspace) = found.filter(|w| policy::can_view(who, w, context)) else {
        let entry = entry.clone().access_denied().on_workspace_id(id);
        return tx.deny(&entry.denied(Reason::Unknown), Error::not_found(WORKSPACE));
    };
    if workspace.credential_source().is_none() {
        let error = Error::conflict("This workspace has no server that asks for a credential.");
        return tx.deny(&entry.clone().on_workspace(&workspace).denied(Reason::NoServer), error);
    }
    Ok(Decision::Allowed(workspace))
}
