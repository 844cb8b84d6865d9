//! Sessions whose tunnel this process holds, since when each has had no input, and who completes a
//! closing one.

use crate::broker::core::input_counter::InputCounter;
use crate::broker::model::IdleEnd;
use crate::domain::session::Session;
use crate::domain::session_times::{SessionLimits, SessionTimes};
use crate::domain::sync::lock;
use crate::domain::workspace::Workspace;
use crate::domain::{HostId, SessionId, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// What this process knows of a session without reading the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) struct TrackedSession {
    /// `None`: a direct target.
    pub(in crate::broker) host_id: Option<HostId>,
    /// The desktop or upstream has answered; false while the session is being launched.
    pub(in crate::broker) is_active: bool,
    /// Others see in their listing that the workspace is in use.
    pub(in crate::broker) single_seat: bool,
    /// What its workspace says about its times.
    pub(in crate::broker) limits: SessionLimits,
}

/// The last input of a session, as far as it was looked at.
#[derive(Debug, Default)]
struct LastInput {
    counter: Arc<InputCounter>,
    /// The count when it was looked at last.
    seen: u64,
    /// When the count was seen to have changed, or the session was looked at first.
    at: Option<Timestamp>,
}

impl LastInput {
    fn at(&self, now: Timestamp) -> Timestamp {
        if self.counter.count() == self.seen { self.at.unwrap_or(now) } else { now }
    }
}

#[derive(Debug, Default)]
struct State {
    tracked: HashMap<SessionId, TrackedSession>,
    /// The tracked sessions of each host.
    by_host: HashMap<HostId, HashSet<SessionId>>,
    inputs: HashMap<SessionId, LastInput>,
    completing: HashSet<SessionId>,
}

impl State {
    fn remove(&mut self, id: SessionId) {
        self.inputs.remove(&id);
        let host = self.tracked.remove(&id).and_then(|session| session.host_id);
        if let Some(host) = host
            && let Some(sessions) = self.by_host.get_mut(&host)
        {
            sessions.remove(&id);
            if sessions.is_empty() {
                self.by_host.remove(&host);
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(in crate::broker) struct SessionTracker {
    state: Arc<Mutex<State>>,
    times: SessionTimes,
}

impl SessionTracker {
    /// With the times of the installation.
    pub(in crate::broker) fn new(times: SessionTimes) -> Self {
        Self { state: Arc::default(), times }
    }

    /// The times of the sessions of a workspace.
    pub(in crate::broker) fn times(&self, limits: SessionLimits) -> SessionTimes {
        self.times.within(limits)
    }

    /// Marks a session whose tunnel this process holds or is about to create.
    pub(in crate::broker) fn track(&self, id: SessionId, session: TrackedSession) {
        let mut state = lock(&self.state);
        // Tracked again, it keeps its inputs.
        let inputs = state.inputs.remove(&id).unwrap_or_default();
        state.remove(id);
        state.inputs.insert(id, inputs);
        if let Some(host) = session.host_id {
            state.by_host.entry(host).or_default().insert(id);
        }
        state.tracked.insert(id, session);
    }

    pub(in crate::broker) fn set_active(&self, id: SessionId) {
        if let Some(session) = lock(&self.state).tracked.get_mut(&id) {
            session.is_active = true;
        }
    }

    /// Applies what a workspace says now about the times of these sessions of it.
    pub(in crate::broker) fn set_limits(&self, workspace: &Workspace, sessions: &[Session]) {
        let mut state = lock(&self.state);
        for session in sessions {
            if let Some(tracked) = state.tracked.get_mut(&session.id) {
                tracked.limits = workspace.session_limits;
            }
        }
    }

    pub(in crate::broker) fn untrack(&self, id: SessionId) {
        lock(&self.state).remove(id);
    }

    /// Counts the inputs of a session; one that is not tracked is never looked at.
    pub(in crate::broker) fn input_counter(&self, id: SessionId) -> Arc<InputCounter> {
        lock(&self.state).inputs.get(&id).map(|input| input.counter.clone()).unwrap_or_default()
    }

    /// When a session ends unless it gets input; `None`: that does not end it.
    pub(in crate::broker) fn idle_end(&self, id: SessionId, now: Timestamp) -> Option<IdleEnd> {
        let state = lock(&self.state);
        let session = state.tracked.get(&id).filter(|session| session.is_active)?;
        let timeout = self.times(session.limits).idle_timeout?;
        let last = state.inputs.get(&id).map_or(now, |input| input.at(now));
        Some(IdleEnd { timeout, at: last.after(timeout) })
    }

    /// Looks which active sessions had input, and returns those without input for their idle timeout.
    pub(in crate::broker) fn idle_sessions(&self, now: Timestamp) -> Vec<SessionId> {
        let mut state = lock(&self.state);
        let State { tracked, inputs, .. } = &mut *state;
        let mut idle = Vec::new();
        for (id, session) in tracked.iter().filter(|(_, session)| session.is_active) {
            let input = inputs.entry(*id).or_default();
            let last = input.at(now);
            (input.seen, input.at) = (input.counter.count(), Some(last));
            let timeout = self.times.within(session.limits).idle_timeout;
            if timeout.is_some_and(|timeout| now >= last.after(timeout)) {
                idle.push(*id);
            }
        }
        idle
    }

    pub(in crate::broker) fn get(&self, id: SessionId) -> Option<TrackedSession> {
        lock(&self.state).tracked.get(&id).copied()
    }

    pub(in crate::broker) fn is_tracked(&self, id: SessionId) -> bool {
        lock(&self.state).tracked.contains_key(&id)
    }

    pub(in crate::broker) fn tracked(&self) -> Vec<SessionId> {
        lock(&self.state).tracked.keys().copied().collect()
    }

    /// The active tracked sessions of a host.
    pub(in crate::broker) fn active_on(&self, host: HostId) -> Vec<SessionId> {
        let state = lock(&self.state);
        let on_host = state.by_host.get(&host).into_iter().flatten().copied();
        on_host.filter(|id| state.tracked.get(id).is_some_and(|s| s.is_active)).collect()
    }

    /// The hosts of tracked sessions.
    pub(in crate::broker) fn hosts(&self) -> Vec<HostId> {
        lock(&self.state).by_host.keys().copied().collect()
    }

    pub(in crate::broker) fn count(&self) -> usize {
        lock(&self.state).tracked.len()
    }

    /// Claims the completion of a session, so that reconciler, change watcher and request complete
    /// it once. `None`: already claimed.
    pub(in crate::broker) fn claim(&self, session: SessionId) -> Option<CompletionClaim> {
        lock(&self.state)
            .completing
            .insert(session)
            .then(|| CompletionClaim { session, state: self.state.clone() })
    }

    pub(in crate::broker) fn is_claimed(&self, session: SessionId) -> bool {
        lock(&self.state).completing.contains(&session)
    }
}

/// Exclusive claim to complete a session; released on drop.
pub(in crate::broker) struct CompletionClaim {
    session: SessionId,
    state: Arc<Mutex<State>>,
}

impl Drop for CompletionClaim {
    fn drop(&mut self) {
        lock(&self.state).completing.remove(&self.session);
    }
}
