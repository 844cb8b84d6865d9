//! User accounts.

use crate::auth::password;
use crate::broker::Broker;
use crate::broker::core::answers::USER;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::teardown::TeardownEffects;
use crate::broker::core::unit_of_work::AuditedTx;
use crate::broker::core::validate;
use crate::broker::model::{NewUser, UserChange};
use crate::domain::audit::Action;
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::session::EndReason;
use crate::domain::user::{RequestSource, User};
use crate::domain::{Error, OrganizationId, Result, UserId};

/// The user if they belong to this organization, otherwise an audited denial.
fn user_in_organization(
    book: &mut AuditedTx<'_, '_>,
    id: UserId,
    organization: OrganizationId,
    note: &AuditEntryBuilder,
) -> Result<Result<User>> {
    match book.user(id)?.filter(|u| u.organization_id == organization) {
        Some(user) => Ok(Ok(user)),
        None => {
            let note = note.clone().action(Action::AccessDenied).on_user_id(id);
            book.deny(&note.denied("unknown"), Error::not_found(USER))
        }
    }
}

impl Broker {
    /// The organization's users.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn users(&self, origin: &RequestSource, caller: &Principal) -> Result<Vec<User>> {
        let organization =
            self.permit(origin, caller, PolicyAction::ReadUsers).await?.organization_id();
        self.inner.store.read(move |tx| tx.users(organization)).await
    }

    /// Creates a user.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid`; `Conflict` when the address is taken.
    pub async fn create_user(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        new: NewUser,
    ) -> Result<User> {
        let organization_id =
            self.permit(origin, caller, PolicyAction::ManageUsers).await?.organization_id();
        let (email, name) = (validate::email(&new.email)?, validate::name(&new.name)?);
        password::check_strength(new.password.expose(), &email)?;
        let hash = self.run_hash(move || password::hash(&new.password)).await??;
        let user = User {
            id: UserId::new(),
            organization_id,
            email,
            name,
            role: new.role,
            mfa_enrolled: false,
            disabled: false,
            created_at: self.now(),
            last_login_at: None,
        };
        let note = self
            .audit_entry(origin, Action::CreateUser)
            .by_caller(caller)
            .on_user(&user)
            .with("role", user.role.as_str());
        self.transact(move |book| {
            if book.user_by_email(&user.email)?.is_some() {
                let error = Error::conflict("A user with this e-mail address exists already.");
                return book.deny(&note.clone().denied("email_taken"), error);
            }
            book.insert_user(&user, &hash)?;
            book.add_entry(&note);
            Ok(Ok(user.clone()))
        })
        .await
    }

    /// Changes a user. Disabling ends the user's logins and sessions; a new password ends the
    /// logins.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid`; `Conflict` when admins would disable or demote
    /// themselves.
    pub async fn update_user(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: UserId,
        change: UserChange,
    ) -> Result<User> {
        let organization =
            self.permit(origin, caller, PolicyAction::ManageUsers).await?.organization_id();
        let name = change.name.as_deref().map(validate::name).transpose()?;
        let note = self.audit_entry(origin, Action::UpdateUser).by_caller(caller);
        let hash = match change.password {
            None => None,
            Some(password) => {
                let known = self.inner.store.read(move |tx| tx.user(id)).await?;
                let email = known
                    .filter(|u| u.organization_id == organization)
                    .map(|u| u.email)
                    .unwrap_or_default();
                password::check_strength(password.expose(), &email)?;
                Some(self.run_hash(move || password::hash(&password)).await??)
            }
        };
        let own = caller.user_id() == Some(id);
        let (role, disabled) = (change.role, change.disabled);
        let broker = self.clone();
        self.spawn_to_completion(async move {
            let (user, ended) = broker
                .transact(move |book| {
                    let old = match user_in_organization(book, id, organization, &note)? {
                        Ok(user) => user,
                        Err(error) => return Ok(Err(error)),
                    };
                    let note = note.clone().on_user(&old);
                    let next = User {
                        name: name.clone().unwrap_or_else(|| old.name.clone()),
                        role: role.unwrap_or(old.role),
                        disabled: disabled.unwrap_or(old.disabled),
                        ..old.clone()
                    };
                    if own && (next.disabled || next.role != old.role) {
                        let error = Error::conflict("You cannot disable yourself or change your own role. Ask another administrator.");
                        return book.deny(&note.denied("own_account"), error);
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
                        book.update_user(&next)?;
                    }
                    let mut ended = TeardownEffects::default();
                    if let Some(hash) = &hash {
                        book.set_password(id, hash)?;
                        // Logins of the old password end; desktops keep running.
                        ended.logins = book.revoke_logins_of(id, note.now())?;
                    }
                    if !changed.is_empty() {
                        book.add_entry(&note.clone().with("changed", changed.join(",")).with("role", next.role.as_str()));
                    }
                    if next.disabled && !old.disabled {
                        book.add_entry(&note.clone().action(Action::DisableUser));
                        let more = book.end_all_of_user(id, EndReason::UserDisabled, &note)?;
                        ended.sessions.extend(more.sessions);
                        ended.logins.extend(more.logins);
                    } else if old.disabled && !next.disabled {
                        book.add_entry(&note.clone().action(Action::EnableUser));
                    }
                    Ok(Ok((next, ended)))
                })
                .await?;
            broker.apply_effects(ended).await?;
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
        origin: &RequestSource,
        caller: &Principal,
        id: UserId,
    ) -> Result<()> {
        let organization =
            self.permit(origin, caller, PolicyAction::ManageUsers).await?.organization_id();
        let note = self.audit_entry(origin, Action::MfaReset).by_caller(caller);
        let broker = self.clone();
        self.spawn_to_completion(async move {
            let ended = broker
                .transact(move |book| {
                    let user = match user_in_organization(book, id, organization, &note)? {
                        Ok(user) => user,
                        Err(error) => return Ok(Err(error)),
                    };
                    let had = book.delete_totp(id)?;
                    // A login verified with the removed factor must not outlive it.
                    let logins = book.revoke_logins_of(id, note.now())?;
                    book.add_entry(&note.clone().on_user(&user).with("had_factor", had));
                    Ok(Ok(TeardownEffects { sessions: Vec::new(), logins }))
                })
                .await?;
            broker.apply_effects(ended).await
        })
        .await
    }

    /// Ends every login and session of a user.
    ///
    /// # Errors
    /// `Forbidden` or `NotFound`.
    pub async fn sign_out_user(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: UserId,
    ) -> Result<()> {
        let organization =
            self.permit(origin, caller, PolicyAction::ManageUsers).await?.organization_id();
        let note = self.audit_entry(origin, Action::SignOutUser).by_caller(caller);
        // Administrators may do this to themselves, which has its own reason.
        let reason = if caller.user_id() == Some(id) {
            EndReason::SignedOut
        } else {
            EndReason::SignedOutByAdmin
        };
        let broker = self.clone();
        self.spawn_to_completion(async move {
            let ended = broker
                .transact(move |book| {
                    let user = match user_in_organization(book, id, organization, &note)? {
                        Ok(user) => user,
                        Err(error) => return Ok(Err(error)),
                    };
                    book.add_entry(&note.clone().on_user(&user));
                    Ok(Ok(book.end_all_of_user(id, reason, &note)?))
                })
                .await?;
            broker.apply_effects(ended).await
        })
        .await
    }
}
