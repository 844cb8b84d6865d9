//! The network card of the inner TCP stack: what smoltcp sends is encrypted on the spot, into the tail of a GSO train.
//!
//! - [`Sealer`] turns an IP packet into a segment of a train.
//! - [`Wire`] is the smoltcp device around it, for as long as one call lasts: it offers at most one received packet.
//! - [`Inner`] is what the outside of an inner packet says: addresses, and whether it opens a TCP connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use boringtun::noise::{Tunn, TunnResult};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::edges::Edges;
use super::train::Trains;

/// Largest IP packet inside the tunnel.
pub const MTU: usize = 1420;
/// WireGuard's header and tag around a packet.
pub(super) const OVERHEAD: usize = 32;
/// Least room boringtun wants for an answer: a handshake initiation.
pub(super) const LEAST_ROOM: usize = 148;

/// Encrypts packets into trains.
pub(super) struct Sealer<'a> {
    pub(super) tunn: &'a mut Tunn,
    pub(super) trains: &'a mut Trains,
    pub(super) edges: &'a mut Edges,
    pub(super) scratch: &'a mut [u8],
    /// Where to; `None` while there is no key or no address: packets are then dropped, or better, not asked for.
    pub(super) to: Option<SocketAddr>,
    /// Data packets sealed, and their encrypted bytes.
    pub(super) sealed: u64,
    pub(super) bytes: u64,
    /// boringtun answered with something other than data: it has lost the key.
    pub(super) lost_key: bool,
}

impl Sealer<'_> {
    fn ready(&self) -> bool {
        self.to.is_some() && !self.lost_key && !self.trains.full()
    }

    /// Encrypts the first `len` bytes of the scratch.
    pub(super) fn seal(&mut self, len: usize) {
        let Some(to) = self.to else { return };
        self.edges.mend(&mut self.scratch[..len]);
        let (tunn, packet) = (&mut *self.tunn, &self.scratch[..len]);
        let mut lost = false;
        let size = len + OVERHEAD;
        self.trains.append(to, size, size.max(LEAST_ROOM), |room| match tunn.encapsulate(packet, room) {
            TunnResult::WriteToNetwork(segment) if segment.len() == size => size,
            _ => {
                lost = true;
                0
            }
        });
        self.lost_key |= lost;
        if !lost {
            self.sealed += 1;
            self.bytes += size as u64;
        }
    }
}

/// A smoltcp device that lasts for one call.
pub(super) struct Wire<'a, 'b> {
    pub(super) received: Option<&'a [u8]>,
    pub(super) sealer: Option<&'a mut Sealer<'b>>,
}

/// A received packet on its way into TCP.
pub(super) struct Rx<'a>(&'a [u8]);
/// Room for a packet on its way out.
pub(super) struct Tx<'a, 'b>(Option<&'a mut Sealer<'b>>);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        match self.0 {
            Some(sealer) if len <= sealer.scratch.len() => {
                let result = f(&mut sealer.scratch[..len]);
                sealer.seal(len);
                result
            }
            _ => f(&mut vec![0; len]),
        }
    }
}

impl<'a, 'b> Device for Wire<'a, 'b> {
    type RxToken<'t>
        = Rx<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Tx<'t, 'b>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_, 'b>)> {
        let packet = self.received.take()?;
        Some((Rx(packet), Tx(self.sealer.as_deref_mut())))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_, 'b>> {
        let sealer = self.sealer.as_deref_mut().filter(|sealer| sealer.ready())?;
        Some(Tx(Some(sealer)))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = MTU;
        // Every packet was authenticated by ChaCha20-Poly1305 a moment ago; its checksum can say nothing more. Ours are written, for kernels check them.
        caps.checksum.ipv4 = Checksum::Tx;
        caps.checksum.tcp = Checksum::Tx;
        caps
    }
}

/// The outside of an inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inner {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Source and destination port, when the packet asks for a new TCP connection.
    pub(super) opens: Option<(u16, u16)>,
}

impl Inner {
    /// Reads the outside of a packet; `None` when it is not even an IP header.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let header: &[u8; 20] = packet.first_chunk()?;
                let length = usize::from(header[0] & 0x0f) * 4;
                let first_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
                let tcp = if header[9] == 6 && length >= 20 && first_fragment { packet.get(length..) } else { None };
                Some(Self {
                    source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
                    destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
                    opens: tcp.and_then(syn),
                })
            }
            6 => {
                let header: &[u8; 40] = packet.first_chunk()?;
                let address = |at: usize| header.get(at..at + 16).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(Ipv6Addr::from);
                let tcp = if header[6] == 6 { packet.get(40..) } else { None };
                Some(Self { source: address(8)?.into(), destination: address(24)?.into(), opens: tcp.and_then(syn) })
            }
            _ => None,
        }
    }
}

/// The ports of a segment with SYN and none of ACK, RST, FIN (RFC 9293, section 3.1).
fn syn(tcp: &[u8]) -> Option<(u16, u16)> {
    let header: &[u8; 20] = tcp.first_chunk()?;
    (header[13] & 0b1_0111 == 0b0_0010).then(|| (u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_may_be_parsed(packet in prop::collection::vec(any::<u8>(), 0..120), version in prop::sample::select(vec![0x45u8, 0x4f, 0x60, 0x00])) {
            let mut packet = packet;
            if let Some(first) = packet.first_mut() {
                *first = version;
            }
            let _ = Inner::parse(&packet);
        }
    }

    #[test]
    fn a_syn_over_ipv4_is_seen() {
        let mut packet = [0u8; 40];
        packet[0] = 0x45;
        packet[9] = 6;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[20..24].copy_from_slice(&[0x30, 0x39, 0x17, 0x0c]);
        packet[33] = 2;
        let inner = Inner { source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into(), opens: Some((12345, 5900)) };
        assert_eq!(Inner::parse(&packet), Some(inner));
        packet[33] = 0x12;
        assert_eq!(Inner::parse(&packet).and_then(|i| i.opens), None);
    }
}
