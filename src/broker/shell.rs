//! Administration from the command line, on the same use cases.
//!
//! Its caller has the role admin in the first organization and the nil user id, which no stored
//! user has; the log names it role `system`. Whoever can run it holds the database and the master
//! key already.

use super::{Broker, mfa};
use crate::auth::totp;
use crate::domain::audit::Action;
use crate::domain::policy::PolicyAction;
use crate::domain::secret::SecretString;
use crate::domain::user::{Caller, RequestSource, Role, User};
use crate::domain::{Error, LoginId, OrganizationId, Result, UserId};
use uuid::Uuid;

/// Whether this caller is the command line.
pub(super) fn is_system(caller: &Caller) -> bool {
    caller.user.id.0.is_nil()
}

impl Broker {
    /// Creates the first organization when there is none.
    ///
    /// # Errors
    /// `Invalid` when the name is not acceptable.
    pub async fn ensure_organization(&self, name: &str) -> Result<OrganizationId> {
        let name = super::input::name(name)?;
        let (fresh, now) = (OrganizationId::new(), self.now());
        self.inner
            .store
            .write(move |tx| match tx.first_organization()? {
                Some((id, _)) => Ok(id),
                None => tx.insert_organization(fresh, &name, now).map(|()| fresh),
            })
            .await
    }

    /// A caller for the command line: role admin, audited as `system`.
    ///
    /// # Errors
    /// `NotFound` when there is no organization yet.
    pub async fn system_caller(&self) -> Result<Caller> {
        let found = self.inner.store.read(|tx| tx.first_organization()).await?;
        let Some((organization_id, _)) = found else {
            return Err(Error::not_found("Organization"));
        };
        let user = User {
            id: UserId(Uuid::nil()),
            organization_id,
            email: String::new(),
            name: "system".to_owned(),
            role: Role::Admin,
            mfa_enrolled: false,
            disabled: false,
            created_at: self.now(),
            last_login_at: None,
        };
        Ok(Caller { user, login_id: LoginId(Uuid::nil()), mfa: None })
    }

    /// Sets a user's TOTP secret (demo and recovery); the secret is base32.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid` when the secret is none.
    pub async fn set_totp(
        &self,
        origin: &RequestSource,
        caller: &Caller,
        user: UserId,
        secret: &SecretString,
    ) -> Result<()> {
        let organization =
            self.permit(origin, caller, PolicyAction::ManageUsers).await?.organization_id();
        totp::validate_secret(secret)?;
        let sealed = self.inner.vault.seal(&mfa::totp_purpose(user), secret.expose().as_bytes());
        let now = self.now();
        let note = self
            .audit_entry(origin, Action::MfaEnroll)
            .by_caller(caller)
            .with("method", "totp")
            .with("stage", "set");
        self.transact(move |book| {
            let Some(user) = book.user(user)?.filter(|u| u.organization_id == organization) else {
                let note = note.clone().action(Action::AccessDenied).on_user_id(user);
                return book.deny(&note.denied("unknown"), Error::not_found("User"));
            };
            book.delete_totp(user.id)?;
            book.put_totp(user.id, &sealed, now)?;
            // No code was used yet: step 0 is in 1970.
            book.confirm_totp(user.id, 0, now)?;
            book.add_entry(&note.clone().on_user(&user));
            Ok(Ok(()))
        })
        .await
    }

    /// The user of an e-mail address, in the caller's organization.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn find_user(&self, caller: &Caller, email: &str) -> Result<Option<User>> {
        let organization = self
            .permit(&RequestSource::local(""), caller, PolicyAction::ReadUsers)
            .await?
            .organization_id();
        let email = email.trim().to_owned();
        let found = self.inner.store.read(move |tx| tx.user_by_email(&email)).await?;
        Ok(found.map(|(user, _)| user).filter(|u| u.organization_id == organization))
    }

    /// Every role.
    #[must_use]
    #[allow(clippy::unused_async)]
    pub async fn roles(&self) -> [Role; 3] {
        Role::ALL
    }
}
