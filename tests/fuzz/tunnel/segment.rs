//! Parsing of segments: accepted if and only if the packet is a complete, unfragmented TCP segment
//! with a correct checksum, and then equal to what was emitted.

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

use super::packets::{PacketSink, agent, checksum, fields};
use super::tcp::{AddressPair, Segment, SegmentHeader};

pub fn run(packet: &[u8]) {
    let verified = Segment::parse(packet, false);
    let trusted = Segment::parse(packet, true);
    let Some((addresses, tcp)) = payload(packet).filter(|(_, tcp)| TcpPacket::new_checked(tcp).is_ok())
    else {
        assert!(verified.is_none() && trusted.is_none());
        return;
    };
    assert_eq!(verified.is_some(), checksum(addresses, tcp) == 0);
    let trusted = trusted.expect("a complete segment");
    if let Some(verified) = verified {
        assert_eq!(format!("{verified:?}"), format!("{trusted:?}"));
    }
    let reference = TcpPacket::new_unchecked(tcp);
    assert_eq!(trusted.remote_port, reference.src_port());
    assert_eq!(trusted.local_port, reference.dst_port());
    assert_eq!(trusted.is_rst(), reference.rst());
    assert_eq!(
        trusted.is_syn(),
        reference.syn() && !reference.ack() && !reference.rst() && !reference.fin()
    );
    // The RST that answers it is well-formed and acceptable to its sender (RFC 9293, 3.10.7.1).
    let mut sink = PacketSink::default();
    let addrs: AddressPair = agent();
    SegmentHeader::rst_for(&trusted).emit(&addrs, &mut sink, 0, |_| {});
    let answer = Segment::parse(&sink.packets[0], false).expect("an emitted segment");
    assert!(answer.is_rst());
    assert_eq!((answer.local_port, answer.remote_port), (trusted.remote_port, trusted.local_port));
    let answer = fields(&sink.packets[0]);
    if reference.ack() {
        assert_eq!(answer.seq, reference.ack_number().0 as u32);
    } else {
        assert_eq!(answer.ack, (reference.seq_number() + reference.segment_len()).0 as u32);
    }
}

/// Addresses and TCP segment of an unfragmented IP packet.
fn payload(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            if ip.next_header() != IpProtocol::Tcp || ip.more_frags() || ip.frag_offset() != 0 {
                return None;
            }
            let range = usize::from(ip.header_len())..usize::from(ip.total_len());
            Some((packet.get(12..20)?, packet.get(range)?))
        }
        6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            if ip.next_header() != IpProtocol::Tcp {
                return None;
            }
            Some((packet.get(8..40)?, packet.get(40..ip.total_len())?))
        }
        _ => None,
    }
}
