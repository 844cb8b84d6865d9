//! Sessions without a tunnel of their own: on a standard peer, through its host tunnel; on a direct
//! target, through none.
//!
//! A standard peer has one key pair, so it has one tunnel with us, and every session on it goes
//! through that. What dropping keys does elsewhere, a [`Line`]'s cut does here: the session's
//! streams end at once, and no other can be opened.

use super::metered_stream::{self, MeteredStream, SessionPath};
use super::readiness_probe::ReadinessProbe;
use super::{DIAL_TIMEOUT, HubFleet, Inner, tunnel_report};
use crate::broker::model::{TunnelReport, TunnelState};
use crate::broker::ports::host_fleet::{DesktopStarted, FleetError};
use crate::domain::host::HostKind;
use crate::domain::lease::Lease;
use crate::domain::route::{LatencyHistogram, SessionRoute};
use crate::domain::secret::{SecretBytes, SecretString};
use crate::domain::sync::lock;
use crate::domain::{HostId, SessionId};
use crate::tunnel::{Tunnel, TunnelStatus};
use crate::viewer::Duplex;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard};
use std::time::{Instant, SystemTime};
use tokio::net::TcpStream;

/// What a session goes through instead of a tunnel of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SharedRoute {
    Host(HostId),
    Direct(String),
}

#[derive(Debug, Clone)]
pub(super) struct SharedEntry {
    route: SharedRoute,
    path: Arc<SessionPath>,
}

/// What went through the sessions' own tunnels and lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    pub(super) tx_bytes: u64,
    pub(super) rx_bytes: u64,
    pub(super) retransmits: u64,
}

/// All sessions together, at this moment: of bounded size however many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FleetMetrics {
    /// Bytes sent to hosts, ever.
    pub tx_bytes: u64,
    /// Bytes received from hosts, ever.
    pub rx_bytes: u64,
    /// TCP segments sent again inside the sessions' own tunnels, ever.
    pub retransmits: u64,
    /// Round trips gateway to host.
    pub host: LatencyHistogram,
    /// Answers host to desktop.
    pub desktop: LatencyHistogram,
    /// Ages of the present keys.
    pub handshake_age: LatencyHistogram,
    /// Sessions on direct targets.
    pub direct: usize,
}

impl Inner {
    fn shared(&self) -> MutexGuard<'_, HashMap<SessionId, SharedEntry>> {
        lock(&self.shared)
    }

    fn closed_totals(&self) -> MutexGuard<'_, Totals> {
        lock(&self.closed_totals)
    }

    /// Remembers what went through a session's tunnel that goes.
    pub(super) fn add_closed(&self, tunnel: &Tunnel) {
        let stats = tunnel.stats();
        let mut past = self.closed_totals();
        past.tx_bytes += stats.tx_bytes;
        past.rx_bytes += stats.rx_bytes;
        past.retransmits += stats.retransmits;
    }

    pub(super) fn add_shared(
        &self,
        session: SessionId,
        through: SharedRoute,
    ) -> Result<Arc<SessionPath>, FleetError> {
        match &through {
            SharedRoute::Host(host)
                if self.hosts().get(host).is_none_or(|entry| entry.kind != HostKind::Peer) =>
            {
                return Err(FleetError::NotConnected);
            }
            SharedRoute::Direct(name) if !self.config.direct.contains_key(name) => {
                return Err(not_allowed(name));
            }
            SharedRoute::Host(_) | SharedRoute::Direct(_) => {}
        }
        let line = SessionPath::new();
        self.close_shared(session);
        self.shared().insert(session, SharedEntry { route: through, path: line.clone() });
        Ok(line)
    }

    pub(super) fn close_shared(&self, session: SessionId) {
        if let Some(entry) = self.shared().remove(&session) {
            let (up, down) = entry.path.bytes();
            let mut past = self.closed_totals();
            past.tx_bytes += up;
            past.rx_bytes += down;
            entry.path.cuts.revoke();
        }
    }

    /// The host's tunnel, for a session that goes through it.
    pub(super) fn shared_tunnel(&self, session: SessionId, host: HostId) -> Option<Tunnel> {
        let held =
            self.shared().get(&session).is_some_and(|entry| entry.route == SharedRoute::Host(host));
        if held { self.host_tunnel(host) } else { None }
    }

    fn session_path(&self, session: SessionId) -> Option<Arc<SessionPath>> {
        let own = self.sessions().get(&session).map(|entry| entry.path.clone());
        own.or_else(|| self.shared().get(&session).map(|entry| entry.path.clone()))
    }

    pub(super) fn shared_report(&self, session: SessionId) -> Option<TunnelReport> {
        let entry = self.shared().get(&session).cloned()?;
        let (tx_bytes, rx_bytes) = entry.path.bytes();
        let told = match &entry.route {
            SharedRoute::Host(host) => {
                let tunnel = self.host_tunnel(*host)?;
                self.refresh_rtt(&tunnel, &entry.path);
                tunnel_report(&tunnel)
            }
            SharedRoute::Direct(_) => TunnelReport {
                state: TunnelState::None,
                last_handshake_at: None,
                tx_bytes,
                rx_bytes,
                rtt: None,
                desktop_rtt: None,
                retransmits: 0,
                endpoint: None,
            },
        };
        Some(TunnelReport {
            tx_bytes,
            rx_bytes,
            rtt: entry.path.host_rtt().or(told.rtt),
            desktop_rtt: entry.path.desktop_rtt(),
            ..told
        })
    }

    /// Measures the way to a host anew when that is due, behind whoever asks; a few at once.
    pub(super) fn refresh_rtt(&self, tunnel: &Tunnel, line: &Arc<SessionPath>) {
        if tunnel.status() != TunnelStatus::Encrypted || !line.claim_measurement() {
            return;
        }
        let (Ok(permit), Ok(runtime)) =
            (self.probe_permits.clone().try_acquire_owned(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let (tunnel, line) = (tunnel.clone(), line.clone());
        runtime.spawn(async move {
            let _permit = permit;
            if let Some(took) = metered_stream::probe_rtt(&tunnel).await {
                line.set_host_rtt(took);
            }
        });
    }

    /// A server on a standard peer: there already, if it answers.
    pub(super) async fn start_server(
        &self,
        session: SessionId,
        host: HostId,
        port: u16,
        question: &ReadinessProbe,
    ) -> Result<DesktopStarted, FleetError> {
        let tunnel = self
            .host_tunnel(host)
            .filter(|tunnel| tunnel.status() == TunnelStatus::Encrypted)
            .ok_or(FleetError::NotConnected)?;
        let line = self.add_shared(session, SharedRoute::Host(host))?;
        let began = Instant::now();
        let stream = tunnel.connect(port).await.map_err(|error| question.tunnel_error(error))?;
        question.run(MeteredStream::new(stream, line, began.elapsed())).await?;
        let peer_public_key = self
            .hosts()
            .get(&host)
            .map(|entry| entry.public_key.clone())
            .ok_or(FleetError::NotConnected)?;
        Ok(existing_server(peer_public_key, port))
    }

    /// A direct target: there already, if it answers.
    pub(super) async fn start_direct(
        &self,
        session: SessionId,
        name: String,
        question: &ReadinessProbe,
    ) -> Result<DesktopStarted, FleetError> {
        let line = self.add_shared(session, SharedRoute::Direct(name.clone()))?;
        let began = Instant::now();
        let stream =
            self.connect_direct(&name).await.map_err(|error| question.connect_error(&error))?;
        let port = stream.peer_addr().map_err(|e| FleetError::Failed(e.to_string()))?.port();
        question.run(MeteredStream::new(stream, line, began.elapsed())).await?;
        Ok(existing_server(String::new(), port))
    }

    /// A connection to where the configuration says that the name leads.
    async fn connect_direct(&self, name: &str) -> io::Result<TcpStream> {
        let target = self.config.direct.get(name).ok_or(io::ErrorKind::PermissionDenied)?;
        let stream = TcpStream::connect(target.as_str()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(super) async fn locate(&self, name: &str) -> Result<IpAddr, FleetError> {
        let target = self.config.direct.get(name).ok_or_else(|| not_allowed(name))?;
        let looked = tokio::time::timeout(DIAL_TIMEOUT, tokio::net::lookup_host(target.as_str()))
            .await
            .map_err(|_| FleetError::Timeout)?;
        let mut found = looked.map_err(|e| FleetError::Failed(e.to_string()))?;
        found
            .next()
            .map(|address| address.ip())
            .ok_or_else(|| FleetError::Failed("its name leads nowhere".to_owned()))
    }
}

/// A server that runs already: nothing was started, so there is no key, credential or certificate
/// of its own.
fn existing_server(peer_public_key: String, port: u16) -> DesktopStarted {
    let nothing = SecretString::new(String::new());
    DesktopStarted {
        peer_public_key,
        preshared_key: SecretBytes::new(Vec::new()),
        port,
        credential: nothing,
        certificate: None,
    }
}

fn not_allowed(name: &str) -> FleetError {
    FleetError::Refused(format!("no direct target is allowed as {name}"))
}

impl HubFleet {
    /// A stream to a lease's desktop, whichever way its session goes, that ends when the session is
    /// cut.
    pub(super) async fn dial_metered(&self, lease: &Lease) -> io::Result<Box<dyn Duplex>> {
        let line =
            self.inner.session_path(lease.session().id).ok_or(io::ErrorKind::NotConnected)?;
        let began = Instant::now();
        if let SessionRoute::Direct(name) = lease.route() {
            let stream = tokio::time::timeout(DIAL_TIMEOUT, self.inner.connect_direct(name)).await;
            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            return Ok(Box::new(MeteredStream::new(stream, line, began.elapsed())));
        }
        let stream = self.connect(lease).await?;
        Ok(Box::new(MeteredStream::new(stream, line, began.elapsed())))
    }

    /// All sessions together, now.
    #[must_use]
    pub fn metrics(&self) -> FleetMetrics {
        let inner = &self.inner;
        let Totals { tx_bytes, rx_bytes, retransmits } = *inner.closed_totals();
        let mut paths = FleetMetrics { tx_bytes, rx_bytes, retransmits, ..FleetMetrics::default() };
        let now = SystemTime::now();
        let age = |tunnel: &Tunnel| {
            tunnel.stats().last_handshake.and_then(|at| now.duration_since(at).ok())
        };
        for entry in inner.sessions().values() {
            let stats = entry.tunnel.stats();
            paths.tx_bytes += stats.tx_bytes;
            paths.rx_bytes += stats.rx_bytes;
            paths.retransmits += stats.retransmits;
            entry
                .path
                .host_rtt()
                .or(stats.rtt)
                .into_iter()
                .for_each(|took| paths.host.observe(took));
            entry.path.desktop_rtt().into_iter().for_each(|took| paths.desktop.observe(took));
            age(&entry.tunnel).into_iter().for_each(|age| paths.handshake_age.observe(age));
        }
        let shared: Vec<SharedEntry> = inner.shared().values().cloned().collect();
        for entry in shared {
            let (up, down) = entry.path.bytes();
            paths.tx_bytes += up;
            paths.rx_bytes += down;
            entry.path.host_rtt().into_iter().for_each(|took| paths.host.observe(took));
            entry.path.desktop_rtt().into_iter().for_each(|took| paths.desktop.observe(took));
            match &entry.route {
                SharedRoute::Host(host) => inner
                    .host_tunnel(*host)
                    .as_ref()
                    .and_then(age)
                    .into_iter()
                    .for_each(|age| paths.handshake_age.observe(age)),
                SharedRoute::Direct(_) => paths.direct += 1,
            }
        }
        paths
    }
}
