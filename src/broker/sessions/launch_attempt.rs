//! One attempt to start the desktop of a new session on its host: the session becomes active, or is
//! rolled back.

use crate::broker::catalog::placement::slot_of;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::changes::{Changes, Topic};
use crate::broker::core::host_failures::HostFailures;
use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::session_tracker::{SessionTracker, SlotKind, TrackedSession};
use crate::broker::core::settings::Settings;
use crate::broker::core::teardown::Teardown;
use crate::broker::core::text::{json_int, millis_u64, sanitize_line, truncate_utf8};
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, Endpoint, FleetError, HostFleet, ProbeFailure,
};
use crate::broker::sessions::launch_decision::{NewSession, host_detail};
use crate::broker::sessions::view::SessionViews;
use crate::domain::audit::{Action, Reason};
use crate::domain::principal::{Principal, PrincipalId};
use crate::domain::route::{SessionRoute, TargetSpec};
use crate::domain::session::{EndReason, Event, Session};
use crate::domain::user::RequestSource;
use crate::domain::workspace::{DesktopAuthentication, Workspace};
use crate::domain::{Error, HostId, Result};
use crate::store::LeaseRow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

#[derive(Clone)]
pub(in crate::broker) struct DesktopStarter {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) views: SessionViews,
    pub(in crate::broker) changes: Changes,
    pub(in crate::broker) tracker: SessionTracker,
    pub(in crate::broker) teardown: Teardown,
    pub(in crate::broker) failures: HostFailures,
    pub(in crate::broker) settings: Arc<Settings>,
}

/// Limits of an attempt.
#[derive(Clone, Copy)]
pub(super) struct AttemptLimit {
    pub(super) timeout: Duration,
    /// Another host may be tried after this one.
    pub(super) may_retry: bool,
}

/// Result of an attempt.
pub(super) enum Attempt {
    Active(Box<Session>),
    /// Rolled back. `retry`: the host whose own failure it was, where another may be tried.
    Failed {
        error: Error,
        retry: Option<HostId>,
    },
}

impl Attempt {
    fn failed(error: Error) -> Self {
        Self::Failed { error, retry: None }
    }
}

impl DesktopStarter {
    /// # Errors
    /// When the store fails.
    pub(super) async fn attempt(
        &self,
        source: &RequestSource,
        caller: &Principal,
        new: NewSession,
        limit: AttemptLimit,
    ) -> Result<Attempt> {
        let NewSession { session, workspace, pin, others: _ } = new;
        let slot = slot_of(&session.route, Some(&workspace));
        let tracked = TrackedSession {
            host_id: session.host_id,
            slot,
            is_active: false,
            single_seat: workspace.single_seat,
            limits: workspace.session_limits,
        };
        self.tracker.track(session.id, tracked);
        self.changes.publish_session(&session, workspace.single_seat);
        let entry = self
            .store
            .entry(source, Action::LaunchWorkspace)
            .by_caller(caller)
            .on_workspace(&workspace)
            .in_session(&session);
        let (Some(wanted), Some(owner_id)) =
            (endpoint_of(&session, &workspace), owner_id(session.principal))
        else {
            let error = FleetError::Refused("its route does not match its workspace".to_owned());
            return self.roll_back(session, entry, &error, None).await.map(Attempt::failed);
        };
        let order = DesktopOrder {
            session_id: session.id,
            endpoint: wanted,
            owner_id,
            user_name: caller.display_name().to_owned(),
            workspace: workspace.clone(),
            pin,
            address: session.address,
            grace: self.settings.grace,
        };
        let began = Instant::now();
        let started = timeout(limit.timeout, self.fleet.start(session.host_id, order)).await;
        let entry = entry
            .with("host_id", host_detail(&session))
            .with("way", session.route.to_string())
            .with("launch_ms", json_int(millis_u64(began.elapsed())));
        let started = started
            .unwrap_or(Err(FleetError::Timeout))
            .and_then(|desktop| require_certificate(desktop, &workspace));
        let host = session.host_id.filter(|_| slot == Some(SlotKind::Desktop));
        let desktop = match started {
            Ok(desktop) => desktop,
            Err(error) => {
                let failed = host.filter(|_| error.is_hosts_own());
                if let Some(host) = failed {
                    self.record_failure(host, &session, &error);
                }
                let retry = failed.filter(|_| limit.may_retry);
                let error = self.roll_back(session, entry, &error, retry).await?;
                return Ok(Attempt::Failed { error, retry });
            }
        };
        if host.is_some_and(|host| self.failures.clear(host)) {
            self.changes.publish(Some(session.organization_id), &[Topic::Hosts]);
        }
        match self.activate(&session, desktop, entry).await {
            Ok(Some(active)) => {
                self.tracker.set_active(active.id);
                self.changes.publish_session(&active, workspace.single_seat);
                Ok(Attempt::Active(Box::new(active)))
            }
            // The session was ended while it started, perhaps before the host had a desktop to
            // stop.
            Ok(None) => {
                self.fleet.drop_keys(session.id);
                self.teardown.stop_desktop(&session).await;
                self.tracker.untrack(session.id);
                let error = Error::conflict("The session was ended while it was starting.");
                Ok(Attempt::failed(error))
            }
            Err(error) => {
                // Whether the activation was recorded is unknown; nobody could use it. The session
                // is ended by the user's next launch, or by the reconciler.
                tracing::error!(session = %session.id, error = %error, "a started desktop could not be recorded; it is rolled back");
                self.fleet.drop_keys(session.id);
                self.teardown.stop_desktop(&session).await;
                Err(error)
            }
        }
    }

    /// Remembers a failure that is the host's own, for placement and for administrators.
    fn record_failure(&self, host: HostId, session: &Session, error: &FleetError) {
        let (reason, _) = reason_and_message(error);
        let detail = sanitize_line(&error.to_string());
        self.failures.record(host, reason.as_str(), &detail, self.store.now());
        self.changes.publish(Some(session.organization_id), &[Topic::Hosts]);
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

    /// Undoes a failed start; returns the error for the user. `retry`: another host is tried next,
    /// so this one is not waited for.
    async fn roll_back(
        &self,
        session: Session,
        entry: AuditEntryBuilder,
        error: &FleetError,
        retry: Option<HostId>,
    ) -> Result<Error> {
        tracing::warn!(session = %session.id, host = host_detail(&session), %error, "a desktop did not start");
        self.fleet.drop_keys(session.id);
        if retry.is_some() {
            let (teardown, session) = (self.teardown.clone(), session.clone());
            tokio::spawn(async move { teardown.stop_desktop(&session).await });
        } else {
            self.teardown.stop_desktop(&session).await;
        }
        let (reason, message) = reason_and_message(error);
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
            | FleetError::Full(_)
            | FleetError::Broken(_)
            | FleetError::Failed(_) => None,
        };
        let entry =
            entry.failed(reason).with("error", truncate_utf8(&error.to_string(), 300).to_owned());
        let entry = if retry.is_some() { entry.with("another_host_tried", true) } else { entry };
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
        Ok(Error::unavailable(message))
    }
}

/// The reason in the audit log, and the sentence for the user.
fn reason_and_message(error: &FleetError) -> (Reason, &'static str) {
    match error {
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
        FleetError::Full(_) => (
            Reason::HostFull,
            "The workspace host is full right now. Try again when somebody has finished, or tell your administrator.",
        ),
        FleetError::Broken(_) => (
            Reason::HostFailed,
            "The workspace host could not start this desktop. Tell your administrator, who sees with the host what failed.",
        ),
        FleetError::Failed(_) => (
            Reason::Failed,
            "The desktop did not start. Try again; if it stays, tell your administrator.",
        ),
        FleetError::Probe(how) => (Reason::External(how.reason().to_owned()), how.user_message()),
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
