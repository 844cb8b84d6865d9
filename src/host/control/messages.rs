//! Messages and limits of the control API.

use crate::domain::host::DesktopLimit;
use crate::domain::secret::SecretString;
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{SessionId, UserId, WorkspaceId};
use serde::{Deserialize, Serialize, Serializer};
use std::net::IpAddr;
use std::time::Duration;

/// Port of the control API at the host's tunnel address.
pub const PORT: u16 = 7000;
/// Version of this protocol; orders of other versions are refused.
pub const PROTOCOL: u32 = 1;
/// Largest body that either side accepts, in bytes.
pub const BODY_MAX: usize = 64 * 1024;
/// Largest list of desktops that the gateway accepts, in bytes: some 10,000 sessions.
pub const LIST_MAX: usize = 4 * 1024 * 1024;
/// Longest wait for a request's head or body.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait of a request for changes. Bounds how long a silent host goes unnoticed.
pub const WATCH_WAIT: Duration = Duration::from_secs(5);
pub const GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Status of [`Refusal::Invalid`] (RFC 9110 section 15.5.21).
pub const INVALID: u16 = 422;
/// Status of [`Refusal::Full`] (RFC 9110 section 15.6.4).
pub const FULL: u16 = 503;
/// Status of [`Refusal::ServiceDown`] (RFC 9110 section 15.6.3).
pub const SERVICE_DOWN: u16 = 502;
/// Status of [`Refusal::ServiceSlow`] (RFC 9110 section 15.6.5).
pub const SERVICE_SLOW: u16 = 504;
/// Longest name of a user or a workspace, in characters.
pub const NAME_MAX: usize = 200;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Health {
    pub protocol: u32,
    pub version: String,
    pub uptime_ms: u64,
    pub desktops: usize,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    pub memory: Memory,
    /// Kinds of desktops that the agent can start.
    #[serde(default)]
    pub kinds: Vec<WorkspaceKind>,
    #[serde(default)]
    pub services: Vec<ServiceHealth>,
    /// Limits of desktops that the host holds; `None`: an agent that does not say.
    #[serde(default)]
    pub limits: Option<Vec<DesktopLimit>>,
    /// Kinds of workspaces that its services can be. Absent from agents older than `html5`.
    #[serde(default = "default_service_kinds")]
    pub service_kinds: Vec<WorkspaceKind>,
    /// How many sessions it takes at once. Absent from older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
}

/// Most sessions at once, of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slots {
    /// Desktops that it starts.
    pub desktops: usize,
    /// Sessions on its services, which it only forwards.
    pub services: usize,
}

fn default_service_kinds() -> Vec<WorkspaceKind> {
    vec![WorkspaceKind::Vnc, WorkspaceKind::Rdp]
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceHealth {
    pub name: String,
    /// Whether it accepted a connection when it was last probed, at most seconds ago.
    pub reachable: bool,
}

/// Memory of a machine, in bytes; zero when unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    pub total: u64,
    pub available: u64,
}

/// A desktop that runs or is being started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DesktopInfo {
    pub session_id: SessionId,
    pub user_id: UserId,
    pub workspace_id: WorkspaceId,
    pub ready: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changes {
    /// Differs from an earlier value when the set of desktops has changed, or the agent was
    /// restarted.
    pub generation: u64,
}

/// A desktop to start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    pub protocol: u32,
    /// Identifies the order: the same session gets the same desktop.
    pub session_id: SessionId,
    /// Selects the home.
    pub user_id: UserId,
    /// Shown in the desktop.
    pub user_name: String,
    pub workspace: OrderWorkspace,
    pub tunnel: OrderTunnel,
    /// How long it runs on without its gateway.
    pub grace_seconds: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct OrderWorkspace {
    /// Also the desktop's host name.
    pub id: WorkspaceId,
    pub name: String,
    /// `linux` and `rdp` desktops are started; `rdp`, `vnc` and `html5` may be a service.
    pub kind: WorkspaceKind,
    /// Whether the desktop reaches the host's network.
    pub network: bool,
    /// The service; `None`: a desktop is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// The gateway's parameters of the session's tunnel.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrderTunnel {
    /// Standard base64.
    #[serde(serialize_with = "expose")]
    pub preshared_key: SecretString,
    pub host_address: IpAddr,
    pub gateway_address: IpAddr,
}

/// A desktop that answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Started {
    /// The host's public key in the session's tunnel, standard base64. New for each tunnel.
    pub public_key: String,
    pub port: u16,
    /// Password of the desktop's server, for this session; empty for a service, whose credential
    /// only the gateway has.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// SHA-256 of its server's certificate, hexadecimal: new for each desktop, and the only one to
    /// accept. `None`: it has none, or is a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    Failed(String),
    #[error("nothing takes a connection at its service")]
    ServiceDown,
    #[error("its service did not take a connection in time")]
    ServiceSlow,
}

impl Refusal {
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) => INVALID,
            Self::Full(_) => FULL,
            Self::Failed(_) => 500,
            Self::ServiceDown => SERVICE_DOWN,
            Self::ServiceSlow => SERVICE_SLOW,
        }
    }
}

// Secrets are serialized only here, into requests and responses inside the tunnel.
fn expose<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose())
}
