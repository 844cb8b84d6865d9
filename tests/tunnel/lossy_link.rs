//! Hubs on loopback with a lossy link between them, and packets of an outsider.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::hubs::{InnerFamily, TunnelEnds, hub};
use super::simnet::Rng;

const S: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_with_guessed_indices_reach_no_tunnel() {
    let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
    let (one, two) = (TunnelEnds::new(InnerFamily::V4, 1), TunnelEnds::new(InnerFamily::V4, 2));
    let mut tunnels = Vec::new();
    for ends in [&one, &two] {
        let far = agent.add_peer(ends.agent_config(None)).unwrap();
        let near = gateway.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
        near.initiate();
        timeout(20 * S, near.wait_for_handshake()).await.unwrap().unwrap();
        tunnels.push((near, far));
    }
    // An outsider tries indices: a packet for no tunnel is counted, one for a wrong key is dropped
    // by its owner.
    let unknown = gateway.counters().unknown;
    let outsider = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for index in 0..1000u32 {
        let mut packet = [0u8; 64];
        packet[0] = 4;
        packet[4..8].copy_from_slice(&(index << 8 | 1).to_le_bytes());
        outsider.send_to(&packet, gateway.local_addr()).await.unwrap();
    }
    let mut echo = tunnels[0].1.listen(7, 1).unwrap();
    let (near, far) = tokio::join!(tunnels[0].0.connect(7), echo.accept());
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    far.write_all(b"still open").await.unwrap();
    let mut back = [0; 10];
    timeout(20 * S, near.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"still open");
    assert!(
        gateway.counters().unknown
            + tunnels.iter().map(|(near, _)| near.stats().dropped).sum::<u64>()
            >= unknown + 1000
    );
}

/// Relays datagrams between two hubs, and drops, duplicates, reorders and corrupts some of them.
struct LossyLink {
    task: tokio::task::JoinHandle<()>,
    /// The agent's address as seen by the gateway.
    address: SocketAddr,
}

impl LossyLink {
    /// `faults`: per mille of each fault. `largest`: longer datagrams are dropped.
    async fn to(agent: SocketAddr, seed: u64, faults: u64, largest: usize) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut random, mut gateway, mut delayed) =
                (Rng::new(seed), None, None::<(Vec<u8>, SocketAddr)>);
            let mut buffer = vec![0; 65_536];
            loop {
                let (n, from) = socket.recv_from(&mut buffer).await.unwrap();
                if from != agent {
                    gateway = Some(from);
                }
                let Some(to) = (if from == agent { gateway } else { Some(agent) }) else {
                    continue;
                };
                let mut datagram = buffer[..n].to_vec();
                let draw = random.below(1000);
                if draw < faults || n > largest {
                    continue;
                }
                if draw < 2 * faults {
                    let bit = random.below(n as u64 * 8) as usize;
                    datagram[bit / 8] ^= 1 << (bit % 8);
                }
                if draw < 3 * faults && delayed.is_none() {
                    delayed = Some((datagram, to));
                    continue;
                }
                let _ = socket.send_to(&datagram, to).await;
                if draw >= 1000 - faults {
                    let _ = socket.send_to(&datagram, to).await;
                }
                if let Some((late, to)) = delayed.take() {
                    let _ = socket.send_to(&late, to).await;
                }
            }
        });
        Self { task, address }
    }
}

impl Drop for LossyLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_survives_a_lossy_link() {
    for (faults, length, largest) in [
        (1, MIB, usize::MAX),
        (10, MIB / 4, usize::MAX),
        (50, MIB / 16, usize::MAX),
        (1, MIB / 4, 1340),
    ] {
        let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
        let ends = TunnelEnds::new(InnerFamily::V4, 1);
        let link = LossyLink::to(agent.local_addr(), 17 + faults, faults, largest).await;
        let far = agent.add_peer(ends.agent_config(None)).unwrap();
        let near = gateway.add_peer(ends.gateway_config(Some(link.address))).unwrap();
        let mut listener = far.listen(5900, 1).unwrap();
        let (client, server) = tokio::join!(near.connect(5900), listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        let data: Vec<u8> = (0..length).map(|n| (n % 249) as u8).collect();
        let expected = data.clone();
        let server_side = async {
            server.write_all(&data).await.unwrap();
            server.shutdown().await.unwrap();
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            received
        };
        let client_side = async {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            client.write_all(&received).await.unwrap();
            client.shutdown().await.unwrap();
            received
        };
        let (at_server, back) = timeout(120 * S, async { tokio::join!(server_side, client_side) })
            .await
            .unwrap_or_else(|_| panic!("stalled at {faults} per mille"));
        assert!(at_server == expected && back == expected, "bytes differ at {faults} per mille");
    }
}
