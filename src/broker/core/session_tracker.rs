//! Sessions whose tunnel this process holds, and who completes a closing one.

use crate::domain::sync::lock;
use crate::domain::{HostId, SessionId};
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
}

#[derive(Debug, Default)]
struct State {
    tracked: HashMap<SessionId, TrackedSession>,
    /// The tracked sessions of each host.
    by_host: HashMap<HostId, HashSet<SessionId>>,
    completing: HashSet<SessionId>,
}

impl State {
    fn remove(&mut self, id: SessionId) {
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

#[derive(Clone, Debug, Default)]
pub(in crate::broker) struct SessionTracker {
    state: Arc<Mutex<State>>,
}

impl SessionTracker {
    /// Marks a session whose tunnel this process holds or is about to create.
    pub(in crate::broker) fn track(&self, id: SessionId, session: TrackedSession) {
        let mut state = lock(&self.state);
        state.remove(id);
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

    pub(in crate::broker) fn untrack(&self, id: SessionId) {
        lock(&self.state).remove(id);
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
