//! Checks of one host, in a task of its own with limits of its own: a host that is silent or hostile
//! delays nothing of another host.
//!
//! | check | when | what it does |
//! | --- | --- | --- |
//! | observation | the tunnel's state changes, every few seconds | stores where the host is, audits `host_connected` and `host_lost`, ends its sessions after the grace period |
//! | inventory | the host's agent reports a change, every few seconds; later and later after failures | ends active sessions whose desktop is missing, stops desktops without a live session |
//!
//! The expected sessions are taken *before* the host is asked for its desktops, and the sessions of
//! reported desktops are read *after*, so a launch or end in between is never taken for a loss.

use crate::broker::core::changes::{Changes, Topic};
use crate::broker::core::session_tracker::SessionTracker;
use crate::broker::core::settings::Settings;
use crate::broker::core::task::run_bounded;
use crate::broker::core::teardown::{STOP_TIMEOUT, Teardown};
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::jobs::host_observations::{Backoff, HostObservation, ReconcilerState};
use crate::broker::model::{TunnelReport, TunnelState};
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::audit::Action;
use crate::domain::host::{Host, HostKind};
use crate::domain::session::{EndReason, Session, State};
use crate::domain::sync::lock;
use crate::domain::user::RequestSource;
use crate::domain::{HostId, Result, SessionId, Timestamp};
use crate::store::Tx;
use futures_util::FutureExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Interval between two checks when nothing happens.
const INTERVAL: Duration = Duration::from_secs(3);
/// Minimum time between two inventories of a host, and between two writes about its connection.
const MIN_INTERVAL: Duration = Duration::from_millis(250);
/// Interval at which a connected host's `last_seen_at` is stored.
const SEEN_INTERVAL: Duration = Duration::from_secs(60);
/// Sessions whose desktop is missing that one inventory ends.
const LOST_MAX: usize = 200;
/// Desktops that are unknown here and looked up in one inventory.
const UNKNOWN_MAX: usize = 32;
/// Desktops that one inventory stops. A host decides how many it lists.
const STOPS_MAX: usize = 8;

#[derive(Clone)]
pub(in crate::broker) struct HostChecks {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) tracker: SessionTracker,
    pub(in crate::broker) changes: Changes,
    pub(in crate::broker) teardown: Teardown,
    pub(in crate::broker) settings: Arc<Settings>,
    pub(in crate::broker) state: Arc<ReconcilerState>,
}

/// What a check ended: the tasks that stop desktops.
type Endings = Vec<JoinHandle<()>>;

/// Result of an inventory.
struct Inventory {
    /// Whether the host listed its desktops and stopped those it was asked to stop.
    answered: bool,
    endings: Endings,
}

impl HostChecks {
    /// Checks a host until the task is dropped.
    pub(in crate::broker) async fn run(self, host: Host) {
        tokio::join!(self.keep_observing(&host), self.keep_comparing(&host));
    }

    /// Both checks once, for tests.
    pub(in crate::broker) async fn check_once(&self, host: &Host) -> Result<Endings> {
        let (_, mut endings) = self.observe(host, self.store.now()).await?;
        if self.is_asked(host) {
            endings.extend(self.compare(host.id).await?.endings);
        }
        Ok(endings)
    }

    async fn keep_observing(&self, host: &Host) {
        let mut changed = self.fleet.host_changed(host.id);
        loop {
            changed.mark_unchanged();
            match self.observe(host, self.store.now()).await {
                Ok((false, _)) => {}
                Ok((true, _)) => sleep(MIN_INTERVAL).await,
                Err(error) => {
                    tracing::warn!(host = %host.id, %error, "a host's connection could not be stored; it is retried");
                    sleep(MIN_INTERVAL).await;
                }
            }
            self.wait(host.id, &mut changed, Instant::now() + INTERVAL).await;
        }
    }

    async fn keep_comparing(&self, host: &Host) {
        let mut changed = self.fleet.host_changed(host.id);
        let mut backoff = Backoff::new();
        loop {
            changed.mark_unchanged();
            if !self.is_asked(host) {
                backoff = Backoff::new();
                self.wait(host.id, &mut changed, Instant::now() + INTERVAL).await;
                continue;
            }
            let answered = match self.compare(host.id).await {
                Ok(inventory) => inventory.answered,
                Err(error) => {
                    tracing::warn!(host = %host.id, %error, "a host's desktops could not be compared; it is retried");
                    true
                }
            };
            if answered {
                backoff = Backoff::new();
                sleep(MIN_INTERVAL).await;
                self.wait(host.id, &mut changed, Instant::now() + INTERVAL).await;
                continue;
            }
            // What the host itself reports does not shorten the wait; a new connection does.
            let until = Instant::now() + backoff.fail();
            while self.is_asked(host) && Instant::now() < until {
                self.wait(host.id, &mut changed, until).await;
                sleep(MIN_INTERVAL).await;
            }
        }
    }

    /// Waits for a change of the host, or until a time.
    async fn wait(&self, host: HostId, changed: &mut watch::Receiver<u64>, until: Instant) {
        let ended = tokio::select! {
            change = changed.changed() => change.is_err(),
            () = sleep_until(until) => false,
        };
        if ended {
            // The host has another tunnel by now, or none.
            sleep(MIN_INTERVAL).await;
            *changed = self.fleet.host_changed(host);
            changed.mark_changed();
        }
    }

    /// Only agents start desktops.
    fn is_asked(&self, host: &Host) -> bool {
        host.kind == HostKind::Agent && is_connected(self.fleet.host(host.id).as_ref())
    }

    /// Compares a host with its last observation and audits a change; ends its sessions when it has
    /// been away for longer than the grace period. Returns whether something was written.
    async fn observe(&self, host: &Host, now: Timestamp) -> Result<(bool, Endings)> {
        let report = self.fleet.host(host.id);
        let connected = is_connected(report.as_ref());
        let last = lock(&self.state.hosts).get(&host.id).cloned();
        let was = last.as_ref().is_some_and(|w| w.connected);
        let since = match &last {
            Some(watch) if watch.connected == connected => watch.since,
            Some(_) => now,
            None => self.state.started.max(host.enrolled_at),
        };
        let mut written = connected != was;
        if connected != was {
            let action = if connected { Action::HostConnected } else { Action::HostLost };
            self.record_change(host, action, report.as_ref(), now).await?;
        }
        let mut stored = last.and_then(|w| w.stored);
        if let Some(report) = report.filter(|_| connected) {
            let fresh = stored.as_ref().is_some_and(|(at, r)| {
                r.endpoint == report.endpoint && now.since(*at) < SEEN_INTERVAL
            });
            if !fresh {
                let (id, endpoint) = (host.id, report.endpoint);
                self.store
                    .write_unaudited(move |tx| tx.update_host_seen(id, endpoint, None, now))
                    .await?;
                stored = Some((now, report));
                written = true;
            }
        }
        let seen = HostObservation { connected, since, stored };
        lock(&self.state.hosts).insert(host.id, seen);
        if connected || now.since(since) <= self.settings.grace {
            return Ok((written, Vec::new()));
        }
        let id = host.id;
        let lost = self.store.read(move |tx| active_sessions_of_host(tx, id)).await?;
        Ok((written, self.lose(lost).await?))
    }

    async fn record_change(
        &self,
        host: &Host,
        action: Action,
        report: Option<&TunnelReport>,
        now: Timestamp,
    ) -> Result<()> {
        let endpoint = report.and_then(|r| r.endpoint);
        let entry = self.store.entry(&RequestSource::local(""), action).by_system().on_host(host);
        let entry = entry.with("endpoint", endpoint.map(|e| e.to_string()));
        let id = host.id;
        let recorded = self
            .store
            .write(move |tx| {
                // Its removal says more than that its tunnel is gone.
                if tx.host(id)?.is_none() {
                    return Ok(false);
                }
                if action == Action::HostConnected {
                    tx.update_host_seen(id, endpoint, None, now)?;
                }
                tx.add_entry(&entry);
                Ok(true)
            })
            .await?;
        if recorded {
            tracing::info!(host = %host.id, name = %host.name, event = action.as_str(), "host");
            self.changes.publish(Some(host.organization_id), &[Topic::Hosts, Topic::Workspaces]);
        }
        Ok(())
    }

    /// Asks a host for its desktops; stops those without a live session, and ends active sessions
    /// whose desktop is missing. Only differences to the tracked sessions are read from the store.
    async fn compare(&self, host: HostId) -> Result<Inventory> {
        let expected = self.tracker.active_on(host);
        let desktops: HashSet<SessionId> =
            match timeout(STOP_TIMEOUT, self.fleet.inventory(host)).await {
                Ok(Ok(desktops)) => desktops.into_iter().collect(),
                Ok(Err(error)) => {
                    tracing::debug!(%host, %error, "a host did not report its desktops");
                    return Ok(Inventory { answered: false, endings: Vec::new() });
                }
                Err(_) => {
                    tracing::debug!(%host, "a host did not report its desktops in time");
                    return Ok(Inventory { answered: false, endings: Vec::new() });
                }
            };
        let missing = expected.into_iter().filter(|id| !desktops.contains(id));
        let missing: Vec<SessionId> = missing.take(LOST_MAX).collect();
        let mut endings = Vec::new();
        if !missing.is_empty() {
            let lost = self.store.read(move |tx| active_sessions(tx, &missing)).await?;
            endings = self.lose_desktops(host, lost).await?;
        }
        let answered = self.stop_orphans(host, desktops).await?;
        Ok(Inventory { answered, endings })
    }

    /// Ends sessions whose desktop is missing on its connected host, with the reason.
    async fn lose_desktops(&self, host: HostId, lost: Vec<Session>) -> Result<Endings> {
        if lost.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.store.now();
        let uptime = timeout(STOP_TIMEOUT, self.fleet.agent_uptime(host)).await.ok().flatten();
        let reason = |session: &Session| match (session.started_at, uptime) {
            (Some(started), Some(uptime)) if now.since(started) > uptime => {
                EndReason::HostRestarted
            }
            _ => EndReason::HostLost,
        };
        let ending = lost.into_iter().map(|session| {
            let reason = reason(&session);
            (session, reason)
        });
        self.teardown.end_by_system(ending.collect()).await
    }

    async fn lose(&self, sessions: Vec<Session>) -> Result<Endings> {
        let lost = sessions.into_iter().map(|session| (session, EndReason::HostLost)).collect();
        self.teardown.end_by_system(lost).await
    }

    /// Stops desktops without a live session. Returns whether the host did what it was asked.
    async fn stop_orphans(&self, host: HostId, desktops: HashSet<SessionId>) -> Result<bool> {
        let unknown = desktops.into_iter().filter(|id| !self.tracker.is_tracked(*id));
        let unknown: Vec<SessionId> = unknown.take(UNKNOWN_MAX).collect();
        if unknown.is_empty() {
            return Ok(true);
        }
        // A launched session has its row before its desktop.
        let mut orphans = self
            .store
            .read(move |tx| {
                let mut orphans = Vec::new();
                for &id in &unknown {
                    if tx.session(id)?.is_none_or(|s| !s.state.is_live()) {
                        orphans.push(id);
                    }
                }
                Ok(orphans)
            })
            .await?;
        orphans.truncate(STOPS_MAX);
        if orphans.is_empty() {
            return Ok(true);
        }
        tracing::warn!(%host, sessions = ?orphans, "stopping desktops without a live session");
        let stopping = orphans.iter().map(|&id| {
            self.teardown.streams.revoke_session(id, EndReason::HostLost);
            self.fleet.drop_keys(id);
            let fleet = self.fleet.clone();
            async move {
                matches!(timeout(STOP_TIMEOUT, fleet.stop(Some(host), id)).await, Ok(Ok(())))
            }
            .boxed()
        });
        let stopped = run_bounded(stopping.collect()).await;
        let left = stopped.iter().filter(|stopped| !**stopped).count();
        if left > 0 {
            tracing::warn!(%host, left, "the host did not stop desktops; it is asked again later");
        }
        Ok(left == 0)
    }
}

fn is_connected(report: Option<&TunnelReport>) -> bool {
    report.is_some_and(|report| report.state == TunnelState::Encrypted)
}

/// The active sessions of a host.
pub(in crate::broker) fn active_sessions_of_host(
    tx: &mut Tx<'_>,
    host: HostId,
) -> Result<Vec<Session>> {
    let mut sessions = tx.live_sessions_of_host(host)?;
    sessions.retain(|session| session.state == State::Active);
    Ok(sessions)
}

/// Those of these sessions that are active.
pub(in crate::broker) fn active_sessions(
    tx: &mut Tx<'_>,
    ids: &[SessionId],
) -> Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for id in ids {
        sessions.extend(tx.session(*id)?.filter(|session| session.state == State::Active));
    }
    Ok(sessions)
}
