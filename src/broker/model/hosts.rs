//! Hosts: enrolment, peers, and what their agents can do.

use super::tunnel::TunnelReport;
use crate::domain::Timestamp;
use crate::domain::host::{DesktopLimit, Host};
use crate::domain::secret::SecretString;
use crate::domain::workspace::WorkspaceKind;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct HostView {
    pub host: Host,
    pub tunnel: Option<TunnelReport>,
    /// `None`: not reported yet, or the host has no agent.
    pub capabilities: Option<Arc<HostCapabilities>>,
    /// Number of live sessions.
    pub sessions: usize,
}

#[derive(Debug)]
pub struct JoinToken {
    pub token: SecretString,
    pub expires_at: Timestamp,
}

#[derive(Debug)]
pub struct HostEnrollment {
    pub token: SecretString,
    pub name: String,
    /// WireGuard public key, standard base64.
    pub public_key: String,
    pub version: String,
}

#[derive(Clone, Debug)]
pub struct NewPeer {
    pub name: String,
    /// WireGuard public key, standard base64.
    pub public_key: String,
    /// `None`: the peer initiates the handshake.
    pub endpoint: Option<SocketAddr>,
    /// Address inside the tunnel; `None`: the next free one.
    pub address: Option<IpAddr>,
}

/// What an agent needs to connect.
#[derive(Debug)]
pub struct HostEnrolled {
    pub host: Host,
    pub gateway: GatewayIdentity,
    /// Preshared key of the host tunnel, standard base64; shown once.
    pub preshared_key: SecretString,
}

/// What a host's agent can do, as it last reported.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostCapabilities {
    /// Kinds of desktop it can start.
    pub kinds: Vec<WorkspaceKind>,
    /// Workspace kinds that its services can serve.
    pub service_kinds: Vec<WorkspaceKind>,
    /// Limits of desktops that it holds; `None`: it does not say.
    pub limits: Option<BTreeSet<DesktopLimit>>,
    /// Names of its services, each with the result of the agent's last connection test.
    pub services: Vec<(String, bool)>,
}

/// The gateway as its hosts know it.
#[derive(Clone, Debug)]
pub struct GatewayIdentity {
    /// WireGuard public key, standard base64.
    pub public_key: String,
    /// UDP endpoint hosts dial, `host:port`.
    pub endpoint: String,
    /// The gateway's address inside every tunnel.
    pub address: IpAddr,
}
