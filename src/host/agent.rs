//! The agent: enrols once, keeps its host tunnel connected, and serves the control API inside it.

use super::control::{self, Slots};
use super::desktop::{LaunchError, Launcher, Limits, uid_ranges};
use super::enroll::{EnrollError, Enrollment, enroll};
use super::forward::KEEPALIVE;
use super::grace::GatewayAbsence;
use super::services::Services;
use super::session_manager::{GatewayLink, SessionManager};
use super::state::{Identity, StateDir, StateError};
use crate::tunnel::{
    Hub, HubConfig, MTU_MAX, PeerConfig, Profile, Tunnel, TunnelError, TunnelId, TunnelListener,
    TunnelStatus,
};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// First and longest wait between two handshake attempts.
const DIAL_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Most control connections at once.
const CONTROL_MAX: usize = 48;
/// A gateway that sends no request for this long counts as absent: it sends one at least every
/// [`control::WATCH_WAIT`].
pub const GATEWAY_SILENCE: Duration = Duration::from_secs(20);
const GRACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub struct AgentConfig {
    pub state_dir: PathBuf,
    /// UDP address of its tunnels; `0.0.0.0:0` lets the system choose.
    pub listen: SocketAddr,
    /// Used when the state folder has no identity yet.
    pub enrollment: Option<Enrollment>,
    pub limits: Limits,
    /// The services that sessions may reach: `host:port` by name.
    pub services: BTreeMap<String, String>,
    /// Uids that a root agent assigns to users; `None`: a range that it claims on this machine.
    pub uids: Option<RangeInclusive<u32>>,
    /// Silence of the gateway after which the grace of its desktops begins.
    pub gateway_silence: Duration,
}

impl AgentConfig {
    /// With default settings.
    #[must_use]
    pub fn new(state_dir: PathBuf) -> Self {
        Self {
            state_dir,
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            enrollment: None,
            limits: Limits::default(),
            services: BTreeMap::new(),
            uids: None,
            gateway_silence: GATEWAY_SILENCE,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    #[error("this host is not enrolled: start it with a gateway's address and a join token")]
    NotEnrolled,
    #[error("UDP {0}: {1}")]
    Listen(SocketAddr, io::Error),
    #[error("host tunnel: {0}")]
    Tunnel(#[from] TunnelError),
    #[error("uids for the users of desktops, in /var/lib/portcullis-agents: {0}")]
    Uids(io::Error),
    #[error("launcher: {0}")]
    Launcher(#[from] LaunchError),
    /// Required programs.
    #[error("not installed: {0}")]
    Missing(String),
}

/// Required programs and the packages that contain them.
const REQUIRED_PROGRAMS: &[(&str, &str)] = &[
    ("bwrap", "bubblewrap"),
    ("Xtigervnc", "tigervnc-standalone-server"),
    ("prlimit", "util-linux"),
    ("setpriv", "util-linux"),
    ("openbox", "openbox"),
];

/// Runs an agent until `shutdown` is true. Its desktops have ended when this returns.
///
/// # Errors
/// [`AgentError`]. An unreachable gateway is not an error: the agent retries.
pub async fn run(
    config: AgentConfig,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), AgentError> {
    let missing: Vec<_> = REQUIRED_PROGRAMS
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect();
    if !missing.is_empty() {
        return Err(AgentError::Missing(missing.join(", ")));
    }
    let state = StateDir::open(&config.state_dir)?;
    let identity = match (state.identity()?, &config.enrollment) {
        (Some(identity), _) => identity,
        (None, Some(enrollment)) => {
            let identity = enroll(enrollment).await?;
            state.save_identity(&identity)?;
            tracing::info!(host = %identity.host_id, name = identity.name, "enrolled");
            identity
        }
        (None, None) => return Err(AgentError::NotEnrolled),
    };
    let uids = match config.uids.clone() {
        Some(uids) => uids,
        None if rustix::process::geteuid().is_root() => {
            uid_ranges::claim(state.path()).map_err(AgentError::Uids)?
        }
        // It has its own only.
        None => 0..=0,
    };
    let mut limits = config.limits.clone();
    limits.network.gateway = Some(identity.gateway_endpoint.clone());
    let launcher = Launcher::new(state.path(), limits, uids)?;
    let hub = Hub::bind(HubConfig { listen: config.listen })
        .await
        .map_err(|error| AgentError::Listen(config.listen, error))?;
    // The gateway's setting decides: neither end probes unless both accept larger packets.
    hub.set_mtu_max(MTU_MAX);
    let services = Services::new(config.services);
    let agent = Agent {
        hub,
        identity,
        launcher,
        services,
        capacity: Slots { desktops: config.limits.desktops, services: config.limits.services },
        gateway_silence: config.gateway_silence,
    };
    let hub = agent.hub.clone();
    let ended = agent.run(&mut shutdown).await;
    hub.shutdown().await;
    ended
}

fn is_installed(program: &str) -> bool {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .any(|folder| std::path::Path::new(folder).join(program).exists())
}

struct Agent {
    hub: Hub,
    identity: Identity,
    launcher: Launcher,
    services: Services,
    capacity: Slots,
    gateway_silence: Duration,
}

/// Why a host tunnel was closed.
enum TunnelEnd {
    Shutdown,
    /// The gateway's name resolves to another address now.
    Moved(SocketAddr),
}

impl Agent {
    async fn run(self, shutdown: &mut watch::Receiver<bool>) -> Result<(), AgentError> {
        let Self { hub, identity, launcher, services, capacity, gateway_silence: silence } = self;
        let roster = SessionManager::new(
            launcher,
            services,
            GatewayLink { hub: hub.clone(), gateway: identity.gateway_public_key },
            capacity,
        );
        tracing::info!(listen = %hub.local_addr(), gateway = identity.gateway_endpoint, "agent runs");
        let mut absence = GatewayAbsence::default();
        let mut endpoint = resolve(&identity.gateway_endpoint).await;
        let ended = loop {
            let tunnel = match host_tunnel(&hub, &identity, endpoint) {
                Ok(tunnel) => tunnel,
                Err(error) => break Err(error.into()),
            };
            let end = {
                let listener = match tunnel.listen(control::PORT, CONTROL_MAX) {
                    Ok(listener) => listener,
                    Err(error) => break Err(error.into()),
                };
                // All in one future: the first to end cancels the others and their connections.
                tokio::select! {
                    _ = shutdown.wait_for(|stop| *stop) => Ok(TunnelEnd::Shutdown),
                    moved = keep_connected(&tunnel, &identity.gateway_endpoint, endpoint) => Ok(TunnelEnd::Moved(moved)),
                    () = watch_grace(&tunnel, &roster, silence, &mut absence) => Err(TunnelError::Closed),
                    () = serve(listener, roster.clone()) => Err(TunnelError::Closed),
                    () = tunnel.closed() => Err(TunnelError::Closed),
                }
            };
            match end {
                Ok(TunnelEnd::Shutdown) => break Ok(()),
                Ok(TunnelEnd::Moved(to)) => {
                    tracing::info!(%to, "the gateway has another address");
                    endpoint = Some(to);
                    tunnel.close();
                    tunnel.closed().await;
                }
                Err(error) => break Err(error.into()),
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, roster.end_all()).await.is_err() {
            tracing::warn!("desktops did not end in time; they are killed when the agent exits");
        }
        ended
    }
}

fn host_tunnel(
    hub: &Hub,
    identity: &Identity,
    endpoint: Option<SocketAddr>,
) -> Result<Tunnel, TunnelError> {
    hub.add_peer(PeerConfig {
        id: TunnelId(identity.host_id.0),
        private_key: identity.private_key.clone(),
        peer_public_key: identity.gateway_public_key,
        preshared_key: identity.preshared_key.clone(),
        endpoint,
        local_addr: identity.host_address,
        peer_addr: identity.gateway_address,
        keepalive: Some(KEEPALIVE),
        profile: Profile::Control,
    })
}

async fn resolve(endpoint: &str) -> Option<SocketAddr> {
    match tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(endpoint)).await {
        Ok(Ok(mut found)) => found.next(),
        Ok(Err(error)) => {
            tracing::warn!(endpoint, %error, "the gateway's address cannot be resolved");
            None
        }
        Err(_) => None,
    }
}

/// Initiates handshakes whenever the tunnel is not up. Returns the new address when the gateway's
/// name resolves to another one than `called`.
async fn keep_connected(tunnel: &Tunnel, name: &str, called: Option<SocketAddr>) -> SocketAddr {
    let mut status = tunnel.watch_status();
    let (mut wait, longest) = DIAL_BACKOFF;
    loop {
        let now = *status.borrow_and_update();
        if now == TunnelStatus::Encrypted {
            tracing::info!("connected to the gateway");
            wait = DIAL_BACKOFF.0;
            let _ = status.wait_for(|status| *status != TunnelStatus::Encrypted).await;
            tracing::warn!("the gateway does not answer");
            continue;
        }
        tunnel.initiate();
        let answered = status.wait_for(|status| *status == TunnelStatus::Encrypted);
        if matches!(tokio::time::timeout(wait, answered).await, Ok(Ok(_))) {
            continue;
        }
        wait = (wait * 2).min(longest);
        if let Some(found) = resolve(name).await
            && called != Some(found)
        {
            return found;
        }
        if tunnel.status() == TunnelStatus::Down && status.has_changed().is_err() {
            // The tunnel is closed, which the caller observes, too.
            std::future::pending::<()>().await;
        }
    }
}

/// Detects a silent gateway. Initiates a new handshake then, since valid keys do not show that the
/// gateway still has them (after a restart it may not know this host's address), and ends desktops
/// whose grace is over.
async fn watch_grace(
    tunnel: &Tunnel,
    roster: &SessionManager,
    silence: Duration,
    absence: &mut GatewayAbsence,
) {
    let mut tick = tokio::time::interval(GRACE_CHECK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut called = None;
    loop {
        let now = tick.tick().await.into_std();
        let keyed = tunnel.status() == TunnelStatus::Encrypted;
        let silent = roster.gateway_silence() >= silence;
        if keyed && silent && called.is_none_or(|at| now.saturating_duration_since(at) >= silence) {
            called = Some(now);
            tunnel.initiate();
        }
        absence.update(keyed && !silent, now);
        roster.end_expired(*absence, now).await;
    }
}

/// Serves control connections.
async fn serve(mut listener: TunnelListener, roster: Arc<SessionManager>) {
    let permits = Arc::new(Semaphore::new(CONTROL_MAX));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(stream) => stream,
                Err(_) => return,
            },
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
        let roster = roster.clone();
        connections.spawn(async move {
            if let Err(error) = control::serve(stream, roster).await {
                tracing::debug!(%error, "a control connection ended");
            }
            drop(permit);
        });
    }
}
