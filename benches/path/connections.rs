//! (k) What one address that takes all the connections it can costs another: the time of a new TLS
//! connection from a second address, alone and beside idle HTTP/2 connections and silent TCP
//! connections from the first. The whole product runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::machine::{median, quantile};
use crate::product_testbed::ProductTestbed;
use crate::table::{Row, Threshold};
use crate::{Outcome, Settings};

/// 127.0.0.x of the two addresses.
const ATTACKER: u8 = 2;
const OTHER: u8 = 3;
const IDLE_CONNECTIONS: u64 = 8_192;
/// TLS handshakes of the attacker at once.
const HANDSHAKES: usize = 64;
const SILENT_PER_SECOND: u32 = 900;
/// Silent connections that are kept open, the latest.
const SILENT_KEPT: usize = 20_000;
/// The client's connection preface and empty settings (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A TLS client of the gateway.
#[derive(Clone)]
struct Client {
    gateway: SocketAddr,
    tls: TlsConnector,
}

impl Client {
    fn new(testbed: &ProductTestbed) -> Outcome<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(testbed.authority())?)?;
        let mut tls =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        // Each handshake is a full one.
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(Self { gateway: testbed.address(), tls: TlsConnector::from(Arc::new(tls)) })
    }

    async fn tcp(&self, last: u8) -> Outcome<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
        Ok(socket.connect(self.gateway).await?)
    }

    async fn tls(&self, last: u8) -> Outcome<TlsStream<TcpStream>> {
        let tcp = self.tcp(last).await?;
        tcp.set_nodelay(true)?;
        Ok(self.tls.connect(ServerName::try_from("localhost")?, tcp).await?)
    }

    /// Opens HTTP/2 connections, and keeps those that stay open until the set is dropped. PINGs are
    /// not answered: the measurement is shorter than their timeout.
    async fn open_idle(&self, count: u64) -> Outcome<JoinSet<()>> {
        let mut open = JoinSet::new();
        let slots = Arc::new(tokio::sync::Semaphore::new(HANDSHAKES));
        for _ in 0..count {
            let (client, slot) = (self.clone(), Arc::clone(&slots).acquire_owned().await?);
            open.spawn(async move {
                let Ok(mut stream) = client.tls(ATTACKER).await else { return };
                let sent = stream.write_all(PREFACE).await;
                drop(slot);
                let mut buffer = [0; 512];
                while sent.is_ok() && stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            });
        }
        // All handshakes are done.
        drop(slots.acquire_many(u32::try_from(HANDSHAKES)?).await?);
        Ok(open)
    }

    /// Opens silent connections at a rate, until it is aborted.
    fn open_silent(&self) -> AbortHandle {
        let client = self.clone();
        let opening = tokio::spawn(async move {
            let mut kept = std::collections::VecDeque::new();
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / SILENT_PER_SECOND);
            loop {
                ticks.tick().await;
                if let Ok(tcp) = client.tcp(ATTACKER).await {
                    kept.push_back(tcp);
                }
                if kept.len() > SILENT_KEPT {
                    kept.pop_front();
                }
            }
        });
        opening.abort_handle()
    }

    /// Times of new connections of the other address, to the end of the TLS handshake.
    async fn times(&self, count: u64) -> Outcome<(f64, f64)> {
        let mut times = Vec::new();
        for _ in 0..count {
            let began = Instant::now();
            let stream = tokio::time::timeout(Duration::from_secs(30), self.tls(OTHER)).await??;
            times.push(began.elapsed());
            drop(stream);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Ok((ms(quantile(&mut times, 0.5)), ms(quantile(&mut times, 0.99))))
    }
}

/// Times of the other address, p50 and p99, and how many of the attacker's connections were closed.
struct Round {
    alone: (f64, f64),
    beside: (f64, f64),
    closed: usize,
}

async fn round(client: &Client, count: u64, idle: u64) -> Outcome<Round> {
    let alone = client.times(count).await?;
    let mut open = client.open_idle(idle).await?;
    let silent = client.open_silent();
    let beside = client.times(count).await;
    silent.abort();
    let mut closed = 0;
    // The tasks of those that the gateway closed have ended.
    while open.try_join_next().is_some() {
        closed += 1;
    }
    open.shutdown().await;
    Ok(Round { alone, beside: beside?, closed })
}

pub async fn measure(settings: &Settings, rows: &mut Vec<Row>) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let unused = SocketAddr::from(([127, 0, 0, 1], 9));
    let testbed = ProductTestbed::start(folder.path(), unused).await?;
    let client = Client::new(&testbed)?;
    let count = settings.scaled(1_000, 300);
    let idle = settings.scaled(IDLE_CONNECTIONS, IDLE_CONNECTIONS / 8);
    client.times(100).await?;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds {
        rounds.push(round(&client, count, idle).await?);
    }
    testbed.shutdown().await;
    let middle =
        |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect::<Vec<f64>>());
    let (beside, alone) = (middle(|r| r.beside.1), middle(|r| r.alone.1));
    let closed: usize = rounds.iter().map(|round| round.closed).sum();
    rows.push(Row::relative(
        "k",
        format!(
            "new TLS connection of another address beside {idle} HTTP/2 connections ({} closed by the gateway) \
             and {SILENT_PER_SECOND} silent TCP connections a second from one address, p50 / p99",
            closed / rounds.len().max(1)
        ),
        format!("{:.2} / {beside:.2} ms", middle(|r| r.beside.0)),
        format!("alone: {:.2} / {alone:.2} ms", middle(|r| r.alone.0)),
        beside / alone,
        Threshold::AtMost(2.0),
    ));
    Ok(())
}
