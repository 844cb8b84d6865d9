//! Workspaces: listing, creation, change, removal, stop.

use crate::broker::Broker;
use crate::broker::catalog::placement::AvailableHosts;
use crate::broker::core::answers::denial_error;
use crate::broker::core::answers::{WORKSPACE, organization_of};
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::stream_registry::Topic;
use crate::broker::core::teardown::TeardownEffects;

use crate::broker::core::validate;
use crate::broker::model::{
    ManagedUpstream, NewWorkspace, UpstreamView, WorkspaceChange, WorkspaceView,
};
use crate::domain::audit::Action;
use crate::domain::policy::{self, Denial, PolicyAction};
use crate::domain::principal::Principal;
use crate::domain::route::TargetSpec;
use crate::domain::session::{EndReason, Session, State};
use crate::domain::upstream::{CredentialSource, TrustRule};
use crate::domain::user::{RequestSource, Role};
use crate::domain::web_app::{UpstreamSignIn, WebAppConfig};
use crate::domain::workspace::{
    UpstreamConfig, UpstreamState, Workspace, WorkspaceKind, WorkspaceStatus,
};
use crate::domain::{Error, Result, UserId, WorkspaceId};
use crate::store::Tx;

/// Maximum length of a list of paths in the audit log, in bytes.
const PATHS_MAX: usize = 1000;

/// What the store has about a workspace's upstream, for one user.
#[derive(Clone, Default)]
pub(in crate::broker) struct UpstreamSummary {
    state: UpstreamState,
    own_credential: bool,
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

fn target_detail(workspace: &Workspace) -> Option<String> {
    workspace.target.as_ref().map(|target| match target {
        TargetSpec::Host { host_id, port } => format!("host {host_id} port {port}"),
        TargetSpec::Service { host_id, name } => format!("host {host_id} service {name}"),
        TargetSpec::Direct { name } => format!("direct {name}"),
    })
}

/// Adds policy and upstream settings.
fn with_config_details(note: AuditEntryBuilder, workspace: &Workspace) -> AuditEntryBuilder {
    let policy = workspace.policy;
    let note = note
        .with("clipboard", policy.clipboard.as_str())
        .with("files", policy.files)
        .with("read_only", policy.read_only);
    if !workspace.has_upstream() {
        return note;
    }
    let (terms, trust) = (
        &workspace.upstream,
        match &workspace.upstream.trust {
            TrustRule::FirstUse => "first_use",
            TrustRule::Pinned(_) => "pinned",
            TrustRule::Authority { .. } => "authority",
        },
    );
    let note = note
        .with("credential", terms.credential_source.as_str())
        .with("username", terms.username.clone())
        .with("trust", trust);
    if workspace.kind == WorkspaceKind::Html5 {
        with_web_details(note, &terms.web_app)
    } else {
        note
    }
}

fn with_web_details(note: AuditEntryBuilder, web: &WebAppConfig) -> AuditEntryBuilder {
    let sign_in = match &web.sign_in {
        UpstreamSignIn::None => "none".to_owned(),
        UpstreamSignIn::Basic => "basic".to_owned(),
        UpstreamSignIn::Header(name) => format!("header {name}"),
    };
    let (identity, requests) = (&web.identity, &web.requests);
    let note = note
        .with("scheme", web.scheme.as_str())
        .with("host", web.host.clone())
        .with("start", web.start.clone())
        .with("sign_in", sign_in);
    let note = note
        .with("identity_headers", identity.headers)
        .with("assertion_audience", identity.assertion_audience.clone());
    let note = note.with("methods", requests.methods.join(",")).with(
        "paths",
        crate::broker::core::text::truncate_utf8(&requests.paths.join(" "), PATHS_MAX).to_owned(),
    );
    note.with("upload", requests.upload)
        .with("download", requests.download)
        .with("max_request", crate::broker::core::text::json_int(requests.max_request))
}

impl Broker {
    /// The workspaces the caller may launch; an admin sees every one of the organization.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn workspaces(&self, caller: &Principal) -> Result<Vec<WorkspaceView>> {
        let caller = caller.clone();
        let organization = organization_of(&caller)?;
        let context = self.policy_context(&RequestSource::local(""), &caller);
        let reachable = self.fleet_snapshot();
        self.inner
            .store
            .read(move |tx| {
                let places = AvailableHosts::load(tx, organization, &reachable)?;
                let sessions = tx.live_sessions(Some(organization))?;
                let mut states = tx.upstream_states(organization)?;
                let own = caller.user_id().map(|user| tx.user_credentials_of(user)).transpose()?;
                let own = own.unwrap_or_default();
                let workspaces = tx
                    .workspaces(organization)?
                    .into_iter()
                    .filter(|w| policy::can_view(&caller, w, &context));
                Ok(workspaces
                    .map(|w| {
                        let can_run = places.can_run(&w);
                        let state = states.remove(w.id.as_str()).unwrap_or_default();
                        let known =
                            UpstreamSummary { state, own_credential: own.contains(w.id.as_str()) };
                        workspace_view(w, &sessions, &caller, can_run, known)
                    })
                    .collect())
            })
            .await
    }

    /// One workspace that the caller sees.
    ///
    /// # Errors
    /// `NotFound` when there is none, or they do not see it.
    pub async fn workspace(&self, caller: &Principal, id: &WorkspaceId) -> Result<WorkspaceView> {
        let reachable = self.fleet_snapshot();
        let (who, id) = (caller.clone(), id.clone());
        let organization = organization_of(&who)?;
        let context = self.policy_context(&RequestSource::local(""), &who);
        let wanted = id.clone();
        let found = self
            .inner
            .store
            .read(move |tx| {
                let Some(workspace) = tx.workspace(&wanted)? else { return Ok(Err("unknown")) };
                if !policy::can_view(&who, &workspace, &context) {
                    return Ok(Err(Denial::NotOwner.as_str()));
                }
                let can_run =
                    AvailableHosts::load(tx, organization, &reachable)?.can_run(&workspace);
                let sessions = tx.live_sessions_of_workspace(&workspace.id)?;
                let known = UpstreamSummary::load(tx, &workspace.id, who.user_id())?;
                Ok(Ok(workspace_view(workspace, &sessions, &who, can_run, known)))
            })
            .await?;
        match found {
            Ok(view) => Ok(view),
            Err(reason) => {
                let note = self.entry_from_login(caller, Action::AccessDenied).await?;
                self.write_entry(note.on_workspace_id(&id).denied(reason)).await?;
                Err(Error::not_found(WORKSPACE))
            }
        }
    }

    /// An entry by a caller whose request is not at hand: uses the source of their login.
    pub(in crate::broker) async fn entry_from_login(
        &self,
        caller: &Principal,
        action: Action,
    ) -> Result<AuditEntryBuilder> {
        let login = match caller.login_id() {
            Some(id) => self.inner.store.read(move |tx| tx.login(id)).await?,
            None => None,
        };
        let (source_ip, user_agent) = login.map_or((None, None), |l| (l.source_ip, l.user_agent));
        let source_ip = source_ip.and_then(|ip| ip.parse().ok());
        Ok(self
            .audit_entry(
                &RequestSource { request_id: String::new(), source_ip, user_agent },
                action,
            )
            .by_caller(caller))
    }

    /// Creates a workspace.
    ///
    /// # Errors
    /// `Forbidden`, `Invalid`, or `Conflict` when the id is taken.
    pub async fn create_workspace(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        new: NewWorkspace,
    ) -> Result<WorkspaceView> {
        let permit = self.permit(origin, caller, PolicyAction::ManageWorkspaces).await?;
        let organization = permit.organization_id();
        let ids = validate::workspace_ids(&new)?;
        let now = self.now();
        let plain = validate::workspace(&new, ids[0].clone(), organization, now)?;
        let note = self.audit_entry(origin, Action::CreateWorkspace).by_caller(caller);
        let (who, reachable) = (caller.clone(), self.fleet_snapshot());
        let password = new.properties.password.clone();
        password
            .as_ref()
            .map(|password| validate::validate_upstream_password(password, &plain))
            .transpose()?;
        let broker = self.clone();
        let view = self
            .transact(move |book| {
                if let Err(error) = book.check_target(plain.target.as_ref(), organization)? {
                    return Ok(Err(error));
                }
                for id in &ids {
                    if book.workspace(id)?.is_some() {
                        continue;
                    }
                    let workspace = Workspace { id: id.clone(), ..plain.clone() };
                    book.insert_workspace(&workspace)?;
                    if let Some(password) = &password {
                        book.set_workspace_password(
                            id,
                            broker.seal_password(id, password).as_deref(),
                        )?;
                    }
                    let note = note
                        .clone()
                        .on_workspace(&workspace)
                        .with("type", workspace.kind.as_str())
                        .with("target", target_detail(&workspace));
                    let note = note
                        .with("single_seat", workspace.single_seat)
                        .with("requires_mfa", workspace.requires_mfa);
                    book.add_entry(&with_config_details(note, &workspace));
                    let can_run =
                        AvailableHosts::load(book, organization, &reachable)?.can_run(&workspace);
                    let known = UpstreamSummary::load(book, id, who.user_id())?;
                    return Ok(Ok(workspace_view(workspace, &[], &who, can_run, known)));
                }
                let taken =
                    Error::conflict("A workspace with this id exists already. Choose another.");
                book.deny(&note.clone().on_workspace_id(&ids[0]).denied("id_taken"), taken)
            })
            .await?;
        self.streams().publish(Some(organization), &[Topic::Workspaces]);
        Ok(view)
    }

    /// Changes a workspace. Its sessions continue; their streams are revoked, and reopen, when
    /// policy or trust changes. When the target changes, its sessions end and the old target's
    /// certificate and user credentials are deleted.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound` or `Invalid`.
    pub async fn update_workspace(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
        change: WorkspaceChange,
    ) -> Result<WorkspaceView> {
        let permit = self.permit(origin, caller, PolicyAction::ManageWorkspaces).await?;
        let organization = permit.organization_id();
        let now = self.now();
        let note = self.audit_entry(origin, Action::UpdateWorkspace).by_caller(caller);
        let (who, id, reachable) = (caller.clone(), id.clone(), self.fleet_snapshot());
        let sealed = change.password.as_ref().map(|password| self.seal_password(&id, password));
        let broker = self.clone();
        self.spawn_to_completion(async move {
            let (view, next, sessions, ended) = broker
                .transact(move |book| {
                    let Some(old) =
                        book.workspace(&id)?.filter(|w| w.organization_id == organization)
                    else {
                        let note = note.clone().action(Action::AccessDenied).on_workspace_id(&id);
                        return book.deny(&note.denied("unknown"), Error::not_found(WORKSPACE));
                    };
                    let (next, mut changed) = match validate::apply_change(&old, &change, now) {
                        Ok(next) => next,
                        Err(error) => return Ok(Err(error)),
                    };
                    let elsewhere = next.target != old.target;
                    if elsewhere
                        && let Err(error) = book.check_target(next.target.as_ref(), organization)?
                    {
                        return Ok(Err(error));
                    }
                    if let Some(password) = &change.password
                        && let Err(error) = validate::validate_upstream_password(password, &next)
                    {
                        return Ok(Err(error));
                    }
                    // A password that would be unused, or would be sent to another target, is
                    // deleted.
                    let unused = next.kind == WorkspaceKind::Html5
                        && next.upstream.web_app.sign_in == UpstreamSignIn::None;
                    let dropped = next.upstream.credential_source != CredentialSource::Workspace
                        || elsewhere
                        || unused;
                    if let Some(sealed) = &sealed {
                        book.set_workspace_password(&id, sealed.as_deref())?;
                        changed.push("password");
                    } else if dropped && book.workspace_password(&id)?.is_some() {
                        book.set_workspace_password(&id, None)?;
                        changed.push("password");
                    }
                    let mut ended = Vec::new();
                    if elsewhere {
                        book.delete_certificates(&id)?;
                        let sessions = book.live_sessions_of_workspace(&id)?;
                        ended = book.close_all(sessions, EndReason::AdminStopped, &note)?;
                    }
                    let left_users = old.upstream.credential_source == CredentialSource::User
                        && next.upstream.credential_source != CredentialSource::User;
                    let forgotten = if elsewhere || left_users {
                        book.delete_user_credentials(&id)?
                    } else {
                        0
                    };
                    if !changed.is_empty() {
                        book.update_workspace(&next)?;
                        let note = note
                            .clone()
                            .on_workspace(&next)
                            .with("changed", changed.join(","))
                            .with("target", target_detail(&next));
                        book.add_entry(
                            &with_config_details(note, &next)
                                .with("credentials_forgotten", forgotten),
                        );
                    }
                    let can_run =
                        AvailableHosts::load(book, organization, &reachable)?.can_run(&next);
                    let sessions = book.live_sessions_of_workspace(&id)?;
                    let known = UpstreamSummary::load(book, &id, who.user_id())?;
                    Ok(Ok((
                        workspace_view(next.clone(), &sessions, &who, can_run, known),
                        next,
                        sessions,
                        ended,
                    )))
                })
                .await?;
            broker.revoke_outdated_streams(&next, &sessions);
            broker.streams().publish(Some(organization), &[Topic::Workspaces]);
            broker.apply_effects(TeardownEffects { sessions: ended, logins: Vec::new() }).await?;
            Ok(view)
        })
        .await
    }

    /// Removes a workspace; its sessions end with `workspace_removed`.
    ///
    /// # Errors
    /// `Forbidden` or `NotFound`.
    pub async fn delete_workspace(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<()> {
        let permit = self.permit(origin, caller, PolicyAction::ManageWorkspaces).await?;
        let organization = permit.organization_id();
        let note = self.audit_entry(origin, Action::DeleteWorkspace).by_caller(caller);
        let (broker, id) = (self.clone(), id.clone());
        self.spawn_to_completion(async move {
            let ended = broker
                .transact(move |book| {
                    let Some(workspace) =
                        book.workspace(&id)?.filter(|w| w.organization_id == organization)
                    else {
                        let note = note.clone().action(Action::AccessDenied).on_workspace_id(&id);
                        return book.deny(&note.denied("unknown"), Error::not_found(WORKSPACE));
                    };
                    book.delete_workspace(&id, note.now())?;
                    book.add_entry(&note.clone().on_workspace(&workspace));
                    let sessions = book.live_sessions_of_workspace(&id)?;
                    let sessions = book.close_all(sessions, EndReason::WorkspaceRemoved, &note)?;
                    Ok(Ok(TeardownEffects { sessions, logins: Vec::new() }))
                })
                .await?;
            broker.streams().publish(Some(organization), &[Topic::Workspaces]);
            broker.apply_effects(ended).await
        })
        .await
    }

    /// Stops a workspace: the caller's own session of it, or for an administrator every session.
    /// Returns the ended sessions.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` when there is no active session.
    pub async fn stop_workspace(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<Vec<crate::domain::SessionId>> {
        let note = self.audit_entry(origin, Action::StopWorkspace).by_caller(caller);
        let organization = organization_of(caller)?;
        let context = self.policy_context(origin, caller);
        let resource = policy::Resource::Organization(organization);
        let everybody =
            policy::authorize(caller, PolicyAction::ManageWorkspaces, &resource, &context).is_ok();
        let (broker, who, id) = (self.clone(), caller.clone(), id.clone());
        self.spawn_to_completion(async move {
            let ended = broker
                .transact(move |book| {
                    let workspace = book.workspace(&id)?;
                    let theirs = match &workspace {
                        Some(w) if w.organization_id == organization => {
                            book.live_sessions_of_workspace(&id)?
                        }
                        _ => Vec::new(),
                    };
                    let theirs: Vec<_> = theirs
                        .into_iter()
                        .filter(|s| s.organization_id == organization)
                        .filter(|s| everybody || s.principal == who.id())
                        .collect();
                    let Some(workspace) = workspace
                        .filter(|w| policy::can_view(&who, w, &context) || !theirs.is_empty())
                    else {
                        let note = note.clone().action(Action::AccessDenied).on_workspace_id(&id);
                        return book.deny(
                            &note.denied(Denial::NotOwner.as_str()),
                            denial_error(Denial::NotOwner, WORKSPACE),
                        );
                    };
                    let mut sessions = Vec::new();
                    for session in theirs {
                        let own = session.principal == who.id();
                        let reason =
                            if own { EndReason::WorkspaceStopped } else { EndReason::AdminStopped };
                        let note = note.clone().on_workspace(&workspace).in_session(&session);
                        sessions.extend(book.close(
                            &session,
                            reason,
                            &note.with("user_email", session.user_email()),
                        )?);
                    }
                    if sessions.is_empty() {
                        let error = Error::conflict("Workspace has no active session");
                        return book.deny(
                            &note.clone().on_workspace(&workspace).denied("not_active"),
                            error,
                        );
                    }
                    Ok(Ok(TeardownEffects { sessions, logins: Vec::new() }))
                })
                .await?;
            let ids = ended.sessions.iter().map(|s| s.id).collect();
            broker.apply_effects(ended).await?;
            Ok(ids)
        })
        .await
    }
}
