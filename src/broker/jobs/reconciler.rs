//! Reconciler: every few seconds, and whenever hosts come and go, ends what nobody looks after.
//!
//! | found | action |
//! | --- | --- |
//! | sessions past their end | `expired` |
//! | active sessions without input for their idle timeout | `idle_timeout` |
//! | launches interrupted by a killed gateway | `launch_failed` |
//! | closing sessions that nobody completes | completed |
//! | sessions on a host that was removed | `host_lost` |
//! | expired tickets, challenges, tokens, entered credentials | deleted |
//!
//! A pass reads what is due by index, and waits for the store only. What is asked of a host is asked
//! in tasks of its own: [`HostChecks`], and the completions of closing sessions.

use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::jobs::host_checks::{HostChecks, active_sessions, active_sessions_of_host};
use crate::broker::ports::host_fleet::{HostFleet, HostPeer};
use crate::broker::targets::ephemeral_credentials::EphemeralCredentials;
use crate::domain::error::Error;
use crate::domain::host::Host;
use crate::domain::session::{EndReason, Session};
use crate::domain::sync::lock;
use crate::domain::{HostId, Result, SessionId, Timestamp};
use crate::store::Tx;
use futures_util::future::join_all;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

/// Interval between passes when nothing happens.
const INTERVAL: Duration = Duration::from_secs(3);
/// Minimum time between two passes.
const MIN_INTERVAL: Duration = Duration::from_millis(250);
/// Sessions per pass, of each kind.
const BATCH: usize = 200;
/// Time beyond the launch timeout after which a launch counts as interrupted.
const LAUNCH_SLACK: Duration = Duration::from_secs(10);
/// How long an abandoned launch without a row is looked for.
const ABANDONED_FOR: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Reconciler {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) ephemeral: Arc<EphemeralCredentials>,
    pub(in crate::broker) checks: HostChecks,
}

/// A pass: the stored hosts, and the tasks that complete what it ended.
struct Pass {
    hosts: Vec<Host>,
    endings: Vec<JoinHandle<()>>,
}

impl Reconciler {
    pub(in crate::broker) async fn run(&self) {
        let mut changed = self.fleet.hosts_changed();
        let mut open = true;
        let mut tasks = HostTasks::default();
        loop {
            changed.mark_unchanged();
            match self.pass().await {
                Ok(pass) => tasks.sync(&pass.hosts, &self.checks),
                Err(error) => tracing::warn!(%error, "a reconciler pass failed; it is retried"),
            }
            sleep(MIN_INTERVAL).await;
            let until = Instant::now() + (INTERVAL - MIN_INTERVAL);
            if open {
                if let Ok(changed) = timeout_at(until, changed.changed()).await {
                    open = changed.is_ok();
                }
            } else {
                tokio::time::sleep_until(until).await;
            }
        }
    }

    /// One pass and one check of each host, with all that they end, for tests.
    ///
    /// # Errors
    /// The first failure of the store; what came before it is done.
    pub(in crate::broker) async fn reconcile_once(&self) -> Result<()> {
        let Pass { hosts, mut endings } = self.pass().await?;
        for host in &hosts {
            endings.extend(self.checks.check_once(host).await?);
        }
        join_all(endings).await;
        Ok(())
    }

    async fn pass(&self) -> Result<Pass> {
        let now = self.store.now();
        self.ephemeral.remove_expired(now);
        let launch_by = now.before(self.checks.settings.launch_timeout + LAUNCH_SLACK);
        let abandoned = self.abandoned_launches(now).await?;
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
        let orphaned = |s: &Session| {
            s.created_at < self.checks.state.started && !self.checks.tracker.is_tracked(s.id)
        };
        let mut ending: Vec<_> = starting
            .into_iter()
            .filter(|s| s.created_at < launch_by || orphaned(s))
            .map(|s| (s, EndReason::LaunchFailed))
            .collect();
        ending.extend(abandoned.into_iter().map(|s| (s, EndReason::LaunchFailed)));
        ending.extend(expired.into_iter().map(|s| (s, EndReason::Expired)));
        let lost = self.sessions_of_removed_hosts(&hosts).await?;
        ending.extend(lost.into_iter().map(|s| (s, EndReason::HostLost)));
        let idle = self.checks.tracker.idle_sessions(now);
        if !idle.is_empty() {
            let idle = self.store.read(move |tx| active_sessions(tx, &idle)).await?;
            ending.extend(idle.into_iter().map(|s| (s, EndReason::IdleTimeout)));
        }
        let mut once = HashSet::new();
        ending.retain(|(session, _)| once.insert(session.id));
        let mut endings = self.checks.teardown.spawn_completions(closing);
        endings.extend(self.checks.teardown.end_by_system(ending).await?);
        Ok(Pass { hosts, endings })
    }

    /// Live sessions of launches that this process gave up without the store saying so.
    async fn abandoned_launches(&self, now: Timestamp) -> Result<Vec<Session>> {
        let abandoned = self.checks.tracker.abandoned();
        if abandoned.is_empty() {
            return Ok(Vec::new());
        }
        let read = move |tx: &mut Tx<'_>| {
            abandoned.iter().map(|(id, at)| Ok((*id, *at, tx.session(*id)?))).collect()
        };
        let found: Vec<(SessionId, Timestamp, Option<Session>)> = self.store.read(read).await?;
        let mut live = Vec::new();
        for (id, at, session) in found {
            match session {
                Some(session) if session.state.end_reason().is_none() => live.push(session),
                Some(_) => self.checks.tracker.forget_abandoned(id),
                // The database may still commit what it did not answer.
                None if now.since(at) < ABANDONED_FOR => {}
                None => self.checks.tracker.forget_abandoned(id),
            }
        }
        Ok(live)
    }

    /// Active sessions on hosts that are not stored any more.
    async fn sessions_of_removed_hosts(&self, stored: &[Host]) -> Result<Vec<Session>> {
        let stored: HashSet<HostId> = stored.iter().map(|host| host.id).collect();
        let mut removed = self.checks.tracker.hosts();
        removed.retain(|host| !stored.contains(host));
        if removed.is_empty() {
            return Ok(Vec::new());
        }
        self.store
            .read(move |tx| {
                let mut sessions = Vec::new();
                for host in &removed {
                    sessions.extend(active_sessions_of_host(tx, *host)?);
                }
                Ok(sessions)
            })
            .await
    }

    /// Opens missing tunnels of stored hosts and removes tunnels of hosts that another process
    /// removed.
    fn sync_host_tunnels(&self, stored: Vec<(Host, String)>) -> Vec<Host> {
        let known: HashSet<_> = stored.iter().map(|(host, _)| host.id).collect();
        lock(&self.checks.state.hosts).retain(|id, _| {
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

    /// Opens a stored host's tunnel. A failure is logged; the reconciler retries.
    pub(in crate::broker) fn open_host_tunnel(&self, host: &Host, sealed: &str) {
        let opened = self.sealer.unseal(SealingPurpose::HostPresharedKey(host.id), sealed);
        let peer = opened.map(|preshared_key| HostPeer { host: host.clone(), preshared_key });
        if let Err(error) = peer.and_then(|peer| self.fleet.add_host(peer).map_err(Error::internal))
        {
            tracing::error!(host = %host.id, cause = ?error.source, "a host's tunnel could not be opened");
        }
    }
}

/// The task of each stored host; all end when this is dropped.
#[derive(Default)]
struct HostTasks {
    running: JoinSet<()>,
    by_host: HashMap<HostId, AbortHandle>,
}

impl HostTasks {
    /// Starts the missing tasks and ends those of hosts that are not stored any more.
    fn sync(&mut self, hosts: &[Host], checks: &HostChecks) {
        while self.running.try_join_next().is_some() {}
        let stored: HashSet<HostId> = hosts.iter().map(|host| host.id).collect();
        self.by_host.retain(|id, task| {
            let stays = stored.contains(id);
            if !stays {
                task.abort();
            }
            stays && !task.is_finished()
        });
        for host in hosts {
            let running = &mut self.running;
            let start = || running.spawn(checks.clone().run(host.clone()));
            self.by_host.entry(host.id).or_insert_with(start);
        }
    }
}
