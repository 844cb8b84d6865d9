//! Sessions with what their tunnels and streams report now.

use crate::broker::core::session_tracker::SessionTracker;
use crate::broker::core::stream_registry::StreamRegistry;
use crate::broker::model::{SessionView, TunnelReport, TunnelState};
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::route::SessionRoute;
use crate::domain::session::{Session, State};
use crate::domain::session_times::SessionLimits;
use crate::domain::upstream::StreamPolicy;
use crate::domain::workspace::Workspace;
use crate::domain::{OrganizationId, Result, Timestamp};
use crate::store::Tx;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Clone)]
pub(in crate::broker) struct SessionViews {
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) streams: StreamRegistry,
    pub(in crate::broker) tracker: SessionTracker,
}

/// What a session's workspace says about it now.
#[derive(Clone, Copy)]
pub(in crate::broker) struct WorkspaceTerms {
    policy: StreamPolicy,
    limits: SessionLimits,
}

impl WorkspaceTerms {
    pub(in crate::broker) fn of(workspace: &Workspace) -> Self {
        Self { policy: workspace.driver().policy(), limits: workspace.session_limits }
    }
}

/// The terms of the organization's workspaces of these sessions, by their ids.
pub(in crate::broker) fn load_terms(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    sessions: &[Session],
) -> Result<HashMap<String, WorkspaceTerms>> {
    let ids = || sessions.iter().map(|session| &session.workspace_id);
    let mut limits = tx.session_limits(organization, ids())?;
    let policies = tx.stream_policies(organization, ids())?.into_iter();
    Ok(policies
        .map(|(id, policy)| {
            let limits = limits.remove(&id).unwrap_or_default();
            (id, WorkspaceTerms { policy, limits })
        })
        .collect())
}

impl SessionViews {
    pub(in crate::broker) fn tunnel_report(&self, session: &Session) -> TunnelReport {
        let tunnel = if session.state.is_live() { self.fleet.tunnel(session.id) } else { None };
        tunnel.unwrap_or_else(|| absent_tunnel(session))
    }

    /// A session with its tunnel's report, its stream counts and what its workspace says about it.
    pub(in crate::broker) fn session_view(
        &self,
        session: Session,
        terms: Option<WorkspaceTerms>,
        now: Timestamp,
    ) -> SessionView {
        let (viewers, browser_rtt) = self.streams.stream_stats(session.id);
        let tunnel = self.tunnel_report(&session);
        let terms_of_active = terms.filter(|_| session.state == State::Active);
        let extendable_until = terms_of_active.and_then(|terms| {
            let times = self.tracker.times(terms.limits);
            times.extendable_until(session.created_at, session.expires_at)
        });
        SessionView {
            tunnel,
            browser_rtt,
            viewers,
            policy: terms.map(|terms| terms.policy),
            extendable_until,
            idle_end: self.tracker.idle_end(session.id, now),
            session,
        }
    }

    pub(in crate::broker) fn session_views(
        &self,
        sessions: Vec<Session>,
        terms: &HashMap<String, WorkspaceTerms>,
        now: Timestamp,
    ) -> Vec<SessionView> {
        let view = |session: Session| {
            let terms = terms.get(session.workspace_id.as_str()).copied();
            self.session_view(session, terms, now)
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
