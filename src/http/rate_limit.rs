//! How often one address may come. A flood is refused here, before it costs a query or a hash.

use crate::domain::principal::PrincipalId;
use crate::domain::rate_limit::{KeyedRateLimiter, Quota, client_network};
use crate::domain::sync::lock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// So many a second, and so many at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Sustained.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// Limits the requests of each client address.
pub(crate) struct AddressLimiter {
    started_at: Instant,
    by_network: Mutex<KeyedRateLimiter<IpAddr>>,
}

impl AddressLimiter {
    pub(crate) fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second, rate.burst);
        Self { started_at: Instant::now(), by_network: Mutex::new(KeyedRateLimiter::new(quota)) }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn check(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        let Some(address) = address else { return Ok(()) };
        let now = u64::try_from(self.started_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        lock(&self.by_network).try_acquire(client_network(address), now)
    }
}

impl std::fmt::Debug for AddressLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let networks = lock(&self.by_network).len();
        f.debug_struct("AddressLimiter").field("networks", &networks).finish_non_exhaustive()
    }
}

/// Event streams one user may have open: windows in several browsers, and those just closed that no
/// write has missed yet; not a thousand.
pub(crate) const EVENT_STREAMS_PER_USER_MAX: usize = 64;

/// Counts event streams by user, so that nobody takes everybody's places.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserEventStreams(Arc<Mutex<HashMap<PrincipalId, usize>>>);

/// A user's place among the listeners; free again when dropped.
#[derive(Debug)]
pub(crate) struct EventStreamSlot {
    counter: UserEventStreams,
    user: PrincipalId,
}

impl UserEventStreams {
    /// A place; `None` when the user has as many as one may.
    pub(crate) fn acquire(&self, user: PrincipalId) -> Option<EventStreamSlot> {
        let mut counts = self.counts();
        let count = counts.entry(user).or_default();
        if *count >= EVENT_STREAMS_PER_USER_MAX {
            return None;
        }
        *count += 1;
        Some(EventStreamSlot { counter: self.clone(), user })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<PrincipalId, usize>> {
        lock(&self.0)
    }
}

impl Drop for EventStreamSlot {
    fn drop(&mut self) {
        let mut counts = self.counter.counts();
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;

    #[test]
    fn nobody_takes_everybodys_places() {
        let listeners = UserEventStreams::default();
        let (greedy, modest) = (PrincipalId::User(UserId::new()), PrincipalId::User(UserId::new()));
        let mut places: Vec<_> = std::iter::from_fn(|| listeners.acquire(greedy)).collect();
        assert_eq!(places.len(), EVENT_STREAMS_PER_USER_MAX);
        let other = listeners.acquire(modest);
        assert!(other.is_some());
        places.pop();
        assert!(listeners.acquire(greedy).is_some(), "a place is free again");
        drop((places, other));
        assert!(listeners.counts().is_empty());
    }

    #[test]
    fn each_address_has_its_own_count() {
        let limiter = AddressLimiter::new(Rate { per_second: 1, burst: 2 });
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|ip| Some(ip.parse().unwrap()));
        assert!(limiter.check(a).is_ok() && limiter.check(a).is_ok());
        assert!(limiter.check(a).unwrap_err() > Duration::ZERO);
        assert!(limiter.check(b).is_ok());
        let [near, far] = ["2001:db8::1", "2001:db8::ffff"].map(|ip| Some(ip.parse().unwrap()));
        assert!(
            limiter.check(near).is_ok()
                && limiter.check(far).is_ok()
                && limiter.check(near).is_err()
        );
    }
}
