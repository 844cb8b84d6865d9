//! Organizations, and administration from the command line.
//!
//! The command line acts with role admin in the first organization; the log names it role `system`.
//! Whoever can run it has the database and the master key already.

use crate::broker::Broker;
use crate::domain::policy::PolicyAction;
use crate::domain::user::{Caller, RequestSource, Role, User};
use crate::domain::{Error, LoginId, OrganizationId, Result, UserId};
use uuid::Uuid;

pub(in crate::broker) fn is_system(caller: &Caller) -> bool {
    caller.user.id.0.is_nil()
}

impl Broker {
    /// Creates the first organization when there is none.
    ///
    /// # Errors
    /// `Invalid` when the name is not acceptable.
    pub async fn ensure_organization(&self, name: &str) -> Result<OrganizationId> {
        let name = crate::broker::core::validate::name(name)?;
        let (fresh, now) = (OrganizationId::new(), self.now());
        self.inner
            .store
            .write(move |tx| match tx.first_organization()? {
                Some((id, _)) => Ok(id),
                None => tx.insert_organization(fresh, &name, now).map(|()| fresh),
            })
            .await
    }

    /// The principal of the command line: role admin, audited as `system`.
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

    #[must_use]
    #[allow(clippy::unused_async)]
    pub async fn roles(&self) -> [Role; 3] {
        Role::ALL
    }
}
