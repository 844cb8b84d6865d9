//! Accounts, and what ends with them.

use super::ending::Ended;
use super::record::{Book, Note};
use super::views::{NewUser, UserChange};
use super::{Broker, input};
use crate::auth::password;
use crate::domain::audit::Action;
use crate::domain::policy::PolicyAction;
use crate::domain::session::EndReason;
use crate::domain::user::{Caller, RequestSource, User};
use crate::domain::{Error, OrganizationId, Result, UserId};

const USER: &str = "User";

/// The user, when they are of this organization; else the written refusal.
fn within(
    book: &mut Book<'_, '_>,
    id: UserId,
    organization: OrganizationId,
    note: &Note,
) -> Result<Result<User>> {
    match book.user(id)?.filter(|u| u.organization_id == organization) {
        Some(user) => Ok(Ok(user)),
        None => {
            let note = note.clone().acting(Action::AccessDenied).on_user_id(id);
            book.refuse(&note.denied("unknown"), Error::not_found(USER))
        }
    }
}

impl Broker {
    /// The organization's users.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn users(&self, origin: &RequestSource, caller: &Caller) -> Result<Vec<User>> {
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
        caller: &Caller,
        new: NewUser,
    ) -> Result<User> {
        let organization_id =
            self.permit(origin, caller, PolicyAction::ManageUsers).await?.organization_id();
        let (email, name) = (input::email(&new.email)?, input::name(&new.name)?);
        password::check_strength(new.password.expose(), &email)?;
        let hash = self.hashing(move || password::hash(&new.password)).await??;
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
            .note(origin, Action::CreateUser)
            .by(caller)
            .on_user(&user)
            .with("role", user.role.as_str());
        self.decide(move |book| {
            if book.user_by_email(&user.email)?.is_some() {
                let error = Error::conflict("A user with this e-mail address exists already.");
                return book.refuse(&note.clone().denied("email_taken"), error);
            }
            book.insert_user(&user, &hash)?;
            book.note(&note);
            Ok(Ok(user.clone()))
        })
        .await
    }

    /// Changes a user. Disabling ends their logins and sessions; a new password ends their logins.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid`; `Conflict` when admins would disable or demote
    /// themselves.
    pub async fn update_user(
        &self,
        origin: &RequestSource,
        caller: &Caller,
        id: UserId,
        change: UserChange,
    ) -> Result<User> {
        let organization =
            self.permit(origin, caller, PolicyAction::ManageUsers).await?.organization_id();
        let name = change.name.as_deref().map(input::name).transpose()?;
        let note = self.note(origin, Action::UpdateUser).by(caller);
        let hash = match change.password {
            None => None,
            Some(password) => {
                let known = self.inner.store.read(move |tx| tx.user(id)).await?;
                let email = known
                    .filter(|u| u.organization_id == organization)
                    .map(|u| u.email)
                    .unwrap_or_default();
                password::check_strength(password.expose(), &email)?;
                Some(self.hashing(move || password::hash(&password)).await??)
            }
        };
        let own = caller.user.id == id;
        let (role, disabled) = (change.role, change.disabled);
        let broker = self.clone();
        self.apart(async move {
            let (user, ended) = broker
                .decide(move |book| {
                    let old = match within(book, id, organization, &note)? {
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
                        return book.refuse(&note.denied("own_account"), error);
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
                    let mut ended = Ended::default();
                    if let Some(hash) = &hash {
                        book.set_password(id, hash)?;
                        // Whoever signed in with the old one is out; desktops stay.
                        ended.logins = book.revoke_logins_of(id, note.now())?;
                    }
                    if !changed.is_empty() {
                        book.note(&note.clone().with("changed", changed.join(",")).with("role", next.role.as_str()));
                    }
                    if next.disabled && !old.disabled {
                        book.note(&note.clone().acting(Action::DisableUser));
                        let more = book.end_everything_of(id, EndReason::UserDisabled, &note)?;
                        ended.sessions.extend(more.sessions);
                        ended.logins.extend(more.logins);
                    } else if old.disabled && !next.disabled {
                        book.note(&note.clone().acting(Action::EnableUser));
                    }
                    Ok(Ok((next, ended)))
                })
                .await?;
            broker.carry_out(ended).await?;
            Ok(user)
        })
        .await
    }

    /// Removes a user's second factor and signs them out, so that they enrol anew; desktops stay.
    ///
    /// # Errors
    /// `Forbidden` or `NotFound`.
    pub async fn reset_mfa(
        &self,
        origin: &RequestSource,
        caller: &Caller,
        id: UserId,
    ) -> Result<()> {
        let organization =
            self.permit(origin, caller, PolicyAction::ManageUsers).await?.organization_id();
        let note = self.note(origin, Action::MfaReset).by(caller);
        let broker = self.clone();
        self.apart(async move {
            let ended = broker
                .decide(move |book| {
                    let user = match within(book, id, organization, &note)? {
                        Ok(user) => user,
                        Err(error) => return Ok(Err(error)),
                    };
                    let had = book.delete_totp(id)?;
                    // A login that rests on the lost factor must not outlive it.
                    let logins = book.revoke_logins_of(id, note.now())?;
                    book.note(&note.clone().on_user(&user).with("had_factor", had));
                    Ok(Ok(Ended { sessions: Vec::new(), logins }))
                })
                .await?;
            broker.carry_out(ended).await
        })
        .await
    }

    /// Signs a user out everywhere: every login and every session of theirs ends.
    ///
    /// # Errors
    /// `Forbidden` or `NotFound`.
    pub async fn sign_out_user(
        &self,
        origin: &RequestSource,
        caller: &Caller,
        id: UserId,
    ) -> Result<()> {
        let organization =
            self.permit(origin, caller, PolicyAction::ManageUsers).await?.organization_id();
        let note = self.note(origin, Action::SignOutUser).by(caller);
        // An admin may do it to themself, too: then the page need not blame anybody.
        let reason =
            if caller.user.id == id { EndReason::SignedOut } else { EndReason::SignedOutByAdmin };
        let broker = self.clone();
        self.apart(async move {
            let ended = broker
                .decide(move |book| {
                    let user = match within(book, id, organization, &note)? {
                        Ok(user) => user,
                        Err(error) => return Ok(Err(error)),
                    };
                    book.note(&note.clone().on_user(&user));
                    Ok(Ok(book.end_everything_of(id, reason, &note)?))
                })
                .await?;
            broker.carry_out(ended).await
        })
        .await
    }
}
