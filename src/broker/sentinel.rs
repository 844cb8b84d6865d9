//! Notices what another process changed, such as an administrator's command line, and acts on it
//! here.
//!
//! Everything that changes is audited, so the end of the log is a counter of changes; the sentinel
//! reads it four times a second, which costs one row. Entries this process wrote itself are told
//! apart by their places. When others are among them, it looks again at the sessions and logins
//! that hold a stream or a tunnel here, in bounded batches: what is no longer active, or streams
//! under a policy that was changed, is cut, and what is closing is finished.
//!
//! When the store cannot be read, streams go on (nobody can open another one, end one or sign in);
//! they are cut when it is back.

use super::Broker;
use super::live::Topic;
use crate::domain::session::{Session, State};
use crate::domain::workspace::Workspace;
use crate::domain::{LoginId, Result, SessionId};
use crate::store::Tx;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often it looks.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Sessions and logins looked at in one transaction.
const BATCH: usize = 200;
/// Closing sessions taken up in one look.
const CLOSING_BATCH: usize = 200;

impl Broker {
    pub(super) async fn run_change_watcher(&self) {
        let mut every = interval(POLL_INTERVAL);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // From before whatever happened while the gateway was down: the first look takes everything
        // in.
        let mut seen = -1;
        let mut failing = false;
        loop {
            every.tick().await;
            match self.poll_changes(&mut seen).await {
                Ok(_) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the sentinel cannot read the store; it goes on trying");
                    }
                    failing = true;
                }
            }
        }
    }

    /// One look; whether there was anything of others.
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

    /// Compares everything that holds a stream or a tunnel here with the store.
    pub(super) async fn reconcile(&self) -> Result<()> {
        let (mut sessions, logins) = self.streams().with_streams();
        sessions.extend(self.streams().tracked());
        sessions.sort_unstable();
        sessions.dedup();
        // Logins are read first and told last: when both ended together, the session is then seen
        // to have ended too, and its watchers learn that reason, which says more than "signed out".
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

    /// Sessions, each with its workspace while it can be used.
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
                // Released by somebody who could not reach its host: its desktop may still be
                // there.
                State::Closed(_) => {
                    self.revoke(&session);
                    self.streams().untrack(id);
                    let broker = self.clone();
                    tokio::spawn(async move { broker.stop_desktop(&session).await });
                }
            },
            None => {
                self.inner.fleet.drop_keys(id);
                self.streams().untrack(id);
            }
        }
    }

    /// Finishes closing sessions without holding up the look; each is claimed, so it happens once.
    pub(super) fn spawn_completions(&self, closing: Vec<Session>) {
        for session in closing {
            if self.streams().is_claimed(session.id) {
                continue;
            }
            let report = self.revoke(&session);
            let broker = self.clone();
            tokio::spawn(async move {
                let id = session.id;
                if let Err(error) = broker.complete(session, report, true).await {
                    tracing::warn!(session = %id, %error, "a closing session could not be finished; it is tried again");
                }
            });
        }
    }
}
