//! Workspace hosts.

use super::{HostId, OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// What is at the other end of a host's tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HostKind {
    /// Our agent: it enrolled with a join token, dials home, and starts desktops.
    #[default]
    Agent,
    /// A standard WireGuard peer (a kernel, wireguard-go, Windows) that an administrator added by
    /// its public key. It starts nothing; workspaces name servers that run on it.
    Peer,
}

impl HostKind {
    /// Its name in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Peer => "peer",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Agent, Self::Peer].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A workspace host: a machine the gateway reaches over WireGuard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    pub id: HostId,
    pub organization_id: OrganizationId,
    pub kind: HostKind,
    pub name: String,
    /// WireGuard public key, standard base64.
    pub public_key: String,
    /// Its address inside the host tunnel.
    pub address: IpAddr,
    /// Source of its last authenticated datagram: a restarted gateway connects there at once.
    pub endpoint: Option<SocketAddr>,
    /// Version of its agent; empty for a standard peer.
    pub version: String,
    /// When it enrolled, or was added.
    pub enrolled_at: Timestamp,
    pub last_seen_at: Option<Timestamp>,
    /// Since when it takes no new sessions; its present ones go on.
    pub drained_at: Option<Timestamp>,
}

/// What bounds a desktop on the host of an agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesktopLimit {
    /// Bytes of memory, with files in memory.
    Memory,
    /// Its share of the processors.
    Cpu,
    /// Processes and threads.
    Processes,
    /// Bytes of its user's home.
    Home,
    /// What it reaches, where it may use a network.
    Network,
    /// The system calls it may make.
    Seccomp,
}

impl DesktopLimit {
    pub const ALL: [Self; 6] =
        [Self::Memory, Self::Cpu, Self::Processes, Self::Home, Self::Network, Self::Seccomp];

    /// Its name in settings, APIs and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Processes => "processes",
            Self::Home => "home",
            Self::Network => "network",
            Self::Seccomp => "seccomp",
        }
    }
}
