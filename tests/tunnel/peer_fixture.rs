//! Fixtures of peers on a simulated network.

use std::net::SocketAddr;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use portcullis::tunnel::TunnelStatus;
use portcullis::tunnel::peer::ConnId;
use smoltcp::wire::{Ipv4Packet, TcpPacket};

use super::simnet::{AGENT, GATEWAY, PeerSettings, Rng, SimulatedNetwork};

pub const S: Duration = Duration::from_secs(1);

/// Both ends send `length` bytes, then close; both must receive all of it.
pub fn exchange(
    net: &mut SimulatedNetwork,
    near: ConnId,
    far: ConnId,
    length: usize,
    limit: Duration,
) {
    let (out, back) = (bytes(1, length), bytes(2, length));
    for (side, conn, captured) in [(GATEWAY, near, &out), (AGENT, far, &back)] {
        let stream = net.stream(side, conn);
        stream.outgoing.extend(captured);
        stream.finish = true;
    }
    let done = net.run(limit, |net| {
        net.streams[&(GATEWAY, near)].finished && net.streams[&(AGENT, far)].finished
    });
    let failures = [net.stream(GATEWAY, near).failed, net.stream(AGENT, far).failed];
    assert!(
        done,
        "not done after {limit:?}: {failures:?}, {:?}",
        net.peers.each_ref().map(|peer| peer.counters())
    );
    assert!(
        net.stream(GATEWAY, near).incoming == back && net.stream(AGENT, far).incoming == out,
        "bytes differ"
    );
}

pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Rng::new(seed + 1);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// A standard peer: boringtun alone, with the gateway's keys, able to send arbitrary packets.
pub struct StandardPeer {
    tunn: Tunn,
    address: SocketAddr,
}

impl StandardPeer {
    pub fn handshake(net: &mut SimulatedNetwork) -> Self {
        let settings = PeerSettings::new();
        let secret =
            boringtun::x25519::StaticSecret::from(*settings.private_keys[GATEWAY].expose());
        let agent = boringtun::x25519::PublicKey::from(
            *settings.private_keys[AGENT].public_key().as_bytes(),
        );
        let mut tunn = Tunn::new(
            secret,
            agent,
            Some(*settings.preshared_keys[GATEWAY].expose()),
            None,
            9,
            None,
        );
        let address = net.addresses[GATEWAY];
        let (mut buffer, mut answer) = (vec![0; 2048], vec![0; 2048]);
        let TunnResult::WriteToNetwork(initiation) =
            tunn.format_handshake_initiation(&mut buffer, false)
        else {
            panic!()
        };
        net.inject(AGENT, address, initiation);
        let response = net.peers[AGENT].poll_transmit().unwrap();
        let TunnResult::WriteToNetwork(confirmation) =
            tunn.decapsulate(None, &response.contents, &mut answer)
        else {
            panic!()
        };
        net.inject(AGENT, address, confirmation);
        assert_eq!(net.peers[AGENT].status(net.now), TunnelStatus::Encrypted);
        Self { tunn, address }
    }

    pub fn receive(&mut self, net: &mut SimulatedNetwork) -> Vec<u8> {
        let train = net.peers[AGENT].poll_transmit().unwrap();
        let mut buffer = vec![0; 2048];
        match self.tunn.decapsulate(None, &train.contents, &mut buffer) {
            TunnResult::WriteToTunnelV4(packet, _) => packet.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub fn send(&mut self, net: &mut SimulatedNetwork, packet: &[u8]) {
        let mut buffer = vec![0; 2048];
        let TunnResult::WriteToNetwork(datagram) = self.tunn.encapsulate(packet, &mut buffer)
        else {
            panic!()
        };
        net.inject(AGENT, self.address, datagram);
    }
}

/// A TCP segment over IPv4, without payload.
pub fn packet(source: [u8; 4], destination: [u8; 4], from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x45;
    packet[3] = 40;
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet[20..22].copy_from_slice(&from.to_be_bytes());
    packet[22..24].copy_from_slice(&to.to_be_bytes());
    packet[32] = 0x50;
    packet[33] = flags;
    packet[34] = 0xff;
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    let (source, destination) = (ip.src_addr().into(), ip.dst_addr().into());
    TcpPacket::new_unchecked(ip.payload_mut()).fill_checksum(&source, &destination);
    packet
}
