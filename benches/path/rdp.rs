//! (r) The RDP relay: its CPU, the policy filter's share, and the latency of a key press and its
//! echo.
//!
//! The server is a thread of this program that replays a captured connection, then sends fast-path
//! updates or answers each input with one. The gateway's part has its own thread, whose
//! CPU time the kernel counts; it is connected to the server by TLS over TCP, to the
//! browser by a queue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ironrdp_rdcleanpath::RDCleanPathPdu;
use portcullis::broker::core::stream_registry::{StreamAuthorization, StreamMeters};
use portcullis::domain::lease::Lease;
use portcullis::domain::secret::SecretString;
use portcullis::domain::upstream::{
    Clipboard, Credential, CredentialSource, ProtocolSettings, StreamPolicy, Upstream,
    UpstreamTrust,
};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::protocol::rdp::filter::{Edits, Filter};
use portcullis::protocol::rdp::frame::{Framer, Measure};
use portcullis::protocol::rdp::gcc::CoreEdits;
use portcullis::protocol::rdp::{self, Direction, Policy};
use portcullis::viewer::attach::{Attachment, attach};
use portcullis::viewer::browser::{BrowserEvent, BrowserSink, BrowserSource, Disconnected};
use portcullis::viewer::rdp::cleanpath::destination;
use portcullis::viewer::stream_audit::RefusalCounter;
use portcullis::viewer::stream_end::StreamEnd;
use portcullis::viewer::{Dial, Duplex, Timeouts};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::machine::quantile;
use crate::null_audit_sink::NullAuditSink;
use crate::processes::lease_to;
use crate::table::{Row, Threshold};
use crate::{Outcome, Settings, fail};

/// An X.224 Connection Request for TLS, and the confirm.
const CONNECTION_REQUEST: [u8; 19] = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0];
const CONNECTION_CONFIRM: [u8; 19] =
    [3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, 2, 1, 8, 0, 1, 0, 0, 0];
/// A key press by the fast path.
const KEY_EVENT: [u8; 4] = [0x04, 4, 0, 0x1e];
/// Bytes of one fast-path update of a flood; servers send up to 16 KiB.
const UPDATE_SIZE: usize = 0x3000;
/// Bytes of the update that answers a key.
const ECHO_SIZE: usize = 200;
const GIB: f64 = (1_u64 << 30) as f64;

/// The strictest policy, and one without restrictions.
const STRICT_POLICY: StreamPolicy =
    StreamPolicy { clipboard: Clipboard::None, files: false, read_only: false };
const OPEN_POLICY: StreamPolicy =
    StreamPolicy { clipboard: Clipboard::Both, files: true, read_only: false };

/// The captured connection up to the Client Info PDU; `true` marks the client's packets.
fn capture() -> Outcome<Vec<(bool, Vec<u8>)>> {
    let mut pdus = Vec::new();
    for line in include_str!("../../tests/protocol/rdp/xrdp.txt").lines().skip(2) {
        let (way, digits) = line.split_once(' ').ok_or_else(|| fail("a bad capture"))?;
        let pdu = hex::decode(digits)?;
        // Data of the client with `SEC_INFO_PKT`.
        let info = way == ">"
            && pdu.get(7) == Some(&0x64)
            && pdu.get(15).is_some_and(|flags| flags & 0x40 != 0);
        pdus.push((way == ">", pdu));
        if info {
            return Ok(pdus);
        }
    }
    Err(fail("the capture has no login"))
}

fn fast_path_update(length: usize) -> Vec<u8> {
    let mut pdu = vec![0x5a; length];
    let [high, low] = u16::try_from(length).unwrap_or(0x7fff).to_be_bytes();
    pdu[..3].copy_from_slice(&[0, high | 0x80, low]);
    pdu
}

/// CPU seconds of this thread.
pub fn thread_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|ns| ns.parse::<f64>().ok())
        .map_or(f64::NAN, |ns| ns / 1e9)
}

// ---- the server ----

async fn read_pdu(stream: &mut (impl AsyncRead + Unpin)) -> Outcome<Vec<u8>> {
    let mut pdu = Vec::new();
    loop {
        let need = match Framer::new().measure(&pdu)? {
            Measure::Need(n) => n,
            Measure::Known(frame) => frame.length,
        };
        if pdu.len() == need {
            return Ok(pdu);
        }
        let seen = pdu.len();
        pdu.resize(need, 0);
        stream.read_exact(&mut pdu[seen..]).await?;
    }
}

/// Serves one client: after the login `flood` bytes of updates, then an update for each input.
async fn serve(listener: TcpListener, flood: u64) -> Outcome<()> {
    let key = rcgen::KeyPair::generate()?;
    let certificate =
        rcgen::CertificateParams::new(vec!["bench.test".into()])?.self_signed(&key)?;
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(
        vec![certificate.der().clone()],
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    )?;
    let (mut tcp, _) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    read_pdu(&mut tcp).await?;
    tcp.write_all(&CONNECTION_CONFIRM).await?;
    let mut tls = TlsAcceptor::from(Arc::new(config)).accept(tcp).await?;
    for (up, pdu) in capture()? {
        if up {
            read_pdu(&mut tls).await?;
        } else {
            tls.write_all(&pdu).await?;
            tls.flush().await?;
        }
    }
    let picture = fast_path_update(UPDATE_SIZE);
    for _ in 0..flood / UPDATE_SIZE as u64 {
        tls.write_all(&picture).await?;
    }
    tls.flush().await?;
    let echo = fast_path_update(ECHO_SIZE);
    loop {
        read_pdu(&mut tls).await?;
        tls.write_all(&echo).await?;
        tls.flush().await?;
    }
}

// ---- the browser ----

#[derive(Clone)]
struct ChannelSink(mpsc::Sender<Bytes>);

impl BrowserSink for ChannelSink {
    async fn send(&mut self, chunk: Bytes) -> Result<(), Disconnected> {
        self.0.send(chunk).await.map_err(|_| Disconnected)
    }

    async fn ping(&mut self, _: &[u8]) -> Result<(), Disconnected> {
        Ok(())
    }

    async fn pong(&mut self, _: &[u8]) -> Result<(), Disconnected> {
        Ok(())
    }
}

struct ChannelSource(mpsc::Receiver<Bytes>);

impl BrowserSource for ChannelSource {
    async fn next(&mut self) -> Result<BrowserEvent, StreamEnd> {
        self.0.recv().await.map(BrowserEvent::Bytes).ok_or(StreamEnd::BrowserDisconnected)
    }
}

struct RdpBrowser {
    sender: mpsc::Sender<Bytes>,
    receiver: mpsc::Receiver<Bytes>,
    unread: usize,
}

impl RdpBrowser {
    async fn send(&self, bytes: &[u8]) -> Outcome<()> {
        Ok(self.sender.send(Bytes::copy_from_slice(bytes)).await?)
    }

    async fn receive_exact(&mut self, n: usize) -> Outcome<()> {
        while self.unread < n {
            self.unread +=
                self.receiver.recv().await.ok_or_else(|| fail("the stream ended"))?.len();
        }
        self.unread -= n;
        Ok(())
    }

    async fn connect(&mut self, destination: String) -> Outcome<()> {
        let request = RDCleanPathPdu::new_request(
            CONNECTION_REQUEST.to_vec(),
            destination,
            "x".to_owned(),
            None,
        )?;
        self.send(&request.to_der()?).await?;
        // The answer is one message.
        self.receiver.recv().await.ok_or_else(|| fail("no answer"))?;
        for (up, pdu) in capture()? {
            if up {
                self.send(&pdu).await?;
            } else {
                self.receive_exact(pdu.len()).await?;
            }
        }
        Ok(())
    }
}

struct LoopbackDial(SocketAddr);

impl Dial for LoopbackDial {
    fn dial<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, std::io::Result<Box<dyn Duplex>>> {
        async move {
            let stream = TcpStream::connect(self.0).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        }
        .boxed()
    }
}

/// Results of one stream: CPU seconds per GiB of the gateway's thread, seconds per GiB, round
/// trips.
struct RunResult {
    cpu: f64,
    wall: f64,
    trips: Vec<Duration>,
}

async fn run(policy: StreamPolicy, flood: u64, trips: usize) -> Outcome<RunResult> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let to = listener.local_addr()?;
    let server = Upstream {
        port: to.port(),
        credential: Some(Credential {
            username: "ada".into(),
            domain: String::new(),
            password: SecretString::new("secret".into()),
        }),
        credential_source: CredentialSource::Workspace,
        trust: UpstreamTrust::default(),
        policy,
        protocol: ProtocolSettings::Rdp { keyboard_layout: None },
    };
    let lease = lease_to(1, WorkspaceKind::Rdp, server).ok_or_else(|| fail("no lease"))?;
    let destination = destination(lease.session().id);
    let ((to_browser, from_gateway), (to_gateway, from_browser)) =
        (mpsc::channel(2), mpsc::channel(16));
    let (_authorization, authorization) = watch::channel(StreamAuthorization::Valid);
    let (_draining, draining) = watch::channel(false);
    let serving = tokio::spawn(serve(listener, flood));
    let gateway = std::thread::spawn(move || -> Outcome<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (meters, refusals, dial) =
            (StreamMeters::default(), RefusalCounter::default(), LoopbackDial(to));
        let timeouts = Timeouts { pong: Duration::from_secs(3600), ..Timeouts::default() };
        let attachment = Attachment {
            lease: &lease,
            dial: &dial,
            authorization,
            draining,
            meters: &meters,
            refusals: &refusals,
            audit: &NullAuditSink,
            timeouts,
        };
        let before = thread_cpu();
        runtime.block_on(attach(
            attachment,
            ChannelSink(to_browser),
            &mut ChannelSource(from_browser),
        ));
        Ok(thread_cpu() - before)
    });
    let mut browser = RdpBrowser { sender: to_gateway, receiver: from_gateway, unread: 0 };
    browser.connect(destination).await?;
    let began = Instant::now();
    for _ in 0..flood / UPDATE_SIZE as u64 {
        browser.receive_exact(UPDATE_SIZE).await?;
    }
    let wall = began.elapsed().as_secs_f64() * GIB / flood.max(1) as f64;
    let mut times = Vec::new();
    for _ in 0..trips {
        let began = Instant::now();
        browser.send(&KEY_EVENT).await?;
        browser.receive_exact(ECHO_SIZE).await?;
        times.push(began.elapsed());
    }
    drop(browser);
    let cpu = gateway.join().map_err(|_| fail("the gateway panicked"))??;
    serving.abort();
    Ok(RunResult { cpu: cpu * GIB / flood.max(1) as f64, wall, trips: times })
}

/// CPU seconds per GiB of the filter alone, for updates from the server, in chunks as the relay
/// reads them from TLS.
fn filter_alone(policy: Policy, bytes: u64) -> Outcome<f64> {
    let edits = Edits { core: CoreEdits { selected: 1, keyboard_layout: None }, credential: None };
    let (mut filter, mut out) = (Filter::new(policy, edits), Vec::new());
    for (up, pdu) in capture()? {
        filter.feed(if up { Direction::Up } else { Direction::Down }, &pdu.into(), &mut out)?;
        out.clear();
    }
    let stream = Bytes::from(fast_path_update(UPDATE_SIZE).repeat(256));
    let before = thread_cpu();
    let mut fed = 0;
    while fed < bytes {
        // Records of 16 KiB, which end somewhere in a PDU.
        for start in (0..stream.len()).step_by(16 << 10) {
            let chunk = stream.slice(start..stream.len().min(start + (16 << 10)));
            filter.feed(Direction::Down, &chunk, &mut out)?;
            std::hint::black_box(&out);
            out.clear();
        }
        fed += stream.len() as u64;
    }
    Ok((thread_cpu() - before) * GIB / fed as f64)
}

pub async fn measure(settings: &Settings, rows: &mut Vec<Row>) -> Outcome<()> {
    let (flood, trips) =
        (settings.scaled(2 << 30, 256 << 20), usize::try_from(settings.scaled(5_000, 500))?);
    let strict = Policy { clipboard: rdp::Clipboard::None, files: false, read_only: false };
    let alone = tokio::task::spawn_blocking(move || filter_alone(strict, flood)).await??;
    let ran = run(STRICT_POLICY, flood, 0).await?;
    let share = alone / (ran.cpu - alone);
    rows.push(Row::informational(
        "r",
        "RDP relay: CPU of the gateway's thread",
        format!("{:.3} CPU-s/GiB", ran.cpu),
        format!(
            "TLS to the server, a queue to the browser; {:.1} Gbit/s",
            8.0 * GIB / 1e9 / ran.wall
        ),
    ));
    rows.push(Row::absolute(
        "r",
        "RDP filter under the strictest policy: more CPU than the relay without it",
        share * 100.0,
        "%",
        format!("{alone:.4} CPU-s/GiB alone"),
        Threshold::AtMost(5.0),
    ));
    let mut filtered = run(STRICT_POLICY, 0, trips).await?.trips;
    let mut free = run(OPEN_POLICY, 0, trips).await?.trips;
    let ms = |times: &mut [Duration], q| quantile(times, q).as_secs_f64() * 1e3;
    rows.push(Row::informational(
        "r",
        "RDP: from a key to the picture it changes, p50 / p99",
        format!("{:.3} / {:.3} ms", ms(&mut filtered, 0.5), ms(&mut filtered, 0.99)),
        format!("nothing filtered back: {:.3} / {:.3} ms", ms(&mut free, 0.5), ms(&mut free, 0.99)),
    ));
    Ok(())
}
