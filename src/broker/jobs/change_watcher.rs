//! Change watcher: notices what another process changed, such as the command line, and applies it
//! to the streams and tunnels of this process.
//!
//! Every change is audited, so the sequence number of the log's end is a change counter; it is read
//! four times a second, which costs one row. Entries that this process wrote are skipped. Of other
//! entries, what they name is compared with the store: sessions and workspaces with a stream or
//! tunnel here, and logins and users with a stream here. What is no longer valid is revoked, and
//! what is closing is completed. At the start, and after very many foreign entries, everything with
//! a stream or tunnel here is compared.
//!
//! While the store cannot be read, streams continue (nobody can open or end one, or sign in); they
//! are compared when it is back.

use crate::broker::core::changes::{Changes, Topic};
use crate::broker::core::session_tracker::SessionTracker;
use crate::broker::core::stream_registry::StreamRegistry;
use crate::broker::core::teardown::Teardown;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::audit::Entry;
use crate::domain::session::{EndReason, Session, State};
use crate::domain::workspace::Workspace;
use crate::domain::{
    LoginId, OrganizationId, Result, SessionId, UserId, WorkspaceId, WorkspaceKey,
};
use crate::store::Tx;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Interval of reading the change counter.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Foreign entries that are read one by one; beyond it, everything here is compared.
const ENTRIES_MAX: i64 = 500;
/// Sessions and logins per transaction.
const BATCH: usize = 200;
/// Closing sessions per pass.
const CLOSING_BATCH: usize = 200;

#[derive(Clone)]
pub struct ChangeWatcher {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) streams: StreamRegistry,
    pub(in crate::broker) tracker: SessionTracker,
    pub(in crate::broker) changes: Changes,
    pub(in crate::broker) teardown: Teardown,
}

/// What audit entries of other processes name.
#[derive(Default)]
struct Named {
    sessions: HashSet<SessionId>,
    workspaces: HashSet<WorkspaceKey>,
    users: HashSet<UserId>,
    logins: HashSet<LoginId>,
    topics: HashSet<(Option<OrganizationId>, Topic)>,
}

impl Named {
    fn add(&mut self, entry: &Entry) {
        let organization = entry.organization_id;
        let session = entry.session_id.as_deref();
        self.sessions.extend(session.and_then(|id| id.parse::<SessionId>().ok()));
        let id = entry.target.id.as_deref();
        match entry.target.kind.as_deref() {
            Some("workspace") => {
                let key = organization.zip(id.and_then(|id| WorkspaceId::parse(id).ok()));
                self.workspaces
                    .extend(key.map(|(organization_id, id)| WorkspaceKey { organization_id, id }));
                self.topics.insert((organization, Topic::Workspaces));
            }
            Some("host") => {
                self.topics.insert((organization, Topic::Hosts));
                self.topics.insert((organization, Topic::Workspaces));
            }
            Some("user") => self.users.extend(id.and_then(|id| id.parse::<UserId>().ok())),
            Some("login") => self.logins.extend(id.and_then(|id| id.parse::<LoginId>().ok())),
            _ => {}
        }
    }
}

impl ChangeWatcher {
    pub(in crate::broker) async fn run(&self) {
        let mut every = interval(POLL_INTERVAL);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut cursor = None;
        let mut failing = false;
        loop {
            every.tick().await;
            match self.poll_changes(cursor).await {
                Ok(next) => {
                    cursor = Some(next);
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the change watcher cannot read the store; it retries");
                    }
                    failing = true;
                }
            }
        }
    }

    /// One pass from the sequence number it reached before; returns the one it reached.
    async fn poll_changes(&self, cursor: Option<i64>) -> Result<i64> {
        let counter = self.store.read(|tx| tx.change_counter()).await?;
        match cursor {
            Some(last) if counter == last => {}
            Some(last) if counter > last && counter - last <= ENTRIES_MAX => {
                let foreign = self.changes.take_foreign(last, counter);
                if !foreign.is_empty() {
                    self.apply_entries(last, foreign).await?;
                    self.changes.notify_audit();
                }
            }
            // The first pass, or more entries than it pays to read.
            Some(_) | None => {
                self.reconcile().await?;
                self.changes.publish(None, &[Topic::Workspaces, Topic::Sessions, Topic::Hosts]);
                self.changes.notify_audit();
            }
        }
        Ok(counter)
    }

    /// Applies entries of other processes after a sequence number.
    async fn apply_entries(&self, last: i64, foreign: Vec<i64>) -> Result<()> {
        let count = usize::try_from(ENTRIES_MAX).unwrap_or(usize::MAX);
        let entries = self.store.read(move |tx| tx.audit_entries_after(last, count)).await?;
        let mut named = Named::default();
        entries.iter().filter(|entry| foreign.contains(&entry.seq)).for_each(|e| named.add(e));
        let Named { mut sessions, workspaces, users, logins, topics } = named;
        sessions.extend(self.live_sessions_in(workspaces).await?);
        let here: Vec<SessionId> = sessions
            .into_iter()
            .filter(|id| self.tracker.is_tracked(*id) || self.streams.has_streams(*id))
            .collect();
        let logins = self.streams.logins_with_streams(&users, &logins);
        let closing = self.compare(here, logins).await?;
        self.teardown.spawn_completions(closing);
        for (organization, topic) in topics {
            self.changes.publish(organization, &[topic]);
        }
        Ok(())
    }

    async fn live_sessions_in(&self, workspaces: HashSet<WorkspaceKey>) -> Result<Vec<SessionId>> {
        if workspaces.is_empty() {
            return Ok(Vec::new());
        }
        self.store.read(move |tx| tx.live_session_ids(&workspaces)).await
    }

    /// Compares every session and login with a stream or tunnel here with the store.
    pub(in crate::broker) async fn reconcile(&self) -> Result<()> {
        let (mut sessions, logins) = self.streams.with_streams();
        sessions.extend(self.tracker.tracked());
        sessions.sort_unstable();
        sessions.dedup();
        self.compare(sessions, logins).await?;
        let closing =
            self.store.read(|tx| tx.live_sessions_in_states(&["closing"], CLOSING_BATCH)).await?;
        self.teardown.spawn_completions(closing);
        Ok(())
    }

    /// Compares sessions and logins with the store; returns the sessions that are closing.
    async fn compare(
        &self,
        sessions: Vec<SessionId>,
        logins: Vec<LoginId>,
    ) -> Result<Vec<Session>> {
        let mut closing = Vec::new();
        // Logins are read first and revoked last: when both ended together, the session's reason is
        // delivered, which says more than "signed out".
        let mut invalid = Vec::new();
        for batch in logins.chunks(BATCH) {
            invalid.extend(self.invalid_logins(batch.to_vec()).await?);
        }
        for batch in sessions.chunks(BATCH) {
            for (id, session, workspace) in self.sessions_with_workspaces(batch.to_vec()).await? {
                if let (Some(session), Some(workspace)) = (&session, &workspace) {
                    let session = std::slice::from_ref(session);
                    self.streams.revoke_outdated_in(workspace, session);
                    self.tracker.set_limits(workspace, session);
                }
                if let Some(session) = &session {
                    let tracked = self.tracker.get(id);
                    let single_seat = tracked.is_none_or(|tracked| tracked.single_seat);
                    self.changes.publish_session(session, single_seat);
                    if matches!(session.state, State::Closing(_)) {
                        closing.push(session.clone());
                    }
                }
                self.apply_stored_state(id, session);
            }
        }
        for login in invalid {
            self.streams.revoke_login(login);
        }
        Ok(closing)
    }

    /// Sessions, each with its workspace while it is active.
    async fn sessions_with_workspaces(
        &self,
        ids: Vec<SessionId>,
    ) -> Result<Vec<(SessionId, Option<Session>, Option<Workspace>)>> {
        let read = move |tx: &mut Tx<'_>| {
            let of = |id: &SessionId| {
                let session = tx.session(*id)?;
                let active = session.as_ref().filter(|s| s.state == State::Active);
                let workspace =
                    active.map(|s| tx.workspace(&s.workspace_key())).transpose()?.flatten();
                Ok((*id, session, workspace))
            };
            ids.iter().map(of).collect()
        };
        self.store.read(read).await
    }

    async fn invalid_logins(&self, ids: Vec<LoginId>) -> Result<Vec<LoginId>> {
        let now = self.store.now();
        self.store
            .read(move |tx| {
                let mut dead = Vec::new();
                for &id in &ids {
                    let login = tx.login(id)?.filter(|l| l.is_active(now));
                    let user = login.map(|l| tx.user(l.user_id)).transpose()?.flatten();
                    if user.is_none_or(|u| u.disabled) {
                        dead.push(id);
                    }
                }
                Ok(dead)
            })
            .await
    }

    fn apply_stored_state(&self, id: SessionId, session: Option<Session>) {
        match session {
            Some(session) => match session.state {
                State::Queued | State::Creating | State::Active => {}
                State::Closing(_) => {
                    self.teardown.revoke(&session);
                }
                // Released by a process that could not reach the host: the desktop may still run.
                State::Closed(_) => {
                    self.teardown.revoke(&session);
                    self.tracker.untrack(id);
                    let this = self.clone();
                    tokio::spawn(async move { this.teardown.stop_desktop(&session).await });
                }
            },
            None => {
                self.streams.revoke_session(id, EndReason::HostLost);
                self.fleet.drop_keys(id);
                self.tracker.untrack(id);
            }
        }
    }
}
