//! What the fleet holds: tunnels of hosts and of sessions, paths of sessions without a tunnel of
//! their own; and the calls of the agents' control API through the host tunnels.

use super::conversions::control_error;
use crate::broker::model::HostCapabilities;
use crate::broker::ports::host_fleet::FleetError;
use crate::domain::host::HostKind;
use crate::domain::sync::lock;
use crate::domain::{HostId, SessionId};
use crate::host::control::{self, Client};
use crate::tunnel::{Hub, PeerConfig, PrivateKey, SessionPath, Tunnel};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

/// Round-trip probes under way at once.
const MAX_CONCURRENT_PROBES: usize = 64;
/// Longest end of a desktop: the agent itself grants it two seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest call that starts or ends nothing.
pub(super) const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct FleetConfig {
    /// The gateway's WireGuard key: the same in every tunnel.
    pub private_key: PrivateKey,
    /// What hosts dial, `host:port`.
    pub endpoint: String,
    /// The gateway's address inside every tunnel.
    pub address: IpAddr,
    /// Longest start of a desktop.
    pub start_timeout: Duration,
    /// The direct targets that the configuration allows: `host:port` by name.
    pub direct: HashMap<String, String>,
}

#[derive(Debug)]
pub(super) struct FleetState {
    pub(super) hub: Hub,
    pub(super) config: FleetConfig,
    hosts: Mutex<HashMap<HostId, HostEntry>>,
    sessions: Mutex<HashMap<SessionId, SessionEntry>>,
    shared: Mutex<HashMap<SessionId, SharedEntry>>,
    hosts_changed: watch::Sender<u64>,
    closed_totals: Mutex<Totals>,
    pub(super) probe_permits: Arc<Semaphore>,
}

#[derive(Debug)]
pub(super) struct HostEntry {
    pub(super) kind: HostKind,
    pub(super) public_key: String,
    pub(super) tunnel: Tunnel,
    pub(super) capabilities: Option<Arc<HostCapabilities>>,
    /// Counts changes of the tunnel's state, and of the desktops as its agent reports them.
    pub(super) changed: watch::Sender<u64>,
    pub(super) monitor: AbortHandle,
}

impl Drop for HostEntry {
    fn drop(&mut self) {
        self.monitor.abort();
    }
}

/// A session with a tunnel of its own.
#[derive(Debug, Clone)]
pub(super) struct SessionEntry {
    pub(super) host: HostId,
    pub(super) tunnel: Tunnel,
    /// What the tunnel was created with, to create it again when its host moves.
    pub(super) config: PeerConfig,
    pub(super) path: Arc<SessionPath>,
}

/// A session without a tunnel of its own.
#[derive(Debug, Clone)]
pub(super) struct SharedEntry {
    pub(super) route: SharedRoute,
    pub(super) path: Arc<SessionPath>,
}

/// What a session goes through instead of a tunnel of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SharedRoute {
    /// The tunnel of a standard peer.
    Host(HostId),
    /// No tunnel, to a target of the configuration.
    Direct(String),
}

/// Counters of sessions that are over, so that the sums over all sessions never decrease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    pub(super) tx_bytes: u64,
    pub(super) rx_bytes: u64,
    pub(super) retransmits: u64,
}

impl FleetState {
    pub(super) fn new(hub: Hub, config: FleetConfig) -> Self {
        Self {
            hub,
            config,
            hosts: Mutex::default(),
            sessions: Mutex::default(),
            shared: Mutex::default(),
            hosts_changed: watch::Sender::new(0),
            closed_totals: Mutex::default(),
            probe_permits: Arc::new(Semaphore::new(MAX_CONCURRENT_PROBES)),
        }
    }

    pub(super) fn hosts(&self) -> MutexGuard<'_, HashMap<HostId, HostEntry>> {
        lock(&self.hosts)
    }

    pub(super) fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, SessionEntry>> {
        lock(&self.sessions)
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, HashMap<SessionId, SharedEntry>> {
        lock(&self.shared)
    }

    pub(super) fn closed_totals(&self) -> MutexGuard<'_, Totals> {
        lock(&self.closed_totals)
    }

    pub(super) fn notify_hosts_changed(&self) {
        self.hosts_changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn notify_host_changed(&self, host: HostId) {
        if let Some(entry) = self.hosts().get(&host) {
            entry.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Closed at once when there is no such host.
    pub(super) fn subscribe_host_changed(&self, host: HostId) -> watch::Receiver<u64> {
        let hosts = self.hosts();
        hosts.get(&host).map_or_else(|| watch::channel(0).1, |entry| entry.changed.subscribe())
    }

    pub(super) fn subscribe_hosts_changed(&self) -> watch::Receiver<u64> {
        self.hosts_changed.subscribe()
    }

    pub(super) fn host_tunnel(&self, host: HostId) -> Option<Tunnel> {
        self.hosts().get(&host).map(|entry| entry.tunnel.clone())
    }

    pub(super) fn session_path(&self, session: SessionId) -> Option<Arc<SessionPath>> {
        let own = self.sessions().get(&session).map(|entry| entry.path.clone());
        own.or_else(|| self.shared().get(&session).map(|entry| entry.path.clone()))
    }

    /// Adds the counters of a session's tunnel that is about to be removed.
    pub(super) fn add_closed(&self, tunnel: &Tunnel) {
        let stats = tunnel.stats();
        let mut totals = self.closed_totals();
        totals.tx_bytes += stats.tx_bytes;
        totals.rx_bytes += stats.rx_bytes;
        totals.retransmits += stats.retransmits;
    }

    /// A control connection to a connected host.
    pub(super) async fn client(&self, host: HostId) -> Result<Client, FleetError> {
        let tunnel = self.host_tunnel(host).ok_or(FleetError::NotConnected)?;
        let stream = tunnel.connect(control::PORT).await.map_err(|_| FleetError::NotConnected)?;
        Client::new(stream).await.map_err(control_error)
    }

    pub(super) async fn stop(
        &self,
        host: Option<HostId>,
        session: SessionId,
    ) -> Result<(), FleetError> {
        // Only an agent starts desktops: a direct target has no host, and a peer no agent.
        let Some(host) = host else { return Ok(()) };
        if self.hosts().get(&host).is_some_and(|entry| entry.kind == HostKind::Peer) {
            return Ok(());
        }
        let stopping =
            async { self.client(host).await?.stop(session).await.map_err(control_error) };
        tokio::time::timeout(STOP_TIMEOUT, stopping).await.map_err(|_| FleetError::Timeout)?
    }

    /// How long an agent has been running.
    pub(super) async fn agent_uptime(&self, host: HostId) -> Option<Duration> {
        let asking = async { self.client(host).await?.health().await.map_err(control_error) };
        let health = tokio::time::timeout(CONTROL_TIMEOUT, asking).await.ok()?.ok()?;
        Some(Duration::from_millis(health.uptime_ms))
    }

    /// The sessions that an agent has desktops of.
    pub(super) async fn inventory(&self, host: HostId) -> Result<Vec<SessionId>, FleetError> {
        let listing = async { self.client(host).await?.desktops().await.map_err(control_error) };
        let desktops = tokio::time::timeout(CONTROL_TIMEOUT, listing)
            .await
            .map_err(|_| FleetError::Timeout)??;
        Ok(desktops.into_iter().map(|desktop| desktop.session_id).collect())
    }
}
