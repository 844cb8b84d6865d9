//! The one way a session ends, whoever ends it and why.
//!
//! 1. One transaction: `Close(reason)` by compare-and-set, and the entry that says who and why.
//!    From here nobody may use it.
//! 2. At once, without waiting: every watcher learns the reason and the tunnel's keys are dropped
//!    ([`Broker::sever`]).
//! 3. The host is asked to end the desktop, for a few seconds at most. If it does not answer, the
//!    reaper finds the desktop in the host's inventory later; nobody can reach it meanwhile.
//! 4. One transaction: `Release`, the seat is free, `close_session`.
//!
//! A process that does not know the session's host (the command line) stops after step 1; the
//! gateway's sentinel does the rest.

use super::Broker;
use super::fleet::TunnelReport;
use super::live::Topic;
use super::record::{AuditEntryBuilder, AuditedTx, json_int};
use crate::domain::audit::Action;
use crate::domain::route::SessionRoute;
use crate::domain::session::{EndReason, Event, Session};
use crate::domain::user::RequestSource;
use crate::domain::{Error, LoginId, Result, SessionId, UserId};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Longest wait for a host to end a desktop.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// Sessions finished, or hosts asked, at once.
const MAX_CONCURRENCY: usize = 16;
/// Compare-and-set tries before giving up.
const CAS_ATTEMPTS: usize = 8;
/// How often those who wait for a session look, in case another process changes it.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// What a transaction ended, still to be carried out on the world.
#[derive(Default)]
pub(super) struct TeardownEffects {
    pub(super) sessions: Vec<Session>,
    pub(super) logins: Vec<LoginId>,
}

impl TeardownEffects {
    pub(super) fn session(session: Session) -> Self {
        Self { sessions: vec![session], logins: Vec::new() }
    }
}

impl AuditedTx<'_, '_> {
    /// Takes one event into a session by compare-and-set, on its newest version. `None`: the event
    /// no longer fits.
    pub(super) fn transition(
        &mut self,
        session: &Session,
        event: Event,
        note: &AuditEntryBuilder,
    ) -> Result<Option<Session>> {
        let mut current = session.clone();
        for _ in 0..CAS_ATTEMPTS {
            let Ok(next) = current.apply(event, note.now()) else { return Ok(None) };
            if self.update_session(&next, current.version, note.now())? {
                return Ok(Some(next));
            }
            match self.session(current.id)? {
                Some(newer) => current = newer,
                None => return Ok(None),
            }
        }
        Err(Error::unavailable("Too much happened to this session at once. Try again."))
    }

    /// Closes a session and writes `note` with the reason. `None`: somebody closed it before.
    pub(super) fn close(
        &mut self,
        session: &Session,
        reason: EndReason,
        note: &AuditEntryBuilder,
    ) -> Result<Option<Session>> {
        let next = self.transition(session, Event::Close(reason), note)?;
        if next.is_some() {
            self.add_entry(&note.clone().reason(reason.as_str()));
        }
        Ok(next)
    }

    /// Closes many, each with its own entry made from `note`.
    pub(super) fn close_all(
        &mut self,
        sessions: Vec<Session>,
        reason: EndReason,
        note: &AuditEntryBuilder,
    ) -> Result<Vec<Session>> {
        let mut closed = Vec::new();
        for session in sessions {
            let note = note.clone().action(Action::TerminateSession).on_session(&session);
            closed.extend(self.close(&session, reason, &note)?);
        }
        Ok(closed)
    }

    /// Ends every login and every session of a user.
    pub(super) fn end_all_of_user(
        &mut self,
        user: UserId,
        reason: EndReason,
        note: &AuditEntryBuilder,
    ) -> Result<TeardownEffects> {
        let logins = self.revoke_logins_of(user, note.now())?;
        let sessions = self.live_sessions_of_user(user)?;
        Ok(TeardownEffects { sessions: self.close_all(sessions, reason, note)?, logins })
    }

    /// Releases a closing session: its seat is free. `None`: somebody did before.
    pub(super) fn release(
        &mut self,
        session: &Session,
        note: &AuditEntryBuilder,
    ) -> Result<Option<Session>> {
        let next = self.transition(session, Event::Release, note)?;
        if let Some(next) = &next {
            self.release_seats(next.id)?;
            let lasted = json_int(millis_u64(next.duration(note.now())));
            let reason = next.state.end_reason().map_or("", EndReason::as_str);
            let note = note.clone().action(Action::CloseSession).on_session(next).reason(reason);
            self.add_entry(&note.with("duration_ms", lasted));
        }
        Ok(next)
    }
}

/// Does many things, a few at once.
pub(super) async fn run_bounded<T>(work: Vec<BoxFuture<'static, T>>) -> Vec<T> {
    stream::iter(work).buffer_unordered(MAX_CONCURRENCY).collect().await
}

pub(super) fn millis_u64(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl Broker {
    /// Carries out what a transaction ended: cuts everything at once, then finishes each.
    pub(super) async fn apply_effects(&self, ended: TeardownEffects) -> Result<()> {
        let TeardownEffects { sessions, logins } = ended;
        // Sessions first: a watcher keeps the first word, and "your account was disabled" says more
        // than "signed out".
        let severed: Vec<_> =
            sessions.into_iter().map(|session| (self.revoke(&session), session)).collect();
        for login in logins {
            self.streams().revoke_login(login);
        }
        for (_, session) in &severed {
            self.streams()
                .publish(Some(session.organization_id), &[Topic::Sessions, Topic::Workspaces]);
        }
        let finishing = severed.into_iter().map(|(report, session)| {
            let broker = self.clone();
            async move { broker.complete(session, report, false).await }.boxed()
        });
        run_bounded(finishing.collect()).await.into_iter().collect()
    }

    /// Tells every watcher why, and drops the tunnel's keys; never waits. The tunnel's last report,
    /// if it was here.
    pub(super) fn revoke(&self, session: &Session) -> Option<TunnelReport> {
        let report = self.inner.fleet.tunnel(session.id);
        self.streams()
            .revoke_session(session.id, session.state.end_reason().unwrap_or(EndReason::HostLost));
        self.inner.fleet.drop_keys(session.id);
        report
    }

    /// Ends the desktop of a closing session and releases it. `anyway`: also when its host is not
    /// known here.
    pub(super) async fn complete(
        &self,
        session: Session,
        report: Option<TunnelReport>,
        anyway: bool,
    ) -> Result<()> {
        let here = match &session.route {
            SessionRoute::OwnTunnel | SessionRoute::HostTunnel => {
                self.inner.fleet.host(session.host_id).is_some()
            }
            SessionRoute::Direct(name) => self.inner.fleet.direct_targets().contains(name),
        };
        if !anyway && !here {
            return Ok(());
        }
        let Some(claim) = self.streams().claim(session.id) else {
            return self
                .wait_for_session(session.id, STOP_TIMEOUT, |s| !s.state.is_live())
                .await
                .map(drop);
        };
        let stopped = self.stop_desktop(&session).await;
        let note = self
            .audit_entry(&RequestSource::local(""), Action::CloseSession)
            .by_system()
            .with("desktop_stopped", stopped);
        let note = match &report {
            Some(report) => note
                .with("tunnel_rx_bytes", json_int(report.rx_bytes))
                .with("tunnel_tx_bytes", json_int(report.tx_bytes)),
            None => note,
        };
        let (id, organization) = (session.id, session.organization_id);
        self.write(move |book| book.release(&session, &note)).await?;
        drop(claim);
        self.streams().untrack(id);
        self.streams().publish(Some(organization), &[Topic::Sessions, Topic::Workspaces]);
        Ok(())
    }

    /// Asks the host to end the desktop, for a few seconds; whether it said yes.
    pub(super) async fn stop_desktop(&self, session: &Session) -> bool {
        let stop = timeout(STOP_TIMEOUT, self.inner.fleet.stop(session.host_id, session.id)).await;
        let failure = match stop {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(session = %session.id, host = %session.host_id, %failure, "the host did not end a desktop; the reaper will see to it");
        false
    }

    /// Waits until a session fits, or `longest` has passed; gives it as it is then.
    pub(super) async fn wait_for_session(
        &self,
        id: SessionId,
        longest: Duration,
        fits: impl Fn(&Session) -> bool,
    ) -> Result<Option<Session>> {
        let deadline = Instant::now() + longest;
        let mut pulse = self.streams().subscribe_revision();
        loop {
            pulse.borrow_and_update();
            let session = self.inner.store.read(move |tx| tx.session(id)).await?;
            if session.as_ref().is_none_or(&fits) || Instant::now() >= deadline {
                return Ok(session);
            }
            // Either it moved here, or it is time to look whether another process moved it.
            let _ = timeout(POLL_INTERVAL.min(deadline - Instant::now()), pulse.changed()).await;
        }
    }

    /// Ends one live session by the gateway's own rule (expiry, lost host, interrupted launch).
    pub(super) async fn end_by_system(
        &self,
        session: Session,
        reason: EndReason,
        action: Action,
    ) -> Result<()> {
        let note =
            self.audit_entry(&RequestSource::local(""), action).by_system().on_session(&session);
        let note =
            if reason == EndReason::LaunchFailed { note.failed("interrupted") } else { note };
        let closed = self.write(move |book| book.close(&session, reason, &note)).await?;
        match closed {
            Some(closed) => self.apply_effects(TeardownEffects::session(closed)).await,
            None => Ok(()),
        }
    }
}
