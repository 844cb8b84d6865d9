//! Two connections over a network that the input controls while it lasts, and that is ideal
//! afterwards. Every byte must arrive and both ends must close, in bounded time.

use std::collections::BTreeMap;

use super::mtu::MTU;
use super::packets::{Choices, PacketSink, agent, gateway, pattern};
use super::tcp::{AddressPair, ByteQueue, Connection, ConnectionConfig, Micros, Segment, State};

const MS: Micros = 1000;
const DELAY: Micros = 10 * MS;

struct End {
    tcp: Connection,
    addrs: AddressPair,
    length: usize,
    written: usize,
    received: usize,
    closed: bool,
}

impl End {
    fn new(tcp: Connection, addrs: AddressPair, length: usize) -> Self {
        Self { tcp, addrs, length, written: 0, received: 0, closed: false }
    }

    fn serve(&mut self, choices: &mut Choices<'_>, now: Micros) {
        let chunk = if choices.is_empty() { 1 << 16 } else { 1 + usize::from(choices.word()) };
        let mut queue = ByteQueue::default();
        let end = (self.written + chunk).min(self.length);
        let bytes: Vec<u8> = (self.written..end).map(pattern).collect();
        queue.extend(&bytes);
        self.written += self.tcp.write(&mut queue, 1 << 20);
        if self.written == self.length && !self.closed && !self.tcp.state().is_handshaking() {
            self.closed = true;
            self.tcp.close();
        }
        // A reader that pauses, while the input lasts.
        let limit = if choices.is_empty() { usize::MAX } else { usize::from(choices.word()) };
        self.read(limit, now);
    }

    fn read(&mut self, limit: usize, now: Micros) {
        let mut queue = ByteQueue::default();
        let moved = self.tcp.read(&mut queue, limit, 1 << 20, now);
        let mut bytes = vec![0; moved];
        queue.read(&mut bytes);
        for byte in bytes {
            assert_eq!(byte, pattern(self.received), "at {}", self.received);
            self.received += 1;
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.tcp.state(), State::TimeWait | State::Closed)
    }
}

pub fn run(input: &[u8]) {
    let mut choices = Choices(input);
    let mtu = if choices.byte() & 1 == 1 { MTU } else { 600 + usize::from(choices.word()) % 820 };
    let config = ConnectionConfig {
        receive_buffer_max: 1 << 20,
        send_buffer_max: 1 << 20,
        mtu_max: MTU,
        path_mtu: MTU,
        keepalive_interval: 5_000 * MS,
    };
    let lengths = [usize::from(choices.word()) * 2, usize::from(choices.word())];
    let iss = u32::MAX - u32::from(choices.word());
    let first = Connection::connect(50_000, 5900, &gateway(), iss, config, 0);
    let mut ends = [Some(End::new(first, gateway(), lengths[0])), None];
    let (mut now, mut number, mut faults) = (0, 0u64, 0u64);
    let mut in_flight = BTreeMap::<(Micros, u64), (usize, Vec<u8>)>::new();
    loop {
        for (side, end) in ends.iter_mut().enumerate() {
            let Some(end) = end else { continue };
            end.serve(&mut choices, now);
            let mut sink = PacketSink::default();
            while end.tcp.transmit(&end.addrs, &mut sink, 64, now) {
                end.serve(&mut choices, now);
            }
            for mut packet in sink.packets {
                let fault = choices.byte();
                // A path with a smaller MTU drops larger packets for good.
                if packet.len() > mtu {
                    continue;
                }
                let mut copies = 1;
                let mut delay = DELAY;
                match fault {
                    0..128 => {}
                    128..176 => copies = 0,
                    176..200 => copies = 2,
                    200..232 => delay += Micros::from(choices.byte()) * MS,
                    232.. => {
                        let bit = usize::from(choices.word()) % (packet.len() * 8);
                        packet[bit / 8] ^= 1 << (bit % 8);
                    }
                }
                faults += u64::from(fault >= 128);
                for _ in 0..copies {
                    number += 1;
                    in_flight.insert((now + delay, number), (1 - side, packet.clone()));
                }
            }
        }
        if let [Some(one), Some(two)] = &mut ends
            && one.is_done()
            && two.is_done()
        {
            // A reader that paused still has data to read.
            one.read(usize::MAX, now);
            two.read(usize::MAX, now);
            assert_eq!([two.received, one.received], lengths);
            return;
        }
        let deadline = ends.iter().flatten().filter_map(|end| end.tcp.deadline()).min();
        let arrival = in_flight.first_key_value().map(|((at, _), _)| *at);
        let next = deadline.into_iter().chain(arrival).min().expect("something is pending");
        now = next.max(now + 20);
        // Each fault may cost a retransmission timeout of 5 s at most; a black hole costs some.
        assert!(
            now < (120_000 + 6_000 * faults) * MS,
            "stalled: {:?}",
            ends.each_ref().map(|end| end.as_ref().map(|end| (
                end.tcp.state(),
                end.written,
                end.received
            )))
        );
        while let Some(entry) = in_flight.first_entry().filter(|entry| entry.key().0 <= now) {
            let (side, packet) = entry.remove();
            let Some(segment) = Segment::parse(&packet, false) else { continue };
            if let Some(end) = &mut ends[side] {
                let _ = end.tcp.handle_segment(&segment, &end.addrs, now);
            } else if segment.is_syn() {
                let tcp = Connection::accept(&segment, &agent(), iss / 2, config, now);
                ends[1] = Some(End::new(tcp, agent(), lengths[1]));
            }
        }
    }
}
