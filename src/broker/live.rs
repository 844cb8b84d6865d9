//! Who watches a session, and how its streams are cut: authorisation lasts as long as the stream.
//!
//! Everything here is in memory and about this process only; the store is the truth. A relay holds
//! a [`StreamGrant`]: it reads its [`Right`] from a watch channel and counts into [`Meters`]
//! without a lock. The registry behind [`Active`] is one mutex, taken when a stream opens or closes
//! and when something ends, never while bytes pass.

use crate::domain::lease::Lease;
use crate::domain::route::LatencyHistogram;
use crate::domain::session::EndReason;
use crate::domain::upstream::{StreamPolicy, TrustRule};
use crate::domain::user::Caller;
use crate::domain::web_app::WebAppConfig;
use crate::domain::{LoginId, OrganizationId, SessionId, Timestamp};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// What became of the right to a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// It holds.
    Held,
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
pub struct Meters {
    /// Bytes browser to desktop.
    pub up: AtomicU64,
    /// Bytes desktop to browser.
    pub down: AtomicU64,
    rtt_micros: AtomicU64,
}

impl Meters {
    /// Notes a round trip browser to gateway.
    pub fn note_rtt(&self, rtt: Duration) {
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
    /// Ends with anything but [`Right::Held`]; the relay must stop then at once.
    pub right: watch::Receiver<Right>,
    /// For the relay to write.
    pub meters: Arc<Meters>,
    /// Frees the place when dropped.
    pub place: ViewerPlace,
}

impl StreamGrant {
    /// Who opened it.
    #[must_use]
    pub fn by(&self) -> Option<&Caller> {
        self.place.by.as_deref()
    }
}

/// A viewer's place in a session.
#[derive(Debug)]
pub struct ViewerPlace {
    /// Session.
    pub session_id: SessionId,
    pub(super) opened_at: Timestamp,
    pub(super) by: Option<Box<Caller>>,
    number: u64,
    registry: Option<Arc<Mutex<Registry>>>,
}

impl ViewerPlace {
    /// A place in no session's count, for tests of the relay.
    #[must_use]
    pub fn uncounted(session_id: SessionId) -> Self {
        Self { session_id, opened_at: Timestamp(0), by: None, number: 0, registry: None }
    }
}

impl Drop for ViewerPlace {
    fn drop(&mut self) {
        if let Some(registry) = &self.registry {
            locked(registry).forget(self.number, self.session_id);
        }
    }
}

/// What a stream is granted under. When it is changed, the stream is cut and comes back under the
/// new.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Terms {
    pub(super) policy: StreamPolicy,
    pub(super) trust: TrustRule,
    pub(super) web: WebAppConfig,
}

/// A place that was just taken, with the ends of the channel its holder needs.
pub(super) struct Taken {
    pub(super) place: ViewerPlace,
    pub(super) right: watch::Receiver<Right>,
    pub(super) meters: Arc<Meters>,
}

#[derive(Debug)]
struct Seat {
    login: LoginId,
    right: watch::Sender<Right>,
    meters: Arc<Meters>,
    /// What it was granted under; `Incomplete` while that is being decided.
    terms: Option<Terms>,
}

impl Seat {
    fn tell(&self, right: Right) {
        self.right.send_if_modified(|now| {
            let first = *now == Right::Held;
            if first {
                *now = right;
            }
            first
        });
    }
}

/// What the mutex guards.
#[derive(Debug, Default)]
struct Registry {
    next: u64,
    seats: HashMap<u64, Seat>,
    by_session: HashMap<SessionId, Vec<u64>>,
    sessions: HashSet<SessionId>,
    finishing: HashSet<SessionId>,
    own: BTreeSet<i64>,
}

impl Registry {
    fn forget(&mut self, number: u64, session: SessionId) {
        self.seats.remove(&number);
        if let Some(numbers) = self.by_session.get_mut(&session) {
            numbers.retain(|n| *n != number);
            if numbers.is_empty() {
                self.by_session.remove(&session);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding it leaves maps that are still maps; refusing every stream for ever
    // would be worse.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most own entries remembered for the sentinel; beyond it, it looks once too often.
const OWN_MAX: usize = 4096;
/// Changes a slow event stream may lag behind before it is told to refetch everything.
const CHANGES_MAX: usize = 256;

/// Registry of live sessions and their watchers.
#[derive(Debug)]
pub struct Live {
    registry: Arc<Mutex<Registry>>,
    changes: broadcast::Sender<Change>,
    pulse: watch::Sender<u64>,
    entries: watch::Sender<u64>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            registry: Arc::default(),
            changes: broadcast::channel(CHANGES_MAX).0,
            pulse: watch::channel(0).0,
            entries: watch::channel(0).0,
        }
    }
}

impl Live {
    // --- viewers ---

    /// Takes a viewer's place; `Incomplete` when the session has `max` already.
    pub(super) fn take_place(
        &self,
        session: SessionId,
        by: &Caller,
        now: Timestamp,
        max: usize,
    ) -> Option<Taken> {
        let mut registry = locked(&self.registry);
        if registry.by_session.get(&session).map_or(0, Vec::len) >= max {
            return None;
        }
        registry.next += 1;
        let number = registry.next;
        let (right, watching) = watch::channel(Right::Held);
        let meters = Arc::<Meters>::default();
        registry.seats.insert(
            number,
            Seat { login: by.login_id, right, meters: meters.clone(), terms: None },
        );
        registry.by_session.entry(session).or_default().push(number);
        let place = ViewerPlace {
            session_id: session,
            opened_at: now,
            by: Some(Box::new(by.clone())),
            number,
            registry: Some(self.registry.clone()),
        };
        Some(Taken { place, right: watching, meters })
    }

    /// Tells every watcher of a session why it ended. The first word said to a watcher stays.
    pub(super) fn end_session(&self, session: SessionId, reason: EndReason) {
        let registry = locked(&self.registry);
        let numbers = registry.by_session.get(&session).into_iter().flatten();
        numbers
            .filter_map(|n| registry.seats.get(n))
            .for_each(|seat| seat.tell(Right::SessionEnded(reason)));
    }

    /// Tells every watcher opened from a login that it ended.
    pub(super) fn end_login(&self, login: LoginId) {
        locked(&self.registry)
            .seats
            .values()
            .filter(|seat| seat.login == login)
            .for_each(|seat| seat.tell(Right::SignedOut));
    }

    /// Says under what the holder of a place was granted its stream.
    pub(super) fn granted(&self, place: &ViewerPlace, terms: Terms) {
        if let Some(seat) = locked(&self.registry).seats.get_mut(&place.number) {
            seat.terms = Some(terms);
        }
    }

    /// Tells every watcher of a session that was not granted its stream under these terms that they
    /// were changed.
    pub(super) fn change_terms(&self, session: SessionId, terms: &Terms) {
        let registry = locked(&self.registry);
        let numbers = registry.by_session.get(&session).into_iter().flatten();
        let seats = numbers
            .filter_map(|n| registry.seats.get(n))
            .filter(|seat| seat.terms.as_ref() != Some(terms));
        seats.for_each(|seat| seat.tell(Right::PolicyChanged));
    }

    /// Open streams of a session, and the last round trip noted in any of them.
    pub(super) fn viewers(&self, session: SessionId) -> (usize, Option<Duration>) {
        let registry = locked(&self.registry);
        let numbers = registry.by_session.get(&session).map_or(&[][..], Vec::as_slice);
        let rtt =
            numbers.iter().rev().filter_map(|n| registry.seats.get(n)).find_map(|s| s.meters.rtt());
        (numbers.len(), rtt)
    }

    /// Sessions and logins that hold a stream here.
    pub(super) fn watched(&self) -> (Vec<SessionId>, Vec<LoginId>) {
        let registry = locked(&self.registry);
        let logins: HashSet<_> = registry.seats.values().map(|s| s.login).collect();
        (registry.by_session.keys().copied().collect(), logins.into_iter().collect())
    }

    /// Open streams.
    pub(super) fn streams(&self) -> usize {
        locked(&self.registry).seats.len()
    }

    /// The last round trips of all open streams.
    pub(super) fn round_trips(&self) -> LatencyHistogram {
        let mut spread = LatencyHistogram::default();
        locked(&self.registry)
            .seats
            .values()
            .filter_map(|seat| seat.meters.rtt())
            .for_each(|took| spread.observe(took));
        spread
    }

    // --- sessions whose keys or desktop this process may hold ---

    /// This process holds this session's tunnel, or is about to.
    pub(super) fn know(&self, session: SessionId) {
        locked(&self.registry).sessions.insert(session);
    }

    /// It holds it no longer.
    pub(super) fn unknow(&self, session: SessionId) {
        locked(&self.registry).sessions.remove(&session);
    }

    /// Whether it does.
    pub(super) fn is_known(&self, session: SessionId) -> bool {
        locked(&self.registry).sessions.contains(&session)
    }

    /// The sessions known here.
    pub(super) fn known(&self) -> Vec<SessionId> {
        locked(&self.registry).sessions.iter().copied().collect()
    }

    /// How many.
    pub(super) fn known_count(&self) -> usize {
        locked(&self.registry).sessions.len()
    }

    /// Claims the finishing of a session, so that reaper, sentinel and request do it once; `Incomplete`:
    /// somebody has it.
    pub(super) fn claim(&self, session: SessionId) -> Option<Claim> {
        locked(&self.registry)
            .finishing
            .insert(session)
            .then(|| Claim { session, registry: self.registry.clone() })
    }

    /// Whether somebody is finishing it.
    pub(super) fn is_claimed(&self, session: SessionId) -> bool {
        locked(&self.registry).finishing.contains(&session)
    }

    // --- the sentinel's memory ---

    /// These audit entries are our own.
    pub(super) fn own(&self, entries: &[i64]) {
        let mut registry = locked(&self.registry);
        registry.own.extend(entries);
        while registry.own.len() > OWN_MAX {
            registry.own.pop_first();
        }
    }

    /// Whether every entry after `last` up to `now` is our own; forgets them.
    pub(super) fn all_own(&self, last: i64, now: i64) -> bool {
        let mut registry = locked(&self.registry);
        let keep = registry.own.split_off(&now.saturating_add(1));
        let seen = std::mem::replace(&mut registry.own, keep);
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
        self.pulse.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// What [`Active::publish`] says.
    pub(super) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Says that the audit log grew. Apart from the changes, since it grows with each of them: a
    /// burst is one word to a slow listener.
    pub(super) fn log_grew(&self) {
        self.entries.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Moves at every [`Active::log_grew`].
    pub(super) fn entries(&self) -> watch::Receiver<u64> {
        self.entries.subscribe()
    }

    /// Moves at every [`Active::publish`]: for those who wait for a session to come or go.
    pub(super) fn pulse(&self) -> watch::Receiver<u64> {
        self.pulse.subscribe()
    }
}

/// The right to finish a session.
pub(super) struct Claim {
    session: SessionId,
    registry: Arc<Mutex<Registry>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        locked(&self.registry).finishing.remove(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_entries_are_told_from_others() {
        let live = Live::default();
        live.own(&[1, 2, 3]);
        assert!(live.all_own(0, 3));
        assert!(!live.all_own(3, 4), "nobody here wrote 4");
        live.own(&[5, 7]);
        assert!(!live.all_own(4, 7), "6 is somebody else's");
        live.own(&[8, 9]);
        assert!(live.all_own(7, 8));
        assert!(live.all_own(8, 9), "later ones are kept");
    }
}
