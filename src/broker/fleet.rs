//! The port to the hosts: what the broker asks of tunnels and agents, without knowing either. `app`
//! implements it.

use super::servers::PresentedCertificate;
use crate::domain::host::Host;
use crate::domain::route::SessionRoute;
use crate::domain::secret::{SecretBytes, SecretString};
use crate::domain::upstream::Fingerprint;
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{HostId, SessionId, Timestamp};
use futures_util::future::BoxFuture;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What a tunnel is doing, in the contract's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelState {
    /// No handshake yet.
    Connecting,
    /// Keys are fresh and the peer answers.
    Encrypted,
    /// There are keys, but the peer does not answer.
    Stale,
    /// The tunnel is gone.
    Down,
    /// There is no tunnel, and there was not meant to be one: a direct target, unencrypted.
    None,
}

impl TunnelState {
    /// Its word in the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Encrypted => "encrypted",
            Self::Stale => "stale",
            Self::Down => "down",
            Self::None => "none",
        }
    }
}

/// A tunnel as its state machine reports it now.
///
/// A session that goes through its host's tunnel, or through none, reports the payload bytes of its
/// own streams: what else its host's tunnel carries is not its own.
#[derive(Clone, PartialEq, Debug)]
pub struct TunnelReport {
    /// State.
    pub state: TunnelState,
    /// Last completed handshake.
    pub last_handshake_at: Option<Timestamp>,
    /// Bytes sent to the host (inner packets).
    pub tx_bytes: u64,
    /// Bytes received from the host.
    pub rx_bytes: u64,
    /// Round trip to the host: opening a TCP connection inside the tunnel; until that was measured,
    /// the last handshake.
    pub rtt: Option<Duration>,
    /// What the desktop's server took to greet when a stream was last opened, without the way there
    /// and back.
    pub desktop_rtt: Option<Duration>,
    /// TCP segments sent again inside the tunnel, of all its connections.
    pub retransmits: u64,
    /// Where the host is heard from.
    pub endpoint: Option<SocketAddr>,
}

/// A desktop to start.
#[derive(Debug)]
pub struct DesktopOrder {
    /// Its session; also its tunnel's name. Asking twice gives the same desktop.
    pub session_id: SessionId,
    /// Names the home that is kept between sessions.
    pub user_id: crate::domain::UserId,
    /// Shown in the desktop.
    pub user_name: String,
    /// Workspace.
    pub workspace: crate::domain::workspace::Workspace,
    /// What is to be started, or only to be reached.
    pub endpoint: Endpoint,
    /// The certificate its server must have when the workspace's rule is the first one seen, once
    /// there is one.
    pub pin: Option<Fingerprint>,
    /// Its address inside the tunnel.
    pub address: IpAddr,
    /// How long the host keeps it without a gateway.
    pub grace: Duration,
}

/// What a session is to have at its other end.
#[derive(Debug)]
pub enum Endpoint {
    /// A desktop that the host's agent starts, in a tunnel of its own.
    Desktop,
    /// A service of a host with an agent, which forwards to where its own options say, in a tunnel
    /// of the session's own.
    Service {
        /// Its name.
        name: String,
    },
    /// A server that runs on the host, a standard peer: reached through the host's tunnel.
    HostPort {
        /// Its port at the host's address.
        port: u16,
    },
    /// A target that the configuration allows by this name, through no tunnel. The host is nil.
    Direct {
        /// Its name.
        name: String,
    },
}

/// A desktop that answers: its tunnel has handshaken, its server has greeted (RFB) or taken a
/// connection (RDP, where the client speaks first).
#[derive(Debug)]
pub struct DesktopStarted {
    /// The host's public key in the tunnel it is reached through, standard base64; empty for a
    /// direct target.
    pub peer_public_key: String,
    /// The preshared key of the session's own tunnel (32 bytes; empty where it has none); stored
    /// sealed, so that a restarted gateway can restore the tunnel.
    pub preshared_key: SecretBytes,
    /// The desktop's port at its address.
    pub port: u16,
    /// What the gateway proves to a desktop that was started; empty for a server that ran already,
    /// whose credential the fleet never sees.
    pub credential: SecretString,
    /// SHA-256 of the certificate a desktop was started with; `None` where it has none of its own.
    pub certificate: Option<Fingerprint>,
}

/// A host's tunnel, as stored.
#[derive(Debug)]
pub struct HostPeer {
    /// The host.
    pub host: Host,
    /// Preshared key of the host tunnel (32 bytes).
    pub preshared_key: SecretBytes,
}

/// A session's tunnel, as stored.
#[derive(Debug)]
pub struct SessionPeer {
    /// Session.
    pub session_id: SessionId,
    /// Host; its endpoint is where the session's peer is, too.
    pub host_id: HostId,
    /// Which way its stream goes.
    pub way: SessionRoute,
    /// Address.
    pub address: IpAddr,
    /// The host's public key in it.
    pub peer_public_key: String,
    /// Preshared key (32 bytes).
    pub preshared_key: SecretBytes,
}

/// Why a host did not do it.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// No tunnel to the host now.
    #[error("the host is not connected")]
    NotConnected,
    /// It did not answer in time.
    #[error("the host did not answer in time")]
    Timeout,
    /// It refused, and says why.
    #[error("the host refused: {0}")]
    Refused(String),
    /// The desktop or its tunnel did not come up.
    #[error("the desktop did not come up: {0}")]
    Failed(String),
    /// The way to a web application stands, and the application does not answer as one.
    #[error(transparent)]
    Probe(#[from] ProbeFailure),
}

/// What a web application did instead of answering.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// Its machine refused the connection.
    #[error("nothing takes a connection where the application should be")]
    Down,
    /// It took longer than it may.
    #[error("the application did not answer in time")]
    Slow,
    /// It took the connection, and closed it.
    #[error("the application closed the connection without an answer")]
    Closed,
    /// What it said is not HTTP/1.
    #[error("what answers does not speak HTTP")]
    NotHttp,
    /// Asked by HTTP, it answered in TLS.
    #[error("the application speaks TLS, and plain HTTP was expected")]
    Tls,
    /// Asked for TLS, it gave none; the cause in a few words.
    #[error("the application gave no TLS: {0}")]
    NoTls(String),
    /// The rule of trust does not take its certificate. `why` is one short word.
    #[error("the application's certificate is not to be trusted: {reason}")]
    Certificate {
        /// What it showed.
        certificate: PresentedCertificate,
        /// The word.
        reason: &'static str,
    },
}

impl ProbeFailure {
    /// One word for the log.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Down => "application_down",
            Self::Slow => "application_slow",
            Self::Closed => "application_closed",
            Self::NotHttp => "application_not_http",
            Self::Tls => "application_speaks_tls",
            Self::NoTls(_) => "application_without_tls",
            Self::Certificate { .. } => "application_certificate",
        }
    }

    /// What its user reads: how far the way stands, what was seen, what to do.
    #[must_use]
    pub fn user_message(&self) -> &'static str {
        match self {
            Self::Down => {
                "The host answers, but nothing takes a connection where the application should be: it is not running, or runs elsewhere. Try again in \
                 a minute; if it stays, tell your administrator."
            }
            Self::Slow => {
                "The host answers, but the application did not answer in time: it is starting, or overloaded. Try again in a minute; if it stays, \
                 tell your administrator."
            }
            Self::Closed => {
                "The application took the connection and closed it without an answer. Try again; if it stays, tell your administrator."
            }
            Self::NotHttp => {
                "Something answers where the application should be, but not by HTTP. Tell your administrator: its port is another's."
            }
            Self::Tls => {
                "The application answers by HTTPS, and this workspace expects HTTP. Tell your administrator: its scheme must be https."
            }
            Self::NoTls(_) => {
                "The application gave no secure connection, and this workspace expects HTTPS. Tell your administrator: its TLS is broken, or its \
                 scheme must be http."
            }
            Self::Certificate { .. } => {
                "The application's certificate is not the one this workspace trusts, so nothing was sent to it. Tell your administrator, who sees it \
                 with the workspace."
            }
        }
    }
}

/// What a host's agent offers, as it said last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostCapabilities {
    /// Kinds of desktops it can start.
    pub kinds: Vec<WorkspaceKind>,
    /// Kinds of workspaces that a service of it can be.
    pub service_kinds: Vec<WorkspaceKind>,
    /// Its services: names, and whether each took a connection when that was last tried.
    pub services: Vec<(String, bool)>,
}

/// What the gateway is to its hosts.
#[derive(Clone, Debug)]
pub struct GatewayIdentity {
    /// WireGuard public key, standard base64.
    pub public_key: String,
    /// UDP endpoint hosts dial, `host:port`.
    pub endpoint: String,
    /// The gateway's address inside every tunnel.
    pub address: IpAddr,
}

/// Hosts and their tunnels.
pub trait HostFleet: Send + Sync + 'static {
    /// Who we are to hosts.
    fn identity(&self) -> GatewayIdentity;
    /// Adds, or replaces, a host's tunnel and calls it when its endpoint is known.
    fn add_host(&self, peer: HostPeer) -> Result<(), FleetError>;
    /// Drops a host's tunnel.
    fn remove_host(&self, id: HostId);
    /// A host's tunnel now; `None` when there is no such host.
    fn host(&self, id: HostId) -> Option<TunnelReport>;
    /// Hosts whose tunnel is encrypted now.
    fn connected(&self) -> Vec<HostId>;
    /// Starts a desktop and its tunnel; returns when the workspace answers through it. On failure
    /// nothing is left behind.
    fn start(
        &self,
        host: HostId,
        order: DesktopOrder,
    ) -> BoxFuture<'_, Result<DesktopStarted, FleetError>>;
    /// Drops a session's keys now; its streams end. Never waits.
    fn drop_keys(&self, session: SessionId);
    /// Ends a desktop on its host (and cuts it first). Ending one that is gone is a success.
    fn stop(&self, host: HostId, session: SessionId) -> BoxFuture<'_, Result<(), FleetError>>;
    /// Puts back a session's tunnel after a restart, and calls its host.
    fn restore(&self, peer: SessionPeer) -> Result<(), FleetError>;
    /// A session's tunnel now; `None` when there is none.
    fn tunnel(&self, session: SessionId) -> Option<TunnelReport>;
    /// The sessions whose desktops run on a host, as it says now.
    fn inventory(&self, host: HostId) -> BoxFuture<'_, Result<Vec<SessionId>, FleetError>>;
    /// What a host's agent offers; `None`: it has not said yet, or is none.
    fn capabilities(&self, _host: HostId) -> Option<Arc<HostCapabilities>> {
        None
    }
    /// The names of the direct targets that the configuration allows; usually none.
    fn direct_targets(&self) -> Vec<String> {
        Vec::new()
    }
    /// Where the target of this name is now.
    fn resolve_target<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<IpAddr, FleetError>> {
        Box::pin(async move {
            Err(FleetError::Refused(format!("no direct target is allowed as {name}")))
        })
    }
    /// Resolves whenever a host's connection may have changed; the reaper looks then.
    fn hosts_changed(&self) -> tokio::sync::watch::Receiver<u64>;
}
