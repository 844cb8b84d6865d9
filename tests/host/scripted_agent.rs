//! An agent whose answers a test decides, on a real tunnel.

use super::gateway_harness::{GATEWAY, Gateway, GatewayState, HOST, peer};
use futures_util::future::BoxFuture;
use portcullis::broker::ports::host_fleet::HostFleet;
use portcullis::domain::SessionId;
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::host::control::{
    self, ControlHandler, DesktopInfo, Health, Memory, Order, PORT, PROTOCOL, Refusal, Started,
};
use portcullis::tunnel::{Hub, HubConfig, PeerConfig, PrivateKey, Profile, TunnelId};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What the agent was asked, and how it answers.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Since when, and how often it was asked for changes; it answers each at once with another
    /// number.
    pub(super) changes: watch::Sender<Option<(Instant, u32)>>,
    /// How it refuses to start a desktop.
    pub(super) refusal: Mutex<Option<Refusal>>,
}

impl ControlHandler for Script {
    fn health(self: Arc<Self>) -> BoxFuture<'static, Health> {
        let health = Health {
            protocol: PROTOCOL,
            version: "scripted".to_owned(),
            uptime_ms: 1,
            desktops: 0,
            load: [0.0; 3],
            memory: Memory::default(),
            kinds: vec![WorkspaceKind::Linux],
            services: Vec::new(),
            service_kinds: Vec::new(),
            limits: None,
            slots: None,
        };
        Box::pin(std::future::ready(health))
    }

    fn desktops(&self) -> Vec<DesktopInfo> {
        Vec::new()
    }

    fn changed(self: Arc<Self>, since: Option<u64>) -> BoxFuture<'static, u64> {
        self.changes.send_modify(|seen| {
            let (began, count) = seen.unwrap_or((Instant::now(), 0));
            *seen = Some((began, count + 1));
        });
        Box::pin(std::future::ready(since.map_or(1, |n| n + 1)))
    }

    fn start(self: Arc<Self>, _order: Order) -> BoxFuture<'static, Result<Started, Refusal>> {
        let refusal = self.refusal.lock().unwrap().clone();
        let refusal = refusal.unwrap_or_else(|| Refusal::Failed("it is scripted".to_owned()));
        Box::pin(std::future::ready(Err(refusal)))
    }

    fn stop(self: Arc<Self>, _session: SessionId) -> BoxFuture<'static, Result<(), Refusal>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Connects a scripted agent to a gateway; it serves until the hub is dropped.
pub(super) async fn connect(
    state: &mut GatewayState,
    gateway: &Gateway,
    script: Arc<Script>,
) -> Hub {
    let key = PrivateKey::generate().unwrap();
    state.host.public_key = key.public_key().to_string();
    gateway.fleet.add_host(peer(state)).unwrap();
    let hub = Hub::bind(HubConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)) }).await.unwrap();
    let tunnel = hub
        .add_peer(PeerConfig {
            id: TunnelId(state.host.id.0),
            private_key: key,
            peer_public_key: state.key.public_key(),
            preshared_key: state.psk.clone(),
            endpoint: Some(SocketAddr::from(([127, 0, 0, 1], state.port))),
            local_addr: HOST,
            peer_addr: GATEWAY,
            keepalive: Some(Duration::from_secs(5)),
            profile: Profile::Control,
        })
        .unwrap();
    let mut listener = tunnel.listen(PORT, 8).unwrap();
    tunnel.initiate();
    tokio::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            tokio::spawn(control::serve(stream, script.clone()));
        }
    });
    hub
}
