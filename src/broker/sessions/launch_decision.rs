//! The transaction that evaluates a launch.

use crate::broker::catalog::fleet_snapshot::FleetSnapshot;
use crate::broker::catalog::placement::{AvailableHosts, PlacementRequest};
use crate::broker::core::answers::{WORKSPACE, denial_error, invalid_token};
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::session_tracker::SessionTracker;
use crate::broker::core::unit_of_work::{AuditedTx, Decision};
use crate::broker::model::{Replacement, TunnelState};
use crate::broker::sessions::view::SessionViews;
use crate::domain::audit::{Action, Reason};
use crate::domain::policy;
use crate::domain::principal::Principal;
use crate::domain::session::{EndReason, Session, State};
use crate::domain::session_times::SessionTimes;
use crate::domain::upstream::Fingerprint;
use crate::domain::workspace::{ReadinessCheck, Workspace};
use crate::domain::{Error, HostId, Result, SessionId, Timestamp, WorkspaceKey};
use crate::store::SeatKey;

/// Result of the transaction that evaluates a launch.
pub(super) enum LaunchDecision {
    /// The caller's session is active; where it does not answer, a new one may replace it.
    Resume(Box<Session>, Box<Workspace>, Option<Replacement>),
    /// The caller's session, which did not answer, was closed to be replaced.
    Replace(Box<Session>),
    /// The caller's session is starting or closing.
    Wait(SessionId),
    /// The session row, seat, slot and address exist; the desktop does not.
    Start(Box<NewSession>),
}

/// A session whose desktop is to be started.
pub(super) struct NewSession {
    pub(super) session: Session,
    pub(super) workspace: Workspace,
    pub(super) pin: Option<Fingerprint>,
    /// Other hosts that could take it.
    pub(super) others: usize,
}

/// Input of the transaction that evaluates a launch.
pub(super) struct LaunchRequest {
    pub(super) caller: Principal,
    pub(super) context: policy::Context,
    pub(super) workspace: WorkspaceKey,
    pub(super) session_id: SessionId,
    pub(super) fleet: FleetSnapshot,
    pub(super) tracker: SessionTracker,
    /// Hosts that this launch tried already.
    pub(super) tried: Vec<HostId>,
    pub(super) now: Timestamp,
    pub(super) entry: AuditEntryBuilder,
    /// The installation's.
    pub(super) times: SessionTimes,
    pub(super) views: SessionViews,
    /// The caller wants a new desktop where the present one does not answer.
    pub(super) replace: bool,
    pub(super) network: (std::net::Ipv4Addr, u8),
}

impl LaunchRequest {
    pub(super) fn evaluate(&self, tx: &mut AuditedTx<'_, '_>) -> Result<Decision<LaunchDecision>> {
        // One that the caller does not see is as unknown as one that does not exist.
        let workspace = tx
            .workspace(&self.workspace)?
            .filter(|workspace| policy::can_view(&self.caller, workspace, &self.context));
        let Some(workspace) = workspace else {
            let entry = self.entry.clone().access_denied().on_workspace_id(&self.workspace.id);
            return tx.deny(&entry.denied(Reason::Unknown), Error::not_found(WORKSPACE));
        };
        let permit = match policy::authorize_launch(&self.caller, &workspace, &self.context) {
            Ok(permit) => permit,
            Err(denial) => {
                let entry = self.entry.clone().on_workspace(&workspace);
                return tx.deny(&entry.denied(denial), denial_error(denial, WORKSPACE));
            }
        };
        let entry = self.entry.clone().on_workspace(&workspace);
        if !tx.principal_is_valid(&self.caller, self.context.now)? {
            return tx.deny(&entry.denied(Reason::SignedOut), invalid_token());
        }
        let principal = permit.principal();
        if let Some(session) = tx.live_session_of(principal, &self.workspace)? {
            return match session.state {
                State::Active => {
                    let replacement = self.replacement(tx, &session, &workspace)?;
                    if self.replace && replacement.is_some() {
                        let entry = entry.action(Action::DisconnectSession).on_session(&session);
                        // One that was closed meanwhile is waited for.
                        let closed = tx.close(&session, EndReason::UserDisconnected, &entry)?;
                        return Ok(Decision::Allowed(match closed {
                            Some(closed) => LaunchDecision::Replace(Box::new(closed)),
                            None => LaunchDecision::Wait(session.id),
                        }));
                    }
                    tx.add_entry(&entry.in_session(&session).reason(Reason::Resumed));
                    Ok(Decision::Allowed(LaunchDecision::Resume(
                        Box::new(session),
                        Box::new(workspace),
                        replacement,
                    )))
                }
                State::Queued | State::Creating | State::Closing(_) | State::Closed(_) => {
                    Ok(Decision::Allowed(LaunchDecision::Wait(session.id)))
                }
            };
        }
        if workspace.maintenance {
            let error = Error::conflict("This workspace is under maintenance. Try again later.");
            return tx.deny(&entry.denied(Reason::Maintenance), error);
        }
        // The seat's unique key decides a race; this check also finds sessions from before the
        // workspace became single-seat.
        if workspace.single_seat && !tx.live_sessions_of_workspace(&self.workspace)?.is_empty() {
            let error = Error::conflict("Somebody else uses this workspace right now.");
            return tx.deny(&entry.denied(Reason::InUse), error);
        }
        let request = PlacementRequest {
            principal,
            organization: workspace.organization_id,
            network: self.network,
            session_id: self.session_id,
            tracker: &self.tracker,
            tried: &self.tried,
        };
        let place = match tx.choose_placement(&workspace, &request, &self.fleet)? {
            Ok(place) => place,
            Err((reason, error)) => return tx.deny(&entry.failed(reason), error),
        };
        let session = Session {
            id: self.session_id,
            organization_id: workspace.organization_id,
            principal,
            principal_name: self.caller.name().to_owned(),
            login_id: self.caller.login_id(),
            workspace_id: workspace.id.clone(),
            workspace_name: workspace.name.clone(),
            workspace_kind: workspace.kind(),
            host_id: place.host_id,
            route: place.way,
            state: State::Creating,
            address: place.address,
            mfa: permit.mfa(),
            peer_public_key: None,
            created_at: self.now,
            started_at: None,
            ended_at: None,
            expires_at: self.now.after(self.times.within(workspace.session_limits).duration),
            version: 1,
        };
        tx.insert_session(&session, Some(seat_key(&workspace, &self.caller)))?;
        tx.add_entry(
            &entry
                .action(Action::CreateSession)
                .on_session(&session)
                .with("host_id", host_detail(&session))
                .with("way", session.route.to_string()),
        );
        let pin = match workspace.driver().readiness() {
            ReadinessCheck::HttpAnswer { .. } => {
                tx.upstream_state(&self.workspace)?.pinned.map(|(pin, _)| pin)
            }
            ReadinessCheck::RfbGreeting | ReadinessCheck::Connection => None,
        };
        let new = NewSession { session, workspace, pin, others: place.others };
        Ok(Decision::Allowed(LaunchDecision::Start(Box::new(new))))
    }
}

impl LaunchRequest {
    /// Whether a new desktop can be started instead of an active one: its tunnel does not answer,
    /// and a host could take another now.
    fn replacement(
        &self,
        tx: &mut AuditedTx<'_, '_>,
        session: &Session,
        workspace: &Workspace,
    ) -> Result<Option<Replacement>> {
        match self.views.tunnel_report(session).state {
            TunnelState::Stale | TunnelState::Down => {}
            TunnelState::Connecting | TunnelState::Encrypted | TunnelState::None => {
                return Ok(None);
            }
        }
        if workspace.maintenance {
            return Ok(None);
        }
        let available = AvailableHosts::load(tx, workspace.organization_id, &self.fleet)?;
        let on_another_host =
            session.host_id.is_some_and(|host| !self.fleet.connected.contains(&host));
        Ok(available.can_run(workspace).then_some(Replacement { on_another_host }))
    }
}

/// The host's id in the audit log; null for a direct target.
pub(super) fn host_detail(session: &Session) -> Option<String> {
    session.host_id.map(|id| id.to_string())
}

/// One seat per single-seat workspace, otherwise one per principal.
fn seat_key(workspace: &Workspace, caller: &Principal) -> SeatKey {
    if workspace.single_seat {
        SeatKey::workspace(&workspace.key())
    } else {
        SeatKey::principal(&workspace.key(), caller.id())
    }
}
