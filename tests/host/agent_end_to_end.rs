//! The whole loop: a gateway's hub and fleet, an agent that dials home over loopback UDP, real
//! desktops.

use super::harness::{TIMEOUT, connect_client, display_server, processes_with_mark, wait_until};
use crate::support::wait::eventually;
use portcullis::broker::model::TunnelState;
use portcullis::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, Endpoint, FleetError, HostFleet, HostPeer, SessionPeer,
};
use portcullis::domain::host::Host;
use portcullis::domain::secret::SecretBytes;
use portcullis::domain::workspace::{Workspace, WorkspaceKind};
use portcullis::domain::{HostId, OrganizationId, SessionId, Timestamp, UserId, WorkspaceId};
use portcullis::fleet::{FleetConfig, HubFleet};
use portcullis::host::agent::{AgentConfig, AgentError, run};
use portcullis::host::control::{
    self, Client, ClientError, Order, OrderTunnel, OrderWorkspace, Started,
};
use portcullis::host::enroll::Trust;
use portcullis::tunnel::{Hub, HubConfig, PresharedKey, PrivateKey, Tunnel, TunnelId};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 127, 0, 1));
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 127, 0, 2));

/// What a gateway keeps between its lives.
pub(super) struct GatewayState {
    key: PrivateKey,
    port: u16,
    pub(super) host: Host,
    psk: PresharedKey,
}

pub(super) struct Gateway {
    hub: Hub,
    pub(super) fleet: HubFleet,
}

pub(super) async fn start_gateway(kept: &mut GatewayState) -> Gateway {
    let hub = Hub::bind(HubConfig { listen: SocketAddr::from(([127, 0, 0, 1], kept.port)) })
        .await
        .unwrap();
    kept.port = hub.local_addr().port();
    let config = FleetConfig {
        private_key: kept.key.clone(),
        endpoint: hub.local_addr().to_string(),
        address: GATEWAY,
        start_timeout: Duration::from_secs(60),
        direct: Default::default(),
    };
    Gateway { fleet: HubFleet::new(hub.clone(), config), hub }
}

pub(super) fn gateway_state() -> GatewayState {
    let host = Host {
        id: HostId::new(),
        organization_id: OrganizationId::new(),
        kind: Default::default(),
        name: "h".to_owned(),
        public_key: String::new(),
        address: HOST,
        endpoint: None,
        version: String::new(),
        enrolled_at: Timestamp(0),
        last_seen_at: None,
    };
    GatewayState {
        key: PrivateKey::generate().unwrap(),
        port: 0,
        host,
        psk: PresharedKey::generate().unwrap(),
    }
}

fn peer(kept: &GatewayState) -> HostPeer {
    HostPeer {
        host: kept.host.clone(),
        preshared_key: SecretBytes::new(kept.psk.expose().to_vec()),
    }
}

pub(super) struct Agent {
    stop: watch::Sender<bool>,
    running: JoinHandle<Result<(), AgentError>>,
}

impl Agent {
    pub(super) async fn stop(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(TIMEOUT, self.running).await.unwrap().unwrap().unwrap();
    }
}

fn start_agent(config: AgentConfig) -> Agent {
    let (stop, stopped) = watch::channel(false);
    Agent { stop, running: tokio::spawn(run(config, stopped)) }
}

/// Enrols over HTTPS with a state folder, then runs; the gateway learns the key from the enrolment.
async fn start_enrolled_agent(kept: &mut GatewayState, gateway: &Gateway, dir: &Path) -> Agent {
    start_enrolled_agent_with(kept, gateway, AgentConfig::new(dir.to_path_buf())).await
}

pub(super) async fn start_enrolled_agent_with(
    kept: &mut GatewayState,
    gateway: &Gateway,
    config: AgentConfig,
) -> Agent {
    let identity = gateway.fleet.identity();
    let body = serde_json::json!({
        "host_id": kept.host.id, "name": "h", "host_address": HOST, "gateway_address": identity.address,
        "gateway_public_key": identity.public_key, "gateway_endpoint": identity.endpoint, "preshared_key": kept.psk.expose_base64().as_str(),
    });
    let mut https = super::enroll::fake_gateway(201, body.to_string()).await;
    let trust = Trust::Certificate(https.sha256);
    let config = AgentConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        enrollment: Some(super::enroll::enrollment(&https, trust)),
        ..config
    };
    let agent = start_agent(config);
    let asked = https.asked.recv().await.unwrap();
    kept.host.public_key = asked["public_key"].as_str().unwrap().to_owned();
    gateway.fleet.add_host(peer(kept)).unwrap();
    agent
}

pub(super) async fn wait_until_connected(gateway: &Gateway, host: HostId) {
    let mut changed = gateway.fleet.hosts_changed();
    tokio::time::timeout(TIMEOUT, changed.wait_for(|_| gateway.fleet.connected().contains(&host)))
        .await
        .unwrap()
        .unwrap();
}

pub(super) fn order(grace: Duration) -> (DesktopOrder, String) {
    let session_id = SessionId::new();
    let mark = format!("mark-{session_id}");
    let workspace = Workspace {
        id: WorkspaceId::parse("ws-linux-desktop").unwrap(),
        organization_id: OrganizationId::new(),
        name: mark.clone(),
        description: String::new(),
        kind: WorkspaceKind::Linux,
        target: None,
        icon: String::new(),
        tags: Vec::new(),
        requires_mfa: false,
        single_seat: false,
        network: false,
        allowed_roles: Vec::new(),
        maintenance: false,
        policy: Default::default(),
        upstream: Default::default(),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    };
    let address = "10.64.0.9".parse().unwrap();
    (
        DesktopOrder {
            session_id,
            owner_id: UserId::new().0,
            user_name: "Mona".to_owned(),
            workspace,
            endpoint: Endpoint::Desktop,
            pin: None,
            address,
            grace,
        },
        mark,
    )
}

fn repeated_order(order: &DesktopOrder) -> DesktopOrder {
    DesktopOrder {
        session_id: order.session_id,
        owner_id: order.owner_id,
        user_name: order.user_name.clone(),
        workspace: order.workspace.clone(),
        endpoint: Endpoint::Desktop,
        pin: order.pin,
        address: order.address,
        grace: order.grace,
    }
}

fn tunnel(gateway: &Gateway, session: SessionId) -> Tunnel {
    gateway.hub.tunnel(TunnelId(session.0)).unwrap()
}

/// Colours on the screen, through the session's tunnel.
async fn read_greeting(
    gateway: &Gateway,
    session: SessionId,
    started: &DesktopStarted,
) -> (u16, u16) {
    let stream = tunnel(gateway, session).connect(started.port).await.unwrap();
    let mut screen = connect_client(stream, started.credential.expose()).await;
    screen.frame().await.unwrap();
    (screen.width, screen.height)
}

const GRACE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn enrol_start_look_restart_look_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = gateway_state();
    let first = start_gateway(&mut kept).await;
    let agent = start_enrolled_agent(&mut kept, &first, &dir.path().join("s")).await;
    let host = kept.host.id;
    wait_until_connected(&first, host).await;
    assert_eq!(first.fleet.host(host).unwrap().state, TunnelState::Encrypted);
    assert_eq!(first.fleet.inventory(host).await.unwrap(), vec![]);

    // Warm, as the second launch of a day is.
    let (warm_up, _) = order(GRACE);
    let session = warm_up.session_id;
    first.fleet.start(Some(host), warm_up).await.unwrap();
    first.fleet.stop(Some(host), session).await.unwrap();

    let (wanted, mark) = order(GRACE);
    let session = wanted.session_id;
    let begun = Instant::now();
    let started = first.fleet.start(Some(host), repeated_order(&wanted)).await.unwrap();
    let greeted = begun.elapsed();
    assert_eq!(read_greeting(&first, session, &started).await, (1280, 800));
    println!(
        "launch through tunnels: greeting after {greeted:?}, first frame after {:?}",
        begun.elapsed()
    );
    let report = first.fleet.tunnel(session).unwrap();
    assert_eq!(report.state, TunnelState::Encrypted);
    assert!(report.rx_bytes > 1280 * 800 && report.last_handshake_at.is_some(), "{report:?}");

    // Asked again: the same desktop, with a tunnel of new keys.
    let server = display_server(&mark);
    let same = first.fleet.start(Some(host), repeated_order(&wanted)).await.unwrap();
    assert_eq!(same.credential, started.credential);
    assert_ne!(same.peer_public_key, started.peer_public_key);
    assert_eq!(display_server(&mark), server);
    let mut two = first.fleet.inventory(host).await.unwrap();
    assert_eq!(two.pop(), Some(session));
    assert!(two.is_empty());
    read_greeting(&first, session, &same).await;

    // The session's tunnel reaches that port and nothing else, and no other tunnel reaches that
    // port.
    for port in [portcullis::host::control::PORT, 22, 5901] {
        assert!(tunnel(&first, session).connect(port).await.is_err(), "port {port}");
    }
    assert!(first.hub.tunnel(TunnelId(host.0)).unwrap().connect(same.port).await.is_err());

    // The gateway dies and comes back with what it stored: the same desktop, at once.
    kept.host.endpoint = first.fleet.host(host).unwrap().endpoint;
    first.hub.shutdown().await;
    drop(first);
    let second = start_gateway(&mut kept).await;
    second.fleet.add_host(peer(&kept)).unwrap();
    let stored = SessionPeer {
        session_id: session,
        host_id: Some(host),
        way: Default::default(),
        address: wanted.address,
        peer_public_key: same.peer_public_key.clone(),
        preshared_key: SecretBytes::new(same.preshared_key.expose().clone()),
    };
    let begun = Instant::now();
    second.fleet.restore(stored).unwrap();
    wait_until_connected(&second, host).await;
    assert_eq!(read_greeting(&second, session, &same).await, (1280, 800));
    println!("after a gateway restart: first frame after {:?}", begun.elapsed());
    assert_eq!(display_server(&mark), server);

    // Cut: the stream ends now, the desktop stays. Stop: it is gone when that returns.
    let mut stream = tunnel(&second, session).connect(same.port).await.unwrap();
    let begun = Instant::now();
    second.fleet.drop_keys(session);
    let mut rest = Vec::new();
    let _ =
        tokio::time::timeout(TIMEOUT, tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest))
            .await
            .unwrap();
    println!("a cut stream ended after {:?}", begun.elapsed());
    assert!(second.fleet.tunnel(session).is_none());
    assert!(!processes_with_mark(&mark).is_empty());
    second.fleet.stop(Some(host), session).await.unwrap();
    assert_eq!(processes_with_mark(&mark), Vec::<u32>::new());
    second.fleet.stop(Some(host), session).await.unwrap();
    assert_eq!(second.fleet.inventory(host).await.unwrap(), vec![]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desktop_that_dies_is_told_and_an_agent_that_ends_takes_all() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("s");
    let mut kept = gateway_state();
    let gateway = start_gateway(&mut kept).await;
    let agent = start_enrolled_agent(&mut kept, &gateway, &state).await;
    let host = kept.host.id;
    wait_until_connected(&gateway, host).await;
    let (one, one_mark) = order(GRACE);
    let (two, two_mark) = order(GRACE);
    let two = DesktopOrder { address: "10.64.0.10".parse().unwrap(), ..two };
    let (one_id, two_id) = (one.session_id, two.session_id);
    let (first, second) =
        tokio::join!(gateway.fleet.start(Some(host), one), gateway.fleet.start(Some(host), two));
    let (first, _second) = (first.unwrap(), second.unwrap());

    let mut stream = tunnel(&gateway, one_id).connect(first.port).await.unwrap();
    let mut changed = gateway.fleet.hosts_changed();
    changed.borrow_and_update();
    let server = display_server(&one_mark);
    let begun = Instant::now();
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    let mut rest = Vec::new();
    let _ =
        tokio::time::timeout(TIMEOUT, tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest))
            .await
            .unwrap();
    let stream_ended = begun.elapsed();
    tokio::time::timeout(TIMEOUT, changed.changed()).await.unwrap().unwrap();
    println!(
        "a dead desktop: its stream ended after {stream_ended:?}, the gateway was told after {:?}",
        begun.elapsed()
    );
    wait_until("the dead one is gone", || processes_with_mark(&one_mark).is_empty()).await;
    assert_eq!(gateway.fleet.inventory(host).await.unwrap(), vec![two_id]);

    // An order that cannot be carried out leaves nothing, and says why.
    let (odd, _) = order(GRACE);
    let odd_id = odd.session_id;
    let odd = DesktopOrder {
        workspace: Workspace { kind: WorkspaceKind::Html5, ..odd.workspace.clone() },
        ..odd
    };
    assert!(matches!(gateway.fleet.start(Some(host), odd).await, Err(FleetError::Refused(_))));
    assert!(gateway.fleet.tunnel(odd_id).is_none());
    let (nowhere, _) = order(GRACE);
    assert!(matches!(
        gateway.fleet.start(Some(HostId::new()), nowhere).await,
        Err(FleetError::NotConnected)
    ));

    // A second agent on the same state folder is refused; the first ends cleanly and its desktops
    // with it.
    let (_keep, stopped) = watch::channel(false);
    assert!(matches!(
        run(AgentConfig::new(state.clone()), stopped).await,
        Err(AgentError::State(_))
    ));
    let begun = Instant::now();
    agent.stop().await;
    println!("an agent with a desktop ended in {:?}", begun.elapsed());
    assert_eq!(processes_with_mark(&two_mark), Vec::<u32>::new());

    // Later starts need only the state folder; the gateway hears of it by itself, and the inventory
    // is honest: empty.
    let again = self::start_agent(AgentConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..AgentConfig::new(state)
    });
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match gateway.fleet.inventory(host).await {
            Ok(found) => break assert_eq!(found, vec![]),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_forgot_where_its_host_is_is_called_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = gateway_state();
    let first = start_gateway(&mut kept).await;
    let config = AgentConfig {
        gateway_silence: Duration::from_secs(6),
        ..AgentConfig::new(dir.path().join("s"))
    };
    let agent = start_enrolled_agent_with(&mut kept, &first, config).await;
    let host = kept.host.id;
    wait_until_connected(&first, host).await;
    let (wanted, _) = order(GRACE);
    let (session, address) = (wanted.session_id, wanted.address);
    let started = first.fleet.start(Some(host), wanted).await.unwrap();
    first.hub.shutdown().await;
    drop(first);

    kept.host.endpoint = None;
    let second = start_gateway(&mut kept).await;
    second.fleet.add_host(peer(&kept)).unwrap();
    let preshared_key = SecretBytes::new(started.preshared_key.expose().clone());
    let stored = SessionPeer {
        session_id: session,
        host_id: Some(host),
        way: Default::default(),
        address,
        peer_public_key: started.peer_public_key.clone(),
        preshared_key,
    };
    let begun = Instant::now();
    second.fleet.restore(stored).unwrap();
    assert!(second.fleet.connected().is_empty());
    wait_until_connected(&second, host).await;
    let found = begun.elapsed();
    // The session's tunnel is put up without anybody asking for it.
    wait_until("the session's tunnel", || {
        second.fleet.tunnel(session).is_some_and(|report| report.state == TunnelState::Encrypted)
    })
    .await;
    println!(
        "a gateway that knew no endpoint was called after {found:?}, its session was back after {:?}",
        begun.elapsed()
    );
    assert_eq!(read_greeting(&second, session, &started).await, (1280, 800));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_ends_desktops_whose_gateway_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = gateway_state();
    let gateway = start_gateway(&mut kept).await;
    let config = AgentConfig {
        gateway_silence: Duration::from_secs(6),
        ..AgentConfig::new(dir.path().join("s"))
    };
    let agent = start_enrolled_agent_with(&mut kept, &gateway, config).await;
    let host = kept.host.id;
    wait_until_connected(&gateway, host).await;
    let (wanted, mark) = order(Duration::from_secs(1));
    gateway.fleet.start(Some(host), wanted).await.unwrap();
    let begun = Instant::now();
    gateway.hub.shutdown().await;
    eventually("the desktop ends", async || processes_with_mark(&mark).is_empty()).await;
    println!("without its gateway a desktop with 1 s of grace ended after {:?}", begun.elapsed());
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_knows_no_gateway_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (_keep, stopped) = watch::channel(false);
    let error = run(AgentConfig::new(dir.path().join("s")), stopped).await.unwrap_err();
    assert!(matches!(error, AgentError::NotEnrolled));
}

/// An order for a session on a service, with a preshared key; what the gateway's fleet would send.
fn service_order(name: &str, kind: WorkspaceKind, psk: &PresharedKey) -> Order {
    Order {
        protocol: control::PROTOCOL,
        session_id: SessionId::new(),
        user_id: UserId::new(),
        user_name: "Mona".to_owned(),
        workspace: OrderWorkspace {
            id: WorkspaceId::parse("ws-pc").unwrap(),
            name: "PC".to_owned(),
            kind,
            network: false,
            service: Some(name.to_owned()),
        },
        tunnel: OrderTunnel {
            preshared_key: portcullis::domain::secret::SecretString::new(
                psk.expose_base64().to_string(),
            ),
            host_address: "10.64.0.9".parse().unwrap(),
            gateway_address: GATEWAY,
        },
        grace_seconds: 1,
    }
}

async fn control_client(gateway: &Gateway, host: HostId) -> Client {
    let stream =
        gateway.hub.tunnel(TunnelId(host.0)).unwrap().connect(control::PORT).await.unwrap();
    Client::new(stream).await.unwrap()
}

/// The gateway's end of a session's tunnel.
async fn stream_reply(
    gateway: &Gateway,
    kept: &GatewayState,
    order: &Order,
    started: &Started,
    psk: PresharedKey,
) -> Tunnel {
    let peer = portcullis::tunnel::PeerConfig {
        id: TunnelId(order.session_id.0),
        private_key: kept.key.clone(),
        peer_public_key: started.public_key.parse().unwrap(),
        preshared_key: psk,
        endpoint: gateway.fleet.host(kept.host.id).unwrap().endpoint,
        local_addr: GATEWAY,
        peer_addr: order.tunnel.host_address,
        keepalive: None,
        profile: portcullis::tunnel::Profile::Stream,
    };
    let tunnel = gateway.hub.add_peer(peer).unwrap();
    tunnel.initiate();
    tokio::time::timeout(TIMEOUT, tunnel.wait_for_handshake()).await.unwrap().unwrap();
    tunnel
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_reaches_the_service_it_was_given_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secret = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let [at, secret_at, gone_at] = [&server, &secret, &gone].map(|l| l.local_addr().unwrap());
    drop(gone);
    // Says what it hears, backwards, so that it is known who answered.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 5];
                while stream.read_exact(&mut heard).await.is_ok() {
                    heard.reverse();
                    let _ = stream.write_all(&heard).await;
                }
            });
        }
    });
    let mut kept = gateway_state();
    let gateway = start_gateway(&mut kept).await;
    let config = AgentConfig {
        gateway_silence: Duration::from_secs(6),
        services: [("pc".to_owned(), at.to_string()), ("gone".to_owned(), gone_at.to_string())]
            .into(),
        ..AgentConfig::new(dir.path().join("s"))
    };
    let agent = start_enrolled_agent_with(&mut kept, &gateway, config).await;
    let host = kept.host.id;
    wait_until_connected(&gateway, host).await;
    let mut client = control_client(&gateway, host).await;

    let health = client.health().await.unwrap();
    let seen: Vec<_> = health.services.iter().map(|s| (s.name.as_str(), s.reachable)).collect();
    assert_eq!(
        (seen, health.kinds),
        (vec![("gone", false), ("pc", true)], vec![WorkspaceKind::Linux, WorkspaceKind::Rdp])
    );

    // What the agent was not told to allow is refused in the same words, be it a name, an address,
    // or nonsense.
    let psk = PresharedKey::generate().unwrap();
    let mut details = Vec::new();
    for name in ["other", "", &secret_at.to_string(), "pc ", "PC", &"x".repeat(5000)] {
        match client.start(&service_order(name, WorkspaceKind::Rdp, &psk)).await {
            Err(ClientError::Refused { status: 422, detail }) => details.push(detail),
            other => panic!("{name}: {other:?}"),
        }
    }
    details.dedup();
    assert_eq!(details, ["this host lets no session reach a service of that name"]);
    assert!(client.desktops().await.unwrap().is_empty());

    let order = service_order("pc", WorkspaceKind::Rdp, &psk);
    let session = order.session_id;
    let started = client.start(&order).await.unwrap();
    assert_eq!(
        (started.port, started.password.expose().as_str(), &started.certificate),
        (3389, "", &None)
    );
    let again = client.start(&order).await.unwrap();
    assert_eq!(again.public_key, started.public_key, "asked again: the same");
    let mut moved = service_order("gone", WorkspaceKind::Rdp, &psk);
    (moved.session_id, moved.user_id) = (session, order.user_id);
    assert!(
        matches!(client.start(&moved).await, Err(ClientError::Refused { status: 422, .. })),
        "a session stays where it is"
    );
    let listed = client.desktops().await.unwrap();
    assert_eq!((listed.len(), listed[0].session_id, listed[0].ready), (1, session, true));

    let tunnel = stream_reply(&gateway, &kept, &order, &started, psk.clone()).await;
    let mut stream = tunnel.connect(started.port).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    tokio::time::timeout(TIMEOUT, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"olleh");
    for port in [5900, at.port(), secret_at.port(), control::PORT] {
        assert!(tunnel.connect(port).await.is_err(), "port {port}");
    }

    // A service that does not answer: its session is there, its stream ends at once.
    let elsewhere = Order {
        tunnel: OrderTunnel { host_address: "10.64.0.10".parse().unwrap(), ..order_tunnel(&psk) },
        ..service_order("gone", WorkspaceKind::Vnc, &psk)
    };
    let silent = client.start(&elsewhere).await.unwrap();
    assert_eq!(silent.port, 5900);
    let silent_tunnel = stream_reply(&gateway, &kept, &elsewhere, &silent, psk.clone()).await;
    if let Ok(mut stream) = silent_tunnel.connect(silent.port).await {
        let ended = tokio::time::timeout(TIMEOUT, stream.read(&mut heard)).await.unwrap();
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    }

    // Ended: no stream of it is left, nor the session; the other one ends with its grace.
    client.stop(session).await.unwrap();
    let ended = tokio::time::timeout(TIMEOUT, stream.read(&mut heard)).await.unwrap();
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    assert_eq!(client.desktops().await.unwrap().len(), 1);
    drop(client);
    // The fleet asks for changes all the time; without it, the gateway is silent.
    gateway.fleet.remove_host(host);
    let watched = Instant::now();
    wait_until_closed(&silent_tunnel).await;
    println!("a session on a service with 1 s of grace ended after {:?}", watched.elapsed());
    agent.stop().await;
}

/// Waits until a session's tunnel does not take a connection any more.
async fn wait_until_closed(tunnel: &Tunnel) {
    eventually("the session's tunnel refuses connections", async || {
        let connection = tokio::time::timeout(Duration::from_secs(5), tunnel.connect(5900)).await;
        !connection.is_ok_and(|stream| stream.is_ok())
    })
    .await;
}

fn order_tunnel(psk: &PresharedKey) -> OrderTunnel {
    service_order("x", WorkspaceKind::Rdp, psk).tunnel
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rdp_desktop_proves_itself_through_its_own_tunnel() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = gateway_state();
    let gateway = start_gateway(&mut kept).await;
    let agent = start_enrolled_agent(&mut kept, &gateway, &dir.path().join("s")).await;
    let host = kept.host.id;
    wait_until_connected(&gateway, host).await;
    let mut client = control_client(&gateway, host).await;
    let psk = PresharedKey::generate().unwrap();
    let mut order = service_order("", WorkspaceKind::Rdp, &psk);
    let mark = format!("mark-{}", order.session_id);
    (order.workspace.service, order.workspace.name, order.grace_seconds) =
        (None, mark.clone(), 600);
    let begun = Instant::now();
    let started = client.start(&order).await.unwrap();
    assert_eq!(started.port, 3389);
    let tunnel = stream_reply(&gateway, &kept, &order, &started, psk).await;
    let shown = super::rdp::certificate(tunnel.connect(started.port).await.unwrap()).await;
    println!("an RDP desktop through tunnels: its certificate after {:?}", begun.elapsed());
    assert_eq!(Some(shown), started.certificate);
    assert!(tunnel.connect(5900).await.is_err());
    assert!(!processes_with_mark(&mark).is_empty());
    client.stop(order.session_id).await.unwrap();
    assert_eq!(processes_with_mark(&mark), Vec::<u32>::new());
    agent.stop().await;
}
