//! Who may do what. The only place that makes a [`Permit`]; a permit's fields are private, so a use
//! case that takes one cannot be reached without a decision. Deny by default: an action that no arm
//! allows is refused.

use super::principal::{Principal, PrincipalId};
use super::session::{Session, State};
use super::user::{Mfa, RequestSource, Role};
use super::workspace::Workspace;
use super::{OrganizationId, Timestamp};
use std::net::IpAddr;

/// An action that needs a permit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PolicyAction {
    /// Create, change and remove workspaces; stop anybody's.
    ManageWorkspaces,
    /// Create, change, disable and sign out users.
    ManageUsers,
    ReadUsers,
    /// Make join tokens, remove hosts.
    ManageHosts,
    ReadHosts,
    /// List everybody's live sessions.
    ReadLiveSessions,
    /// End anybody's session.
    TerminateSessions,
    /// Read, export and verify the audit log.
    ReadAudit,
    ViewWorkspace,
    LaunchWorkspace,
    OpenStream,
    /// Have a session end later.
    ExtendSession,
}

impl PolicyAction {
    /// Every action, for the tables of tests.
    pub const ALL: [Self; 12] = [
        Self::ManageWorkspaces,
        Self::ManageUsers,
        Self::ReadUsers,
        Self::ManageHosts,
        Self::ReadHosts,
        Self::ReadLiveSessions,
        Self::TerminateSessions,
        Self::ReadAudit,
        Self::ViewWorkspace,
        Self::LaunchWorkspace,
        Self::OpenStream,
        Self::ExtendSession,
    ];

    /// Its word in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ManageWorkspaces => "manage_workspaces",
            Self::ManageUsers => "manage_users",
            Self::ReadUsers => "read_users",
            Self::ManageHosts => "manage_hosts",
            Self::ReadHosts => "read_hosts",
            Self::ReadLiveSessions => "read_live_sessions",
            Self::TerminateSessions => "terminate_sessions",
            Self::ReadAudit => "read_audit",
            Self::ViewWorkspace => "view_workspace",
            Self::LaunchWorkspace => "launch_workspace",
            Self::OpenStream => "open_stream",
            Self::ExtendSession => "extend_session",
        }
    }
}

/// What an action is done to.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// Everything of one organization that the action names.
    Organization(OrganizationId),
    Workspace(&'a Workspace),
    Session(&'a Session),
}

/// Under which circumstances.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    pub now: Timestamp,
    /// `None` for the gateway itself and its command line.
    pub source_ip: Option<IpAddr>,
    /// The second factor verified in the principal's login, and when.
    pub mfa: Option<Mfa>,
}

impl Context {
    #[must_use]
    pub fn new(principal: &Principal, source: &RequestSource, now: Timestamp) -> Self {
        Self { now, source_ip: source.source_ip, mfa: principal.mfa() }
    }
}

/// A decision that allows one action in one organization.
#[derive(Debug)]
pub struct Permit {
    action: PolicyAction,
    organization_id: OrganizationId,
    principal: PrincipalId,
}

impl Permit {
    #[must_use]
    pub fn action(&self) -> PolicyAction {
        self.action
    }

    #[must_use]
    pub fn organization_id(&self) -> OrganizationId {
        self.organization_id
    }

    #[must_use]
    pub fn principal(&self) -> PrincipalId {
        self.principal
    }
}

/// A decision that allows its principal to launch one workspace.
#[derive(Debug)]
pub struct LaunchPermit {
    principal: PrincipalId,
    workspace: Workspace,
    mfa: Option<Mfa>,
}

impl LaunchPermit {
    #[must_use]
    pub fn principal(&self) -> PrincipalId {
        self.principal
    }

    #[must_use]
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// The factor it rests on.
    #[must_use]
    pub fn mfa(&self) -> Option<Mfa> {
        self.mfa
    }
}

/// A decision that allows its principal to open the stream of one session.
#[derive(Debug)]
pub struct StreamPermit {
    session: Session,
}

impl StreamPermit {
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// A refusal, and why: the word goes to the audit log, the sentence to the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denial {
    /// The role does not allow it.
    Role,
    /// A second factor must be verified first.
    MfaRequired,
    /// It belongs to another principal or another organization. Answered as "not found".
    NotOwner,
    /// The session is not active.
    NotActive,
    /// The account is disabled.
    Disabled,
}

impl Denial {
    /// Its word in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::MfaRequired => "mfa_required",
            Self::NotOwner => "not_theirs",
            Self::NotActive => "not_active",
            Self::Disabled => "disabled",
        }
    }
}

/// Decides one action on one resource.
///
/// # Errors
/// [`Denial`] with the reason.
pub fn authorize(
    principal: &Principal,
    action: PolicyAction,
    resource: &Resource<'_>,
    context: &Context,
) -> Result<Permit, Denial> {
    let organization_id = match *resource {
        Resource::Organization(id) => id,
        Resource::Workspace(workspace) => workspace.organization_id,
        Resource::Session(session) => session.organization_id,
    };
    match (action, *resource) {
        (PolicyAction::LaunchWorkspace, Resource::Workspace(workspace)) => {
            launch(principal, workspace, context)?;
        }
        (PolicyAction::ViewWorkspace, Resource::Workspace(workspace)) => {
            view(principal, workspace)?
        }
        (PolicyAction::OpenStream | PolicyAction::ExtendSession, Resource::Session(session)) => {
            stream(principal, session, context)?
        }
        // Launching, viewing and streaming are decided for one workspace or session, never for all.
        (
            PolicyAction::LaunchWorkspace
            | PolicyAction::ViewWorkspace
            | PolicyAction::OpenStream
            | PolicyAction::ExtendSession,
            _,
        ) => return Err(Denial::Role),
        (_, _) => administer(principal, action, organization_id)?,
    }
    Ok(Permit { action, organization_id, principal: principal.id() })
}

/// May this principal launch this workspace now?
///
/// # Errors
/// [`Denial`] with the reason.
pub fn authorize_launch(
    principal: &Principal,
    workspace: &Workspace,
    context: &Context,
) -> Result<LaunchPermit, Denial> {
    let resource = Resource::Workspace(workspace);
    let permit = authorize(principal, PolicyAction::LaunchWorkspace, &resource, context)?;
    Ok(LaunchPermit { principal: permit.principal, workspace: workspace.clone(), mfa: context.mfa })
}

/// May this principal open this session's stream? Only its owner, only while it is active; and a
/// session launched with a second factor opens only from a login that has one (its owner's factor
/// may have been reset since).
///
/// # Errors
/// [`Denial`] with the reason.
pub fn authorize_stream(
    principal: &Principal,
    session: &Session,
    context: &Context,
) -> Result<StreamPermit, Denial> {
    let resource = Resource::Session(session);
    authorize(principal, PolicyAction::OpenStream, &resource, context)?;
    Ok(StreamPermit { session: session.clone() })
}

/// May this principal have this session end later? Whoever may use it, while their role may launch its
/// workspace.
///
/// # Errors
/// [`Denial`] with the reason.
pub fn authorize_extension(
    principal: &Principal,
    session: &Session,
    workspace: &Workspace,
    context: &Context,
) -> Result<Permit, Denial> {
    let resource = Resource::Session(session);
    let permit = authorize(principal, PolicyAction::ExtendSession, &resource, context)?;
    launch(principal, workspace, context)?;
    Ok(permit)
}

/// May this principal see this workspace in its list, and ask to launch it?
#[must_use]
pub fn can_view(principal: &Principal, workspace: &Workspace, context: &Context) -> bool {
    let resource = Resource::Workspace(workspace);
    authorize(principal, PolicyAction::ViewWorkspace, &resource, context).is_ok()
}

/// A disabled user may nothing.
fn enabled(principal: &Principal) -> Result<(), Denial> {
    let disabled = principal.user().is_some_and(|signed_in| signed_in.user.disabled);
    if disabled { Err(Denial::Disabled) } else { Ok(()) }
}

/// A system principal without an organization acts in all of them.
fn acts_in(principal: &Principal, organization: OrganizationId) -> bool {
    match principal {
        Principal::User(_) | Principal::ApiKey(_) => {
            principal.organization_id() == Some(organization)
        }
        Principal::System { organization_id } => {
            organization_id.is_none_or(|id| id == organization)
        }
    }
}

fn administer(
    principal: &Principal,
    action: PolicyAction,
    organization: OrganizationId,
) -> Result<(), Denial> {
    enabled(principal)?;
    if !acts_in(principal, organization) {
        return Err(Denial::NotOwner);
    }
    let allowed = match (principal.role(), action) {
        (
            _,
            PolicyAction::ViewWorkspace
            | PolicyAction::LaunchWorkspace
            | PolicyAction::OpenStream
            | PolicyAction::ExtendSession,
        ) => false,
        (None | Some(Role::Admin), _) => true,
        (
            Some(Role::Security),
            PolicyAction::ReadUsers
            | PolicyAction::ReadHosts
            | PolicyAction::ReadLiveSessions
            | PolicyAction::ReadAudit,
        ) => true,
        (
            Some(Role::Security),
            PolicyAction::ManageWorkspaces
            | PolicyAction::ManageUsers
            | PolicyAction::ManageHosts
            | PolicyAction::TerminateSessions,
        ) => false,
        (Some(Role::Member), _) => false,
    };
    if allowed { Ok(()) } else { Err(Denial::Role) }
}

/// An administrator sees every workspace of the organization, and launches only those that their
/// role may launch.
fn view(principal: &Principal, workspace: &Workspace) -> Result<(), Denial> {
    if !acts_in(principal, workspace.organization_id) {
        return Err(Denial::NotOwner);
    }
    match principal.role() {
        None | Some(Role::Admin) => Ok(()),
        Some(role) if workspace.allowed_roles.contains(&role) => Ok(()),
        Some(_) => Err(Denial::NotOwner),
    }
}

fn launch(principal: &Principal, workspace: &Workspace, context: &Context) -> Result<(), Denial> {
    enabled(principal)?;
    if !acts_in(principal, workspace.organization_id) {
        return Err(Denial::NotOwner);
    }
    // A session belongs to a user or a key: the system has no role that could launch.
    if !principal.role().is_some_and(|role| workspace.allowed_roles.contains(&role)) {
        return Err(Denial::Role);
    }
    if workspace.requires_mfa && context.mfa.is_none() {
        return Err(Denial::MfaRequired);
    }
    Ok(())
}

fn stream(principal: &Principal, session: &Session, context: &Context) -> Result<(), Denial> {
    let owns = match principal {
        Principal::User(_) | Principal::ApiKey(_) => {
            principal.id() == session.principal
                && principal.organization_id() == Some(session.organization_id)
        }
        Principal::System { .. } => false,
    };
    if !owns {
        return Err(Denial::NotOwner);
    }
    enabled(principal)?;
    match session.state {
        State::Active if session.mfa.is_some() && context.mfa.is_none() => Err(Denial::MfaRequired),
        State::Active => Ok(()),
        State::Queued | State::Creating | State::Closing(_) | State::Closed(_) => {
            Err(Denial::NotActive)
        }
    }
}

#[cfg(test)]
mod tests;
