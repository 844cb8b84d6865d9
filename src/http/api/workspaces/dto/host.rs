//! Workspace hosts.

use super::workspace::WorkspaceType;
use crate::broker::model::{HostCapabilities, TunnelState};
use crate::broker::model::{
    HostEnrolled, HostEnrollment, HostView, JoinToken as JoinTokenView, NewPeer,
};
use crate::domain::Timestamp;
use crate::domain::host::{DesktopLimit, HostKind};
use crate::domain::secret::SecretString;
use crate::domain::workspace::WorkspaceKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use utoipa::ToSchema;
use uuid::Uuid;

/// Status of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostStatus {
    /// Its tunnel is encrypted.
    Connected,
    /// Its tunnel has keys, but the host does not answer.
    Stale,
    /// It has not connected.
    Offline,
}

/// Kind of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = HostKind)]
pub enum HostType {
    /// The Portcullis agent, which starts desktops.
    Agent,
    /// A standard WireGuard peer; workspaces name servers on it.
    Peer,
}

/// A host.
#[derive(Debug, Serialize, ToSchema)]
pub struct Host {
    /// Id.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: HostType,
    /// WireGuard public key, base64.
    pub public_key: String,
    /// Status.
    pub status: HostStatus,
    /// Its address in the host tunnel.
    pub address: String,
    /// Address from which it connects.
    #[schema(required = true)]
    pub endpoint: Option<String>,
    /// Version of its agent; empty for a standard peer.
    pub version: String,
    /// Live sessions on it.
    pub desktops: usize,
    /// Whether it takes no new sessions; its present ones go on.
    pub drained: bool,
    /// The slots of its agent; null before its first report, for an agent that does not say, and
    /// for a standard peer.
    #[schema(required = true)]
    pub slots: Option<HostSlots>,
    /// Why it last could not start a desktop, within a day; null after a success.
    #[schema(required = true)]
    pub last_failure: Option<HostFailure>,
    /// What its agent offers, as last reported; null before the first report, and for a standard
    /// peer.
    #[schema(required = true)]
    pub offers: Option<HostOffers>,
    /// Last completed handshake.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_handshake_at: Option<Timestamp>,
    /// When it enrolled.
    #[schema(value_type = String, format = DateTime)]
    pub enrolled_at: Timestamp,
}

/// The slots of a host's agent.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostSlots {
    /// For desktops that it starts.
    pub desktops: SlotCount,
    /// For sessions on its services.
    pub services: SlotCount,
}

/// Slots of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlotCount {
    /// Taken by sessions of this gateway.
    pub used: usize,
    /// The most that the agent takes.
    pub limit: usize,
}

/// A failure of a host itself, which another host may not have.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostFailure {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Its word in the audit log: `host_not_connected`, `timeout`, `host_full`, `host_failed` or
    /// `failed`.
    pub reason: String,
    /// What the host, or the tunnel to it, reported.
    pub detail: String,
    /// Recent failures, halved every five minutes: other hosts are preferred while there are any.
    pub count: u32,
}

/// A change of a host.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateHost {
    /// Whether it takes no new sessions.
    pub drained: bool,
}

/// What a host's agent offers.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostOffers {
    /// Types of desktops it can start.
    pub desktops: Vec<WorkspaceType>,
    /// Types of workspaces that a service of it can be.
    pub service_types: Vec<WorkspaceType>,
    /// Its services.
    pub services: Vec<HostService>,
    /// The limits of desktops, each with whether the host holds it; null when its agent does not
    /// say.
    #[schema(required = true)]
    pub limits: Option<HostLimits>,
}

/// Which limits of desktops a host holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostLimits {
    /// Memory, with files in memory.
    pub memory: bool,
    /// An equal share of the processors while they are busy.
    pub cpu: bool,
    /// Processes and threads.
    pub processes: bool,
    /// Space of a user's home, as it is measured.
    pub home: bool,
    /// What desktops with network reach.
    pub network: bool,
    /// System calls.
    pub seccomp: bool,
}

impl From<&BTreeSet<DesktopLimit>> for HostLimits {
    fn from(held: &BTreeSet<DesktopLimit>) -> Self {
        let holds = |limit| held.contains(&limit);
        Self {
            memory: holds(DesktopLimit::Memory),
            cpu: holds(DesktopLimit::Cpu),
            processes: holds(DesktopLimit::Processes),
            home: holds(DesktopLimit::Home),
            network: holds(DesktopLimit::Network),
            seccomp: holds(DesktopLimit::Seccomp),
        }
    }
}

/// A service of a host: a server that its agent lets sessions reach, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostService {
    /// Name. Its address is configured at the host.
    pub name: String,
    /// Whether it accepted a connection at the last attempt, within the last minute.
    pub reachable: bool,
}

impl From<&HostCapabilities> for HostOffers {
    fn from(offers: &HostCapabilities) -> Self {
        let types =
            |kinds: &[WorkspaceKind]| kinds.iter().map(|kind| WorkspaceType::from(*kind)).collect();
        let services = offers
            .services
            .iter()
            .map(|(name, reachable)| HostService { name: name.clone(), reachable: *reachable });
        Self {
            desktops: types(&offers.kinds),
            service_types: types(&offers.service_kinds),
            services: services.collect(),
            limits: offers.limits.as_ref().map(HostLimits::from),
        }
    }
}

impl From<HostView> for Host {
    fn from(view: HostView) -> Self {
        let host = view.host;
        let status = match view.tunnel.as_ref().map(|t| t.state) {
            Some(TunnelState::Encrypted) => HostStatus::Connected,
            Some(TunnelState::Stale) => HostStatus::Stale,
            Some(TunnelState::Connecting | TunnelState::Down | TunnelState::None) | None => {
                HostStatus::Offline
            }
        };
        let limits = view.capabilities.as_deref().and_then(|offers| offers.slots);
        let slots = limits.map(|limits| HostSlots {
            desktops: SlotCount { used: view.used.desktops, limit: limits.desktops },
            services: SlotCount { used: view.used.services, limit: limits.services },
        });
        let last_failure = view.failure.map(|failure| HostFailure {
            at: failure.at,
            reason: failure.reason,
            detail: failure.detail,
            count: failure.count,
        });
        let heard_from = view.tunnel.as_ref().and_then(|t| t.endpoint).or(host.endpoint);
        Self {
            id: host.id.0,
            name: host.name,
            kind: match host.kind {
                HostKind::Agent => HostType::Agent,
                HostKind::Peer => HostType::Peer,
            },
            public_key: host.public_key,
            status,
            address: host.address.to_string(),
            endpoint: heard_from.map(|e| e.to_string()),
            version: host.version,
            desktops: view.sessions,
            drained: host.drained_at.is_some(),
            slots,
            last_failure,
            offers: view.capabilities.as_deref().map(HostOffers::from),
            last_handshake_at: view.tunnel.and_then(|t| t.last_handshake_at),
            enrolled_at: host.enrolled_at,
        }
    }
}

/// A join token to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateJoinToken {
    /// Name the host will get.
    pub name: Option<String>,
    /// 60 to 604800; default 3600.
    pub expires_in_seconds: Option<u64>,
}

/// A one-time join token.
#[derive(Serialize, ToSchema)]
pub struct JoinToken {
    /// The token, shown once.
    pub token: String,
    /// Expiry.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// What to run on the host.
    pub command: String,
}

impl JoinToken {
    /// From the broker's, for a gateway at `gateway` whose certificate has this SHA-256, if it is
    /// one of our own.
    #[must_use]
    pub fn new(token: &JoinTokenView, gateway: &str, certificate_sha256: Option<&str>) -> Self {
        let text = token.token.expose().clone();
        let pin = certificate_sha256.map_or_else(String::new, |sha256| format!(" --pin {sha256}"));
        Self {
            command: format!("portcullis agent --gateway {gateway} --join {text}{pin}"),
            token: text,
            expires_at: token.expires_at,
        }
    }
}

/// A standard WireGuard peer to add as a host.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPeer {
    /// Name.
    name: String,
    /// Its WireGuard public key, base64. Its private key stays with it.
    public_key: String,
    /// UDP `ADDRESS:PORT` of the peer; without one, the peer connects to the gateway.
    #[schema(value_type = Option<String>)]
    endpoint: Option<SocketAddr>,
    /// Its address inside the tunnel (IPv4 or IPv6); the next free one when missing.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
}

impl From<AddPeer> for NewPeer {
    fn from(b: AddPeer) -> Self {
        Self { name: b.name, public_key: b.public_key, endpoint: b.endpoint, address: b.address }
    }
}

/// A standard peer's configuration.
#[derive(Serialize, ToSchema)]
pub struct PeerConfiguration {
    /// A `wg-quick` file without the private key. It contains the preshared key, so that reading it
    /// is audited.
    pub config: String,
}

/// Enrolment of an agent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollHost {
    /// Join token.
    #[schema(value_type = String)]
    token: SecretString,
    /// Host name.
    name: String,
    /// WireGuard public key, base64.
    public_key: String,
    /// Version of the agent.
    version: String,
}

impl From<EnrollHost> for HostEnrollment {
    fn from(b: EnrollHost) -> Self {
        Self { token: b.token, name: b.name, public_key: b.public_key, version: b.version }
    }
}

/// What an agent needs to connect.
#[derive(Serialize, ToSchema)]
pub struct Enrolment {
    /// Id of the host.
    pub host_id: Uuid,
    /// Its name.
    pub name: String,
    /// Its address in the host tunnel.
    pub host_address: String,
    /// The gateway's address in every tunnel.
    pub gateway_address: String,
    /// The gateway's WireGuard public key, base64.
    pub gateway_public_key: String,
    /// UDP endpoint of the gateway, `ip:port`.
    pub gateway_endpoint: String,
    /// Preshared key, base64; shown once.
    pub preshared_key: String,
}

impl From<HostEnrolled> for Enrolment {
    fn from(e: HostEnrolled) -> Self {
        Self {
            host_id: e.host.id.0,
            name: e.host.name,
            host_address: e.host.address.to_string(),
            gateway_address: e.gateway.address.to_string(),
            gateway_public_key: e.gateway.public_key,
            gateway_endpoint: e.gateway.endpoint,
            preshared_key: e.preshared_key.expose().clone(),
        }
    }
}
