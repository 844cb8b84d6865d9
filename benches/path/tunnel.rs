//! (a) One TCP stream between two hubs, both ends in this process, a thread each, against boringtun
//! alone on the same bytes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use portcullis::tunnel::{
    Hub, HubConfig, MTU, MTU_MAX, PeerConfig, PresharedKey, PrivateKey, Profile, Tunnel, TunnelId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::machine::{median, own_cpu_seconds};
use crate::table::{Row, Threshold};
use crate::{Outcome, Settings, fail};

const GIB: f64 = (1u64 << 30) as f64;
/// Payload of a full packet: an MTU less the headers of IPv4 and TCP.
const PAYLOAD: usize = MTU - 40;
/// Bytes of one write or read.
const CHUNK: usize = 64 << 10;

/// CPU seconds per GiB, and Gbit/s.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    pub cpu: f64,
    pub gbits: f64,
}

impl Speed {
    pub fn of(bytes: u64, cpu: f64, time: Duration) -> Self {
        Self {
            cpu: cpu / (bytes as f64 / GIB),
            gbits: bytes as f64 * 8.0 / time.as_secs_f64() / 1e9,
        }
    }

    pub fn median(speeds: &[Self]) -> Self {
        Self {
            cpu: median(speeds.iter().map(|s| s.cpu).collect()),
            gbits: median(speeds.iter().map(|s| s.gbits).collect()),
        }
    }
}

struct TunnelEnd {
    config: PeerConfig,
    mtu_max: usize,
}

impl TunnelEnd {
    /// Two ends: the one that dials, and the one that listens.
    fn pair(mtu_max: usize) -> Outcome<(Self, Self)> {
        let (a, b) = (PrivateKey::generate()?, PrivateKey::generate()?);
        let psk = PresharedKey::generate()?;
        let (left, right): (IpAddr, IpAddr) =
            (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into());
        let end = |own: &PrivateKey, other: &PrivateKey, local_addr, peer_addr| {
            let config = PeerConfig {
                id: TunnelId(Uuid::from_u128(1)),
                private_key: own.clone(),
                peer_public_key: other.public_key(),
                preshared_key: psk.clone(),
                endpoint: None,
                local_addr,
                peer_addr,
                keepalive: None,
                profile: Profile::Stream,
            };
            Self { config, mtu_max }
        };
        Ok((end(&a, &b, left, right), end(&b, &a, right, left)))
    }

    async fn open(self, endpoint: Option<SocketAddr>) -> Outcome<(Hub, Tunnel)> {
        let hub = Hub::bind(HubConfig { listen: "127.0.0.1:0".parse()? }).await?;
        hub.set_mtu_max(self.mtu_max);
        let tunnel = hub.add_peer(PeerConfig { endpoint, ..self.config })?;
        Ok((hub, tunnel))
    }

    /// Reports its address, and sends `bytes` to the other end. Runs until `over`.
    async fn send(
        self,
        bytes: u64,
        listening: mpsc::Sender<SocketAddr>,
        over: oneshot::Receiver<()>,
    ) -> Outcome<()> {
        let (hub, tunnel) = self.open(None).await?;
        let mut listener = tunnel.listen(5900, 1)?;
        listening.send(hub.local_addr())?;
        let mut server = listener.accept().await?;
        let chunk = vec![0x5a; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let n = left.min(CHUNK as u64) as usize;
            server.write_all(&chunk[..n]).await?;
            left -= n as u64;
        }
        server.shutdown().await?;
        let _ = over.await;
        hub.shutdown().await;
        Ok(())
    }

    /// Receives everything; measures after the first `warm` bytes.
    async fn receive(self, warm: u64, from: SocketAddr) -> Outcome<(u64, Speed)> {
        let (hub, tunnel) = self.open(Some(from)).await?;
        let mut client = tunnel.connect(5900).await?;
        let mut buffer = vec![0; CHUNK];
        let (mut got, mut since) = (0u64, None);
        loop {
            let n = client.read(&mut buffer).await? as u64;
            if n == 0 {
                break;
            }
            got += n;
            if since.is_none() && got >= warm {
                since = Some((got, own_cpu_seconds(), Instant::now()));
            }
        }
        let (before, cpu, began) = since.ok_or_else(|| fail("too little arrived"))?;
        let speed = Speed::of(got - before, own_cpu_seconds() - cpu, began.elapsed());
        hub.shutdown().await;
        Ok((got, speed))
    }
}

/// Speed of `bytes` from one end to the other. Each end has one thread, as an agent on this
/// machine has.
pub fn stream_speed(bytes: u64, mtu_max: usize) -> Outcome<Speed> {
    let warm = 64u64 << 20;
    let (near, far) = TunnelEnd::pair(mtu_max)?;
    let runtime = || Builder::new_current_thread().enable_all().build();
    let (listening, address) = mpsc::channel();
    let (over, ended) = oneshot::channel();
    let source =
        thread::spawn(move || runtime()?.block_on(far.send(warm + bytes, listening, ended)));
    let received = address
        .recv()
        .map_err(Into::into)
        .and_then(|from| runtime()?.block_on(near.receive(warm, from)));
    drop(over);
    source.join().map_err(|_| fail("the sending thread ended"))??;
    let (got, speed) = received?;
    if got == warm + bytes { Ok(speed) } else { Err(fail("bytes were lost")) }
}

/// boringtun alone: every packet sealed, then opened, on one thread.
pub fn cipher_speed(bytes: u64) -> Outcome<Speed> {
    let secret = |seed: u8| x25519::StaticSecret::from([seed; 32]);
    let (a, b) = (secret(3), secret(5));
    let (a_public, b_public) = (x25519::PublicKey::from(&a), x25519::PublicKey::from(&b));
    let mut near = Tunn::new(a, b_public, Some([9; 32]), None, 1, None);
    let mut far = Tunn::new(b, a_public, Some([9; 32]), None, 2, None);
    let (mut one, mut two) = (vec![0; 2048], vec![0; 2048]);
    let TunnResult::WriteToNetwork(initiation) = near.format_handshake_initiation(&mut one, false)
    else {
        return Err(fail("no initiation"));
    };
    let TunnResult::WriteToNetwork(response) = far.decapsulate(None, initiation, &mut two) else {
        return Err(fail("no response"));
    };
    let TunnResult::WriteToNetwork(confirmation) = near.decapsulate(None, response, &mut one)
    else {
        return Err(fail("no session"));
    };
    let _ = far.decapsulate(None, confirmation, &mut two);
    let mut packet = vec![0x5a; MTU];
    packet[..20].copy_from_slice(&[
        0x45,
        0,
        (MTU >> 8) as u8,
        MTU as u8,
        0,
        0,
        0,
        0,
        64,
        6,
        0,
        0,
        10,
        0,
        0,
        1,
        10,
        0,
        0,
        2,
    ]);
    let (cpu, began) = (own_cpu_seconds(), Instant::now());
    let packets = bytes / PAYLOAD as u64;
    for _ in 0..packets {
        let TunnResult::WriteToNetwork(sealed) = near.encapsulate(&packet, &mut one) else {
            return Err(fail("not sealed"));
        };
        let TunnResult::WriteToTunnelV4(opened, _) = far.decapsulate(None, sealed, &mut two) else {
            return Err(fail("not opened"));
        };
        if opened.len() != MTU {
            return Err(fail("not the same"));
        }
    }
    Ok(Speed::of(packets * PAYLOAD as u64, own_cpu_seconds() - cpu, began.elapsed()))
}

/// boringtun alone while both processors are busy: one pair of ends on each of two threads. Each
/// core is slower then, where cores share resources, and a stream keeps two busy.
fn concurrent_cipher_speed(bytes: u64) -> Outcome<Speed> {
    let (cpu, began) = (own_cpu_seconds(), Instant::now());
    let threads = [(); 2].map(|()| thread::spawn(move || cipher_speed(bytes / 2)));
    for thread in threads {
        thread.join().map_err(|_| fail("a thread ended"))??;
    }
    Ok(Speed::of(bytes, own_cpu_seconds() - cpu, began.elapsed()))
}

/// Measures line (a); returns the speed with Ethernet's MTU, which other lines compare with.
pub async fn measure(settings: &Settings, rows: &mut Vec<Row>) -> Outcome<Speed> {
    let bytes = settings.scaled(2 << 30, 256 << 20);
    let (mut narrow, mut wide, mut alone, mut both) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        alone.push(spawn_blocking(move || cipher_speed(bytes)).await??);
        both.push(spawn_blocking(move || concurrent_cipher_speed(bytes)).await??);
        narrow.push(spawn_blocking(move || stream_speed(bytes, MTU)).await??);
        wide.push(spawn_blocking(move || stream_speed(bytes, MTU_MAX)).await??);
        eprintln!(
            "  boringtun {:?}, on two threads {:?}, tunnel {:?}, with large packets {:?}",
            alone.last(),
            both.last(),
            narrow.last(),
            wide.last()
        );
    }
    let ratio = |ours: &[Speed]| {
        median(ours.iter().zip(&alone).map(|(ours, alone)| ours.cpu / alone.cpu).collect())
    };
    let (cipher, ciphers) = (Speed::median(&alone), Speed::median(&both));
    let peer = format!(
        "boringtun seal + open: {:.2} CPU-s/GiB; {:.2} while both processors are busy",
        cipher.cpu, ciphers.cpu
    );
    for (suffix, ours) in [("", &narrow), (", on a path that carries jumbo frames", &wide)] {
        let speed = Speed::median(ours);
        rows.push(Row::relative(
            "a",
            format!("one TCP stream gateway to agent{suffix}, CPU of both ends"),
            format!("{:.2} CPU-s/GiB at {:.1} Gbit/s", speed.cpu, speed.gbits),
            peer.clone(),
            ratio(ours),
            Threshold::AtMost(1.0),
        ));
    }
    Ok(Speed::median(&narrow))
}
