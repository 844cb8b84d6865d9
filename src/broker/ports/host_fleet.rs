//! Port to the hosts: what the broker asks of tunnels and agents.

use crate::broker::model::{GatewayIdentity, HostCapabilities, PresentedCertificate, TunnelReport};
use crate::domain::host::Host;
use crate::domain::route::SessionRoute;
use crate::domain::secret::{SecretBytes, SecretString};
use crate::domain::upstream::Fingerprint;
use crate::domain::{HostId, SessionId};
use futures_util::future::BoxFuture;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A desktop to start, or a target to reach.
#[derive(Debug)]
pub struct DesktopOrder {
    /// Also names the tunnel. Starting the same session twice returns the same desktop.
    pub session_id: SessionId,
    /// Selects the home directory that persists between sessions.
    pub owner_id: Uuid,
    /// Displayed in the desktop.
    pub user_name: String,
    pub workspace: crate::domain::workspace::Workspace,
    pub endpoint: Endpoint,
    /// The certificate the upstream must present under the first-use rule, once one is pinned.
    pub pin: Option<Fingerprint>,
    pub address: IpAddr,
    /// How long the host keeps the desktop without a gateway.
    pub grace: Duration,
}

/// The upstream end of a session.
#[derive(Debug)]
pub enum Endpoint {
    /// A desktop that the host's agent starts, in the session's own tunnel.
    Desktop,
    /// A service of a host with an agent, which forwards to the address in its own options, in the
    /// session's own tunnel.
    Service { name: String },
    /// A port of a standard peer, reached through the host's tunnel.
    HostPort { port: u16 },
    /// A target that the configuration allows by this name; no tunnel.
    Direct { name: String },
}

/// A desktop that is ready: the tunnel's handshake is complete, and the upstream has greeted (RFB)
/// or accepted a connection (RDP, where the client speaks first).
#[derive(Debug)]
pub struct DesktopStarted {
    /// The host's public key in the tunnel that reaches the upstream, standard base64; empty for a
    /// direct target.
    pub peer_public_key: String,
    /// Preshared key of the session's own tunnel (32 bytes; empty without one). Stored sealed, so
    /// that a restarted gateway can restore the tunnel.
    pub preshared_key: SecretBytes,
    pub port: u16,
    /// The credential for a desktop that was started; empty for an existing upstream, whose
    /// credential the fleet never sees.
    pub credential: SecretString,
    /// Certificate of a desktop that was started; `None` if it has none of its own.
    pub certificate: Option<Fingerprint>,
}

#[derive(Debug)]
pub struct HostPeer {
    pub host: Host,
    /// 32 bytes.
    pub preshared_key: SecretBytes,
}

#[derive(Debug)]
pub struct SessionPeer {
    pub session_id: SessionId,
    /// Its endpoint is the session peer's endpoint too; `None` for a direct target.
    pub host_id: Option<HostId>,
    pub way: SessionRoute,
    pub address: IpAddr,
    /// Standard base64.
    pub peer_public_key: String,
    /// 32 bytes.
    pub preshared_key: SecretBytes,
}

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("the host is not connected")]
    NotConnected,
    #[error("the host did not answer in time")]
    Timeout,
    /// The host refused what it was asked for, with its reason: another host would, too.
    #[error("the host refused: {0}")]
    Refused(String),
    /// Every slot of the host is taken.
    #[error("the host is full: {0}")]
    Full(String),
    /// The host itself could not do it, with its reason.
    #[error("the host failed: {0}")]
    Broken(String),
    #[error("the desktop did not come up: {0}")]
    Failed(String),
    /// The path to a web application works, but the readiness probe failed.
    #[error(transparent)]
    Probe(#[from] ProbeFailure),
}

impl FleetError {
    /// Whether the failure to start a desktop is the host's own, so that another host may succeed;
    /// not the workspace's or the user's.
    #[must_use]
    pub fn is_hosts_own(&self) -> bool {
        match self {
            Self::NotConnected
            | Self::Timeout
            | Self::Full(_)
            | Self::Broken(_)
            | Self::Failed(_) => true,
            Self::Refused(_) | Self::Probe(_) => false,
        }
    }
}

/// Why the readiness probe of a web application failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProbeFailure {
    #[error("nothing takes a connection where the application should be")]
    Down,
    #[error("the application did not answer in time")]
    Slow,
    /// Accepted the connection and closed it without a response.
    #[error("the application closed the connection without an answer")]
    Closed,
    /// The response is not HTTP/1.
    #[error("what answers does not speak HTTP")]
    NotHttp,
    /// Answered plain HTTP with TLS.
    #[error("the application speaks TLS, and plain HTTP was expected")]
    Tls,
    /// The TLS handshake failed, with its cause.
    #[error("the application gave no TLS: {0}")]
    NoTls(String),
    /// The trust rule rejects the certificate.
    #[error("the application's certificate is not to be trusted: {reason}")]
    Certificate { certificate: PresentedCertificate, reason: &'static str },
}

impl ProbeFailure {
    /// The reason in the audit log.
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

    /// Text for the user: what works, what was observed, what to do.
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

pub trait HostFleet: Send + Sync + 'static {
    fn identity(&self) -> GatewayIdentity;
    /// Whether a UDP address is one at which this gateway receives packets of hosts.
    fn is_own_endpoint(&self, _endpoint: SocketAddr) -> bool {
        false
    }
    /// Adds or replaces a host's tunnel; starts a handshake if its endpoint is known.
    fn add_host(&self, peer: HostPeer) -> Result<(), FleetError>;
    /// Drops a host's tunnel.
    fn remove_host(&self, id: HostId);
    /// A host's tunnel now; `None` when there is no such host.
    fn host(&self, id: HostId) -> Option<TunnelReport>;
    /// Hosts whose tunnel is encrypted now.
    fn connected(&self) -> Vec<HostId>;
    /// Starts a desktop and its tunnel; returns when the upstream answers through it. A failed
    /// start leaves nothing behind.
    fn start(
        &self,
        host: Option<HostId>,
        order: DesktopOrder,
    ) -> BoxFuture<'_, Result<DesktopStarted, FleetError>>;
    /// Drops a session's keys and forgets its path; never waits.
    fn drop_keys(&self, session: SessionId);
    /// Stops a desktop on its host, after dropping its keys. Stopping a missing one succeeds.
    fn stop(
        &self,
        host: Option<HostId>,
        session: SessionId,
    ) -> BoxFuture<'_, Result<(), FleetError>>;
    /// Restores a session's tunnel after a restart and starts a handshake.
    fn restore(&self, peer: SessionPeer) -> Result<(), FleetError>;
    /// A session's tunnel now; `None` when there is none.
    fn tunnel(&self, session: SessionId) -> Option<TunnelReport>;
    /// The sessions whose desktops run on a host, as its agent reports now.
    fn inventory(&self, host: HostId) -> BoxFuture<'_, Result<Vec<SessionId>, FleetError>>;
    /// How long a host's agent has been running, as it reports now: desktops from before have ended
    /// with its predecessor. `None`: it does not answer.
    fn agent_uptime(&self, _host: HostId) -> BoxFuture<'_, Option<Duration>> {
        Box::pin(std::future::ready(None))
    }
    /// `None`: not reported yet, or the host has no agent.
    fn capabilities(&self, _host: HostId) -> Option<Arc<HostCapabilities>> {
        None
    }
    /// Names of the direct targets that the configuration allows.
    fn direct_targets(&self) -> Vec<String> {
        Vec::new()
    }
    /// Resolves a direct target's name.
    fn resolve_target<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<IpAddr, FleetError>> {
        Box::pin(async move {
            Err(FleetError::Refused(format!("no direct target is allowed as {name}")))
        })
    }
    /// Changes whenever hosts may have come, gone, connected, disconnected, or changed what they
    /// can do.
    fn hosts_changed(&self) -> tokio::sync::watch::Receiver<u64>;
    /// Changes whenever one host may have connected or disconnected, or its agent reports that its
    /// desktops changed. Closed when the host gets another tunnel.
    fn host_changed(&self, _host: HostId) -> tokio::sync::watch::Receiver<u64> {
        self.hosts_changed()
    }
}
