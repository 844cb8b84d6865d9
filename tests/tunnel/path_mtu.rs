//! Path MTU discovery on a simulated network: black holes, jumbo frames.

use std::time::Duration;

use portcullis::tunnel::peer::Event;
use portcullis::tunnel::{MTU, MTU_MAX};

use super::simnet::{AGENT, GATEWAY, NetworkConditions, PeerSettings, SimulatedNetwork};

const S: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

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
