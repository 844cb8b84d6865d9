//! Two peers on a simulated network, told by life cycle: meeting, talking, ageing, moving, being
//! attacked, being cut.

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

// ---- meeting ----

#[test]
fn a_handshake_takes_one_round_trip() {
    let mut world = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
    assert_eq!(world.peers[GATEWAY].status(world.now), TunnelStatus::Connecting);
    world.handshake();
    assert_eq!(world.peers[GATEWAY].counters().rtt, Some(Duration::from_millis(20)));
    assert_eq!(world.peers[GATEWAY].status(world.now), TunnelStatus::Encrypted);
    assert_eq!(world.peers[AGENT].status(world.now), TunnelStatus::Encrypted);
    assert_eq!(world.peers[AGENT].endpoint(), Some(world.addresses[GATEWAY]));
    // Initiation, response, confirmation; nothing more.
    assert_eq!(
        world.trace.iter().map(|&(_, side, size)| (side, size)).collect::<Vec<_>>(),
        [(0, 148), (1, 92), (0, 32)]
    );
}

#[test]
fn a_handshake_gets_through_heavy_loss() {
    for seed in 0..20 {
        let mut world = SimulatedNetwork::new(
            seed,
            NetworkConditions { loss: 400, ..NetworkConditions::CLEAN },
        );
        world.handshake();
    }
}

#[test]
fn the_wrong_preshared_key_never_handshakes() {
    let mut keys = PeerSettings::new();
    keys.preshared_keys[AGENT] = PresharedKey::from_bytes([4; 32]);
    let mut world = SimulatedNetwork::with_settings(1, NetworkConditions::CLEAN, keys);
    let now = world.now;
    world.peers[GATEWAY].initiate(now);
    world.advance(60 * S);
    assert_eq!(world.peers[GATEWAY].status(world.now), TunnelStatus::Connecting);
    world.advance(40 * S);
    assert_eq!(world.peers[GATEWAY].status(world.now), TunnelStatus::Down);
    assert_eq!((world.handshakes(GATEWAY), world.handshakes(AGENT)), (0, 0));
    assert!(world.peers[GATEWAY].counters().rejected > 10);
    // The attempt is over: silence.
    let sent = world.trace.len();
    world.advance(600 * S);
    assert_eq!(world.trace.len(), sent);
}

#[test]
fn both_may_call_at_the_same_moment() {
    let mut world = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
    world.handshake();
    let now = world.now;
    world.peers[GATEWAY].initiate(now);
    world.peers[AGENT].initiate(now);
    world.advance(S);
    let (near, far) = world.open(80);
    exchange(&mut world, near, far, 10_000, 60 * S);
}

#[test]
fn a_connection_asked_for_before_the_handshake_waits_for_it() {
    let mut world =
        SimulatedNetwork::new(3, NetworkConditions { loss: 300, ..NetworkConditions::CLEAN });
    let (near, far) = world.open(5900);
    exchange(&mut world, near, far, 1000, 60 * S);
}

// ---- talking ----

#[test]
fn a_storm_changes_nothing_but_the_time() {
    for seed in 0..8 {
        let mut world = SimulatedNetwork::new(seed, NetworkConditions::ADVERSE);
        world.handshake();
        let (near, far) = world.open(5900);
        exchange(&mut world, near, far, 200_000, 600 * S);
    }
}

#[test]
fn the_same_seed_gives_the_same_conversation() {
    let run = |seed| {
        let mut world = SimulatedNetwork::new(seed, NetworkConditions::ADVERSE);
        world.handshake();
        let (near, far) = world.open(5900);
        exchange(&mut world, near, far, 100_000, 600 * S);
        (world.trace, world.events)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11).0, run(12).0);
}

#[test]
fn ipv6_inside() {
    let mut keys = PeerSettings::new();
    keys.tunnel_addresses = ["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()];
    let mut world = SimulatedNetwork::with_settings(1, NetworkConditions::ADVERSE, keys);
    world.handshake();
    let (near, far) = world.open(443);
    exchange(&mut world, near, far, 50_000, 300 * S);
}

#[test]
fn no_datagram_is_larger_than_the_tunnel_promises() {
    let mut world = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
    world.handshake();
    let (near, far) = world.open(5900);
    exchange(&mut world, near, far, 500_000, 60 * S);
    let largest = world.trace.iter().map(|&(_, _, size)| size).max().unwrap();
    assert_eq!(largest, 1420 + 32);
}

#[test]
fn a_reader_that_stalls_holds_the_writer_at_the_window() {
    let mut world = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
    world.handshake();
    let (near, far) = world.open(5900);
    world.stream(GATEWAY, near).paused = true;
    world.stream(AGENT, far).outgoing = bytes(1, 8 << 20).into();
    world.advance(30 * S);
    let left = world.stream(AGENT, far).outgoing.len();
    // 64 KiB wait at the reader, for a window grows only when it is read from; at the writer, what
    // two rounds of its congestion window need.
    let inside = (8 << 20) - left;
    assert!((128 << 10..=512 << 10).contains(&inside), "{inside}");
    world.stream(GATEWAY, near).paused = false;
    assert!(world.run(120 * S, |world| world.streams[&(GATEWAY, near)].incoming.len() == 8 << 20));
    assert!(world.stream(GATEWAY, near).incoming == bytes(1, 8 << 20));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn any_chunking_arrives_the_same(seed in 0u64..1 << 40, out in 1usize..5000, back in 1usize..5000, length in 1usize..60_000) {
        let mut world = SimulatedNetwork::new(seed, NetworkConditions { loss: 20, duplicate: 20, ..NetworkConditions::ADVERSE });
        world.handshake();
        let (near, far) = world.open(5900);
        world.stream(GATEWAY, near).chunk = out;
        world.stream(AGENT, far).chunk = back;
        exchange(&mut world, near, far, length, 600 * S);
    }
}

// ---- ageing ----

#[test]
fn keys_are_renewed_every_two_minutes_under_traffic() {
    let mut world =
        SimulatedNetwork::new(5, NetworkConditions { loss: 20, ..NetworkConditions::CLEAN });
    world.handshake();
    let (near, far) = world.open(5900);
    for minute in 0..20u64 {
        for tick in 0..6 {
            world.stream(AGENT, far).outgoing.extend(bytes(minute * 6 + tick, 3000));
            world.advance(10 * S);
            assert_eq!(
                world.peers[GATEWAY].status(world.now),
                TunnelStatus::Encrypted,
                "minute {minute}"
            );
        }
    }
    let renewals = world.peers[GATEWAY].counters().handshakes;
    assert!((9..=11).contains(&renewals), "{renewals} in 20 minutes");
    assert_eq!(world.stream(GATEWAY, near).incoming.len(), 20 * 6 * 3000);
}

#[test]
fn an_idle_tunnel_kept_alive_stays_encrypted() {
    let mut keys = PeerSettings::new();
    keys.keepalive = [None, Some(25 * S)];
    let mut world = SimulatedNetwork::with_settings(5, NetworkConditions::CLEAN, keys);
    let now = world.now;
    world.peers[GATEWAY].initiate(now);
    world.advance(S);
    for _ in 0..60 {
        world.advance(10 * S);
        for side in [GATEWAY, AGENT] {
            assert_eq!(
                world.peers[side].status(world.now),
                TunnelStatus::Encrypted,
                "after {:?}",
                world.now - world.epoch
            );
        }
    }
}

#[test]
fn an_idle_tunnel_without_keepalive_falls_silent_and_forgets_its_keys() {
    let mut world = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    world.handshake();
    world.advance(179 * S);
    assert_eq!(world.peers[GATEWAY].status(world.now), TunnelStatus::Encrypted);
    world.advance(2 * S);
    assert_eq!(world.peers[GATEWAY].status(world.now), TunnelStatus::Down);
    assert_eq!(world.trace.len(), 3);
    // And is there again when somebody wants something.
    let (near, far) = world.open(5900);
    exchange(&mut world, near, far, 1000, 10 * S);
}

#[test]
fn a_packet_under_an_expired_key_is_refused() {
    let mut world = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    world.handshake();
    world.conditions = NetworkConditions::PARTITIONED;
    world.capture = true;
    let now = world.now;
    // A packet that was never delivered, so no replay window knows it.
    let _ = world.peers[GATEWAY].connect(80, now);
    world.advance(S);
    let (_, packet) = world.captured.first().cloned().unwrap();
    let from = world.addresses[GATEWAY];
    let before = world.peers[AGENT].counters();
    world.advance(181 * S);
    world.inject(AGENT, from, &packet);
    assert_eq!(world.peers[AGENT].counters().rx_bytes, before.rx_bytes);
    assert_eq!(world.peers[AGENT].counters().rejected, before.rejected + 1);
}

// ---- losing and finding each other ----

#[test]
fn unanswered_data_makes_it_stale_and_an_answer_makes_it_whole() {
    let mut world = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    world.handshake();
    let (near, _) = world.open(5900);
    world.conditions = NetworkConditions::PARTITIONED;
    world.stream(GATEWAY, near).outgoing.extend(b"anybody?");
    world.advance(14 * S);
    assert_eq!(world.peers[GATEWAY].status(world.now), TunnelStatus::Encrypted);
    world.advance(2 * S);
    assert_eq!(world.peers[GATEWAY].status(world.now), TunnelStatus::Stale);
    world.conditions = NetworkConditions::CLEAN;
    // A handshake is tried every five seconds, so this does not wait for TCP's ever longer
    // patience.
    assert!(
        world.run(6 * S, |world| world.peers[GATEWAY].status(world.now) == TunnelStatus::Encrypted)
    );
}

#[test]
fn a_connection_whose_other_end_vanished_fails_after_the_timeout() {
    let mut world = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    world.handshake();
    let (near, _) = world.open(5900);
    world.conditions = NetworkConditions::PARTITIONED;
    world.advance(15 * S);
    assert_eq!(world.stream(GATEWAY, near).failed, None);
    world.advance(15 * S);
    assert_eq!(world.stream(GATEWAY, near).failed, Some(ErrorKind::TimedOut));
    world.advance(200 * S);
    assert_eq!(world.peers[GATEWAY].status(world.now), TunnelStatus::Down);
}

#[test]
fn a_tunnel_kept_alive_finds_its_peer_after_an_hour_apart() {
    let mut keys = PeerSettings::new();
    keys.keepalive = [Some(25 * S); 2];
    let mut world = SimulatedNetwork::with_settings(5, NetworkConditions::CLEAN, keys);
    world.handshake();
    world.conditions = NetworkConditions::PARTITIONED;
    world.advance(3600 * S);
    assert_eq!(world.peers[GATEWAY].status(world.now), TunnelStatus::Down);
    world.conditions = NetworkConditions::CLEAN;
    assert!(world.run(60 * S, |world| {
        [GATEWAY, AGENT]
            .iter()
            .all(|&side| world.peers[side].status(world.now) == TunnelStatus::Encrypted)
    }));
}

#[test]
fn a_peer_that_moves_is_followed_in_the_middle_of_a_stream() {
    let mut world = SimulatedNetwork::new(7, NetworkConditions::ADVERSE);
    world.handshake();
    let (near, far) = world.open(5900);
    let length = 3_000_000;
    world.stream(AGENT, far).outgoing = bytes(2, length).into();
    for port in [5000u16, 6000, 7000] {
        world.advance(S / 2);
        world.addresses[AGENT] = SocketAddr::from(([203, 0, 113, 9], port));
    }
    let done = world.run(300 * S, |world| world.streams[&(GATEWAY, near)].incoming.len() == length);
    assert!(done);
    assert!(world.stream(GATEWAY, near).incoming == bytes(2, length));
    assert_eq!(world.peers[GATEWAY].endpoint(), Some(world.addresses[AGENT]));
    assert!(world.peers[GATEWAY].counters().roamed >= 1);
}

#[test]
fn a_restarted_gateway_is_taken_at_its_word() {
    let mut world = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    world.handshake();
    let (_, old) = world.open(5900);
    world.restart(GATEWAY);
    let now = world.now;
    world.peers[GATEWAY].initiate(now);
    assert!(
        world.run(S, |world| world.handshakes(GATEWAY) == 2),
        "the agent takes the new handshake at once"
    );
    let (near, far) = world.open(5900);
    exchange(&mut world, near, far, 100_000, 60 * S);
    // The old connection's keepalive meets a stack that does not know it.
    world.advance(20 * S);
    assert!(world.stream(AGENT, old).failed.is_some());
}

// ---- being attacked ----

#[test]
fn everything_said_again_by_somebody_else_changes_nothing() {
    let mut world = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    world.capture = true;
    world.handshake();
    let (near, far) = world.open(5900);
    exchange(&mut world, near, far, 20_000, 60 * S);
    world.advance(S);
    let before: Vec<_> =
        world.peers.iter().map(|peer| (peer.endpoint(), peer.counters().rx_bytes)).collect();
    let said = world.captured.clone();
    let sent = world.trace.len();
    let mallory = "203.0.113.66:666".parse().unwrap();
    for (side, datagram) in &said {
        world.inject(1 - side, mallory, datagram);
    }
    world.advance(Duration::from_millis(100));
    let after: Vec<_> =
        world.peers.iter().map(|peer| (peer.endpoint(), peer.counters().rx_bytes)).collect();
    assert_eq!(before, after);
    let rejected: u64 = world.peers.iter().map(|peer| peer.counters().rejected).sum();
    assert_eq!(rejected, said.len() as u64);
    assert_eq!(world.trace.len(), sent, "and is answered with silence");
}

#[test]
fn an_initiation_from_before_a_restart_moves_nobody() {
    let mut world = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    let now = world.now;
    world.capture = true;
    world.peers[GATEWAY].initiate(now);
    world.advance(S);
    let (_, old) = world.captured.first().cloned().unwrap();
    world.advance(200 * S);
    // The agent forgot, and with it the time of the last initiation.
    world.restart(AGENT);
    let endpoint = world.peers[AGENT].endpoint();
    world.inject(AGENT, "203.0.113.66:666".parse().unwrap(), &old);
    world.advance(S);
    assert_eq!(world.peers[AGENT].endpoint(), endpoint);
    let now = world.now;
    world.peers[GATEWAY].initiate(now);
    let (near, far) = world.open(80);
    exchange(&mut world, near, far, 1000, 10 * S);
}

#[test]
fn packets_between_foreign_addresses_are_counted_and_dropped() {
    let mut world = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    let mut outsider = Standard::meet(&mut world);
    let own = [10, 64, 0, 1];
    for (source, destination) in [
        ([10, 64, 0, 9], [10, 64, 0, 2]),
        (own, [10, 64, 0, 3]),
        ([127, 0, 0, 1], [10, 64, 0, 2]),
        (own, [255, 255, 255, 255]),
    ] {
        outsider.say(&mut world, &packet(source, destination, 40000, 5900, 2));
    }
    assert_eq!(world.peers[AGENT].counters().foreign, 4);
    // Its own addresses, and a port where nobody listens: that one is answered, with a reset.
    let sent = world.trace.len();
    outsider.say(&mut world, &packet(own, [10, 64, 0, 2], 40000, 5900, 2));
    world.advance(Duration::from_millis(1));
    assert_eq!(world.trace.len(), sent + 1);
    assert_eq!(world.peers[AGENT].counters().foreign, 4);
}

#[test]
fn what_a_kernel_would_check_is_right() {
    let mut world = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    let mut outsider = Standard::meet(&mut world);
    let now = world.now;
    world.peers[AGENT].listen(5900, 8).unwrap();
    for (port, answer) in [(5900, TcpControl::Syn), (5901, TcpControl::Rst)] {
        outsider.say(&mut world, &packet([10, 64, 0, 1], [10, 64, 0, 2], 40000, port, 2));
        world.peers[AGENT].flush(now);
        let heard = outsider.hear(&mut world);
        let ip = Ipv4Packet::new_checked(&heard[..]).unwrap();
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
fn only_those_to_whom_something_happened_are_named() {
    let mut world = SimulatedNetwork::new(5, NetworkConditions::CLEAN);
    world.handshake();
    let ends: Vec<_> = (0..40).map(|_| world.open(5900)).collect();
    world.advance(S);
    for (near, _) in [ends[3], ends[17]] {
        let mut word = ByteQueue::default();
        word.extend(b"word");
        world.peers[GATEWAY].write(near, &mut word);
    }
    let (now, mut named) = (world.now, Vec::new());
    let [gateway, agent] = &mut world.peers;
    gateway.flush(now);
    gateway.drain_ready(&mut named);
    assert_eq!(named, [], "who writes knows it");
    while let Some(train) = gateway.poll_transmit() {
        train
            .segments()
            .for_each(|datagram| agent.handle_datagram(datagram, world.addresses[GATEWAY], now));
    }
    agent.drain_ready(&mut named);
    named.sort_unstable();
    let mut reached = vec![ends[3].1, ends[17].1];
    reached.sort_unstable();
    assert_eq!(named, reached);
    named.clear();
    agent.drain_ready(&mut named);
    assert_eq!(named, [], "once");
}

#[test]
fn half_open_connections_are_few_and_do_not_last() {
    let mut world = SimulatedNetwork::new(7, NetworkConditions::CLEAN);
    let mut outsider = Standard::meet(&mut world);
    world.peers[AGENT].listen(5900, 8).unwrap();
    for port in 0..500u16 {
        outsider.say(&mut world, &packet([10, 64, 0, 1], [10, 64, 0, 2], 10_000 + port, 5900, 2));
    }
    world.advance(Duration::from_millis(1));
    assert_eq!(world.peers[AGENT].connections(), 8);
    // The real gateway is away: nobody resets them but time.
    world.conditions = NetworkConditions::PARTITIONED;
    world.advance(12 * S);
    assert_eq!(world.peers[AGENT].connections(), 0);
    assert!(!world.events[AGENT].iter().any(|event| matches!(event, Event::Accepted { .. })));
}

proptest! {
    #[test]
    fn any_datagram_is_survived(datagram in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..6, size in prop::sample::select(vec![0usize, 32, 64, 92, 148, 300])) {
        let mut world = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
        let mut datagram = datagram;
        datagram.resize(size, 0);
        if let Some(head) = datagram.first_chunk_mut() {
            *head = [kind, 0, 0, 0];
        }
        world.inject(AGENT, "203.0.113.66:666".parse().unwrap(), &datagram);
        prop_assert_eq!(world.peers[AGENT].counters().rejected, 1);
        prop_assert_eq!(world.peers[AGENT].endpoint(), None);
        prop_assert!(world.peers[AGENT].poll_transmit().is_none());
    }

    #[test]
    fn any_inner_packet_is_survived(body in prop::collection::vec(any::<u8>(), 1..200), head in prop::sample::select(vec![0x45u8, 0x4f, 0x40, 0x60, 0x00])) {
        let mut world = SimulatedNetwork::new(1, NetworkConditions::CLEAN);
        let mut outsider = Standard::meet(&mut world);
        let mut packet = body;
        packet[0] = head;
        if packet.len() >= 20 {
            // Past the address check, into TCP.
            let length = packet.len() as u16;
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet[12..20].copy_from_slice(&[10, 64, 0, 1, 10, 64, 0, 2]);
        }
        outsider.say(&mut world, &packet);
        world.advance(Duration::from_millis(1));
        prop_assert!(world.peers[AGENT].connections() == 0);
    }
}

// ---- helpers ----

/// Both ends say `length` bytes, then end; both must hear all of it.
fn exchange(
    world: &mut SimulatedNetwork,
    near: portcullis::tunnel::peer::ConnId,
    far: portcullis::tunnel::peer::ConnId,
    length: usize,
    limit: Duration,
) {
    let (out, back) = (bytes(1, length), bytes(2, length));
    for (side, conn, said) in [(GATEWAY, near, &out), (AGENT, far, &back)] {
        let stream = world.stream(side, conn);
        stream.outgoing.extend(said);
        stream.finish = true;
    }
    let done = world.run(limit, |world| {
        world.streams[&(GATEWAY, near)].finished && world.streams[&(AGENT, far)].finished
    });
    let failures = [world.stream(GATEWAY, near).failed, world.stream(AGENT, far).failed];
    assert!(
        done,
        "not done after {limit:?}: {failures:?}, {:?}",
        world.peers.each_ref().map(|peer| peer.counters())
    );
    assert!(
        world.stream(GATEWAY, near).incoming == back && world.stream(AGENT, far).incoming == out,
        "bytes differ"
    );
}

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = super::simnet::Rng::new(seed + 1);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// A peer that is not ours: boringtun alone, with the gateway's keys, able to say anything.
struct Standard {
    tunn: Tunn,
    address: SocketAddr,
}

impl Standard {
    fn meet(world: &mut SimulatedNetwork) -> Self {
        let keys = PeerSettings::new();
        let secret = boringtun::x25519::StaticSecret::from(*keys.private_keys[GATEWAY].expose());
        let agent =
            boringtun::x25519::PublicKey::from(*keys.private_keys[AGENT].public_key().as_bytes());
        let mut tunn =
            Tunn::new(secret, agent, Some(*keys.preshared_keys[GATEWAY].expose()), None, 9, None);
        let address = world.addresses[GATEWAY];
        let (mut room, mut answer) = (vec![0; 2048], vec![0; 2048]);
        let TunnResult::WriteToNetwork(initiation) =
            tunn.format_handshake_initiation(&mut room, false)
        else {
            panic!()
        };
        world.inject(AGENT, address, initiation);
        let response = world.peers[AGENT].poll_transmit().unwrap();
        let TunnResult::WriteToNetwork(confirmation) =
            tunn.decapsulate(None, &response.contents, &mut answer)
        else {
            panic!()
        };
        world.inject(AGENT, address, confirmation);
        assert_eq!(world.peers[AGENT].status(world.now), TunnelStatus::Encrypted);
        Self { tunn, address }
    }

    fn hear(&mut self, world: &mut SimulatedNetwork) -> Vec<u8> {
        let train = world.peers[AGENT].poll_transmit().unwrap();
        let mut room = vec![0; 2048];
        match self.tunn.decapsulate(None, &train.contents, &mut room) {
            TunnResult::WriteToTunnelV4(packet, _) => packet.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn say(&mut self, world: &mut SimulatedNetwork, packet: &[u8]) {
        let mut room = vec![0; 2048];
        let TunnResult::WriteToNetwork(datagram) = self.tunn.encapsulate(packet, &mut room) else {
            panic!()
        };
        world.inject(AGENT, self.address, datagram);
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
