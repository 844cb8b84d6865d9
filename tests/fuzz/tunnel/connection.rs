//! One connection that receives arbitrary segments while its user reads, writes and closes at will.
//!
//! Whatever arrives, what it sends is well-formed, carries the user's bytes at their sequence
//! numbers, never takes back an acknowledgement or a part of the advertised window; and what it
//! delivers is the peer's stream in order.

use super::mtu::MTU;
use super::packets::{Choices, PacketSink, agent, fields, gateway, pattern};
use super::tcp::{
    AddressPair, ByteQueue, Connection, ConnectionConfig, Micros, Segment, State,
};

const ISS: u32 = u32::MAX - 20_000;
const PEER_ISS: u32 = u32::MAX - 9;
const LOCAL: u16 = 50_000;
const PEER: u16 = 5900;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// Window scale offered for a receive buffer of 1 MiB.
const SCALE: u32 = 5;

struct Run {
    tcp: Connection,
    addrs: AddressPair,
    now: Micros,
    written: usize,
    read: usize,
    /// Highest acknowledgement and right edge of the window that were sent.
    acknowledged: Option<u32>,
    right_edge: Option<u32>,
    /// Largest sequence number sent, from the initial one.
    sent: u32,
    /// The initial sequence number of the peer, and whether windows are scaled.
    irs: Option<u32>,
    negotiated: bool,
}

pub fn run(input: &[u8]) {
    let mut choices = Choices(input);
    let config = ConnectionConfig {
        receive_buffer_max: 1 << 20,
        send_buffer_max: 1 << 20,
        mtu_max: MTU,
        path_mtu: MTU,
        keepalive_interval: 5_000_000,
    };
    let addrs = gateway();
    let tcp = Connection::connect(LOCAL, PEER, &addrs, ISS, config, 0);
    let mut run = Run {
        tcp,
        addrs,
        now: 0,
        written: 0,
        read: 0,
        acknowledged: None,
        right_edge: None,
        sent: 0,
        irs: None,
        negotiated: false,
    };
    run.transmit(64);
    if choices.byte() & 1 == 1 {
        run.receive(SYN | ACK, PEER_ISS, ISS.wrapping_add(1), 60_000, &SYN_OPTIONS, &[]);
        assert_eq!(run.tcp.state(), State::Established);
    }
    while !choices.is_empty() {
        run.step(&mut choices);
    }
}

/// MSS 1380, window scale 7, SACK permitted, timestamps 1.
const SYN_OPTIONS: [u8; 24] = [
    2, 4, 5, 100, 1, 3, 3, 7, 1, 1, 4, 2, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0,
];

impl Run {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 12 {
            0 | 1 => self.write(usize::from(choices.word()) % 20_000),
            2 => self.read(usize::from(choices.word())),
            3 => {
                if choices.byte() == 0 {
                    self.tcp.abort();
                } else if choices.byte() < 32 {
                    self.tcp.close();
                }
            }
            4 | 5 => {
                let shift = choices.byte() % 12;
                self.now += Micros::from(choices.word()) << shift;
            }
            6 => self.transmit(1 + usize::from(choices.byte() % 64)),
            7 => self.tcp.set_path_mtu(MTU - usize::from(choices.byte() % 2) * 140),
            _ => self.segment(choices),
        }
        self.transmit(64);
    }

    fn write(&mut self, length: usize) {
        let mut queue = ByteQueue::default();
        let bytes: Vec<u8> = (self.written..self.written + length).map(pattern).collect();
        queue.extend(&bytes);
        self.written += self.tcp.write(&mut queue, 1 << 20);
    }

    fn read(&mut self, limit: usize) {
        let mut queue = ByteQueue::default();
        let moved = self.tcp.read(&mut queue, limit, 1 << 20, self.now);
        let mut bytes = vec![0; moved];
        assert_eq!(queue.read(&mut bytes), moved);
        for (n, byte) in bytes.into_iter().enumerate() {
            let offset = self.irs.expect("synchronized").wrapping_sub(PEER_ISS);
            let offset = offset.wrapping_add((self.read + n) as u32) as usize;
            assert_eq!(byte, pattern(offset), "at {}", self.read + n);
        }
        self.read += moved;
    }

    /// A segment near the connection's state.
    fn segment(&mut self, choices: &mut Choices<'_>) {
        let kind = choices.byte();
        let flags = if kind & 0x80 == 0 { ACK | (choices.byte() & 9) } else { choices.byte() & 0x3f };
        let offset = |choices: &mut Choices<'_>| match choices.byte() % 4 {
            0 => 0,
            1 => u32::from(choices.byte()),
            2 => u32::from(choices.word()),
            _ => (i32::from(choices.word() as i16) * 4) as u32,
        };
        let position = PEER_ISS.wrapping_add(1).wrapping_add(offset(choices));
        let seq = if kind & 0x40 == 0 { self.expected() } else { position };
        let ack = ISS.wrapping_add(if kind & 0x20 == 0 { self.sent } else { offset(choices) });
        let window = choices.word();
        let length = usize::from(choices.word()) % (MTU - 120);
        let start = seq.wrapping_sub(PEER_ISS.wrapping_add(1));
        // The content of the peer's stream depends on the sequence number alone.
        let payload: Vec<u8> =
            (0..length).map(|n| pattern(start.wrapping_add(n as u32) as usize)).collect();
        let mut options = Vec::new();
        if kind & 0x10 == 0 {
            let value = (self.now / 1000) as u32 + u32::from(choices.byte()) % 8;
            options.extend([1, 1, 8, 10]);
            options.extend(value.to_be_bytes());
            options.extend(u32::from(choices.word()).to_be_bytes());
        }
        if kind & 0x08 != 0 {
            let blocks = 1 + kind % 3;
            options.extend([1, 1, 5, 2 + 8 * blocks]);
            for _ in 0..blocks {
                let left = ack.wrapping_add(offset(choices));
                options.extend(left.to_be_bytes());
                options.extend(left.wrapping_add(offset(choices)).to_be_bytes());
            }
        }
        self.receive(flags, seq, ack, window, &options, &payload);
    }

    /// The next sequence number of the peer, as far as it was acknowledged.
    fn expected(&self) -> u32 {
        self.acknowledged.unwrap_or(self.irs.unwrap_or(PEER_ISS).wrapping_add(1))
    }

    fn receive(
        &mut self,
        flags: u8,
        seq: u32,
        ack: u32,
        window: u16,
        options: &[u8],
        payload: &[u8],
    ) {
        let addrs = agent();
        let length = 40 + options.len() + payload.len();
        let mut packet = vec![0x45, 0, (length >> 8) as u8, length as u8, 0, 0, 0x40, 0, 64, 6, 0, 0];
        for address in [addrs.local, addrs.remote] {
            let std::net::IpAddr::V4(address) = address else { unreachable!() };
            packet.extend(address.octets());
        }
        packet.extend(PEER.to_be_bytes());
        packet.extend(LOCAL.to_be_bytes());
        packet.extend(seq.to_be_bytes());
        packet.extend(ack.to_be_bytes());
        packet.extend([((20 + options.len()) as u8 / 4) << 4, flags]);
        packet.extend(window.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(options);
        packet.extend(payload);
        let segment = Segment::parse(&packet, true).expect("a crafted segment");
        let before = self.tcp.state();
        let _ = self.tcp.handle_segment(&segment, &self.addrs, self.now);
        if before == State::SynSent && !matches!(self.tcp.state(), State::SynSent | State::Closed) {
            self.irs = Some(seq);
            self.negotiated = options == SYN_OPTIONS;
        }
    }

    fn transmit(&mut self, quantum: usize) {
        let mut sink = PacketSink::default();
        let mut rounds = 0;
        while self.tcp.transmit(&self.addrs, &mut sink, quantum, self.now) {
            rounds += 1;
            assert!(rounds < 10_000, "it never stops sending");
        }
        for packet in &sink.packets {
            self.check(packet);
        }
        // What is due was done, so that the driver does not spin.
        let overdue = |tcp: &Connection, now| tcp.deadline().is_some_and(|at| at <= now);
        for _ in 0..16 {
            if !overdue(&self.tcp, self.now) {
                return;
            }
            let mut sink = PacketSink::default();
            while self.tcp.transmit(&self.addrs, &mut sink, 64, self.now) {}
            sink.packets.iter().for_each(|packet| self.check(packet));
        }
        assert!(!overdue(&self.tcp, self.now), "{:?} at {}", self.tcp.deadline(), self.now);
    }

    fn check(&mut self, packet: &[u8]) {
        assert!(Segment::parse(packet, false).is_some(), "malformed");
        let segment = fields(packet);
        let end = segment.seq.wrapping_sub(ISS);
        if segment.flags & (SYN | RST) == 0 {
            let start = end as usize;
            for (n, &byte) in segment.payload.iter().enumerate() {
                assert!(start + n >= 1 && start + n <= self.written, "a byte nobody wrote");
                assert_eq!(byte, pattern(start + n - 1), "at {}", start + n - 1);
            }
        }
        let occupied = segment.payload.len() as u32
            + u32::from(segment.flags & FIN != 0)
            + u32::from(segment.flags & SYN != 0);
        if occupied > 0 {
            self.sent = self.sent.max(end.wrapping_add(occupied));
        }
        if segment.flags & (SYN | RST) != 0 || segment.flags & ACK == 0 {
            return;
        }
        if let Some(before) = self.acknowledged {
            assert!(segment.ack.wrapping_sub(before) < 1 << 31, "an acknowledgement was taken back");
        }
        self.acknowledged = Some(segment.ack);
        if self.negotiated {
            let edge = segment.ack.wrapping_add(u32::from(segment.window) << SCALE);
            if let Some(before) = self.right_edge {
                // The window field is rounded down to a multiple of the scale.
                let slack = (1 << SCALE) - 1;
                assert!(edge.wrapping_add(slack).wrapping_sub(before) < 1 << 31, "the window shrank");
            }
            self.right_edge = Some(match self.right_edge {
                Some(before) if edge.wrapping_sub(before) >= 1 << 31 => before,
                _ => edge,
            });
        }
    }
}
