//! Two peers on a simulated network, by life cycle: handshake, data, rekeying, roaming, attacks.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use portcullis::tunnel::peer::{ByteQueue, Event};
use portcullis::tunnel::{PresharedKey, TunnelStatus};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Ipv4Packet, TcpControl, TcpPacket, TcpRepr};

use super::simnet::{AGENT, GATEWAY, NetworkConditions, PeerSettings, SimulatedNetwork};

const S: Duration = Duration::from_secs(1);

// ---- handshake ----

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

// ---- data ----

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

// ---- rekeying, expiry ----

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

// ---- loss of the peer, roaming ----

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

// ---- attacks ----

#[test]
fn replayed_datagrams_change_nothing() {
    let mut net = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    net.capture = true;
    net.handshake();
    let (near, far) = net.open(5900);
    exchange(&mut net, near, far, 20_000, 60 * S);
    net.advance(S);
    let before: Vec<_> =
        net.peers.iter().map(|peer| (peer.endpoint(), peer.counters().rx_bytes)).collect();
    let captured = net.captured.clone();
    let sent = net.trace.len();
    let attacker = "203.0.113.66:666".parse().unwrap();
    for (side, datagram) in &captured {
        net.inject(1 - side, attacker, datagram);
    }
    net.advance(Duration::from_millis(100));
    let after: Vec<_> =
        net.peers.iter().map(|peer| (peer.endpoint(), peer.counters().rx_bytes)).collect();
    assert_eq!(before, after);
    let rejected: u64 = net.peers.iter().map(|peer| peer.counters().rejected).sum();
    assert_eq!(rejected, captured.len() as u64);
    assert_eq!(net.trace.len(), sent, "replays are not answered");
}

#[test]
fn a_replayed_initiation_does_not_change_the_endpoint() {
    let mut net = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    let now = net.now;
    net.capture = true;
    net.peers[GATEWAY].initiate(now);
    net.advance(S);
    let (_, old) = net.captured.first().cloned().unwrap();
    net.advance(200 * S);
    // The agent has lost the timestamp of the last initiation.
    net.restart(AGENT);
    let endpoint = net.peers[AGENT].endpoint();
    net.inject(AGENT, "203.0.113.66:666".parse().unwrap(), &old);
    net.advance(S);
    assert_eq!(net.peers[AGENT].endpoint(), endpoint);
    let now = net.now;
    net.peers[GATEWAY].initiate(now);
    let (near, far) = net.open(80);
    exchange(&mut net, near, far, 1000, 10 * S);
}

#[test]
fn packets_with_other_inner_addresses_are_counted_and_dropped() {
    let mut net = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    let mut standard_peer = StandardPeer::handshake(&mut net);
    let own = [10, 64, 0, 1];
    for (source, destination) in [
        ([10, 64, 0, 9], [10, 64, 0, 2]),
        (own, [10, 64, 0, 3]),
        ([127, 0, 0, 1], [10, 64, 0, 2]),
        (own, [255, 255, 255, 255]),
    ] {
        standard_peer.send(&mut net, &packet(source, destination, 40000, 5900, 2));
    }
    assert_eq!(net.peers[AGENT].counters().foreign, 4);
    // The tunnel's own addresses, and a port without a listener: answered with a RST.
    let sent = net.trace.len();
    standard_peer.send(&mut net, &packet(own, [10, 64, 0, 2], 40000, 5900, 2));
    net.advance(Duration::from_millis(1));
    assert_eq!(net.trace.len(), sent + 1);
    assert_eq!(net.peers[AGENT].counters().foreign, 4);
}

#[test]
fn replies_pass_the_checks_of_a_kernel() {
    let mut net = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    let mut standard_peer = StandardPeer::handshake(&mut net);
    let now = net.now;
    net.peers[AGENT].listen(5900, 8).unwrap();
    for (port, answer) in [(5900, TcpControl::Syn), (5901, TcpControl::Rst)] {
        standard_peer.send(&mut net, &packet([10, 64, 0, 1], [10, 64, 0, 2], 40000, port, 2));
        net.peers[AGENT].flush(now);
        let packet = standard_peer.receive(&mut net);
        let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(
            ip.verify_checksum()
                && tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into())
        );
        let tcp = TcpRepr::parse(
            &tcp,
            &ip.src_addr().into(),
            &ip.dst_addr().into(),
            &ChecksumCapabilities::default(),
        )
        .unwrap();
        assert_eq!((tcp.control, tcp.src_port, tcp.dst_port), (answer, port, 40000));
        if answer == TcpControl::Syn {
            assert_eq!(tcp.max_seg_size, Some(1420 - 40));
        }
    }
}

#[test]
fn only_connections_with_news_for_their_users_are_reported() {
    let mut net = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    net.handshake();
    let ends: Vec<_> = (0..40).map(|_| net.open(5900)).collect();
    net.advance(S);
    for (near, _) in [ends[3], ends[17]] {
        let mut data = ByteQueue::default();
        data.extend(b"data");
        net.peers[GATEWAY].write(near, &mut data);
    }
    let (now, mut ready) = (net.now, Vec::new());
    let [gateway, agent] = &mut net.peers;
    gateway.flush(now);
    gateway.drain_ready(&mut ready);
    assert_eq!(ready, [], "not the connections that were written to");
    while let Some(train) = gateway.poll_transmit() {
        train
            .segments()
            .for_each(|datagram| agent.handle_datagram(datagram, net.addresses[GATEWAY], now));
    }
    agent.drain_ready(&mut ready);
    ready.sort_unstable();
    let mut expected = vec![ends[3].1, ends[17].1];
    expected.sort_unstable();
    assert_eq!(ready, expected);
    ready.clear();
    agent.drain_ready(&mut ready);
    assert_eq!(ready, [], "only once");
}

#[test]
fn half_open_connections_are_limited_and_time_out() {
    let mut net = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    let mut standard_peer = StandardPeer::handshake(&mut net);
    net.peers[AGENT].listen(5900, 8).unwrap();
    for port in 0..500u16 {
        standard_peer
            .send(&mut net, &packet([10, 64, 0, 1], [10, 64, 0, 2], 10_000 + port, 5900, 2));
    }
    net.advance(Duration::from_millis(1));
    assert_eq!(net.peers[AGENT].connections(), 8);
    // The real gateway is unreachable: the connections time out.
    net.conditions = NetworkConditions::PARTITIONED;
    net.advance(12 * S);
    assert_eq!(net.peers[AGENT].connections(), 0);
    assert!(!net.events[AGENT].iter().any(|event| matches!(event, Event::Accepted { .. })));
}

proptest! {
    #[test]
    fn arbitrary_datagrams_are_rejected(datagram in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..6, size in prop::sample::select(vec![0usize, 32, 64, 92, 148, 300])) {
        let mut net = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
        let mut datagram = datagram;
        datagram.resize(size, 0);
        if let Some(head) = datagram.first_chunk_mut() {
            *head = [kind, 0, 0, 0];
        }
        net.inject(AGENT, "203.0.113.66:666".parse().unwrap(), &datagram);
        prop_assert_eq!(net.peers[AGENT].counters().rejected, 1);
        prop_assert_eq!(net.peers[AGENT].endpoint(), None);
        prop_assert!(net.peers[AGENT].poll_transmit().is_none());
    }

    #[test]
    fn arbitrary_inner_packets_are_handled(body in prop::collection::vec(any::<u8>(), 1..200), head in prop::sample::select(vec![0x45u8, 0x4f, 0x40, 0x60, 0x00])) {
        let mut net = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
        let mut standard_peer = StandardPeer::handshake(&mut net);
        let mut packet = body;
        packet[0] = head;
        if packet.len() >= 20 {
            // Past the address check, into TCP.
            let length = packet.len() as u16;
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet[12..20].copy_from_slice(&[10, 64, 0, 1, 10, 64, 0, 2]);
        }
        standard_peer.send(&mut net, &packet);
        net.advance(Duration::from_millis(1));
        prop_assert!(net.peers[AGENT].connections() == 0);
    }
}

// ---- helpers ----

/// Both ends send `length` bytes, then close; both must receive all of it.
fn exchange(
    net: &mut SimulatedNetwork,
    near: portcullis::tunnel::peer::ConnId,
    far: portcullis::tunnel::peer::ConnId,
    length: usize,
    limit: Duration,
) {
    let (out, back) = (bytes(1, length), bytes(2, length));
    for (side, conn, captured) in [(GATEWAY, near, &out), (AGENT, far, &back)] {
        let stream = net.stream(side, conn);
        stream.outgoing.extend(captured);
        stream.finish = true;
    }
    let done = net.run(limit, |net| {
        net.streams[&(GATEWAY, near)].finished && net.streams[&(AGENT, far)].finished
    });
    let failures = [net.stream(GATEWAY, near).failed, net.stream(AGENT, far).failed];
    assert!(
        done,
        "not done after {limit:?}: {failures:?}, {:?}",
        net.peers.each_ref().map(|peer| peer.counters())
    );
    assert!(
        net.stream(GATEWAY, near).incoming == back && net.stream(AGENT, far).incoming == out,
        "bytes differ"
    );
}

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = super::simnet::Rng::new(seed + 1);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// A standard peer: boringtun alone, with the gateway's keys, able to send arbitrary packets.
struct StandardPeer {
    tunn: Tunn,
    address: SocketAddr,
}

impl StandardPeer {
    fn handshake(net: &mut SimulatedNetwork) -> Self {
        let settings = PeerSettings::new();
        let secret =
            boringtun::x25519::StaticSecret::from(*settings.private_keys[GATEWAY].expose());
        let agent = boringtun::x25519::PublicKey::from(
            *settings.private_keys[AGENT].public_key().as_bytes(),
        );
        let mut tunn = Tunn::new(
            secret,
            agent,
            Some(*settings.preshared_keys[GATEWAY].expose()),
            None,
            9,
            None,
        );
        let address = net.addresses[GATEWAY];
        let (mut buffer, mut answer) = (vec![0; 2048], vec![0; 2048]);
        let TunnResult::WriteToNetwork(initiation) =
            tunn.format_handshake_initiation(&mut buffer, false)
        else {
            panic!()
        };
        net.inject(AGENT, address, initiation);
        let response = net.peers[AGENT].poll_transmit().unwrap();
        let TunnResult::WriteToNetwork(confirmation) =
            tunn.decapsulate(None, &response.contents, &mut answer)
        else {
            panic!()
        };
        net.inject(AGENT, address, confirmation);
        assert_eq!(net.peers[AGENT].status(net.now), TunnelStatus::Encrypted);
        Self { tunn, address }
    }

    fn receive(&mut self, net: &mut SimulatedNetwork) -> Vec<u8> {
        let train = net.peers[AGENT].poll_transmit().unwrap();
        let mut buffer = vec![0; 2048];
        match self.tunn.decapsulate(None, &train.contents, &mut buffer) {
            TunnResult::WriteToTunnelV4(packet, _) => packet.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, net: &mut SimulatedNetwork, packet: &[u8]) {
        let mut buffer = vec![0; 2048];
        let TunnResult::WriteToNetwork(datagram) = self.tunn.encapsulate(packet, &mut buffer)
        else {
            panic!()
        };
        net.inject(AGENT, self.address, datagram);
    }
}

/// A TCP segment over IPv4, without payload.
fn packet(source: [u8; 4], destination: [u8; 4], from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x45;
    packet[3] = 40;
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet[20..22].copy_from_slice(&from.to_be_bytes());
    packet[22..24].copy_from_slice(&to.to_be_bytes());
    packet[32] = 0x50;
    packet[33] = flags;
    packet[34] = 0xff;
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    let (source, destination) = (ip.src_addr().into(), ip.dst_addr().into());
    TcpPacket::new_unchecked(ip.payload_mut()).fill_checksum(&source, &destination);
    packet
}
