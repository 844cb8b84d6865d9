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
    /// Sessions that take a slot of the host's agent, as this gateway counts them.
    pub used: HostSlots,
    /// The last failure of the host itself to start a desktop, unless it started one since.
    pub failure: Option<HostFailure>,
}

/// Sessions on a host's agent, or how many it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostSlots {
    /// Desktops that it starts.
    pub desktops: usize,
    /// Sessions on its services, which it only forwards.
    pub services: usize,
}

/// A failure of a host itself, which another host may not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostFailure {
    pub at: Timestamp,
    /// Its word in the audit log.
    pub reason: String,
    /// What the host or the tunnel to it reported.
    pub detail: String,
    /// Failures, as placement weighs them: halved every five minutes.
    pub count: u32,
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
    /// How many sessions it takes; `None`: its agent is too old to say.
    pub slots: Option<HostSlots>,
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
