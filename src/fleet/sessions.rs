//! Sessions with a tunnel of their own.

use super::conversions::tunnel_report;
use super::state::{FleetState, SessionEntry};
use crate::broker::model::{TunnelReport, TunnelState};
use crate::domain::{HostId, SessionId};
use crate::tunnel::{
    PeerConfig, PresharedKey, Profile, PublicKey, SessionPath, Tunnel, TunnelError, TunnelId,
    TunnelStatus,
};
use std::net::{IpAddr, SocketAddr};

impl FleetState {
    /// The state of a session's tunnel, capped by that of its host's tunnel. An idle session sends
    /// nothing that could remain unanswered, so its own state machine would report `Encrypted`
    /// until its keys expire; the host tunnel carries a request every few seconds over the same
    /// path.
    pub(super) fn session_report(&self, entry: &SessionEntry) -> TunnelReport {
        let report = tunnel_report(&entry.tunnel);
        let host_answers = self
            .host_tunnel(entry.host)
            .is_some_and(|host| host.status() == TunnelStatus::Encrypted);
        match report.state {
            TunnelState::Encrypted if !host_answers => {
                TunnelReport { state: TunnelState::Stale, ..report }
            }
            _ => report,
        }
    }

    /// A session's tunnel. It is created again when it does not answer and its host has another
    /// endpoint by now.
    pub(super) fn session_tunnel(&self, session: SessionId) -> Option<Tunnel> {
        let entry = self.sessions().get(&session).cloned()?;
        let host_endpoint = self.host_tunnel(entry.host).and_then(|tunnel| tunnel.stats().endpoint);
        let unanswered = entry.tunnel.status() != TunnelStatus::Encrypted;
        if unanswered && host_endpoint.is_some() && host_endpoint != entry.tunnel.stats().endpoint {
            let recreated = self.add_session(
                session,
                entry.host,
                PeerConfig { endpoint: host_endpoint, ..entry.config },
            );
            return recreated.ok();
        }
        Some(entry.tunnel)
    }

    /// Initiates handshakes for the sessions of a host whose tunnels do not answer: after a restart
    /// they are restored before the host's endpoint is known.
    pub(super) fn reconnect_sessions(&self, host: HostId) {
        let of_host = |entry: &SessionEntry| {
            entry.host == host && entry.tunnel.status() != TunnelStatus::Encrypted
        };
        let silent: Vec<_> =
            self.sessions().iter().filter(|(_, entry)| of_host(entry)).map(|(id, _)| *id).collect();
        for session in silent {
            if let Some(tunnel) = self.session_tunnel(session) {
                tunnel.initiate();
            }
        }
    }

    pub(super) fn add_session(
        &self,
        session: SessionId,
        host: HostId,
        config: PeerConfig,
    ) -> Result<Tunnel, TunnelError> {
        let mut sessions = self.sessions();
        let path = sessions.get(&session).map_or_else(SessionPath::new, |entry| {
            self.add_closed(&entry.tunnel);
            entry.path.clone()
        });
        self.hub.remove(TunnelId(session.0));
        let tunnel = self.hub.add_peer(config.clone())?;
        sessions.insert(session, SessionEntry { host, tunnel: tunnel.clone(), config, path });
        drop(sessions);
        tunnel.initiate();
        Ok(tunnel)
    }

    pub(super) fn session_peer(
        &self,
        session: SessionId,
        address: IpAddr,
        key: PublicKey,
        psk: PresharedKey,
        endpoint: Option<SocketAddr>,
    ) -> PeerConfig {
        PeerConfig {
            id: TunnelId(session.0),
            private_key: self.config.private_key.clone(),
            peer_public_key: key,
            preshared_key: psk,
            endpoint,
            local_addr: self.config.address,
            peer_addr: address,
            keepalive: None,
            profile: Profile::Stream,
        }
    }

    pub(super) fn close_session(&self, session: SessionId) {
        if let Some(entry) = self.sessions().remove(&session) {
            self.add_closed(&entry.tunnel);
        }
        self.hub.remove(TunnelId(session.0));
        self.close_shared(session);
    }
}
