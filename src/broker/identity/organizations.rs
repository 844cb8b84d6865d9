//! Organizations, and administration from the command line.
//!
//! The command line acts as the system principal in the first organization. Whoever can run it has
//! the database and the master key already.

use crate::broker::Broker;
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::user::{RequestSource, Role, User};
use crate::domain::{Error, OrganizationId, Result};

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

    /// The principal of the command line, in the first organization.
    ///
    /// # Errors
    /// `NotFound` when there is no organization yet.
    pub async fn system_principal(&self) -> Result<Principal> {
        let found = self.inner.store.read(|tx| tx.first_organization()).await?;
        let (organization_id, _) = found.ok_or_else(|| Error::not_found("Organization"))?;
        Ok(Principal::System { organization_id: Some(organization_id) })
    }

    /// The user of an e-mail address, in the caller's organization.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn find_user(&self, caller: &Principal, email: &str) -> Result<Option<User>> {
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
