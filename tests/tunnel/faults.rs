//! Network conditions, path MTU, clocks: what fails, and the throughput meanwhile.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use portcullis::tunnel::peer::Event;
use portcullis::tunnel::{
    Hub, HubConfig, MTU, MTU_MAX, PeerConfig, PresharedKey, PrivateKey, Profile, Tunnel, TunnelId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use uuid::Uuid;

use super::simnet::{AGENT, GATEWAY, NetworkConditions, PeerSettings, Rng, SimulatedNetwork};

const S: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

// ---- network conditions ----

/// One direction, until the FIN: virtual milliseconds, and the datagrams the sender needed.
fn transfer(conditions: NetworkConditions, length: usize) -> (u128, usize) {
    let mut net = SimulatedNetwork::new(5, conditions);
    net.handshake();
    let (near, far) = net.open(5900);
    let data: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
    let (began, sent) = (net.now, net.trace.len());
    let stream = net.stream(AGENT, far);
    stream.outgoing.extend(&data);
    stream.finish = true;
    let done = net.run(3600 * S, |net| net.streams[&(GATEWAY, near)].finished);
    assert!(done, "{conditions:?}: {:?}", net.peers.each_ref().map(|peer| peer.counters()));
    assert!(net.stream(GATEWAY, near).incoming == data, "{conditions:?}: bytes differ");
    let datagrams = net.trace[sent..].iter().filter(|(_, side, _)| *side == AGENT).count();
    ((net.now - began).as_millis(), datagrams)
}

#[test]
fn throughput_under_all_network_conditions() {
    let clean = NetworkConditions::CLEAN;
    let conditions = [
        ("clean", clean),
        ("loss 0.1 %", NetworkConditions { loss: 1, ..clean }),
        ("loss 0.5 %", NetworkConditions { loss: 5, ..clean }),
        ("loss 1 %", NetworkConditions { loss: 10, ..clean }),
        ("loss 2 %", NetworkConditions { loss: 20, ..clean }),
        ("loss 5 %", NetworkConditions { loss: 50, ..clean }),
        ("jitter 3 ms (reordering)", NetworkConditions { jitter: ms(3), ..clean }),
        ("duplicate 5 %", NetworkConditions { duplicate: 50, ..clean }),
        ("corrupt 1 %", NetworkConditions { corrupt: 10, ..clean }),
        ("adverse", NetworkConditions::ADVERSE),
    ];
    let packets = MIB.div_ceil(1380);
    let mut table = String::from(
        "1 MiB, 10 ms each way                 | virtual ms | KiB/s | datagrams, relative to the minimum\n",
    );
    for (name, conditions) in conditions {
        let (took, datagrams) = transfer(conditions, MIB);
        let _ = writeln!(
            table,
            "{name:<37} | {took:>10} | {:>5} | {:.2}",
            (MIB as u128 / 1024) * 1000 / took.max(1),
            datagrams as f64 / packets as f64
        );
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_stream_continues_after_a_partition_of_ten_seconds() {
    let mut net = SimulatedNetwork::new(9, NetworkConditions::CLEAN);
    net.handshake();
    let (near, far) = net.open(5900);
    let data = vec![7; 4 * MIB];
    net.stream(AGENT, far).outgoing.extend(&data);
    net.stream(AGENT, far).finish = true;
    net.advance(ms(200));
    net.conditions = NetworkConditions::PARTITIONED;
    net.advance(10 * S);
    net.conditions = NetworkConditions::CLEAN;
    let restored_at = net.now;
    assert!(
        net.run(60 * S, |net| net.streams[&(GATEWAY, near)].finished),
        "{:?}",
        net.stream(GATEWAY, near).failed
    );
    assert!(net.now - restored_at < 20 * S, "{:?}", net.now - restored_at);
    assert!(net.stream(GATEWAY, near).incoming == data);
}

// ---- path MTU black holes ----

#[test]
fn a_path_mtu_black_hole_is_detected_and_remembered() {
    for keys in [
        PeerSettings::new(),
        PeerSettings {
            tunnel_addresses: ["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()],
            ..PeerSettings::new()
        },
    ] {
        let mut net = SimulatedNetwork::with_settings(
            5,
            NetworkConditions { largest: 1400, ..NetworkConditions::CLEAN },
            keys,
        );
        net.handshake();
        let data: Vec<u8> = (0..MIB).map(|n| (n % 251) as u8).collect();
        // The first stream detects it by three timeouts; the next starts with the smaller size.
        for limit in [4 * S, S] {
            let (near, far) = net.open(5900);
            let began = net.now;
            let stream = net.stream(AGENT, far);
            stream.outgoing.extend(&data);
            stream.finish = true;
            assert!(
                net.run(60 * S, |net| net.streams[&(GATEWAY, near)].finished),
                "the transfer stalled"
            );
            assert!(net.stream(GATEWAY, near).incoming == data, "bytes differ");
            assert!(net.now - began < limit, "{:?}", net.now - began);
        }
    }
}

#[test]
fn the_full_size_is_restored_after_a_partition() {
    let mut net = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    net.handshake();
    let (_, far) = net.open(5900);
    let full = |net: &SimulatedNetwork, from: usize| {
        net.trace[from..].iter().filter(|(_, side, size)| *side == AGENT && *size > 1400).count()
    };
    net.stream(AGENT, far).outgoing.extend(vec![7; MIB]);
    net.advance(ms(50));
    net.conditions = NetworkConditions::PARTITIONED;
    net.advance(4 * S);
    net.conditions = NetworkConditions::CLEAN;
    net.advance(4 * S);
    // The partition looked like a path MTU black hole.
    let from = net.trace.len();
    net.stream(AGENT, far).outgoing.extend(vec![7; MIB / 4]);
    net.advance(S);
    assert_eq!(full(&net, from), 0);
    net.advance(15 * S);
    net.stream(AGENT, far).outgoing.extend(vec![7; MIB / 4]);
    net.advance(S);
    assert!(full(&net, from) > 100, "{}", full(&net, from));
}

// ---- larger path MTU ----

/// WireGuard's overhead around a packet.
const DATA_OVERHEAD: usize = 32;

/// The largest datagram sent from that index of the trace on.
fn largest(net: &SimulatedNetwork, side: usize, from: usize) -> usize {
    net.trace[from..]
        .iter()
        .filter(|(_, of, _)| *of == side)
        .map(|&(_, _, size)| size)
        .max()
        .unwrap_or(0)
}

fn jumbo_settings(inside: [&str; 2]) -> PeerSettings {
    PeerSettings {
        mtu_max: [MTU_MAX; 2],
        tunnel_addresses: inside.map(|address| address.parse().unwrap()),
        ..PeerSettings::new()
    }
}

/// Sends `length` bytes from the agent; returns the time it took.
fn download(net: &mut SimulatedNetwork, length: usize) -> Duration {
    let data: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
    let (near, far) = net.open(5900);
    let began = net.now;
    let stream = net.stream(AGENT, far);
    stream.outgoing.extend(&data);
    stream.finish = true;
    assert!(
        net.run(120 * S, |net| net.streams[&(GATEWAY, near)].finished),
        "the transfer stalled: {:?}",
        net.stream(GATEWAY, near).failed
    );
    assert!(net.stream(GATEWAY, near).incoming == data, "bytes differ");
    net.now - began
}

#[test]
fn a_bulk_sender_discovers_a_path_with_jumbo_frames() {
    for inside in [["10.64.0.1", "10.64.0.2"], ["fd00::1", "fd00::2"]] {
        let mut net = SimulatedNetwork::with_settings(
            5,
            NetworkConditions { largest: MTU_MAX + DATA_OVERHEAD, ..NetworkConditions::CLEAN },
            jumbo_settings(inside),
        );
        net.handshake();
        // Little traffic causes no probe.
        download(&mut net, 8 << 10);
        assert_eq!(largest(&net, AGENT, 0), MTU + DATA_OVERHEAD);
        download(&mut net, 2 * MIB);
        assert_eq!(
            net.events[AGENT]
                .iter()
                .filter(|event| **event == Event::PathMtuChanged(MTU_MAX))
                .count(),
            1
        );
        let from = net.trace.len();
        download(&mut net, 2 * MIB);
        assert_eq!(largest(&net, AGENT, from), MTU_MAX + DATA_OVERHEAD);
        let datagrams =
            net.trace[from..].iter().filter(|(_, of, size)| *of == AGENT && *size > MTU).count();
        assert!(datagrams < 2 * MIB / 8000, "{datagrams}");
        // The gateway only receives: it sends nothing large but the reply to the probe.
        assert_eq!(
            net.trace
                .iter()
                .filter(|(_, of, size)| *of == GATEWAY && *size > MTU + DATA_OVERHEAD)
                .count(),
            1
        );
    }
}

#[test]
fn an_ethernet_path_loses_three_probes_and_nothing_else() {
    let mut net = SimulatedNetwork::with_settings(
        6,
        NetworkConditions { largest: 1472, ..NetworkConditions::CLEAN },
        jumbo_settings(["10.64.0.1", "10.64.0.2"]),
    );
    net.handshake();
    for _ in 0..6 {
        download(&mut net, 8 * MIB);
    }
    let lost = net.trace.iter().filter(|(_, _, size)| *size > 1472).count();
    assert!((1..=3).contains(&lost), "{lost} in {:?}", net.now - net.epoch);
    assert_eq!(net.peers[AGENT].counters().retransmits, 0);
    assert!(!net.events[AGENT].iter().any(|event| matches!(event, Event::PathMtuChanged(_))));
}

#[test]
fn a_path_mtu_that_shrinks_costs_one_timeout() {
    let jumbo = NetworkConditions { largest: MTU_MAX + DATA_OVERHEAD, ..NetworkConditions::CLEAN };
    let mut net =
        SimulatedNetwork::with_settings(7, jumbo, jumbo_settings(["10.64.0.1", "10.64.0.2"]));
    net.handshake();
    download(&mut net, 2 * MIB);
    let (near, far) = net.open(5900);
    let data: Vec<u8> = (0..8 * MIB).map(|n| (n % 251) as u8).collect();
    net.stream(AGENT, far).outgoing.extend(&data);
    net.advance(ms(60));
    net.conditions = NetworkConditions { largest: 1472, ..jumbo };
    let switched = (net.now, net.trace.len());
    net.stream(AGENT, far).finish = true;
    assert!(net.run(60 * S, |net| net.streams[&(GATEWAY, near)].finished), "the transfer stalled");
    assert!(net.stream(GATEWAY, near).incoming == data, "bytes differ");
    assert!(net.now - switched.0 < 4 * S, "{:?}", net.now - switched.0);
    assert_eq!(
        net.events[AGENT].iter().filter(|event| matches!(event, Event::PathMtuChanged(_))).count(),
        2
    );
    // The larger size is probed for again after the raise interval.
    net.conditions = jumbo;
    net.advance(20 * S);
    download(&mut net, 2 * MIB);
    let from = net.trace.len();
    download(&mut net, 2 * MIB);
    assert_eq!(largest(&net, AGENT, from), MTU_MAX + DATA_OVERHEAD);
}

#[test]
fn a_peer_that_roams_starts_with_the_base_mtu() {
    let jumbo = NetworkConditions { largest: MTU_MAX + DATA_OVERHEAD, ..NetworkConditions::CLEAN };
    let mut net =
        SimulatedNetwork::with_settings(8, jumbo, jumbo_settings(["10.64.0.1", "10.64.0.2"]));
    net.handshake();
    let (near, far) = net.open(5900);
    let data = vec![7; 4 * MIB];
    // Data both ways, so that both have probed.
    net.stream(GATEWAY, near).outgoing.extend(&data);
    net.stream(AGENT, far).outgoing.extend(&data);
    net.advance(ms(500));
    assert!(net.events.iter().all(|events| events.contains(&Event::PathMtuChanged(MTU_MAX))));
    net.addresses[AGENT] = "203.0.113.9:999".parse().unwrap();
    net.conditions = NetworkConditions { largest: 1472, ..jumbo };
    net.stream(AGENT, far).outgoing.extend(&data);
    net.stream(AGENT, far).finish = true;
    assert!(net.run(60 * S, |net| net.streams[&(GATEWAY, near)].finished), "the transfer stalled");
    assert!(net.events[GATEWAY].contains(&Event::PathMtuChanged(MTU)), "{:?}", net.events[GATEWAY]);
}

#[test]
fn an_end_that_accepts_no_large_packets_gets_none() {
    for takes in [[MTU_MAX, MTU], [MTU, MTU_MAX]] {
        let keys = PeerSettings { mtu_max: takes, ..jumbo_settings(["10.64.0.1", "10.64.0.2"]) };
        let mut net = SimulatedNetwork::with_settings(
            9,
            NetworkConditions { largest: MTU_MAX + DATA_OVERHEAD, ..NetworkConditions::CLEAN },
            keys,
        );
        net.handshake();
        download(&mut net, 4 * MIB);
        assert_eq!(largest(&net, AGENT, 0).max(largest(&net, GATEWAY, 0)), MTU + DATA_OVERHEAD);
    }
}

#[test]
fn large_packets_pass_an_adverse_network() {
    for seed in 0..4 {
        let adverse =
            NetworkConditions { largest: MTU_MAX + DATA_OVERHEAD, ..NetworkConditions::ADVERSE };
        let mut net = SimulatedNetwork::with_settings(
            20 + seed,
            adverse,
            jumbo_settings(["10.64.0.1", "10.64.0.2"]),
        );
        net.handshake();
        download(&mut net, 2 * MIB);
    }
}

// ---- clocks ----

#[test]
fn a_clock_that_jumps_ahead_costs_a_handshake_and_no_data() {
    let mut net = SimulatedNetwork::new(3, NetworkConditions::CLEAN);
    net.handshake();
    for jump in [S, 100 * S, 200 * S, 3600 * S, 100_000 * S] {
        net.now += jump;
        net.advance(S);
        net.peers[GATEWAY].initiate(net.now);
        net.advance(10 * S);
        let (near, far) = net.open(5900);
        let data = vec![3; 50_000];
        net.stream(AGENT, far).outgoing.extend(&data);
        net.stream(AGENT, far).finish = true;
        assert!(
            net.run(60 * S, |net| net.streams[&(GATEWAY, near)].finished),
            "after a jump of {jump:?}"
        );
        assert!(net.stream(GATEWAY, near).incoming == data);
    }
}

#[test]
fn a_clock_that_jumps_back_delays_by_no_more_than_the_jump() {
    let mut net = SimulatedNetwork::new(4, NetworkConditions::CLEAN);
    net.handshake();
    let (near, far) = net.open(5900);
    let data = vec![4; 2 * MIB];
    net.stream(AGENT, far).outgoing.extend(&data);
    net.stream(AGENT, far).finish = true;
    net.advance(ms(100));
    net.now -= ms(90);
    for _ in 0..3 {
        net.advance(ms(50));
        net.now -= ms(40);
    }
    assert!(net.run(60 * S, |net| net.streams[&(GATEWAY, near)].finished));
    assert!(net.stream(GATEWAY, near).incoming == data);
}

// ---- indices ----

#[test]
fn packets_of_replaced_keys_are_refused_after_many_handshakes() {
    let mut net = SimulatedNetwork::new(6, NetworkConditions::CLEAN);
    net.capture = true;
    net.handshake();
    let (near, far) = net.open(5900);
    // boringtun keeps eight sessions, by index modulo eight: thirty handshakes use each slot
    // several times.
    for n in 0..30u8 {
        let now = net.now;
        net.peers[GATEWAY].initiate(now);
        net.stream(AGENT, far).outgoing.extend([n; 100]);
        assert!(
            net.run(10 * S, |net| net.streams[&(GATEWAY, near)].incoming.len()
                == (usize::from(n) + 1) * 100),
            "{n}"
        );
        net.advance(S);
    }
    let before = net.peers[GATEWAY].counters();
    let received: Vec<_> = net
        .captured
        .iter()
        .filter(|(side, bytes)| *side == AGENT && bytes[0] == 4)
        .cloned()
        .collect();
    let from = net.addresses[AGENT];
    for (_, bytes) in &received {
        net.inject(GATEWAY, from, bytes);
    }
    let after = net.peers[GATEWAY].counters();
    assert_eq!(after.rejected - before.rejected, received.len() as u64);
    assert_eq!(after.rx_bytes, before.rx_bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_with_guessed_indices_reach_no_tunnel() {
    let (gateway, agent) = (hub().await, hub().await);
    let (one, two) = (Ends::new(1), Ends::new(2));
    let mut tunnels = Vec::new();
    for ends in [&one, &two] {
        let far = agent.add_peer(ends.far(None)).unwrap();
        let near = gateway.add_peer(ends.near(Some(agent.local_addr()))).unwrap();
        near.initiate();
        timeout(20 * S, near.wait_for_handshake()).await.unwrap().unwrap();
        tunnels.push((near, far));
    }
    // An outsider tries indices: a packet for no tunnel is counted, one for a wrong key is dropped
    // by its owner.
    let unknown = gateway.counters().unknown;
    let outsider = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for index in 0..1000u32 {
        let mut packet = [0u8; 64];
        packet[0] = 4;
        packet[4..8].copy_from_slice(&(index << 8 | 1).to_le_bytes());
        outsider.send_to(&packet, gateway.local_addr()).await.unwrap();
    }
    let mut echo = tunnels[0].1.listen(7, 1).unwrap();
    let (near, far) = tokio::join!(tunnels[0].0.connect(7), echo.accept());
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    far.write_all(b"still open").await.unwrap();
    let mut back = [0; 10];
    timeout(20 * S, near.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"still open");
    assert!(
        gateway.counters().unknown
            + tunnels.iter().map(|(near, _)| near.stats().dropped).sum::<u64>()
            >= unknown + 1000
    );
}

// ---- real hubs over a lossy link ----

/// Relays datagrams between two hubs, and drops, duplicates, reorders and corrupts some of them.
struct LossyLink {
    task: tokio::task::JoinHandle<()>,
    /// The agent's address as seen by the gateway.
    address: SocketAddr,
}

impl LossyLink {
    /// `faults`: per mille of each fault. `largest`: longer datagrams are dropped.
    async fn to(agent: SocketAddr, seed: u64, faults: u64, largest: usize) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut random, mut gateway, mut delayed) =
                (Rng::new(seed), None, None::<(Vec<u8>, SocketAddr)>);
            let mut buffer = vec![0; 65_536];
            loop {
                let (n, from) = socket.recv_from(&mut buffer).await.unwrap();
                if from != agent {
                    gateway = Some(from);
                }
                let Some(to) = (if from == agent { gateway } else { Some(agent) }) else {
                    continue;
                };
                let mut datagram = buffer[..n].to_vec();
                let draw = random.below(1000);
                if draw < faults || n > largest {
                    continue;
                }
                if draw < 2 * faults {
                    let bit = random.below(n as u64 * 8) as usize;
                    datagram[bit / 8] ^= 1 << (bit % 8);
                }
                if draw < 3 * faults && delayed.is_none() {
                    delayed = Some((datagram, to));
                    continue;
                }
                let _ = socket.send_to(&datagram, to).await;
                if draw >= 1000 - faults {
                    let _ = socket.send_to(&datagram, to).await;
                }
                if let Some((late, to)) = delayed.take() {
                    let _ = socket.send_to(&late, to).await;
                }
            }
        });
        Self { task, address }
    }
}

impl Drop for LossyLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_survives_a_lossy_link() {
    for (faults, length, largest) in [
        (1, MIB, usize::MAX),
        (10, MIB / 4, usize::MAX),
        (50, MIB / 16, usize::MAX),
        (1, MIB / 4, 1340),
    ] {
        let (gateway, agent) = (hub().await, hub().await);
        let ends = Ends::new(1);
        let link = LossyLink::to(agent.local_addr(), 17 + faults, faults, largest).await;
        let far = agent.add_peer(ends.far(None)).unwrap();
        let near = gateway.add_peer(ends.near(Some(link.address))).unwrap();
        let mut listener = far.listen(5900, 1).unwrap();
        let (client, server) = tokio::join!(near.connect(5900), listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        let data: Vec<u8> = (0..length).map(|n| (n % 249) as u8).collect();
        let expected = data.clone();
        let server_side = async {
            server.write_all(&data).await.unwrap();
            server.shutdown().await.unwrap();
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            received
        };
        let client_side = async {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            client.write_all(&received).await.unwrap();
            client.shutdown().await.unwrap();
            received
        };
        let (at_server, back) = timeout(120 * S, async { tokio::join!(server_side, client_side) })
            .await
            .unwrap_or_else(|_| panic!("stalled at {faults} per mille"));
        assert!(at_server == expected && back == expected, "bytes differ at {faults} per mille");
    }
}

// ---- soak ----

#[test]
fn twenty_thousand_sessions_leave_nothing_behind() {
    soak(20_000);
}

/// `make soak`. Runs alone in its process, so that its memory can be compared.
#[test]
#[ignore = "takes an hour; `make soak` runs it"]
fn a_million_sessions_leave_nothing_behind() {
    let warm = soak(20_000);
    let end = soak(1_000_000);
    assert!(end < warm + (16 << 20), "resident before {warm}, after {end}");
}

/// Opens and closes sessions, sixteen at a time: fresh keys, a handshake, a connection, a byte each
/// way. Returns the resident memory at the end.
fn soak(sessions: usize) -> u64 {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (gateway, agent) = (hub().await, hub().await);
        let key = PrivateKey::generate().unwrap();
        let idle_tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let workers: Vec<_> = (0..16)
            .map(|worker| {
                let (gateway, agent, key) = (gateway.clone(), agent.clone(), key.clone());
                tokio::spawn(async move {
                    for n in (worker..sessions).step_by(16) {
                        let ends = Ends { gateway: key.clone(), ..Ends::new((n % 250) as u8) };
                        timeout(60 * S, session(&gateway, &agent, &ends))
                            .await
                            .unwrap_or_else(|_| panic!("session {n} stalled"));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!((gateway.peers(), agent.peers()), (0, 0));
        let all_ended = async {
            while tokio::runtime::Handle::current().metrics().num_alive_tasks() > idle_tasks {
                tokio::task::yield_now().await;
            }
        };
        timeout(20 * S, all_ended).await.expect("tasks are left");
        assert_eq!((gateway.counters().overflow, agent.counters().overflow), (0, 0));
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        resident.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    })
}

async fn session(gateway: &Hub, agent: &Hub, ends: &Ends) {
    let far = agent.add_peer(ends.far(None)).unwrap();
    let mut listener = far.listen(5900, 1).unwrap();
    let near = gateway.add_peer(ends.near(Some(agent.local_addr()))).unwrap();
    let (client, server) = tokio::join!(near.connect(5900), listener.accept());
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.write_all(b"?").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'?');
    server.write_all(b"!").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'!');
    end(gateway, &near).await;
    end(agent, &far).await;
}

async fn end(hub: &Hub, tunnel: &Tunnel) {
    hub.remove(tunnel.id());
    tunnel.closed().await;
}

// ---- helpers ----

struct Ends {
    gateway: PrivateKey,
    agent: PrivateKey,
    psk: PresharedKey,
    n: u8,
}

impl Ends {
    fn new(n: u8) -> Self {
        Self {
            gateway: PrivateKey::generate().unwrap(),
            agent: PrivateKey::generate().unwrap(),
            psk: PresharedKey::generate().unwrap(),
            n,
        }
    }

    fn near(&self, endpoint: Option<SocketAddr>) -> PeerConfig {
        self.end([&self.gateway, &self.agent], endpoint, [1, 2])
    }

    fn far(&self, endpoint: Option<SocketAddr>) -> PeerConfig {
        self.end([&self.agent, &self.gateway], endpoint, [2, 1])
    }

    fn end(
        &self,
        keys: [&PrivateKey; 2],
        endpoint: Option<SocketAddr>,
        hosts: [u8; 2],
    ) -> PeerConfig {
        PeerConfig {
            id: TunnelId(Uuid::new_v4()),
            private_key: keys[0].clone(),
            peer_public_key: keys[1].public_key(),
            preshared_key: self.psk.clone(),
            endpoint,
            local_addr: [10, 0, self.n, hosts[0]].into(),
            peer_addr: [10, 0, self.n, hosts[1]].into(),
            keepalive: None,
            profile: Profile::Stream,
        }
    }
}

async fn hub() -> Hub {
    Hub::bind(HubConfig { listen: "127.0.0.1:0".parse().unwrap() }).await.unwrap()
}
