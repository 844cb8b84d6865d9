//! Sessions whose tunnel this process holds, the slots they take on hosts, since when each has had no
//! input, and who completes a closing one.
//!
//! A **slot** is room for a session on a host's agent: for a desktop that it starts, or for a
//! session on one of its services. One gateway serves from a database (docs/adr/0020), so its own
//! count of slots is the count, and taking the last one is decided under one lock.

use crate::broker::core::input_counter::InputCounter;
use crate::broker::model::{HostSlots, IdleEnd};
use crate::domain::session::Session;
use crate::domain::session_times::{SessionLimits, SessionTimes};
use crate::domain::sync::lock;
use crate::domain::workspace::Workspace;
use crate::domain::{HostId, SessionId, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// Most abandoned launches remembered. Those beyond it are ended after the launch timeout.
const ABANDONED_MAX: usize = 1024;

/// What this process knows of a session without reading the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) struct TrackedSession {
    /// `None`: a direct target.
    pub(in crate::broker) host_id: Option<HostId>,
    /// `None`: none of an agent's slots.
    pub(in crate::broker) slot: Option<SlotKind>,
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) enum SlotKind {
    Desktop,
    Service,
}

#[derive(Debug, Default)]
struct State {
    tracked: HashMap<SessionId, TrackedSession>,
    by_host: HashMap<HostId, OnHost>,
    inputs: HashMap<SessionId, LastInput>,
    completing: HashSet<SessionId>,
    abandoned: HashMap<SessionId, Timestamp>,
}

/// The tracked sessions of a host.
#[derive(Debug, Default)]
struct OnHost {
    sessions: HashSet<SessionId>,
    used: HostSlots,
}

impl OnHost {
    fn slots(&mut self, slot: SlotKind) -> &mut usize {
        match slot {
            SlotKind::Desktop => &mut self.used.desktops,
            SlotKind::Service => &mut self.used.services,
        }
    }
}

impl State {
    fn insert(&mut self, id: SessionId, session: TrackedSession) {
        // Tracked again, it keeps its inputs.
        let inputs = self.inputs.remove(&id).unwrap_or_default();
        self.remove(id);
        self.inputs.insert(id, inputs);
        if let Some(host) = session.host_id {
            let on_host = self.by_host.entry(host).or_default();
            on_host.sessions.insert(id);
            if let Some(slot) = session.slot {
                *on_host.slots(slot) += 1;
            }
        }
        self.tracked.insert(id, session);
    }

    fn remove(&mut self, id: SessionId) {
        self.inputs.remove(&id);
        let Some(session) = self.tracked.remove(&id) else { return };
        let Some(host) = session.host_id else { return };
        let Some(on_host) = self.by_host.get_mut(&host) else { return };
        on_host.sessions.remove(&id);
        if let Some(slot) = session.slot {
            let used = on_host.slots(slot);
            *used = used.saturating_sub(1);
        }
        if on_host.sessions.is_empty() {
            self.by_host.remove(&host);
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
        lock(&self.state).insert(id, session);
    }

    /// As [`Self::track`], if fewer than `limit` sessions have such a slot on its host.
    pub(in crate::broker) fn try_track(
        &self,
        id: SessionId,
        session: TrackedSession,
        limit: Option<usize>,
    ) -> bool {
        let mut state = lock(&self.state);
        state.remove(id);
        let used = session.host_id.zip(session.slot).map_or(0, |(host, slot)| {
            state.by_host.get_mut(&host).map_or(0, |on_host| *on_host.slots(slot))
        });
        let free = limit.is_none_or(|limit| used < limit);
        if free {
            state.insert(id, session);
        }
        free
    }

    /// The slots that tracked sessions take on a host.
    pub(in crate::broker) fn used_slots(&self, host: HostId) -> HostSlots {
        lock(&self.state).by_host.get(&host).map(|on_host| on_host.used).unwrap_or_default()
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
        let on_host = state.by_host.get(&host).into_iter().flat_map(|on_host| &on_host.sessions);
        let is_active = |id: &SessionId| state.tracked.get(id).is_some_and(|s| s.is_active);
        on_host.copied().filter(is_active).collect()
    }

    /// The hosts of tracked sessions.
    pub(in crate::broker) fn hosts(&self) -> Vec<HostId> {
        lock(&self.state).by_host.keys().copied().collect()
    }

    pub(in crate::broker) fn count(&self) -> usize {
        lock(&self.state).tracked.len()
    }

    /// Remembers a launch of this process that ended without the store saying so: whether its last
    /// transaction was committed is unknown, and nobody else will end its session.
    pub(in crate::broker) fn abandon(&self, id: SessionId, now: Timestamp) {
        let mut state = lock(&self.state);
        state.abandoned.insert(id, now);
        if state.abandoned.len() > ABANDONED_MAX {
            let oldest = state.abandoned.iter().min_by_key(|(id, at)| (**at, **id));
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                state.abandoned.remove(&oldest);
            }
        }
    }

    pub(in crate::broker) fn is_abandoned(&self, id: SessionId) -> bool {
        lock(&self.state).abandoned.contains_key(&id)
    }

    /// Abandoned launches, each with when it ended.
    pub(in crate::broker) fn abandoned(&self) -> Vec<(SessionId, Timestamp)> {
        lock(&self.state).abandoned.iter().map(|(id, at)| (*id, *at)).collect()
    }

    pub(in crate::broker) fn forget_abandoned(&self, id: SessionId) {
        lock(&self.state).abandoned.remove(&id);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tracker() -> SessionTracker {
        let hour = Duration::from_secs(3600);
        SessionTracker::new(SessionTimes::of_installation(hour, hour, None))
    }

    #[test]
    fn slots_are_counted_by_host_and_kind() {
        let tracker = tracker();
        let host = HostId::new();
        let session = |slot| TrackedSession {
            host_id: Some(host),
            slot,
            is_active: false,
            single_seat: false,
            limits: SessionLimits::default(),
        };
        let (desktop, service) =
            (session(Some(SlotKind::Desktop)), session(Some(SlotKind::Service)));
        let (first, second) = (SessionId::new(), SessionId::new());
        assert!(tracker.try_track(first, desktop, Some(1)));
        assert!(tracker.try_track(first, desktop, Some(1)), "its own slot is not another's");
        assert!(!tracker.try_track(second, desktop, Some(1)));
        assert!(!tracker.is_tracked(second));
        assert!(tracker.try_track(second, service, Some(1)), "another kind of slot");
        assert_eq!(tracker.used_slots(host), HostSlots { desktops: 1, services: 1 });
        tracker.untrack(first);
        tracker.track(SessionId::new(), desktop);
        tracker.track(SessionId::new(), session(None));
        assert_eq!(tracker.used_slots(host), HostSlots { desktops: 1, services: 1 });
        tracker.tracked().into_iter().for_each(|id| tracker.untrack(id));
        assert_eq!(tracker.used_slots(host), HostSlots::default());
        assert!(tracker.hosts().is_empty());
    }

    #[test]
    fn of_many_who_take_the_last_slot_one_gets_it() {
        let tracker = tracker();
        let session = TrackedSession {
            host_id: Some(HostId::new()),
            slot: Some(SlotKind::Desktop),
            is_active: false,
            single_seat: false,
            limits: SessionLimits::default(),
        };
        let taken: usize = std::thread::scope(|scope| {
            let take = || tracker.try_track(SessionId::new(), session, Some(3));
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
        });
        assert_eq!(taken, 3);
    }
}
