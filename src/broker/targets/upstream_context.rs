//! What the transaction that opens a stream reads about the upstream.

use crate::broker::core::answers::not_active;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::stream_registry::GrantConditions;
use crate::broker::core::unit_of_work::{AuditedTx, Decision};
use crate::domain::audit::Reason;
use crate::domain::route::{SessionRoute, TargetSpec};
use crate::domain::session::Session;
use crate::domain::upstream::CredentialSource;
use crate::domain::workspace::{UpstreamState, Workspace};
use crate::domain::{Error, Result};
use crate::store::LeaseRow;

/// What the transaction that opens a stream reads about the upstream.
pub(in crate::broker) struct UpstreamContext {
    pub(in crate::broker) workspace: Workspace,
    pub(super) lease: LeaseRow,
    pub(super) state: UpstreamState,
    /// The workspace's password or the user's credential, depending on the source.
    pub(super) sealed: Option<String>,
}

impl UpstreamContext {
    pub(in crate::broker) fn conditions(&self) -> GrantConditions {
        GrantConditions::of(&self.workspace)
    }
}

/// Whether the session's route still matches the workspace's target.
fn target_unchanged(session: &Session, workspace: &Workspace, lease: &LeaseRow) -> bool {
    match (&session.route, workspace.driver().target()) {
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
        entry: &AuditEntryBuilder,
    ) -> Result<Decision<UpstreamContext>> {
        let lease = self.session_lease(session.id)?;
        let workspace = self
            .workspace(&session.workspace_key())?
            .filter(|w| w.organization_id == session.organization_id);
        let (Some(lease), Some(workspace)) = (lease, workspace) else {
            return self.deny(&entry.clone().failed(Reason::NoLease), not_active());
        };
        if !target_unchanged(session, &workspace, &lease) {
            // The new target's credentials must not be sent to the old one.
            let error = Error::conflict(
                "The server of this workspace was changed. Disconnect the session and launch it again.",
            );
            return self.deny(&entry.clone().denied(Reason::TargetChanged), error);
        }
        let key = workspace.key();
        let state = self.upstream_state(&key)?;
        let sealed = match workspace.credential_source() {
            Some(CredentialSource::Workspace) => self.workspace_password(&key)?,
            Some(CredentialSource::User) => match session.user_id() {
                Some(user) => self.user_credential(&key, user)?,
                None => None,
            },
            Some(CredentialSource::Ask) | None => None,
        };
        Ok(Decision::Allowed(UpstreamContext { workspace, lease, state, sealed }))
    }
}
