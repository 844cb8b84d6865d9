//! Two peers on a simulated network: handshake and data.

use std::time::Duration;

use portcullis::tunnel::{PresharedKey, TunnelStatus};
use proptest::prelude::*;

use super::peer_fixture::{S, bytes, exchange};
use super::simnet::{AGENT, GATEWAY, NetworkConditions, PeerSettings, SimulatedNetwork};

#[test]
fn a_handshake_takes_one_round_trip() {
    let mut net = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
    assert_eq!(net.peers[GATEWAY].status(net.now), TunnelStatus::Connecting);
    net.handshake();
    assert_eq!(net.peers[GATEWAY].counters().rtt, Some(Duration::from_millis(20)));
    assert_eq!(net.peers[GATEWAY].status(net.now), TunnelStatus::Encrypted);
    assert_eq!(net.peers[AGENT].status(net.now), TunnelStatus::Encrypted);
    assert_eq!(net.peers[AGENT].endpoint(), Some(net.addresses[GATEWAY]));
    // Initiation, response, confirmation; nothing more.
    assert_eq!(
        net.trace.iter().map(|&(_, side, size)| (side, size)).collect::<Vec<_>>(),
        [(0, 148), (1, 92), (0, 32)]
    );
}

#[test]
fn a_handshake_gets_through_heavy_loss() {
    for seed in 0..20 {
        let mut net = SimulatedNetwork::new(
            seed,
            NetworkConditions { loss: 400, ..NetworkConditions::CLEAN },
        );
        net.handshake();
    }
}

#[test]
fn the_wrong_preshared_key_never_handshakes() {
    let mut settings = PeerSettings::new();
    settings.preshared_keys[AGENT] = PresharedKey::from_bytes([4; 32]);
    let mut net = SimulatedNetwork::with_settings(1, NetworkConditions::CLEAN, settings);
    let now = net.now;
    net.peers[GATEWAY].initiate(now);
    net.advance(60 * S);
    assert_eq!(net.peers[GATEWAY].status(net.now), TunnelStatus::Connecting);
    net.advance(40 * S);
    assert_eq!(net.peers[GATEWAY].status(net.now), TunnelStatus::Down);
    assert_eq!((net.handshakes(GATEWAY), net.handshakes(AGENT)), (0, 0));
    assert!(net.peers[GATEWAY].counters().rejected > 10);
    // The attempt has ended.
    let sent = net.trace.len();
    net.advance(600 * S);
    assert_eq!(net.trace.len(), sent);
}

#[test]
fn both_may_initiate_at_the_same_time() {
    let mut net = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
    net.handshake();
    let now = net.now;
    net.peers[GATEWAY].initiate(now);
    net.peers[AGENT].initiate(now);
    net.advance(S);
    let (near, far) = net.open(80);
    exchange(&mut net, near, far, 10_000, 60 * S);
}

#[test]
fn a_connection_requested_before_the_handshake_waits_for_it() {
    let mut net =
        SimulatedNetwork::new(3, NetworkConditions { loss: 300, ..NetworkConditions::CLEAN });
    let (near, far) = net.open(5900);
    exchange(&mut net, near, far, 1000, 60 * S);
}

#[test]
fn an_adverse_network_changes_only_the_time() {
    for seed in 0..8 {
        let mut net = SimulatedNetwork::new(seed, NetworkConditions::ADVERSE);
        net.handshake();
        let (near, far) = net.open(5900);
        exchange(&mut net, near, far, 200_000, 600 * S);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut net = SimulatedNetwork::new(seed, NetworkConditions::ADVERSE);
        net.handshake();
        let (near, far) = net.open(5900);
        exchange(&mut net, near, far, 100_000, 600 * S);
        (net.trace, net.events)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11).0, run(12).0);
}

#[test]
fn ipv6_inside() {
    let mut settings = PeerSettings::new();
    settings.tunnel_addresses = ["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()];
    let mut net = SimulatedNetwork::with_settings(1, NetworkConditions::ADVERSE, settings);
    net.handshake();
    let (near, far) = net.open(443);
    exchange(&mut net, near, far, 50_000, 300 * S);
}

#[test]
fn no_datagram_exceeds_the_mtu() {
    let mut net = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
    net.handshake();
    let (near, far) = net.open(5900);
    exchange(&mut net, near, far, 500_000, 60 * S);
    let largest = net.trace.iter().map(|&(_, _, size)| size).max().unwrap();
    assert_eq!(largest, 1420 + 32);
}

#[test]
fn a_paused_reader_stops_the_writer_at_the_window() {
    let mut net = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
    net.handshake();
    let (near, far) = net.open(5900);
    net.stream(GATEWAY, near).paused = true;
    net.stream(AGENT, far).outgoing = bytes(1, 8 << 20).into();
    net.advance(30 * S);
    let left = net.stream(AGENT, far).outgoing.len();
    // 64 KiB wait at the reader, because a window grows only when it is read from; at the writer,
    // twice its congestion window.
    let inside = (8 << 20) - left;
    assert!((128 << 10..=512 << 10).contains(&inside), "{inside}");
    net.stream(GATEWAY, near).paused = false;
    assert!(net.run(120 * S, |net| net.streams[&(GATEWAY, near)].incoming.len() == 8 << 20));
    assert!(net.stream(GATEWAY, near).incoming == bytes(1, 8 << 20));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn chunk_sizes_do_not_affect_the_data(seed in 0u64..1 << 40, out in 1usize..5000, back in 1usize..5000, length in 1usize..60_000) {
        let mut net = SimulatedNetwork::new(seed, NetworkConditions { loss: 20, duplicate: 20, ..NetworkConditions::ADVERSE });
        net.handshake();
        let (near, far) = net.open(5900);
        net.stream(GATEWAY, near).chunk = out;
        net.stream(AGENT, far).chunk = back;
        exchange(&mut net, near, far, length, 600 * S);
    }
}
