//! The transaction that evaluates a launch.

use crate::broker::catalog::placement::{FleetSnapshot, PlacementRequest};
use crate::broker::core::answers::{WORKSPACE, denial_error, invalid_token};
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::unit_of_work::{AuditedTx, Decision};
use crate::domain::audit::{Action, Reason};
use crate::domain::policy;
use crate::domain::principal::Principal;
use crate::domain::session::{Session, State};
use crate::domain::session_times::SessionTimes;
use crate::domain::upstream::Fingerprint;
use crate::domain::workspace::{ReadinessCheck, Workspace};
use crate::domain::{Error, Result, SessionId, Timestamp, WorkspaceKey};
use crate::store::SeatKey;

/// Result of the transaction that evaluates a launch.
pub(super) enum LaunchDecision {
    /// The caller's session is active.
    Resume(Box<Session>, Box<Workspace>),
    /// The caller's session is starting or closing.
    Wait(SessionId),
    /// The session row, seat and address exist; the desktop does not.
    Start(Box<Session>, Box<Workspace>, Option<Fingerprint>),
}

/// Input of the transaction that evaluates a launch.
pub(super) struct LaunchRequest {
    pub(super) caller: Principal,
    pub(super) context: policy::Context,
    pub(super) workspace: WorkspaceKey,
    pub(super) session_id: SessionId,
    pub(super) fleet: FleetSnapshot,
    pub(super) now: Timestamp,
    pub(super) entry: AuditEntryBuilder,
    /// The installation's.
    pub(super) times: SessionTimes,
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
                    tx.add_entry(&entry.in_session(&session).reason(Reason::Resumed));
                    Ok(Decision::Allowed(LaunchDecision::Resume(
                        Box::new(session),
                        Box::new(workspace),
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
            seed: self.session_id.0.as_u64_pair().0,
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
        Ok(Decision::Allowed(LaunchDecision::Start(Box::new(session), Box::new(workspace), pin)))
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
