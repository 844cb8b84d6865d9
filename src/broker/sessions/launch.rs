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

use crate::broker::catalog::placement::Placements;
use crate::broker::catalog::workspace_view::{UpstreamSummary, workspace_view};
use crate::broker::core::answers::organization_of;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::changes::Changes;
use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::session_tracker::{SessionTracker, TrackedSession};
use crate::broker::core::settings::Settings;
use crate::broker::core::task::spawn_to_completion;
use crate::broker::core::teardown::Teardown;
use crate::broker::core::text::json_int;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::model::Launched;
use crate::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, Endpoint, FleetError, HostFleet, ProbeFailure,
};
use crate::broker::sessions::launch_decision::{LaunchDecision, LaunchRequest, host_detail};
use crate::broker::sessions::view::{SessionViews, WorkspaceTerms};
use crate::domain::audit::{Action, Reason};
use crate::domain::principal::{Principal, PrincipalId};
use crate::domain::route::{SessionRoute, TargetSpec};
use crate::domain::session::{EndReason, Event, Session, State};
use crate::domain::upstream::Fingerprint;
use crate::domain::user::RequestSource;
use crate::domain::workspace::{DesktopAuthentication, Workspace};
use crate::domain::{Error, ErrorKind, Result, SessionId, WorkspaceId, WorkspaceKey};
use crate::store::LeaseRow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

#[derive(Clone)]
pub struct Launcher {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) placements: Placements,
    pub(in crate::broker) views: SessionViews,
    pub(in crate::broker) changes: Changes,
    pub(in crate::broker) tracker: SessionTracker,
    pub(in crate::broker) teardown: Teardown,
    pub(in crate::broker) settings: Arc<Settings>,
}

impl Launcher {
    /// Launches a workspace, or returns the caller's active session in it.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` by role or for want of a second factor; `Conflict` in maintenance or
    /// in use by somebody else; `Unavailable` when no host is connected or the desktop did not
    /// start.
    pub async fn launch(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<Launched> {
        let (this, source, caller, id) = (self.clone(), source.clone(), caller.clone(), id.clone());
        spawn_to_completion(async move { this.run_launch(&source, &caller, &id).await }).await
    }

    async fn run_launch(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<Launched> {
        let longest = self.settings.launch_timeout
            + crate::broker::core::teardown::STOP_TIMEOUT
            + Duration::from_secs(2);
        let deadline = Instant::now() + longest;
        let workspace = WorkspaceKey { organization_id: organization_of(caller)?, id: id.clone() };
        loop {
            let request = LaunchRequest {
                caller: caller.clone(),
                context: self.store.policy_context(source, caller),
                workspace: workspace.clone(),
                session_id: SessionId::new(),
                fleet: self.placements.snapshot_for(&workspace).await?,
                now: self.store.now(),
                entry: self.store.entry(source, Action::LaunchWorkspace).by_caller(caller),
                times: self.settings.session_times,
                network: self.settings.session_network,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match self.store.transact(move |tx| request.evaluate(tx)).await {
                Ok(LaunchDecision::Resume(session, workspace)) => {
                    return self.launch_view(caller, *session, *workspace).await;
                }
                Ok(LaunchDecision::Start(session, workspace, pin)) => {
                    return self.start_desktop(source, caller, *session, *workspace, pin).await;
                }
                Ok(LaunchDecision::Wait(_))
                | Err(Error { kind: ErrorKind::Conflict, source: Some(_), .. })
                    if left.is_zero() =>
                {
                    let entry = self
                        .store
                        .entry(source, Action::LaunchWorkspace)
                        .by_caller(caller)
                        .on_workspace_id(id);
                    self.store.write_entry(entry.failed(Reason::Busy)).await?;
                    return Err(Error::unavailable(
                        "Your session in this workspace is still starting or closing. Try again in a moment.",
                    ));
                }
                Ok(LaunchDecision::Wait(session)) => {
                    self.teardown
                        .wait_for_session(session, left, |s| {
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
        source: &RequestSource,
        caller: &Principal,
        session: Session,
        workspace: Workspace,
        pin: Option<Fingerprint>,
    ) -> Result<Launched> {
        let tracked = TrackedSession {
            host_id: session.host_id,
            is_active: false,
            single_seat: workspace.single_seat,
            limits: workspace.session_limits,
        };
        self.tracker.track(session.id, tracked);
        self.changes.publish_session(&session, workspace.single_seat);
        let settings = &self.settings;
        let entry = self
            .store
            .entry(source, Action::LaunchWorkspace)
            .by_caller(caller)
            .on_workspace(&workspace)
            .in_session(&session);
        let (Some(wanted), Some(owner_id)) =
            (endpoint_of(&session, &workspace), owner_id(session.principal))
        else {
            let error =
                FleetError::Failed("the session's route does not match its workspace".to_owned());
            return self.roll_back(session, entry, &error).await;
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
            timeout(settings.launch_timeout, self.fleet.start(session.host_id, order)).await;
        let took = json_int(crate::broker::core::text::millis_u64(began.elapsed()));
        let entry = entry
            .with("host_id", host_detail(&session))
            .with("way", session.route.to_string())
            .with("launch_ms", took);
        let started = started
            .unwrap_or(Err(FleetError::Timeout))
            .and_then(|desktop| require_certificate(desktop, &workspace));
        let desktop = match started {
            Ok(desktop) => desktop,
            Err(error) => return self.roll_back(session, entry, &error).await,
        };
        match self.activate(&session, desktop, entry).await {
            Ok(Some(active)) => {
                self.tracker.set_active(active.id);
                self.changes.publish_session(&active, workspace.single_seat);
                self.launch_view(caller, active, workspace).await
            }
            // The session was ended while it started, perhaps before the host had a desktop to
            // stop.
            Ok(None) => {
                self.fleet.drop_keys(session.id);
                self.teardown.stop_desktop(&session).await;
                self.tracker.untrack(session.id);
                Err(Error::conflict("The session was ended while it was starting."))
            }
            Err(error) => {
                // The activation is not recorded, so it did not happen. The row stays Creating and
                // the reconciler closes it.
                tracing::error!(session = %session.id, error = %error, "a started desktop could not be recorded; it is rolled back");
                self.fleet.drop_keys(session.id);
                self.teardown.stop_desktop(&session).await;
                Err(error)
            }
        }
    }

    async fn activate(
        &self,
        session: &Session,
        desktop: DesktopStarted,
        entry: AuditEntryBuilder,
    ) -> Result<Option<Session>> {
        let lease = LeaseRow {
            peer_public_key: desktop.peer_public_key.clone(),
            psk_sealed: self.sealer.seal(
                SealingPurpose::SessionPresharedKey(session.id),
                desktop.preshared_key.expose(),
            ),
            port: i32::from(desktop.port),
            credential_sealed: self.sealer.seal(
                SealingPurpose::DesktopCredential(session.id),
                desktop.credential.expose().as_bytes(),
            ),
            certificate: desktop.certificate.map(|certificate| hex::encode(certificate.0)),
        };
        let session = session.clone();
        let tunnel = self.views.tunnel_report(&session).state;
        let entry = entry.with("tunnel_status", tunnel.as_str());
        self.store
            .write(move |tx| {
                let Some(next) = tx.transition(&session, Event::Ready, &entry)? else {
                    return Ok(None);
                };
                tx.set_session_lease(next.id, &lease)?;
                tx.add_entry(&entry);
                let peer_public_key =
                    Some(lease.peer_public_key.clone()).filter(|key| !key.is_empty());
                Ok(Some(Session { peer_public_key, ..next }))
            })
            .await
    }

    /// Undoes a failed start.
    async fn roll_back(
        &self,
        session: Session,
        entry: AuditEntryBuilder,
        error: &FleetError,
    ) -> Result<Launched> {
        tracing::warn!(session = %session.id, host = host_detail(&session), %error, "a desktop did not start");
        self.fleet.drop_keys(session.id);
        self.teardown.stop_desktop(&session).await;
        let (reason, message) = match error {
            FleetError::NotConnected => (
                Reason::HostNotConnected,
                "The workspace host is not connected right now. Try again in a moment.",
            ),
            FleetError::Timeout => (
                Reason::Timeout,
                "The desktop did not start in time. Try again; if it stays, tell your administrator.",
            ),
            FleetError::Refused(_) => (
                Reason::Refused,
                "The workspace host could not start this desktop. Tell your administrator.",
            ),
            FleetError::Failed(_) => (
                Reason::Failed,
                "The desktop did not start. Try again; if it stays, tell your administrator.",
            ),
            FleetError::Probe(how) => {
                (Reason::External(how.reason().to_owned()), how.user_message())
            }
        };
        // The certificate is stored as offered, so that an administrator can accept it. No stream
        // will be opened that could do so.
        let shown = match error {
            FleetError::Probe(ProbeFailure::Certificate { certificate: seen, reason: why }) => {
                let refused = entry
                    .clone()
                    .action(Action::CertificateRefused)
                    .with("fingerprint", seen.fingerprint.to_string());
                let offered = seen.offered(&refused);
                Some((
                    refused
                        .with("subject", offered.subject.clone())
                        .denied(Reason::External((*why).to_owned())),
                    offered,
                ))
            }
            FleetError::Probe(_)
            | FleetError::NotConnected
            | FleetError::Timeout
            | FleetError::Refused(_)
            | FleetError::Failed(_) => None,
        };
        let entry = entry.failed(reason).with(
            "error",
            crate::broker::core::text::truncate_utf8(&error.to_string(), 300).to_owned(),
        );
        let rolled_back = session.clone();
        self.store
            .write(move |tx| {
                if let Some((refused, offered)) = &shown {
                    tx.set_offered_certificate(&session.workspace_key(), offered)?;
                    tx.add_entry(refused);
                }
                tx.add_entry(&entry);
                // If the session cannot be closed here, another task closed it and completes it.
                let system = entry.clone().by_system();
                if let Some(closing) =
                    tx.transition(&session, Event::Close(EndReason::LaunchFailed), &entry)?
                {
                    tx.release(&closing, &system)?;
                }
                Ok(())
            })
            .await?;
        let single_seat =
            self.tracker.get(rolled_back.id).is_none_or(|tracked| tracked.single_seat);
        self.changes.publish_session(&rolled_back, single_seat);
        self.tracker.untrack(rolled_back.id);
        Err(Error::unavailable(message))
    }

    async fn launch_view(
        &self,
        caller: &Principal,
        session: Session,
        workspace: Workspace,
    ) -> Result<Launched> {
        let (key, user) = (workspace.key(), caller.user_id());
        let known = self.store.read(move |tx| UpstreamSummary::load(tx, &key, user)).await?;
        let terms = WorkspaceTerms::of(&workspace);
        let times = self.tracker.times(workspace.session_limits);
        let workspace =
            workspace_view(workspace, std::slice::from_ref(&session), caller, true, known);
        Ok(Launched {
            session: self.views.session_view(session, Some(terms), self.store.now()),
            workspace,
            max_duration: times.max_duration,
            idle_timeout: times.idle_timeout,
        })
    }
}

/// The endpoint that the workspace's target names. `None`: the session was created for another
/// route.
fn endpoint_of(session: &Session, workspace: &Workspace) -> Option<Endpoint> {
    match (&session.route, workspace.driver().target()) {
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

/// A started desktop that has a certificate must report it; without it the gateway cannot
/// authenticate the desktop.
fn require_certificate(
    desktop: DesktopStarted,
    workspace: &Workspace,
) -> Result<DesktopStarted, FleetError> {
    let started = workspace.driver().started_desktop();
    match started.map(|desktop| desktop.authentication) {
        Some(DesktopAuthentication::AccountAndCertificate) if desktop.certificate.is_none() => {
            Err(FleetError::Failed("its host named no certificate for it".to_owned()))
        }
        Some(DesktopAuthentication::AccountAndCertificate | DesktopAuthentication::Password)
        | None => Ok(desktop),
    }
}

/// Names the home directory of a principal on a host; the system has none.
fn owner_id(principal: PrincipalId) -> Option<Uuid> {
    match principal {
        PrincipalId::User(id) => Some(id.0),
        PrincipalId::ApiKey(id) => Some(id.0),
        PrincipalId::System => None,
    }
}
