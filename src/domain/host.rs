//! Where workspaces run.

use super::{HostId, OrganizationId, Timestamp};
use std::net::{IpAddr, SocketAddr};

/// A workspace host: a machine that enrolled with a join token and dials home over WireGuard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Id.
    pub id: HostId,
    /// Organization.
    pub organization_id: OrganizationId,
    /// Name.
    pub name: String,
    /// WireGuard public key, standard base64.
    pub public_key: String,
    /// Its address inside the host tunnel.
    pub address: IpAddr,
    /// Where its authenticated datagrams last came from; lets a restarted gateway call it at once.
    pub endpoint: Option<SocketAddr>,
    /// Version of its agent.
    pub version: String,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// When it was last connected.
    pub last_seen_at: Option<Timestamp>,
}
