//! Handshakes during a flood of initiations: everybody who knows a gateway's public key can send it
//! initiations that it must decrypt.

use super::hubs::{InnerFamily, Pair, TIMEOUT, TunnelEnds, connect, hub};
use crate::support::wait::eventually;
use boringtun::noise::{Tunn, TunnResult};
use portcullis::tunnel::TunnelStatus;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// Sends initiations of an unknown peer from a thread of its own until it is dropped.
struct Flood {
    stopped: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Flood {
    /// About one message per 20 us.
    fn start(from: &str, to: SocketAddr, message: Vec<u8>) -> Self {
        let socket = UdpSocket::bind(from).unwrap();
        let stopped = Arc::<AtomicBool>::default();
        let stop = stopped.clone();
        let thread = std::thread::spawn(move || {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    socket.send_to(&message, to).unwrap();
                }
                sent += 50;
                std::thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        Self { stopped, thread: Some(thread) }
    }

    fn stop(mut self) -> u64 {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// An initiation for this gateway, from an unknown peer.
fn initiation(ends: &TunnelEnds) -> Vec<u8> {
    let theirs = boringtun::x25519::PublicKey::from(*ends.gateway.public_key().as_bytes());
    let mut unknown_peer =
        Tunn::new(boringtun::x25519::StaticSecret::from([9; 32]), theirs, None, None, 1, None);
    let mut buffer = vec![0; 2048];
    let TunnResult::WriteToNetwork(initiation) =
        unknown_peer.format_handshake_initiation(&mut buffer, true)
    else {
        panic!()
    };
    initiation.to_vec()
}

async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, async || condition()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn established_tunnels_and_new_peers_are_served_during_a_flood() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    let target = pair.hubs[0].local_addr();
    let flood = Flood::start("127.0.0.1:0", target, initiation(&pair.ends));
    wait_until("the gateway is flooded", || pair.hubs[0].counters().limited > 1000).await;

    let mut slowest = Duration::ZERO;
    for n in 0..300u64 {
        let began = Instant::now();
        far.write_all(&n.to_le_bytes()).await.unwrap();
        assert_eq!(timeout(TIMEOUT, near.read_u64_le()).await.unwrap().unwrap(), n);
        near.write_all(&[1]).await.unwrap();
        assert_eq!(timeout(TIMEOUT, far.read_u8()).await.unwrap().unwrap(), 1);
        slowest = slowest.max(began.elapsed());
    }
    println!("of 300 round trips in a flood, the slowest took {slowest:?}");

    // A rekey of an established tunnel, initiated by the agent.
    for round in 2..5 {
        let began = Instant::now();
        pair.agent.initiate();
        wait_until("the rekey", || pair.agent.stats().handshakes >= round).await;
        println!("rekeyed after {:?}", began.elapsed());
    }
    assert_eq!(pair.gateway.status(), TunnelStatus::Encrypted);

    // A new peer at the flood's own address needs a cookie; one at another address does not.
    let gateway = &pair.hubs[0];
    for (n, listen) in [(1, "127.0.0.1:0"), (2, "127.0.0.2:0")] {
        let (agent, ends) = (hub(listen).await, TunnelEnds::new(InnerFamily::V4, n));
        let near = gateway.add_peer(ends.gateway_config(None)).unwrap();
        let far = agent.add_peer(ends.agent_config(Some(target))).unwrap();
        let began = Instant::now();
        far.initiate();
        timeout(TIMEOUT, far.wait_for_handshake()).await.unwrap().unwrap();
        let mut listener = near.listen(80, 1).unwrap();
        let (_a, _b) = tokio::join!(connect(&far, 80), async { listener.accept().await.unwrap() });
        println!("a new peer at {listen} connected after {:?}", began.elapsed());
    }
    let counters = gateway.counters();
    let sent = flood.stop();
    println!("{sent} initiations sent: {counters:?}");
    assert!(counters.cookies > 0, "{counters:?}");
}
