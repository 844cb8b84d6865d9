//! Launch: from permit to desktop, once per user and workspace.
//!
//! ```text
//! evaluate (one transaction) ── resume: this user's session is active ────────────> Launched
//!    │  ^                    └─ wait: it is starting or closing (bounded), then retry
//!    │  └─────────────────────────┘
//!    └─ start: row Creating + seat + address, create_session
//!          └─ host starts desktop and tunnel ── Ready + lease, launch_workspace ──> Launched
//!                                            └─ Close(launch_failed) + Release, launch_workspace error
//! ```
//!
//! Runs in a task of its own: a client that disconnects neither aborts a launch nor leaves it half
//! done.

use crate::broker::Broker;
use crate::broker::catalog::placement::{FleetSnapshot, PlacementRequest};
use crate::broker::catalog::workspaces::{UpstreamSummary, workspace_view};
use crate::broker::core::answers::WORKSPACE;
use crate::broker::core::answers::denial_error;
use crate::broker::core::answers::invalid_token;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::stream_registry::Topic;
use crate::broker::core::text::json_int;
use crate::broker::core::unit_of_work::{AuditedTx, Decision};
use crate::broker::model::Launched;
use crate::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, Endpoint, FleetError, ProbeFailure,
};
use crate::domain::audit::Action;
use crate::domain::policy;
use crate::domain::principal::{Principal, PrincipalId};
use crate::domain::route::{SessionRoute, TargetSpec};
use crate::domain::session::{EndReason, Event, Session, State};
use crate::domain::upstream::Fingerprint;
use crate::domain::user::RequestSource;
use crate::domain::workspace::{Workspace, WorkspaceKind};
use crate::domain::{Error, ErrorKind, Result, SessionId, Timestamp, WorkspaceId};
use crate::store::{LeaseRow, SeatKey};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// Result of the transaction that evaluates a launch.
enum LaunchDecision {
    /// The caller's session is active.
    Resume(Box<Session>, Box<Workspace>),
    /// The caller's session is starting or closing.
    Wait(SessionId),
    /// The session row, seat and address exist; the desktop does not.
    Start(Box<Session>, Box<Workspace>, Option<Fingerprint>),
}

/// Input of the transaction that evaluates a launch.
struct LaunchRequest {
    caller: Principal,
    context: policy::Context,
    workspace_id: WorkspaceId,
    session_id: SessionId,
    fleet: FleetSnapshot,
    now: Timestamp,
    entry: AuditEntryBuilder,
    ttl: Duration,
    network: (std::net::Ipv4Addr, u8),
}

impl Broker {
    /// Launches a workspace, or returns the caller's active session in it.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` by role or for want of a second factor; `Conflict` in maintenance or
    /// in use by somebody else; `Unavailable` when no host is connected or the desktop did not
    /// start.
    pub async fn launch(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<Launched> {
        let (broker, origin, caller, id) =
            (self.clone(), origin.clone(), caller.clone(), id.clone());
        self.spawn_to_completion(async move { broker.run_launch(&origin, &caller, &id).await })
            .await
    }

    async fn run_launch(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<Launched> {
        let patience = self.inner.settings.launch_timeout
            + crate::broker::core::teardown::STOP_TIMEOUT
            + Duration::from_secs(2);
        let deadline = Instant::now() + patience;
        loop {
            let wish = LaunchRequest {
                caller: caller.clone(),
                context: self.policy_context(origin, caller),
                workspace_id: id.clone(),
                session_id: SessionId::new(),
                fleet: self.fleet_snapshot_for(id).await?,
                now: self.now(),
                entry: self.audit_entry(origin, Action::LaunchWorkspace).by_caller(caller),
                ttl: self.inner.settings.session_ttl,
                network: self.inner.settings.session_network,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match self.transact(move |book| wish.evaluate(book)).await {
                Ok(LaunchDecision::Resume(session, workspace)) => {
                    return self.launch_view(caller, *session, *workspace).await;
                }
                Ok(LaunchDecision::Start(session, workspace, pin)) => {
                    return self.start_desktop(origin, caller, *session, *workspace, pin).await;
                }
                Ok(LaunchDecision::Wait(_))
                | Err(Error { kind: ErrorKind::Conflict, source: Some(_), .. })
                    if left.is_zero() =>
                {
                    let note = self
                        .audit_entry(origin, Action::LaunchWorkspace)
                        .by_caller(caller)
                        .on_workspace_id(id);
                    self.write_entry(note.failed("busy")).await?;
                    return Err(Error::unavailable(
                        "Your session in this workspace is still starting or closing. Try again in a moment.",
                    ));
                }
                Ok(LaunchDecision::Wait(session)) => {
                    self.wait_for_session(session, left, |s| {
                        matches!(s.state, State::Active | State::Closed(_))
                    })
                    .await?;
                }
                // Of two transactions that took the same seat or address, the store committed one;
                // the other retries.
                Err(Error { kind: ErrorKind::Conflict, source: Some(_), .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts the desktop of a new session; activates the session or rolls it back.
    async fn start_desktop(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        session: Session,
        workspace: Workspace,
        pin: Option<Fingerprint>,
    ) -> Result<Launched> {
        self.streams().track(session.id);
        let organization = session.organization_id;
        self.streams().publish(Some(organization), &[Topic::Sessions, Topic::Workspaces]);
        let settings = &self.inner.settings;
        let note = self
            .audit_entry(origin, Action::LaunchWorkspace)
            .by_caller(caller)
            .on_workspace(&workspace)
            .in_session(&session);
        let (Some(wanted), Some(owner_id)) =
            (endpoint_of(&session, &workspace), owner_id(session.principal))
        else {
            let error =
                FleetError::Failed("the session's route does not match its workspace".to_owned());
            return self.roll_back(session, note, &error).await;
        };
        let order = DesktopOrder {
            session_id: session.id,
            endpoint: wanted,
            owner_id,
            user_name: caller.display_name().to_owned(),
            workspace: workspace.clone(),
            pin,
            address: session.address,
            grace: settings.grace,
        };
        let began = Instant::now();
        let started =
            timeout(settings.launch_timeout, self.inner.fleet.start(session.host_id, order)).await;
        let took = json_int(crate::broker::core::text::millis_u64(began.elapsed()));
        let note = note
            .with("host_id", host_detail(&session))
            .with("way", session.route.to_string())
            .with("launch_ms", took);
        let started = started
            .unwrap_or(Err(FleetError::Timeout))
            .and_then(|desktop| require_certificate(desktop, &workspace));
        let desktop = match started {
            Ok(desktop) => desktop,
            Err(error) => return self.roll_back(session, note, &error).await,
        };
        match self.activate(&session, desktop, note).await {
            Ok(Some(active)) => {
                self.streams().publish(Some(organization), &[Topic::Sessions, Topic::Workspaces]);
                self.launch_view(caller, active, workspace).await
            }
            // The session was ended while it started, perhaps before the host had a desktop to
            // stop.
            Ok(None) => {
                self.inner.fleet.drop_keys(session.id);
                self.stop_desktop(&session).await;
                self.streams().untrack(session.id);
                Err(Error::conflict("The session was ended while it was starting."))
            }
            Err(error) => {
                // The activation is not recorded, so it did not happen. The row stays Creating and
                // the reconciler closes it.
                tracing::error!(session = %session.id, error = %error, "a started desktop could not be recorded; it is rolled back");
                self.inner.fleet.drop_keys(session.id);
                self.stop_desktop(&session).await;
                Err(error)
            }
        }
    }

    async fn activate(
        &self,
        session: &Session,
        desktop: DesktopStarted,
        note: AuditEntryBuilder,
    ) -> Result<Option<Session>> {
        let lease = LeaseRow {
            peer_public_key: desktop.peer_public_key.clone(),
            psk_sealed: self
                .inner
                .vault
                .seal(&psk_purpose(session.id), desktop.preshared_key.expose()),
            port: i32::from(desktop.port),
            credential_sealed: self
                .inner
                .vault
                .seal(&credential_purpose(session.id), desktop.credential.expose().as_bytes()),
            certificate: desktop.certificate.map(|certificate| hex::encode(certificate.0)),
        };
        let session = session.clone();
        let tunnel = self.tunnel_report(&session).state;
        let note = note.with("tunnel_status", tunnel.as_str());
        self.write(move |book| {
            let Some(next) = book.transition(&session, Event::Ready, &note)? else {
                return Ok(None);
            };
            book.set_session_lease(next.id, &lease)?;
            book.add_entry(&note);
            let peer_public_key = Some(lease.peer_public_key.clone()).filter(|key| !key.is_empty());
            Ok(Some(Session { peer_public_key, ..next }))
        })
        .await
    }

    /// Undoes a failed start.
    async fn roll_back(
        &self,
        session: Session,
        note: AuditEntryBuilder,
        error: &FleetError,
    ) -> Result<Launched> {
        tracing::warn!(session = %session.id, host = host_detail(&session), %error, "a desktop did not start");
        self.inner.fleet.drop_keys(session.id);
        self.stop_desktop(&session).await;
        let (reason, message) = match error {
            FleetError::NotConnected => (
                "host_not_connected",
                "The workspace host is not connected right now. Try again in a moment.",
            ),
            FleetError::Timeout => (
                "timeout",
                "The desktop did not start in time. Try again; if it stays, tell your administrator.",
            ),
            FleetError::Refused(_) => (
                "refused",
                "The workspace host could not start this desktop. Tell your administrator.",
            ),
            FleetError::Failed(_) => (
                "failed",
                "The desktop did not start. Try again; if it stays, tell your administrator.",
            ),
            FleetError::Probe(how) => (how.reason(), how.user_message()),
        };
        // The certificate is stored as offered, so that an administrator can accept it. No stream
        // will be opened that could do so.
        let shown = match error {
            FleetError::Probe(ProbeFailure::Certificate { certificate: seen, reason: why }) => {
                let refused = note
                    .clone()
                    .action(Action::CertificateRefused)
                    .with("fingerprint", seen.fingerprint.to_string());
                let offered = seen.offered(&refused);
                Some((refused.with("subject", offered.subject.clone()).denied(why), offered))
            }
            FleetError::Probe(_)
            | FleetError::NotConnected
            | FleetError::Timeout
            | FleetError::Refused(_)
            | FleetError::Failed(_) => None,
        };
        let note = note.failed(reason).with(
            "error",
            crate::broker::core::text::truncate_utf8(&error.to_string(), 300).to_owned(),
        );
        let (id, organization) = (session.id, session.organization_id);
        self.write(move |book| {
            if let Some((refused, offered)) = &shown {
                book.set_offered_certificate(&session.workspace_id, offered)?;
                book.add_entry(refused);
            }
            book.add_entry(&note);
            // If the session cannot be closed here, another task closed it and completes it.
            let system = note.clone().by_system();
            if let Some(closing) =
                book.transition(&session, Event::Close(EndReason::LaunchFailed), &note)?
            {
                book.release(&closing, &system)?;
            }
            Ok(())
        })
        .await?;
        self.streams().untrack(id);
        self.streams().publish(Some(organization), &[Topic::Sessions, Topic::Workspaces]);
        Err(Error::unavailable(message))
    }

    async fn launch_view(
        &self,
        caller: &Principal,
        session: Session,
        workspace: Workspace,
    ) -> Result<Launched> {
        let (id, user) = (workspace.id.clone(), caller.user_id());
        let known = self.inner.store.read(move |tx| UpstreamSummary::load(tx, &id, user)).await?;
        let policy = workspace.policy;
        let workspace =
            workspace_view(workspace, std::slice::from_ref(&session), caller, true, known);
        let max_duration = session.expires_at.since(session.created_at);
        Ok(Launched { session: self.session_view(session, Some(policy)), workspace, max_duration })
    }
}

impl LaunchRequest {
    fn evaluate(&self, book: &mut AuditedTx<'_, '_>) -> Decision<LaunchDecision> {
        let Some(workspace) = book.workspace(&self.workspace_id)? else {
            let note =
                self.entry.clone().action(Action::AccessDenied).on_workspace_id(&self.workspace_id);
            return book.deny(&note.denied("unknown"), Error::not_found(WORKSPACE));
        };
        let permit = match policy::authorize_launch(&self.caller, &workspace, &self.context) {
            Ok(permit) => permit,
            Err(denial @ policy::Denial::NotOwner) => {
                let note = self
                    .entry
                    .clone()
                    .action(Action::AccessDenied)
                    .on_workspace_id(&self.workspace_id);
                return book.deny(&note.denied(denial.as_str()), denial_error(denial, WORKSPACE));
            }
            Err(denial) => {
                let note = self.entry.clone().on_workspace(&workspace);
                return book.deny(&note.denied(denial.as_str()), denial_error(denial, WORKSPACE));
            }
        };
        let note = self.entry.clone().on_workspace(&workspace);
        if !book.principal_is_valid(&self.caller, self.context.now)? {
            return book.deny(&note.denied("signed_out"), invalid_token());
        }
        let principal = permit.principal();
        if let Some(session) = book.live_session_of(principal, &workspace.id)? {
            return match session.state {
                State::Active => {
                    book.add_entry(&note.in_session(&session).reason("resumed"));
                    Ok(Ok(LaunchDecision::Resume(Box::new(session), Box::new(workspace))))
                }
                State::Queued | State::Creating | State::Closing(_) | State::Closed(_) => {
                    Ok(Ok(LaunchDecision::Wait(session.id)))
                }
            };
        }
        if workspace.maintenance {
            let error = Error::conflict("This workspace is under maintenance. Try again later.");
            return book.deny(&note.denied("maintenance"), error);
        }
        // The seat's unique key decides a race; this check also finds sessions from before the
        // workspace became single-seat.
        if workspace.single_seat && !book.live_sessions_of_workspace(&workspace.id)?.is_empty() {
            let error = Error::conflict("Somebody else uses this workspace right now.");
            return book.deny(&note.denied("in_use"), error);
        }
        let seeker = PlacementRequest {
            principal,
            organization: workspace.organization_id,
            network: self.network,
            seed: self.session_id.0.as_u64_pair().0,
        };
        let place = match book.choose_placement(&workspace, &seeker, &self.fleet)? {
            Ok(place) => place,
            Err((word, error)) => return book.deny(&note.failed(word), error),
        };
        let session = Session {
            id: self.session_id,
            organization_id: workspace.organization_id,
            principal,
            principal_name: self.caller.name().to_owned(),
            login_id: self.caller.login_id(),
            workspace_id: workspace.id.clone(),
            workspace_name: workspace.name.clone(),
            workspace_kind: workspace.kind,
            host_id: place.host_id,
            route: place.way,
            state: State::Creating,
            address: place.address,
            mfa: permit.mfa(),
            peer_public_key: None,
            created_at: self.now,
            started_at: None,
            ended_at: None,
            expires_at: self.now.after(self.ttl),
            version: 1,
        };
        book.insert_session(&session, Some(seat_key(&workspace, &self.caller)))?;
        book.add_entry(
            &note
                .action(Action::CreateSession)
                .on_session(&session)
                .with("host_id", host_detail(&session))
                .with("way", session.route.to_string()),
        );
        let pin = if workspace.kind == WorkspaceKind::Html5 {
            book.upstream_state(&workspace.id)?.pinned.map(|(pin, _)| pin)
        } else {
            None
        };
        Ok(Ok(LaunchDecision::Start(Box::new(session), Box::new(workspace), pin)))
    }
}

/// The endpoint that the workspace's target names. `None`: the session was created for another
/// route.
fn endpoint_of(session: &Session, workspace: &Workspace) -> Option<Endpoint> {
    match (&session.route, &workspace.target) {
        (SessionRoute::OwnTunnel, None) => Some(Endpoint::Desktop),
        (SessionRoute::OwnTunnel, Some(TargetSpec::Service { name, .. })) => {
            Some(Endpoint::Service { name: name.clone() })
        }
        (SessionRoute::HostTunnel, Some(TargetSpec::Host { port, .. })) => {
            Some(Endpoint::HostPort { port: *port })
        }
        (SessionRoute::Direct(name), Some(TargetSpec::Direct { .. })) => {
            Some(Endpoint::Direct { name: name.clone() })
        }
        (SessionRoute::OwnTunnel | SessionRoute::HostTunnel | SessionRoute::Direct(_), _) => None,
    }
}

/// A started RDP desktop must report its certificate; without it the gateway cannot authenticate
/// the desktop.
fn require_certificate(
    desktop: DesktopStarted,
    workspace: &Workspace,
) -> Result<DesktopStarted, FleetError> {
    if workspace.kind == WorkspaceKind::Rdp
        && workspace.is_agent_started()
        && desktop.certificate.is_none()
    {
        return Err(FleetError::Failed("its host named no certificate for it".to_owned()));
    }
    Ok(desktop)
}

/// The host's id in the audit log; null for a direct target.
fn host_detail(session: &Session) -> Option<String> {
    session.host_id.map(|id| id.to_string())
}

/// Names the home directory of a principal on a host; the system has none.
fn owner_id(principal: PrincipalId) -> Option<Uuid> {
    match principal {
        PrincipalId::User(id) => Some(id.0),
        PrincipalId::ApiKey(id) => Some(id.0),
        PrincipalId::System => None,
    }
}

/// One seat per single-seat workspace, otherwise one per principal.
fn seat_key(workspace: &Workspace, caller: &Principal) -> SeatKey {
    if workspace.single_seat {
        SeatKey::workspace(&workspace.id)
    } else {
        SeatKey::principal(&workspace.id, caller.id())
    }
}

pub(in crate::broker) fn psk_purpose(session: SessionId) -> String {
    format!("session psk:{session}")
}

pub(in crate::broker) fn credential_purpose(session: SessionId) -> String {
    format!("desktop credential:{session}")
}
