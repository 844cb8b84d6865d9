//! What goes wrong on a network, and how fast things are meanwhile.

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

// ---- weather ----

/// One direction, to the end: how many virtual milliseconds it took, and how many datagrams the
/// sender needed.
fn transfer(weather: NetworkConditions, length: usize) -> (u128, usize) {
    let mut world = SimulatedNetwork::new(5, weather);
    world.handshake();
    let (near, far) = world.open(5900);
    let said: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
    let (began, sent) = (world.now, world.trace.len());
    let stream = world.stream(AGENT, far);
    stream.outgoing.extend(&said);
    stream.finish = true;
    let done = world.run(3600 * S, |world| world.streams[&(GATEWAY, near)].finished);
    assert!(done, "{weather:?}: {:?}", world.peers.each_ref().map(|peer| peer.counters()));
    assert!(world.stream(GATEWAY, near).incoming == said, "{weather:?}: bytes differ");
    let datagrams = world.trace[sent..].iter().filter(|(_, side, _)| *side == AGENT).count();
    ((world.now - began).as_millis(), datagrams)
}

#[test]
fn throughput_and_recovery_in_every_weather() {
    let fair = NetworkConditions::CLEAN;
    let weathers = [
        ("fair", fair),
        ("loss 0.1 %", NetworkConditions { loss: 1, ..fair }),
        ("loss 0.5 %", NetworkConditions { loss: 5, ..fair }),
        ("loss 1 %", NetworkConditions { loss: 10, ..fair }),
        ("loss 2 %", NetworkConditions { loss: 20, ..fair }),
        ("loss 5 %", NetworkConditions { loss: 50, ..fair }),
        ("jitter 3 ms: reordered", NetworkConditions { jitter: ms(3), ..fair }),
        ("duplicate 5 %", NetworkConditions { duplicate: 50, ..fair }),
        ("corrupt 1 %", NetworkConditions { corrupt: 10, ..fair }),
        ("storm", NetworkConditions::ADVERSE),
    ];
    let packets = MIB.div_ceil(1380);
    let mut table = String::from(
        "1 MiB through 10 ms each way          | virtual ms | KiB/s | datagrams, of the least possible\n",
    );
    for (name, weather) in weathers {
        let (took, datagrams) = transfer(weather, MIB);
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
fn after_a_cut_of_ten_seconds_a_stream_goes_on() {
    let mut world = SimulatedNetwork::new(9, NetworkConditions::CLEAN);
    world.handshake();
    let (near, far) = world.open(5900);
    let said = vec![7; 4 * MIB];
    world.stream(AGENT, far).outgoing.extend(&said);
    world.stream(AGENT, far).finish = true;
    world.advance(ms(200));
    world.conditions = NetworkConditions::PARTITIONED;
    world.advance(10 * S);
    world.conditions = NetworkConditions::CLEAN;
    let mended = world.now;
    assert!(
        world.run(60 * S, |world| world.streams[&(GATEWAY, near)].finished),
        "{:?}",
        world.stream(GATEWAY, near).failed
    );
    assert!(world.now - mended < 20 * S, "{:?}", world.now - mended);
    assert!(world.stream(GATEWAY, near).incoming == said);
}

// ---- narrow paths ----

#[test]
fn a_path_that_swallows_large_datagrams_is_found_out_and_remembered() {
    for keys in [
        PeerSettings::new(),
        PeerSettings {
            tunnel_addresses: ["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()],
            ..PeerSettings::new()
        },
    ] {
        let mut world = SimulatedNetwork::with_settings(
            5,
            NetworkConditions { largest: 1400, ..NetworkConditions::CLEAN },
            keys,
        );
        world.handshake();
        let said: Vec<u8> = (0..MIB).map(|n| (n % 251) as u8).collect();
        // The first stream finds out, by three timeouts; the next knows.
        for most in [4 * S, S] {
            let (near, far) = world.open(5900);
            let began = world.now;
            let stream = world.stream(AGENT, far);
            stream.outgoing.extend(&said);
            stream.finish = true;
            assert!(
                world.run(60 * S, |world| world.streams[&(GATEWAY, near)].finished),
                "it got stuck"
            );
            assert!(world.stream(GATEWAY, near).incoming == said, "bytes differ");
            assert!(world.now - began < most, "{:?}", world.now - began);
        }
    }
}

#[test]
fn a_path_that_was_only_cut_is_used_in_full_again() {
    let mut world = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    world.handshake();
    let (_, far) = world.open(5900);
    let full = |world: &SimulatedNetwork, from: usize| {
        world.trace[from..].iter().filter(|(_, side, size)| *side == AGENT && *size > 1400).count()
    };
    world.stream(AGENT, far).outgoing.extend(vec![7; MIB]);
    world.advance(ms(50));
    world.conditions = NetworkConditions::PARTITIONED;
    world.advance(4 * S);
    world.conditions = NetworkConditions::CLEAN;
    world.advance(4 * S);
    // The cut looked like a path that swallows large datagrams.
    let from = world.trace.len();
    world.stream(AGENT, far).outgoing.extend(vec![7; MIB / 4]);
    world.advance(S);
    assert_eq!(full(&world, from), 0);
    world.advance(15 * S);
    world.stream(AGENT, far).outgoing.extend(vec![7; MIB / 4]);
    world.advance(S);
    assert!(full(&world, from) > 100, "{}", full(&world, from));
}

// ---- wide paths ----

/// Overhead of WireGuard around a packet.
const AROUND: usize = 32;

/// The largest datagram sent from that place of the trace on.
fn largest(world: &SimulatedNetwork, side: usize, from: usize) -> usize {
    world.trace[from..]
        .iter()
        .filter(|(_, of, _)| *of == side)
        .map(|&(_, _, size)| size)
        .max()
        .unwrap_or(0)
}

fn wide(inside: [&str; 2]) -> PeerSettings {
    PeerSettings {
        mtu_max: [MTU_MAX; 2],
        tunnel_addresses: inside.map(|address| address.parse().unwrap()),
        ..PeerSettings::new()
    }
}

/// Says so much from the agent; answers with the time it took.
fn download(world: &mut SimulatedNetwork, length: usize) -> Duration {
    let said: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
    let (near, far) = world.open(5900);
    let began = world.now;
    let stream = world.stream(AGENT, far);
    stream.outgoing.extend(&said);
    stream.finish = true;
    assert!(
        world.run(120 * S, |world| world.streams[&(GATEWAY, near)].finished),
        "it got stuck: {:?}",
        world.stream(GATEWAY, near).failed
    );
    assert!(world.stream(GATEWAY, near).incoming == said, "bytes differ");
    world.now - began
}

#[test]
fn a_path_that_carries_jumbo_frames_is_found_out_by_who_sends_much() {
    for inside in [["10.64.0.1", "10.64.0.2"], ["fd00::1", "fd00::2"]] {
        let mut world = SimulatedNetwork::with_settings(
            5,
            NetworkConditions { largest: MTU_MAX + AROUND, ..NetworkConditions::CLEAN },
            wide(inside),
        );
        world.handshake();
        // Little traffic asks for nothing.
        download(&mut world, 8 << 10);
        assert_eq!(largest(&world, AGENT, 0), MTU + AROUND);
        download(&mut world, 2 * MIB);
        assert_eq!(
            world.events[AGENT]
                .iter()
                .filter(|event| **event == Event::PathMtuChanged(MTU_MAX))
                .count(),
            1
        );
        let from = world.trace.len();
        download(&mut world, 2 * MIB);
        assert_eq!(largest(&world, AGENT, from), MTU_MAX + AROUND);
        let datagrams =
            world.trace[from..].iter().filter(|(_, of, size)| *of == AGENT && *size > MTU).count();
        assert!(datagrams < 2 * MIB / 8000, "{datagrams}");
        // The gateway, which only receives, sends nothing large but the answer to the probe.
        assert_eq!(
            world
                .trace
                .iter()
                .filter(|(_, of, size)| *of == GATEWAY && *size > MTU + AROUND)
                .count(),
            1
        );
    }
}

#[test]
fn a_path_of_ethernet_loses_three_probes_and_nothing_else() {
    let mut world = SimulatedNetwork::with_settings(
        6,
        NetworkConditions { largest: 1472, ..NetworkConditions::CLEAN },
        wide(["10.64.0.1", "10.64.0.2"]),
    );
    world.handshake();
    for _ in 0..6 {
        download(&mut world, 8 * MIB);
    }
    let lost = world.trace.iter().filter(|(_, _, size)| *size > 1472).count();
    assert!((1..=3).contains(&lost), "{lost} in {:?}", world.now - world.epoch);
    assert_eq!(world.peers[AGENT].counters().retransmits, 0);
    assert!(!world.events[AGENT].iter().any(|event| matches!(event, Event::PathMtuChanged(_))));
}

#[test]
fn a_path_that_carries_large_packets_no_longer_costs_a_timeout() {
    let jumbo = NetworkConditions { largest: MTU_MAX + AROUND, ..NetworkConditions::CLEAN };
    let mut world = SimulatedNetwork::with_settings(7, jumbo, wide(["10.64.0.1", "10.64.0.2"]));
    world.handshake();
    download(&mut world, 2 * MIB);
    let (near, far) = world.open(5900);
    let said: Vec<u8> = (0..8 * MIB).map(|n| (n % 251) as u8).collect();
    world.stream(AGENT, far).outgoing.extend(&said);
    world.advance(ms(60));
    world.conditions = NetworkConditions { largest: 1472, ..jumbo };
    let cut = (world.now, world.trace.len());
    world.stream(AGENT, far).finish = true;
    assert!(world.run(60 * S, |world| world.streams[&(GATEWAY, near)].finished), "it got stuck");
    assert!(world.stream(GATEWAY, near).incoming == said, "bytes differ");
    assert!(world.now - cut.0 < 4 * S, "{:?}", world.now - cut.0);
    assert_eq!(
        world.events[AGENT]
            .iter()
            .filter(|event| matches!(event, Event::PathMtuChanged(_)))
            .count(),
        2
    );
    // The way back is tried after a while, and found.
    world.conditions = jumbo;
    world.advance(20 * S);
    download(&mut world, 2 * MIB);
    let from = world.trace.len();
    download(&mut world, 2 * MIB);
    assert_eq!(largest(&world, AGENT, from), MTU_MAX + AROUND);
}

#[test]
fn who_moves_begins_with_the_base_again() {
    let jumbo = NetworkConditions { largest: MTU_MAX + AROUND, ..NetworkConditions::CLEAN };
    let mut world = SimulatedNetwork::with_settings(8, jumbo, wide(["10.64.0.1", "10.64.0.2"]));
    world.handshake();
    let (near, far) = world.open(5900);
    let said = vec![7; 4 * MIB];
    // Much both ways, so that both have found out.
    world.stream(GATEWAY, near).outgoing.extend(&said);
    world.stream(AGENT, far).outgoing.extend(&said);
    world.advance(ms(500));
    assert!(world.events.iter().all(|events| events.contains(&Event::PathMtuChanged(MTU_MAX))));
    world.addresses[AGENT] = "203.0.113.9:999".parse().unwrap();
    world.conditions = NetworkConditions { largest: 1472, ..jumbo };
    world.stream(AGENT, far).outgoing.extend(&said);
    world.stream(AGENT, far).finish = true;
    assert!(world.run(60 * S, |world| world.streams[&(GATEWAY, near)].finished), "it got stuck");
    assert!(
        world.events[GATEWAY].contains(&Event::PathMtuChanged(MTU)),
        "{:?}",
        world.events[GATEWAY]
    );
}

#[test]
fn an_end_that_takes_no_large_packets_gets_none() {
    for takes in [[MTU_MAX, MTU], [MTU, MTU_MAX]] {
        let keys = PeerSettings { mtu_max: takes, ..wide(["10.64.0.1", "10.64.0.2"]) };
        let mut world = SimulatedNetwork::with_settings(
            9,
            NetworkConditions { largest: MTU_MAX + AROUND, ..NetworkConditions::CLEAN },
            keys,
        );
        world.handshake();
        download(&mut world, 4 * MIB);
        assert_eq!(largest(&world, AGENT, 0).max(largest(&world, GATEWAY, 0)), MTU + AROUND);
    }
}

#[test]
fn large_packets_survive_bad_weather() {
    for seed in 0..4 {
        let storm = NetworkConditions { largest: MTU_MAX + AROUND, ..NetworkConditions::ADVERSE };
        let mut world =
            SimulatedNetwork::with_settings(20 + seed, storm, wide(["10.64.0.1", "10.64.0.2"]));
        world.handshake();
        download(&mut world, 2 * MIB);
    }
}

// ---- clocks ----

#[test]
fn a_clock_that_jumps_ahead_costs_a_handshake_and_no_byte() {
    let mut world = SimulatedNetwork::new(3, NetworkConditions::CLEAN);
    world.handshake();
    for jump in [S, 100 * S, 200 * S, 3600 * S, 100_000 * S] {
        world.now += jump;
        world.advance(S);
        world.peers[GATEWAY].initiate(world.now);
        world.advance(10 * S);
        let (near, far) = world.open(5900);
        let said = vec![3; 50_000];
        world.stream(AGENT, far).outgoing.extend(&said);
        world.stream(AGENT, far).finish = true;
        assert!(
            world.run(60 * S, |world| world.streams[&(GATEWAY, near)].finished),
            "after a jump of {jump:?}"
        );
        assert!(world.stream(GATEWAY, near).incoming == said);
    }
}

#[test]
fn a_clock_that_jumps_back_stops_nothing_for_longer_than_it_jumped() {
    let mut world = SimulatedNetwork::new(4, NetworkConditions::CLEAN);
    world.handshake();
    let (near, far) = world.open(5900);
    let said = vec![4; 2 * MIB];
    world.stream(AGENT, far).outgoing.extend(&said);
    world.stream(AGENT, far).finish = true;
    world.advance(ms(100));
    world.now -= ms(90);
    for _ in 0..3 {
        world.advance(ms(50));
        world.now -= ms(40);
    }
    assert!(world.run(60 * S, |world| world.streams[&(GATEWAY, near)].finished));
    assert!(world.stream(GATEWAY, near).incoming == said);
}

// ---- indices ----

#[test]
fn handshakes_past_every_slot_leave_one_key_and_old_packets_are_refused() {
    let mut world = SimulatedNetwork::new(6, NetworkConditions::CLEAN);
    world.capture = true;
    world.handshake();
    let (near, far) = world.open(5900);
    // boringtun keeps eight sessions, by index modulo eight: thirty handshakes use each slot
    // several times.
    for n in 0..30u8 {
        let now = world.now;
        world.peers[GATEWAY].initiate(now);
        world.stream(AGENT, far).outgoing.extend([n; 100]);
        assert!(
            world.run(10 * S, |world| world.streams[&(GATEWAY, near)].incoming.len()
                == (usize::from(n) + 1) * 100),
            "{n}"
        );
        world.advance(S);
    }
    let before = world.peers[GATEWAY].counters();
    let heard: Vec<_> = world
        .captured
        .iter()
        .filter(|(side, bytes)| *side == AGENT && bytes[0] == 4)
        .cloned()
        .collect();
    let from = world.addresses[AGENT];
    for (_, bytes) in &heard {
        world.inject(GATEWAY, from, bytes);
    }
    let after = world.peers[GATEWAY].counters();
    assert_eq!(after.rejected - before.rejected, heard.len() as u64);
    assert_eq!(after.rx_bytes, before.rx_bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_with_a_neighbours_index_reaches_nobody() {
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
    // Every index there may be is tried by nobody; a packet for no tunnel is counted, one for a
    // wrong key is dropped by its owner.
    let unknown = gateway.counters().unknown;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for index in 0..1000u32 {
        let mut packet = [0u8; 64];
        packet[0] = 4;
        packet[4..8].copy_from_slice(&(index << 8 | 1).to_le_bytes());
        stranger.send_to(&packet, gateway.local_addr()).await.unwrap();
    }
    let mut echo = tunnels[0].1.listen(7, 1).unwrap();
    let (near, far) = tokio::join!(tunnels[0].0.connect(7), echo.accept());
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    far.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    timeout(20 * S, near.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"still here");
    assert!(
        gateway.counters().unknown
            + tunnels.iter().map(|(near, _)| near.stats().dropped).sum::<u64>()
            >= unknown + 1000
    );
}

// ---- live, through a bad cable ----

/// Carries datagrams between two hubs, and loses, doubles, delays and damages some of them.
struct LossyLink {
    task: tokio::task::JoinHandle<()>,
    /// What the gateway takes for the agent.
    address: SocketAddr,
}

impl LossyLink {
    /// `bad`: in a thousand, of each evil. `largest`: longer datagrams vanish.
    async fn to(agent: SocketAddr, seed: u64, bad: u64, largest: usize) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut random, mut gateway, mut held) =
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
                let fate = random.below(1000);
                if fate < bad || n > largest {
                    continue;
                }
                if fate < 2 * bad {
                    let bit = random.below(n as u64 * 8) as usize;
                    datagram[bit / 8] ^= 1 << (bit % 8);
                }
                if fate < 3 * bad && held.is_none() {
                    held = Some((datagram, to));
                    continue;
                }
                let _ = socket.send_to(&datagram, to).await;
                if fate >= 1000 - bad {
                    let _ = socket.send_to(&datagram, to).await;
                }
                if let Some((late, to)) = held.take() {
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
async fn bytes_survive_a_bad_cable() {
    for (bad, length, largest) in [
        (1, MIB, usize::MAX),
        (10, MIB / 4, usize::MAX),
        (50, MIB / 16, usize::MAX),
        (1, MIB / 4, 1340),
    ] {
        let (gateway, agent) = (hub().await, hub().await);
        let ends = Ends::new(1);
        let cable = LossyLink::to(agent.local_addr(), 17 + bad, bad, largest).await;
        let far = agent.add_peer(ends.far(None)).unwrap();
        let near = gateway.add_peer(ends.near(Some(cable.address))).unwrap();
        let mut listener = far.listen(5900, 1).unwrap();
        let (client, server) = tokio::join!(near.connect(5900), listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        let said: Vec<u8> = (0..length).map(|n| (n % 249) as u8).collect();
        let expected = said.clone();
        let talk = async {
            server.write_all(&said).await.unwrap();
            server.shutdown().await.unwrap();
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let answer = async {
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            client.write_all(&heard).await.unwrap();
            client.shutdown().await.unwrap();
            heard
        };
        let (there, back) = timeout(120 * S, async { tokio::join!(talk, answer) })
            .await
            .unwrap_or_else(|_| panic!("stuck at {bad} per mille"));
        assert!(there == expected && back == expected, "bytes differ at {bad} per mille");
    }
}

// ---- a day, squeezed ----

#[test]
fn twenty_thousand_sessions_leave_nothing_behind() {
    soak(20_000);
}

/// `make soak`. Alone in its process, so its memory can be judged, too.
#[test]
#[ignore = "takes an hour; `make soak` runs it"]
fn a_million_sessions_leave_nothing_behind() {
    let warm = soak(20_000);
    let end = soak(1_000_000);
    assert!(end < warm + (16 << 20), "resident before {warm}, after {end}");
}

/// Opens and closes sessions, sixteen at a time: fresh keys, a handshake, a connection, a byte each
/// way. Answers with the memory resident at the end.
fn soak(sessions: usize) -> u64 {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (gateway, agent) = (hub().await, hub().await);
        let key = PrivateKey::generate().unwrap();
        let quiet = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let workers: Vec<_> = (0..16)
            .map(|worker| {
                let (gateway, agent, key) = (gateway.clone(), agent.clone(), key.clone());
                tokio::spawn(async move {
                    for n in (worker..sessions).step_by(16) {
                        let ends = Ends { gateway: key.clone(), ..Ends::new((n % 250) as u8) };
                        timeout(60 * S, session(&gateway, &agent, &ends))
                            .await
                            .unwrap_or_else(|_| panic!("session {n} is stuck"));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!((gateway.peers(), agent.peers()), (0, 0));
        let settled = async {
            while tokio::runtime::Handle::current().metrics().num_alive_tasks() > quiet {
                tokio::task::yield_now().await;
            }
        };
        timeout(20 * S, settled).await.expect("tasks are left");
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
