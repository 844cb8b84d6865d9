//! User accounts.

use crate::auth::password;
use crate::broker::core::answers::USER;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::hash_queue::{HashFor, HashQueue};
use crate::broker::core::task::spawn_to_completion;
use crate::broker::core::teardown::{Teardown, TeardownEffects};
use crate::broker::core::unit_of_work::{AuditedStore, AuditedTx, Decision};
use crate::broker::core::validate;
use crate::broker::identity::code_attempts::CodeAttempts;
use crate::broker::model::{NewUser, UserChange};
use crate::domain::audit::{Action, Reason};
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::session::EndReason;
use crate::domain::user::{RequestSource, User};
use crate::domain::{Error, OrganizationId, Result, UserId};

/// The user if they belong to this organization, otherwise an audited denial.
pub(super) fn user_in_organization(
    tx: &mut AuditedTx<'_, '_>,
    id: UserId,
    organization: OrganizationId,
    entry: &AuditEntryBuilder,
) -> Result<Decision<User>> {
    match tx.user(id)?.filter(|u| u.organization_id == organization) {
        Some(user) => Ok(Decision::Allowed(user)),
        None => {
            let entry = entry.clone().access_denied().on_user_id(id);
            tx.deny(&entry.denied(Reason::Unknown), Error::not_found(USER))
        }
    }
}

/// The act that a change is, for a denial.
fn attempted(change: &UserChange) -> Action {
    match change.disabled {
        Some(true) => Action::DisableUser,
        Some(false) => Action::EnableUser,
        None => Action::UpdateUser,
    }
}

#[derive(Clone)]
pub struct Users {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) hash_queue: HashQueue,
    pub(in crate::broker) code_attempts: CodeAttempts,
    pub(in crate::broker) teardown: Teardown,
}

impl Users {
    /// The organization's users.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn list(&self, source: &RequestSource, caller: &Principal) -> Result<Vec<User>> {
        let organization =
            self.store.permit(source, caller, PolicyAction::ReadUsers).await?.organization_id();
        self.store.list(move |tx| tx.users(organization)).await
    }

    /// Creates a user.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid`, also when another organization's user has the address; `Conflict` when
    /// one of this organization has it.
    pub async fn create(
        &self,
        source: &RequestSource,
        caller: &Principal,
        new: NewUser,
    ) -> Result<User> {
        let tried = self.store.entry(source, Action::CreateUser).on_named("user", Some(&new.email));
        let organization_id =
            self.store.permit_act(source, caller, PolicyAction::ManageUsers, tried).await?;
        let (email, name) = (validate::email(&new.email)?, validate::name(&new.name)?);
        password::check_strength(new.password.expose(), &email)?;
        let hash =
            self.hash_queue.run(HashFor::Known, move || password::hash(&new.password)).await??;
        let user = User {
            id: UserId::new(),
            organization_id,
            email,
            name,
            role: new.role,
            mfa_enrolled: false,
            disabled: false,
            created_at: self.store.now(),
            last_login_at: None,
        };
        let entry = self
            .store
            .entry(source, Action::CreateUser)
            .by_caller(caller)
            .on_user(&user)
            .with("role", user.role.as_str());
        self.store
            .transact(move |tx| {
                if let Some((other, _)) = tx.user_by_email(&user.email)? {
                    // Addresses are unique in the gateway, since people sign in by them alone. An
                    // administrator is not told who has an account in another organization.
                    let (reason, error) = if other.organization_id == user.organization_id {
                        let text = "A user with this e-mail address exists already.";
                        (Reason::EmailTaken, Error::conflict(text))
                    } else {
                        let text = "This e-mail address cannot be used here. Use another one, or ask whoever runs this gateway.";
                        (Reason::EmailUnusable, Error::invalid(text))
                    };
                    return tx.deny(&entry.clone().denied(reason), error);
                }
                tx.insert_user(&user, &hash)?;
                tx.add_entry(&entry);
                Ok(Decision::Allowed(user.clone()))
            })
            .await
    }

    /// Changes a user. Disabling ends the user's logins and sessions; a new password ends the
    /// logins.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid`; `Conflict` when admins would disable or demote
    /// themselves.
    pub async fn update(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: UserId,
        change: UserChange,
    ) -> Result<User> {
        let tried = self.store.entry(source, attempted(&change)).on_user_id(id);
        let organization =
            self.store.permit_act(source, caller, PolicyAction::ManageUsers, tried).await?;
        let name = change.name.as_deref().map(validate::name).transpose()?;
        let entry = self.store.entry(source, Action::UpdateUser).by_caller(caller);
        let hash = match change.password {
            None => None,
            Some(password) => {
                let known = self.store.read(move |tx| tx.user(id)).await?;
                let email = known
                    .filter(|u| u.organization_id == organization)
                    .map(|u| u.email)
                    .unwrap_or_default();
                password::check_strength(password.expose(), &email)?;
                Some(
                    self.hash_queue
                        .run(HashFor::Known, move || password::hash(&password))
                        .await??,
                )
            }
        };
        let own = caller.user_id() == Some(id);
        let new_password = hash.is_some();
        let (role, disabled) = (change.role, change.disabled);
        let this = self.clone();
        spawn_to_completion(async move {
            let (user, ended) = this
                .store
                .transact(move |tx| {
                    let old = match user_in_organization(tx, id, organization, &entry)? {
                        Decision::Allowed(user) => user,
                        Decision::Denied(error) => return Ok(Decision::Denied(error)),
                    };
                    let entry = entry.clone().on_user(&old);
                    let next = User {
                        name: name.clone().unwrap_or_else(|| old.name.clone()),
                        role: role.unwrap_or(old.role),
                        disabled: disabled.unwrap_or(old.disabled),
                        ..old.clone()
                    };
                    if own && (next.disabled || next.role != old.role) {
                        let error = Error::conflict("You cannot disable yourself or change your own role. Ask another administrator.");
                        return tx.deny(&entry.denied(Reason::OwnAccount), error);
                    }
                    let mut changed = Vec::new();
                    if next.name != old.name {
                        changed.push("name");
                    }
                    if next.role != old.role {
                        changed.push("role");
                    }
                    if hash.is_some() {
                        changed.push("password");
                    }
                    if next != old {
                        tx.update_user(&next)?;
                    }
                    let mut ended = TeardownEffects::default();
                    if let Some(hash) = &hash {
                        tx.set_password(id, hash)?;
                        // Logins of the old password end; desktops keep running.
                        ended.logins = tx.revoke_logins_of(id, entry.now())?;
                    }
                    if !changed.is_empty() {
                        tx.add_entry(&entry.clone().with("changed", changed.join(",")).with("role", next.role.as_str()));
                    }
                    if next.disabled && !old.disabled {
                        tx.add_entry(&entry.clone().action(Action::DisableUser));
                        let more = tx.end_all_of_user(id, EndReason::UserDisabled, &entry)?;
                        ended.sessions.extend(more.sessions);
                        ended.logins.extend(more.logins);
                    } else if old.disabled && !next.disabled {
                        tx.add_entry(&entry.clone().action(Action::EnableUser));
                    }
                    Ok(Decision::Allowed((next, ended)))
                })
                .await?;
            if new_password {
                this.code_attempts.forget_account(id);
            }
            this.teardown.apply_effects(ended).await?;
            Ok(user)
        })
        .await
    }

    /// Removes a user's second factor and revokes their logins, so that they enrol again; desktops
    /// keep running.
    ///
    /// # Errors
    /// `Forbidden` or `NotFound`.
    pub async fn reset_mfa(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: UserId,
    ) -> Result<()> {
        let tried = self.store.entry(source, Action::MfaReset).on_user_id(id);
        let organization =
            self.store.permit_act(source, caller, PolicyAction::ManageUsers, tried).await?;
        let entry = self.store.entry(source, Action::MfaReset).by_caller(caller);
        let this = self.clone();
        spawn_to_completion(async move {
            let ended = this
                .store
                .transact(move |tx| {
                    let user = match user_in_organization(tx, id, organization, &entry)? {
                        Decision::Allowed(user) => user,
                        Decision::Denied(error) => return Ok(Decision::Denied(error)),
                    };
                    let had = tx.delete_totp(id)?;
                    // A login verified with the removed factor must not outlive it.
                    let logins = tx.revoke_logins_of(id, entry.now())?;
                    tx.add_entry(&entry.clone().on_user(&user).with("had_factor", had));
                    Ok(Decision::Allowed(TeardownEffects { sessions: Vec::new(), logins }))
                })
                .await?;
            this.teardown.apply_effects(ended).await
        })
        .await
    }

    /// Ends every login and session of a user.
    ///
    /// # Errors
    /// `Forbidden` or `NotFound`.
    pub async fn sign_out(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: UserId,
    ) -> Result<()> {
        let tried = self.store.entry(source, Action::SignOutUser).on_user_id(id);
        let organization =
            self.store.permit_act(source, caller, PolicyAction::ManageUsers, tried).await?;
        let entry = self.store.entry(source, Action::SignOutUser).by_caller(caller);
        // Administrators may do this to themselves, which has its own reason.
        let reason = if caller.user_id() == Some(id) {
            EndReason::SignedOut
        } else {
            EndReason::SignedOutByAdmin
        };
        let this = self.clone();
        spawn_to_completion(async move {
            let ended = this
                .store
                .transact(move |tx| {
                    let user = match user_in_organization(tx, id, organization, &entry)? {
                        Decision::Allowed(user) => user,
                        Decision::Denied(error) => return Ok(Decision::Denied(error)),
                    };
                    tx.add_entry(&entry.clone().on_user(&user));
                    Ok(Decision::Allowed(tx.end_all_of_user(id, reason, &entry)?))
                })
                .await?;
            this.teardown.apply_effects(ended).await
        })
        .await
    }

    /// The user of an e-mail address, in the caller's organization.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn find_by_email(&self, caller: &Principal, email: &str) -> Result<Option<User>> {
        let organization = self
            .store
            .permit(&RequestSource::local(""), caller, PolicyAction::ReadUsers)
            .await?
            .organization_id();
        let email = email.trim().to_owned();
        let found = self.store.read(move |tx| tx.user_by_email(&email)).await?;
        Ok(found.map(|(user, _)| user).filter(|u| u.organization_id == organization))
    }
}
