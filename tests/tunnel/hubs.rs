//! Hubs on loopback, with real sockets and tasks: fixtures.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use portcullis::tunnel::{
    Hub, HubConfig, PeerConfig, PresharedKey, PrivateKey, Profile, Tunnel, TunnelId, TunnelStream,
};
use tokio::time::timeout;
use uuid::Uuid;

pub const TIMEOUT: Duration = Duration::from_secs(60);
/// WireGuard's retry interval (REKEY_TIMEOUT): what took less did not wait for a retry.
pub const HANDSHAKE_RETRY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
pub enum InnerFamily {
    V4,
    V6,
}

pub struct TunnelEnds {
    pub gateway: PrivateKey,
    agent: PrivateKey,
    psk: PresharedKey,
    addresses: (IpAddr, IpAddr),
}

impl TunnelEnds {
    pub fn new(inside: InnerFamily, n: u8) -> Self {
        let addresses = match inside {
            InnerFamily::V4 => (IpAddr::from([10, 0, n, 1]), IpAddr::from([10, 0, n, 2])),
            InnerFamily::V6 => ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()),
        };
        Self {
            gateway: PrivateKey::generate().unwrap(),
            agent: PrivateKey::generate().unwrap(),
            psk: PresharedKey::generate().unwrap(),
            addresses,
        }
    }

    pub fn gateway_config(&self, endpoint: Option<SocketAddr>) -> PeerConfig {
        self.end(&self.gateway, &self.agent, endpoint, self.addresses)
    }

    pub fn agent_config(&self, endpoint: Option<SocketAddr>) -> PeerConfig {
        self.end(&self.agent, &self.gateway, endpoint, (self.addresses.1, self.addresses.0))
    }

    fn end(
        &self,
        own: &PrivateKey,
        other: &PrivateKey,
        endpoint: Option<SocketAddr>,
        addresses: (IpAddr, IpAddr),
    ) -> PeerConfig {
        PeerConfig {
            id: TunnelId(Uuid::new_v4()),
            private_key: own.clone(),
            peer_public_key: other.public_key(),
            preshared_key: self.psk.clone(),
            endpoint,
            local_addr: addresses.0,
            peer_addr: addresses.1,
            keepalive: None,
            profile: Profile::Stream,
        }
    }
}

/// A hub on a runtime of its own, which can lose power: its tasks stop without sending anything.
pub struct Machine {
    pub runtime: tokio::runtime::Runtime,
    pub hub: Hub,
}

impl Machine {
    pub async fn boot() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let hub = runtime.spawn(hub("127.0.0.1:0")).await.unwrap();
        Self { runtime, hub }
    }

    /// Keeps the handle: dropping it would close the tunnels in order.
    pub fn power_off(self) -> Hub {
        self.runtime.shutdown_background();
        self.hub
    }
}

pub struct Pair {
    pub gateway: Tunnel,
    pub agent: Tunnel,
    pub hubs: [Hub; 2],
    pub ends: TunnelEnds,
}

impl Pair {
    pub async fn new(inside: InnerFamily) -> Self {
        Self::on("127.0.0.1:0", inside).await
    }

    /// The agent alone accepts packets of up to `mtu_max` bytes, as in the product by default.
    pub async fn with_agent_mtu_max(mtu_max: usize) -> Self {
        let hubs = [hub("127.0.0.1:0").await, hub("127.0.0.1:0").await];
        hubs[1].set_mtu_max(mtu_max);
        Self::of(hubs, InnerFamily::V4)
    }

    /// Both ends accept packets of up to `mtu_max` bytes.
    pub async fn with_mtu_max(mtu_max: usize) -> Self {
        let hubs = [hub("127.0.0.1:0").await, hub("127.0.0.1:0").await];
        hubs.iter().for_each(|hub| hub.set_mtu_max(mtu_max));
        Self::of(hubs, InnerFamily::V4)
    }

    pub async fn on(listen: &str, inside: InnerFamily) -> Self {
        Self::of([hub(listen).await, hub(listen).await], inside)
    }

    fn of(hubs: [Hub; 2], inside: InnerFamily) -> Self {
        let ends = TunnelEnds::new(inside, 0);
        let agent = hubs[1].add_peer(ends.agent_config(None)).unwrap();
        let gateway = hubs[0].add_peer(ends.gateway_config(Some(hubs[1].local_addr()))).unwrap();
        Self { gateway, agent, hubs, ends }
    }
}

pub async fn hub(listen: &str) -> Hub {
    Hub::bind(HubConfig { listen: listen.parse().unwrap() }).await.unwrap()
}

pub async fn connect(tunnel: &Tunnel, port: u16) -> TunnelStream {
    timeout(TIMEOUT, tunnel.connect(port)).await.unwrap().unwrap()
}

pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; length];
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    bytes
}
