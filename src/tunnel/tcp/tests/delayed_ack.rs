//! Tests of delayed acknowledgements.

use super::*;

/// Two ends of an open connection, without a network in between.
struct Pair {
    addrs: [AddressPair; 2],
    ends: [Connection; 2],
    now: Micros,
}

impl Pair {
    fn open() -> Self {
        let addresses = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let addrs = [
            AddressPair { local: addresses[0], remote: addresses[1] },
            AddressPair { local: addresses[1], remote: addresses[0] },
        ];
        let mut first = Connection::connect(50000, 5900, &addrs[0], 7, CONFIG, 0);
        let mut sink = PacketSink::default();
        first.transmit(&addrs[0], &mut sink, 64, 0);
        let second = Connection::accept(
            &Segment::parse(&sink.packets[0], false).unwrap(),
            &addrs[1],
            9,
            CONFIG,
            0,
        );
        let mut pair = Self { addrs, ends: [first, second], now: MS };
        pair.run();
        assert!(pair.ends.iter().all(|end| end.state() == State::Established));
        pair
    }

    /// Lets both send until neither has anything to send now; returns how many segments each sent.
    fn run(&mut self) -> [usize; 2] {
        let mut sent = [0, 0];
        loop {
            let before = sent;
            for side in [0, 1] {
                let mut sink = PacketSink::default();
                while self.ends[side].transmit(&self.addrs[side], &mut sink, 64, self.now) {}
                sent[side] += sink.packets.len();
                for packet in sink.packets {
                    let other = 1 - side;
                    let segment = Segment::parse(&packet, false).unwrap();
                    let _ = self.ends[other].handle_segment(&segment, &self.addrs[other], self.now);
                    self.ends[other].read(
                        &mut ByteQueue::default(),
                        usize::MAX,
                        usize::MAX,
                        self.now,
                    );
                }
            }
            if sent == before {
                return sent;
            }
        }
    }

    /// One end sends data; returns how many segments each sent then.
    fn send(&mut self, side: usize, bytes: usize) -> [usize; 2] {
        let mut chain = ByteQueue::default();
        chain.extend(&vec![1; bytes]);
        assert_eq!(self.ends[side].write(&mut chain, usize::MAX), bytes);
        self.run()
    }

    /// A request and, a millisecond later, its reply.
    fn exchange(&mut self) -> [[usize; 2]; 2] {
        let request = self.send(0, 300);
        self.now += MS;
        let reply = self.send(1, 200);
        self.now += MS;
        [request, reply]
    }
}

#[test]
fn acks_are_piggybacked_on_an_interactive_connection() {
    let mut pair = Pair::open();
    pair.exchange();
    pair.exchange();
    for round in 0..20 {
        assert_eq!(pair.exchange(), [[1, 0], [0, 1]], "{round}");
    }
    // Two full segments are acknowledged immediately (RFC 9293, section 3.8.6.3).
    let [sent, acknowledged] = pair.send(0, 2 * MTU);
    assert!(sent > 1 && acknowledged > 0, "{sent} {acknowledged}");
}

#[test]
fn acks_are_immediate_after_a_delay_without_data() {
    let mut pair = Pair::open();
    pair.exchange();
    pair.exchange();
    // The last data is acknowledged after the delay, and later data immediately.
    assert_eq!(pair.send(0, 300), [1, 0]);
    let delay = pair.ends[1].deadline().unwrap() - pair.now;
    assert!((5 * MS..40 * MS).contains(&delay), "{delay}");
    pair.now += delay;
    assert_eq!(pair.run(), [0, 1]);
    for _ in 0..5 {
        pair.now += 3 * MS;
        assert_eq!(pair.send(0, 300), [1, 1]);
    }
    // A connection without replies never delays.
    let mut pair = Pair::open();
    assert_eq!(pair.send(1, 300), [1, 1]);
    // Data long after the peer's is no reply.
    pair.now += 1000 * MS;
    assert_eq!(pair.send(0, 300), [1, 1]);
    assert_eq!(pair.send(1, 300)[1], 1);
}
