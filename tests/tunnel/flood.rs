//! Handshakes in a flood of handshakes: everybody who knows a gateway's public key can send it
//! initiations that it must look into.

use super::live::{InnerFamily, Pair, TIMEOUT, TunnelEnds, connect, hub};
use crate::support::wait::eventually;
use boringtun::noise::{Tunn, TunnResult};
use portcullis::tunnel::TunnelStatus;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// Initiations of a stranger, from a thread of its own; ends with the value.
struct Flood {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Flood {
    /// A message in 20 us, but for pauses of the machine.
    fn start(from: &str, to: SocketAddr, message: Vec<u8>) -> Self {
        let socket = UdpSocket::bind(from).unwrap();
        let over = Arc::<AtomicBool>::default();
        let stop = over.clone();
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
        Self { over, thread: Some(thread) }
    }

    fn stop(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// An initiation that is for this gateway, from nobody it knows.
fn initiation(ends: &TunnelEnds) -> Vec<u8> {
    let theirs = boringtun::x25519::PublicKey::from(*ends.gateway.public_key().as_bytes());
    let mut stranger =
        Tunn::new(boringtun::x25519::StaticSecret::from([9; 32]), theirs, None, None, 1, None);
    let mut room = vec![0; 2048];
    let TunnResult::WriteToNetwork(initiation) =
        stranger.format_handshake_initiation(&mut room, true)
    else {
        panic!()
    };
    initiation.to_vec()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, async || condition()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_tunnels_go_on_and_renew_their_keys_and_strangers_get_in() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    let target = pair.hubs[0].local_addr();
    let flood = Flood::start("127.0.0.1:0", target, initiation(&pair.ends));
    until("the gateway is flooded", || pair.hubs[0].counters().limited > 1000).await;

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

    // New keys for a live tunnel, asked for by the other end.
    for round in 2..5 {
        let began = Instant::now();
        pair.agent.initiate();
        until("new keys", || pair.agent.stats().handshakes >= round).await;
        println!("new keys after {:?}", began.elapsed());
    }
    assert_eq!(pair.gateway.status(), TunnelStatus::Encrypted);

    // Somebody new at the flood's own address: with a cookie. Somebody new elsewhere: as always.
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
        println!("somebody new at {listen} was in after {:?}", began.elapsed());
    }
    let counters = gateway.counters();
    let sent = flood.stop();
    println!("{sent} initiations sent: {counters:?}");
    assert!(counters.cookies > 0, "{counters:?}");
}
