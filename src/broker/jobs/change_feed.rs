//! Change feed: what event streams subscribe to, filtered for their principal.

use crate::broker::core::changes::{Change, Changes, Topic};
use crate::broker::core::unit_of_work::AuditedStore;
use crate::domain::policy::{self, PolicyAction, Resource};
use crate::domain::principal::Principal;
use crate::domain::user::RequestSource;
use crate::domain::{OrganizationId, UserId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

#[derive(Clone)]
pub struct ChangeFeed {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) changes: Changes,
}

/// Changes that concern one principal.
#[derive(Debug)]
pub struct ChangeSubscription {
    changes: broadcast::Receiver<Change>,
    organization_id: Option<OrganizationId>,
    user_id: Option<UserId>,
    lists_all_sessions: bool,
}

impl ChangeFeed {
    #[must_use]
    pub fn subscribe(&self, principal: &Principal) -> ChangeSubscription {
        ChangeSubscription {
            changes: self.changes.subscribe(),
            organization_id: principal.organization_id(),
            user_id: principal.user_id(),
            lists_all_sessions: self.may(principal, PolicyAction::ReadLiveSessions),
        }
    }

    /// Changes when the audit log grows; `None` if the principal may not read the log.
    #[must_use]
    pub fn subscribe_audit(&self, principal: &Principal) -> Option<watch::Receiver<u64>> {
        self.may(principal, PolicyAction::ReadAudit).then(|| self.changes.subscribe_audit())
    }

    fn may(&self, principal: &Principal, action: PolicyAction) -> bool {
        let Some(organization) = principal.organization_id() else { return false };
        let context = self.store.policy_context(&RequestSource::local(""), principal);
        let resource = Resource::Organization(organization);
        policy::authorize(principal, action, &resource, &context).is_ok()
    }
}

impl ChangeSubscription {
    /// The next topic to fetch again.
    ///
    /// # Errors
    /// `Lagged` when changes were missed: everything must be fetched again.
    pub async fn recv(&mut self) -> Result<Topic, RecvError> {
        loop {
            let change = self.changes.recv().await?;
            if change.concerns(self.organization_id, self.user_id, self.lists_all_sessions) {
                return Ok(change.topic);
            }
        }
    }
}
