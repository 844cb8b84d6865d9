//! The gateway's side of hosts and their tunnels: the broker's [`HostFleet`] and the viewer's [`Dial`],
//! on a [`Hub`] and the agents' control API.
//!
//! - A **host** has its tunnel, and a task that follows it: it asks the agent for changes, over and
//!   over, so a host that falls silent and a desktop that ends are noticed without anybody asking.
//! - A **session** has its tunnel, and what that is made of, so that it can be made again when its
//!   host is somewhere else by now.
//! - A **standard peer** has its tunnel, too; sessions on it share that (see `shared`), and its
//!   follower knocks instead of asking.
//! - Everything here is in memory; the broker stores what a restart needs and puts it back with
//!   [`HostFleet::restore`].

mod host_monitor;
mod metered_stream;
mod readiness_probe;
mod shared;

use crate::broker::model::{GatewayIdentity, HostCapabilities, TunnelReport, TunnelState};
use crate::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, Endpoint, FleetError, HostFleet, HostPeer, SessionPeer,
};
use crate::domain::host::HostKind;
use crate::domain::lease::Lease;
use crate::domain::route::{SessionRoute, gateway_v6};
use crate::domain::secret::{SecretBytes, SecretString};
use crate::domain::sync::lock;
use crate::domain::upstream::Fingerprint;
use crate::domain::{HostId, SessionId, Timestamp};
use crate::host::control::{self, Client, ClientError, Order, OrderTunnel, OrderWorkspace};
use crate::tunnel::{
    Hub, PeerConfig, PresharedKey, PrivateKey, Profile, PublicKey, Tunnel, TunnelError, TunnelId,
    TunnelStatus, TunnelStream,
};
use crate::viewer::{Dial, Duplex};
use futures_util::future::BoxFuture;
use metered_stream::{MeteredStream, SessionPath};
use readiness_probe::ReadinessProbe;
pub use shared::FleetMetrics;
use shared::{SharedEntry, SharedRoute, Totals};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

/// Longest wait for an agent to end a desktop: it grants two seconds itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest wait for an agent's list.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a stream to a desktop.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a standard peer hears from us, whatever else is said.
const PEER_KEEPALIVE: Duration = Duration::from_secs(25);
/// Ways to hosts measured at once.
const MAX_CONCURRENT_PROBES: usize = 64;

/// What a fleet is made of.
#[derive(Debug)]
pub struct FleetConfig {
    /// The gateway's WireGuard key: the one in every tunnel.
    pub private_key: PrivateKey,
    /// What hosts dial, `host:port`.
    pub endpoint: String,
    /// The gateway's address inside every tunnel.
    pub address: IpAddr,
    /// Longest start of a desktop.
    pub start_timeout: Duration,
    /// The direct targets the configuration allows: `host:port` by name.
    pub direct: HashMap<String, String>,
}

/// Hosts and sessions, through their tunnels.
#[derive(Clone, Debug)]
pub struct HubFleet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hub: Hub,
    config: FleetConfig,
    hosts: Mutex<HashMap<HostId, HostEntry>>,
    sessions: Mutex<HashMap<SessionId, SessionEntry>>,
    shared: Mutex<HashMap<SessionId, SharedEntry>>,
    changed: watch::Sender<u64>,
    /// What sessions that are over had sent again and moved; so that sums never fall.
    closed_totals: Mutex<Totals>,
    probe_permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct HostEntry {
    kind: HostKind,
    public_key: String,
    tunnel: Tunnel,
    offers: Option<Arc<HostCapabilities>>,
    monitor: AbortHandle,
}

impl Drop for HostEntry {
    fn drop(&mut self) {
        self.monitor.abort();
    }
}

#[derive(Debug, Clone)]
struct SessionEntry {
    host: HostId,
    tunnel: Tunnel,
    config: PeerConfig,
    path: Arc<SessionPath>,
}

impl HubFleet {
    /// A fleet without hosts, on a hub.
    #[must_use]
    pub fn new(hub: Hub, config: FleetConfig) -> Self {
        let inner = Inner {
            hub,
            config,
            hosts: Mutex::default(),
            sessions: Mutex::default(),
            shared: Mutex::default(),
            changed: watch::Sender::new(0),
            closed_totals: Mutex::default(),
            probe_permits: Arc::new(Semaphore::new(MAX_CONCURRENT_PROBES)),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The state of every tunnel, of hosts and of sessions.
    #[must_use]
    pub fn tunnel_states(&self) -> Vec<TunnelState> {
        let hosts: Vec<TunnelState> =
            self.inner.hosts().values().map(|entry| tunnel_report(&entry.tunnel).state).collect();
        let sessions: Vec<SessionEntry> = self.inner.sessions().values().cloned().collect();
        hosts
            .into_iter()
            .chain(sessions.iter().map(|entry| self.inner.session_report(entry).state))
            .collect()
    }

    /// A stream to a lease's desktop, through a tunnel. The lease alone says which.
    ///
    /// # Errors
    /// When there is no such tunnel, or nobody answers in it in time.
    pub async fn connect(&self, lease: &Lease) -> io::Result<TunnelStream> {
        let session = lease.session().id;
        let tunnel = match lease.route() {
            SessionRoute::OwnTunnel => self.inner.session_tunnel(session),
            SessionRoute::HostTunnel => self.inner.shared_tunnel(session, lease.session().host_id),
            SessionRoute::Direct(_) => None,
        };
        let tunnel = tunnel.ok_or(io::ErrorKind::NotConnected)?;
        let stream = tokio::time::timeout(DIAL_TIMEOUT, tunnel.connect(lease.port())).await;
        Ok(stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
    }
}

impl Inner {
    fn hosts(&self) -> MutexGuard<'_, HashMap<HostId, HostEntry>> {
        lock(&self.hosts)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, SessionEntry>> {
        lock(&self.sessions)
    }

    fn notify_hosts_changed(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn host_tunnel(&self, host: HostId) -> Option<Tunnel> {
        self.hosts().get(&host).map(|entry| entry.tunnel.clone())
    }

    /// What a session's tunnel says, and no more than its host's does. A quiet session sends
    /// nothing that could go unanswered, so by itself its tunnel would count as encrypted until its
    /// keys are too old; its host is asked something every few seconds, over the same way.
    fn session_report(&self, entry: &SessionEntry) -> TunnelReport {
        let report = tunnel_report(&entry.tunnel);
        let host_answers = self
            .host_tunnel(entry.host)
            .is_some_and(|host| host.status() == TunnelStatus::Encrypted);
        match report.state {
            TunnelState::Encrypted if !host_answers => {
                TunnelReport { state: TunnelState::Stale, ..report }
            }
            _ => report,
        }
    }

    /// A session's tunnel, made again when it does not answer and its host is heard from elsewhere
    /// than where it calls.
    fn session_tunnel(&self, session: SessionId) -> Option<Tunnel> {
        let entry = self.sessions().get(&session).cloned()?;
        let host_at = self.host_tunnel(entry.host).and_then(|tunnel| tunnel.stats().endpoint);
        let dead = entry.tunnel.status() != TunnelStatus::Encrypted;
        if dead && host_at.is_some() && host_at != entry.tunnel.stats().endpoint {
            let again = self.add_session(
                session,
                entry.host,
                PeerConfig { endpoint: host_at, ..entry.config },
            );
            return again.ok();
        }
        Some(entry.tunnel)
    }

    /// Calls a host in the sessions whose tunnels do not answer: after a restart they were put back
    /// before the host was heard.
    fn reconnect_sessions(&self, host: HostId) {
        let of_host = |entry: &SessionEntry| {
            entry.host == host && entry.tunnel.status() != TunnelStatus::Encrypted
        };
        let silent: Vec<_> =
            self.sessions().iter().filter(|(_, entry)| of_host(entry)).map(|(id, _)| *id).collect();
        for session in silent {
            if let Some(tunnel) = self.session_tunnel(session) {
                tunnel.initiate();
            }
        }
    }

    fn add_session(
        &self,
        session: SessionId,
        host: HostId,
        made_of: PeerConfig,
    ) -> Result<Tunnel, TunnelError> {
        let mut sessions = self.sessions();
        let line = sessions.get(&session).map_or_else(SessionPath::new, |entry| {
            self.add_closed(&entry.tunnel);
            entry.path.clone()
        });
        self.hub.remove(TunnelId(session.0));
        let tunnel = self.hub.add_peer(made_of.clone())?;
        sessions.insert(
            session,
            SessionEntry { host, tunnel: tunnel.clone(), config: made_of, path: line },
        );
        drop(sessions);
        tunnel.initiate();
        Ok(tunnel)
    }

    fn session_peer(
        &self,
        session: SessionId,
        address: IpAddr,
        key: PublicKey,
        psk: PresharedKey,
        endpoint: Option<SocketAddr>,
    ) -> PeerConfig {
        PeerConfig {
            id: TunnelId(session.0),
            private_key: self.config.private_key.clone(),
            peer_public_key: key,
            preshared_key: psk,
            endpoint,
            local_addr: self.config.address,
            peer_addr: address,
            keepalive: None,
            profile: Profile::Stream,
        }
    }

    fn close_session(&self, session: SessionId) {
        if let Some(entry) = self.sessions().remove(&session) {
            self.add_closed(&entry.tunnel);
            entry.path.cuts.revoke();
        }
        self.hub.remove(TunnelId(session.0));
        self.close_shared(session);
    }

    /// A control connection to a connected host.
    async fn client(&self, host: HostId) -> Result<Client, FleetError> {
        let tunnel = self.host_tunnel(host).ok_or(FleetError::NotConnected)?;
        let stream = tunnel.connect(control::PORT).await.map_err(|_| FleetError::NotConnected)?;
        Client::new(stream).await.map_err(control_error)
    }

    async fn stop(&self, host: HostId, session: SessionId) -> Result<(), FleetError> {
        // Only an agent started something that could be ended.
        if host.0.is_nil()
            || self.hosts().get(&host).is_some_and(|entry| entry.kind == HostKind::Peer)
        {
            return Ok(());
        }
        let asked = async { self.client(host).await?.stop(session).await.map_err(control_error) };
        tokio::time::timeout(STOP_TIMEOUT, asked).await.map_err(|_| FleetError::Timeout)?
    }

    async fn start(&self, host: HostId, order: DesktopOrder) -> Result<DesktopStarted, FleetError> {
        let session = order.session_id;
        let question = ReadinessProbe::for_order(&order);
        let service = match order.endpoint {
            Endpoint::Desktop => None,
            Endpoint::Service { name } => Some(name),
            Endpoint::HostPort { port } => {
                return self.start_server(session, host, port, &question).await;
            }
            Endpoint::Direct { name } => return self.start_direct(session, name, &question).await,
        };
        let host_tunnel = self
            .host_tunnel(host)
            .filter(|tunnel| tunnel.status() == TunnelStatus::Encrypted)
            .ok_or(FleetError::NotConnected)?;
        let psk = PresharedKey::generate()
            .map_err(|_| FleetError::Failed("no randomness for a key".to_owned()))?;
        let address = order.address;
        let order = Order {
            protocol: control::PROTOCOL,
            session_id: session,
            user_id: order.user_id,
            user_name: order.user_name.chars().take(control::NAME_MAX).collect(),
            workspace: OrderWorkspace {
                id: order.workspace.id,
                name: order.workspace.name.chars().take(control::NAME_MAX).collect(),
                kind: order.workspace.kind,
                network: order.workspace.network,
                service,
            },
            tunnel: OrderTunnel {
                preshared_key: SecretString::new(psk.expose_base64().to_string()),
                host_address: address,
                gateway_address: self.config.address,
            },
            grace_seconds: order.grace.min(control::GRACE_MAX).as_secs(),
        };
        let started = self
            .client(host)
            .await?
            .start(&order)
            .await
            .map_err(|error| question.agent_error(error))?;
        let key: PublicKey = started
            .public_key
            .parse()
            .map_err(|_| FleetError::Failed("the host gave no key".to_owned()))?;
        let peer =
            self.session_peer(session, address, key, psk.clone(), host_tunnel.stats().endpoint);
        let tunnel = self.add_session(session, host, peer).map_err(tunnel_error)?;
        tunnel.wait_for_handshake().await.map_err(tunnel_error)?;
        let line = self
            .sessions()
            .get(&session)
            .map(|entry| entry.path.clone())
            .ok_or(FleetError::NotConnected)?;
        let began = Instant::now();
        let stream =
            tunnel.connect(started.port).await.map_err(|error| question.tunnel_error(error))?;
        question.run(MeteredStream::new(stream, line, began.elapsed())).await?;
        Ok(DesktopStarted {
            peer_public_key: started.public_key,
            preshared_key: SecretBytes::new(psk.expose().to_vec()),
            port: started.port,
            credential: started.password,
            certificate: started.certificate.as_deref().and_then(Fingerprint::parse),
        })
    }
}

/// A launch that has not succeeded yet. Dropped, for whatever reason, it takes back what was made.
struct LaunchGuard {
    inner: Arc<Inner>,
    host: HostId,
    session: SessionId,
    finished: bool,
}

impl LaunchGuard {
    async fn abort(mut self) {
        self.finished = true;
        self.inner.close_session(self.session);
        if let Err(error) = self.inner.stop(self.host, self.session).await {
            tracing::warn!(session = %self.session, %error, "a failed launch may have left its desktop; the reaper asks again");
        }
    }
}

impl Drop for LaunchGuard {
    fn drop(&mut self) {
        if !self.finished {
            self.inner.close_session(self.session);
            let (inner, host, session) = (self.inner.clone(), self.host, self.session);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { inner.stop(host, session).await });
            }
        }
    }
}

fn tunnel_error(error: TunnelError) -> FleetError {
    FleetError::Failed(error.to_string())
}

fn control_error(error: ClientError) -> FleetError {
    match error {
        ClientError::Refused { detail, .. } => FleetError::Refused(detail),
        ClientError::Connection(_) => FleetError::NotConnected,
        ClientError::InvalidResponse => FleetError::Failed(error.to_string()),
    }
}

fn tunnel_report(tunnel: &Tunnel) -> TunnelReport {
    let stats = tunnel.stats();
    TunnelReport {
        state: match tunnel.status() {
            TunnelStatus::Connecting => TunnelState::Connecting,
            TunnelStatus::Encrypted => TunnelState::Encrypted,
            TunnelStatus::Stale => TunnelState::Stale,
            TunnelStatus::Down => TunnelState::Down,
        },
        last_handshake_at: stats.last_handshake.map(Timestamp::from),
        tx_bytes: stats.tx_bytes,
        rx_bytes: stats.rx_bytes,
        rtt: stats.rtt,
        desktop_rtt: None,
        retransmits: stats.retransmits,
        endpoint: stats.endpoint,
    }
}

fn parse_preshared_key(bytes: &SecretBytes) -> Result<PresharedKey, FleetError> {
    let key: Result<[u8; 32], _> = bytes.expose().as_slice().try_into();
    key.map(PresharedKey::from_bytes)
        .map_err(|_| FleetError::Failed("a stored key is not a key".to_owned()))
}

fn parse_public_key(text: &str) -> Result<PublicKey, FleetError> {
    text.parse().map_err(|_| FleetError::Failed("a stored key is not a key".to_owned()))
}

impl HostFleet for HubFleet {
    fn identity(&self) -> GatewayIdentity {
        let config = &self.inner.config;
        GatewayIdentity {
            public_key: config.private_key.public_key().to_string(),
            endpoint: config.endpoint.clone(),
            address: config.address,
        }
    }

    fn add_host(&self, peer: HostPeer) -> Result<(), FleetError> {
        let inner = &self.inner;
        let HostPeer { host, preshared_key } = peer;
        let id = TunnelId(host.id.0);
        let config = PeerConfig {
            id,
            private_key: inner.config.private_key.clone(),
            peer_public_key: parse_public_key(&host.public_key)?,
            preshared_key: parse_preshared_key(&preshared_key)?,
            endpoint: host.endpoint,
            local_addr: match host.address {
                IpAddr::V4(_) => inner.config.address,
                IpAddr::V6(_) => {
                    gateway_v6(&inner.config.private_key.public_key().to_string()).into()
                }
            },
            peer_addr: host.address,
            // A standard peer says by itself when it moves, but not when it is gone: it is called,
            // and called again, from here.
            keepalive: (host.kind == HostKind::Peer).then_some(PEER_KEEPALIVE),
            profile: if host.kind == HostKind::Peer { Profile::Standard } else { Profile::Control },
        };
        let mut hosts = inner.hosts();
        hosts.remove(&host.id);
        inner.hub.remove(id);
        let tunnel = inner.hub.add_peer(config).map_err(tunnel_error)?;
        let follower = tokio::spawn(host_monitor::monitor_host(
            Arc::downgrade(inner),
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
                offers: None,
                monitor: follower,
            },
        );
        drop(hosts);
        inner.notify_hosts_changed();
        Ok(())
    }

    fn remove_host(&self, id: HostId) {
        self.inner.hosts().remove(&id);
        self.inner.hub.remove(TunnelId(id.0));
        self.inner.notify_hosts_changed();
    }

    fn host(&self, id: HostId) -> Option<TunnelReport> {
        self.inner.host_tunnel(id).as_ref().map(tunnel_report)
    }

    fn connected(&self) -> Vec<HostId> {
        let hosts = self.inner.hosts();
        hosts
            .iter()
            .filter(|(_, entry)| entry.tunnel.status() == TunnelStatus::Encrypted)
            .map(|(id, _)| *id)
            .collect()
    }

    fn start(
        &self,
        host: HostId,
        order: DesktopOrder,
    ) -> BoxFuture<'_, Result<DesktopStarted, FleetError>> {
        Box::pin(async move {
            let inner = &self.inner;
            let mut attempt = LaunchGuard {
                inner: inner.clone(),
                host,
                session: order.session_id,
                finished: false,
            };
            match tokio::time::timeout(inner.config.start_timeout, inner.start(host, order))
                .await
                .unwrap_or(Err(FleetError::Timeout))
            {
                Ok(started) => {
                    attempt.finished = true;
                    Ok(started)
                }
                Err(FleetError::NotConnected)
                    if inner.host_tunnel(host).is_none() && !host.0.is_nil() =>
                {
                    attempt.finished = true;
                    Err(FleetError::NotConnected)
                }
                Err(error) => {
                    attempt.abort().await;
                    Err(error)
                }
            }
        })
    }

    fn drop_keys(&self, session: SessionId) {
        self.inner.close_session(session);
    }

    fn stop(&self, host: HostId, session: SessionId) -> BoxFuture<'_, Result<(), FleetError>> {
        self.inner.close_session(session);
        Box::pin(self.inner.stop(host, session))
    }

    fn restore(&self, peer: SessionPeer) -> Result<(), FleetError> {
        let inner = &self.inner;
        match peer.way {
            SessionRoute::OwnTunnel => {}
            SessionRoute::HostTunnel => {
                return inner
                    .add_shared(peer.session_id, SharedRoute::Host(peer.host_id))
                    .map(drop);
            }
            SessionRoute::Direct(name) => {
                return inner.add_shared(peer.session_id, SharedRoute::Direct(name)).map(drop);
            }
        }
        let (key, psk) =
            (parse_public_key(&peer.peer_public_key)?, parse_preshared_key(&peer.preshared_key)?);
        let endpoint = inner.host_tunnel(peer.host_id).and_then(|tunnel| tunnel.stats().endpoint);
        let made_of = inner.session_peer(peer.session_id, peer.address, key, psk, endpoint);
        inner.add_session(peer.session_id, peer.host_id, made_of).map(drop).map_err(tunnel_error)
    }

    fn tunnel(&self, session: SessionId) -> Option<TunnelReport> {
        let own = self.inner.sessions().get(&session).cloned();
        match own {
            Some(entry) => {
                self.inner.refresh_rtt(&entry.tunnel, &entry.path);
                let told = self.inner.session_report(&entry);
                Some(TunnelReport {
                    rtt: entry.path.host_rtt().or(told.rtt),
                    desktop_rtt: entry.path.desktop_rtt(),
                    ..told
                })
            }
            None => self.inner.shared_report(session),
        }
    }

    fn capabilities(&self, host: HostId) -> Option<Arc<HostCapabilities>> {
        self.inner.hosts().get(&host).and_then(|entry| entry.offers.clone())
    }

    fn direct_targets(&self) -> Vec<String> {
        self.inner.config.direct.keys().cloned().collect()
    }

    fn resolve_target<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<IpAddr, FleetError>> {
        Box::pin(self.inner.locate(name))
    }

    fn inventory(&self, host: HostId) -> BoxFuture<'_, Result<Vec<SessionId>, FleetError>> {
        Box::pin(async move {
            let asked =
                async { self.inner.client(host).await?.desktops().await.map_err(control_error) };
            let desktops = tokio::time::timeout(CONTROL_TIMEOUT, asked)
                .await
                .map_err(|_| FleetError::Timeout)??;
            Ok(desktops.into_iter().map(|desktop| desktop.session_id).collect())
        })
    }

    fn hosts_changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }
}

impl Dial for HubFleet {
    fn dial<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        Box::pin(self.dial_metered(lease))
    }
}
