//! A gateway's hub and fleet, an agent that connects to it over loopback UDP, and orders.

use super::harness::{TIMEOUT, connect_client};
use portcullis::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, Endpoint, HostFleet, HostPeer,
};
use portcullis::domain::host::Host;
use portcullis::domain::route::TargetSpec;
use portcullis::domain::secret::SecretBytes;
use portcullis::domain::workspace::{
    LinuxDesktop, Workspace, WorkspaceFields, WorkspaceKind, WorkspaceSpec,
};
use portcullis::domain::{HostId, OrganizationId, SessionId, Timestamp, UserId, WorkspaceId};
use portcullis::fleet::{FleetConfig, HubFleet};
use portcullis::host::agent::{AgentConfig, AgentError, run};
use portcullis::host::control::{self, Client, Order, OrderTunnel, OrderWorkspace, Started};
use portcullis::host::enroll::Trust;
use portcullis::tunnel::{Hub, HubConfig, PresharedKey, PrivateKey, Tunnel, TunnelId};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(super) const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 127, 0, 1));
pub(super) const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 127, 0, 2));

/// What a gateway keeps across restarts.
pub(super) struct GatewayState {
    pub(super) key: PrivateKey,
    pub(super) port: u16,
    pub(super) host: Host,
    pub(super) psk: PresharedKey,
}

pub(super) struct Gateway {
    pub(super) hub: Hub,
    pub(super) fleet: HubFleet,
}

pub(super) async fn start_gateway(state: &mut GatewayState) -> Gateway {
    let hub = Hub::bind(HubConfig { listen: SocketAddr::from(([127, 0, 0, 1], state.port)) })
        .await
        .unwrap();
    state.port = hub.local_addr().port();
    let config = FleetConfig {
        private_key: state.key.clone(),
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
        drained_at: None,
    };
    GatewayState {
        key: PrivateKey::generate().unwrap(),
        port: 0,
        host,
        psk: PresharedKey::generate().unwrap(),
    }
}

pub(super) fn peer(state: &GatewayState) -> HostPeer {
    HostPeer {
        host: state.host.clone(),
        preshared_key: SecretBytes::new(state.psk.expose().to_vec()),
    }
}

pub(super) struct Agent {
    pub(super) stop: watch::Sender<bool>,
    pub(super) running: JoinHandle<Result<(), AgentError>>,
}

impl Agent {
    pub(super) async fn stop(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(TIMEOUT, self.running).await.unwrap().unwrap().unwrap();
    }
}

pub(super) fn start_agent(config: AgentConfig) -> Agent {
    let (stop, stopped) = watch::channel(false);
    Agent { stop, running: tokio::spawn(run(config, stopped)) }
}

/// Starts an agent that enrols over HTTPS; the gateway receives the public key by that.
pub(super) async fn start_enrolled_agent(
    state: &mut GatewayState,
    gateway: &Gateway,
    dir: &Path,
) -> Agent {
    start_enrolled_agent_with(state, gateway, AgentConfig::new(dir.to_path_buf())).await
}

pub(super) async fn start_enrolled_agent_with(
    state: &mut GatewayState,
    gateway: &Gateway,
    config: AgentConfig,
) -> Agent {
    let identity = gateway.fleet.identity();
    let body = serde_json::json!({
        "host_id": state.host.id, "name": "h", "host_address": HOST, "gateway_address": identity.address,
        "gateway_public_key": identity.public_key, "gateway_endpoint": identity.endpoint, "preshared_key": state.psk.expose_base64().as_str(),
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
    state.host.public_key = asked["public_key"].as_str().unwrap().to_owned();
    gateway.fleet.add_host(peer(state)).unwrap();
    agent
}

pub(super) async fn wait_until_connected(gateway: &Gateway, host: HostId) {
    let mut changed = gateway.fleet.hosts_changed();
    tokio::time::timeout(TIMEOUT, changed.wait_for(|_| gateway.fleet.connected().contains(&host)))
        .await
        .unwrap()
        .unwrap();
}

/// A web application without settings.
pub(super) fn web_application() -> WorkspaceSpec {
    let kind = WorkspaceKind::Html5;
    let fields = WorkspaceFields {
        target: Some(TargetSpec::Direct { name: "wiki".to_owned() }),
        ..(kind.properties().initial_fields)()
    };
    WorkspaceSpec::from_fields(kind, fields).unwrap()
}

pub(super) fn order(grace: Duration) -> (DesktopOrder, String) {
    let session_id = SessionId::new();
    let mark = format!("mark-{session_id}");
    let workspace = Workspace {
        id: WorkspaceId::parse("ws-linux-desktop").unwrap(),
        organization_id: OrganizationId::new(),
        name: mark.clone(),
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

pub(super) fn repeated_order(order: &DesktopOrder) -> DesktopOrder {
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

pub(super) fn tunnel(gateway: &Gateway, session: SessionId) -> Tunnel {
    gateway.hub.tunnel(TunnelId(session.0)).unwrap()
}

/// The size of the first frame, through the session's tunnel.
pub(super) async fn framebuffer_size(
    gateway: &Gateway,
    session: SessionId,
    started: &DesktopStarted,
) -> (u16, u16) {
    let stream = tunnel(gateway, session).connect(started.port).await.unwrap();
    let mut screen = connect_client(stream, started.credential.expose()).await;
    screen.frame().await.unwrap();
    (screen.width, screen.height)
}

/// An order for a session on a service, as the gateway's fleet sends it.
pub(super) fn service_order(name: &str, kind: WorkspaceKind, psk: &PresharedKey) -> Order {
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

pub(super) async fn control_client(gateway: &Gateway, host: HostId) -> Client {
    let stream =
        gateway.hub.tunnel(TunnelId(host.0)).unwrap().connect(control::PORT).await.unwrap();
    Client::new(stream).await.unwrap()
}

/// The gateway's end of a session's tunnel.
pub(super) async fn open_session_tunnel(
    gateway: &Gateway,
    state: &GatewayState,
    order: &Order,
    started: &Started,
    psk: PresharedKey,
) -> Tunnel {
    let peer = portcullis::tunnel::PeerConfig {
        id: TunnelId(order.session_id.0),
        private_key: state.key.clone(),
        peer_public_key: started.public_key.parse().unwrap(),
        preshared_key: psk,
        endpoint: gateway.fleet.host(state.host.id).unwrap().endpoint,
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
