//! Organizations, and administration from the command line.
//!
//! The command line acts as the system principal in the first organization. Whoever can run it has
//! the database and the master key already.

use crate::broker::core::unit_of_work::AuditedStore;
use crate::domain::principal::Principal;
use crate::domain::{Error, OrganizationId, Result};

#[derive(Clone)]
pub struct Organizations {
    pub(in crate::broker) store: AuditedStore,
}

impl Organizations {
    /// Creates the first organization when there is none.
    ///
    /// # Errors
    /// `Invalid` when the name is not acceptable.
    pub async fn ensure(&self, name: &str) -> Result<OrganizationId> {
        let name = crate::broker::core::validate::name(name)?;
        let (fresh, now) = (OrganizationId::new(), self.store.now());
        self.store
            .write_unaudited(move |tx| match tx.first_organization()? {
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
        let found = self.store.read(|tx| tx.first_organization()).await?;
        let (organization_id, _) = found.ok_or_else(|| Error::not_found("Organization"))?;
        Ok(Principal::System { organization_id: Some(organization_id) })
    }
}
