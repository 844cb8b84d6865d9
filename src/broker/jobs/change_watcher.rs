//! Change watcher: notices what another process changed, such as the command line, and applies it
//! to the streams and tunnels of this process.
//!
//! Every change is audited, so the sequence number of the log's end is a change counter; it is read
//! four times a second, which costs one row. Sequence numbers that this process wrote are skipped.
//! For other entries, the sessions and logins with a stream or tunnel here are compared with the
//! store in bounded batches: what is no longer valid is revoked, and what is closing is completed.
//!
//! While the store cannot be read, streams continue (nobody can open or end one, or sign in); they
//! are compared when it is back.

use crate::broker::Broker;
use crate::broker::core::stream_registry::Topic;
use crate::domain::session::{EndReason, Session, State};
use crate::domain::workspace::Workspace;
use crate::domain::{LoginId, Result, SessionId};
use crate::store::Tx;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Interval of reading the change counter.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Sessions and logins per transaction.
const BATCH: usize = 200;
/// Closing sessions per pass.
const CLOSING_BATCH: usize = 200;

impl Broker {
    pub(in crate::broker) async fn run_change_watcher(&self) {
        let mut every = interval(POLL_INTERVAL);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Before any sequence number: the first pass compares everything.
        let mut seen = -1;
        let mut failing = false;
        loop {
            every.tick().await;
            match self.poll_changes(&mut seen).await {
                Ok(_) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the change watcher cannot read the store; it retries");
                    }
                    failing = true;
                }
            }
        }
    }

    /// One pass; `true` if another process wrote entries.
    async fn poll_changes(&self, seen: &mut i64) -> Result<bool> {
        let counter = self.inner.store.read(|tx| tx.change_counter()).await?;
        if counter == *seen {
            return Ok(false);
        }
        let ours = *seen >= 0 && counter > *seen && self.streams().all_own(*seen, counter);
        if !ours {
            self.reconcile().await?;
            self.streams().publish(None, &[Topic::Workspaces, Topic::Sessions, Topic::Hosts]);
            self.streams().notify_audit();
        }
        *seen = counter;
        Ok(!ours)
    }

    /// Compares every session and login with a stream or tunnel here with the store.
    pub(in crate::broker) async fn reconcile(&self) -> Result<()> {
        let (mut sessions, logins) = self.streams().with_streams();
        sessions.extend(self.streams().tracked());
        sessions.sort_unstable();
        sessions.dedup();
        // Logins are read first and revoked last: when both ended together, the session's reason is
        // delivered, which says more than "signed out".
        let mut dead = Vec::new();
        for batch in logins.chunks(BATCH) {
            dead.extend(self.invalid_logins(batch.to_vec()).await?);
        }
        for batch in sessions.chunks(BATCH) {
            for (id, session, workspace) in self.sessions_with_workspaces(batch.to_vec()).await? {
                if let (Some(session), Some(workspace)) = (&session, &workspace) {
                    self.revoke_outdated_streams(workspace, std::slice::from_ref(session));
                }
                self.apply_stored_state(id, session);
            }
        }
        for login in dead {
            self.streams().revoke_login(login);
        }
        let closing = self
            .inner
            .store
            .read(|tx| tx.live_sessions_in_states(&["closing"], CLOSING_BATCH))
            .await?;
        self.spawn_completions(closing);
        Ok(())
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
                    active.map(|s| tx.workspace(&s.workspace_id)).transpose()?.flatten();
                Ok((*id, session, workspace))
            };
            ids.iter().map(of).collect()
        };
        self.inner.store.read(read).await
    }

    async fn invalid_logins(&self, ids: Vec<LoginId>) -> Result<Vec<LoginId>> {
        let now = self.now();
        self.inner
            .store
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
                    self.revoke(&session);
                }
                // Released by a process that could not reach the host: the desktop may still run.
                State::Closed(_) => {
                    self.revoke(&session);
                    self.streams().untrack(id);
                    let broker = self.clone();
                    tokio::spawn(async move { broker.stop_desktop(&session).await });
                }
            },
            None => {
                self.streams().revoke_session(id, EndReason::HostLost);
                self.inner.fleet.drop_keys(id);
                self.streams().untrack(id);
            }
        }
    }

    /// Completes closing sessions in tasks of their own; the claim ensures that each completes
    /// once.
    pub(in crate::broker) fn spawn_completions(&self, closing: Vec<Session>) {
        for session in closing {
            if self.streams().is_claimed(session.id) {
                continue;
            }
            let report = self.revoke(&session);
            let broker = self.clone();
            tokio::spawn(async move {
                let id = session.id;
                if let Err(error) = broker.complete(session, report, true).await {
                    tracing::warn!(session = %id, %error, "a closing session could not be completed; it is retried");
                }
            });
        }
    }
}
