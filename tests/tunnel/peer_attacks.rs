//! Two peers on a simulated network, and an attacker: replays, foreign addresses, arbitrary bytes.

use std::time::Duration;

use portcullis::tunnel::peer::{ByteQueue, Event};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Ipv4Packet, TcpControl, TcpPacket, TcpRepr};

use super::peer_fixture::{S, StandardPeer, exchange, packet};
use super::simnet::{AGENT, GATEWAY, NetworkConditions, SimulatedNetwork};

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
