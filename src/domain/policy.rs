//! Who may do what. The only place that makes a [`Permit`]; a permit's fields are private, so a use
//! case that asks for one cannot be reached without a decision. Deny by default: an act that no arm
//! allows is refused.

use super::session::{Session, State};
use super::user::{Caller, Mfa, Role};
use super::workspace::Workspace;
use super::{OrganizationId, UserId};

/// An act that needs a permit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PolicyAction {
    /// Create, change and remove workspaces; stop anybody's.
    ManageWorkspaces,
    /// Create, change, disable and sign out users.
    ManageUsers,
    /// List users.
    ReadUsers,
    /// Make join tokens, remove hosts.
    ManageHosts,
    /// List hosts.
    ReadHosts,
    /// See everybody's live sessions.
    ReadLiveSessions,
    /// End anybody's session.
    TerminateSessions,
    /// Read, export and verify the audit log.
    ReadAudit,
}

impl PolicyAction {
    /// Every act, for the tables of tests.
    pub const ALL: [Self; 8] = [
        Self::ManageWorkspaces,
        Self::ManageUsers,
        Self::ReadUsers,
        Self::ManageHosts,
        Self::ReadHosts,
        Self::ReadLiveSessions,
        Self::TerminateSessions,
        Self::ReadAudit,
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
        }
    }
}

/// A decision that allows one act in one organization.
#[derive(Debug)]
pub struct Permit {
    action: PolicyAction,
    organization_id: OrganizationId,
    user_id: UserId,
}

impl Permit {
    /// What it allows.
    #[must_use]
    pub fn action(&self) -> PolicyAction {
        self.action
    }
    /// Where.
    #[must_use]
    pub fn organization_id(&self) -> OrganizationId {
        self.organization_id
    }
    /// Whom.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        self.user_id
    }
}

/// A decision that allows its user to launch one workspace.
#[derive(Debug)]
pub struct LaunchPermit {
    user_id: UserId,
    workspace: Workspace,
    mfa: Option<Mfa>,
}

impl LaunchPermit {
    /// Whom it allows.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        self.user_id
    }
    /// What it allows to launch.
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

/// A decision that allows its user to open the stream of one session.
#[derive(Debug)]
pub struct StreamPermit {
    session: Session,
}

impl StreamPermit {
    /// The session.
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
    /// It is not theirs, or not in their organization. Told as "not found".
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

/// May this caller do this act in their own organization?
///
/// # Errors
/// [`Denial`] with the reason.
pub fn authorize(caller: &Caller, act: PolicyAction) -> Result<Permit, Denial> {
    if caller.user.disabled {
        return Err(Denial::Disabled);
    }
    let allowed = match (caller.user.role, act) {
        (Role::Admin, _) => true,
        (
            Role::Security,
            PolicyAction::ReadUsers
            | PolicyAction::ReadHosts
            | PolicyAction::ReadLiveSessions
            | PolicyAction::ReadAudit,
        ) => true,
        (
            Role::Security,
            PolicyAction::ManageWorkspaces
            | PolicyAction::ManageUsers
            | PolicyAction::ManageHosts
            | PolicyAction::TerminateSessions,
        ) => false,
        (Role::Member, _) => false,
    };
    if allowed {
        Ok(Permit {
            action: act,
            organization_id: caller.user.organization_id,
            user_id: caller.user.id,
        })
    } else {
        Err(Denial::Role)
    }
}

/// May this caller see this workspace in their list, and ask to launch it?
#[must_use]
pub fn can_view(caller: &Caller, workspace: &Workspace) -> bool {
    workspace.organization_id == caller.user.organization_id
        && (workspace.allowed_roles.contains(&caller.user.role) || caller.user.role == Role::Admin)
}

/// May this caller launch this workspace now?
///
/// # Errors
/// [`Denial`] with the reason.
pub fn authorize_launch(caller: &Caller, workspace: &Workspace) -> Result<LaunchPermit, Denial> {
    if caller.user.disabled {
        return Err(Denial::Disabled);
    }
    if workspace.organization_id != caller.user.organization_id {
        return Err(Denial::NotOwner);
    }
    if !workspace.allowed_roles.contains(&caller.user.role) {
        return Err(Denial::Role);
    }
    if workspace.requires_mfa && caller.mfa.is_none() {
        return Err(Denial::MfaRequired);
    }
    Ok(LaunchPermit { user_id: caller.user.id, workspace: workspace.clone(), mfa: caller.mfa })
}

/// May this caller open this session's stream? Only its owner, only while it is active; and a
/// session launched with a second factor opens only from a login that has one (its owner's factor
/// may have been reset since).
///
/// # Errors
/// [`Denial`] with the reason.
pub fn authorize_stream(caller: &Caller, session: &Session) -> Result<StreamPermit, Denial> {
    if session.user_id != caller.user.id {
        return Err(Denial::NotOwner);
    }
    if caller.user.disabled {
        return Err(Denial::Disabled);
    }
    match session.state {
        State::Active if session.mfa.is_some() && caller.mfa.is_none() => Err(Denial::MfaRequired),
        State::Active => Ok(StreamPermit { session: session.clone() }),
        State::Queued | State::Creating | State::Closing(_) | State::Closed(_) => {
            Err(Denial::NotActive)
        }
    }
}

#[cfg(test)]
mod tests;
