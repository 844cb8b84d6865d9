//! The agent itself: enrols once, dials home forever, serves the control API inside the host
//! tunnel.

use super::control;
use super::desktop::launcher::UIDS;
use super::desktop::{LaunchError, Launcher, Limits};
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

/// First and longest wait between two calls home.
const DIAL_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Most control connections at once.
const CONTROL_MAX: usize = 48;
/// A gateway that asks nothing for this long is away: it asks at least every
/// [`control::WATCH_WAIT`].
pub const GATEWAY_SILENCE: Duration = Duration::from_secs(20);
/// How often grace is looked at.
const GRACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Longest look-up of the gateway's name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for desktops to end at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);

/// How an agent runs.
#[derive(Debug)]
pub struct AgentConfig {
    /// State folder.
    pub state_dir: PathBuf,
    /// UDP address of its tunnels; `0.0.0.0:0` lets the system choose.
    pub listen: SocketAddr,
    /// What to enrol with when the state folder knows no gateway yet.
    pub enrollment: Option<Enrollment>,
    /// Limits.
    pub limits: Limits,
    /// The services that sessions may reach: `host:port` by name.
    pub services: BTreeMap<String, String>,
    /// Uids a root agent gives to users.
    pub uids: RangeInclusive<u32>,
    /// How long a gateway may be silent before its desktops' grace begins.
    pub gateway_silence: Duration,
}

impl AgentConfig {
    /// The usual agent of a state folder.
    #[must_use]
    pub fn new(state_dir: PathBuf) -> Self {
        Self {
            state_dir,
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            enrollment: None,
            limits: Limits::default(),
            services: BTreeMap::new(),
            uids: UIDS,
            gateway_silence: GATEWAY_SILENCE,
        }
    }
}

/// Why an agent ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// Enrolment.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// Not enrolled, and nothing to enrol with.
    #[error("this host is not enrolled: start it with a gateway's address and a join token")]
    NotEnrolled,
    /// The UDP port.
    #[error("UDP {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The tunnel.
    #[error("host tunnel: {0}")]
    Tunnel(#[from] TunnelError),
    /// The launcher.
    #[error("launcher: {0}")]
    Launcher(#[from] LaunchError),
    /// A program that desktops are made of is not installed.
    #[error("not installed: {0}")]
    Missing(String),
}

/// Programs without which there is no desktop, and the packages they are in.
const REQUIRED_PROGRAMS: &[(&str, &str)] = &[
    ("bwrap", "bubblewrap"),
    ("Xtigervnc", "tigervnc-standalone-server"),
    ("prlimit", "util-linux"),
    ("setpriv", "util-linux"),
    ("openbox", "openbox"),
];

/// Runs an agent until `shutdown` says so; its desktops are gone when this returns.
///
/// # Errors
/// [`AgentError`]. A gateway that does not answer is none: the agent keeps calling.
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
    let launcher = Launcher::new(state.path(), config.limits.clone(), config.uids.clone())?;
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
        capacity: config.limits.desktops,
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
    capacity: usize,
    gateway_silence: Duration,
}

/// Why a host tunnel was given up.
enum TunnelEnd {
    /// The agent is to end.
    Shutdown,
    /// The gateway's name means another address now.
    Moved(SocketAddr),
}

impl Agent {
    async fn run(self, shutdown: &mut watch::Receiver<bool>) -> Result<(), AgentError> {
        let Self { hub, identity, launcher, services, capacity: places, gateway_silence: silence } =
            self;
        let roster = SessionManager::new(
            launcher,
            services,
            GatewayLink { hub: hub.clone(), gateway: identity.gateway_public_key },
            places,
        );
        tracing::info!(listen = %hub.local_addr(), gateway = identity.gateway_endpoint, "agent runs");
        let mut absence = GatewayAbsence::default();
        let mut endpoint = resolve(&identity.gateway_endpoint).await;
        let ended = loop {
            let tunnel = match host_tunnel(&hub, &identity, endpoint) {
                Ok(tunnel) => tunnel,
                Err(error) => break Err(error.into()),
            };
            let over = {
                let listener = match tunnel.listen(control::PORT, CONTROL_MAX) {
                    Ok(listener) => listener,
                    Err(error) => break Err(error.into()),
                };
                // All in this one future: when one of them ends, the others and their connections
                // end.
                tokio::select! {
                    _ = shutdown.wait_for(|stop| *stop) => Ok(TunnelEnd::Shutdown),
                    moved = keep_connected(&tunnel, &identity.gateway_endpoint, endpoint) => Ok(TunnelEnd::Moved(moved)),
                    () = watch_grace(&tunnel, &roster, silence, &mut absence) => Err(TunnelError::Closed),
                    () = serve(listener, roster.clone()) => Err(TunnelError::Closed),
                    () = tunnel.closed() => Err(TunnelError::Closed),
                }
            };
            match over {
                Ok(TunnelEnd::Shutdown) => break Ok(()),
                Ok(TunnelEnd::Moved(to)) => {
                    tracing::info!(%to, "the gateway moved");
                    endpoint = Some(to);
                    tunnel.close();
                    tunnel.closed().await;
                }
                Err(error) => break Err(error.into()),
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, roster.end_all()).await.is_err() {
            tracing::warn!("desktops did not end in time; they are killed with the agent");
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
            tracing::warn!(endpoint, %error, "the gateway's address is not known");
            None
        }
        Err(_) => None,
    }
}

/// Calls home whenever the gateway does not answer, forever. Ends only when its name means another
/// address than the one called.
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
            // Closed: whoever runs us sees that, too.
            std::future::pending::<()>().await;
        }
    }
}

/// Notices a gateway that is silent: calls it anew, since keys alone do not say that it still knows
/// them (it may have been restarted, and not know where we are), and ends desktops when it stays
/// away for too long.
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
    let places = Arc::new(Semaphore::new(CONTROL_MAX));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(stream) => stream,
                Err(_) => return,
            },
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let roster = roster.clone();
        connections.spawn(async move {
            if let Err(error) = control::serve(stream, roster).await {
                tracing::debug!(%error, "a control connection ended");
            }
            drop(place);
        });
    }
}
