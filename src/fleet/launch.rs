//! Launching: from an order to an upstream that answers as its kind does.

use super::conversions::{control_error, tunnel_error, without_host};
use super::state::{FleetState, SharedRoute};
use crate::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, Endpoint, FleetError, ProbeFailure,
};
use crate::domain::secret::{SecretBytes, SecretString};
use crate::domain::upstream::{Fingerprint, TrustRule, UpstreamTrust};
use crate::domain::web_app::WebAppConfig;
use crate::domain::workspace::ReadinessCheck;
use crate::domain::{HostId, SessionId, UserId};
use crate::host::control::{self, ClientError, Order, OrderTunnel, OrderWorkspace};
use crate::tunnel::{MeteredStream, PresharedKey, PublicKey, Tunnel, TunnelError, TunnelStatus};
use crate::viewer::probe::{self, HttpProbe};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Beginning of an RFB server's ProtocolVersion message (RFC 6143 section 7.1.1).
const GREETING: &[u8; 4] = b"RFB ";
/// Longest answer of a web application, including the TLS handshake. Below the default limit of a
/// launch, so that its own error is reported.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// Launches within the configured limit. On failure nothing of the launch remains.
pub(super) async fn launch(
    fleet: &Arc<FleetState>,
    host: Option<HostId>,
    order: DesktopOrder,
) -> Result<DesktopStarted, FleetError> {
    let mut guard =
        LaunchGuard { fleet: Arc::clone(fleet), host, session: order.session_id, finished: false };
    let started = tokio::time::timeout(fleet.config.start_timeout, fleet.start(host, order))
        .await
        .unwrap_or(Err(FleetError::Timeout));
    match started {
        Ok(started) => {
            guard.finished = true;
            Ok(started)
        }
        Err(FleetError::NotConnected)
            if host.is_some_and(|host| fleet.host_tunnel(host).is_none()) =>
        {
            guard.finished = true;
            Err(FleetError::NotConnected)
        }
        Err(error) => {
            guard.abort().await;
            Err(error)
        }
    }
}

/// A launch under way. Dropped before it finished, it removes what the launch created.
struct LaunchGuard {
    fleet: Arc<FleetState>,
    host: Option<HostId>,
    session: SessionId,
    finished: bool,
}

impl LaunchGuard {
    async fn abort(mut self) {
        self.finished = true;
        self.fleet.close_session(self.session);
        if let Err(error) = self.fleet.stop(self.host, self.session).await {
            tracing::warn!(session = %self.session, %error, "a failed launch may have left its desktop; the reconciler ends it");
        }
    }
}

impl Drop for LaunchGuard {
    fn drop(&mut self) {
        if !self.finished {
            self.fleet.close_session(self.session);
            let (fleet, host, session) = (self.fleet.clone(), self.host, self.session);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { fleet.stop(host, session).await });
            }
        }
    }
}

impl FleetState {
    async fn start(
        &self,
        host: Option<HostId>,
        order: DesktopOrder,
    ) -> Result<DesktopStarted, FleetError> {
        let session = order.session_id;
        let probe = ReadinessProbe::for_order(&order);
        let service = match order.endpoint {
            Endpoint::Desktop => None,
            Endpoint::Service { name } => Some(name),
            Endpoint::HostPort { port } => {
                let host = host.ok_or_else(without_host)?;
                return self.start_server(session, host, port, &probe).await;
            }
            Endpoint::Direct { name } => return self.start_direct(session, name, &probe).await,
        };
        let host = host.ok_or_else(without_host)?;
        let host_tunnel = self.encrypted_host_tunnel(host)?;
        let psk = PresharedKey::generate()
            .map_err(|_| FleetError::Failed("no randomness for a key".to_owned()))?;
        let address = order.address;
        let (kind, desktop) = (order.workspace.kind(), order.workspace.driver().started_desktop());
        let order = Order {
            protocol: control::PROTOCOL,
            session_id: session,
            user_id: UserId(order.owner_id),
            user_name: order.user_name.chars().take(control::NAME_MAX).collect(),
            workspace: OrderWorkspace {
                id: order.workspace.id,
                name: order.workspace.name.chars().take(control::NAME_MAX).collect(),
                kind,
                network: desktop.is_some_and(|desktop| desktop.network),
                service,
            },
            tunnel: OrderTunnel {
                preshared_key: SecretString::new(psk.expose_base64().to_string()),
                host_address: address,
                gateway_address: self.config.address,
            },
            grace_seconds: order.grace.min(control::GRACE_MAX).as_secs(),
        };
        let started = self
            .client(host)
            .await?
            .start(&order)
            .await
            .map_err(|error| probe.agent_error(error))?;
        let key: PublicKey = started
            .public_key
            .parse()
            .map_err(|_| FleetError::Failed("the host returned an invalid key".to_owned()))?;
        let peer =
            self.session_peer(session, address, key, psk.clone(), host_tunnel.stats().endpoint);
        let tunnel = self.add_session(session, host, peer).map_err(tunnel_error)?;
        tunnel.wait_for_handshake().await.map_err(tunnel_error)?;
        let path = self
            .sessions()
            .get(&session)
            .map(|entry| entry.path.clone())
            .ok_or(FleetError::NotConnected)?;
        let began = Instant::now();
        let stream =
            tunnel.connect(started.port).await.map_err(|error| probe.tunnel_error(error))?;
        probe.run(MeteredStream::new(stream, path, began.elapsed())).await?;
        Ok(DesktopStarted {
            peer_public_key: started.public_key,
            preshared_key: SecretBytes::new(psk.expose().to_vec()),
            port: started.port,
            credential: started.password,
            certificate: started.certificate.as_deref().and_then(Fingerprint::parse),
        })
    }
    /// A server on a standard peer, which runs already.
    async fn start_server(
        &self,
        session: SessionId,
        host: HostId,
        port: u16,
        probe: &ReadinessProbe,
    ) -> Result<DesktopStarted, FleetError> {
        let tunnel = self.encrypted_host_tunnel(host)?;
        let path = self.add_shared(session, SharedRoute::Host(host))?;
        let began = Instant::now();
        let stream = tunnel.connect(port).await.map_err(|error| probe.tunnel_error(error))?;
        probe.run(MeteredStream::new(stream, path, began.elapsed())).await?;
        let peer_public_key = self
            .hosts()
            .get(&host)
            .map(|entry| entry.public_key.clone())
            .ok_or(FleetError::NotConnected)?;
        Ok(existing_server(peer_public_key, port))
    }

    /// A direct target, which runs already.
    async fn start_direct(
        &self,
        session: SessionId,
        name: String,
        probe: &ReadinessProbe,
    ) -> Result<DesktopStarted, FleetError> {
        let path = self.add_shared(session, SharedRoute::Direct(name.clone()))?;
        let began = Instant::now();
        let stream =
            self.connect_direct(&name).await.map_err(|error| probe.connect_error(&error))?;
        let port = stream.peer_addr().map_err(|e| FleetError::Failed(e.to_string()))?.port();
        probe.run(MeteredStream::new(stream, path, began.elapsed())).await?;
        Ok(existing_server(String::new(), port))
    }

    fn encrypted_host_tunnel(&self, host: HostId) -> Result<Tunnel, FleetError> {
        self.host_tunnel(host)
            .filter(|tunnel| tunnel.status() == TunnelStatus::Encrypted)
            .ok_or(FleetError::NotConnected)
    }
}

/// Nothing was started, so there is no key, credential or certificate of its own.
fn existing_server(peer_public_key: String, port: u16) -> DesktopStarted {
    DesktopStarted {
        peer_public_key,
        preshared_key: SecretBytes::new(Vec::new()),
        port,
        credential: SecretString::new(String::new()),
        certificate: None,
    }
}

/// When a launch has succeeded: once the upstream answers as its kind does.
enum ReadinessProbe {
    /// The RFB server sends its version.
    RfbGreeting,
    /// An RDP server accepts the connection, and then waits for its client.
    Connection,
    /// A web application answers a request.
    Web(Box<WebProbe>),
}

struct WebProbe {
    config: WebAppConfig,
    trust: UpstreamTrust,
    address: IpAddr,
}

impl ReadinessProbe {
    fn for_order(order: &DesktopOrder) -> Self {
        match order.workspace.driver().readiness() {
            ReadinessCheck::RfbGreeting => Self::RfbGreeting,
            ReadinessCheck::Connection => Self::Connection,
            ReadinessCheck::HttpAnswer { config, trust } => {
                let pin = if *trust == TrustRule::FirstUse { order.pin } else { None };
                Self::Web(Box::new(WebProbe {
                    config: config.clone(),
                    trust: UpstreamTrust { rule: trust.clone(), pin },
                    address: order.address,
                }))
            }
        }
    }

    /// Runs the probe on a stream that was just opened.
    async fn run(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Result<(), FleetError> {
        match self {
            Self::RfbGreeting => read_greeting(stream).await,
            Self::Connection => Ok(()),
            Self::Web(web) => {
                let http = HttpProbe {
                    config: &web.config,
                    trust: &web.trust,
                    address: web.address,
                    timeout: ANSWER_TIMEOUT,
                };
                Ok(probe::probe_http(stream, http).await?)
            }
        }
    }

    /// The failure to connect inside a tunnel.
    fn tunnel_error(&self, error: TunnelError) -> FleetError {
        match (self, &error) {
            (Self::Web(_), TunnelError::Refused) => ProbeFailure::Down.into(),
            (Self::Web(_), TunnelError::TimedOut) => ProbeFailure::Slow.into(),
            _ => tunnel_error(error),
        }
    }

    /// The failure to connect to a direct target.
    fn connect_error(&self, error: &io::Error) -> FleetError {
        match (self, error.kind()) {
            (Self::Web(_), io::ErrorKind::ConnectionRefused) => ProbeFailure::Down.into(),
            (Self::Web(_), io::ErrorKind::TimedOut) => ProbeFailure::Slow.into(),
            _ => FleetError::Failed(error.to_string()),
        }
    }

    /// An agent's refusal.
    fn agent_error(&self, error: ClientError) -> FleetError {
        match (self, &error) {
            (Self::Web(_), ClientError::Refused { status: control::SERVICE_DOWN, .. }) => {
                ProbeFailure::Down.into()
            }
            (Self::Web(_), ClientError::Refused { status: control::SERVICE_SLOW, .. }) => {
                ProbeFailure::Slow.into()
            }
            _ => control_error(error),
        }
    }
}

async fn read_greeting(mut stream: impl AsyncRead + Unpin) -> Result<(), FleetError> {
    let mut greeting = [0; 12];
    stream
        .read_exact(&mut greeting)
        .await
        .map_err(|_| FleetError::Failed("its server sent nothing".to_owned()))?;
    if greeting.starts_with(GREETING) {
        Ok(())
    } else {
        Err(FleetError::Failed("its server does not speak RFB".to_owned()))
    }
}
