//! Two peers on a simulated network: rekeying, expiry, loss of the peer, roaming, restarts.

use std::io::ErrorKind;
use std::net::SocketAddr;

use portcullis::tunnel::TunnelStatus;

use super::peer_fixture::{S, bytes, exchange};
use super::simnet::{AGENT, GATEWAY, NetworkConditions, PeerSettings, SimulatedNetwork};

#[test]
fn sessions_are_rekeyed_every_two_minutes_under_traffic() {
    let mut net =
        SimulatedNetwork::new(5, NetworkConditions { loss: 20, ..NetworkConditions::CLEAN });
    net.handshake();
    let (near, far) = net.open(5900);
    for minute in 0..20u64 {
        for tick in 0..6 {
            net.stream(AGENT, far).outgoing.extend(bytes(minute * 6 + tick, 3000));
            net.advance(10 * S);
            assert_eq!(
                net.peers[GATEWAY].status(net.now),
                TunnelStatus::Encrypted,
                "minute {minute}"
            );
        }
    }
    let renewals = net.peers[GATEWAY].counters().handshakes;
    assert!((9..=11).contains(&renewals), "{renewals} in 20 minutes");
    assert_eq!(net.stream(GATEWAY, near).incoming.len(), 20 * 6 * 3000);
}

#[test]
fn an_idle_tunnel_with_keepalive_stays_encrypted() {
    let mut settings = PeerSettings::new();
    settings.keepalive = [None, Some(25 * S)];
    let mut net = SimulatedNetwork::with_settings(5, NetworkConditions::CLEAN, settings);
    let now = net.now;
    net.peers[GATEWAY].initiate(now);
    net.advance(S);
    for _ in 0..60 {
        net.advance(10 * S);
        for side in [GATEWAY, AGENT] {
            assert_eq!(
                net.peers[side].status(net.now),
                TunnelStatus::Encrypted,
                "after {:?}",
                net.now - net.epoch
            );
        }
    }
}

#[test]
fn an_idle_tunnel_without_keepalive_sends_nothing_and_expires() {
    let mut net = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    net.handshake();
    net.advance(179 * S);
    assert_eq!(net.peers[GATEWAY].status(net.now), TunnelStatus::Encrypted);
    net.advance(2 * S);
    assert_eq!(net.peers[GATEWAY].status(net.now), TunnelStatus::Down);
    assert_eq!(net.trace.len(), 3);
    // The next use starts a handshake.
    let (near, far) = net.open(5900);
    exchange(&mut net, near, far, 1000, 10 * S);
}

#[test]
fn a_packet_under_an_expired_key_is_refused() {
    let mut net = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    net.handshake();
    net.conditions = NetworkConditions::PARTITIONED;
    net.capture = true;
    let now = net.now;
    // A packet that was never delivered, so that no replay window contains it.
    let _ = net.peers[GATEWAY].connect(80, now);
    net.advance(S);
    let (_, packet) = net.captured.first().cloned().unwrap();
    let from = net.addresses[GATEWAY];
    let before = net.peers[AGENT].counters();
    net.advance(181 * S);
    net.inject(AGENT, from, &packet);
    assert_eq!(net.peers[AGENT].counters().rx_bytes, before.rx_bytes);
    assert_eq!(net.peers[AGENT].counters().rejected, before.rejected + 1);
}

#[test]
fn unanswered_data_makes_the_tunnel_stale_until_an_answer() {
    let mut net = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    net.handshake();
    let (near, _) = net.open(5900);
    net.conditions = NetworkConditions::PARTITIONED;
    net.stream(GATEWAY, near).outgoing.extend(b"ping");
    net.advance(14 * S);
    assert_eq!(net.peers[GATEWAY].status(net.now), TunnelStatus::Encrypted);
    net.advance(2 * S);
    assert_eq!(net.peers[GATEWAY].status(net.now), TunnelStatus::Stale);
    net.conditions = NetworkConditions::CLEAN;
    // Handshakes are retried every five seconds, so this does not wait for TCP's backoff.
    assert!(net.run(6 * S, |net| net.peers[GATEWAY].status(net.now) == TunnelStatus::Encrypted));
}

#[test]
fn a_connection_to_an_unreachable_peer_times_out() {
    let mut net = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    net.handshake();
    let (near, _) = net.open(5900);
    net.conditions = NetworkConditions::PARTITIONED;
    net.advance(15 * S);
    assert_eq!(net.stream(GATEWAY, near).failed, None);
    net.advance(15 * S);
    assert_eq!(net.stream(GATEWAY, near).failed, Some(ErrorKind::TimedOut));
    net.advance(200 * S);
    assert_eq!(net.peers[GATEWAY].status(net.now), TunnelStatus::Down);
}

#[test]
fn a_tunnel_with_keepalive_recovers_after_an_hour_of_partition() {
    let mut settings = PeerSettings::new();
    settings.keepalive = [Some(25 * S); 2];
    let mut net = SimulatedNetwork::with_settings(5, NetworkConditions::CLEAN, settings);
    net.handshake();
    net.conditions = NetworkConditions::PARTITIONED;
    net.advance(3600 * S);
    assert_eq!(net.peers[GATEWAY].status(net.now), TunnelStatus::Down);
    net.conditions = NetworkConditions::CLEAN;
    assert!(net.run(60 * S, |net| {
        [GATEWAY, AGENT]
            .iter()
            .all(|&side| net.peers[side].status(net.now) == TunnelStatus::Encrypted)
    }));
}

#[test]
fn a_peer_may_roam_during_a_stream() {
    let mut net = SimulatedNetwork::new(7, NetworkConditions::ADVERSE);
    net.handshake();
    let (near, far) = net.open(5900);
    let length = 3_000_000;
    net.stream(AGENT, far).outgoing = bytes(2, length).into();
    for port in [5000u16, 6000, 7000] {
        net.advance(S / 2);
        net.addresses[AGENT] = SocketAddr::from(([203, 0, 113, 9], port));
    }
    let done = net.run(300 * S, |net| net.streams[&(GATEWAY, near)].incoming.len() == length);
    assert!(done);
    assert!(net.stream(GATEWAY, near).incoming == bytes(2, length));
    assert_eq!(net.peers[GATEWAY].endpoint(), Some(net.addresses[AGENT]));
    assert!(net.peers[GATEWAY].counters().roamed >= 1);
}

#[test]
fn a_restarted_gateway_is_accepted_at_once() {
    let mut net = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    net.handshake();
    let (_, old) = net.open(5900);
    net.restart(GATEWAY);
    let now = net.now;
    net.peers[GATEWAY].initiate(now);
    assert!(
        net.run(S, |net| net.handshakes(GATEWAY) == 2),
        "the agent takes the new handshake at once"
    );
    let (near, far) = net.open(5900);
    exchange(&mut net, near, far, 100_000, 60 * S);
    // The old connection's keepalive is answered with a RST.
    net.advance(20 * S);
    assert!(net.stream(AGENT, old).failed.is_some());
}
