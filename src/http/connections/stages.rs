//! The pools of all stages, and what limits them.

use super::client::{Client, KnownClients};
use super::metrics::{ConnectionMetrics, Stage};
use super::occupancy::PoolLimits;
use super::pool::ConnectionPool;
use crate::domain::Network;
use std::net::IpAddr;
use std::sync::Arc;

/// Connections without a complete ClientHello, in all and of one client: each costs a file
/// descriptor and a task. One that is silent for long loses its slot to the next.
const ARRIVING: PoolLimits = PoolLimits { total: 2048, per_client: 256, reserved: 256 };
/// TLS handshakes, in all and of one client. Their clients' part takes a round trip, so that the
/// limit of one client is what a large office starts at once.
const HANDSHAKING: PoolLimits = PoolLimits { total: 1024, per_client: 256, reserved: 128 };
/// One slot of so many is only for known clients.
const RESERVED_SHARE: usize = 8;

/// The pools of the stages that a connection goes through.
pub(in crate::http) struct ConnectionStages {
    trusted_proxies: Vec<Network>,
    pub(in crate::http) arriving: Arc<ConnectionPool>,
    pub(in crate::http) handshaking: Arc<ConnectionPool>,
    pub(in crate::http) open: Arc<ConnectionPool>,
}

impl ConnectionStages {
    /// `total`, `per_client`: of open connections.
    pub(in crate::http) fn new(
        total: usize,
        per_client: usize,
        trusted_proxies: Vec<Network>,
        metrics: &ConnectionMetrics,
    ) -> Self {
        let known = Arc::<KnownClients>::default();
        let pool = |stage, limits| {
            Arc::new(ConnectionPool::new(stage, limits, Arc::clone(&known), metrics.clone()))
        };
        let open = PoolLimits { total, per_client, reserved: total / RESERVED_SHARE };
        Self {
            trusted_proxies,
            arriving: pool(Stage::Arriving, ARRIVING),
            handshaking: pool(Stage::Handshaking, HANDSHAKING),
            open: pool(Stage::Open, open),
        }
    }

    /// Connections of all stages together.
    pub(in crate::http) fn total_max(open: usize) -> usize {
        ARRIVING.total + HANDSHAKING.total + open
    }

    pub(in crate::http) fn client(&self, peer: IpAddr) -> Client {
        Client::of(peer, &self.trusted_proxies)
    }
}
