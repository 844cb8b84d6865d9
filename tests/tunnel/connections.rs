//! Connections through hubs on loopback: handshake, data, back-pressure.

use std::time::{Duration, Instant};

use portcullis::tunnel::{Hub, HubConfig, MTU_MAX, PeerConfig, TunnelError, TunnelStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::hubs::{HANDSHAKE_RETRY, InnerFamily, Pair, TIMEOUT, TunnelEnds, connect, hub, pattern};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_passes_through_a_tunnel() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });

    near.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    far.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");
    assert_eq!(pair.gateway.status(), TunnelStatus::Encrypted);

    let stats = pair.gateway.stats();
    assert_eq!((stats.handshakes, stats.dropped), (1, 0));
    assert!(
        stats.last_handshake.is_some()
            && stats.tx_bytes > 148
            && stats.rx_bytes > 92
            && stats.rtt.is_some(),
        "{stats:?}"
    );
}

#[tokio::test]
async fn a_hub_on_own_threads_runs_alone_and_closes_with_its_last_handle() {
    let bind = || Hub::bind_on_own_threads(HubConfig { listen: "127.0.0.1:0".parse().unwrap() });
    let (gateway, agent) = (bind().await.unwrap(), bind().await.unwrap());
    let ends = TunnelEnds::new(InnerFamily::V4, 0);
    let far = agent.add_peer(ends.agent_config(None)).unwrap();
    let near = gateway.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
    near.initiate();
    // The test's only thread does nothing else.
    let began = Instant::now();
    while near.status() != TunnelStatus::Encrypted {
        assert!(began.elapsed() < TIMEOUT);
        std::thread::yield_now();
    }
    let mut listener = far.listen(5900, 4).unwrap();
    let (mut stream, _far) =
        tokio::join!(connect(&near, 5900), async { listener.accept().await.unwrap() });
    let port = gateway.local_addr();
    drop(gateway);
    let error = timeout(TIMEOUT, stream.read_u8()).await.unwrap();
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    timeout(TIMEOUT, async {
        while std::net::UdpSocket::bind(port).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_inside_and_outside() {
    let pair = Pair::on("[::1]:0", InnerFamily::V6).await;
    let mut listener = pair.agent.listen(1, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 1), async { listener.accept().await.unwrap() });
    far.write_all(b"six").await.unwrap();
    far.shutdown().await.unwrap();
    let mut text = String::new();
    near.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "six");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_half_closes_by_itself() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(7, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 7), async { listener.accept().await.unwrap() });
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    assert_eq!(near.write_all(b"more").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    far.write_all(b"answer").await.unwrap();
    drop(far);
    let mut text = String::new();
    near.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_without_listener_refuses() {
    let pair = Pair::new(InnerFamily::V4).await;
    let result = timeout(TIMEOUT, pair.gateway.connect(9)).await.unwrap();
    assert_eq!(result.unwrap_err(), TunnelError::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_has_one_listener_and_is_free_when_that_is_dropped() {
    let pair = Pair::new(InnerFamily::V4).await;
    let first = pair.agent.listen(80, 4).unwrap();
    assert_eq!(pair.agent.listen(80, 4).unwrap_err(), TunnelError::PortInUse);
    drop(first);
    let mut second = pair.agent.listen(80, 4).unwrap();
    let (_near, _far) =
        tokio::join!(connect(&pair.gateway, 80), async { second.accept().await.unwrap() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(80, 64).unwrap();
    let echo = tokio::spawn(async move {
        for _ in 0..100 {
            let mut stream = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
        listener
    });
    let clients: Vec<_> = (0..100u32)
        .map(|n| {
            let tunnel = pair.gateway.clone();
            tokio::spawn(async move {
                let mut stream = connect(&tunnel, 80).await;
                let message = pattern(u64::from(n), 20_000);
                stream.write_all(&message).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut back = Vec::new();
                stream.read_to_end(&mut back).await.unwrap();
                assert_eq!(back, message);
            })
        })
        .collect();
    for client in clients {
        timeout(TIMEOUT, client).await.unwrap().unwrap();
    }
    drop(echo.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_with_keepalive_initiates_by_itself() {
    let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
    let ends = TunnelEnds::new(InnerFamily::V4, 1);
    let keepalive = Some(Duration::from_secs(25));
    let near = gateway.add_peer(ends.gateway_config(None)).unwrap();
    let far = agent
        .add_peer(PeerConfig { keepalive, ..ends.agent_config(Some(gateway.local_addr())) })
        .unwrap();
    timeout(TIMEOUT, near.wait_for_handshake()).await.unwrap().unwrap();
    timeout(TIMEOUT, far.wait_for_handshake()).await.unwrap().unwrap();
    assert_eq!(near.stats().endpoint, Some(agent.local_addr()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_does_not_wait_for_the_current_attempt() {
    let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
    let ends = TunnelEnds::new(InnerFamily::V4, 1);
    // The gateway initiates before the agent has the tunnel.
    let near = gateway.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
    near.initiate();
    timeout(TIMEOUT, async {
        while agent.counters().unknown == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let far = agent.add_peer(ends.agent_config(None)).unwrap();
    let mut listener = far.listen(5900, 1).unwrap();
    let began = Instant::now();
    let (_a, _b) = tokio::join!(connect(&near, 5900), async { listener.accept().await.unwrap() });
    assert!(began.elapsed() < HANDSHAKE_RETRY, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarter_gigabyte_arrives_unchanged() {
    let pair = Pair::with_mtu_max(MTU_MAX).await;
    let (data_bytes, sent) = download(&pair, 256).await;
    // Loopback carries jumbo packets: with small ones, headers and tags take more than a twentieth.
    assert!(sent * 100 < data_bytes * 105, "{sent} for {data_bytes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_stay_at_the_base_size_unless_configured() {
    let pair = Pair::new(InnerFamily::V4).await;
    let (data_bytes, sent) = download(&pair, 16).await;
    assert!(sent * 100 > data_bytes * 105, "{sent} for {data_bytes}");
    // One end alone does not make both use larger ones.
    let pair = Pair::with_agent_mtu_max(MTU_MAX).await;
    let (data_bytes, sent) = download(&pair, 16).await;
    assert!(sent * 100 > data_bytes * 105, "{sent} for {data_bytes}");
}

/// Sends so many MiB from the agent to the gateway, checked; returns their bytes and the encrypted
/// bytes received.
async fn download(pair: &Pair, chunks: u64) -> (u64, u64) {
    const CHUNK: usize = 1 << 20;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    let began = Instant::now();
    let writer = tokio::spawn(async move {
        let chunk = pattern(1, CHUNK);
        for n in 0..chunks {
            far.write_all(&n.to_le_bytes()).await.unwrap();
            far.write_all(&chunk).await.unwrap();
        }
        far.shutdown().await.unwrap();
        far
    });
    let (expected, mut chunk) = (pattern(1, CHUNK), vec![0; CHUNK]);
    for n in 0..chunks {
        assert_eq!(near.read_u64_le().await.unwrap(), n);
        near.read_exact(&mut chunk).await.unwrap();
        assert!(chunk == expected, "chunk {n} differs");
    }
    assert_eq!(near.read(&mut chunk).await.unwrap(), 0);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:.2} Gbit/s, {:?}, {:?}",
        (CHUNK as u64 * chunks * 8) as f64 / seconds / 1e9,
        pair.gateway.stats(),
        pair.hubs[0].counters()
    );
    drop(writer.await.unwrap());
    (chunks * (CHUNK as u64 + 8), pair.gateway.stats().rx_bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_reader_stops_the_writer_and_can_resume() {
    let pair = Pair::new(InnerFamily::V4).await;
    let mut listener = pair.agent.listen(5900, 4).unwrap();
    let (mut near, mut far) =
        tokio::join!(connect(&pair.gateway, 5900), async { listener.accept().await.unwrap() });
    // Most bytes between the two: two pipes of 256 KiB, two TCP windows of 4 MiB. There is less: a
    // window grows only while it is read from.
    const BOUND: usize = (8 << 20) + (512 << 10);
    let block = pattern(3, 64 << 10);
    let mut written = 0;
    while let Ok(result) = timeout(Duration::from_secs(2), far.write_all(&block)).await {
        result.unwrap();
        written += block.len();
        assert!(written <= BOUND, "{written} bytes were buffered");
    }
    assert!(written >= 512 << 10, "{written}");
    // The write that timed out may have written part of its block.
    let mut received = vec![0; written];
    near.read_exact(&mut received).await.unwrap();
    assert!(received.chunks(block.len()).all(|chunk| chunk == block));
    far.write_all(b"!").await.unwrap();
}
