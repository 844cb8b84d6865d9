//! A fleet without hosts or tunnels: it behaves as planned and records its calls.
//!
//! Starts succeed, fail, hang or wait at a gate; hosts connect, disconnect and lose desktops.

mod controls;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use portcullis::broker::model::{GatewayIdentity, HostCapabilities, TunnelReport, TunnelState};
use portcullis::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, Endpoint, FleetError, HostFleet, HostPeer, ProbeFailure,
    SessionPeer,
};
use portcullis::domain::secret::{SecretBytes, SecretString};
use portcullis::domain::upstream::Fingerprint;
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{HostId, SessionId, Timestamp};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// The result of the next calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Plan {
    /// Succeed.
    #[default]
    Work,
    /// Refuse, as any host would.
    Refuse,
    /// Every place is taken.
    Full,
    /// The host itself cannot.
    Break,
    /// Fail half-way.
    Fail,
    /// Never answer.
    Hang,
    /// Wait for [`FakeFleet::open_gate`], then succeed.
    Gate,
}

#[derive(Default)]
struct FleetState {
    hosts: HashMap<HostId, bool>,
    host_keys: HashMap<HostId, Vec<u8>>,
    desktops: HashMap<HostId, HashSet<SessionId>>,
    tunnels: HashMap<SessionId, Vec<u8>>,
    start: Plan,
    stop: Plan,
    start_on: HashMap<HostId, Plan>,
    stop_on: HashMap<HostId, Plan>,
    stops_asked: HashMap<HostId, usize>,
    uptimes: HashMap<HostId, Duration>,
    starts_asked: HashMap<HostId, usize>,
    started: Vec<SessionId>,
    stopped: Vec<SessionId>,
    cut: Vec<SessionId>,
    restored: Vec<SessionId>,
    wanted: HashMap<SessionId, String>,
    certificate: Option<Fingerprint>,
    direct: HashMap<String, IpAddr>,
    offers: HashMap<HostId, Arc<HostCapabilities>>,
    unanswered: Option<ProbeFailure>,
    pins: HashMap<SessionId, Option<Fingerprint>>,
    listens_at: Option<SocketAddr>,
}

pub struct FakeFleet {
    inside: Mutex<FleetState>,
    changed: watch::Sender<u64>,
    gate: Semaphore,
    begun: watch::Sender<u64>,
}

impl Default for FakeFleet {
    fn default() -> Self {
        Self {
            inside: Mutex::default(),
            changed: watch::channel(0).0,
            gate: Semaphore::new(0),
            begun: watch::channel(0).0,
        }
    }
}

fn report(state: TunnelState) -> TunnelReport {
    TunnelReport {
        state,
        last_handshake_at: Some(Timestamp(1)),
        tx_bytes: 7,
        rx_bytes: 11,
        rtt: Some(Duration::from_millis(1)),
        desktop_rtt: None,
        retransmits: 0,
        endpoint: Some("127.0.0.1:4000".parse().unwrap()),
    }
}

impl HostFleet for FakeFleet {
    fn identity(&self) -> GatewayIdentity {
        GatewayIdentity {
            public_key: "Z2F0ZXdheQ==".into(),
            endpoint: "127.0.0.1:51820".into(),
            address: "10.64.0.1".parse().unwrap(),
        }
    }

    fn is_own_endpoint(&self, endpoint: SocketAddr) -> bool {
        self.state().listens_at == Some(endpoint)
    }

    fn add_host(&self, peer: HostPeer) -> Result<(), FleetError> {
        let mut inside = self.state();
        inside.host_keys.insert(peer.host.id, peer.preshared_key.expose().clone());
        inside.hosts.entry(peer.host.id).or_insert(false);
        Ok(())
    }

    fn remove_host(&self, id: HostId) {
        self.state().hosts.remove(&id);
    }

    fn host(&self, id: HostId) -> Option<TunnelReport> {
        let connected = *self.state().hosts.get(&id)?;
        Some(report(if connected { TunnelState::Encrypted } else { TunnelState::Stale }))
    }

    fn connected(&self) -> Vec<HostId> {
        self.state().hosts.iter().filter(|(_, up)| **up).map(|(id, _)| *id).collect()
    }

    fn start(
        &self,
        host: Option<HostId>,
        order: DesktopOrder,
    ) -> BoxFuture<'_, Result<DesktopStarted, FleetError>> {
        async move {
            let plan = self.start_plan(host);
            self.begun.send_modify(|n| *n += 1);
            match plan {
                Plan::Work => {}
                Plan::Refuse => return Err(FleetError::Refused("no such launcher".into())),
                Plan::Full => return Err(FleetError::Full("no place".into())),
                Plan::Break => return Err(FleetError::Broken("no space left on device".into())),
                Plan::Fail => {
                    return Err(FleetError::Failed("Xtigervnc ended with status 1".into()));
                }
                Plan::Hang => return std::future::pending().await,
                Plan::Gate => self.gate.acquire().await.unwrap().forget(),
            }
            let mut inside = self.state();
            if let Some(how) =
                inside.unanswered.clone().filter(|_| order.workspace.kind() == WorkspaceKind::Html5)
            {
                return Err(how.into());
            }
            inside.pins.insert(order.session_id, order.pin);
            let server = |key: &str, port| {
                let (preshared_key, credential) =
                    (SecretBytes::new(Vec::new()), SecretString::new(String::new()));
                Ok(DesktopStarted {
                    peer_public_key: key.to_owned(),
                    preshared_key,
                    port,
                    credential,
                    certificate: None,
                })
            };
            if let Endpoint::Direct { .. } = order.endpoint {
                inside.started.push(order.session_id);
                return server("", 5900);
            }
            let Some(host) = host.filter(|host| inside.hosts.get(host).is_some_and(|up| *up))
            else {
                return Err(FleetError::NotConnected);
            };
            if let Endpoint::HostPort { port } = order.endpoint {
                inside.desktops.entry(host).or_default().insert(order.session_id);
                inside.wanted.insert(order.session_id, port.to_string());
                return server("cGVlcg==", port);
            }
            let mut certificate = None;
            if let Endpoint::Service { name } = order.endpoint {
                inside.wanted.insert(order.session_id, name);
            } else if order.workspace.kind() == WorkspaceKind::Rdp {
                certificate = inside.certificate;
            }
            let key = order.session_id.0.as_bytes().repeat(2);
            inside.desktops.entry(host).or_default().insert(order.session_id);
            inside.tunnels.insert(order.session_id, key.clone());
            inside.started.push(order.session_id);
            Ok(DesktopStarted {
                peer_public_key: "aG9zdA==".into(),
                preshared_key: SecretBytes::new(key),
                port: 5900,
                credential: SecretString::new(format!("vnc-{}", order.session_id)),
                certificate,
            })
        }
        .boxed()
    }

    fn drop_keys(&self, session: SessionId) {
        let mut inside = self.state();
        inside.tunnels.remove(&session);
        inside.cut.push(session);
    }

    fn stop(
        &self,
        host: Option<HostId>,
        session: SessionId,
    ) -> BoxFuture<'_, Result<(), FleetError>> {
        async move {
            let plan = self.stop_plan(host);
            match plan {
                Plan::Work => {}
                Plan::Refuse | Plan::Fail | Plan::Full | Plan::Break => {
                    return Err(FleetError::Failed("cannot".into()));
                }
                Plan::Hang => return std::future::pending().await,
                Plan::Gate => self.gate.acquire().await.unwrap().forget(),
            }
            let mut inside = self.state();
            if host.is_some_and(|host| !inside.hosts.get(&host).is_some_and(|up| *up)) {
                return Err(FleetError::NotConnected);
            }
            inside.tunnels.remove(&session);
            if let Some(desktops) = host.and_then(|host| inside.desktops.get_mut(&host)) {
                desktops.remove(&session);
            }
            inside.stopped.push(session);
            Ok(())
        }
        .boxed()
    }

    fn restore(&self, peer: SessionPeer) -> Result<(), FleetError> {
        let mut inside = self.state();
        inside.tunnels.insert(peer.session_id, peer.preshared_key.expose().clone());
        inside.restored.push(peer.session_id);
        Ok(())
    }

    fn tunnel(&self, session: SessionId) -> Option<TunnelReport> {
        let inside = self.state();
        if !inside.tunnels.contains_key(&session) {
            return None;
        }
        let host = inside.desktops.iter().find(|(_, desktops)| desktops.contains(&session));
        let is_up = host.is_none_or(|(host, _)| inside.hosts.get(host).is_some_and(|up| *up));
        Some(report(if is_up { TunnelState::Encrypted } else { TunnelState::Stale }))
    }

    fn inventory(&self, host: HostId) -> BoxFuture<'_, Result<Vec<SessionId>, FleetError>> {
        async move {
            let inside = self.state();
            if !inside.hosts.get(&host).is_some_and(|up| *up) {
                return Err(FleetError::NotConnected);
            }
            Ok(inside.desktops.get(&host).into_iter().flatten().copied().collect())
        }
        .boxed()
    }

    fn agent_uptime(&self, host: HostId) -> BoxFuture<'_, Option<Duration>> {
        let uptime = self.state().uptimes.get(&host).copied();
        std::future::ready(uptime).boxed()
    }

    fn capabilities(&self, host: HostId) -> Option<Arc<HostCapabilities>> {
        self.state().offers.get(&host).cloned()
    }

    fn direct_targets(&self) -> Vec<String> {
        self.state().direct.keys().cloned().collect()
    }

    fn resolve_target<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<IpAddr, FleetError>> {
        let found = self.state().direct.get(name).copied();
        async move { found.ok_or(FleetError::NotConnected) }.boxed()
    }

    fn hosts_changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
