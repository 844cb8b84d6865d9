//! Sessions with what their tunnels and streams report now.

use crate::broker::core::stream_registry::StreamRegistry;
use crate::broker::model::{SessionView, TunnelReport, TunnelState};
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::route::SessionRoute;
use crate::domain::session::Session;
use crate::domain::upstream::StreamPolicy;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Clone)]
pub(in crate::broker) struct SessionViews {
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) streams: StreamRegistry,
}

impl SessionViews {
    pub(in crate::broker) fn tunnel_report(&self, session: &Session) -> TunnelReport {
        let tunnel = if session.state.is_live() { self.fleet.tunnel(session.id) } else { None };
        tunnel.unwrap_or_else(|| absent_tunnel(session))
    }

    /// A session with its tunnel's report, its stream counts and its workspace's policy.
    pub(in crate::broker) fn session_view(
        &self,
        session: Session,
        policy: Option<StreamPolicy>,
    ) -> SessionView {
        let (viewers, browser_rtt) = self.streams.stream_stats(session.id);
        let tunnel = self.tunnel_report(&session);
        SessionView { session, tunnel, browser_rtt, viewers, policy }
    }

    pub(in crate::broker) fn session_views(
        &self,
        sessions: Vec<Session>,
        policies: &HashMap<String, StreamPolicy>,
    ) -> Vec<SessionView> {
        let view = |session: Session| {
            let policy = policies.get(session.workspace_id.as_str()).copied();
            self.session_view(session, policy)
        };
        sessions.into_iter().map(view).collect()
    }
}

/// Report of a session without a tunnel here: down, or none for a direct target.
fn absent_tunnel(session: &Session) -> TunnelReport {
    let state = if matches!(session.route, SessionRoute::Direct(_)) {
        TunnelState::None
    } else {
        TunnelState::Down
    };
    TunnelReport {
        state,
        last_handshake_at: None,
        tx_bytes: 0,
        rx_bytes: 0,
        rtt: None,
        desktop_rtt: None,
        retransmits: 0,
        endpoint: None,
    }
}
