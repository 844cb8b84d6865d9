//! How large a packet the path carries: packetization layer path MTU discovery for datagrams (RFC
//! 8899).
//!
//! - Every path is taken to carry the **base**, [`MTU`]: with WireGuard and IPv6 around it, it fits
//!   into Ethernet.
//! - Some carry more: jumbo frames, or a host on the gateway's own machine. Where both ends take
//!   more, and something would be gained, a **probe** as large as they take is sent: an echo
//!   request (RFC 792, RFC 4443), which the other end of a tunnel answers as any host does, at the
//!   same size. Its answer proves both directions.
//! - A probe that is lost costs nothing but itself: no data travels in it or with it. After three,
//!   it is left alone for a while.
//! - What was proved is believed until the other end moves or a large segment is not acknowledged
//!   (`tcp::narrow`).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr,
};

use super::{MTU, MTU_MAX};

/// A probe not answered in this time is lost.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Probes in a row, all lost, that mean that the path does not carry them (RFC 8899, section
/// 5.1.2).
const MAX_PROBES: u32 = 3;
/// Until it is tried again, at first and at most (RFC 8899, section 5.1.1: ten minutes).
const RAISE_INTERVAL: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));
/// Hops of an inner packet: there is none between the two ends.
const HOP_LIMIT: u8 = 64;
/// What a probe says.
static PROBE_PADDING: [u8; MTU_MAX] = [0; MTU_MAX];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SearchState {
    /// The path carries the base; more may be tried from then on.
    Base { raise_at: Instant },
    /// The last of so many probes was sent then.
    Searching { sent_at: Instant, probes: u32 },
    /// The path carries the most.
    SearchComplete,
}

/// What is known of the path.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathMtu {
    state: SearchState,
    mtu_max: usize,
    raise_interval: Duration,
    /// Only the answer to our latest probe counts.
    ident: u16,
    seq_no: u16,
}

impl PathMtu {
    /// Packets of up to `most` bytes are welcome at this end, and may be tried.
    pub(super) fn new(most: usize, seed: u64, now: Instant) -> Self {
        Self {
            state: SearchState::Base { raise_at: now },
            mtu_max: most.clamp(MTU, MTU_MAX),
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

    /// It is time for a probe, for somebody to whom the answer is of use.
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

    /// Writes the next probe; answers with its length, nothing if there is no room.
    pub(super) fn write_probe(
        &mut self,
        local: IpAddr,
        remote: IpAddr,
        room: &mut [u8],
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
        echo.write(local, remote, room)
    }

    /// An answer came; true if the path is now known to carry more.
    pub(super) fn handle_reply(&mut self, echo: &Echo<'_>) -> bool {
        let ours = matches!(self.state, SearchState::Searching { .. })
            && (echo.ident, echo.seq_no) == (self.ident, self.seq_no);
        if ours {
            (self.state, self.raise_interval) = (SearchState::SearchComplete, RAISE_INTERVAL.0);
        }
        ours
    }

    /// What large packets carried was not acknowledged, or the probes were not answered.
    pub(super) fn fall_back(&mut self, now: Instant) {
        self.state = SearchState::Base { raise_at: now + self.raise_interval };
        self.raise_interval = (2 * self.raise_interval).min(RAISE_INTERVAL.1);
    }

    /// The other end is elsewhere: nothing is known of the way there.
    pub(super) fn reset(&mut self, now: Instant) {
        (self.state, self.raise_interval) = (SearchState::Base { raise_at: now }, RAISE_INTERVAL.0);
    }
}

/// An echo request or its answer, inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Echo<'a> {
    /// It is a request.
    pub(super) is_request: bool,
    ident: u16,
    seq_no: u16,
    data: &'a [u8],
}

impl<'a> Echo<'a> {
    /// Reads a packet; `None` if it is something else, or damaged, or a fragment.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        // Asked of every packet that arrives: what is TCP is seen at once.
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

    /// Writes the answer to this request; answers with its length, nothing if there is no room.
    pub(super) fn write_reply(&self, local: IpAddr, remote: IpAddr, room: &mut [u8]) -> usize {
        Self { is_request: false, ..*self }.write(local, remote, room)
    }

    fn write(&self, local: IpAddr, remote: IpAddr, room: &mut [u8]) -> usize {
        let (checksums, Self { is_request: asks, ident, seq_no, data }) =
            (ChecksumCapabilities::default(), *self);
        match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let echo = if asks {
                    Icmpv4Repr::EchoRequest { ident, seq_no, data }
                } else {
                    Icmpv4Repr::EchoReply { ident, seq_no, data }
                };
                let payload_len = echo.buffer_len();
                let Some(room) = room.get_mut(..20 + payload_len) else { return 0 };
                let ip = Ipv4Repr {
                    src_addr: local,
                    dst_addr: remote,
                    next_header: IpProtocol::Icmp,
                    payload_len,
                    hop_limit: HOP_LIMIT,
                };
                ip.emit(&mut Ipv4Packet::new_unchecked(&mut *room), &checksums);
                echo.emit(&mut Icmpv4Packet::new_unchecked(&mut room[20..]), &checksums);
                room.len()
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                let echo = if asks {
                    Icmpv6Repr::EchoRequest { ident, seq_no, data }
                } else {
                    Icmpv6Repr::EchoReply { ident, seq_no, data }
                };
                let payload_len = echo.buffer_len();
                let Some(room) = room.get_mut(..40 + payload_len) else { return 0 };
                let ip = Ipv6Repr {
                    src_addr: local,
                    dst_addr: remote,
                    next_header: IpProtocol::Icmpv6,
                    payload_len,
                    hop_limit: HOP_LIMIT,
                };
                ip.emit(&mut Ipv6Packet::new_unchecked(&mut *room));
                echo.emit(
                    &local,
                    &remote,
                    &mut Icmpv6Packet::new_unchecked(&mut room[40..]),
                    &checksums,
                );
                room.len()
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
    fn a_probe_is_as_large_as_both_take_and_its_answer_too() {
        let now = Instant::now();
        for [local, remote] in [V4, V6] {
            let mut reach = PathMtu::new(MTU_MAX, 7, now);
            assert_eq!((reach.mtu(), reach.probe_due(now)), (MTU, true));
            let mut room = vec![0; MTU_MAX];
            assert_eq!(reach.write_probe(local, remote, &mut room, now), MTU_MAX);
            assert!(!reach.probe_due(now));
            let asked = Echo::parse(&room).unwrap();
            assert!(asked.is_request);
            let mut back = vec![0; MTU_MAX];
            assert_eq!(asked.write_reply(remote, local, &mut back), MTU_MAX);
            let answer = Echo::parse(&back).unwrap();
            assert!(
                !answer.is_request && reach.handle_reply(&answer) && !reach.handle_reply(&answer)
            );
            assert_eq!(reach.mtu(), MTU_MAX);
        }
    }

    #[test]
    fn three_lost_probes_are_followed_by_ever_longer_pauses() {
        let begin = Instant::now();
        let mut reach = PathMtu::new(MTU_MAX, 7, begin);
        let (mut now, mut sent) = (begin, Vec::new());
        while now < begin + Duration::from_secs(3600) {
            if reach.probe_due(now) {
                reach.write_probe(V4[0], V4[1], &mut vec![0; MTU_MAX], now);
                sent.push((now - begin).as_secs());
            }
            now += Duration::from_secs(1);
        }
        assert_eq!(sent[..9], [0, 1, 2, 18, 19, 20, 51, 52, 53]);
        // Ten minutes apart at last.
        assert!(
            sent.windows(4).all(|four| four[3] - four[0] <= 604) && sent.len() < 40,
            "{sent:?}"
        );
    }

    #[test]
    fn only_the_answer_to_the_latest_probe_counts() {
        let now = Instant::now();
        let mut reach = PathMtu::new(MTU_MAX, 7, now);
        let stranger = Echo { is_request: false, ident: 8, seq_no: 1, data: &[] };
        assert!(
            !reach.handle_reply(&Echo { ident: 7, seq_no: 0, ..stranger }),
            "nothing was asked"
        );
        reach.write_probe(V4[0], V4[1], &mut vec![0; MTU_MAX], now);
        assert!(
            !reach.handle_reply(&stranger)
                && !reach.handle_reply(&Echo { ident: 7, seq_no: 2, ..stranger })
        );
        reach.reset(now);
        assert!(
            !reach.handle_reply(&Echo { ident: 7, seq_no: 1, ..stranger }),
            "asked of another path"
        );
    }

    #[test]
    fn who_takes_no_more_is_not_asked() {
        let now = Instant::now();
        assert!(!PathMtu::new(MTU, 1, now).probe_due(now));
    }

    proptest! {
        #[test]
        fn any_packet_may_be_looked_at(packet in prop::collection::vec(any::<u8>(), 0..120), start in prop::sample::select(vec![0x45u8, 0x4f, 0x60]), icmp in any::<bool>()) {
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
