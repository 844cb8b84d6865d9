//! TCP segments to be sent: the header is written directly in front of the payload.
//!
//! - A [`SegmentHeader`] is a segment without its payload.
//! - A [`PacketOutput`] lends a buffer for a packet, and sends it.

use std::net::IpAddr;

use super::checksum::{fold, sum};
use super::segment::{ACK, AddressPair, RST, SACK_BLOCKS_MAX, SackBlock, Segment};
use super::seq::Seq;

/// Destination of emitted packets.
pub(in crate::tunnel) trait PacketOutput {
    /// Whether a packet can be taken.
    fn is_ready(&self) -> bool;
    /// Buffer for one packet of the tunnel's MTU.
    fn buffer(&mut self) -> &mut [u8];
    /// Sends the first `len` bytes of the buffer.
    fn send(&mut self, len: usize);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tunnel) struct SegmentHeader {
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    pub(super) seq: Seq,
    pub(super) ack: Seq,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// For a SYN: MSS, window scale if any, SACK-permitted.
    pub(super) syn_options: Option<(u16, Option<u8>, bool)>,
    pub(super) timestamps: Option<(u32, u32)>,
    pub(super) sack_blocks: [Option<SackBlock>; SACK_BLOCKS_MAX],
}

impl SegmentHeader {
    pub(super) fn new(
        local_port: u16,
        remote_port: u16,
        seq: Seq,
        ack: Seq,
        flags: u8,
        window: u16,
    ) -> Self {
        Self {
            local_port,
            remote_port,
            seq,
            ack,
            flags,
            window,
            syn_options: None,
            timestamps: None,
            sack_blocks: [None; SACK_BLOCKS_MAX],
        }
    }

    /// The RST that answers a segment without a connection (RFC 9293, section 3.10.7.1).
    pub(in crate::tunnel) fn rst_for(segment: &Segment<'_>) -> Self {
        if segment.has(ACK) {
            Self::new(segment.local_port, segment.remote_port, segment.ack, Seq(0), RST, 0)
        } else {
            Self::new(
                segment.local_port,
                segment.remote_port,
                Seq(0),
                segment.seq.plus(segment.seq_len()),
                RST | ACK,
                0,
            )
        }
    }

    /// Writes the packet: `payload` puts `length` bytes into the buffer it gets. Nothing is sent if
    /// the packet does not fit.
    pub(in crate::tunnel) fn emit(
        &self,
        addrs: &AddressPair,
        out: &mut impl PacketOutput,
        length: usize,
        payload: impl FnOnce(&mut [u8]),
    ) {
        let ip = addrs.ip_header_len();
        let buffer = out.buffer();
        let mut options = [0u8; 40];
        let options_len = self.emit_options(&mut options);
        let start = ip + 20 + options_len;
        let Some(packet) = buffer.get_mut(..start + length) else { return };
        payload(&mut packet[start..]);
        packet[ip + 20..start].copy_from_slice(&options[..options_len]);
        let tcp = &mut packet[ip..ip + 20];
        tcp[0..2].copy_from_slice(&self.local_port.to_be_bytes());
        tcp[2..4].copy_from_slice(&self.remote_port.to_be_bytes());
        tcp[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        tcp[12] = ((20 + options_len) as u8 / 4) << 4;
        tcp[13] = self.flags;
        tcp[14..16].copy_from_slice(&self.window.to_be_bytes());
        tcp[16..20].fill(0);
        let pseudo = emit_ip_header(addrs, packet, 20 + options_len + length);
        let total = pseudo
            + u64::from(u16::to_be(6))
            + u64::from(u16::to_be((20 + options_len + length) as u16))
            + sum(&packet[ip..]);
        packet[ip + 16..ip + 18].copy_from_slice(&(!fold(total)).to_ne_bytes());
        out.send(start + length);
    }

    /// Writes the options; returns their length, a multiple of four.
    fn emit_options(&self, buffer: &mut [u8; 40]) -> usize {
        let mut options_len = 0;
        let mut push = |bytes: &[u8]| {
            buffer[options_len..options_len + bytes.len()].copy_from_slice(bytes);
            options_len += bytes.len();
        };
        if let Some((mss, scale, sack)) = self.syn_options {
            let [high, low] = mss.to_be_bytes();
            push(&[2, 4, high, low]);
            if let Some(scale) = scale {
                push(&[1, 3, 3, scale]);
            }
            if sack {
                push(&[1, 1, 4, 2]);
            }
        }
        if let Some((value, echo)) = self.timestamps {
            push(&[1, 1, 8, 10]);
            push(&value.to_be_bytes());
            push(&echo.to_be_bytes());
        }
        let blocks = self.sack_blocks.iter().flatten().count();
        if blocks > 0 {
            push(&[1, 1, 5, 2 + 8 * blocks as u8]);
            for (from, to) in self.sack_blocks.iter().flatten() {
                push(&from.0.to_be_bytes());
                push(&to.0.to_be_bytes());
            }
        }
        options_len
    }
}

/// Writes the IP header; returns the sum of the pseudo-header's addresses.
fn emit_ip_header(addrs: &AddressPair, packet: &mut [u8], payload: usize) -> u64 {
    match (addrs.local, addrs.remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            let header = &mut packet[..20];
            // Do not fragment; TTL 64; protocol TCP.
            header[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            header[2..4].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
            header[12..16].copy_from_slice(&local.octets());
            header[16..20].copy_from_slice(&remote.octets());
            let check = !fold(sum(header));
            header[10..12].copy_from_slice(&check.to_ne_bytes());
            sum(&header[12..20])
        }
        (local, remote) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let header = &mut packet[..40];
            header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 6, 64]);
            header[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
            header[8..24].copy_from_slice(&octets(local));
            header[24..40].copy_from_slice(&octets(remote));
            sum(&header[8..40])
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tunnel::tcp::segment::SYN;
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Ipv4Packet, TcpPacket, TcpRepr, TcpSeqNumber};

    struct PacketSink(Vec<u8>, usize);

    impl PacketOutput for PacketSink {
        fn is_ready(&self) -> bool {
            true
        }
        fn buffer(&mut self) -> &mut [u8] {
            &mut self.0
        }
        fn send(&mut self, len: usize) {
            self.1 = len;
        }
    }

    fn addrs(v6: bool) -> AddressPair {
        if v6 {
            AddressPair { local: "fd00::1".parse().unwrap(), remote: "fd00::2".parse().unwrap() }
        } else {
            AddressPair { local: [10, 0, 0, 1].into(), remote: [10, 0, 0, 2].into() }
        }
    }

    proptest! {
        #[test]
        fn emitted_segments_are_parsed_by_another_codec(
            v6: bool, seq: u32, ack: u32, window: u16, syn_options: Option<(u16, bool)>, timestamps: Option<(u32, u32)>, blocks in 0usize..=3,
            payload in prop::collection::vec(any::<u8>(), 0..1400),
        ) {
            let addrs = addrs(v6);
            let mut header = SegmentHeader::new(5900, 50000, Seq(seq), Seq(ack), ACK, window);
            header.timestamps = timestamps;
            if let Some((mss, sack)) = syn_options {
                header.flags |= SYN;
                header.syn_options = Some((mss, Some(7), sack));
            } else {
                for (n, block) in header.sack_blocks.iter_mut().take(blocks).enumerate() {
                    *block = Some((Seq(n as u32 * 10), Seq(n as u32 * 10 + 5)));
                }
            }
            let mut sink = PacketSink(vec![0xee; 1420], 0);
            header.emit(&addrs, &mut sink, payload.len(), |buffer| buffer.copy_from_slice(&payload));
            let packet = &sink.0[..sink.1];
            let ip = addrs.ip_header_len();
            if ip + 20 + header.emit_options(&mut [0; 40]) + payload.len() > sink.0.len() {
                prop_assert_eq!(packet.len(), 0, "a packet that does not fit is not sent");
                return Ok(());
            }
            if !v6 {
                let outer = Ipv4Packet::new_checked(packet).unwrap();
                prop_assert!(outer.verify_checksum());
                prop_assert_eq!(usize::from(outer.total_len()), packet.len());
            }
            let tcp = TcpPacket::new_checked(&packet[ip..]).unwrap();
            prop_assert!(tcp.verify_checksum(&addrs.local.into(), &addrs.remote.into()));
            let read = TcpRepr::parse(&tcp, &addrs.local.into(), &addrs.remote.into(), &ChecksumCapabilities::default()).unwrap();
            prop_assert_eq!(read.seq_number, TcpSeqNumber(seq as i32));
            prop_assert_eq!(read.ack_number, Some(TcpSeqNumber(ack as i32)));
            prop_assert_eq!((read.window_len, read.payload), (window, &payload[..]));
            prop_assert_eq!(read.timestamp.map(|t| (t.tsval, t.tsecr)), timestamps);
            prop_assert_eq!(read.max_seg_size, syn_options.map(|(mss, _)| mss));

            let ours = Segment::parse(packet, false).unwrap();
            prop_assert_eq!((ours.seq, ours.ack, ours.window, ours.payload), (Seq(seq), Seq(ack), window, &payload[..]));
            prop_assert_eq!((ours.timestamps, ours.sack_blocks, ours.local_port, ours.remote_port), (timestamps, header.sack_blocks, 50000, 5900));
            prop_assert_eq!((ours.mss, ours.sack_permitted), (syn_options.map(|(mss, _)| mss), syn_options.is_some_and(|(_, sack)| sack)));
        }

        #[test]
        fn arbitrary_packets_are_parsed_and_corruption_is_detected(mut packet in prop::collection::vec(any::<u8>(), 1..200), header in prop::sample::select(vec![0x45u8, 0x46, 0x4f, 0x60]), bit: prop::sample::Index) {
            packet[0] = header;
            for trusted in [false, true] {
                let _ = Segment::parse(&packet, trusted);
            }
            let _ = Segment::parse_tcp(&packet);
            let mut sink = PacketSink(vec![0; 1420], 0);
            SegmentHeader::new(1, 2, Seq(3), Seq(4), ACK, 5).emit(&addrs(false), &mut sink, 100, |buffer| buffer.fill(7));
            sink.0.truncate(sink.1);
            let bit = bit.index((sink.1 - 20) * 8);
            sink.0[20 + bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Segment::parse(&sink.0, false).is_none());
            // A trusted packet's checksum is not verified.
            sink.0[20 + bit / 8] ^= 1 << (bit % 8);
            sink.0[20 + 16] ^= 1;
            prop_assert!(Segment::parse(&sink.0, true).is_some() && Segment::parse(&sink.0, false).is_none());
        }
    }
}
