//! The processes of the state, each this program again: a gateway and an agent of the product's
//! code, without desktops and without a store.
//!
//! - The **gateway** is the real fleet, viewer and server timeouts; `/s/N` is the stream of
//!   session N, `/d/PORT` a stream directly to a port, `/f/PORT` the same without a clipboard.
//! - The **agent** is a hub with the real control API and forward; its launcher starts nothing:
//!   one TCP port serves as every session's desktop.
//! - Both read commands from standard input, one a line, and reply with lines of JSON.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use portcullis::broker::core::stream_registry::{StreamAuthorization, StreamMeters};
use portcullis::broker::ports::host_fleet::{DesktopOrder, Endpoint, HostFleet, HostPeer};
use portcullis::domain::host::{Host, HostKind};
use portcullis::domain::lease::Lease;
use portcullis::domain::policy::{Context, authorize_stream};
use portcullis::domain::principal::{Principal, PrincipalId, SignedInUser};
use portcullis::domain::route::SessionRoute;
use portcullis::domain::secret::{SecretBytes, SecretString};
use portcullis::domain::session::{Session, State};
use portcullis::domain::upstream::{Clipboard, StreamPolicy, StreamProtocol, Upstream};
use portcullis::domain::user::{RequestSource, Role, User};
use portcullis::domain::workspace::{LinuxDesktop, Workspace, WorkspaceKind, WorkspaceSpec};
use portcullis::domain::{
    HostId, LoginId, OrganizationId, SessionId, Timestamp, UserId, WorkspaceId,
};
use portcullis::fleet::{FleetConfig, HubFleet};
use portcullis::host::control::{
    self, ControlHandler, DesktopInfo, Health, Order, Refusal, Started,
};
use portcullis::host::forward;
use portcullis::tunnel::{
    Hub, HubConfig, MTU_MAX, PeerConfig, PresharedKey, PrivateKey, Profile, TunnelId,
};
use portcullis::viewer::attach::Attachment;
use portcullis::viewer::socket_shutdown::{SocketShutdown, on_connect};
use portcullis::viewer::stream_audit::RefusalCounter;
use portcullis::viewer::websocket::upgrade;
use portcullis::viewer::{Dial, Duplex, Timeouts, stream};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::null_audit_sink::NullAuditSink;
use crate::{Outcome, fail};

const PASSWORD: &str = "vncpass1";
const RFB_PORT: u16 = StreamProtocol::Rfb.tunnel_port();
const GATEWAY_ADDR: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
const HOST_ADDR: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);
/// Connections of one worker: far above the product's limit, because all clients are on this
/// machine.
const MAX_CONNECTIONS: usize = 16_384;

/// A key that every process of the state can derive.
fn key_bytes(of: &str) -> [u8; 32] {
    Sha256::digest(format!("bench {of}")).into()
}

pub fn gateway_key() -> PrivateKey {
    PrivateKey::from_bytes(key_bytes("gateway"))
}

fn session_id(n: u64) -> SessionId {
    SessionId(Uuid::from_u128(u128::from(n) + 1))
}

/// Each session has its own tunnel, so addresses need only differ from the gateway's.
fn session_address(n: u64) -> IpAddr {
    let n = u32::try_from(n % 0x00ff_0000).unwrap_or(0);
    Ipv4Addr::from(0x0a41_0000 + n).into()
}

fn print_line(line: &str) {
    println!("{line}");
}

/// The lines of standard input.
fn stdin_lines() -> mpsc::Receiver<String> {
    let (sender, commands) = mpsc::channel(1);
    std::thread::spawn(move || {
        std::io::stdin()
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.blocking_send(line))
    });
    commands
}

// ---- the agent ----

/// Runs an agent whose desktops are all at `desktop`, until standard input ends.
pub async fn agent(desktop: SocketAddr) -> Outcome<()> {
    let hub = Hub::bind(HubConfig { listen: "127.0.0.1:0".parse()? }).await?;
    // As the product's agent: the gateway decides, by `mtu`. Without it, packets have 1420 bytes.
    hub.set_mtu_max(MTU_MAX);
    let tunnel = hub.add_peer(PeerConfig {
        id: TunnelId(Uuid::from_u128(0)),
        private_key: PrivateKey::from_bytes(key_bytes("host")),
        peer_public_key: gateway_key().public_key(),
        preshared_key: PresharedKey::from_bytes(key_bytes("preshared")),
        endpoint: None,
        local_addr: HOST_ADDR.into(),
        peer_addr: GATEWAY_ADDR.into(),
        keepalive: None,
        profile: Profile::Control,
    })?;
    let mut listener = tunnel.listen(control::PORT, 128)?;
    let launcher = Arc::new(StubLauncher { hub: hub.clone(), desktop });
    print_line(&hub.local_addr().to_string());
    let mut commands = stdin_lines();
    loop {
        tokio::select! {
            command = commands.recv() => if command.is_none() { return Ok(()) },
            accepted = listener.accept() => {
                let (stream, launcher) = (accepted?, launcher.clone());
                tokio::spawn(async move { control::serve(stream, launcher).await });
            }
        }
    }
}

struct StubLauncher {
    hub: Hub,
    desktop: SocketAddr,
}

impl StubLauncher {
    fn start_session(&self, order: Order) -> Outcome<Started> {
        let private_key = PrivateKey::generate()?;
        let public_key = private_key.public_key().to_string();
        let tunnel = self.hub.add_peer(PeerConfig {
            id: TunnelId(order.session_id.0),
            private_key,
            peer_public_key: gateway_key().public_key(),
            preshared_key: order.tunnel.preshared_key.expose().parse()?,
            endpoint: None,
            local_addr: order.tunnel.host_address,
            peer_addr: order.tunnel.gateway_address,
            keepalive: Some(forward::KEEPALIVE),
            profile: Profile::Stream,
        })?;
        let mut listener = tunnel.listen(RFB_PORT, 8)?;
        let desktop = self.desktop;
        tokio::spawn(async move {
            while let Ok(stream) = listener.accept().await {
                tokio::spawn(async move {
                    let desktop = TcpStream::connect(desktop).await?;
                    desktop.set_nodelay(true)?;
                    forward::splice(stream, desktop).await
                });
            }
        });
        Ok(Started {
            public_key,
            port: RFB_PORT,
            password: SecretString::new(PASSWORD.into()),
            certificate: None,
        })
    }
}

impl ControlHandler for StubLauncher {
    fn health(self: Arc<Self>) -> BoxFuture<'static, Health> {
        let memory = control::Memory::default();
        let (kinds, services, service_kinds) = (Vec::new(), Vec::new(), Vec::new());
        let health = Health {
            protocol: control::PROTOCOL,
            version: String::new(),
            uptime_ms: 0,
            desktops: 0,
            load: [0.0; 3],
            memory,
            kinds,
            services,
            service_kinds,
            limits: None,
            slots: None,
        };
        std::future::ready(health).boxed()
    }

    fn desktops(&self) -> Vec<DesktopInfo> {
        Vec::new()
    }

    fn changed(self: Arc<Self>, _: Option<u64>) -> BoxFuture<'static, u64> {
        tokio::time::sleep(control::WATCH_WAIT).map(|()| 1).boxed()
    }

    fn start(self: Arc<Self>, order: Order) -> BoxFuture<'static, Result<Started, Refusal>> {
        std::future::ready(
            self.start_session(order).map_err(|error| Refusal::Failed(error.to_string())),
        )
        .boxed()
    }

    fn stop(self: Arc<Self>, session: SessionId) -> BoxFuture<'static, Result<(), Refusal>> {
        self.hub.remove(TunnelId(session.0));
        std::future::ready(Ok(())).boxed()
    }
}

// ---- the gateway ----

/// Runs a gateway whose one host is at `agent`, until standard input ends.
pub async fn gateway(agent: SocketAddr, workers: usize) -> Outcome<()> {
    let hub = Hub::bind_on_own_threads(HubConfig { listen: "127.0.0.1:0".parse()? }).await?;
    let config = FleetConfig {
        private_key: gateway_key(),
        endpoint: hub.local_addr().to_string(),
        address: GATEWAY_ADDR.into(),
        start_timeout: Duration::from_secs(10),
        direct: std::collections::HashMap::new(),
    };
    let fleet = Arc::new(HubFleet::new(hub.clone(), config));
    let state = Arc::new(GatewayState {
        fleet: fleet.clone(),
        host: HostId(Uuid::from_u128(7)),
        authorization: watch::channel(StreamAuthorization::Valid).0,
        draining: watch::channel(false).0,
    });
    fleet.add_host(HostPeer {
        host: state.host(agent),
        preshared_key: SecretBytes::new(key_bytes("preshared").to_vec()),
    })?;
    let folder = tempfile::tempdir()?;
    let certificate =
        portcullis::app::tls::own_certificate(folder.path(), &[], Timestamp(1_790_000_000_000))?;
    let tls = portcullis::app::tls::server_config(&certificate.certificate, &certificate.key)?;
    let data = web::Data::from(state.clone());
    let server = HttpServer::new(move || {
        App::new().app_data(data.clone()).route("/{kind}/{n}", web::get().to(open_stream))
    })
    .workers(workers)
    .max_connections(MAX_CONNECTIONS)
    .backlog(8192)
    .tcp_nodelay(true)
    .on_connect(on_connect)
    .disable_signals()
    .bind_rustls_0_23(("127.0.0.1", 0), tls)?;
    let address = *server.addrs().first().ok_or_else(|| fail("no address"))?;
    tokio::spawn(server.run());
    while fleet.connected().is_empty() {
        fleet.hosts_changed().changed().await?;
    }
    print_line(&serde_json::json!({ "https": address, "udp": hub.local_addr(), "cert": certificate.certificate, "key": certificate.key }).to_string());
    let mut commands = stdin_lines();
    while let Some(line) = commands.recv().await {
        let parts: Vec<&str> = line.split(' ').collect();
        let number = |n: usize| {
            parts
                .get(n)
                .and_then(|word| word.parse::<u64>().ok())
                .ok_or_else(|| fail(format!("unknown command {line:?}")))
        };
        let answer = match parts.first().copied() {
            Some("launch") => state.clone().launch(number(1)?, number(2)?, number(3)?).await,
            Some("pace") => state.clone().launch_paced(number(1)?, number(2)?, number(3)?).await,
            Some("stop") => state.clone().stop(number(1)?, number(2)?).await,
            Some("mtu") => {
                hub.set_mtu_max(usize::try_from(number(1)?)?);
                String::new()
            }
            Some("counters") => format!("{:?}", hub.counters()),
            _ => return Err(fail(format!("unknown command {line:?}"))),
        };
        print_line(&answer.replace('\n', " "));
    }
    Ok(())
}

struct GatewayState {
    fleet: Arc<HubFleet>,
    host: HostId,
    authorization: watch::Sender<StreamAuthorization>,
    draining: watch::Sender<bool>,
}

impl GatewayState {
    fn host(&self, agent: SocketAddr) -> Host {
        Host {
            id: self.host,
            organization_id: OrganizationId(Uuid::from_u128(1)),
            kind: HostKind::Agent,
            name: "bench".into(),
            public_key: PrivateKey::from_bytes(key_bytes("host")).public_key().to_string(),
            address: HOST_ADDR.into(),
            endpoint: Some(agent),
            version: String::new(),
            enrolled_at: Timestamp(0),
            last_seen_at: None,
            drained_at: None,
        }
    }

    /// A launch as the fleet does it: an order over the control API, keys, a handshake, a dial and
    /// the greeting.
    async fn start(&self, n: u64) -> Option<Duration> {
        let began = Instant::now();
        let workspace = Workspace {
            id: WorkspaceId::parse("ws-linux-desktop").ok()?,
            organization_id: OrganizationId(Uuid::from_u128(1)),
            name: "Linux".into(),
            description: String::new(),
            icon: String::new(),
            tags: Vec::new(),
            requires_mfa: false,
            single_seat: false,
            allowed_roles: Vec::new(),
            maintenance: false,
            session_limits: Default::default(),
            spec: WorkspaceSpec::LinuxDesktop(LinuxDesktop::default()),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        };
        let order = DesktopOrder {
            session_id: session_id(n),
            owner_id: Uuid::from_u128(1),
            user_name: "Ada".into(),
            workspace,
            endpoint: Endpoint::Desktop,
            pin: None,
            address: session_address(n),
            grace: Duration::from_secs(60),
        };
        match self.fleet.start(Some(self.host), order).await {
            Ok(_) => Some(began.elapsed()),
            Err(error) => {
                eprintln!("launch {n}: {error}");
                None
            }
        }
    }

    fn times_json(times: &[Option<Duration>], began: Instant) -> String {
        let good: Vec<u64> = times
            .iter()
            .flatten()
            .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
            .collect();
        serde_json::json!({ "failed": times.len() - good.len(), "seconds": began.elapsed().as_secs_f64(), "us": good }).to_string()
    }

    /// `count` launches, `concurrency` at a time.
    async fn launch(self: Arc<Self>, from: u64, count: u64, concurrency: u64) -> String {
        let began = Instant::now();
        let concurrency = usize::try_from(concurrency).unwrap_or(1);
        let times: Vec<_> = futures_util::stream::iter(from..from + count)
            .map(|n| self.start(n))
            .buffer_unordered(concurrency)
            .collect()
            .await;
        Self::times_json(&times, began)
    }

    /// Starts `per_second` launches each second, without waiting for earlier ones, `count` in all.
    async fn launch_paced(self: Arc<Self>, from: u64, count: u64, per_second: u64) -> String {
        let began = Instant::now();
        let mut under_way = Vec::new();
        for n in 0..count {
            let due = began + Duration::from_secs(1).mul_f64(n as f64 / per_second as f64);
            tokio::time::sleep_until(due.into()).await;
            let state = self.clone();
            under_way.push(tokio::spawn(async move { state.start(from + n).await }));
        }
        let mut times = Vec::new();
        for launch in under_way {
            times.push(launch.await.ok().flatten());
        }
        Self::times_json(&times, began)
    }

    async fn stop(self: Arc<Self>, from: u64, count: u64) -> String {
        let failed = AtomicU64::new(0);
        futures_util::stream::iter(from..from + count)
            .for_each_concurrent(32, |n| {
                let (state, failed) = (&self, &failed);
                async move {
                    if state.fleet.stop(Some(state.host), session_id(n)).await.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
            .await;
        failed.into_inner().to_string()
    }
}

fn lease(n: u64, policy: StreamPolicy) -> Option<Lease> {
    lease_to(
        n,
        WorkspaceKind::Linux,
        Upstream::agent_started(RFB_PORT, SecretString::new(PASSWORD.into()), policy),
    )
}

pub fn lease_to(n: u64, workspace_kind: WorkspaceKind, server: Upstream) -> Option<Lease> {
    let user_id = UserId(Uuid::from_u128(1));
    let session = Session {
        id: session_id(n),
        organization_id: OrganizationId(Uuid::from_u128(1)),
        principal: PrincipalId::User(user_id),
        principal_name: "ada@example.com".into(),
        login_id: Some(LoginId(Uuid::from_u128(1))),
        workspace_id: WorkspaceId::parse("ws-linux-desktop").ok()?,
        workspace_name: "Linux".into(),
        workspace_kind,
        host_id: Some(HostId(Uuid::from_u128(7))),
        route: SessionRoute::OwnTunnel,
        state: State::Active,
        address: session_address(n),
        mfa: None,
        peer_public_key: None,
        created_at: Timestamp(0),
        started_at: Some(Timestamp(0)),
        ended_at: None,
        expires_at: Timestamp(1),
        version: 1,
    };
    let user = User {
        id: user_id,
        organization_id: session.organization_id,
        email: session.principal_name.clone(),
        name: "Ada".into(),
        role: Role::Member,
        mfa_enrolled: false,
        disabled: false,
        created_at: Timestamp(0),
        last_login_at: None,
    };
    let principal = Principal::User(SignedInUser { user, login_id: session.login_id?, mfa: None });
    let context = Context::new(&principal, &RequestSource::local("bench"), Timestamp(0));
    Some(Lease::grant(authorize_stream(&principal, &session, &context).ok()?, server))
}

/// Dials a port of this machine.
struct LoopbackDial(u16);

impl Dial for LoopbackDial {
    fn dial<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, std::io::Result<Box<dyn Duplex>>> {
        async move {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.0)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        }
        .boxed()
    }
}

/// As `http::stream::open`, without authentication.
async fn open_stream(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<GatewayState>,
    path: web::Path<(String, u64)>,
) -> actix_web::Result<HttpResponse> {
    let (response, browser) = upgrade(&request, body)?;
    let hangup = request.conn_data::<SocketShutdown>().cloned();
    let (kind, n) = path.into_inner();
    let direct = LoopbackDial(u16::try_from(n).unwrap_or(0));
    let (authorization, draining) = (state.authorization.subscribe(), state.draining.subscribe());
    actix_web::rt::spawn(async move {
        let dial: &dyn Dial = if kind == "s" { &*state.fleet } else { &direct };
        let clipboard = if kind == "f" { Clipboard::None } else { Clipboard::Both };
        let Some(lease) = lease(n, StreamPolicy { clipboard, ..StreamPolicy::default() }) else {
            return;
        };
        let (meters, refusals, audit, timeouts) = (
            StreamMeters::default(),
            RefusalCounter::default(),
            NullAuditSink,
            Timeouts::default(),
        );
        let attachment = Attachment {
            lease: &lease,
            dial,
            authorization,
            draining,
            meters: &meters,
            refusals: &refusals,
            audit: &audit,
            timeouts,
        };
        let end = stream(attachment, browser).await;
        end.close(hangup).await;
    });
    Ok(response)
}
