//! Mends the sequence number of acknowledgements, and counts what is sent again.
//!
//! - The **edge** of a connection is the sequence number the other end expects next: the highest acknowledgement it ever sent.
//!
//! A segment without payload that lies before what its receiver expects is not accepted, and neither is the acknowledgement in it (RFC 9293,
//! section 3.10.7.4); so a sender puts such segments at SND.NXT, and never back. smoltcp 0.14 goes back to the oldest byte it has not seen
//! acknowledged when its retransmission timer fires, and its acknowledgements go back with it. When both directions carry data and both lose
//! some at the same time, each side then refuses the other's acknowledgements as too old, and neither ever moves again. The simulated storm
//! finds this within seconds; a desktop on a bad network would, too. So an empty segment on its way out that lies behind the edge is put there.

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// Farther back than this is no old segment but another life of the same ports.
const FAR: u32 = 1 << 30;

/// What is known of one connection.
#[derive(Debug)]
struct Edge {
    /// Our port and theirs.
    ports: (u16, u16),
    /// The highest acknowledgement heard.
    heard: u32,
    /// The end of what was sent.
    sent: u32,
}

/// The edges of a tunnel's connections. There are few, and neighbouring packets belong to one: a list whose busiest comes first is faster than a map.
#[derive(Debug, Default)]
pub(super) struct Edges {
    edges: Vec<Edge>,
    resent: u64,
}

impl Edges {
    /// Segments that carried nothing but what had been sent before.
    pub(super) fn resent(&self) -> u64 {
        self.resent
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, ports: (u16, u16)) {
        self.edges.retain(|edge| edge.ports != ports);
    }

    fn find(&mut self, ports: (u16, u16)) -> Option<&mut Edge> {
        let n = self.edges.iter().position(|edge| edge.ports == ports)?;
        self.edges.swap(0, n);
        self.edges.first_mut()
    }

    /// Looks at a packet that was received.
    pub(super) fn heard(&mut self, packet: &[u8]) {
        let Some(segment) = packet.get(tcp_at(packet)..).and_then(Segment::parse) else { return };
        if segment.flags & (ACK | RST) == ACK
            && let Some(edge) = self.find((segment.destination, segment.source))
            && segment.acknowledgement.wrapping_sub(edge.heard) < FAR
        {
            edge.heard = segment.acknowledgement;
        }
    }

    /// Looks at a packet that is about to be sent.
    pub(super) fn mend(&mut self, packet: &mut [u8]) {
        let at = tcp_at(packet);
        let Some(tcp) = packet.get_mut(at..) else { return };
        let Some(segment) = Segment::parse(tcp) else { return };
        let ports = (segment.source, segment.destination);
        if segment.flags & SYN != 0 {
            let first = segment.sequence.wrapping_add(1);
            match self.find(ports) {
                Some(edge) => {
                    let again = edge.heard == first;
                    (edge.heard, edge.sent) = (first, first);
                    self.resent += u64::from(again);
                }
                None => self.edges.push(Edge { ports, heard: first, sent: first }),
            }
            return;
        }
        let Some(edge) = self.find(ports) else { return };
        if !segment.empty {
            let end = segment.sequence.wrapping_add(segment.length);
            let ahead = end.wrapping_sub(edge.sent);
            if ahead != 0 && ahead < FAR {
                edge.sent = end;
            } else if edge.heard != edge.sent {
                // When all was acknowledged, a byte before the end is no repetition but a question whether the other end is there.
                self.resent += 1;
            }
            return;
        }
        let behind = edge.heard.wrapping_sub(segment.sequence);
        if behind != 0 && behind < FAR {
            let heard = edge.heard;
            set_sequence(tcp, segment.sequence, heard);
        }
    }
}

struct Segment {
    source: u16,
    destination: u16,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    /// Sequence numbers it takes up, but for a SYN's.
    length: u32,
    /// Takes up no sequence numbers.
    empty: bool,
}

impl Segment {
    fn parse(tcp: &[u8]) -> Option<Self> {
        let header: &[u8; 20] = tcp.first_chunk()?;
        let flags = header[13];
        let payload = tcp.len().saturating_sub(usize::from(header[12] >> 4) * 4);
        Some(Self {
            source: u16::from_be_bytes([header[0], header[1]]),
            destination: u16::from_be_bytes([header[2], header[3]]),
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            acknowledgement: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            flags,
            length: u32::try_from(payload).unwrap_or(0) + u32::from(flags & FIN != 0),
            empty: flags & (SYN | FIN) == 0 && payload == 0,
        })
    }
}

/// Where TCP begins; past the end if it does not.
fn tcp_at(packet: &[u8]) -> usize {
    match packet.first().map(|first| first >> 4) {
        Some(4) if packet.get(9) == Some(&6) => usize::from(packet[0] & 0x0f) * 4,
        Some(6) if packet.get(6) == Some(&6) => 40,
        _ => usize::MAX,
    }
}

/// Replaces the sequence number and adjusts the checksum by the difference (RFC 1624, equation 3).
fn set_sequence(tcp: &mut [u8], old: u32, new: u32) {
    let Some(header) = tcp.first_chunk_mut::<20>() else { return };
    header[4..8].copy_from_slice(&new.to_be_bytes());
    let checksum = u16::from_be_bytes([header[16], header[17]]);
    let halves = |word: u32| [word >> 16, word & 0xffff];
    let mut sum = u32::from(!checksum);
    for (old, new) in halves(old).into_iter().zip(halves(new)) {
        sum += (!old & 0xffff) + new;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

    const US: Ipv4Address = Ipv4Address::new(10, 0, 0, 1);
    const THEM: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);

    fn segment(control: TcpControl, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: 5900,
            dst_port: 50000,
            control,
            seq_number: TcpSeqNumber(sequence as i32),
            ack_number: Some(TcpSeqNumber(77)),
            window_len: 1000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let ip = Ipv4Repr { src_addr: US, dst_addr: THEM, next_header: IpProtocol::Tcp, payload_len: tcp.buffer_len(), hop_limit: 64 };
        let mut bytes = vec![0; 20 + tcp.buffer_len()];
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
        tcp.emit(&mut TcpPacket::new_unchecked(&mut bytes[20..]), &US.into(), &THEM.into(), &ChecksumCapabilities::default());
        bytes
    }

    fn answer(acknowledgement: u32) -> Vec<u8> {
        let mut bytes = segment(TcpControl::None, 0, &[]);
        bytes[20..22].copy_from_slice(&50000u16.to_be_bytes());
        bytes[22..24].copy_from_slice(&5900u16.to_be_bytes());
        bytes[28..32].copy_from_slice(&acknowledgement.to_be_bytes());
        bytes
    }

    fn sent(edges: &mut Edges, control: TcpControl, sequence: u32, payload: &[u8]) -> u32 {
        let mut bytes = segment(control, sequence, payload);
        edges.mend(&mut bytes);
        let packet = TcpPacket::new_checked(&bytes[20..]).unwrap();
        assert!(packet.verify_checksum(&US.into(), &THEM.into()));
        packet.seq_number().0 as u32
    }

    proptest! {
        #[test]
        fn an_acknowledgement_behind_the_edge_is_put_there(start: u32, length in 1u32..1 << 20) {
            let mut edges = Edges::default();
            let (first, edge) = (start.wrapping_add(1), start.wrapping_add(1 + length));
            prop_assert_eq!(sent(&mut edges, TcpControl::Syn, start, &[]), start);
            prop_assert_eq!(sent(&mut edges, TcpControl::None, first, &[]), first);
            edges.heard(&answer(edge));
            edges.heard(&answer(first));
            prop_assert_eq!(sent(&mut edges, TcpControl::None, first, &[]), edge);
            // What takes up sequence numbers is left alone, and so is what is not behind.
            prop_assert_eq!(sent(&mut edges, TcpControl::None, first, &[7]), first);
            prop_assert_eq!(sent(&mut edges, TcpControl::Fin, first, &[]), first);
            prop_assert_eq!(sent(&mut edges, TcpControl::None, edge, &[]), edge);
            prop_assert_eq!(sent(&mut edges, TcpControl::None, edge.wrapping_add(9), &[]), edge.wrapping_add(9));
        }
    }

    #[test]
    fn what_is_sent_again_is_counted() {
        let mut edges = Edges::default();
        let start = u32::MAX - 2;
        let at = |n: u32| start.wrapping_add(1 + n);
        sent(&mut edges, TcpControl::Syn, start, &[]);
        assert_eq!(edges.resent(), 0);
        sent(&mut edges, TcpControl::Syn, start, &[]);
        assert_eq!(edges.resent(), 1, "a connection request");
        sent(&mut edges, TcpControl::None, at(0), &[1; 10]);
        sent(&mut edges, TcpControl::None, at(10), &[1; 10]);
        sent(&mut edges, TcpControl::None, at(20), &[]);
        assert_eq!(edges.resent(), 1);
        sent(&mut edges, TcpControl::None, at(0), &[1; 10]);
        assert_eq!(edges.resent(), 2);
        sent(&mut edges, TcpControl::None, at(10), &[1; 20]);
        assert_eq!(edges.resent(), 2, "half of it is new");
        edges.heard(&answer(at(30)));
        sent(&mut edges, TcpControl::None, at(29), &[0]);
        assert_eq!(edges.resent(), 2, "a keepalive");
        sent(&mut edges, TcpControl::Fin, at(30), &[]);
        sent(&mut edges, TcpControl::Fin, at(30), &[]);
        assert_eq!(edges.resent(), 3);
    }

    #[test]
    fn strangers_are_left_alone() {
        let mut edges = Edges::default();
        assert_eq!(sent(&mut edges, TcpControl::Rst, 5, &[]), 5);
        edges.heard(&answer(100));
        assert_eq!(sent(&mut edges, TcpControl::None, 5, &[]), 5);
        sent(&mut edges, TcpControl::Syn, 5, &[]);
        edges.heard(&answer(100));
        edges.forget((5900, 50000));
        assert_eq!(sent(&mut edges, TcpControl::None, 6, &[]), 6);
    }
}
