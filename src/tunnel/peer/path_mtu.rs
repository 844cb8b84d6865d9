//! Datagram packetization layer path MTU discovery (RFC 8899), for paths that carry more than the
//! base.
//!
//! - Every path is assumed to carry the **base**, [`MTU`]: with WireGuard and IPv6 around it, it
//!   fits into Ethernet.
//! - Where both ends accept larger packets and a connection would use them, a **probe** of the
//!   largest size is sent: an echo request (RFC 792, RFC 4443), to which the peer replies, as any
//!   host does, with the same size. The reply proves both directions.
//! - A lost probe costs nothing else, because it carries no data. After three losses the search
//!   pauses.
//! - The result is valid until the endpoint changes or a large segment is not acknowledged
//!   (`tcp::pmtu_blackhole`).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr,
};

use crate::tunnel::mtu::{MTU, MTU_MAX};

/// PROBE_TIMER of RFC 8899, section 5.1.1.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Consecutive lost probes after which the path is taken not to carry the size (RFC 8899, section
/// 5.1.2).
const MAX_PROBES: u32 = 3;
/// Initial and maximum pause before the next search; doubles each time (RFC 8899, section 5.1.1,
/// has ten minutes).
const RAISE_INTERVAL: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));
/// TTL of an inner packet: there is no router between the two ends.
const HOP_LIMIT: u8 = 64;
/// Payload of a probe.
static PROBE_PADDING: [u8; MTU_MAX] = [0; MTU_MAX];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SearchState {
    /// The path carries the base; larger sizes may be probed from then on.
    Base { raise_at: Instant },
    /// Time of the latest probe, and how many were sent.
    Searching { sent_at: Instant, probes: u32 },
    /// The path carries the maximum.
    SearchComplete,
}

/// The state of the search.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathMtu {
    state: SearchState,
    mtu_max: usize,
    raise_interval: Duration,
    /// Only the reply to the latest probe counts.
    ident: u16,
    seq_no: u16,
}

impl PathMtu {
    /// `mtu_max`: the largest packet accepted at this end and probed for.
    pub(super) fn new(mtu_max: usize, seed: u64, now: Instant) -> Self {
        Self {
            state: SearchState::Base { raise_at: now },
            mtu_max: mtu_max.clamp(MTU, MTU_MAX),
            raise_interval: RAISE_INTERVAL.0,
            ident: seed as u16,
            seq_no: 0,
        }
    }

    /// The largest packet that may be sent.
    pub(super) fn mtu(&self) -> usize {
        match self.state {
            SearchState::Base { .. } | SearchState::Searching { .. } => MTU,
            SearchState::SearchComplete => self.mtu_max,
        }
    }

    /// Whether to send a probe now, if a connection would use larger packets.
    pub(super) fn probe_due(&mut self, now: Instant) -> bool {
        match self.state {
            SearchState::Base { raise_at: from } => self.mtu_max > MTU && now >= from,
            SearchState::Searching { sent_at: at, .. } if now < at + PROBE_TIMEOUT => false,
            SearchState::Searching { probes, .. } if probes < MAX_PROBES => true,
            SearchState::Searching { .. } => {
                self.fall_back(now);
                false
            }
            SearchState::SearchComplete => false,
        }
    }

    /// Writes the next probe. Returns its length, zero if the buffer is too small.
    pub(super) fn write_probe(
        &mut self,
        local: IpAddr,
        remote: IpAddr,
        buffer: &mut [u8],
        now: Instant,
    ) -> usize {
        let probes =
            if let SearchState::Searching { probes, .. } = self.state { probes } else { 0 };
        self.state = SearchState::Searching { sent_at: now, probes: probes + 1 };
        self.seq_no = self.seq_no.wrapping_add(1);
        let header = if local.is_ipv4() { 28 } else { 48 };
        let echo = Echo {
            is_request: true,
            ident: self.ident,
            seq_no: self.seq_no,
            data: &PROBE_PADDING[..self.mtu_max - header],
        };
        echo.write(local, remote, buffer)
    }

    /// Handles a reply; true if the path is now known to carry the maximum.
    pub(super) fn handle_reply(&mut self, echo: &Echo<'_>) -> bool {
        let ours = matches!(self.state, SearchState::Searching { .. })
            && (echo.ident, echo.seq_no) == (self.ident, self.seq_no);
        if ours {
            (self.state, self.raise_interval) = (SearchState::SearchComplete, RAISE_INTERVAL.0);
        }
        ours
    }

    /// Large segments were not acknowledged, or the probes not answered.
    pub(super) fn fall_back(&mut self, now: Instant) {
        self.state = SearchState::Base { raise_at: now + self.raise_interval };
        self.raise_interval = (2 * self.raise_interval).min(RAISE_INTERVAL.1);
    }

    /// The endpoint changed: the path is unknown.
    pub(super) fn reset(&mut self, now: Instant) {
        (self.state, self.raise_interval) = (SearchState::Base { raise_at: now }, RAISE_INTERVAL.0);
    }
}

/// An ICMP echo request or reply inside the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Echo<'a> {
    pub(super) is_request: bool,
    ident: u16,
    seq_no: u16,
    data: &'a [u8],
}

impl<'a> Echo<'a> {
    /// `None` if the packet is something else, malformed, or a fragment.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        // Called for every packet: TCP is excluded by the protocol field.
        match packet.first()? >> 4 {
            4 if *packet.get(9)? == 1 => {
                let ip = Ipv4Packet::new_checked(packet).ok().filter(|ip| {
                    ip.next_header() == IpProtocol::Icmp
                        && !ip.more_frags()
                        && ip.frag_offset() == 0
                })?;
                let message =
                    packet.get(usize::from(ip.header_len())..usize::from(ip.total_len()))?;
                match Icmpv4Repr::parse(
                    &Icmpv4Packet::new_checked(message).ok()?,
                    &ChecksumCapabilities::default(),
                )
                .ok()?
                {
                    Icmpv4Repr::EchoRequest { ident, seq_no, data } => {
                        Some(Self { is_request: true, ident, seq_no, data })
                    }
                    Icmpv4Repr::EchoReply { ident, seq_no, data } => {
                        Some(Self { is_request: false, ident, seq_no, data })
                    }
                    _ => None,
                }
            }
            6 if *packet.get(6)? == 58 => {
                let ip = Ipv6Packet::new_checked(packet).ok()?;
                let message = Icmpv6Packet::new_checked(packet.get(40..ip.total_len())?).ok()?;
                match Icmpv6Repr::parse(
                    &ip.src_addr(),
                    &ip.dst_addr(),
                    &message,
                    &ChecksumCapabilities::default(),
                )
                .ok()?
                {
                    Icmpv6Repr::EchoRequest { ident, seq_no, data } => {
                        Some(Self { is_request: true, ident, seq_no, data })
                    }
                    Icmpv6Repr::EchoReply { ident, seq_no, data } => {
                        Some(Self { is_request: false, ident, seq_no, data })
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Writes the reply to this request. Returns its length, zero if the buffer is too small.
    pub(super) fn write_reply(&self, local: IpAddr, remote: IpAddr, buffer: &mut [u8]) -> usize {
        Self { is_request: false, ..*self }.write(local, remote, buffer)
    }

    fn write(&self, local: IpAddr, remote: IpAddr, buffer: &mut [u8]) -> usize {
        let (checksums, Self { is_request, ident, seq_no, data }) =
            (ChecksumCapabilities::default(), *self);
        match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let echo = if is_request {
                    Icmpv4Repr::EchoRequest { ident, seq_no, data }
                } else {
                    Icmpv4Repr::EchoReply { ident, seq_no, data }
                };
                let payload_len = echo.buffer_len();
                let Some(buffer) = buffer.get_mut(..20 + payload_len) else { return 0 };
                let ip = Ipv4Repr {
                    src_addr: local,
                    dst_addr: remote,
                    next_header: IpProtocol::Icmp,
                    payload_len,
                    hop_limit: HOP_LIMIT,
                };
                ip.emit(&mut Ipv4Packet::new_unchecked(&mut *buffer), &checksums);
                echo.emit(&mut Icmpv4Packet::new_unchecked(&mut buffer[20..]), &checksums);
                buffer.len()
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                let echo = if is_request {
                    Icmpv6Repr::EchoRequest { ident, seq_no, data }
                } else {
                    Icmpv6Repr::EchoReply { ident, seq_no, data }
                };
                let payload_len = echo.buffer_len();
                let Some(buffer) = buffer.get_mut(..40 + payload_len) else { return 0 };
                let ip = Ipv6Repr {
                    src_addr: local,
                    dst_addr: remote,
                    next_header: IpProtocol::Icmpv6,
                    payload_len,
                    hop_limit: HOP_LIMIT,
                };
                ip.emit(&mut Ipv6Packet::new_unchecked(&mut *buffer));
                echo.emit(
                    &local,
                    &remote,
                    &mut Icmpv6Packet::new_unchecked(&mut buffer[40..]),
                    &checksums,
                );
                buffer.len()
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: [IpAddr; 2] = [
        IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)),
    ];
    const V6: [IpAddr; 2] =
        [IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)];

    #[test]
    fn a_probe_and_its_reply_have_the_maximum_size() {
        let now = Instant::now();
        for [local, remote] in [V4, V6] {
            let mut path_mtu = PathMtu::new(MTU_MAX, 7, now);
            assert_eq!((path_mtu.mtu(), path_mtu.probe_due(now)), (MTU, true));
            let mut buffer = vec![0; MTU_MAX];
            assert_eq!(path_mtu.write_probe(local, remote, &mut buffer, now), MTU_MAX);
            assert!(!path_mtu.probe_due(now));
            let request = Echo::parse(&buffer).unwrap();
            assert!(request.is_request);
            let mut buffer = vec![0; MTU_MAX];
            assert_eq!(request.write_reply(remote, local, &mut buffer), MTU_MAX);
            let reply = Echo::parse(&buffer).unwrap();
            assert!(
                !reply.is_request
                    && path_mtu.handle_reply(&reply)
                    && !path_mtu.handle_reply(&reply)
            );
            assert_eq!(path_mtu.mtu(), MTU_MAX);
        }
    }

    #[test]
    fn pauses_double_after_three_lost_probes() {
        let begin = Instant::now();
        let mut path_mtu = PathMtu::new(MTU_MAX, 7, begin);
        let (mut now, mut sent) = (begin, Vec::new());
        while now < begin + Duration::from_secs(3600) {
            if path_mtu.probe_due(now) {
                path_mtu.write_probe(V4[0], V4[1], &mut vec![0; MTU_MAX], now);
                sent.push((now - begin).as_secs());
            }
            now += Duration::from_secs(1);
        }
        assert_eq!(sent[..9], [0, 1, 2, 18, 19, 20, 51, 52, 53]);
        // The pause is ten minutes in the end.
        assert!(
            sent.windows(4).all(|four| four[3] - four[0] <= 604) && sent.len() < 40,
            "{sent:?}"
        );
    }

    #[test]
    fn only_the_reply_to_the_latest_probe_counts() {
        let now = Instant::now();
        let mut path_mtu = PathMtu::new(MTU_MAX, 7, now);
        let other = Echo { is_request: false, ident: 8, seq_no: 1, data: &[] };
        assert!(
            !path_mtu.handle_reply(&Echo { ident: 7, seq_no: 0, ..other }),
            "no probe was sent"
        );
        path_mtu.write_probe(V4[0], V4[1], &mut vec![0; MTU_MAX], now);
        assert!(
            !path_mtu.handle_reply(&other)
                && !path_mtu.handle_reply(&Echo { ident: 7, seq_no: 2, ..other })
        );
        path_mtu.reset(now);
        assert!(
            !path_mtu.handle_reply(&Echo { ident: 7, seq_no: 1, ..other }),
            "sent on another path"
        );
    }

    #[test]
    fn the_base_is_not_probed_for() {
        let now = Instant::now();
        assert!(!PathMtu::new(MTU, 1, now).probe_due(now));
    }

    proptest! {
        #[test]
        fn arbitrary_packets_are_parsed(packet in prop::collection::vec(any::<u8>(), 0..120), start in prop::sample::select(vec![0x45u8, 0x4f, 0x60]), icmp in any::<bool>()) {
            let mut packet = packet;
            if let Some(first) = packet.first_mut() {
                *first = start;
            }
            if let Some(protocol) = packet.get_mut(if start == 0x60 { 6 } else { 9 }).filter(|_| icmp) {
                *protocol = if start == 0x60 { 58 } else { 1 };
            }
            if let Some(echo) = Echo::parse(&packet) {
                prop_assert!(echo.data.len() < packet.len());
            }
        }
    }
}
