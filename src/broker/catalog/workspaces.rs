//! Workspaces: listing, creation, change, removal, stop.

use crate::broker::catalog::workspace_details::{target_detail, with_config_details};
use crate::broker::catalog::workspace_view::{UpstreamSummary, workspace_view};
use crate::broker::catalog::{fleet_snapshot::Placements, placement::AvailableHosts};
use crate::broker::core::answers::{WORKSPACE, organization_of};
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::changes::{Changes, Topic};
use crate::broker::core::sealing::Sealer;
use crate::broker::core::stream_registry::StreamRegistry;
use crate::broker::core::task::spawn_to_completion;
use crate::broker::core::teardown::{Teardown, TeardownEffects};
use crate::broker::core::unit_of_work::{AuditedStore, Decision};
use crate::broker::core::validate;
use crate::broker::model::{NewWorkspace, WorkspaceChange, WorkspaceView};
use crate::domain::audit::{Action, Reason};
use crate::domain::policy::{self, PolicyAction};
use crate::domain::principal::Principal;
use crate::domain::session::EndReason;
use crate::domain::upstream::CredentialSource;
use crate::domain::user::RequestSource;
use crate::domain::workspace::Workspace;
use crate::domain::{Error, OrganizationId, Result, WorkspaceId, WorkspaceKey};

#[derive(Clone)]
pub struct Workspaces {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) placements: Placements,
    pub(in crate::broker) streams: StreamRegistry,
    pub(in crate::broker) changes: Changes,
    pub(in crate::broker) teardown: Teardown,
}

impl Workspaces {
    /// The workspaces the caller may launch; an admin sees every one of the organization.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, caller: &Principal) -> Result<Vec<WorkspaceView>> {
        let caller = caller.clone();
        let organization = organization_of(&caller)?;
        let context = self.store.policy_context(&RequestSource::local(""), &caller);
        let reachable = self.placements.snapshot();
        self.store
            .list(move |tx| {
                let places = AvailableHosts::load(tx, organization, &reachable)?;
                let mut sessions = tx.live_sessions_of_single_seats(organization)?;
                if let Some(user) = caller.user_id() {
                    sessions.extend(tx.live_sessions_of_user(user)?);
                }
                let mut states = tx.upstream_states(organization)?;
                let own = caller.user_id().map(|user| tx.user_credentials_of(user));
                let own = own.transpose()?.unwrap_or_default();
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
    pub async fn get(&self, caller: &Principal, id: &WorkspaceId) -> Result<WorkspaceView> {
        let reachable = self.placements.snapshot();
        let (who, id) = (caller.clone(), id.clone());
        let organization = organization_of(&who)?;
        let context = self.store.policy_context(&RequestSource::local(""), &who);
        let wanted = WorkspaceKey { organization_id: organization, id: id.clone() };
        let found = self
            .store
            .read(move |tx| {
                let workspace = tx.workspace(&wanted)?;
                let Some(workspace) = workspace.filter(|w| policy::can_view(&who, w, &context))
                else {
                    return Ok(None);
                };
                let can_run =
                    AvailableHosts::load(tx, organization, &reachable)?.can_run(&workspace);
                let sessions = if workspace.single_seat {
                    tx.live_sessions_of_workspace(&wanted)?
                } else {
                    tx.live_session_of(who.id(), &wanted)?.into_iter().collect()
                };
                let known = UpstreamSummary::load(tx, &wanted, who.user_id())?;
                Ok(Some(workspace_view(workspace, &sessions, &who, can_run, known)))
            })
            .await?;
        match found {
            Some(view) => Ok(view),
            None => {
                let entry = self.store.entry_from_login(caller, Action::AccessDenied).await?;
                self.store.write_entry(entry.on_workspace_id(&id).denied(Reason::Unknown)).await?;
                Err(Error::not_found(WORKSPACE))
            }
        }
    }

    /// The organization whose workspaces the caller manages, or an audited denial of what `entry` says.
    async fn permit(
        &self,
        source: &RequestSource,
        caller: &Principal,
        entry: AuditEntryBuilder,
    ) -> Result<OrganizationId> {
        let action = PolicyAction::ManageWorkspaces;
        self.store.permit_act(source, caller, action, entry).await
    }

    /// Creates a workspace.
    ///
    /// # Errors
    /// `Forbidden`, `Invalid`, or `Conflict` when the id is taken.
    pub async fn create(
        &self,
        source: &RequestSource,
        caller: &Principal,
        new: NewWorkspace,
    ) -> Result<WorkspaceView> {
        let entry = self.store.entry(source, Action::CreateWorkspace).by_caller(caller);
        let tried = entry.clone().on_named("workspace", Some(&new.name));
        let organization = self.permit(source, caller, tried).await?;
        let ids = validate::workspace_ids(&new)?;
        let plain = validate::workspace(&new, ids[0].clone(), organization, self.store.now())?;
        let (who, reachable) = (caller.clone(), self.placements.snapshot());
        let password = new.properties.password.clone();
        if let Some(password) = &password {
            validate::validate_upstream_password(password, &plain)?;
        }
        let this = self.clone();
        let view = self
            .store
            .transact(move |tx| {
                if let Err(error) = tx.check_target(plain.driver().target(), organization)? {
                    return Ok(Decision::Denied(error));
                }
                for id in &ids {
                    let key = WorkspaceKey { organization_id: organization, id: id.clone() };
                    if tx.workspace(&key)?.is_some() {
                        continue;
                    }
                    let workspace = Workspace { id: id.clone(), ..plain.clone() };
                    tx.insert_workspace(&workspace)?;
                    if let Some(password) = &password {
                        tx.set_workspace_password(
                            &key,
                            this.sealer.seal_password(id, password).as_deref(),
                        )?;
                    }
                    let entry = entry
                        .clone()
                        .on_workspace(&workspace)
                        .with("type", workspace.kind().as_str())
                        .with("target", target_detail(&workspace));
                    let entry = entry
                        .with("single_seat", workspace.single_seat)
                        .with("requires_mfa", workspace.requires_mfa);
                    tx.add_entry(&with_config_details(entry, &workspace));
                    let can_run =
                        AvailableHosts::load(tx, organization, &reachable)?.can_run(&workspace);
                    let known = UpstreamSummary::load(tx, &key, who.user_id())?;
                    return Ok(Decision::Allowed(workspace_view(
                        workspace,
                        &[],
                        &who,
                        can_run,
                        known,
                    )));
                }
                let taken = "A workspace with this id exists already. Choose another.";
                let entry = entry.clone().on_workspace_id(&ids[0]).denied(Reason::IdTaken);
                tx.deny(&entry, Error::conflict(taken))
            })
            .await?;
        self.changes.publish(Some(organization), &[Topic::Workspaces]);
        Ok(view)
    }

    /// Changes a workspace. Its sessions continue; their streams are revoked, and reopen, when
    /// policy or trust changes. When the target changes, its sessions end and the old target's
    /// certificate and user credentials are deleted.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound` or `Invalid`.
    pub async fn update(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
        change: WorkspaceChange,
    ) -> Result<WorkspaceView> {
        let entry = self.store.entry(source, Action::UpdateWorkspace).by_caller(caller);
        let organization = self.permit(source, caller, entry.clone().on_workspace_id(id)).await?;
        let now = self.store.now();
        let (who, id, reachable) = (caller.clone(), id.clone(), self.placements.snapshot());
        let sealed =
            change.password.as_ref().map(|password| self.sealer.seal_password(&id, password));
        let this = self.clone();
        let key = WorkspaceKey { organization_id: organization, id: id.clone() };
        spawn_to_completion(async move {
            let (view, next, sessions, ended) = this
                .store
                .transact(move |tx| {
                    let Some(old) = tx.workspace(&key)? else {
                        let entry = entry.clone().access_denied().on_workspace_id(&id);
                        let entry = entry.denied(Reason::Unknown);
                        return tx.deny(&entry, Error::not_found(WORKSPACE));
                    };
                    let (next, mut changed) = match validate::apply_change(&old, &change, now) {
                        Ok(next) => next,
                        Err(error) => return Ok(Decision::Denied(error)),
                    };
                    let (before, after) = (old.driver(), next.driver());
                    let elsewhere = after.target() != before.target();
                    if elsewhere
                        && let Err(error) = tx.check_target(after.target(), organization)?
                    {
                        return Ok(Decision::Denied(error));
                    }
                    if let Some(password) = &change.password
                        && let Err(error) = validate::validate_upstream_password(password, &next)
                    {
                        return Ok(Decision::Denied(error));
                    }
                    // A password that would be unused, or would be sent to another target, is
                    // deleted.
                    let dropped = elsewhere || !after.uses_workspace_password();
                    if let Some(sealed) = &sealed {
                        tx.set_workspace_password(&key, sealed.as_deref())?;
                        changed.push("password");
                    } else if dropped && tx.workspace_password(&key)?.is_some() {
                        tx.set_workspace_password(&key, None)?;
                        changed.push("password");
                    }
                    let mut ended = Vec::new();
                    if elsewhere {
                        tx.delete_certificates(&key)?;
                        let sessions = tx.live_sessions_of_workspace(&key)?;
                        ended = tx.close_all(sessions, EndReason::AdminStopped, &entry)?;
                    }
                    let users = Some(CredentialSource::User);
                    let left_users =
                        old.credential_source() == users && next.credential_source() != users;
                    let forgotten =
                        if elsewhere || left_users { tx.delete_user_credentials(&key)? } else { 0 };
                    if !changed.is_empty() {
                        tx.update_workspace(&next)?;
                        let entry = entry
                            .clone()
                            .on_workspace(&next)
                            .with("changed", changed.join(","))
                            .with("target", target_detail(&next));
                        tx.add_entry(
                            &with_config_details(entry, &next)
                                .with("credentials_forgotten", forgotten),
                        );
                    }
                    let can_run =
                        AvailableHosts::load(tx, organization, &reachable)?.can_run(&next);
                    let sessions = tx.live_sessions_of_workspace(&key)?;
                    let known = UpstreamSummary::load(tx, &key, who.user_id())?;
                    Ok(Decision::Allowed((
                        workspace_view(next.clone(), &sessions, &who, can_run, known),
                        next,
                        sessions,
                        ended,
                    )))
                })
                .await?;
            this.streams.revoke_outdated_in(&next, &sessions);
            this.teardown.tracker.set_limits(&next, &sessions);
            this.changes.publish(Some(organization), &[Topic::Workspaces]);
            this.teardown
                .apply_effects(TeardownEffects { sessions: ended, logins: Vec::new() })
                .await?;
            Ok(view)
        })
        .await
    }

    /// Removes a workspace; its sessions end with `workspace_removed`.
    ///
    /// # Errors
    /// `Forbidden` or `NotFound`.
    pub async fn delete(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<()> {
        let entry = self.store.entry(source, Action::DeleteWorkspace).by_caller(caller);
        let organization = self.permit(source, caller, entry.clone().on_workspace_id(id)).await?;
        let (this, id) = (self.clone(), id.clone());
        let key = WorkspaceKey { organization_id: organization, id: id.clone() };
        spawn_to_completion(async move {
            let ended = this
                .store
                .transact(move |tx| {
                    let Some(workspace) = tx.workspace(&key)? else {
                        let entry = entry.clone().access_denied().on_workspace_id(&id);
                        let entry = entry.denied(Reason::Unknown);
                        return tx.deny(&entry, Error::not_found(WORKSPACE));
                    };
                    tx.delete_workspace(&key, entry.now())?;
                    tx.add_entry(&entry.clone().on_workspace(&workspace));
                    let sessions = tx.live_sessions_of_workspace(&key)?;
                    let sessions = tx.close_all(sessions, EndReason::WorkspaceRemoved, &entry)?;
                    Ok(Decision::Allowed(TeardownEffects { sessions, logins: Vec::new() }))
                })
                .await?;
            this.changes.publish(Some(organization), &[Topic::Workspaces]);
            this.teardown.apply_effects(ended).await
        })
        .await
    }

    /// Stops a workspace: the caller's own session of it, or for an administrator every session.
    /// Returns the ended sessions.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` when there is no active session.
    pub async fn stop(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<Vec<crate::domain::SessionId>> {
        let entry = self.store.entry(source, Action::StopWorkspace).by_caller(caller);
        let organization = organization_of(caller)?;
        let context = self.store.policy_context(source, caller);
        let resource = policy::Resource::Organization(organization);
        let everybody =
            policy::authorize(caller, PolicyAction::ManageWorkspaces, &resource, &context).is_ok();
        let (this, who, id) = (self.clone(), caller.clone(), id.clone());
        let key = WorkspaceKey { organization_id: organization, id: id.clone() };
        spawn_to_completion(async move {
            let ended = this
                .store
                .transact(move |tx| {
                    let workspace = tx.workspace(&key)?;
                    let theirs: Vec<_> = match &workspace {
                        Some(_) => {
                            if everybody {
                                tx.live_sessions_of_workspace(&key)?
                            } else {
                                tx.live_session_of(who.id(), &key)?.into_iter().collect()
                            }
                        }
                        None => Vec::new(),
                    };
                    let Some(workspace) = workspace
                        .filter(|w| policy::can_view(&who, w, &context) || !theirs.is_empty())
                    else {
                        let entry = entry.clone().access_denied().on_workspace_id(&id);
                        let entry = entry.denied(Reason::Unknown);
                        return tx.deny(&entry, Error::not_found(WORKSPACE));
                    };
                    let mut sessions = Vec::new();
                    for session in theirs {
                        let own = session.principal == who.id();
                        let reason =
                            if own { EndReason::WorkspaceStopped } else { EndReason::AdminStopped };
                        let entry = entry.clone().on_workspace(&workspace).in_session(&session);
                        sessions.extend(tx.close(
                            &session,
                            reason,
                            &entry.with("user_email", session.user_email()),
                        )?);
                    }
                    if sessions.is_empty() {
                        let error = Error::conflict("Workspace has no active session");
                        return tx.deny(
                            &entry.clone().on_workspace(&workspace).denied(Reason::NotActive),
                            error,
                        );
                    }
                    Ok(Decision::Allowed(TeardownEffects { sessions, logins: Vec::new() }))
                })
                .await?;
            let ids = ended.sessions.iter().map(|s| s.id).collect();
            this.teardown.apply_effects(ended).await?;
            Ok(ids)
        })
        .await
    }
}
