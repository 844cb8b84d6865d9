//! Messages and limits of the control API.

use crate::domain::secret::SecretString;
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{SessionId, UserId, WorkspaceId};
use serde::{Deserialize, Serialize, Serializer};
use std::net::IpAddr;
use std::time::Duration;

/// Port of the control API at the host's tunnel address.
pub const PORT: u16 = 7000;
/// Version of this protocol; orders of another one are refused.
pub const PROTOCOL: u32 = 1;
/// Largest body either side takes.
pub const BODY_MAX: usize = 64 * 1024;
/// Longest wait for a request's head or body.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a question for changes may wait for one. Also what keeps a silent host's absence from
/// going unnoticed.
pub const WATCH_WAIT: Duration = Duration::from_secs(5);
/// Longest grace a gateway may ask for.
pub const GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Status of [`Refusal::ServiceDown`] (RFC 9110 section 15.6.3).
pub const SERVICE_DOWN: u16 = 502;
/// Status of [`Refusal::ServiceSlow`] (RFC 9110 section 15.6.5).
pub const SERVICE_SLOW: u16 = 504;
/// Longest name of a user or a workspace, in characters.
pub const NAME_MAX: usize = 200;

/// How the agent is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Protocol version it speaks.
    pub protocol: u32,
    /// Version of the agent.
    pub version: String,
    /// How long it has run.
    pub uptime_ms: u64,
    /// Desktops it runs.
    pub desktops: usize,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Memory of the machine.
    pub memory: Memory,
    /// Kinds of desktops it can start.
    #[serde(default)]
    pub kinds: Vec<WorkspaceKind>,
    /// Its services.
    #[serde(default)]
    pub services: Vec<ServiceHealth>,
    /// Kinds of workspaces that a service of it can be. An agent that does not say is one of before
    /// there was `html5`.
    #[serde(default = "default_service_kinds")]
    pub service_kinds: Vec<WorkspaceKind>,
}

fn default_service_kinds() -> Vec<WorkspaceKind> {
    vec![WorkspaceKind::Vnc, WorkspaceKind::Rdp]
}

/// A service of the host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// Its name. Where it leads is the host's own business.
    pub name: String,
    /// Whether it took a connection when that was last tried, seconds ago at most.
    pub reachable: bool,
}

/// Memory of a machine, in bytes; zero when unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What could be had now.
    pub available: u64,
}

/// A desktop that runs, or is being started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DesktopInfo {
    /// Its session.
    pub session_id: SessionId,
    /// Its user.
    pub user_id: UserId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Whether it answers already.
    pub ready: bool,
}

/// How often the set of desktops has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changes {
    /// A count; another one than before means: look again. An agent that was restarted counts from
    /// somewhere else.
    pub generation: u64,
}

/// A desktop to start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// Protocol version of the caller.
    pub protocol: u32,
    /// Session: the order's name. The same session again gets the same desktop.
    pub session_id: SessionId,
    /// Names the home that is kept.
    pub user_id: UserId,
    /// Shown in the desktop.
    pub user_name: String,
    /// What runs.
    pub workspace: OrderWorkspace,
    /// How it is reached.
    pub tunnel: OrderTunnel,
    /// How long it lives on without its gateway.
    pub grace_seconds: u64,
}

/// What runs in a desktop.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrderWorkspace {
    /// Slug; the desktop's host name.
    pub id: WorkspaceId,
    /// Name people read.
    pub name: String,
    /// Kind: `linux` and `rdp` desktops are started; `rdp`, `vnc` and `html5` may be a service
    /// instead.
    pub kind: WorkspaceKind,
    /// Whether it reaches the host's network.
    pub network: bool,
    /// The host's service that it is; `None`: a desktop is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// The session's tunnel, as far as the gateway decides it.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrderTunnel {
    /// Preshared key, standard base64.
    #[serde(serialize_with = "expose")]
    pub preshared_key: SecretString,
    /// The desktop's address in it.
    pub host_address: IpAddr,
    /// The gateway's address in it.
    pub gateway_address: IpAddr,
}

/// A desktop that answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Started {
    /// The host's public key in the session's tunnel, standard base64. Fresh for each tunnel.
    pub public_key: String,
    /// The desktop's port at its address.
    pub port: u16,
    /// What its server asks for, for this session; empty for a service, whose credential only the
    /// gateway knows.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// SHA-256 of its server's certificate, in hexadecimal: fresh for each desktop, and the only
    /// one to be taken. `None`: it has none, or is a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// What an error answer says.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// In words.
    pub detail: String,
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The order makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The host has no place left.
    #[error("{0}")]
    Full(String),
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
    /// Nothing takes a connection where its service leads.
    #[error("nothing takes a connection at its service")]
    ServiceDown,
    /// What its service leads to did not take a connection in time.
    #[error("its service did not take a connection in time")]
    ServiceSlow,
}

impl Refusal {
    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) => 422,
            Self::Full(_) => 503,
            Self::Failed(_) => 500,
            Self::ServiceDown => SERVICE_DOWN,
            Self::ServiceSlow => SERVICE_SLOW,
        }
    }
}

// The one place where these secrets are written: into a request or answer inside the tunnel.
fn expose<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose())
}
