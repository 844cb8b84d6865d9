//! TCP segments: parsed from packets with smoltcp's codec, emitted by our own, which writes the
//! header directly in front of the payload.
//!
//! - An [`AddressPair`] is the two addresses of a tunnel.
//! - A [`Segment`] is a received segment with its options (RFC 9293, section 3.1; RFC 7323; RFC
//!   2018).

use std::net::IpAddr;

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpOption, TcpPacket};

use super::checksum::{fold, sum};
use super::seq::Seq;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

/// SACK blocks that are sent, so that they fit beside timestamps (RFC 2018, section 3).
pub(super) const SACK_BLOCKS_MAX: usize = 3;
/// Length of the timestamps option with padding (RFC 7323, appendix A).
pub(super) const TIMESTAMPS_LEN: usize = 12;
/// Left edge and right edge: the first sequence number, and the one after the last.
pub(super) type SackBlock = (Seq, Seq);

/// The inner addresses of a tunnel.
#[derive(Debug, Clone, Copy)]
pub(in crate::tunnel) struct AddressPair {
    pub(in crate::tunnel) local: IpAddr,
    pub(in crate::tunnel) remote: IpAddr,
}

impl AddressPair {
    pub(super) fn ip_header_len(&self) -> usize {
        match (self.local, self.remote) {
            (IpAddr::V4(_), IpAddr::V4(_)) => 20,
            _ => 40,
        }
    }

    /// Headers of a segment with timestamps.
    pub(in crate::tunnel) fn header_len(&self) -> usize {
        self.ip_header_len() + 20 + TIMESTAMPS_LEN
    }

    pub(in crate::tunnel) fn is_same_family(&self) -> bool {
        self.local.is_ipv4() == self.remote.is_ipv4()
    }
}

#[derive(Debug, Clone, Copy)]
pub(in crate::tunnel) struct Segment<'a> {
    /// Port of the peer.
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
    /// TSval and TSecr.
    pub(super) timestamps: Option<(u32, u32)>,
    pub(super) sack_blocks: [Option<SackBlock>; SACK_BLOCKS_MAX],
    pub(super) payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// `None` if the packet is not a complete TCP segment with a correct checksum, which is not
    /// verified if the packet is `trusted` (authenticated end to end). Addresses are not checked.
    pub(in crate::tunnel) fn parse(packet: &'a [u8], trusted: bool) -> Option<Self> {
        let (addresses, tcp) = match packet.first()? >> 4 {
            4 => {
                let ip = Ipv4Packet::new_checked(packet).ok()?;
                // There is no reassembly: nobody sends fragments through a tunnel with a known MTU.
                let complete = ip.version() == 4
                    && ip.next_header() == IpProtocol::Tcp
                    && !ip.more_frags()
                    && ip.frag_offset() == 0;
                (
                    packet.get(12..20)?,
                    packet
                        .get(usize::from(ip.header_len())..usize::from(ip.total_len()))
                        .filter(|_| complete)?,
                )
            }
            6 => {
                let ip = Ipv6Packet::new_checked(packet).ok()?;
                let complete = ip.next_header() == IpProtocol::Tcp;
                (packet.get(8..40)?, packet.get(40..ip.total_len()).filter(|_| complete)?)
            }
            _ => return None,
        };
        let length = u64::from(u16::to_be(u16::try_from(tcp.len()).ok()?));
        let checksum_ok =
            || fold(sum(addresses) + u64::from(u16::to_be(6)) + length + sum(tcp)) == 0xffff;
        if trusted || checksum_ok() { Self::parse_tcp(tcp) } else { None }
    }

    pub(super) fn parse_tcp(bytes: &'a [u8]) -> Option<Self> {
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
            // Options after a malformed one are ignored.
            let Ok((rest, option)) = TcpOption::parse(options) else { break };
            options = rest;
            match option {
                TcpOption::EndOfList => break,
                TcpOption::MaxSegmentSize(mss) => segment.mss = Some(mss),
                // RFC 7323, section 2.3: at most 14.
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

    /// A connection request: SYN without ACK, RST or FIN.
    pub(in crate::tunnel) fn is_syn(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    pub(in crate::tunnel) fn is_rst(&self) -> bool {
        self.has(RST)
    }

    /// SEG.LEN: sequence numbers it occupies.
    pub(super) fn seq_len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }
}
