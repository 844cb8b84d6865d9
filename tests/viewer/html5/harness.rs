//! An opened application: hyper's server in front of the proxy, reached by plain TCP, and a test's
//! server behind it.

use crate::broker::fixture::{BrokerFixture, Caller, origin};
use crate::support::db::{Backend, Db};
use crate::support::wait::eventually;
use futures_util::future::{BoxFuture, FutureExt};
use portcullis::broker::model::WorkspaceChange;
use portcullis::domain::lease::Lease;
use portcullis::domain::policy::{self, authorize_stream};
use portcullis::domain::secret::SecretString;
use portcullis::domain::session::Session;
use portcullis::domain::upstream::{ProtocolSettings, StreamPolicy, Upstream};
use portcullis::domain::user::Role;
use portcullis::domain::web_app::{RequestRecord, WebAppConfig};
use portcullis::viewer::html5::{App, AppOrigin, Limits};
use portcullis::viewer::{Context, Dial, Duplex};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Longer than any wait on a loaded machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// The public origin in every test.
pub const APP_ORIGIN: &str = "https://s1.apps.gw.test";

/// Dials a loopback address, and counts.
pub struct LoopbackDial {
    pub to: SocketAddr,
    pub dialled: Arc<AtomicUsize>,
}

impl Dial for LoopbackDial {
    fn dial<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        self.dialled.fetch_add(1, Ordering::SeqCst);
        async move { Ok(Box::new(TcpStream::connect(self.to).await?) as Box<dyn Duplex>) }.boxed()
    }
}

/// An opened application behind a proxy.
pub struct Harness {
    pub fixture: BrokerFixture,
    pub caller: Caller,
    pub session: Session,
    pub app: Arc<App>,
    pub proxy: SocketAddr,
    pub dialled: Arc<AtomicUsize>,
    pub draining: watch::Sender<bool>,
    pub db: Db,
}

/// Options of a [`Harness`].
pub struct Setup {
    pub config: WebAppConfig,
    pub limits: Limits,
    pub cross_site: bool,
    pub server: Box<dyn FnOnce(Upstream) -> Upstream + Send>,
}

impl Default for Setup {
    fn default() -> Self {
        // Long enough for a loaded machine.
        let limits = Limits { dial: TIMEOUT, head: TIMEOUT, stall: TIMEOUT, requests: 4096 };
        Self {
            config: WebAppConfig::default(),
            limits,
            cross_site: false,
            server: Box::new(|server| server),
        }
    }
}

impl Harness {
    pub async fn new(to: SocketAddr) -> Self {
        Self::with_setup(to, Setup::default()).await
    }

    pub async fn with_config(to: SocketAddr, config: WebAppConfig) -> Self {
        Self::with_setup(to, Setup { config, ..Setup::default() }).await
    }

    pub async fn with_setup(to: SocketAddr, setup: Setup) -> Self {
        let dialled = Arc::<AtomicUsize>::default();
        Self::with_dial(LoopbackDial { to, dialled: dialled.clone() }, dialled, setup).await
    }

    pub async fn with_dial(dial: impl Dial, dialled: Arc<AtomicUsize>, setup: Setup) -> Self {
        let db = Db::new(Backend::Sqlite);
        let fixture = BrokerFixture::new(&db).await;
        let caller = fixture.caller("ada", Role::Member).await;
        let workspace = fixture.workspace("ws-app", WorkspaceChange::default()).await;
        let session = fixture.launch(&caller, &workspace).await;
        let mut grant = fixture.open_stream(&caller, session.id).await;
        let server =
            Upstream::agent_started(80, SecretString::new("pw".into()), StreamPolicy::default());
        let server = (setup.server)(Upstream {
            credential: None,
            protocol: ProtocolSettings::Http(Box::new(setup.config)),
            ..server
        });
        let context = policy::Context::new(&caller, &origin(), fixture.broker.now());
        grant.lease = Lease::grant(authorize_stream(&caller, &session, &context).unwrap(), server);
        let (draining, drained) = watch::channel(false);
        let context =
            Context { broker: fixture.broker.clone(), dial: Arc::new(dial), draining: drained };
        let app_origin = AppOrigin {
            origin: APP_ORIGIN.into(),
            gateway_origins: vec!["https://gw.test".into()],
            cross_site: setup.cross_site,
        };
        let app = App::open_with_limits(&context, origin(), grant, app_origin, setup.limits);
        let proxy = serve_proxy(Arc::clone(&app)).await;
        Self { fixture, caller, session, app, proxy, dialled, draining, db }
    }

    /// Sends bytes and reads to the end of the connection.
    pub async fn request(&self, request: &str) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    /// A GET that does not accept HTML.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(&format!(
            "GET {path} HTTP/1.1\r\nHost: s1.apps.gw.test\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy).await.unwrap()
    }

    /// Ends the session as its user.
    pub async fn disconnect(&self) {
        self.fixture
            .broker
            .sessions()
            .disconnect(&origin(), &self.caller, self.session.id)
            .await
            .unwrap();
    }

    /// The recorded requests, oldest first, once there are at least `count`.
    pub async fn records(&self, count: usize) -> Vec<RequestRecord> {
        let id = self.session.id;
        let store = &self.fixture.store;
        let rows = eventually("the requests are in the log", async || {
            let rows = store.read(move |tx| tx.app_requests(id, None, 1000)).await.unwrap();
            (rows.len() >= count).then_some(rows)
        })
        .await;
        rows.into_iter().rev().map(|(_, record)| record).collect()
    }

    /// The audit entries of an action, once there are at least `count`.
    pub async fn entries(
        &self,
        action: &str,
        count: usize,
    ) -> Vec<portcullis::domain::audit::Entry> {
        eventually("the entries are in the audit log", async || {
            let entries = self.fixture.audit_log().await.into_iter();
            let found: Vec<_> = entries.filter(|entry| entry.action == action).collect();
            (found.len() >= count).then_some(found)
        })
        .await
    }
}

/// hyper's server as in http/apps, without TLS.
async fn serve_proxy(app: Arc<App>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // The test holds the last handle.
    let app = Arc::downgrade(&app);
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let app = app.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let app = app.upgrade();
                    async move {
                        Ok::<_, io::Error>(
                            app.ok_or(io::ErrorKind::NotConnected)?.serve(request, peer.ip()).await,
                        )
                    }
                });
                let builder = hyper_util::server::conn::auto::Builder::new(
                    hyper_util::rt::TokioExecutor::new(),
                );
                let _ = builder
                    .serve_connection_with_upgrades(hyper_util::rt::TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

/// A response as received.
#[derive(Debug)]
pub struct Answer {
    pub head: String,
    /// With its framing.
    pub raw: Vec<u8>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap_or_else(|| panic!("{self:?}")).parse().unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }

    /// The decoded body of a complete response.
    pub fn body(&self) -> Vec<u8> {
        if self.field("transfer-encoding").is_none() {
            return self.raw.clone();
        }
        let (mut rest, mut out) = (&self.raw[..], Vec::new());
        loop {
            let end = rest.windows(2).position(|w| w == b"\r\n").expect("a chunk's head");
            let size =
                usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            if size == 0 {
                return out;
            }
            out.extend_from_slice(&rest[end + 2..end + 2 + size]);
            rest = &rest[end + 4 + size..];
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body()).unwrap()
    }

    /// The code of a page of the gateway.
    pub fn code(&self) -> String {
        let json: serde_json::Value =
            serde_json::from_slice(&self.body()).unwrap_or_else(|_| panic!("{self:?}"));
        json["code"].as_str().unwrap().to_owned()
    }
}

pub async fn read_all(stream: &mut TcpStream) -> Answer {
    let mut all = Vec::new();
    // Some connections are reset after the response.
    let _ = timeout(TIMEOUT, stream.read_to_end(&mut all)).await.expect("the response ends");
    split(all)
}

fn split(all: Vec<u8>) -> Answer {
    let end = all
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(&all)));
    Answer { head: String::from_utf8(all[..end].to_vec()).unwrap(), raw: all[end + 4..].to_vec() }
}

/// Reads up to the end of a head.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read_exact(&mut byte).await.is_err() {
                break;
            }
            head.push(byte[0]);
        }
    };
    timeout(TIMEOUT, read).await.expect("a head");
    String::from_utf8(head).unwrap()
}

/// Reads exactly `length` bytes.
pub async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(TIMEOUT, stream.read_exact(&mut bytes)).await.expect("bytes in time").expect("bytes");
    bytes
}

/// A server whose connections the test receives.
pub async fn listen() -> (SocketAddr, mpsc::UnboundedReceiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if sender.send(stream).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

pub async fn next(connections: &mut mpsc::UnboundedReceiver<TcpStream>) -> TcpStream {
    timeout(TIMEOUT, connections.recv()).await.expect("a connection in time").expect("a connection")
}

/// A server that sends the same response to every request; the receiver gets the requests.
pub async fn serve_canned(answer: &'static [u8]) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let (address, mut connections) = listen().await;
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(mut stream) = connections.recv().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let mut text = String::from_utf8(head).unwrap();
                    let length = text
                        .to_ascii_lowercase()
                        .split_once("content-length: ")
                        .and_then(|(_, rest)| rest.lines().next()?.parse().ok());
                    let mut body = vec![0; length.unwrap_or(0)];
                    stream.read_exact(&mut body).await.unwrap();
                    text.push_str(&String::from_utf8_lossy(&body));
                    let _ = sender.send(text);
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, requests)
}

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
