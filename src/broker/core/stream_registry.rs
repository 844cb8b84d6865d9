//! Registry of open streams: authorization lasts as long as the stream.
//!
//! The registry is in memory and knows only this process; the store is authoritative. A relay holds
//! a [`StreamGrant`]: it reads its [`StreamAuthorization`] from a watch channel and counts into
//! [`StreamMeters`] without a lock. The registry's mutex is taken when a stream opens or closes and
//! when something is revoked, never per byte.

use crate::domain::lease::Lease;
use crate::domain::principal::Principal;
use crate::domain::route::LatencyHistogram;
use crate::domain::session::EndReason;
use crate::domain::sync::lock;
use crate::domain::upstream::{StreamPolicy, TrustRule};
use crate::domain::web_app::WebAppConfig;
use crate::domain::{LoginId, OrganizationId, SessionId, Timestamp};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Whether a stream may continue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamAuthorization {
    Valid,
    SessionEnded(EndReason),
    /// The login that opened the stream ended; the session continues.
    SignedOut,
    /// The stream's policy or the upstream's trust rule changed. The session continues, and a new
    /// stream may be opened.
    PolicyChanged,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    pub organization_id: Option<OrganizationId>,
    pub topic: Topic,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    Workspaces,
    Sessions,
    Hosts,
}

/// Byte counts and round-trip time of one stream: written by the relay, read by the API.
#[derive(Debug, Default)]
pub struct StreamMeters {
    /// Bytes browser to desktop.
    pub up: AtomicU64,
    /// Bytes desktop to browser.
    pub down: AtomicU64,
    rtt_micros: AtomicU64,
}

impl StreamMeters {
    /// Records a round trip between browser and gateway.
    pub fn record_rtt(&self, rtt: Duration) {
        self.rtt_micros
            .store(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        match self.rtt_micros.load(Ordering::Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }
}

/// Permission for one stream: the lease, the revocation channel and the meters. Dropping it frees
/// the slot.
#[derive(Debug)]
pub struct StreamGrant {
    /// The only target that may be dialled.
    pub lease: Lease,
    /// The relay must stop at any value other than [`StreamAuthorization::Valid`].
    pub authorization: watch::Receiver<StreamAuthorization>,
    pub meters: Arc<StreamMeters>,
    /// Frees the slot when dropped.
    pub slot: StreamSlotGuard,
}

impl StreamGrant {
    #[must_use]
    pub fn caller(&self) -> Option<&Principal> {
        self.slot.caller.as_deref()
    }
}

/// One of a session's stream slots.
#[derive(Debug)]
pub struct StreamSlotGuard {
    pub session_id: SessionId,
    pub(in crate::broker) opened_at: Timestamp,
    pub(in crate::broker) caller: Option<Box<Principal>>,
    slot_id: u64,
    registry: Option<Arc<Mutex<RegistryState>>>,
}

impl StreamSlotGuard {
    /// A slot outside the registry, for tests of the relay.
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

/// The conditions a stream was granted under. When they change, the stream is revoked and reopens
/// under the new ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::broker) struct GrantConditions {
    pub(in crate::broker) policy: StreamPolicy,
    pub(in crate::broker) trust: TrustRule,
    pub(in crate::broker) web: WebAppConfig,
}

/// A newly acquired slot with its channel ends.
pub(in crate::broker) struct AcquiredSlot {
    pub(in crate::broker) slot: StreamSlotGuard,
    pub(in crate::broker) authorization: watch::Receiver<StreamAuthorization>,
    pub(in crate::broker) meters: Arc<StreamMeters>,
}

#[derive(Debug)]
struct StreamSlot {
    /// `None` unless a user opened it.
    login: Option<LoginId>,
    authorization: watch::Sender<StreamAuthorization>,
    meters: Arc<StreamMeters>,
    /// `None` until the grant is decided.
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

/// Maximum number of remembered sequence numbers. Beyond it the change watcher reconciles once too
/// often.
const OWN_SEQUENCE_NUMBERS_MAX: usize = 4096;
/// Changes a slow receiver may miss before it must refetch everything.
const CHANGE_BUFFER: usize = 256;

/// Registry of sessions held by this process and their streams.
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
    /// `None` when the session has `max` streams already.
    pub(in crate::broker) fn acquire_slot(
        &self,
        session: SessionId,
        by: &Principal,
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
                login: by.login_id(),
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

    /// Revokes every stream of a session. A stream keeps the first reason.
    pub(in crate::broker) fn revoke_session(&self, session: SessionId, reason: EndReason) {
        let registry = lock(&self.registry);
        let numbers = registry.by_session.get(&session).into_iter().flatten();
        numbers
            .filter_map(|n| registry.slots.get(n))
            .for_each(|seat| seat.revoke(StreamAuthorization::SessionEnded(reason)));
    }

    /// Revokes every stream opened from a login.
    pub(in crate::broker) fn revoke_login(&self, login: LoginId) {
        lock(&self.registry)
            .slots
            .values()
            .filter(|seat| seat.login == Some(login))
            .for_each(|seat| seat.revoke(StreamAuthorization::SignedOut));
    }

    /// Records the conditions of a granted stream.
    pub(in crate::broker) fn set_conditions(
        &self,
        place: &StreamSlotGuard,
        terms: GrantConditions,
    ) {
        if let Some(seat) = lock(&self.registry).slots.get_mut(&place.slot_id) {
            seat.conditions = Some(terms);
        }
    }

    /// Revokes the streams of a session that were granted under other conditions.
    pub(in crate::broker) fn revoke_outdated(&self, session: SessionId, terms: &GrantConditions) {
        let registry = lock(&self.registry);
        let numbers = registry.by_session.get(&session).into_iter().flatten();
        let seats = numbers
            .filter_map(|n| registry.slots.get(n))
            .filter(|seat| seat.conditions.as_ref() != Some(terms));
        seats.for_each(|seat| seat.revoke(StreamAuthorization::PolicyChanged));
    }

    /// Number of open streams of a session, and the latest round-trip time of any of them.
    pub(in crate::broker) fn stream_stats(&self, session: SessionId) -> (usize, Option<Duration>) {
        let registry = lock(&self.registry);
        let numbers = registry.by_session.get(&session).map_or(&[][..], Vec::as_slice);
        let rtt =
            numbers.iter().rev().filter_map(|n| registry.slots.get(n)).find_map(|s| s.meters.rtt());
        (numbers.len(), rtt)
    }

    /// Sessions and logins with open streams.
    pub(in crate::broker) fn with_streams(&self) -> (Vec<SessionId>, Vec<LoginId>) {
        let registry = lock(&self.registry);
        let logins: HashSet<_> = registry.slots.values().filter_map(|s| s.login).collect();
        (registry.by_session.keys().copied().collect(), logins.into_iter().collect())
    }

    pub(in crate::broker) fn stream_count(&self) -> usize {
        lock(&self.registry).slots.len()
    }

    pub(in crate::broker) fn rtt_histogram(&self) -> LatencyHistogram {
        let mut spread = LatencyHistogram::default();
        lock(&self.registry)
            .slots
            .values()
            .filter_map(|seat| seat.meters.rtt())
            .for_each(|took| spread.observe(took));
        spread
    }

    /// Marks a session whose tunnel this process holds or is about to create.
    pub(in crate::broker) fn track(&self, session: SessionId) {
        lock(&self.registry).tracked.insert(session);
    }

    pub(in crate::broker) fn untrack(&self, session: SessionId) {
        lock(&self.registry).tracked.remove(&session);
    }

    pub(in crate::broker) fn is_tracked(&self, session: SessionId) -> bool {
        lock(&self.registry).tracked.contains(&session)
    }

    pub(in crate::broker) fn tracked(&self) -> Vec<SessionId> {
        lock(&self.registry).tracked.iter().copied().collect()
    }

    pub(in crate::broker) fn tracked_count(&self) -> usize {
        lock(&self.registry).tracked.len()
    }

    /// Claims the completion of a session, so that reconciler, change watcher and request complete
    /// it once. `None`: already claimed.
    pub(in crate::broker) fn claim(&self, session: SessionId) -> Option<CompletionClaim> {
        lock(&self.registry)
            .completing
            .insert(session)
            .then(|| CompletionClaim { session, registry: self.registry.clone() })
    }

    pub(in crate::broker) fn is_claimed(&self, session: SessionId) -> bool {
        lock(&self.registry).completing.contains(&session)
    }

    /// Remembers audit entries written by this process.
    pub(in crate::broker) fn record_own(&self, entries: &[i64]) {
        let mut registry = lock(&self.registry);
        registry.own_sequence_numbers.extend(entries);
        while registry.own_sequence_numbers.len() > OWN_SEQUENCE_NUMBERS_MAX {
            registry.own_sequence_numbers.pop_first();
        }
    }

    /// Whether this process wrote every entry after `last` up to `now`; forgets them.
    pub(in crate::broker) fn all_own(&self, last: i64, now: i64) -> bool {
        let mut registry = lock(&self.registry);
        let keep = registry.own_sequence_numbers.split_off(&now.saturating_add(1));
        let seen = std::mem::replace(&mut registry.own_sequence_numbers, keep);
        let own = seen.range(last.saturating_add(1)..).count();
        usize::try_from(now.saturating_sub(last)).is_ok_and(|n| n == own)
    }

    /// Publishes changes to event streams and waiters.
    pub(in crate::broker) fn publish(
        &self,
        organization_id: Option<OrganizationId>,
        topics: &[Topic],
    ) {
        for &topic in topics {
            // An error means that there is no receiver.
            let _ = self.changes.send(Change { organization_id, topic });
        }
        self.revision.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(in crate::broker) fn subscribe_changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Signals that the audit log grew. Separate from [`Self::publish`], because nearly every
    /// change writes an entry: a watch channel coalesces bursts.
    pub(in crate::broker) fn notify_audit(&self) {
        self.audit_revision.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(in crate::broker) fn subscribe_audit(&self) -> watch::Receiver<u64> {
        self.audit_revision.subscribe()
    }

    /// Changes at every [`Self::publish`]: for tasks that wait for a session's state.
    pub(in crate::broker) fn subscribe_revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

/// Exclusive claim to complete a session; released on drop.
pub(in crate::broker) struct CompletionClaim {
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
    fn own_entries_are_distinguished_from_others() {
        let live = StreamRegistry::default();
        live.record_own(&[1, 2, 3]);
        assert!(live.all_own(0, 3));
        assert!(!live.all_own(3, 4), "4 was not written here");
        live.record_own(&[5, 7]);
        assert!(!live.all_own(4, 7), "6 was written elsewhere");
        live.record_own(&[8, 9]);
        assert!(live.all_own(7, 8));
        assert!(live.all_own(8, 9), "later ones are kept");
    }
}
