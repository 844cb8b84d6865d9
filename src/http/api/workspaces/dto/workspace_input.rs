//! Workspaces to create or change.

use super::session_limits::SessionLimitsInput;
use super::upstream::{StreamPolicyInput, WorkspaceServerInput};
use super::user::UserRole;
use super::web::WebApplicationInput;
use super::workspace::{WorkspaceTarget, WorkspaceType};
use crate::broker::model::{
    NewWorkspace, PolicyChange, UpstreamChange, WebChange, WorkspaceChange,
};
use crate::domain::secret::SecretString;
use crate::domain::{Error, WorkspaceId};
use serde::Deserialize;
use utoipa::ToSchema;

/// A workspace to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWorkspace {
    /// Slug; made from the name when missing.
    #[schema(value_type = Option<String>)]
    id: Option<WorkspaceId>,
    /// Name.
    name: String,
    /// One or two sentences.
    #[serde(default)]
    #[schema(default = "")]
    description: String,
    /// Type.
    r#type: WorkspaceType,
    /// Name of an icon.
    icon: Option<String>,
    /// Tags.
    tags: Option<Vec<String>>,
    /// Launching needs a verified second factor.
    requires_mfa: Option<bool>,
    /// One user at a time.
    single_seat: Option<bool>,
    /// The desktop can use the host's network; only one that a host starts (types `linux`, and
    /// `rdp` without a target).
    network: Option<bool>,
    /// Roles that may launch it.
    allowed_roles: Option<Vec<UserRole>>,
    /// Taken out of service.
    maintenance: Option<bool>,
    /// How long its sessions last; the installation's in a new workspace.
    session_limits: Option<SessionLimitsInput>,
    /// Target (required for types `vnc` and `html5`; a workspace of type `rdp` without one is a
    /// desktop that a host's agent starts). Another target ends the workspace's sessions and
    /// removes every credential and certificate of the old one.
    target: Option<WorkspaceTarget>,
    /// Password of the workspace's credential; empty removes it. Write-only.
    #[schema(value_type = Option<String>)]
    password: Option<SecretString>,
    /// Stream policy.
    policy: Option<StreamPolicyInput>,
    /// Server (all types except `linux`).
    server: Option<WorkspaceServerInput>,
    /// Web application (type `html5`).
    web: Option<WebApplicationInput>,
}

impl TryFrom<CreateWorkspace> for NewWorkspace {
    type Error = Error;
    fn try_from(b: CreateWorkspace) -> Result<Self, Error> {
        let rest = WorkspaceChange {
            name: None,
            description: None,
            icon: b.icon,
            tags: b.tags,
            requires_mfa: b.requires_mfa,
            single_seat: b.single_seat,
            network: b.network,
            allowed_roles: b.allowed_roles.map(|roles| roles.into_iter().map(Into::into).collect()),
            maintenance: b.maintenance,
            target: b.target.map(Into::into),
            password: b.password,
            policy: b.policy.map(PolicyChange::from).unwrap_or_default(),
            session_limits: b.session_limits.map(Into::into).unwrap_or_default(),
            upstream: b.server.map(UpstreamChange::try_from).transpose()?.unwrap_or_default(),
            web: b.web.map(WebChange::try_from).transpose()?.unwrap_or_default(),
        };
        Ok(Self {
            id: b.id,
            name: b.name,
            description: b.description,
            kind: b.r#type.into(),
            properties: rest,
        })
    }
}

/// A change of a workspace; missing fields stay as they are. Id and type cannot change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateWorkspace {
    /// Name.
    name: Option<String>,
    /// One or two sentences.
    description: Option<String>,
    /// Name of an icon.
    icon: Option<String>,
    /// Tags.
    tags: Option<Vec<String>>,
    /// Launching needs a verified second factor.
    requires_mfa: Option<bool>,
    /// One user at a time.
    single_seat: Option<bool>,
    /// The desktop can use the host's network; only one that a host starts (types `linux`, and
    /// `rdp` without a target).
    network: Option<bool>,
    /// Roles that may launch it.
    allowed_roles: Option<Vec<UserRole>>,
    /// Taken out of service.
    maintenance: Option<bool>,
    /// How long its sessions last; the installation's in a new workspace.
    session_limits: Option<SessionLimitsInput>,
    /// Target (required for types `vnc` and `html5`; a workspace of type `rdp` without one is a
    /// desktop that a host's agent starts). Another target ends the workspace's sessions and
    /// removes every credential and certificate of the old one.
    target: Option<WorkspaceTarget>,
    /// Password of the workspace's credential; empty removes it. Write-only.
    #[schema(value_type = Option<String>)]
    password: Option<SecretString>,
    /// Stream policy.
    policy: Option<StreamPolicyInput>,
    /// Server (all types except `linux`).
    server: Option<WorkspaceServerInput>,
    /// Web application (type `html5`).
    web: Option<WebApplicationInput>,
}

impl TryFrom<UpdateWorkspace> for WorkspaceChange {
    type Error = Error;
    fn try_from(b: UpdateWorkspace) -> Result<Self, Error> {
        Ok(Self {
            name: b.name,
            description: b.description,
            icon: b.icon,
            tags: b.tags,
            requires_mfa: b.requires_mfa,
            single_seat: b.single_seat,
            network: b.network,
            allowed_roles: b.allowed_roles.map(|roles| roles.into_iter().map(Into::into).collect()),
            maintenance: b.maintenance,
            target: b.target.map(Into::into),
            password: b.password,
            policy: b.policy.map(PolicyChange::from).unwrap_or_default(),
            session_limits: b.session_limits.map(Into::into).unwrap_or_default(),
            upstream: b.server.map(UpstreamChange::try_from).transpose()?.unwrap_or_default(),
            web: b.web.map(WebChange::try_from).transpose()?.unwrap_or_default(),
        })
    }
}
