//! Registry of open streams: authorization lasts as long as the stream.
//!
//! The registry is in memory and knows only this process; the store is authoritative. A relay holds
//! a [`StreamGrant`]: it reads its [`StreamAuthorization`] from a watch channel and counts into
//! [`StreamMeters`] without a lock. The registry's mutex is taken when a stream opens or closes and
//! when something is revoked, never per byte.

use crate::broker::core::input_counter::InputCounter;
use crate::domain::lease::Lease;
use crate::domain::principal::Principal;
use crate::domain::route::LatencyHistogram;
use crate::domain::session::{EndReason, Session};
use crate::domain::sync::lock;
use crate::domain::upstream::{StreamPolicy, TrustRule};
use crate::domain::web_app::WebAppConfig;
use crate::domain::workspace::Workspace;
use crate::domain::{LoginId, SessionId, Timestamp, UserId};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

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

/// Byte counts and round-trip time of one stream: written by the relay, read by the API.
#[derive(Debug, Default)]
pub struct StreamMeters {
    /// Bytes browser to desktop.
    pub up: AtomicU64,
    /// Bytes desktop to browser.
    pub down: AtomicU64,
    /// Inputs, counted for all streams of the session together.
    pub input: Arc<InputCounter>,
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
    /// `None` where no certificate is verified.
    pub(in crate::broker) trust: Option<TrustRule>,
    /// `None` for a desktop.
    pub(in crate::broker) web: Option<WebAppConfig>,
}

impl GrantConditions {
    pub(in crate::broker) fn of(workspace: &Workspace) -> Self {
        let driver = workspace.driver();
        Self {
            policy: driver.policy(),
            trust: driver.access().map(|access| access.trust.clone()),
            web: driver.web_app().cloned(),
        }
    }
}

/// A newly acquired slot with its channel ends.
pub(in crate::broker) struct AcquiredSlot {
    pub(in crate::broker) slot: StreamSlotGuard,
    pub(in crate::broker) authorization: watch::Receiver<StreamAuthorization>,
    pub(in crate::broker) meters: Arc<StreamMeters>,
}

#[derive(Debug)]
struct StreamSlot {
    user: Option<UserId>,
    /// `None` unless a user opened it.
    login: Option<LoginId>,
    authorization: watch::Sender<StreamAuthorization>,
    meters: Arc<StreamMeters>,
    conditions: Conditions,
}

/// The conditions of a slot, before and after its grant is decided.
#[derive(Debug)]
enum Conditions {
    /// The deciding transaction has not ended. Holds the conditions that were compared meanwhile:
    /// the transaction may have read older ones.
    Undecided(Option<GrantConditions>),
    Granted(GrantConditions),
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

/// Registry of the open streams of this process.
#[derive(Clone, Debug, Default)]
pub(in crate::broker) struct StreamRegistry {
    registry: Arc<Mutex<RegistryState>>,
}

impl StreamRegistry {
    /// `None` when the session has `max` streams already.
    pub(in crate::broker) fn acquire_slot(
        &self,
        session: SessionId,
        by: &Principal,
        now: Timestamp,
        max: usize,
        input: Arc<InputCounter>,
    ) -> Option<AcquiredSlot> {
        let mut registry = lock(&self.registry);
        if registry.by_session.get(&session).map_or(0, Vec::len) >= max {
            return None;
        }
        registry.next_id += 1;
        let number = registry.next_id;
        let (right, watching) = watch::channel(StreamAuthorization::Valid);
        let meters = Arc::new(StreamMeters { input, ..StreamMeters::default() });
        registry.slots.insert(
            number,
            StreamSlot {
                user: by.user_id(),
                login: by.login_id(),
                authorization: right,
                meters: meters.clone(),
                conditions: Conditions::Undecided(None),
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
            .for_each(|slot| slot.revoke(StreamAuthorization::SessionEnded(reason)));
    }

    /// Revokes every stream opened from a login.
    pub(in crate::broker) fn revoke_login(&self, login: LoginId) {
        lock(&self.registry)
            .slots
            .values()
            .filter(|slot| slot.login == Some(login))
            .for_each(|slot| slot.revoke(StreamAuthorization::SignedOut));
    }

    /// Records the conditions of a granted stream, which is revoked when others were required while
    /// its grant was undecided.
    pub(in crate::broker) fn set_conditions(
        &self,
        place: &StreamSlotGuard,
        granted: GrantConditions,
    ) {
        let mut registry = lock(&self.registry);
        let Some(slot) = registry.slots.get_mut(&place.slot_id) else { return };
        if let Conditions::Undecided(Some(required)) = &slot.conditions
            && *required != granted
        {
            slot.revoke(StreamAuthorization::PolicyChanged);
        }
        slot.conditions = Conditions::Granted(granted);
    }

    /// Revokes the streams of a session that were granted under other conditions. A stream whose
    /// grant is undecided is compared once it is decided.
    pub(in crate::broker) fn revoke_outdated(
        &self,
        session: SessionId,
        required: &GrantConditions,
    ) {
        let mut registry = lock(&self.registry);
        let RegistryState { slots, by_session, .. } = &mut *registry;
        for number in by_session.get(&session).into_iter().flatten() {
            let Some(slot) = slots.get_mut(number) else { continue };
            match &mut slot.conditions {
                Conditions::Undecided(compared) => *compared = Some(required.clone()),
                Conditions::Granted(granted) if granted == required => {}
                Conditions::Granted(_) => slot.revoke(StreamAuthorization::PolicyChanged),
            }
        }
    }

    /// Revokes the streams of these sessions that were granted under other conditions than the
    /// workspace's present ones.
    pub(in crate::broker) fn revoke_outdated_in(
        &self,
        workspace: &Workspace,
        sessions: &[Session],
    ) {
        let conditions = GrantConditions::of(workspace);
        sessions.iter().for_each(|session| self.revoke_outdated(session.id, &conditions));
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

    pub(in crate::broker) fn has_streams(&self, session: SessionId) -> bool {
        lock(&self.registry).by_session.contains_key(&session)
    }

    /// Logins of these users with open streams, and those of `logins`.
    pub(in crate::broker) fn logins_with_streams(
        &self,
        users: &HashSet<UserId>,
        logins: &HashSet<LoginId>,
    ) -> Vec<LoginId> {
        let registry = lock(&self.registry);
        let named = registry.slots.values().filter_map(|slot| {
            let of_user = slot.user.is_some_and(|user| users.contains(&user));
            slot.login.filter(|login| of_user || logins.contains(login))
        });
        named.collect::<HashSet<_>>().into_iter().collect()
    }

    pub(in crate::broker) fn stream_count(&self) -> usize {
        lock(&self.registry).slots.len()
    }

    pub(in crate::broker) fn rtt_histogram(&self) -> LatencyHistogram {
        let mut spread = LatencyHistogram::default();
        lock(&self.registry)
            .slots
            .values()
            .filter_map(|slot| slot.meters.rtt())
            .for_each(|took| spread.observe(took));
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::upstream::Clipboard;

    fn conditions(clipboard: Clipboard) -> GrantConditions {
        GrantConditions {
            policy: StreamPolicy { clipboard, ..StreamPolicy::default() },
            trust: Some(TrustRule::default()),
            web: None,
        }
    }

    /// The authorization of a stream whose grant is decided after a comparison with other
    /// processes' changes.
    fn decided_after(compared: Clipboard, granted: Clipboard) -> StreamAuthorization {
        let (registry, session) = (StreamRegistry::default(), SessionId::new());
        let system = Principal::System { organization_id: None };
        let acquired =
            registry.acquire_slot(session, &system, Timestamp(0), 1, Arc::default()).unwrap();
        registry.revoke_outdated(session, &conditions(compared));
        assert_eq!(*acquired.authorization.borrow(), StreamAuthorization::Valid, "undecided");
        registry.set_conditions(&acquired.slot, conditions(granted));
        *acquired.authorization.borrow()
    }

    #[test]
    fn a_comparison_during_a_grant_revokes_only_what_was_granted_under_other_conditions() {
        let same = decided_after(Clipboard::In, Clipboard::In);
        assert_eq!(same, StreamAuthorization::Valid);
        let other = decided_after(Clipboard::In, Clipboard::Both);
        assert_eq!(other, StreamAuthorization::PolicyChanged);
    }
}
