//! Output of the inner TCP: packets are encrypted at once, into the end of a GSO batch.
//!
//! - [`Sealer`] encrypts an IP packet into a segment of a batch.
//! - [`addresses`] reads the addresses of an inner packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use boringtun::noise::{Tunn, TunnResult};

use super::transmit_queue::TransmitQueue;
use crate::tunnel::tcp::PacketOutput;

/// WireGuard's header and tag around a packet.
pub(super) const DATA_OVERHEAD: usize = 32;
/// Least buffer size boringtun requires: that of a handshake initiation.
pub(super) const ENCAPSULATE_BUFFER_MIN: usize = 148;

pub(super) struct Sealer<'a> {
    pub(super) tunn: &'a mut Tunn,
    pub(super) transmits: &'a mut TransmitQueue,
    pub(super) scratch: &'a mut [u8],
    /// Destination; `None` while there is no key or no endpoint: packets are then dropped, or
    /// rather not produced.
    pub(super) to: Option<SocketAddr>,
    /// Packets sealed, and their encrypted bytes.
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// boringtun returned something other than data: it has expired the session.
    pub(super) session_lost: bool,
}

impl Sealer<'_> {
    /// Encrypts the first `len` bytes of the scratch buffer.
    pub(super) fn seal(&mut self, len: usize) {
        let Some(to) = self.to else { return };
        let (tunn, packet) = (&mut *self.tunn, &self.scratch[..len]);
        let mut session_lost = false;
        let size = len + DATA_OVERHEAD;
        self.transmits.append(to, size, size.max(ENCAPSULATE_BUFFER_MIN), |buffer| {
            match tunn.encapsulate(packet, buffer) {
                TunnResult::WriteToNetwork(segment) if segment.len() == size => size,
                _ => {
                    session_lost = true;
                    0
                }
            }
        });
        self.session_lost |= session_lost;
        if !session_lost {
            self.packets += 1;
            self.bytes += size as u64;
        }
    }
}

impl PacketOutput for Sealer<'_> {
    fn is_ready(&self) -> bool {
        self.to.is_some() && !self.session_lost && !self.transmits.is_full()
    }

    fn buffer(&mut self) -> &mut [u8] {
        self.scratch
    }

    fn send(&mut self, len: usize) {
        self.seal(len);
    }
}

/// Source and destination of an IP packet; `None` when it has no complete IP header.
pub(super) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let header: &[u8; 20] = packet.first_chunk()?;
            let address = |at: usize| {
                Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into()
            };
            Some((address(12), address(16)))
        }
        6 => {
            let header: &[u8; 40] = packet.first_chunk()?;
            let address = |at: usize| {
                header
                    .get(at..at + 16)
                    .and_then(|b| <[u8; 16]>::try_from(b).ok())
                    .map(Ipv6Addr::from)
            };
            Some((address(8)?.into(), address(24)?.into()))
        }
        _ => None,
    }
}

/// A little-endian integer of a WireGuard message.
pub(super) fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_parsed(packet in prop::collection::vec(any::<u8>(), 0..120), version in prop::sample::select(vec![0x45u8, 0x4f, 0x60, 0x00])) {
            let mut packet = packet;
            if let Some(first) = packet.first_mut() {
                *first = version;
            }
            let _ = addresses(&packet);
        }
    }

    #[test]
    fn addresses_are_read() {
        let mut packet = [0u8; 40];
        packet[0] = 0x45;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(addresses(&packet), Some(([10, 0, 0, 1].into(), [10, 0, 0, 2].into())));
        packet[0] = 0x60;
        packet[23] = 1;
        packet[39] = 2;
        assert_eq!(addresses(&packet).map(|(_, to)| to), Some(IpAddr::from(Ipv6Addr::from(2u128))));
    }
}
