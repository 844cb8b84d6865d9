//! Reconciler: every few seconds, and whenever a host connects or disconnects, compares the store
//! with the hosts.
//!
//! | found | action |
//! | --- | --- |
//! | sessions past their end | `expired` |
//! | launches interrupted by a killed gateway | `launch_failed` |
//! | closing sessions that nobody completes | completed |
//! | sessions on a host that was away for longer than the grace period | `host_lost` |
//! | active sessions whose desktop is missing on its connected host | `host_lost` |
//! | desktops on a connected host without a live session | stopped |
//! | expired tickets, challenges, tokens, entered credentials | deleted |
//!
//! The order matters: the expected sessions are taken *before* the host is asked for its desktops,
//! and the sessions of reported desktops are read *after*, so a launch or end in between is never
//! taken for a loss. A pass reads what is due by index, and otherwise only differences.

use crate::broker::core::changes::{Changes, Topic};
use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::session_tracker::SessionTracker;
use crate::broker::core::settings::Settings;
use crate::broker::core::task::run_bounded;
use crate::broker::core::teardown::{STOP_TIMEOUT, Teardown};
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::jobs::host_observations::{HostObservation, ReconcilerState};
use crate::broker::model::{TunnelReport, TunnelState};
use crate::broker::ports::host_fleet::{HostFleet, HostPeer};
use crate::broker::targets::ephemeral_credentials::EphemeralCredentials;
use crate::domain::audit::Action;
use crate::domain::error::Error;
use crate::domain::host::{Host, HostKind};
use crate::domain::session::{EndReason, Session, State};
use crate::domain::sync::lock;
use crate::domain::user::RequestSource;
use crate::domain::{HostId, Result, SessionId, Timestamp};
use crate::store::Tx;
use futures_util::FutureExt;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::MutexGuard;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Interval between passes when nothing happens.
const INTERVAL: Duration = Duration::from_secs(3);
/// Minimum time between two passes.
const MIN_INTERVAL: Duration = Duration::from_millis(250);
/// Sessions per pass, of each kind.
const BATCH: usize = 200;
/// Time beyond the launch timeout after which a launch counts as interrupted.
const LAUNCH_SLACK: Duration = Duration::from_secs(10);
/// Interval at which a connected host's `last_seen_at` is stored.
const SEEN_INTERVAL: Duration = Duration::from_secs(60);
/// Interval of deleting expired rows.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Reconciler {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) tracker: SessionTracker,
    pub(in crate::broker) changes: Changes,
    pub(in crate::broker) teardown: Teardown,
    pub(in crate::broker) ephemeral: Arc<EphemeralCredentials>,
    pub(in crate::broker) settings: Arc<Settings>,
    pub(in crate::broker) state: Arc<ReconcilerState>,
}

impl Reconciler {
    pub(in crate::broker) async fn run(&self) {
        let mut hosts = self.fleet.hosts_changed();
        let mut open = true;
        loop {
            hosts.mark_unchanged();
            if let Err(error) = self.reconcile_once().await {
                tracing::warn!(%error, "a reconciler pass failed; it is retried");
            }
            sleep(MIN_INTERVAL).await;
            let until = Instant::now() + (INTERVAL - MIN_INTERVAL);
            if open {
                if let Ok(changed) = timeout_at(until, hosts.changed()).await {
                    open = changed.is_ok();
                }
            } else {
                tokio::time::sleep_until(until).await;
            }
        }
    }

    /// One pass.
    ///
    /// # Errors
    /// The first failure of the store; what came before it is done.
    pub(in crate::broker) async fn reconcile_once(&self) -> Result<()> {
        let now = self.store.now();
        self.ephemeral.remove_expired(now);
        let launch_by = now.before(self.settings.launch_timeout + LAUNCH_SLACK);
        let (expired, starting, closing, hosts) = self
            .store
            .read(move |tx| {
                let (expired, starting) = (
                    tx.expired_sessions(now, BATCH)?,
                    tx.live_sessions_in_states(&["queued", "creating"], BATCH)?,
                );
                let closing = tx.live_sessions_in_states(&["closing"], BATCH)?;
                Ok((expired, starting, closing, tx.hosts(None)?))
            })
            .await?;
        let hosts = self.sync_host_tunnels(hosts);
        // The process that began it is gone (a database has one gateway), so nobody will complete
        // it.
        let orphaned =
            |s: &Session| s.created_at < self.state.started && !self.tracker.is_tracked(s.id);
        let interrupted = starting
            .into_iter()
            .filter(|s| s.created_at < launch_by || orphaned(s))
            .map(|s| (s, EndReason::LaunchFailed));
        let mut ending: Vec<_> =
            interrupted.chain(expired.into_iter().map(|s| (s, EndReason::Expired))).collect();
        self.teardown.spawn_completions(closing);
        let mut lost_hosts = self.removed_hosts(&hosts);
        for host in &hosts {
            let away = self.observe_host(host, now).await?;
            if away.is_some_and(|since| now.since(since) > self.settings.grace) {
                lost_hosts.push(host.id);
            }
        }
        let mut lost = self.active_sessions_on(lost_hosts).await?;
        lost.extend(self.check_inventories(&hosts).await?);
        ending.extend(lost.into_iter().map(|session| (session, EndReason::HostLost)));
        self.end_all(ending).await?;
        self.purge(now).await
    }

    /// Hosts of tracked sessions that are not stored any more.
    fn removed_hosts(&self, stored: &[Host]) -> Vec<HostId> {
        let stored: HashSet<HostId> = stored.iter().map(|host| host.id).collect();
        let hosts = self.tracker.active().into_iter().filter_map(|(_, host)| host);
        hosts.filter(|host| !stored.contains(host)).collect::<HashSet<_>>().into_iter().collect()
    }

    async fn active_sessions_on(&self, hosts: Vec<HostId>) -> Result<Vec<Session>> {
        if hosts.is_empty() {
            return Ok(Vec::new());
        }
        let read = move |tx: &mut Tx<'_>| {
            let mut sessions = Vec::new();
            for host in &hosts {
                sessions.extend(tx.live_sessions_of_host(*host)?);
            }
            sessions.retain(|session| session.state == State::Active);
            Ok(sessions)
        };
        self.store.read(read).await
    }

    async fn end_all(&self, ending: Vec<(Session, EndReason)>) -> Result<()> {
        let mut once = HashSet::new();
        let ending = ending.into_iter().filter(|(session, _)| once.insert(session.id));
        let work = ending.map(|(session, reason)| {
            let this = self.clone();
            async move { this.teardown.end_by_system(session, reason, ending_action(reason)).await }
                .boxed()
        });
        let work = work.collect();
        run_bounded(work).await.into_iter().collect()
    }

    fn observations(&self) -> MutexGuard<'_, HashMap<HostId, HostObservation>> {
        lock(&self.state.hosts)
    }

    /// Compares a host with its last observation and audits a change. Returns since when it is
    /// disconnected.
    async fn observe_host(&self, host: &Host, now: Timestamp) -> Result<Option<Timestamp>> {
        let report = self.fleet.host(host.id);
        let connected = report.as_ref().is_some_and(|r| r.state == TunnelState::Encrypted);
        let last = self.observations().get(&host.id).cloned();
        let was = last.as_ref().is_some_and(|w| w.connected);
        let since = match &last {
            Some(watch) if watch.connected == connected => watch.since,
            Some(_) => now,
            None => self.state.started.max(host.enrolled_at),
        };
        if connected != was {
            let action = if connected { Action::HostConnected } else { Action::HostLost };
            self.record_host_change(host, action, report.as_ref(), now).await?;
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
            }
        }
        self.observations().insert(host.id, HostObservation { connected, since, stored });
        Ok((!connected).then_some(since))
    }

    async fn record_host_change(
        &self,
        host: &Host,
        action: Action,
        report: Option<&TunnelReport>,
        now: Timestamp,
    ) -> Result<()> {
        let endpoint = report.and_then(|r| r.endpoint);
        let entry = self.store.entry(&RequestSource::local(""), action).by_system().on_host(host);
        let entry = entry.with("endpoint", endpoint.map(|e| e.to_string()));
        tracing::info!(host = %host.id, name = %host.name, event = action.as_str(), "host");
        let id = host.id;
        self.store
            .write(move |tx| {
                if action == Action::HostConnected {
                    tx.update_host_seen(id, endpoint, None, now)?;
                }
                tx.add_entry(&entry);
                Ok(())
            })
            .await?;
        self.changes.publish(Some(host.organization_id), &[Topic::Hosts, Topic::Workspaces]);
        Ok(())
    }

    /// Opens missing tunnels of stored hosts and removes tunnels of hosts that another process
    /// removed.
    fn sync_host_tunnels(&self, stored: Vec<(Host, String)>) -> Vec<Host> {
        let known: HashSet<_> = stored.iter().map(|(host, _)| host.id).collect();
        self.observations().retain(|id, _| {
            let stays = known.contains(id);
            if !stays {
                self.fleet.remove_host(*id);
            }
            stays
        });
        for (host, sealed) in &stored {
            if self.fleet.host(host.id).is_none() {
                self.open_host_tunnel(host, sealed);
            }
        }
        stored.into_iter().map(|(host, _)| host).collect()
    }

    /// Asks every connected host for its desktops; stops those without a live session, and returns
    /// active sessions whose desktop is missing. Only differences to the tracked sessions are read
    /// from the store.
    async fn check_inventories(&self, hosts: &[Host]) -> Result<Vec<Session>> {
        let mut expected: HashMap<HostId, Vec<SessionId>> = HashMap::new();
        for (id, host) in self.tracker.active() {
            if let Some(host) = host {
                expected.entry(host).or_default().push(id);
            }
        }
        let connected: HashSet<HostId> = self.fleet.connected().into_iter().collect();
        // Only agents start desktops.
        let asking = hosts
            .iter()
            .filter(|h| h.kind == HostKind::Agent)
            .map(|h| h.id)
            .filter(|id| connected.contains(id))
            .map(|id| {
                let fleet = self.fleet.clone();
                async move { (id, timeout(STOP_TIMEOUT, fleet.inventory(id)).await) }.boxed()
            });
        let asked = run_bounded(asking.collect()).await;
        let mut lost = Vec::new();
        for (host, answer) in asked {
            let desktops: HashSet<SessionId> = match answer {
                Ok(Ok(desktops)) => desktops.into_iter().collect(),
                Ok(Err(error)) => {
                    tracing::debug!(%host, %error, "a host did not report its desktops");
                    continue;
                }
                Err(_) => continue,
            };
            let there = expected.get(&host).into_iter().flatten().copied();
            let missing = there.filter(|id| !desktops.contains(id)).take(BATCH).collect();
            lost.extend(self.active_sessions(missing).await?);
            self.stop_orphans(host, desktops).await?;
        }
        Ok(lost)
    }

    async fn active_sessions(&self, ids: Vec<SessionId>) -> Result<Vec<Session>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let read = move |tx: &mut Tx<'_>| {
            let mut sessions = Vec::new();
            for id in &ids {
                sessions.extend(tx.session(*id)?.filter(|session| session.state == State::Active));
            }
            Ok(sessions)
        };
        self.store.read(read).await
    }

    async fn stop_orphans(&self, host: HostId, desktops: HashSet<SessionId>) -> Result<()> {
        let unsure: Vec<SessionId> =
            desktops.into_iter().filter(|id| !self.tracker.is_tracked(*id)).take(BATCH).collect();
        if unsure.is_empty() {
            return Ok(());
        }
        // A launched session has its row before its desktop.
        let orphans = self
            .store
            .read(move |tx| {
                let mut orphans = Vec::new();
                for &id in &unsure {
                    if tx.session(id)?.is_none_or(|s| !s.state.is_live()) {
                        orphans.push(id);
                    }
                }
                Ok(orphans)
            })
            .await?;
        let ending = orphans.into_iter().map(|id| {
            tracing::warn!(%host, session = %id, "stopping a desktop without a live session");
            self.teardown.streams.revoke_session(id, EndReason::HostLost);
            self.fleet.drop_keys(id);
            let fleet = self.fleet.clone();
            async move {
                if !matches!(timeout(STOP_TIMEOUT, fleet.stop(Some(host), id)).await, Ok(Ok(()))) {
                    tracing::warn!(%host, session = %id, "the host did not stop the desktop; it is retried");
                }
            }
            .boxed()
        });
        run_bounded(ending.collect()).await;
        Ok(())
    }

    /// Opens a stored host's tunnel. A failure is logged; the reconciler retries.
    pub(in crate::broker) fn open_host_tunnel(&self, host: &Host, sealed: &str) {
        let opened = self.sealer.unseal(SealingPurpose::HostPresharedKey(host.id), sealed);
        let peer = opened.map(|preshared_key| HostPeer { host: host.clone(), preshared_key });
        if let Err(error) = peer.and_then(|peer| self.fleet.add_host(peer).map_err(Error::internal))
        {
            tracing::error!(host = %host.id, cause = ?error.source, "a host's tunnel could not be opened");
        }
    }

    async fn purge(&self, now: Timestamp) -> Result<()> {
        {
            let mut last = lock(&self.state.purged);
            if now.since(*last) < PURGE_INTERVAL {
                return Ok(());
            }
            *last = now;
        }
        self.store.write_unaudited(move |tx| tx.purge(now)).await.map(drop)
    }
}

/// The audit action of a session ended by the system.
fn ending_action(reason: EndReason) -> Action {
    match reason {
        EndReason::Expired => Action::ExpireSession,
        EndReason::LaunchFailed => Action::LaunchWorkspace,
        EndReason::UserDisconnected
        | EndReason::WorkspaceStopped
        | EndReason::AdminStopped
        | EndReason::SignedOut
        | EndReason::SignedOutByAdmin
        | EndReason::UserDisabled
        | EndReason::WorkspaceRemoved
        | EndReason::HostLost => Action::TerminateSession,
    }
}
