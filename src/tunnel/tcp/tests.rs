//! Tests of connections: two of them over a simulated network that loses, duplicates, delays and
//! corrupts packets, and one that receives arbitrary segments.

mod delayed_ack;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::header::{PacketOutput, SegmentHeader};
use super::segment::{ACK, AddressPair, Segment};
use super::seq::Seq;
use super::state::State;
use super::time::{MS, Micros};
use super::{ByteQueue, Connection, ConnectionConfig};
use crate::tunnel::mtu::MTU;

const CONFIG: ConnectionConfig = ConnectionConfig {
    receive_buffer_max: 4 << 20,
    send_buffer_max: 4 << 20,
    mtu_max: MTU,
    path_mtu: MTU,
    keepalive_interval: 5_000 * MS,
};

/// Collects packets.
struct PacketSink {
    buffer: Vec<u8>,
    packets: Vec<Vec<u8>>,
}

impl Default for PacketSink {
    fn default() -> Self {
        Self { buffer: vec![0; MTU], packets: Vec::new() }
    }
}

impl PacketOutput for PacketSink {
    fn is_ready(&self) -> bool {
        true
    }
    fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
    fn send(&mut self, len: usize) {
        self.packets.push(self.buffer[..len].to_vec());
    }
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}

#[derive(Debug, Clone, Copy)]
struct NetworkConditions {
    loss: u64,
    duplicate: u64,
    corrupt: u64,
    jitter: Micros,
    sack: bool,
    /// Larger packets are dropped.
    largest: usize,
}

struct End {
    addrs: AddressPair,
    tcp: Connection,
    outgoing: Vec<u8>,
    written: usize,
    received: Vec<u8>,
    closed: bool,
}

impl End {
    fn serve(&mut self, now: Micros, chunk: usize) {
        if self.written < self.outgoing.len() {
            let mut chain = ByteQueue::default();
            chain.extend(
                &self.outgoing[self.written..(self.written + chunk).min(self.outgoing.len())],
            );
            self.written += self.tcp.write(&mut chain, usize::MAX);
        }
        if self.written == self.outgoing.len() && !self.closed && !self.tcp.state().is_handshaking()
        {
            self.closed = true;
            self.tcp.close();
        }
        let mut chain = ByteQueue::default();
        self.tcp.read(&mut chain, usize::MAX, usize::MAX, now);
        let known = self.received.len();
        self.received.resize(known + chain.len(), 0);
        chain.read(&mut self.received[known..]);
    }

    fn done(&self) -> bool {
        matches!(self.tcp.state(), State::TimeWait | State::Closed)
    }
}

/// Both ends send data and close; returns the time it took.
fn transfer(
    seed: u64,
    conditions: NetworkConditions,
    lengths: [usize; 2],
    chunk: usize,
    iss: [u32; 2],
) -> Micros {
    let addresses = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
    let addrs = [
        AddressPair { local: addresses[0], remote: addresses[1] },
        AddressPair { local: addresses[1], remote: addresses[0] },
    ];
    let mut rng = Rng(seed);
    let data = |length: usize, with: u8| {
        (0..length).map(|n| (n as u8).wrapping_mul(with) ^ (n >> 8) as u8).collect::<Vec<u8>>()
    };
    let mut first = Connection::connect(50000, 5900, &addrs[0], iss[0], CONFIG, 0);
    first.sack_enabled = conditions.sack;
    let mut ends = [
        Some(End {
            addrs: addrs[0],
            tcp: first,
            outgoing: data(lengths[0], 7),
            written: 0,
            received: Vec::new(),
            closed: false,
        }),
        None,
    ];
    let (mut now, mut number, mut flights) =
        (0, 0u64, BTreeMap::<(Micros, u64), (usize, Vec<u8>)>::new());
    loop {
        for (side, end) in ends.iter_mut().enumerate() {
            let Some(end) = end else { continue };
            end.serve(now, chunk);
            let mut sink = PacketSink::default();
            while end.tcp.transmit(&end.addrs, &mut sink, 64, now) {
                end.serve(now, chunk);
            }
            for packet in sink.packets {
                assert!(packet.len() <= MTU);
                if rng.below(1000) < conditions.loss || packet.len() > conditions.largest {
                    continue;
                }
                for _ in 0..1 + u64::from(rng.below(1000) < conditions.duplicate) {
                    let mut packet = packet.clone();
                    if rng.below(1000) < conditions.corrupt {
                        let bit = rng.below(packet.len() as u64 * 8) as usize;
                        packet[bit / 8] ^= 1 << (bit % 8);
                    }
                    number += 1;
                    flights.insert(
                        (now + 10 * MS + rng.below(conditions.jitter + 1), number),
                        (1 - side, packet),
                    );
                }
            }
        }
        if let [Some(one), Some(two)] = &ends
            && one.done()
            && two.done()
        {
            assert!(
                one.received == two.outgoing && two.received == one.outgoing,
                "bytes differ: {conditions:?} seed {seed}"
            );
            assert!(
                one.tcp.memory() < 2048 && two.tcp.memory() < 2048,
                "{} {}",
                one.tcp.memory(),
                two.tcp.memory()
            );
            return now;
        }
        let deadline =
            ends.iter().flatten().filter_map(|end| end.tcp.deadline()).min().unwrap_or(Micros::MAX);
        let arrival = flights.first_key_value().map_or(Micros::MAX, |((at, _), _)| *at);
        now = deadline.min(arrival).max(now + 20);
        assert!(
            now < 600_000 * MS,
            "{conditions:?} seed {seed} {:?}",
            ends.each_ref().map(|end| end.as_ref().map(|end| (
                end.tcp.state(),
                end.written,
                end.received.len()
            )))
        );
        while let Some(entry) = flights.first_entry().filter(|entry| entry.key().0 <= now) {
            let (side, packet) = entry.remove();
            let Some(segment) = Segment::parse(&packet, false) else { continue };
            if let Some(end) = &mut ends[side] {
                let _ = end.tcp.handle_segment(&segment, &end.addrs, now);
            } else if segment.is_syn() {
                let tcp = Connection::accept(&segment, &addrs[1], iss[1], CONFIG, now);
                ends[1] = Some(End {
                    addrs: addrs[1],
                    tcp,
                    outgoing: data(lengths[1], 11),
                    written: 0,
                    received: Vec::new(),
                    closed: false,
                });
            }
        }
    }
}

const CLEAN: NetworkConditions =
    NetworkConditions { loss: 0, duplicate: 0, corrupt: 0, jitter: 0, sack: true, largest: MTU };

#[test]
fn an_ideal_network_is_filled_in_few_round_trips() {
    // 4 MiB at 20 ms: handshake, slow start from 10 segments, close.
    let took = transfer(1, CLEAN, [4 << 20, 0], 1 << 20, [7, 9]);
    assert!(took < 260 * MS, "{took}");
}

/// RFC 9438, section 5: at this window and RTT CUBIC reaches at least Reno's rate, 1.22 segments /
/// sqrt(p) per RTT.
#[test]
fn throughput_under_loss_reaches_the_response_function() {
    let length = 4 << 20;
    for loss in [1, 5, 10, 20, 50] {
        let took: Micros = (0..2)
            .map(|seed| {
                transfer(
                    seed,
                    NetworkConditions { loss, ..CLEAN },
                    [length, 0],
                    1 << 20,
                    [u32::MAX - 5000, 9],
                )
            })
            .sum::<Micros>()
            / 2;
        let (rate, p) = (length as f64 / (took as f64 / 1e6), loss as f64 / 1e3);
        let reno = 1368.0 * 1.22 / p.sqrt() / 0.020;
        println!("{loss} per mille: {:.0} KiB/s, {:.2} of Reno's", rate / 1024.0, rate / reno);
        assert!(rate > reno / 2.0, "{loss} per mille: {:.0} KiB/s", rate / 1024.0);
    }
}

#[test]
fn a_path_mtu_black_hole_is_detected() {
    // Three timeouts for the first size, two for each further one. The end whose handshake ACK was
    // carried by a large segment has not measured an RTT: its timeouts start at one second.
    for (largest, seconds) in [(1419, 10), (1300, 10), (1240, 25), (520, 40)] {
        let took = transfer(
            1,
            NetworkConditions { largest, ..CLEAN },
            [300_000, 300_000],
            1 << 20,
            [7, 9],
        );
        assert!(took < seconds * 1000 * MS, "{largest}: {took}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_byte_arrives_both_ways_and_both_ends_close(
        seed: u64, loss in 0u64..150, duplicate in 0u64..100, corrupt in 0u64..50, jitter in 0u64..30, sack: bool,
        out in 0usize..150_000, back in 0usize..150_000, chunk in 1usize..20_000, iss: [u32; 2],
        largest in prop_oneof![3 => Just(MTU), 1 => 520usize..MTU],
    ) {
        let conditions = NetworkConditions { loss, duplicate, corrupt, jitter: jitter * MS, sack, largest };
        transfer(seed, conditions, [out, back], chunk.max(out.max(back) / 500), iss);
    }

    #[test]
    fn arbitrary_segments_are_handled(
        segments in prop::collection::vec((any::<u8>(), -70_000i64..70_000, -70_000i64..70_000, any::<u16>(), 0usize..1400, any::<[i32; 6]>(), any::<bool>(), 0u64..3_000), 1..120),
        near: bool,
    ) {
        let addrs = AddressPair { local: [10, 0, 0, 1].into(), remote: [10, 0, 0, 2].into() };
        let peer_addrs = AddressPair { local: addrs.remote, remote: addrs.local };
        let mut tcp = Connection::connect(50000, 5900, &addrs, u32::MAX - 20_000, CONFIG, 0);
        let mut sink = PacketSink::default();
        tcp.transmit(&addrs, &mut sink, 64, 0);
        let mut now = 10 * MS;
        if near {
            // Into the established state.
            let mut header = SegmentHeader::new(5900, 50000, Seq(u32::MAX - 9), tcp.snd_nxt, ACK | 2, 60_000);
            header.syn_options = Some((1380, Some(7), true));
            let mut sink = PacketSink::default();
            header.emit(&peer_addrs, &mut sink, 0, |_| {});
            let _ = tcp.handle_segment(&Segment::parse(&sink.packets[0], false).unwrap(), &addrs, now);
            prop_assert_eq!(tcp.state(), State::Established);
        }
        for (flags, seq, ack, window, length, blocks, stamped, wait) in segments {
            now += wait * MS;
            let mut chain = ByteQueue::default();
            chain.extend(&[1; 5000]);
            tcp.write(&mut chain, usize::MAX);
            let at = |base: Seq, off: i64| Seq(base.0.wrapping_add(off as u32));
            let mut header = SegmentHeader::new(5900, 50000, at(tcp.receive_buffer.rcv_nxt, seq), at(tcp.snd_una, ack), flags & 0x3f, window);
            for (n, block) in header.sack_blocks.iter_mut().enumerate().take(if stamped { 2 } else { 3 }) {
                *block = Some((at(tcp.snd_una, i64::from(blocks[2 * n] % 50_000)), at(tcp.snd_una, i64::from(blocks[2 * n + 1] % 50_000))));
            }
            header.timestamps = stamped.then_some((blocks[0] as u32, blocks[1] as u32));
            let mut sink = PacketSink::default();
            header.emit(&peer_addrs, &mut sink, length.min(MTU - 100), |buffer| buffer.fill(flags));
            let segment = Segment::parse(&sink.packets[0], false).unwrap();
            let _ = tcp.handle_segment(&segment, &addrs, now);
            let mut sink = PacketSink::default();
            tcp.transmit(&addrs, &mut sink, 64, now);
            prop_assert!(sink.packets.len() <= 66);
            if window % 3 == 0 {
                tcp.read(&mut chain, usize::MAX, usize::MAX, now);
            }
            prop_assert!(tcp.memory() < 1 << 20);
        }
    }
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() < 1024, "{}", size_of::<Connection>());
}
