//! [`HubFleet`]: the broker's port to the hosts and the viewer's port to upstreams, on a [`Hub`].

use super::conversions::{
    parse_preshared_key, parse_public_key, tunnel_error, tunnel_report, without_host,
};
use super::state::{FleetConfig, FleetState, HostEntry, SessionEntry, SharedRoute};
use super::{host_monitor, launch};
use crate::broker::model::{GatewayIdentity, HostCapabilities, TunnelReport, TunnelState};
use crate::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, FleetError, HostFleet, HostPeer, SessionPeer,
};
use crate::domain::host::HostKind;
use crate::domain::lease::Lease;
use crate::domain::route::{PathMetrics, SessionRoute, gateway_v6};
use crate::domain::{HostId, SessionId};
use crate::tunnel::{
    Hub, MeteredStream, PeerConfig, Profile, SessionPath, TunnelId, TunnelStatus, TunnelStream,
};
use crate::viewer::{Dial, Duplex};
use futures_util::future::BoxFuture;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longest wait for a stream to an upstream.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Keepalive interval of standard peers.
const PEER_KEEPALIVE: Duration = Duration::from_secs(25);

/// Hosts and sessions, reached through their tunnels.
#[derive(Clone, Debug)]
pub struct HubFleet {
    state: Arc<FleetState>,
}

impl HubFleet {
    /// A fleet without hosts.
    #[must_use]
    pub fn new(hub: Hub, config: FleetConfig) -> Self {
        Self { state: Arc::new(FleetState::new(hub, config)) }
    }

    /// The state of every tunnel, of hosts and of sessions.
    #[must_use]
    pub fn tunnel_states(&self) -> Vec<TunnelState> {
        let hosts: Vec<TunnelState> =
            self.state.hosts().values().map(|entry| tunnel_report(&entry.tunnel).state).collect();
        let sessions: Vec<SessionEntry> = self.state.sessions().values().cloned().collect();
        hosts
            .into_iter()
            .chain(sessions.iter().map(|entry| self.state.session_report(entry).state))
            .collect()
    }

    /// A stream to a lease's upstream, through the tunnel that the lease names.
    ///
    /// # Errors
    /// When there is no such tunnel, or no answer in time.
    pub async fn connect(&self, lease: &Lease) -> io::Result<TunnelStream> {
        let session = lease.session().id;
        let tunnel = match lease.route() {
            SessionRoute::OwnTunnel => self.state.session_tunnel(session),
            SessionRoute::HostTunnel => {
                lease.session().host_id.and_then(|host| self.state.shared_tunnel(session, host))
            }
            SessionRoute::Direct(_) => None,
        };
        let tunnel = tunnel.ok_or(io::ErrorKind::NotConnected)?;
        let stream = tokio::time::timeout(DIAL_TIMEOUT, tunnel.connect(lease.port())).await;
        Ok(stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
    }

    /// A metered stream to a lease's upstream, by the session's route. Fails when the session was
    /// closed meanwhile.
    async fn dial_metered(&self, lease: &Lease) -> io::Result<Box<dyn Duplex>> {
        let session = lease.session().id;
        let path = self.state.session_path(session).ok_or(io::ErrorKind::NotConnected)?;
        let started = Instant::now();
        if let SessionRoute::Direct(name) = lease.route() {
            let stream = tokio::time::timeout(DIAL_TIMEOUT, self.state.connect_direct(name)).await;
            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            return self.metered(session, stream, path, started.elapsed());
        }
        let stream = self.connect(lease).await?;
        self.metered(session, stream, path, started.elapsed())
    }

    fn metered<S: Duplex + 'static>(
        &self,
        session: SessionId,
        stream: S,
        path: Arc<SessionPath>,
        opening: Duration,
    ) -> io::Result<Box<dyn Duplex>> {
        let is_open =
            self.state.session_path(session).is_some_and(|current| Arc::ptr_eq(&current, &path));
        if !is_open {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(Box::new(MeteredStream::new(stream, path, opening)))
    }

    /// All sessions together, now.
    #[must_use]
    pub fn metrics(&self) -> PathMetrics {
        self.state.metrics()
    }
}

impl HostFleet for HubFleet {
    fn identity(&self) -> GatewayIdentity {
        let config = &self.state.config;
        GatewayIdentity {
            public_key: config.private_key.public_key().to_string(),
            endpoint: config.endpoint.clone(),
            address: config.address,
        }
    }

    fn is_own_endpoint(&self, endpoint: SocketAddr) -> bool {
        let own = self.state.hub.local_addr();
        // An address that a socket can be bound to is one of this machine's.
        let is_own_address = || {
            own.ip() == endpoint.ip()
                || (own.ip().is_unspecified()
                    && std::net::UdpSocket::bind(SocketAddr::new(endpoint.ip(), 0)).is_ok())
        };
        own.port() == endpoint.port() && is_own_address()
    }

    fn add_host(&self, peer: HostPeer) -> Result<(), FleetError> {
        let state = &self.state;
        let HostPeer { host, preshared_key } = peer;
        let id = TunnelId(host.id.0);
        let config = PeerConfig {
            id,
            private_key: state.config.private_key.clone(),
            peer_public_key: parse_public_key(&host.public_key)?,
            preshared_key: parse_preshared_key(&preshared_key)?,
            endpoint: host.endpoint,
            local_addr: match host.address {
                IpAddr::V4(_) => state.config.address,
                IpAddr::V6(_) => {
                    gateway_v6(&state.config.private_key.public_key().to_string()).into()
                }
            },
            peer_addr: host.address,
            // A standard peer announces a new endpoint but not its end: keepalives and probes from
            // here detect that.
            keepalive: (host.kind == HostKind::Peer).then_some(PEER_KEEPALIVE),
            profile: if host.kind == HostKind::Peer { Profile::Standard } else { Profile::Control },
        };
        let mut hosts = state.hosts();
        hosts.remove(&host.id);
        state.hub.remove(id);
        let tunnel = state.hub.add_peer(config).map_err(tunnel_error)?;
        let monitor = tokio::spawn(host_monitor::monitor_host(
            Arc::downgrade(state),
            host.id,
            host.kind,
            tunnel.clone(),
        ))
        .abort_handle();
        if host.endpoint.is_some() {
            tunnel.initiate();
        }
        hosts.insert(
            host.id,
            HostEntry {
                kind: host.kind,
                public_key: host.public_key,
                tunnel,
                capabilities: None,
                changed: watch::Sender::new(0),
                monitor,
            },
        );
        drop(hosts);
        state.notify_hosts_changed();
        Ok(())
    }

    fn remove_host(&self, id: HostId) {
        self.state.hosts().remove(&id);
        self.state.hub.remove(TunnelId(id.0));
        self.state.notify_hosts_changed();
    }

    fn host(&self, id: HostId) -> Option<TunnelReport> {
        self.state.host_tunnel(id).as_ref().map(tunnel_report)
    }

    fn connected(&self) -> Vec<HostId> {
        let hosts = self.state.hosts();
        hosts
            .iter()
            .filter(|(_, entry)| entry.tunnel.status() == TunnelStatus::Encrypted)
            .map(|(id, _)| *id)
            .collect()
    }

    fn start(
        &self,
        host: Option<HostId>,
        order: DesktopOrder,
    ) -> BoxFuture<'_, Result<DesktopStarted, FleetError>> {
        Box::pin(launch::launch(&self.state, host, order))
    }

    fn drop_keys(&self, session: SessionId) {
        self.state.close_session(session);
    }

    fn stop(
        &self,
        host: Option<HostId>,
        session: SessionId,
    ) -> BoxFuture<'_, Result<(), FleetError>> {
        self.state.close_session(session);
        Box::pin(self.state.stop(host, session))
    }

    fn restore(&self, peer: SessionPeer) -> Result<(), FleetError> {
        let state = &self.state;
        match peer.way {
            SessionRoute::OwnTunnel => {}
            SessionRoute::HostTunnel => {
                let host = peer.host_id.ok_or_else(without_host)?;
                return state.add_shared(peer.session_id, SharedRoute::Host(host)).map(drop);
            }
            SessionRoute::Direct(name) => {
                return state.add_shared(peer.session_id, SharedRoute::Direct(name)).map(drop);
            }
        }
        let host = peer.host_id.ok_or_else(without_host)?;
        let (key, psk) =
            (parse_public_key(&peer.peer_public_key)?, parse_preshared_key(&peer.preshared_key)?);
        let endpoint = state.host_tunnel(host).and_then(|tunnel| tunnel.stats().endpoint);
        let config = state.session_peer(peer.session_id, peer.address, key, psk, endpoint);
        state.add_session(peer.session_id, host, config).map(drop).map_err(tunnel_error)
    }

    fn tunnel(&self, session: SessionId) -> Option<TunnelReport> {
        let own = self.state.sessions().get(&session).cloned();
        match own {
            Some(entry) => {
                self.state.refresh_rtt(&entry.tunnel, &entry.path);
                let report = self.state.session_report(&entry);
                Some(TunnelReport {
                    rtt: entry.path.host_rtt().or(report.rtt),
                    desktop_rtt: entry.path.desktop_rtt(),
                    ..report
                })
            }
            None => self.state.shared_report(session),
        }
    }

    fn capabilities(&self, host: HostId) -> Option<Arc<HostCapabilities>> {
        self.state.hosts().get(&host).and_then(|entry| entry.capabilities.clone())
    }

    fn direct_targets(&self) -> Vec<String> {
        self.state.config.direct.keys().cloned().collect()
    }

    fn resolve_target<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<IpAddr, FleetError>> {
        Box::pin(self.state.resolve_target(name))
    }

    fn inventory(&self, host: HostId) -> BoxFuture<'_, Result<Vec<SessionId>, FleetError>> {
        Box::pin(self.state.inventory(host))
    }

    fn agent_uptime(&self, host: HostId) -> BoxFuture<'_, Option<Duration>> {
        Box::pin(self.state.agent_uptime(host))
    }

    fn hosts_changed(&self) -> watch::Receiver<u64> {
        self.state.subscribe_hosts_changed()
    }

    fn host_changed(&self, host: HostId) -> watch::Receiver<u64> {
        self.state.subscribe_host_changed(host)
    }
}

impl Dial for HubFleet {
    fn dial<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        Box::pin(self.dial_metered(lease))
    }
}
