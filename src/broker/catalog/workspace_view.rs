//! A workspace as a principal sees it.

use crate::broker::model::{ManagedUpstream, UpstreamView, WorkspaceView};
use crate::domain::principal::Principal;
use crate::domain::session::{Session, State};
use crate::domain::upstream::CredentialSource;
use crate::domain::user::Role;
use crate::domain::workspace::{
    UpstreamConfig, UpstreamState, Workspace, WorkspaceKind, WorkspaceStatus,
};
use crate::domain::{Result, UserId, WorkspaceId};
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
        id: &WorkspaceId,
        user: Option<UserId>,
    ) -> Result<Self> {
        let own = user.map(|user| tx.user_credential(id, user)).transpose()?.flatten();
        Ok(Self { state: tx.upstream_state(id)?, own_credential: own.is_some() })
    }
}

pub(in crate::broker) fn workspace_view(
    mut workspace: Workspace,
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
    let server = upstream_view(&workspace, manages, known);
    // The target and its credential are visible only to those who manage it.
    if !manages {
        workspace.target = None;
        workspace.upstream = UpstreamConfig::default();
    }
    WorkspaceView { workspace, status, active_session_id, upstream: server }
}

fn upstream_view(
    workspace: &Workspace,
    manages: bool,
    known: UpstreamSummary,
) -> Option<UpstreamView> {
    let terms = Some(&workspace.upstream).filter(|_| workspace.has_upstream())?;
    let UpstreamSummary { state, own_credential } = known;
    let credential_saved = match terms.credential_source {
        CredentialSource::Workspace => state.has_password || workspace.is_agent_started(),
        CredentialSource::User => own_credential,
        CredentialSource::Ask => false,
    };
    let web = (workspace.kind == WorkspaceKind::Html5).then_some(&terms.web_app);
    let managed = manages.then(|| ManagedUpstream {
        username: terms.username.clone(),
        domain: terms.domain.clone(),
        trust: terms.trust.clone(),
        web: web.cloned(),
        state,
    });
    let (source, exclusive, keyboard, sign_in) = (
        terms.credential_source,
        terms.exclusive,
        terms.keyboard_layout,
        web.map(|web| web.sign_in.clone()),
    );
    Some(UpstreamView { source, credential_saved, exclusive, keyboard, sign_in, managed })
}
