//! Packets and choices of the TCP targets.

use super::mtu::MTU;
use super::tcp::{AddressPair, PacketOutput};

pub fn gateway() -> AddressPair {
    AddressPair { local: [10, 64, 0, 1].into(), remote: [10, 64, 0, 2].into() }
}

pub fn agent() -> AddressPair {
    let AddressPair { local, remote } = gateway();
    AddressPair { local: remote, remote: local }
}

/// Collects emitted packets.
pub struct PacketSink {
    buffer: Vec<u8>,
    pub packets: Vec<Vec<u8>>,
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
        assert!(len <= MTU);
        self.packets.push(self.buffer[..len].to_vec());
    }
}

/// Choices taken from the front of the input; zeros when it is used up.
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The byte of a stream at an offset.
pub fn pattern(offset: usize) -> u8 {
    (offset % 251) as u8 ^ (offset >> 8) as u8
}

/// The fields of an emitted IPv4 TCP segment.
pub struct Fields<'a> {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub payload: &'a [u8],
}

pub fn fields(packet: &[u8]) -> Fields<'_> {
    let tcp = &packet[20..];
    let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    Fields {
        seq: number(4),
        ack: number(8),
        flags: tcp[13],
        window: u16::from_be_bytes([tcp[14], tcp[15]]),
        payload: &tcp[usize::from(tcp[12] >> 4) * 4..],
    }
}

/// The Internet checksum (RFC 1071) of a TCP segment with its pseudo-header, in the simplest form;
/// zero if it is correct.
pub fn checksum(addresses: &[u8], tcp: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u64 {
        bytes
            .chunks(2)
            .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
            .sum()
    };
    let mut sum = words(addresses) + 6 + tcp.len() as u64 + words(tcp);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
