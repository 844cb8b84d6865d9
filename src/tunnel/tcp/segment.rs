//! Segments, read from packets and written into them.
//!
//! - A [`Flow`] is the two addresses of a tunnel; all its packets go between them.
//! - A [`Segment`] is what was received, its options read (RFC 9293, 3.1; RFC 7323; RFC 2018).
//!   smoltcp's codec reads it.
//! - A [`SegmentHeader`] is what is to be sent; it is written straight in front of its payload, for this
//!   is done for every packet.
//! - An [`PacketOutput`] takes packets: it lends the room for one, and sends what was put there.

use std::net::IpAddr;

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpOption, TcpPacket};

use super::checksum::{fold, sum};
use super::seq::Seq;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

/// Blocks of a selective acknowledgement that are sent, so that they fit beside timestamps (RFC
/// 2018, section 3).
pub(super) const SACK_BLOCKS_MAX: usize = 3;
/// Bytes that timestamps take in every segment (RFC 7323, appendix A).
pub(super) const TIMESTAMPS_LEN: usize = 12;
/// A range of sequence numbers, from the first to the one after the last.
pub(super) type SackBlock = (Seq, Seq);

/// Where packets go.
pub(in crate::tunnel) trait PacketOutput {
    /// A packet can be taken.
    fn is_ready(&self) -> bool;
    /// Room for one packet, of the tunnel's MTU.
    fn buffer(&mut self) -> &mut [u8];
    /// Sends the first `len` bytes of the room.
    fn send(&mut self, len: usize);
}

/// The addresses of a tunnel.
#[derive(Debug, Clone, Copy)]
pub(in crate::tunnel) struct AddressPair {
    pub(in crate::tunnel) local: IpAddr,
    pub(in crate::tunnel) remote: IpAddr,
}

impl AddressPair {
    /// Length of the IP header.
    pub(super) fn ip_header_len(&self) -> usize {
        match (self.local, self.remote) {
            (IpAddr::V4(_), IpAddr::V4(_)) => 20,
            _ => 40,
        }
    }

    /// Length of the headers of a segment with timestamps.
    pub(in crate::tunnel) fn header_len(&self) -> usize {
        self.ip_header_len() + 20 + TIMESTAMPS_LEN
    }

    /// Both addresses are of one family.
    pub(in crate::tunnel) fn is_same_family(&self) -> bool {
        self.local.is_ipv4() == self.remote.is_ipv4()
    }
}

/// A received segment.
#[derive(Debug, Clone, Copy)]
pub(in crate::tunnel) struct Segment<'a> {
    /// Port of the other end.
    pub(in crate::tunnel) remote_port: u16,
    /// Our port.
    pub(in crate::tunnel) local_port: u16,
    pub(super) seq: Seq,
    pub(super) ack: Seq,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) mss: Option<u16>,
    pub(super) window_scale: Option<u8>,
    pub(super) sack_permitted: bool,
    /// Timestamp value and echo.
    pub(super) timestamps: Option<(u32, u32)>,
    pub(super) sack_blocks: [Option<SackBlock>; SACK_BLOCKS_MAX],
    pub(super) payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads an IP packet; `None` if it is not a whole TCP segment, with a right checksum unless it
    /// was `vouched` for on its whole way. Who sent it is not looked at.
    pub(in crate::tunnel) fn parse(packet: &'a [u8], vouched: bool) -> Option<Self> {
        let (addresses, tcp) = match packet.first()? >> 4 {
            4 => {
                let ip = Ipv4Packet::new_checked(packet).ok()?;
                // Nobody sends fragments through a tunnel whose MTU is known; there is no memory to
                // collect them in.
                let whole = ip.version() == 4
                    && ip.next_header() == IpProtocol::Tcp
                    && !ip.more_frags()
                    && ip.frag_offset() == 0;
                (
                    packet.get(12..20)?,
                    packet
                        .get(usize::from(ip.header_len())..usize::from(ip.total_len()))
                        .filter(|_| whole)?,
                )
            }
            6 => {
                let ip = Ipv6Packet::new_checked(packet).ok()?;
                let whole = ip.next_header() == IpProtocol::Tcp;
                (packet.get(8..40)?, packet.get(40..ip.total_len()).filter(|_| whole)?)
            }
            _ => return None,
        };
        let length = u64::from(u16::to_be(u16::try_from(tcp.len()).ok()?));
        let right =
            || fold(sum(addresses) + u64::from(u16::to_be(6)) + length + sum(tcp)) == 0xffff;
        if vouched || right() { Self::parse_tcp(tcp) } else { None }
    }

    fn parse_tcp(bytes: &'a [u8]) -> Option<Self> {
        let tcp = TcpPacket::new_checked(bytes).ok()?;
        let mut segment = Self {
            remote_port: tcp.src_port(),
            local_port: tcp.dst_port(),
            seq: Seq(tcp.seq_number().0 as u32),
            ack: Seq(tcp.ack_number().0 as u32),
            flags: bytes.get(13)? & 0x3f,
            window: tcp.window_len(),
            mss: None,
            window_scale: None,
            sack_permitted: false,
            timestamps: None,
            sack_blocks: [None; SACK_BLOCKS_MAX],
            payload: bytes.get(usize::from(tcp.header_len())..)?,
        };
        let mut options = tcp.options();
        while !options.is_empty() {
            // What follows an option that cannot be read is not read either.
            let Ok((rest, option)) = TcpOption::parse(options) else { break };
            options = rest;
            match option {
                TcpOption::EndOfList => break,
                TcpOption::MaxSegmentSize(mss) => segment.mss = Some(mss),
                // RFC 7323, section 2.3: more than 14 means 14.
                TcpOption::WindowScale(scale) => segment.window_scale = Some(scale.min(14)),
                TcpOption::SackPermitted => segment.sack_permitted = true,
                TcpOption::SackRange(ranges) => {
                    segment.sack_blocks =
                        ranges.map(|range| range.map(|(from, to)| (Seq(from), Seq(to))))
                }
                TcpOption::TimeStamp { tsval, tsecr } => segment.timestamps = Some((tsval, tsecr)),
                TcpOption::NoOperation | TcpOption::Unknown { .. } => {}
            }
        }
        Some(segment)
    }

    pub(in crate::tunnel) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// It asks for a new connection: SYN and none of ACK, RST, FIN.
    pub(in crate::tunnel) fn is_syn(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    /// It is a reset, which nothing may be said to.
    pub(in crate::tunnel) fn is_rst(&self) -> bool {
        self.has(RST)
    }

    /// Sequence numbers it takes up.
    pub(super) fn seq_len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }
}

/// A segment to be sent, but for its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tunnel) struct SegmentHeader {
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    pub(super) seq: Seq,
    pub(super) ack: Seq,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// Of a SYN: our MSS, our window scale if any, whether selective acknowledgements are welcome.
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

    /// The reset that answers a segment for nobody (RFC 9293, section 3.10.7.1).
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

    /// Writes the packet: `payload` puts the given number of bytes into the room it gets. What has
    /// no room is not sent.
    pub(in crate::tunnel) fn emit(
        &self,
        flow: &AddressPair,
        out: &mut impl PacketOutput,
        length: usize,
        payload: impl FnOnce(&mut [u8]),
    ) {
        let ip = flow.ip_header_len();
        let room = out.buffer();
        let mut options = [0u8; 40];
        let used = self.emit_options(&mut options);
        let start = ip + 20 + used;
        let Some(packet) = room.get_mut(..start + length) else { return };
        payload(&mut packet[start..]);
        packet[ip + 20..start].copy_from_slice(&options[..used]);
        let tcp = &mut packet[ip..ip + 20];
        tcp[0..2].copy_from_slice(&self.local_port.to_be_bytes());
        tcp[2..4].copy_from_slice(&self.remote_port.to_be_bytes());
        tcp[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        tcp[12] = ((20 + used) as u8 / 4) << 4;
        tcp[13] = self.flags;
        tcp[14..16].copy_from_slice(&self.window.to_be_bytes());
        tcp[16..20].fill(0);
        let pseudo = emit_ip_header(flow, packet, 20 + used + length);
        let total = pseudo
            + u64::from(u16::to_be(6))
            + u64::from(u16::to_be((20 + used + length) as u16))
            + sum(&packet[ip..]);
        packet[ip + 16..ip + 18].copy_from_slice(&(!fold(total)).to_ne_bytes());
        out.send(start + length);
    }

    /// Writes the options; answers with their length, a multiple of four.
    fn emit_options(&self, room: &mut [u8; 40]) -> usize {
        let mut used = 0;
        let mut put = |bytes: &[u8]| {
            room[used..used + bytes.len()].copy_from_slice(bytes);
            used += bytes.len();
        };
        if let Some((mss, scale, sack)) = self.syn_options {
            let [high, low] = mss.to_be_bytes();
            put(&[2, 4, high, low]);
            if let Some(scale) = scale {
                put(&[1, 3, 3, scale]);
            }
            if sack {
                put(&[1, 1, 4, 2]);
            }
        }
        if let Some((value, echo)) = self.timestamps {
            put(&[1, 1, 8, 10]);
            put(&value.to_be_bytes());
            put(&echo.to_be_bytes());
        }
        let blocks = self.sack_blocks.iter().flatten().count();
        if blocks > 0 {
            put(&[1, 1, 5, 2 + 8 * blocks as u8]);
            for (from, to) in self.sack_blocks.iter().flatten() {
                put(&from.0.to_be_bytes());
                put(&to.0.to_be_bytes());
            }
        }
        used
    }
}

/// Writes the IP header; answers with the sum over the addresses, which TCP's checksum includes.
fn emit_ip_header(flow: &AddressPair, packet: &mut [u8], payload: usize) -> u64 {
    match (flow.local, flow.remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            let head = &mut packet[..20];
            // Do not fragment; 64 hops; TCP.
            head[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            head[2..4].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
            head[12..16].copy_from_slice(&local.octets());
            head[16..20].copy_from_slice(&remote.octets());
            let check = !fold(sum(head));
            head[10..12].copy_from_slice(&check.to_ne_bytes());
            sum(&head[12..20])
        }
        (local, remote) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let head = &mut packet[..40];
            head[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 6, 64]);
            head[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
            head[8..24].copy_from_slice(&octets(local));
            head[24..40].copy_from_slice(&octets(remote));
            sum(&head[8..40])
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{TcpRepr, TcpSeqNumber};

    struct Sheet(Vec<u8>, usize);

    impl PacketOutput for Sheet {
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

    fn flow(v6: bool) -> AddressPair {
        if v6 {
            AddressPair { local: "fd00::1".parse().unwrap(), remote: "fd00::2".parse().unwrap() }
        } else {
            AddressPair { local: [10, 0, 0, 1].into(), remote: [10, 0, 0, 2].into() }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_another_codec_reads(
            v6: bool, seq: u32, ack: u32, window: u16, opening: Option<(u16, bool)>, stamps: Option<(u32, u32)>, blocks in 0usize..=3,
            payload in prop::collection::vec(any::<u8>(), 0..1400),
        ) {
            let flow = flow(v6);
            let mut header = SegmentHeader::new(5900, 50000, Seq(seq), Seq(ack), ACK, window);
            header.timestamps = stamps;
            if let Some((mss, sack)) = opening {
                header.flags |= SYN;
                header.syn_options = Some((mss, Some(7), sack));
            } else {
                for (n, block) in header.sack_blocks.iter_mut().take(blocks).enumerate() {
                    *block = Some((Seq(n as u32 * 10), Seq(n as u32 * 10 + 5)));
                }
            }
            let mut sheet = Sheet(vec![0xee; 1420], 0);
            header.emit(&flow, &mut sheet, payload.len(), |room| room.copy_from_slice(&payload));
            let packet = &sheet.0[..sheet.1];
            let ip = flow.ip_header_len();
            if ip + 20 + header.emit_options(&mut [0; 40]) + payload.len() > sheet.0.len() {
                prop_assert_eq!(packet.len(), 0, "what has no room is not sent cut short");
                return Ok(());
            }
            if !v6 {
                let outer = Ipv4Packet::new_checked(packet).unwrap();
                prop_assert!(outer.verify_checksum());
                prop_assert_eq!(usize::from(outer.total_len()), packet.len());
            }
            let tcp = TcpPacket::new_checked(&packet[ip..]).unwrap();
            prop_assert!(tcp.verify_checksum(&flow.local.into(), &flow.remote.into()));
            let read = TcpRepr::parse(&tcp, &flow.local.into(), &flow.remote.into(), &ChecksumCapabilities::default()).unwrap();
            prop_assert_eq!(read.seq_number, TcpSeqNumber(seq as i32));
            prop_assert_eq!(read.ack_number, Some(TcpSeqNumber(ack as i32)));
            prop_assert_eq!((read.window_len, read.payload), (window, &payload[..]));
            prop_assert_eq!(read.timestamp.map(|t| (t.tsval, t.tsecr)), stamps);
            prop_assert_eq!(read.max_seg_size, opening.map(|(mss, _)| mss).filter(|&mss| mss > 0));

            let ours = Segment::parse(packet, false).unwrap();
            prop_assert_eq!((ours.seq, ours.ack, ours.window, ours.payload), (Seq(seq), Seq(ack), window, &payload[..]));
            prop_assert_eq!((ours.timestamps, ours.sack_blocks, ours.local_port, ours.remote_port), (stamps, header.sack_blocks, 50000, 5900));
            prop_assert_eq!((ours.mss, ours.sack_permitted), (opening.map(|(mss, _)| mss), opening.is_some_and(|(_, sack)| sack)));
        }

        #[test]
        fn any_packet_is_survived_and_damage_is_noticed(mut packet in prop::collection::vec(any::<u8>(), 1..200), head in prop::sample::select(vec![0x45u8, 0x46, 0x4f, 0x60]), bit: prop::sample::Index) {
            packet[0] = head;
            for vouched in [false, true] {
                let _ = Segment::parse(&packet, vouched);
            }
            let _ = Segment::parse_tcp(&packet);
            let mut sheet = Sheet(vec![0; 1420], 0);
            SegmentHeader::new(1, 2, Seq(3), Seq(4), ACK, 5).emit(&flow(false), &mut sheet, 100, |room| room.fill(7));
            sheet.0.truncate(sheet.1);
            let bit = bit.index((sheet.1 - 20) * 8);
            sheet.0[20 + bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Segment::parse(&sheet.0, false).is_none());
            // Where somebody else vouches for it, the sum is not asked for.
            sheet.0[20 + bit / 8] ^= 1 << (bit % 8);
            sheet.0[20 + 16] ^= 1;
            prop_assert!(Segment::parse(&sheet.0, true).is_some() && Segment::parse(&sheet.0, false).is_none());
        }
    }
}
