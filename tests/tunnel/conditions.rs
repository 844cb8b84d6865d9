//! Peers on a simulated network: throughput under network conditions, clock jumps, replaced keys.

use std::fmt::Write as _;
use std::time::Duration;

use super::simnet::{AGENT, GATEWAY, NetworkConditions, SimulatedNetwork};

const S: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

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
