//! Hubs on loopback: real sockets, real tasks.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use portcullis::tunnel::{
    Hub, HubConfig, PeerConfig, PresharedKey, PrivateKey, Profile, TCP_TIMEOUT, Tunnel,
    TunnelError, TunnelId, TunnelStatus, TunnelStream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use uuid::Uuid;

pub const TIMEOUT: Duration = Duration::from_secs(60);
/// WireGuard's retry interval (REKEY_TIMEOUT): what took less did not wait for a retry.
const HANDSHAKE_RETRY: Duration = Duration::from_secs(5);

// ---- handshakes, connections ----

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_passes_through_a_tunnel() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });

    near.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    far.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");
    assert_eq!(pair.gateway.status(), TunnelStatus::Encrypted);

    let stats = pair.gateway.stats();
    assert_eq!((stats.handshakes, stats.dropped), (1, 0));
    assert!(
        stats.last_handshake.is_some()
            && stats.tx_bytes > 148
            && stats.rx_bytes > 92
            && stats.rtt.is_some(),
        "{stats:?}"
    );
}

#[tokio::test]
async fn a_hub_on_own_threads_runs_alone_and_closes_with_its_last_handle() {
    let bind = || Hub::bind_on_own_threads(HubConfig { listen: "127.0.0.1:0".parse().unwrap() });
    let (gateway, agent) = (bind().await.unwrap(), bind().await.unwrap());
    let ends = TunnelEnds::new(InnerFamily::V4, 0);
    let far = agent.add_peer(ends.agent_config(None)).unwrap();
    let near = gateway.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
    near.initiate();
    // The test's only thread does nothing else.
    let began = Instant::now();
    while near.status() != TunnelStatus::Encrypted {
        assert!(began.elapsed() < TIMEOUT);
        std::thread::yield_now();
    }
    let mut listener = far.listen(5900, 4).unwrap();
    let (mut stream, _far) =
        tokio::join!(connect(&near, 5900), async { listener.accept().await.unwrap() });
    let port = gateway.local_addr();
    drop(gateway);
    let error = timeout(TIMEOUT, stream.read_u8()).await.unwrap();
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    timeout(TIMEOUT, async {
        while std::net::UdpSocket::bind(port).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_inside_and_outside() {
    let pair = Pair::on("[::1]:0", InnerFamily::V6).await;
    let mut listener = pair.agent.listen(1, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 1), async { listener.accept().await.unwrap() });
    far.write_all(b"six").await.unwrap();
    far.shutdown().await.unwrap();
    let mut text = String::new();
    near.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "six");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_half_closes_by_itself() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(7, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 7), async { listener.accept().await.unwrap() });
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    assert_eq!(near.write_all(b"more").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    far.write_all(b"answer").await.unwrap();
    drop(far);
    let mut text = String::new();
    near.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_without_listener_refuses() {
    let pair = Pair::new(InnerFamily::V4).await;
    let result = timeout(TIMEOUT, pair.gateway.connect(9)).await.unwrap();
    assert_eq!(result.unwrap_err(), TunnelError::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_has_one_listener_and_is_free_when_that_is_dropped() {
    let pair = Pair::new(InnerFamily::V4).await;
    let first = pair.agent.listen(80, 4).unwrap();
    assert_eq!(pair.agent.listen(80, 4).unwrap_err(), TunnelError::PortInUse);
    drop(first);
    let mut second = pair.agent.listen(80, 4).unwrap();
    let (_near, _far) =
        tokio::join!(connect(&pair.gateway, 80), async { second.accept().await.unwrap() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(80, 64).unwrap();
    let echo = tokio::spawn(async move {
        for _ in 0..100 {
            let mut stream = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
        listener
    });
    let clients: Vec<_> = (0..100u32)
        .map(|n| {
            let tunnel = pair.gateway.clone();
            tokio::spawn(async move {
                let mut stream = connect(&tunnel, 80).await;
                let message = pattern(u64::from(n), 20_000);
                stream.write_all(&message).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut back = Vec::new();
                stream.read_to_end(&mut back).await.unwrap();
                assert_eq!(back, message);
            })
        })
        .collect();
    for client in clients {
        timeout(TIMEOUT, client).await.unwrap().unwrap();
    }
    drop(echo.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_with_keepalive_initiates_by_itself() {
    let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
    let ends = TunnelEnds::new(InnerFamily::V4, 1);
    let keepalive = Some(Duration::from_secs(25));
    let near = gateway.add_peer(ends.gateway_config(None)).unwrap();
    let far = agent
        .add_peer(PeerConfig { keepalive, ..ends.agent_config(Some(gateway.local_addr())) })
        .unwrap();
    timeout(TIMEOUT, near.wait_for_handshake()).await.unwrap().unwrap();
    timeout(TIMEOUT, far.wait_for_handshake()).await.unwrap().unwrap();
    assert_eq!(near.stats().endpoint, Some(agent.local_addr()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_does_not_wait_for_the_current_attempt() {
    let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
    let ends = TunnelEnds::new(InnerFamily::V4, 1);
    // The gateway initiates before the agent has the tunnel.
    let near = gateway.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
    near.initiate();
    timeout(TIMEOUT, async {
        while agent.counters().unknown == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let far = agent.add_peer(ends.agent_config(None)).unwrap();
    let mut listener = far.listen(5900, 1).unwrap();
    let began = Instant::now();
    let (_a, _b) = tokio::join!(connect(&near, 5900), async { listener.accept().await.unwrap() });
    assert!(began.elapsed() < HANDSHAKE_RETRY, "{:?}", began.elapsed());
}

// ---- bulk and back-pressure ----

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarter_gigabyte_arrives_unchanged() {
    const CHUNK: usize = 1 << 20;
    const CHUNKS: u64 = 256;
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    let began = Instant::now();
    let writer = tokio::spawn(async move {
        let chunk = pattern(1, CHUNK);
        for n in 0..CHUNKS {
            far.write_all(&n.to_le_bytes()).await.unwrap();
            far.write_all(&chunk).await.unwrap();
        }
        far.shutdown().await.unwrap();
        far
    });
    let (expected, mut chunk) = (pattern(1, CHUNK), vec![0; CHUNK]);
    for n in 0..CHUNKS {
        assert_eq!(near.read_u64_le().await.unwrap(), n);
        near.read_exact(&mut chunk).await.unwrap();
        assert!(chunk == expected, "chunk {n} differs");
    }
    assert_eq!(near.read(&mut chunk).await.unwrap(), 0);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:.2} Gbit/s, {:?}, {:?}",
        (CHUNK as u64 * CHUNKS * 8) as f64 / seconds / 1e9,
        pair.gateway.stats(),
        pair.hubs[0].counters()
    );
    drop(writer.await.unwrap());
    // Loopback carries jumbo packets: with small ones, headers and tags take more than a twentieth.
    let (data_bytes, sent) = (CHUNKS * (CHUNK as u64 + 8), pair.gateway.stats().rx_bytes);
    assert!(sent * 100 < data_bytes * 105, "{sent} for {data_bytes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_reader_stops_the_writer_and_can_resume() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    // Most bytes between the two: two pipes of 256 KiB, two TCP windows of 4 MiB. There is less: a
    // window grows only while it is read from.
    const BOUND: usize = (8 << 20) + (512 << 10);
    let block = pattern(3, 64 << 10);
    let mut written = 0;
    while let Ok(result) = timeout(Duration::from_secs(2), far.write_all(&block)).await {
        result.unwrap();
        written += block.len();
        assert!(written <= BOUND, "{written} bytes were buffered");
    }
    assert!(written >= 512 << 10, "{written}");
    // The write that timed out may have written part of its block.
    let mut received = vec![0; written];
    near.read_exact(&mut received).await.unwrap();
    assert!(received.chunks(block.len()).all(|chunk| chunk == block));
    far.write_all(b"!").await.unwrap();
}

// ---- many tunnels ----

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_tunnels_on_one_hub() {
    let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
    let mut tasks = Vec::new();
    for n in 0..100u8 {
        let ends = TunnelEnds::new(InnerFamily::V4, n);
        // Odd ones have their own key on the agent and share the gateway's; all are distinguished.
        let near = gateway.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
        let far = agent.add_peer(ends.agent_config(None)).unwrap();
        tasks.push(tokio::spawn(async move {
            let mut listener = far.listen(5900, 2).unwrap();
            let (mut a, mut b) =
                tokio::join!(connect(&near, 5900), async { listener.accept().await.unwrap() });
            a.write_all(&[n; 10_000]).await.unwrap();
            a.shutdown().await.unwrap();
            let mut bytes = Vec::new();
            b.read_to_end(&mut bytes).await.unwrap();
            assert_eq!(bytes, [n; 10_000]);
        }));
    }
    for task in tasks {
        timeout(TIMEOUT, task).await.unwrap().unwrap();
    }
    assert_eq!((gateway.peers(), agent.peers()), (100, 100));
    assert_eq!(gateway.counters().unknown, 0);
    timeout(TIMEOUT, gateway.shutdown()).await.unwrap();
    assert_eq!(gateway.peers(), 0);
}

#[tokio::test]
async fn ids_and_keys_are_unique_and_free_after_removal() {
    let hub = hub("127.0.0.1:0").await;
    let (one, two) = (TunnelEnds::new(InnerFamily::V4, 1), TunnelEnds::new(InnerFamily::V4, 2));
    let tunnel = hub.add_peer(one.gateway_config(None)).unwrap();
    assert_eq!(
        hub.add_peer(PeerConfig { id: tunnel.id(), ..two.gateway_config(None) }).unwrap_err(),
        TunnelError::DuplicateId
    );
    assert_eq!(
        hub.add_peer(PeerConfig { id: TunnelId(Uuid::new_v4()), ..one.gateway_config(None) })
            .unwrap_err(),
        TunnelError::DuplicateKey
    );
    assert_eq!(
        hub.add_peer(PeerConfig {
            local_addr: "0.0.0.0".parse().unwrap(),
            ..two.gateway_config(None)
        })
        .unwrap_err(),
        TunnelError::Unaddressable
    );
    hub.remove(tunnel.id());
    assert!(hub.tunnel(tunnel.id()).is_none());
    let again = hub.add_peer(one.gateway_config(None)).unwrap();
    timeout(TIMEOUT, tunnel.closed()).await.unwrap();
    assert_eq!(tunnel.status(), TunnelStatus::Down);
    assert_eq!(hub.tunnel(again.id()).unwrap().status(), TunnelStatus::Connecting);
    assert_eq!(hub.peers(), 1);
}

// ---- closing ----

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_ends_streams_on_both_sides_at_once() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    // Data sent before the close may still arrive: the read that fails counts.
    let reading = tokio::spawn(async move {
        loop {
            if let Err(error) = near.read_u8().await {
                return error;
            }
        }
    });
    let writing = tokio::spawn(async move {
        loop {
            if let Err(error) = far.write_all(&[0; 4096]).await {
                return error;
            }
        }
    });
    let began = Instant::now();
    pair.gateway.close();
    let reading = timeout(TIMEOUT, reading).await.unwrap().unwrap();
    assert_eq!(reading.kind(), std::io::ErrorKind::ConnectionAborted);
    timeout(TIMEOUT, pair.gateway.closed()).await.unwrap();
    assert_eq!(
        timeout(TIMEOUT, writing).await.unwrap().unwrap().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    println!("both ends failed after {:?}", began.elapsed());
    assert!(
        began.elapsed() < TCP_TIMEOUT / 2,
        "{:?}: as if nothing had been data_bytes",
        began.elapsed()
    );
    assert_eq!(pair.gateway.status(), TunnelStatus::Down);
    assert_eq!(pair.gateway.connect(5900).await.unwrap_err(), TunnelError::Closed);
    assert_eq!(pair.gateway.wait_for_handshake().await.unwrap_err(), TunnelError::Closed);
    assert_eq!(pair.hubs[0].peers(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_dropped_with_data_unread_resets_the_writer() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    let writing = tokio::spawn(async move {
        loop {
            if let Err(error) = far.write_all(&[0; 4096]).await {
                return error.kind();
            }
        }
    });
    drop(near);
    assert_eq!(
        timeout(TIMEOUT, writing).await.unwrap().unwrap(),
        std::io::ErrorKind::ConnectionReset
    );
    assert_eq!(pair.gateway.status(), TunnelStatus::Encrypted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_hub_ends_its_tunnels() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, _far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    let [gateway, agent] = pair.hubs;
    drop(gateway);
    assert_eq!(
        timeout(TIMEOUT, near.read_u8()).await.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionAborted
    );
    timeout(TIMEOUT, pair.gateway.closed()).await.unwrap();
    timeout(TIMEOUT, agent.shutdown()).await.unwrap();
    assert_eq!(
        timeout(TIMEOUT, listener.accept()).await.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionAborted
    );
    assert_eq!(pair.agent.listen(1, 1).unwrap_err(), TunnelError::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_peer_times_out() {
    let gateway = hub("127.0.0.1:0").await;
    gateway.set_tcp_timeout(Duration::from_secs(1));
    let machine = Machine::boot().await;
    let ends = TunnelEnds::new(InnerFamily::V4, 1);
    let far = machine.hub.add_peer(ends.agent_config(None)).unwrap();
    let near = gateway.add_peer(ends.gateway_config(Some(machine.hub.local_addr()))).unwrap();
    let mut listener = far.listen(5900, 2).unwrap();
    let (mut a, _b) =
        tokio::join!(connect(&near, 5900), async { listener.accept().await.unwrap() });
    let began = Instant::now();
    let _dead = machine.power_off();
    let error = timeout(TIMEOUT, a.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(
        began.elapsed() < TCP_TIMEOUT / 2,
        "{:?}: as long as the default timeout",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_gateway_is_accepted_at_once() {
    let agent = hub("127.0.0.1:0").await;
    let ends = TunnelEnds::new(InnerFamily::V4, 1);
    let far = agent.add_peer(ends.agent_config(None)).unwrap();
    let mut listener = far.listen(5900, 4).unwrap();
    let mut previous = Vec::new();
    for round in 1..=3u64 {
        let machine = Machine::boot().await;
        let near = machine.hub.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
        let began = Instant::now();
        near.initiate();
        timeout(TIMEOUT, near.wait_for_handshake()).await.unwrap().unwrap();
        let (mut a, mut b) =
            tokio::join!(connect(&near, 5900), async { listener.accept().await.unwrap() });
        a.write_all(b"again").await.unwrap();
        let mut buffer = [0; 5];
        b.read_exact(&mut buffer).await.unwrap();
        assert!(began.elapsed() < HANDSHAKE_RETRY, "{:?}", began.elapsed());
        assert_eq!(far.stats().endpoint, Some(machine.hub.local_addr()));
        assert_eq!(far.stats().handshakes, round);
        previous.push((b, machine.power_off()));
    }
}

// ---- invalid datagrams ----

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_datagrams_are_counted_and_the_stream_continues() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    let target = pair.hubs[0].local_addr();
    let flood = tokio::spawn(async move {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for n in 0..5000u64 {
            let mut junk = pattern(n, [0, 1, 32, 64, 92, 148, 1200][n as usize % 7]);
            if let Some(kind) = junk.first_chunk_mut::<4>() {
                *kind = u32::to_le_bytes((n / 7 % 6) as u32);
            }
            socket.send_to(&junk, target).await.unwrap();
        }
    });
    for n in 0..500u64 {
        far.write_all(&n.to_le_bytes()).await.unwrap();
        assert_eq!(near.read_u64_le().await.unwrap(), n);
        near.write_all(&[1]).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), 1);
    }
    flood.await.unwrap();
    let counters = pair.hubs[0].counters();
    assert!(counters.malformed > 0 && counters.unknown > 0, "{counters:?}");
    assert_eq!(pair.gateway.status(), TunnelStatus::Encrypted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_preshared_key_never_handshakes() {
    let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
    let ends = TunnelEnds::new(InnerFamily::V4, 1);
    let far = agent
        .add_peer(PeerConfig {
            preshared_key: PresharedKey::from_bytes([1; 32]),
            ..ends.agent_config(None)
        })
        .unwrap();
    let near = gateway.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
    near.initiate();
    assert!(timeout(Duration::from_secs(2), near.wait_for_handshake()).await.is_err());
    assert_eq!((near.status(), far.status()), (TunnelStatus::Connecting, TunnelStatus::Connecting));
}

// ---- helpers ----

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
struct Machine {
    runtime: tokio::runtime::Runtime,
    hub: Hub,
}

impl Machine {
    async fn boot() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let hub = runtime.spawn(hub("127.0.0.1:0")).await.unwrap();
        Self { runtime, hub }
    }

    /// Keeps the handle: dropping it would close the tunnels in order.
    fn power_off(self) -> Hub {
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

    async fn on(listen: &str, inside: InnerFamily) -> Self {
        let hubs = [hub(listen).await, hub(listen).await];
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

fn pattern(seed: u64, length: usize) -> Vec<u8> {
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
