//! Sessions without a tunnel of their own: on a standard peer, through its host tunnel; on a direct
//! target, through none.
//!
//! A standard peer has one key pair, so there is one tunnel to it, which all sessions on it share.
//! There are no keys of the session to drop: once its path is removed, no stream can be opened any
//! more; open ones end with their authorization, as every stream does.

use super::conversions::tunnel_report;
use super::state::{FleetState, SharedEntry, SharedRoute};
use crate::broker::model::{TunnelReport, TunnelState};
use crate::broker::ports::host_fleet::FleetError;
use crate::domain::host::HostKind;
use crate::domain::{HostId, SessionId};
use crate::tunnel::{SessionPath, Tunnel};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest lookup of a direct target's name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

impl FleetState {
    pub(super) fn add_shared(
        &self,
        session: SessionId,
        route: SharedRoute,
    ) -> Result<Arc<SessionPath>, FleetError> {
        match &route {
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
        let path = SessionPath::new();
        self.close_shared(session);
        self.shared().insert(session, SharedEntry { route, path: Arc::clone(&path) });
        Ok(path)
    }

    pub(super) fn close_shared(&self, session: SessionId) {
        if let Some(entry) = self.shared().remove(&session) {
            let (tx_bytes, rx_bytes) = entry.path.bytes();
            let mut totals = self.closed_totals();
            totals.tx_bytes += tx_bytes;
            totals.rx_bytes += rx_bytes;
        }
    }

    /// The host's tunnel, for a session that goes through it.
    pub(super) fn shared_tunnel(&self, session: SessionId, host: HostId) -> Option<Tunnel> {
        let is_on_host =
            self.shared().get(&session).is_some_and(|entry| entry.route == SharedRoute::Host(host));
        if is_on_host { self.host_tunnel(host) } else { None }
    }

    pub(super) fn shared_report(&self, session: SessionId) -> Option<TunnelReport> {
        let entry = self.shared().get(&session).cloned()?;
        let (tx_bytes, rx_bytes) = entry.path.bytes();
        let report = match &entry.route {
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
            rtt: entry.path.host_rtt().or(report.rtt),
            desktop_rtt: entry.path.desktop_rtt(),
            ..report
        })
    }

    /// A connection to the address that the configuration gives the name.
    pub(super) async fn connect_direct(&self, name: &str) -> io::Result<TcpStream> {
        let address = self.config.direct.get(name).ok_or(io::ErrorKind::PermissionDenied)?;
        let stream = TcpStream::connect(address.as_str()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The address of a direct target.
    pub(super) async fn resolve_target(&self, name: &str) -> Result<IpAddr, FleetError> {
        let address = self.config.direct.get(name).ok_or_else(|| not_allowed(name))?;
        let lookup =
            tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(address.as_str()))
                .await
                .map_err(|_| FleetError::Timeout)?;
        let mut found = lookup.map_err(|e| FleetError::Failed(e.to_string()))?;
        found
            .next()
            .map(|address| address.ip())
            .ok_or_else(|| FleetError::Failed("its name has no address".to_owned()))
    }
}

fn not_allowed(name: &str) -> FleetError {
    FleetError::Refused(format!("no direct target is allowed as {name}"))
}
