//! A workspace as a principal sees it.

use crate::broker::model::{ManagedUpstream, UpstreamView, WorkspaceSummary, WorkspaceView};
use crate::domain::principal::Principal;
use crate::domain::session::{Session, State};
use crate::domain::upstream::CredentialSource;
use crate::domain::user::Role;
use crate::domain::workspace::{UpstreamState, Workspace, WorkspaceFields, WorkspaceStatus};
use crate::domain::{Result, UserId, WorkspaceKey};
use crate::store::Tx;

/// What the store has about a workspace's upstream, for one user.
#[derive(Clone, Default)]
pub(in crate::broker) struct UpstreamSummary {
    pub(super) state: UpstreamState,
    pub(super) own_credential: bool,
}

impl UpstreamSummary {
    pub(in crate::broker) fn load(
        tx: &mut Tx<'_>,
        workspace: &WorkspaceKey,
        user: Option<UserId>,
    ) -> Result<Self> {
        let own = user.map(|user| tx.user_credential(workspace, user)).transpose()?.flatten();
        Ok(Self { state: tx.upstream_state(workspace)?, own_credential: own.is_some() })
    }
}

pub(in crate::broker) fn workspace_view(
    workspace: Workspace,
    sessions: &[Session],
    caller: &Principal,
    can_run: bool,
    known: UpstreamSummary,
) -> WorkspaceView {
    let inside = || sessions.iter().filter(|s| s.workspace_id == workspace.id);
    let own = |s: &&Session| s.principal == caller.id();
    let counts = |s: &&Session| own(s) || workspace.single_seat;
    let starting =
        inside().filter(counts).any(|s| matches!(s.state, State::Queued | State::Creating));
    let in_use =
        inside().filter(counts).any(|s| matches!(s.state, State::Active | State::Closing(_)));
    let active_session_id = inside().filter(own).find(|s| s.state == State::Active).map(|s| s.id);
    let status = WorkspaceStatus::from_facts(workspace.maintenance, can_run, starting, in_use);
    let manages = matches!(caller.role(), None | Some(Role::Admin));
    let (kind, fields) = (workspace.kind(), workspace.driver().fields());
    let (network, policy) = (fields.network, fields.policy);
    let upstream = upstream_view(&workspace, fields, manages, known);
    let workspace = WorkspaceSummary {
        id: workspace.id,
        name: workspace.name,
        description: workspace.description,
        kind,
        icon: workspace.icon,
        tags: workspace.tags,
        requires_mfa: workspace.requires_mfa,
        single_seat: workspace.single_seat,
        network,
        allowed_roles: workspace.allowed_roles,
        maintenance: workspace.maintenance,
        session_limits: workspace.session_limits,
        policy,
        created_at: workspace.created_at,
        updated_at: workspace.updated_at,
    };
    WorkspaceView { workspace, status, active_session_id, upstream }
}

/// The target and its credential are visible only to those who manage it.
fn upstream_view(
    workspace: &Workspace,
    fields: WorkspaceFields,
    manages: bool,
    known: UpstreamSummary,
) -> Option<UpstreamView> {
    let driver = workspace.driver();
    let source = driver.access()?.credential_source;
    let UpstreamSummary { state, own_credential } = known;
    let credential_saved = match source {
        CredentialSource::Workspace => state.has_password || driver.target().is_none(),
        CredentialSource::User => own_credential,
        CredentialSource::Ask => false,
    };
    let WorkspaceFields { target, upstream, .. } = fields;
    let web = driver.web_app();
    let managed = manages.then(|| ManagedUpstream {
        target,
        username: upstream.username,
        domain: upstream.domain,
        trust: upstream.trust,
        web: web.cloned(),
        state,
    });
    Some(UpstreamView {
        source,
        credential_saved,
        exclusive: upstream.exclusive,
        keyboard: upstream.keyboard_layout,
        sign_in: web.map(|web| web.sign_in.clone()),
        managed,
    })
}
