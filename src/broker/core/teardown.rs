//! How a session ends, whatever the cause.
//!
//! 1. One transaction: `Close(reason)` by compare-and-set, and the audit entry. From here nobody
//!    may use the session.
//! 2. Immediately afterwards, without waiting: every stream is revoked with the reason and the
//!    tunnel's keys are dropped.
//! 3. The host is asked to stop the desktop, with a timeout of a few seconds. If it does not
//!    answer, the reconciler later finds the desktop in the host's inventory; nobody can reach it
//!    meanwhile.
//! 4. One transaction: `Release` frees the seat and writes `close_session`.
//!
//! A process that has no tunnel to the session's host (the command line) stops after step 1; the
//! gateway's change watcher does the rest.

use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::changes::Changes;
use crate::broker::core::session_tracker::{CompletionClaim, SessionTracker};
use crate::broker::core::stream_registry::StreamRegistry;
use crate::broker::core::task::run_bounded;
use crate::broker::core::text::{json_int, millis_u64};
use crate::broker::core::unit_of_work::{AuditedStore, AuditedTx};
use crate::broker::model::TunnelReport;
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::audit::{Action, Reason};
use crate::domain::route::SessionRoute;
use crate::domain::session::{EndReason, Event, Session};
use crate::domain::user::RequestSource;
use crate::domain::{Error, HostId, LoginId, Result, SessionId, UserId};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

pub(in crate::broker) const STOP_TIMEOUT: Duration = Duration::from_secs(3);
const CAS_ATTEMPTS: usize = 8;
/// Interval at which a waiter re-reads a session, in case another process changes it.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// What a transaction ended: its side effects are still to be applied.
#[derive(Default)]
pub(in crate::broker) struct TeardownEffects {
    pub(in crate::broker) sessions: Vec<Session>,
    pub(in crate::broker) logins: Vec<LoginId>,
}

impl TeardownEffects {
    pub(in crate::broker) fn session(session: Session) -> Self {
        Self { sessions: vec![session], logins: Vec::new() }
    }
}

impl AuditedTx<'_, '_> {
    /// Applies one event to the newest version of a session by compare-and-set. `None`: the event
    /// no longer applies.
    pub(in crate::broker) fn transition(
        &mut self,
        session: &Session,
        event: Event,
        entry: &AuditEntryBuilder,
    ) -> Result<Option<Session>> {
        let mut current = session.clone();
        for _ in 0..CAS_ATTEMPTS {
            let Ok(next) = current.apply(event, entry.now()) else { return Ok(None) };
            if self.update_session(&next, current.version, entry.now())? {
                return Ok(Some(next));
            }
            match self.session(current.id)? {
                Some(newer) => current = newer,
                None => return Ok(None),
            }
        }
        Err(Error::unavailable("Too much happened to this session at once. Try again."))
    }

    /// Closes a session and audits it with the reason. `None`: it was closed before.
    pub(in crate::broker) fn close(
        &mut self,
        session: &Session,
        reason: EndReason,
        entry: &AuditEntryBuilder,
    ) -> Result<Option<Session>> {
        let next = self.transition(session, Event::Close(reason), entry)?;
        if next.is_some() {
            self.add_entry(&entry.clone().reason(reason));
        }
        Ok(next)
    }

    /// Closes several sessions, each with its own entry derived from `note`.
    pub(in crate::broker) fn close_all(
        &mut self,
        sessions: Vec<Session>,
        reason: EndReason,
        entry: &AuditEntryBuilder,
    ) -> Result<Vec<Session>> {
        let mut closed = Vec::new();
        for session in sessions {
            let entry = entry.clone().action(Action::TerminateSession).on_session(&session);
            closed.extend(self.close(&session, reason, &entry)?);
        }
        Ok(closed)
    }

    pub(in crate::broker) fn end_all_of_user(
        &mut self,
        user: UserId,
        reason: EndReason,
        entry: &AuditEntryBuilder,
    ) -> Result<TeardownEffects> {
        let logins = self.revoke_logins_of(user, entry.now())?;
        let sessions = self.live_sessions_of_user(user)?;
        Ok(TeardownEffects { sessions: self.close_all(sessions, reason, entry)?, logins })
    }

    /// Releases a closing session and frees its seat. `None`: it was released before.
    pub(in crate::broker) fn release(
        &mut self,
        session: &Session,
        entry: &AuditEntryBuilder,
    ) -> Result<Option<Session>> {
        let next = self.transition(session, Event::Release, entry)?;
        if let Some(next) = &next {
            self.release_seats(next.id)?;
            let lasted = json_int(millis_u64(next.duration(entry.now())));
            let entry = entry.clone().action(Action::CloseSession).on_session(next);
            let entry = match next.state.end_reason() {
                Some(reason) => entry.reason(reason),
                None => entry,
            };
            self.add_entry(&entry.with("duration_ms", lasted));
        }
        Ok(next)
    }
}

/// Revokes and completes what ended.
#[derive(Clone)]
pub(in crate::broker) struct Teardown {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) streams: StreamRegistry,
    pub(in crate::broker) tracker: SessionTracker,
    pub(in crate::broker) changes: Changes,
}

impl Teardown {
    /// Applies the side effects: revokes everything first, then completes each session. Sessions on
    /// a host that does not answer delay those on no other host.
    pub(in crate::broker) async fn apply_effects(&self, ended: TeardownEffects) -> Result<()> {
        let TeardownEffects { sessions, logins } = ended;
        // Sessions first: a stream keeps the first reason, and "your account was disabled" says
        // more than "signed out".
        let revoked: Vec<_> =
            sessions.into_iter().map(|session| (self.revoke(&session), session)).collect();
        for login in logins {
            self.streams.revoke_login(login);
        }
        for (_, session) in &revoked {
            self.changes.publish_session(session, self.is_single_seat(session.id));
        }
        let mut by_host: HashMap<Option<HostId>, Vec<BoxFuture<'static, Result<()>>>> =
            HashMap::new();
        for (report, session) in revoked {
            let (teardown, host) = (self.clone(), session.host_id);
            let completion = async move { teardown.complete(session, report, false).await };
            by_host.entry(host).or_default().push(completion.boxed());
        }
        join_all(by_host.into_values().map(run_bounded)).await.into_iter().flatten().collect()
    }

    /// Whether others see that the session's workspace is in use; an untracked session counts as
    /// one of a single-seat workspace.
    fn is_single_seat(&self, session: SessionId) -> bool {
        self.tracker.get(session).is_none_or(|tracked| tracked.single_seat)
    }

    /// Revokes the session's streams and drops the tunnel's keys; never waits. Returns the tunnel's
    /// last report if this process has the tunnel.
    pub(in crate::broker) fn revoke(&self, session: &Session) -> Option<TunnelReport> {
        let report = self.fleet.tunnel(session.id);
        self.streams
            .revoke_session(session.id, session.state.end_reason().unwrap_or(EndReason::HostLost));
        self.fleet.drop_keys(session.id);
        report
    }

    /// Stops the desktop of a closing session and releases the session. `anyway`: even if this
    /// process has no tunnel to its host.
    pub(in crate::broker) async fn complete(
        &self,
        session: Session,
        report: Option<TunnelReport>,
        anyway: bool,
    ) -> Result<()> {
        let here = match &session.route {
            SessionRoute::OwnTunnel | SessionRoute::HostTunnel => {
                session.host_id.is_some_and(|id| self.fleet.host(id).is_some())
            }
            SessionRoute::Direct(name) => self.fleet.direct_targets().contains(name),
        };
        if !anyway && !here {
            return Ok(());
        }
        let Some(claim) = self.tracker.claim(session.id) else {
            return self
                .wait_for_session(session.id, STOP_TIMEOUT, |s| !s.state.is_live())
                .await
                .map(drop);
        };
        self.complete_claimed(claim, session, report).await
    }

    async fn complete_claimed(
        &self,
        claim: CompletionClaim,
        session: Session,
        report: Option<TunnelReport>,
    ) -> Result<()> {
        let stopped = self.stop_desktop(&session).await;
        let entry = self
            .store
            .entry(&RequestSource::local(""), Action::CloseSession)
            .by_system()
            .with("desktop_stopped", stopped);
        let entry = match &report {
            Some(report) => entry
                .with("tunnel_rx_bytes", json_int(report.rx_bytes))
                .with("tunnel_tx_bytes", json_int(report.tx_bytes)),
            None => entry,
        };
        let closing = session.clone();
        self.store.write(move |tx| tx.release(&closing, &entry)).await?;
        drop(claim);
        self.changes.publish_session(&session, self.is_single_seat(session.id));
        self.tracker.untrack(session.id);
        Ok(())
    }

    /// Asks the host to stop the desktop, with a timeout; `true` if the host confirmed.
    pub(in crate::broker) async fn stop_desktop(&self, session: &Session) -> bool {
        let stop = timeout(STOP_TIMEOUT, self.fleet.stop(session.host_id, session.id)).await;
        let failure = match stop {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(session = %session.id, host = ?session.host_id, %failure, "the host did not stop a desktop; the reconciler retries");
        false
    }

    /// Waits until the predicate holds for the session or `longest` has passed; returns the
    /// session's last state.
    pub(in crate::broker) async fn wait_for_session(
        &self,
        id: SessionId,
        longest: Duration,
        fits: impl Fn(&Session) -> bool,
    ) -> Result<Option<Session>> {
        let deadline = Instant::now() + longest;
        let mut pulse = self.changes.subscribe_revision();
        loop {
            pulse.borrow_and_update();
            let session = self.store.read(move |tx| tx.session(id)).await?;
            if session.as_ref().is_none_or(&fits) || Instant::now() >= deadline {
                return Ok(session);
            }
            // Woken by a change in this process, or by the interval for changes of other processes.
            let _ = timeout(POLL_INTERVAL.min(deadline - Instant::now()), pulse.changed()).await;
        }
    }

    /// Ends live sessions without a caller: expiry, lost host, interrupted launch. Nobody can use
    /// them once this returns; the desktops are stopped in tasks of their own, which are returned.
    ///
    /// # Errors
    /// The first failure of the store; the other sessions are ended.
    pub(in crate::broker) async fn end_by_system(
        &self,
        ending: Vec<(Session, EndReason)>,
    ) -> Result<Vec<JoinHandle<()>>> {
        let closing = ending.into_iter().map(|(session, reason)| {
            let this = self.clone();
            async move { this.close_by_system(session, reason).await }.boxed()
        });
        let (mut revoked, mut failure) = (Vec::new(), None);
        for closed in run_bounded(closing.collect()).await {
            match closed {
                Ok(closed) => revoked.extend(closed),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let tasks = self.spawn_revoked(revoked);
        failure.map_or(Ok(tasks), Err)
    }

    /// Closes and revokes one session. `None`: it was closed before.
    async fn close_by_system(
        &self,
        session: Session,
        reason: EndReason,
    ) -> Result<Option<Revoked>> {
        let entry = self.store.entry(&RequestSource::local(""), ending_action(reason));
        let entry = entry.by_system().on_session(&session);
        let entry = if reason == EndReason::LaunchFailed {
            entry.failed(Reason::Interrupted)
        } else {
            entry
        };
        let closed = self.store.write(move |tx| tx.close(&session, reason, &entry)).await?;
        Ok(closed.map(|session| {
            let report = self.revoke(&session);
            self.changes.publish_session(&session, self.is_single_seat(session.id));
            Revoked { session, report }
        }))
    }

    /// Completes closing sessions in tasks of their own, one for each host; the claim ensures that
    /// each completes once.
    pub(in crate::broker) fn spawn_completions(
        &self,
        closing: Vec<Session>,
    ) -> Vec<JoinHandle<()>> {
        let unclaimed = closing.into_iter().filter(|session| !self.tracker.is_claimed(session.id));
        let revoked = unclaimed.map(|session| Revoked { report: self.revoke(&session), session });
        self.spawn_revoked(revoked.collect())
    }

    fn spawn_revoked(&self, revoked: Vec<Revoked>) -> Vec<JoinHandle<()>> {
        let mut by_host: HashMap<Option<HostId>, Vec<BoxFuture<'static, ()>>> = HashMap::new();
        for Revoked { session, report } in revoked {
            let Some(claim) = self.tracker.claim(session.id) else { continue };
            let (teardown, host, id) = (self.clone(), session.host_id, session.id);
            let completion = async move {
                if let Err(error) = teardown.complete_claimed(claim, session, report).await {
                    tracing::warn!(session = %id, %error, "a closing session could not be completed; it is retried");
                }
            };
            by_host.entry(host).or_default().push(completion.boxed());
        }
        let spawn = |work| {
            tokio::spawn(async move {
                run_bounded(work).await;
            })
        };
        by_host.into_values().map(spawn).collect()
    }
}

/// A closed session whose streams and keys are gone, with its tunnel's last report.
struct Revoked {
    session: Session,
    report: Option<TunnelReport>,
}

/// The audit action of a session ended by the system.
fn ending_action(reason: EndReason) -> Action {
    match reason {
        EndReason::Expired => Action::ExpireSession,
        EndReason::IdleTimeout => Action::EndIdleSession,
        EndReason::LaunchFailed => Action::LaunchWorkspace,
        EndReason::UserDisconnected
        | EndReason::WorkspaceStopped
        | EndReason::AdminStopped
        | EndReason::SignedOut
        | EndReason::SignedOutByAdmin
        | EndReason::UserDisabled
        | EndReason::WorkspaceRemoved
        | EndReason::HostLost
        | EndReason::HostRestarted => Action::TerminateSession,
    }
}
