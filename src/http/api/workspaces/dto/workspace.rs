//! Workspaces.

use super::session_limits::SessionLimits;
use super::tunnel::{TunnelStatus, protocol};
use super::upstream::{Clipboard, StreamPolicy, WorkspaceServer};
use super::user::{MfaProof, UserRole};

use super::web::WebApplication;
use crate::broker::model::{Launched, Replacement, WorkspaceView};
use crate::domain::route::TargetSpec;
use crate::domain::workspace::{WorkspaceKind, WorkspaceStatus};
use crate::domain::{HostId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Type of a workspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceType {
    /// A Linux desktop started for the session.
    Linux,
    /// An existing VNC server.
    Vnc,
    /// A Windows or xrdp desktop.
    Rdp,
    /// A web application.
    Html5,
}

impl From<WorkspaceKind> for WorkspaceType {
    fn from(kind: WorkspaceKind) -> Self {
        match kind {
            WorkspaceKind::Linux => Self::Linux,
            WorkspaceKind::Vnc => Self::Vnc,
            WorkspaceKind::Rdp => Self::Rdp,
            WorkspaceKind::Html5 => Self::Html5,
        }
    }
}

impl From<WorkspaceType> for WorkspaceKind {
    fn from(kind: WorkspaceType) -> Self {
        match kind {
            WorkspaceType::Linux => Self::Linux,
            WorkspaceType::Vnc => Self::Vnc,
            WorkspaceType::Rdp => Self::Rdp,
            WorkspaceType::Html5 => Self::Html5,
        }
    }
}

/// Status of a workspace for the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceState {
    /// Can be launched.
    Available,
    /// In use by the caller, or by the holder of the single seat.
    InUse,
    /// Being launched.
    Starting,
    /// Taken out of service.
    Maintenance,
    /// No host can run it.
    Offline,
}

impl From<WorkspaceStatus> for WorkspaceState {
    fn from(status: WorkspaceStatus) -> Self {
        match status {
            WorkspaceStatus::Available => Self::Available,
            WorkspaceStatus::InUse => Self::InUse,
            WorkspaceStatus::Starting => Self::Starting,
            WorkspaceStatus::Maintenance => Self::Maintenance,
            WorkspaceStatus::Offline => Self::Offline,
        }
    }
}

/// Where the server of a workspace of type `vnc`, `rdp` or `html5` is: `{host_id, port}` on a
/// standard peer, `{host_id, service}` on a host with an agent, or `{direct}`, a name that the
/// gateway's configuration allows.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged, deny_unknown_fields, try_from = "WorkspaceTargetFields")]
pub enum WorkspaceTarget {
    /// On a standard peer, through its tunnel.
    Host {
        /// The host.
        host_id: Uuid,
        /// TCP port at its inner address.
        #[schema(minimum = 1)]
        port: u16,
    },
    /// A service of a host with an agent, through the session's tunnel.
    Service {
        /// The host.
        host_id: Uuid,
        /// A name that the agent's own options allow.
        service: String,
    },
    /// Without a tunnel, unencrypted.
    Direct {
        /// A name under `[direct]` in the gateway's configuration.
        direct: String,
    },
}

/// Every field of a target, of which a form has some.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkspaceTargetFields {
    host_id: Option<Uuid>,
    port: Option<u16>,
    service: Option<String>,
    direct: Option<String>,
}

impl TryFrom<WorkspaceTargetFields> for WorkspaceTarget {
    type Error = &'static str;
    fn try_from(fields: WorkspaceTargetFields) -> Result<Self, Self::Error> {
        match (fields.host_id, fields.port, fields.service, fields.direct) {
            (Some(host_id), Some(port), None, None) => Ok(Self::Host { host_id, port }),
            (Some(host_id), None, Some(service), None) => Ok(Self::Service { host_id, service }),
            (None, None, None, Some(direct)) => Ok(Self::Direct { direct }),
            _ => Err(
                "target must have host_id and port (a standard peer), host_id and service (a host with an agent), or direct alone.",
            ),
        }
    }
}

impl From<WorkspaceTarget> for TargetSpec {
    fn from(target: WorkspaceTarget) -> Self {
        match target {
            WorkspaceTarget::Host { host_id, port } => {
                Self::Host { host_id: HostId(host_id), port }
            }
            WorkspaceTarget::Service { host_id, service } => {
                Self::Service { host_id: HostId(host_id), name: service }
            }
            WorkspaceTarget::Direct { direct } => Self::Direct { name: direct },
        }
    }
}

impl From<TargetSpec> for WorkspaceTarget {
    fn from(target: TargetSpec) -> Self {
        match target {
            TargetSpec::Host { host_id, port } => Self::Host { host_id: host_id.0, port },
            TargetSpec::Service { host_id, name } => {
                Self::Service { host_id: host_id.0, service: name }
            }
            TargetSpec::Direct { name } => Self::Direct { direct: name },
        }
    }
}

/// A workspace.
#[derive(Debug, Serialize, ToSchema)]
pub struct Workspace {
    /// Slug.
    pub id: String,
    /// Name.
    pub name: String,
    /// One or two sentences.
    pub description: String,
    /// Type.
    pub r#type: WorkspaceType,
    /// Its target; null when a host's agent starts a desktop, and for everybody except admins.
    #[schema(required = true)]
    pub target: Option<WorkspaceTarget>,
    /// Status for this caller.
    pub status: WorkspaceState,
    /// Name of an icon.
    pub icon: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Launching needs a verified second factor.
    pub requires_mfa: bool,
    /// One user at a time.
    pub single_seat: bool,
    /// The desktop can use the host's network; only one that a host starts (types `linux`, and
    /// `rdp` without a target).
    pub network: bool,
    /// Roles that may launch it.
    pub allowed_roles: Vec<UserRole>,
    /// Taken out of service.
    pub maintenance: bool,
    /// How long its sessions last.
    pub session_limits: SessionLimits,
    /// Stream policy.
    pub policy: StreamPolicy,
    /// Its server; null for types that have none.
    #[schema(required = true)]
    pub server: Option<WorkspaceServer>,
    /// Its web application; null for other types, and for everybody except admins.
    #[schema(required = true)]
    pub web: Option<WebApplication>,
    /// The caller's live session in it.
    #[schema(required = true)]
    pub active_session_id: Option<Uuid>,
    /// When created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl From<WorkspaceView> for Workspace {
    fn from(view: WorkspaceView) -> Self {
        let target = view.target().cloned();
        let w = view.workspace;
        let web = view.upstream.as_ref().and_then(|server| server.managed.as_ref()?.web.clone());
        Self {
            id: w.id.to_string(),
            name: w.name,
            description: w.description,
            r#type: w.kind.into(),
            target: target.map(Into::into),
            status: view.status.into(),
            icon: w.icon,
            tags: w.tags,
            requires_mfa: w.requires_mfa,
            single_seat: w.single_seat,
            network: w.network,
            allowed_roles: w.allowed_roles.into_iter().map(UserRole::from).collect(),
            maintenance: w.maintenance,
            session_limits: w.session_limits.into(),
            policy: w.policy.into(),
            server: view.upstream.map(Into::into),
            web: web.map(Into::into),
            active_session_id: view.active_session_id.map(|id| id.0),
            created_at: w.created_at,
            updated_at: w.updated_at,
        }
    }
}

/// A launch that succeeded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Launch {
    /// The session.
    pub session_id: Uuid,
    /// The workspace.
    pub workspace: Workspace,
    /// The page that shows it.
    pub stream_url: String,
    /// State of its tunnel.
    pub tunnel_status: TunnelStatus,
    /// Where the session ran already and does not answer: what a launch with `replace` would do;
    /// null otherwise.
    #[schema(required = true)]
    pub replacement: Option<LaunchReplacement>,
    /// Security properties.
    pub security: LaunchSecurity,
}

/// A new desktop instead of one that does not answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct LaunchReplacement {
    /// It starts on another host. The user's home folder is on the host of the present desktop.
    pub on_another_host: bool,
    /// What happened and what can be done, for the user.
    pub message: &'static str,
}

impl From<Replacement> for LaunchReplacement {
    fn from(replacement: Replacement) -> Self {
        let message = if replacement.on_another_host {
            "The host of your desktop does not answer. You can wait for it, or start a new desktop on another host; the files in your home folder are on \
             the host that does not answer."
        } else {
            "Your desktop does not answer. You can wait for it, or start a new one; its open programs would end."
        };
        Self { on_another_host: replacement.on_another_host, message }
    }
}

/// How to launch.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct LaunchOptions {
    /// Whether a session of the caller that does not answer is ended, and a new one started.
    #[serde(default)]
    pub replace: bool,
}

/// Security properties of a session.
#[derive(Debug, Serialize, ToSchema)]
pub struct LaunchSecurity {
    /// The second factor of its login.
    #[serde(flatten)]
    pub mfa: MfaProof,
    /// Its tunnel.
    pub tunnel: LaunchTunnel,
    /// Whether it is recorded.
    pub recording: bool,
    /// Limits.
    pub policy: SessionPolicy,
}

/// The tunnel of a launched session.
#[derive(Debug, Serialize, ToSchema)]
pub struct LaunchTunnel {
    /// `wireguard`; `none` for a direct target.
    pub protocol: &'static str,
    /// The host's public key in it, base64.
    #[schema(required = true)]
    pub peer_public_key: Option<String>,
    /// The desktop's address in it; the target's address without one.
    pub address: String,
    /// Last completed handshake.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_handshake_at: Option<Timestamp>,
}

/// The limits of a session.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionPolicy {
    /// Maximum duration, with extensions.
    pub max_duration_seconds: u64,
    /// It ends after this time without input; null: never.
    #[schema(required = true)]
    pub idle_timeout_seconds: Option<u64>,
    /// Clipboard text.
    pub clipboard: Clipboard,
    /// Files and drives.
    pub files: bool,
    /// Keys, pointer and clipboard do not reach the desktop.
    pub read_only: bool,
}

impl From<Launched> for Launch {
    fn from(l: Launched) -> Self {
        let session = l.session.session;
        let stream = l.workspace.workspace.policy;
        Self {
            session_id: session.id.0,
            workspace: l.workspace.into(),
            stream_url: format!("/viewer/{}", session.id),
            tunnel_status: l.session.tunnel.state.into(),
            replacement: l.replacement.map(LaunchReplacement::from),
            security: LaunchSecurity {
                mfa: session.mfa.into(),
                tunnel: LaunchTunnel {
                    protocol: protocol(l.session.tunnel.state),
                    peer_public_key: session.peer_public_key,
                    address: session.address.to_string(),
                    last_handshake_at: l.session.tunnel.last_handshake_at,
                },
                recording: false,
                policy: SessionPolicy {
                    max_duration_seconds: l.max_duration.as_secs(),
                    idle_timeout_seconds: l.idle_timeout.map(|timeout| timeout.as_secs()),
                    clipboard: stream.clipboard.into(),
                    files: stream.files,
                    read_only: stream.read_only,
                },
            },
        }
    }
}

/// A workspace was stopped.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stopped {
    /// `Workspace stopped`.
    pub message: String,
    /// The first session that ended.
    pub session_id: Uuid,
    /// Every session that ended.
    pub session_ids: Vec<Uuid>,
}

impl Stopped {
    /// `None` when no session ended.
    #[must_use]
    pub fn new(ended: &[SessionId]) -> Option<Self> {
        let session_id = ended.first()?.0;
        Some(Self {
            message: "Workspace stopped".to_owned(),
            session_id,
            session_ids: ended.iter().map(|id| id.0).collect(),
        })
    }
}
