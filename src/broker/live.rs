//! Who watches a session, and how its streams are cut: authorisation lasts as long as the stream.
//!
//! Everything here is in memory and about this process only; the store is the truth. A relay holds
//! a [`StreamGrant`]: it reads its [`StreamAuthorization`] from a watch channel and counts into [`StreamMeters`]
//! without a lock. The registry behind [`Live`] is one mutex, taken when a stream opens or closes
//! and when something ends, never while bytes pass.

use crate::domain::lease::Lease;
use crate::domain::route::LatencyHistogram;
use crate::domain::session::EndReason;
use crate::domain::sync::lock;
use crate::domain::upstream::{StreamPolicy, TrustRule};
use crate::domain::user::Caller;
use crate::domain::web_app::WebAppConfig;
use crate::domain::{LoginId, OrganizationId, SessionId, Timestamp};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// What became of the right to a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamAuthorization {
    /// It holds.
    Valid,
    /// The session ended.
    SessionEnded(EndReason),
    /// The login it was opened from ended; the session goes on.
    SignedOut,
    /// What the stream may carry, or how its server is trusted, was changed; the session goes on,
    /// and so does a stream opened anew.
    PolicyChanged,
}

/// Something changed; the event stream says "refetch".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Where.
    pub organization_id: Option<OrganizationId>,
    /// What kind.
    pub topic: Topic,
}

/// Kinds of change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Workspaces, or their status.
    Workspaces,
    /// Sessions.
    Sessions,
    /// Hosts.
    Hosts,
}

/// Bytes and round trips of one stream; the relay writes, the API reads. No lock, no store.
#[derive(Debug, Default)]
pub struct StreamMeters {
    /// Bytes browser to desktop.
    pub up: AtomicU64,
    /// Bytes desktop to browser.
    pub down: AtomicU64,
    rtt_micros: AtomicU64,
}

impl StreamMeters {
    /// Notes a round trip browser to gateway.
    pub fn record_rtt(&self, rtt: Duration) {
        self.rtt_micros
            .store(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// The last round trip noted.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        match self.rtt_micros.load(Ordering::Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }
}

/// The right to one stream: the lease, the watch that ends it, and its meters. Dropping it frees
/// the viewer's place.
#[derive(Debug)]
pub struct StreamGrant {
    /// What may be dialled.
    pub lease: Lease,
    /// Ends with anything but [`StreamAuthorization::Held`]; the relay must stop then at once.
    pub authorization: watch::Receiver<StreamAuthorization>,
    /// For the relay to write.
    pub meters: Arc<StreamMeters>,
    /// Frees the place when dropped.
    pub slot: StreamSlotGuard,
}

impl StreamGrant {
    /// Who opened it.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.slot.caller.as_deref()
    }
}

/// A viewer's place in a session.
#[derive(Debug)]
pub struct StreamSlotGuard {
    /// Session.
    pub session_id: SessionId,
    pub(super) opened_at: Timestamp,
    pub(super) caller: Option<Box<Caller>>,
    slot_id: u64,
    registry: Option<Arc<Mutex<RegistryState>>>,
}

impl StreamSlotGuard {
    /// A place in no session's count, for tests of the relay.
    #[must_use]
    pub fn unregistered(session_id: SessionId) -> Self {
        Self { session_id, opened_at: Timestamp(0), caller: None, slot_id: 0, registry: None }
    }
}

impl Drop for StreamSlotGuard {
    fn drop(&mut self) {
        if let Some(registry) = &self.registry {
            lock(registry).remove(self.slot_id, self.session_id);
        }
    }
}

/// What a stream is granted under. When it is changed, the stream is cut and comes back under the
/// new.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct GrantConditions {
    pub(super) policy: StreamPolicy,
    pub(super) trust: TrustRule,
    pub(super) web: WebAppConfig,
}

/// A place that was just taken, with the ends of the channel its holder needs.
pub(super) struct AcquiredSlot {
    pub(super) slot: StreamSlotGuard,
    pub(super) authorization: watch::Receiver<StreamAuthorization>,
    pub(super) meters: Arc<StreamMeters>,
}

#[derive(Debug)]
struct StreamSlot {
    login: LoginId,
    authorization: watch::Sender<StreamAuthorization>,
    meters: Arc<StreamMeters>,
    /// What it was granted under; `None` while that is being decided.
    conditions: Option<GrantConditions>,
}

impl StreamSlot {
    fn revoke(&self, right: StreamAuthorization) {
        self.authorization.send_if_modified(|now| {
            let first = *now == StreamAuthorization::Valid;
            if first {
                *now = right;
            }
            first
        });
    }
}

/// What the mutex guards.
#[derive(Debug, Default)]
struct RegistryState {
    next_id: u64,
    slots: HashMap<u64, StreamSlot>,
    by_session: HashMap<SessionId, Vec<u64>>,
    tracked: HashSet<SessionId>,
    completing: HashSet<SessionId>,
    own_sequence_numbers: BTreeSet<i64>,
}

impl RegistryState {
    fn remove(&mut self, number: u64, session: SessionId) {
        self.slots.remove(&number);
        if let Some(numbers) = self.by_session.get_mut(&session) {
            numbers.retain(|n| *n != number);
            if numbers.is_empty() {
                self.by_session.remove(&session);
            }
        }
    }
}

/// Most own entries remembered for the sentinel; beyond it, it looks once too often.
const OWN_SEQUENCE_NUMBERS_MAX: usize = 4096;
/// Changes a slow event stream may lag behind before it is told to refetch everything.
const CHANGE_BUFFER: usize = 256;

/// Registry of live sessions and their watchers.
#[derive(Debug)]
pub struct StreamRegistry {
    registry: Arc<Mutex<RegistryState>>,
    changes: broadcast::Sender<Change>,
    revision: watch::Sender<u64>,
    audit_revision: watch::Sender<u64>,
}

impl Default for StreamRegistry {
    fn default() -> Self {
        Self {
            registry: Arc::default(),
            changes: broadcast::channel(CHANGE_BUFFER).0,
            revision: watch::channel(0).0,
            audit_revision: watch::channel(0).0,
        }
    }
}

impl StreamRegistry {
    // --- viewers ---

    /// Takes a viewer's place; `None` when the session has `max` already.
    pub(super) fn acquire_slot(
        &self,
        session: SessionId,
        by: &Caller,
        now: Timestamp,
        max: usize,
    ) -> Option<AcquiredSlot> {
        let mut registry = lock(&self.registry);
        if registry.by_session.get(&session).map_or(0, Vec::len) >= max {
            return None;
        }
        registry.next_id += 1;
        let number = registry.next_id;
        let (right, watching) = watch::channel(StreamAuthorization::Valid);
        let meters = Arc::<StreamMeters>::default();
        registry.slots.insert(
            number,
            StreamSlot {
                login: by.login_id,
                authorization: right,
                meters: meters.clone(),
                conditions: None,
            },
        );
        registry.by_session.entry(session).or_default().push(number);
        let place = StreamSlotGuard {
            session_id: session,
            opened_at: now,
            caller: Some(Box::new(by.clone())),
            slot_id: number,
            registry: Some(self.registry.clone()),
        };
        Some(AcquiredSlot { slot: place, authorization: watching, meters })
    }

    /// Tells every watcher of a session why it ended. The first word said to a watcher stays.
    pub(super) fn revoke_session(&self, session: SessionId, reason: EndReason) {
        let registry = lock(&self.registry);
        let numbers = registry.by_session.get(&session).into_iter().flatten();
        numbers
            .filter_map(|n| registry.slots.get(n))
            .for_each(|seat| seat.revoke(StreamAuthorization::SessionEnded(reason)));
    }

    /// Tells every watcher opened from a login that it ended.
    pub(super) fn revoke_login(&self, login: LoginId) {
        lock(&self.registry)
            .slots
            .values()
            .filter(|seat| seat.login == login)
            .for_each(|seat| seat.revoke(StreamAuthorization::SignedOut));
    }

    /// Says under what the holder of a place was granted its stream.
    pub(super) fn set_conditions(&self, place: &StreamSlotGuard, terms: GrantConditions) {
        if let Some(seat) = lock(&self.registry).slots.get_mut(&place.slot_id) {
            seat.conditions = Some(terms);
        }
    }

    /// Tells every watcher of a session that was not granted its stream under these terms that they
    /// were changed.
    pub(super) fn revoke_outdated(&self, session: SessionId, terms: &GrantConditions) {
        let registry = lock(&self.registry);
        let numbers = registry.by_session.get(&session).into_iter().flatten();
        let seats = numbers
            .filter_map(|n| registry.slots.get(n))
            .filter(|seat| seat.conditions.as_ref() != Some(terms));
        seats.for_each(|seat| seat.revoke(StreamAuthorization::PolicyChanged));
    }

    /// Open streams of a session, and the last round trip noted in any of them.
    pub(super) fn stream_stats(&self, session: SessionId) -> (usize, Option<Duration>) {
        let registry = lock(&self.registry);
        let numbers = registry.by_session.get(&session).map_or(&[][..], Vec::as_slice);
        let rtt =
            numbers.iter().rev().filter_map(|n| registry.slots.get(n)).find_map(|s| s.meters.rtt());
        (numbers.len(), rtt)
    }

    /// Sessions and logins that hold a stream here.
    pub(super) fn with_streams(&self) -> (Vec<SessionId>, Vec<LoginId>) {
        let registry = lock(&self.registry);
        let logins: HashSet<_> = registry.slots.values().map(|s| s.login).collect();
        (registry.by_session.keys().copied().collect(), logins.into_iter().collect())
    }

    /// Open streams.
    pub(super) fn stream_count(&self) -> usize {
        lock(&self.registry).slots.len()
    }

    /// The last round trips of all open streams.
    pub(super) fn rtt_histogram(&self) -> LatencyHistogram {
        let mut spread = LatencyHistogram::default();
        lock(&self.registry)
            .slots
            .values()
            .filter_map(|seat| seat.meters.rtt())
            .for_each(|took| spread.observe(took));
        spread
    }

    // --- sessions whose keys or desktop this process may hold ---

    /// This process holds this session's tunnel, or is about to.
    pub(super) fn track(&self, session: SessionId) {
        lock(&self.registry).tracked.insert(session);
    }

    /// It holds it no longer.
    pub(super) fn untrack(&self, session: SessionId) {
        lock(&self.registry).tracked.remove(&session);
    }

    /// Whether it does.
    pub(super) fn is_tracked(&self, session: SessionId) -> bool {
        lock(&self.registry).tracked.contains(&session)
    }

    /// The sessions known here.
    pub(super) fn tracked(&self) -> Vec<SessionId> {
        lock(&self.registry).tracked.iter().copied().collect()
    }

    /// How many.
    pub(super) fn tracked_count(&self) -> usize {
        lock(&self.registry).tracked.len()
    }

    /// Claims the finishing of a session, so that reaper, sentinel and request do it once; `None`:
    /// somebody has it.
    pub(super) fn claim(&self, session: SessionId) -> Option<CompletionClaim> {
        lock(&self.registry)
            .completing
            .insert(session)
            .then(|| CompletionClaim { session, registry: self.registry.clone() })
    }

    /// Whether somebody is finishing it.
    pub(super) fn is_claimed(&self, session: SessionId) -> bool {
        lock(&self.registry).completing.contains(&session)
    }

    // --- the sentinel's memory ---

    /// These audit entries are our own.
    pub(super) fn record_own(&self, entries: &[i64]) {
        let mut registry = lock(&self.registry);
        registry.own_sequence_numbers.extend(entries);
        while registry.own_sequence_numbers.len() > OWN_SEQUENCE_NUMBERS_MAX {
            registry.own_sequence_numbers.pop_first();
        }
    }

    /// Whether every entry after `last` up to `now` is our own; forgets them.
    pub(super) fn all_own(&self, last: i64, now: i64) -> bool {
        let mut registry = lock(&self.registry);
        let keep = registry.own_sequence_numbers.split_off(&now.saturating_add(1));
        let seen = std::mem::replace(&mut registry.own_sequence_numbers, keep);
        let own = seen.range(last.saturating_add(1)..).count();
        usize::try_from(now.saturating_sub(last)).is_ok_and(|n| n == own)
    }

    // --- telling ---

    /// Says that something changed.
    pub(super) fn publish(&self, organization_id: Option<OrganizationId>, topics: &[Topic]) {
        for &topic in topics {
            // Nobody listening is fine.
            let _ = self.changes.send(Change { organization_id, topic });
        }
        self.revision.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// What [`Live::publish`] says.
    pub(super) fn subscribe_changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Says that the audit log grew. Apart from the changes, since it grows with each of them: a
    /// burst is one word to a slow listener.
    pub(super) fn notify_audit(&self) {
        self.audit_revision.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Moves at every [`Live::log_grew`].
    pub(super) fn subscribe_audit(&self) -> watch::Receiver<u64> {
        self.audit_revision.subscribe()
    }

    /// Moves at every [`Live::publish`]: for those who wait for a session to come or go.
    pub(super) fn subscribe_revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

/// The right to finish a session.
pub(super) struct CompletionClaim {
    session: SessionId,
    registry: Arc<Mutex<RegistryState>>,
}

impl Drop for CompletionClaim {
    fn drop(&mut self) {
        lock(&self.registry).completing.remove(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_entries_are_told_from_others() {
        let live = StreamRegistry::default();
        live.record_own(&[1, 2, 3]);
        assert!(live.all_own(0, 3));
        assert!(!live.all_own(3, 4), "nobody here wrote 4");
        live.record_own(&[5, 7]);
        assert!(!live.all_own(4, 7), "6 is somebody else's");
        live.record_own(&[8, 9]);
        assert!(live.all_own(7, 8));
        assert!(live.all_own(8, 9), "later ones are kept");
    }
}
