//! Hubs on loopback: many tunnels, closing, restarts, invalid datagrams.

use std::time::{Duration, Instant};

use portcullis::tunnel::{
    PeerConfig, PresharedKey, TCP_TIMEOUT, TunnelError, TunnelId, TunnelStatus,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use uuid::Uuid;

use super::hubs::{
    HANDSHAKE_RETRY, InnerFamily, Machine, Pair, TIMEOUT, TunnelEnds, connect, hub, pattern,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_tunnels_on_one_hub() {
    let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
    let mut tasks = Vec::new();
    for n in 0..100u8 {
        let ends = TunnelEnds::new(InnerFamily::V4, n);
        // Odd ones have their own key on the agent and share the gateway's; all are distinguished.
        let near = gateway.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
        let far = agent.add_peer(ends.agent_config(None)).unwrap();
        tasks.push(tokio::spawn(async move {
            let mut listener = far.listen(5900, 2).unwrap();
            let (mut a, mut b) =
                tokio::join!(connect(&near, 5900), async { listener.accept().await.unwrap() });
            a.write_all(&[n; 10_000]).await.unwrap();
            a.shutdown().await.unwrap();
            let mut bytes = Vec::new();
            b.read_to_end(&mut bytes).await.unwrap();
            assert_eq!(bytes, [n; 10_000]);
        }));
    }
    for task in tasks {
        timeout(TIMEOUT, task).await.unwrap().unwrap();
    }
    assert_eq!((gateway.peers(), agent.peers()), (100, 100));
    assert_eq!(gateway.counters().unknown, 0);
    timeout(TIMEOUT, gateway.shutdown()).await.unwrap();
    assert_eq!(gateway.peers(), 0);
}

#[tokio::test]
async fn ids_and_keys_are_unique_and_free_after_removal() {
    let hub = hub("127.0.0.1:0").await;
    let (one, two) = (TunnelEnds::new(InnerFamily::V4, 1), TunnelEnds::new(InnerFamily::V4, 2));
    let tunnel = hub.add_peer(one.gateway_config(None)).unwrap();
    assert_eq!(
        hub.add_peer(PeerConfig { id: tunnel.id(), ..two.gateway_config(None) }).unwrap_err(),
        TunnelError::DuplicateId
    );
    assert_eq!(
        hub.add_peer(PeerConfig { id: TunnelId(Uuid::new_v4()), ..one.gateway_config(None) })
            .unwrap_err(),
        TunnelError::DuplicateKey
    );
    assert_eq!(
        hub.add_peer(PeerConfig {
            local_addr: "0.0.0.0".parse().unwrap(),
            ..two.gateway_config(None)
        })
        .unwrap_err(),
        TunnelError::Unaddressable
    );
    hub.remove(tunnel.id());
    assert!(hub.tunnel(tunnel.id()).is_none());
    let again = hub.add_peer(one.gateway_config(None)).unwrap();
    timeout(TIMEOUT, tunnel.closed()).await.unwrap();
    assert_eq!(tunnel.status(), TunnelStatus::Down);
    assert_eq!(hub.tunnel(again.id()).unwrap().status(), TunnelStatus::Connecting);
    assert_eq!(hub.peers(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_ends_streams_on_both_sides_at_once() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    // Data sent before the close may still arrive: the read that fails counts.
    let reading = tokio::spawn(async move {
        loop {
            if let Err(error) = near.read_u8().await {
                return error;
            }
        }
    });
    let writing = tokio::spawn(async move {
        loop {
            if let Err(error) = far.write_all(&[0; 4096]).await {
                return error;
            }
        }
    });
    let began = Instant::now();
    pair.gateway.close();
    let reading = timeout(TIMEOUT, reading).await.unwrap().unwrap();
    assert_eq!(reading.kind(), std::io::ErrorKind::ConnectionAborted);
    timeout(TIMEOUT, pair.gateway.closed()).await.unwrap();
    assert_eq!(
        timeout(TIMEOUT, writing).await.unwrap().unwrap().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    println!("both ends failed after {:?}", began.elapsed());
    assert!(
        began.elapsed() < TCP_TIMEOUT / 2,
        "{:?}: as if nothing had been data_bytes",
        began.elapsed()
    );
    assert_eq!(pair.gateway.status(), TunnelStatus::Down);
    assert_eq!(pair.gateway.connect(5900).await.unwrap_err(), TunnelError::Closed);
    assert_eq!(pair.gateway.wait_for_handshake().await.unwrap_err(), TunnelError::Closed);
    assert_eq!(pair.hubs[0].peers(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_dropped_with_data_unread_resets_the_writer() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    let writing = tokio::spawn(async move {
        loop {
            if let Err(error) = far.write_all(&[0; 4096]).await {
                return error.kind();
            }
        }
    });
    drop(near);
    assert_eq!(
        timeout(TIMEOUT, writing).await.unwrap().unwrap(),
        std::io::ErrorKind::ConnectionReset
    );
    assert_eq!(pair.gateway.status(), TunnelStatus::Encrypted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_hub_ends_its_tunnels() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, _far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    let [gateway, agent] = pair.hubs;
    drop(gateway);
    assert_eq!(
        timeout(TIMEOUT, near.read_u8()).await.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionAborted
    );
    timeout(TIMEOUT, pair.gateway.closed()).await.unwrap();
    timeout(TIMEOUT, agent.shutdown()).await.unwrap();
    assert_eq!(
        timeout(TIMEOUT, listener.accept()).await.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionAborted
    );
    assert_eq!(pair.agent.listen(1, 1).unwrap_err(), TunnelError::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_peer_times_out() {
    let gateway = hub("127.0.0.1:0").await;
    gateway.set_tcp_timeout(Duration::from_secs(1));
    let machine = Machine::boot().await;
    let ends = TunnelEnds::new(InnerFamily::V4, 1);
    let far = machine.hub.add_peer(ends.agent_config(None)).unwrap();
    let near = gateway.add_peer(ends.gateway_config(Some(machine.hub.local_addr()))).unwrap();
    let mut listener = far.listen(5900, 2).unwrap();
    let (mut a, _b) =
        tokio::join!(connect(&near, 5900), async { listener.accept().await.unwrap() });
    let began = Instant::now();
    let _dead = machine.power_off();
    let error = timeout(TIMEOUT, a.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(
        began.elapsed() < TCP_TIMEOUT / 2,
        "{:?}: as long as the default timeout",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_gateway_is_accepted_at_once() {
    let agent = hub("127.0.0.1:0").await;
    let ends = TunnelEnds::new(InnerFamily::V4, 1);
    let far = agent.add_peer(ends.agent_config(None)).unwrap();
    let mut listener = far.listen(5900, 4).unwrap();
    let mut previous = Vec::new();
    for round in 1..=3u64 {
        let machine = Machine::boot().await;
        let near = machine.hub.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
        let began = Instant::now();
        near.initiate();
        timeout(TIMEOUT, near.wait_for_handshake()).await.unwrap().unwrap();
        let (mut a, mut b) =
            tokio::join!(connect(&near, 5900), async { listener.accept().await.unwrap() });
        a.write_all(b"again").await.unwrap();
        let mut buffer = [0; 5];
        b.read_exact(&mut buffer).await.unwrap();
        assert!(began.elapsed() < HANDSHAKE_RETRY, "{:?}", began.elapsed());
        assert_eq!(far.stats().endpoint, Some(machine.hub.local_addr()));
        assert_eq!(far.stats().handshakes, round);
        previous.push((b, machine.power_off()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_datagrams_are_counted_and_the_stream_continues() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    let target = pair.hubs[0].local_addr();
    let flood = tokio::spawn(async move {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for n in 0..5000u64 {
            let mut junk = pattern(n, [0, 1, 32, 64, 92, 148, 1200][n as usize % 7]);
            if let Some(kind) = junk.first_chunk_mut::<4>() {
                *kind = u32::to_le_bytes((n / 7 % 6) as u32);
            }
            socket.send_to(&junk, target).await.unwrap();
        }
    });
    for n in 0..500u64 {
        far.write_all(&n.to_le_bytes()).await.unwrap();
        assert_eq!(near.read_u64_le().await.unwrap(), n);
        near.write_all(&[1]).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), 1);
    }
    flood.await.unwrap();
    let counters = pair.hubs[0].counters();
    assert!(counters.malformed > 0 && counters.unknown > 0, "{counters:?}");
    assert_eq!(pair.gateway.status(), TunnelStatus::Encrypted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_preshared_key_never_handshakes() {
    let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
    let ends = TunnelEnds::new(InnerFamily::V4, 1);
    let far = agent
        .add_peer(PeerConfig {
            preshared_key: PresharedKey::from_bytes([1; 32]),
            ..ends.agent_config(None)
        })
        .unwrap();
    let near = gateway.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
    near.initiate();
    assert!(timeout(Duration::from_secs(2), near.wait_for_handshake()).await.is_err());
    assert_eq!((near.status(), far.status()), (TunnelStatus::Connecting, TunnelStatus::Connecting));
}
