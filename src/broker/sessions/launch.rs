//! Launch: from permit to desktop, once per user and workspace.
//!
//! ```text
//! evaluate (one transaction) ── resume: this user's session is active ────────────> Launched
//!    │  ^                    └─ wait: it is starting or closing (bounded), then retry
//!    │  └─────────────────────────┘
//!    └─ start: row Creating + seat + slot + address, create_session
//!          └─ attempt ── Ready + lease, launch_workspace ──> Launched
//!                     └─ Close(launch_failed) + Release, launch_workspace error
//!                           └─ the host's own failure, and time is left: evaluate without this host
//! ```
//!
//! Runs in a task of its own: a client that disconnects neither aborts a launch nor leaves it half
//! done.

use crate::broker::catalog::fleet_snapshot::Placements;
use crate::broker::catalog::workspace_view::{UpstreamSummary, workspace_view};
use crate::broker::core::answers::organization_of;
use crate::broker::core::session_tracker::SessionTracker;
use crate::broker::core::settings::Settings;
use crate::broker::core::task::spawn_to_completion;
use crate::broker::core::teardown::{Teardown, TeardownEffects};
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::model::Launched;
use crate::broker::sessions::launch_attempt::{Attempt, AttemptLimit, DesktopStarter};
use crate::broker::sessions::launch_decision::{LaunchDecision, LaunchRequest};
use crate::broker::sessions::view::{SessionViews, WorkspaceTerms};
use crate::domain::audit::{Action, Reason};
use crate::domain::principal::Principal;
use crate::domain::session::{EndReason, Session, State};
use crate::domain::user::RequestSource;
use crate::domain::workspace::Workspace;
use crate::domain::{Error, ErrorKind, HostId, Result, SessionId, WorkspaceId, WorkspaceKey};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Least time for an attempt on another host.
const RETRY_MIN: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Launcher {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) placements: Placements,
    pub(in crate::broker) views: SessionViews,
    pub(in crate::broker) tracker: SessionTracker,
    pub(in crate::broker) teardown: Teardown,
    pub(in crate::broker) settings: Arc<Settings>,
    pub(in crate::broker) starter: DesktopStarter,
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
        self.start(source, caller, id, false).await
    }

    /// As [`Self::launch`]; but an active session whose tunnel does not answer is ended, and a new
    /// one started in its stead.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub async fn replace(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
    ) -> Result<Launched> {
        self.start(source, caller, id, true).await
    }

    async fn start(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
        replace: bool,
    ) -> Result<Launched> {
        let (this, source, caller, id) = (self.clone(), source.clone(), caller.clone(), id.clone());
        spawn_to_completion(async move { this.run_launch(&source, &caller, &id, replace).await })
            .await
    }

    async fn run_launch(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
        replace: bool,
    ) -> Result<Launched> {
        let longest = self.settings.launch_timeout
            + crate::broker::core::teardown::STOP_TIMEOUT
            + Duration::from_secs(2);
        let deadline = Instant::now() + longest;
        let workspace = WorkspaceKey { organization_id: organization_of(caller)?, id: id.clone() };
        let mut attempts = Attempts::default();
        loop {
            let session_id = SessionId::new();
            let request = LaunchRequest {
                caller: caller.clone(),
                context: self.store.policy_context(source, caller),
                workspace: workspace.clone(),
                session_id,
                fleet: self.placements.snapshot_for(&workspace).await?,
                tracker: self.tracker.clone(),
                tried: attempts.tried.clone(),
                now: self.store.now(),
                entry: self.store.entry(source, Action::LaunchWorkspace).by_caller(caller),
                times: self.settings.session_times,
                views: self.views.clone(),
                replace,
                network: self.settings.session_network,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let decided = self.store.transact(move |tx| request.evaluate(tx)).await;
            if !matches!(decided, Ok(LaunchDecision::Start(_))) {
                // Nothing was started, so it takes no slot.
                self.tracker.untrack(session_id);
            }
            if decided.as_ref().is_err_and(may_be_committed) {
                self.tracker.abandon(session_id, self.store.now());
            }
            match decided {
                Ok(LaunchDecision::Resume(session, ..))
                    if self.tracker.is_abandoned(session.id) =>
                {
                    self.end_abandoned(session.id).await?;
                }
                Ok(LaunchDecision::Wait(session)) if self.tracker.is_abandoned(session) => {
                    self.end_abandoned(session).await?;
                }
                Ok(LaunchDecision::Resume(session, workspace, replacement)) => {
                    let launched = self.launch_view(caller, *session, *workspace).await?;
                    return Ok(Launched { replacement, ..launched });
                }
                Ok(LaunchDecision::Replace(closed)) => {
                    self.teardown.apply_effects(TeardownEffects::session(*closed)).await?;
                }
                Ok(LaunchDecision::Start(new)) => {
                    let limit = attempts.begin(self.settings.launch_timeout, new.others);
                    let workspace = new.workspace.clone();
                    let attempted = self.starter.attempt(source, caller, *new, limit).await;
                    if attempted.is_err() {
                        self.tracker.abandon(session_id, self.store.now());
                    }
                    match attempted? {
                        Attempt::Active(session) => {
                            return self.launch_view(caller, *session, workspace).await;
                        }
                        Attempt::Failed { error, retry: None } => return Err(error),
                        Attempt::Failed { error, retry: Some(host) } => {
                            attempts.tried.push(host);
                            attempts.error = Some(error);
                        }
                    }
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
                // That no other host is left says less than why the last one failed.
                Err(error) => return Err(attempts.error.unwrap_or(error)),
            }
        }
    }

    /// Ends the session of a launch that this process gave up without the store saying so: nobody
    /// waits for the launch timeout.
    async fn end_abandoned(&self, id: SessionId) -> Result<()> {
        if let Some(session) = self.store.read(move |tx| tx.session(id)).await? {
            let ending = vec![(session, EndReason::LaunchFailed)];
            join_all(self.teardown.end_by_system(ending).await?).await;
        }
        self.tracker.forget_abandoned(id);
        Ok(())
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
            replacement: None,
        })
    }
}

/// Whether a transaction that failed may have been committed: the store failed, and did not refuse.
fn may_be_committed(error: &Error) -> bool {
    error.source.is_some() && error.kind != ErrorKind::Conflict
}

/// The attempts of one launch.
#[derive(Default)]
struct Attempts {
    /// When the first one began.
    began: Option<Instant>,
    tried: Vec<HostId>,
    /// Why the last one failed.
    error: Option<Error>,
}

impl Attempts {
    /// Begins an attempt, and returns its limits: where another host could follow, half of the time
    /// that is left for the launch.
    fn begin(&mut self, launch_timeout: Duration, others: usize) -> AttemptLimit {
        let now = Instant::now();
        let end = *self.began.get_or_insert(now) + launch_timeout;
        let left = end.saturating_duration_since(now);
        if others == 0 || left < RETRY_MIN * 2 {
            return AttemptLimit { timeout: left, may_retry: false };
        }
        AttemptLimit { timeout: left / 2, may_retry: true }
    }
}
