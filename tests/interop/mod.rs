//! We are ordinary WireGuard: wireguard-go as the workspace's peer against our hub, as the hub
//! against us, and a whole session through the product.
//!
//! `wg show` and our counters mean the same: bytes of whole WireGuard messages (header, padding and
//! tag; not UDP and IP), of handshakes, keepalives and data alike. wireguard-go does not count what
//! it sends or receives as a cookie.

mod netns;
mod session;

use crate::support::wait::within;
use netns::{Netns, TIMEOUT, WireGuardConfig, run};
use portcullis::tunnel::{
    Hub, HubConfig, PeerConfig, PresharedKey, PrivateKey, Profile, Tunnel, TunnelId, TunnelStatus,
    TunnelStream,
};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 64, 0, 1));
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 63, 0, 2));
const MIB: u64 = 1 << 20;
/// What may be between two readings of two counters: a keepalive, a handshake, an acknowledgement.
const SLACK: u64 = 512;

/// Both ends of a tunnel: ours in a hub on the cable, theirs in wireguard-go.
struct Pair {
    netns: Netns,
    hub: Hub,
    tunnel: Tunnel,
}

/// Which end calls.
#[derive(PartialEq, Eq)]
enum Caller {
    Them,
    Us,
}

impl Pair {
    async fn new(caller: Caller, keepalive: u16) -> Self {
        Self::with(caller, keepalive, None, (GATEWAY, HOST)).await
    }

    /// `other`: the preshared key that wireguard-go is given, when it is to differ from ours.
    /// `inside`: our address in the tunnel and theirs.
    async fn with(
        caller: Caller,
        keepalive: u16,
        other: Option<PresharedKey>,
        inside: (IpAddr, IpAddr),
    ) -> Self {
        let mut netns = Netns::new();
        let hub =
            Hub::bind(HubConfig { listen: SocketAddr::from((netns.local, 0)) }).await.unwrap();
        let (our_key, their_key, psk) = (
            PrivateKey::generate().unwrap(),
            PrivateKey::generate().unwrap(),
            PresharedKey::generate().unwrap(),
        );
        let port = 51820;
        let their_public = their_key.public_key();
        let ends = WireGuardConfig {
            key: their_key,
            psk: other.unwrap_or_else(|| psk.clone()),
            peer: our_key.public_key(),
            address: inside.1,
            peer_address: inside.0,
        };
        let at = |caller: &Caller, us: bool| (*caller == Caller::Us) == us;
        let config = PeerConfig {
            id: TunnelId(uuid::Uuid::new_v4()),
            private_key: our_key,
            peer_public_key: their_public,
            preshared_key: psk,
            endpoint: at(&caller, true).then(|| SocketAddr::from((netns.remote, port))),
            local_addr: inside.0,
            peer_addr: inside.1,
            keepalive: at(&caller, true).then_some(Duration::from_secs(25)),
            profile: Profile::Stream,
        };
        let endpoint = at(&caller, false).then(|| hub.local_addr());
        if caller == Caller::Us {
            netns.wireguard(&ends, port, endpoint, keepalive);
        }
        let tunnel = hub.add_peer(config).unwrap();
        if caller == Caller::Them {
            netns.wireguard(&ends, port, endpoint, keepalive);
        }
        Self { netns, hub, tunnel }
    }

    async fn up(&self) {
        timeout(TIMEOUT, self.tunnel.wait_for_handshake()).await.expect("the handshake").unwrap();
    }

    /// One request; the answer's head is read, its body is left to the caller.
    async fn ask(&self, head: String, body: u64) -> (BufReader<TunnelStream>, u64) {
        let mut stream = timeout(TIMEOUT, self.tunnel.connect(8000)).await.unwrap().unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        send(&mut stream, body).await;
        let mut answer = BufReader::with_capacity(1 << 18, stream);
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            answer.read_line(&mut line).await.unwrap();
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", n)) => length = n.parse().unwrap(),
                None if line.trim_end().is_empty() => return (answer, length),
                _ => {}
            }
        }
    }

    /// So many bytes from them, checked; then as many to them, checked by them.
    async fn both_ways(&self, bytes: u64) {
        let began = Instant::now();
        let (mut answer, length) =
            self.ask(format!("GET /bytes/{bytes} HTTP/1.1\r\nHost: x\r\n\r\n"), 0).await;
        assert_eq!(length, bytes);
        let mut digest = Sha256::new();
        let mut left = bytes;
        let mut block = vec![0; 1 << 18];
        while left > 0 {
            let read = answer.read(&mut block).await.unwrap();
            assert_ne!(read, 0, "{left} bytes are missing");
            digest.update(&block[..read]);
            left -= read as u64;
        }
        assert_eq!(hex::encode(digest.finalize()), pattern_digest(bytes));
        let down = began.elapsed();
        let (began, before) = (Instant::now(), self.tunnel.stats().retransmits);
        let (mut answer, length) = self
            .ask(format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n"), bytes)
            .await;
        let mut digest = vec![0; usize::try_from(length).unwrap()];
        answer.read_exact(&mut digest).await.unwrap();
        assert_eq!(String::from_utf8(digest).unwrap(), pattern_digest(bytes));
        let rate = |took: Duration| bytes as f64 / took.as_secs_f64() / MIB as f64;
        let again = self.tunnel.stats().retransmits - before;
        let (from, to) = (rate(down), rate(began.elapsed()));
        println!(
            "{} MiB each way: {from:.0} MiB/s from wireguard-go, {to:.0} MiB/s to it, {again} segments sent again",
            bytes / MIB
        );
    }

    /// `wg show` agrees with us: to the byte, but for what is on its way, over an exchange too
    /// small to lose anything; and over all so far, but for what was lost, which only its sender
    /// counts. (User space under load loses datagrams where their queue runs over; TCP mends it.)
    async fn counters_agree(&self) {
        let (received, sent) = self.netns.transfer();
        let ours = self.tunnel.stats();
        println!(
            "wg show: {received} received, {sent} sent; we: {} sent, {} received",
            ours.tx_bytes, ours.rx_bytes
        );
        let lost = |sent: u64, received: u64| {
            sent + SLACK >= received && sent.saturating_sub(received) <= sent / 10 + SLACK
        };
        assert!(
            lost(ours.tx_bytes, received) && lost(sent, ours.rx_bytes),
            "more is missing than is ever lost"
        );
    }

    async fn counters_agree_to_the_byte(&self) {
        // What the bulk before may still have had to say is said.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (received, sent) = self.netns.transfer();
        let before = self.tunnel.stats();
        for _ in 0..20 {
            let (mut answer, length) = self
                .ask(
                    "GET /bytes/4096 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
                    0,
                )
                .await;
            let mut body = vec![0; usize::try_from(length).unwrap()];
            answer.read_exact(&mut body).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (received, sent) = {
            let now = self.netns.transfer();
            (now.0 - received, now.1 - sent)
        };
        let after = self.tunnel.stats();
        let (tx, rx) = (after.tx_bytes - before.tx_bytes, after.rx_bytes - before.rx_bytes);
        println!(
            "of a small exchange, wg show: {received} received, {sent} sent; we: {tx} sent, {rx} received"
        );
        assert!(received.abs_diff(tx) <= SLACK && sent.abs_diff(rx) <= SLACK);
    }
}

async fn send(stream: &mut TunnelStream, bytes: u64) {
    let block: Vec<u8> = (0..=255u8).cycle().take(1 << 16).collect();
    let mut left = bytes;
    while left > 0 {
        let now = left.min(1 << 16) as usize;
        stream.write_all(&block[..now]).await.unwrap();
        left -= now as u64;
    }
    stream.flush().await.unwrap();
}

fn pattern_digest(bytes: u64) -> String {
    let block: Vec<u8> = (0..=255u8).cycle().take(1 << 16).collect();
    let mut digest = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        let now = left.min(1 << 16) as usize;
        digest.update(&block[..now]);
        left -= now as u64;
    }
    hex::encode(digest.finalize())
}

async fn as_the_workspaces_peer(bytes: u64) {
    let mut pair = Pair::new(Caller::Them, 1).await;
    pair.up().await;
    assert_eq!(pair.tunnel.stats().endpoint, Some(SocketAddr::from((pair.netns.remote, 51820))));
    pair.netns.start_http_server(HOST, 8000);
    pair.both_ways(bytes).await;
    pair.counters_agree().await;
    pair.counters_agree_to_the_byte().await;
    let stats = pair.tunnel.stats();
    println!("{} segments sent again", stats.retransmits);
    assert_eq!(stats.dropped, 0, "everything was authentic and between the tunnel's addresses");
    assert_eq!(pair.hub.counters().malformed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wireguard_go_as_the_workspaces_peer() {
    as_the_workspaces_peer(64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wireguard_go_with_ipv6_inside() {
    let inside = ("fd00::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
    let mut pair = Pair::with(Caller::Them, 1, None, inside).await;
    pair.up().await;
    pair.netns.start_http_server(inside.1, 8000);
    pair.both_ways(4 * MIB).await;
    pair.counters_agree().await;
    assert_eq!(
        pair.tunnel.stats().dropped,
        0,
        "everything was authentic and between the tunnel's addresses"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_preshared_key_is_no_peer() {
    let pair =
        Pair::with(Caller::Them, 1, Some(PresharedKey::generate().unwrap()), (GATEWAY, HOST)).await;
    netns::wait_until("their initiations", || pair.hub.counters().received >= 1);
    // We answer the initiation, whose sender is known; but the answer is worth nothing to who has
    // another key, and no packet of theirs is ours.
    let waited = timeout(Duration::from_secs(3), pair.tunnel.wait_for_handshake()).await;
    assert!(waited.is_err(), "there is no tunnel");
    assert_eq!(pair.netns.latest_handshake(), 0, "nor do they think so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_moves_is_followed() {
    let mut pair = Pair::new(Caller::Them, 1).await;
    pair.up().await;
    pair.netns.start_http_server(HOST, 8000);
    pair.both_ways(MIB).await;
    let (theirs, elsewhere) = (pair.netns.remote, pair.netns.alternate);
    pair.netns.ip(&format!("addr add {elsewhere}/29 dev cable"));
    pair.netns.ip(&format!("addr del {theirs}/29 dev cable"));
    // Removing the first address of a net takes the others of that net along, unless the kernel was
    // told to promote them.
    pair.netns.ip(&format!("addr replace {elsewhere}/29 dev cable"));
    // wireguard-go goes on sending from the address that is gone, and changes that only with its
    // next handshake: which comes 15 s after it sent something that was not answered, and otherwise
    // when its keys are two minutes old. Whether the streams before ended with such a packet is
    // chance.
    let unanswered = format!(
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'?', ('{GATEWAY}', 9))"
    );
    run(pair.netns.command("python3").args(["-c", &unanswered]));
    let seen = || pair.tunnel.stats().endpoint.is_some_and(|at| at.ip() == IpAddr::V4(elsewhere));
    within(TIMEOUT, async || seen()).await.unwrap_or_else(|| {
        panic!("{:?} {:?}\n{}", pair.tunnel.stats(), pair.hub.counters(), pair.netns.state())
    });
    assert_eq!(pair.tunnel.status(), TunnelStatus::Encrypted);
    let handshakes = pair.tunnel.stats().handshakes;
    pair.both_ways(MIB).await;
    assert_eq!(pair.tunnel.stats().handshakes, handshakes, "the keys stay");
}

/// wireguard-go as the hub: it waits to be called, and has kernel TCP above it; what is served is
/// ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wireguard_go_as_the_hub() {
    let pair = Pair::new(Caller::Us, 0).await;
    pair.up().await;
    let mut listener = pair.tunnel.listen(8080, 4).unwrap();
    let bytes = 16 * MIB;
    let serving = tokio::spawn(async move {
        for _ in 0..2 {
            let mut stream =
                BufReader::new(timeout(TIMEOUT, listener.accept()).await.unwrap().unwrap());
            let mut line = String::new();
            while line.trim_end() != "" || line.is_empty() {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
            }
            let stream = stream.get_mut();
            stream
                .write_all(
                    format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n"
                    )
                    .as_bytes(),
                )
                .await
                .unwrap();
            send(stream, bytes).await;
            stream.shutdown().await.unwrap();
        }
        listener
    });
    for _ in 0..2 {
        let file = pair.netns.dir.path().join("fetched");
        let mut curl = pair.netns.command("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "300",
            "--noproxy",
            "*",
            "--output",
        ])
        .arg(&file);
        curl.arg(format!("http://{GATEWAY}:8080/file"));
        tokio::task::spawn_blocking(move || run(&mut curl)).await.unwrap();
        let fetched = std::fs::read(&file).unwrap();
        assert_eq!(hex::encode(Sha256::digest(&fetched)), pattern_digest(bytes));
    }
    drop(serving.await.unwrap());
    pair.counters_agree().await;
}

/// `make interop-long`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a GiB each way: make interop-long"]
async fn long_a_gibibyte_each_way() {
    as_the_workspaces_peer(1024 * MIB).await;
}

/// `make interop-long`: wireguard-go's clock cannot be shortened. It called, so it renews the keys
/// when they are two minutes old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes and more: make interop-long"]
async fn long_keys_are_renewed_after_two_minutes() {
    for caller in [Caller::Them, Caller::Us] {
        let mut pair = Pair::new(caller, 1).await;
        pair.up().await;
        pair.netns.start_http_server(HOST, 8000);
        let began = Instant::now();
        let first = pair.tunnel.stats().last_handshake.unwrap();
        while pair.tunnel.stats().handshakes < 2 {
            assert!(began.elapsed() < Duration::from_secs(150), "no new keys");
            pair.both_ways(MIB).await;
            assert_eq!(pair.tunnel.status(), TunnelStatus::Encrypted);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let renewed = pair.tunnel.stats().last_handshake.unwrap();
        let age = renewed.duration_since(first).unwrap();
        println!("keys were renewed after {age:?}");
        assert!(age >= Duration::from_secs(110), "not before their time: {age:?}");
        pair.both_ways(MIB).await;
        let theirs = pair.netns.latest_handshake();
        assert!(
            renewed.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().abs_diff(theirs) <= 1,
            "both ends say when"
        );
    }
}
