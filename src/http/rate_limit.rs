//! Rate limits per address, checked before any query or password hash; event streams per user.

use crate::domain::principal::PrincipalId;
use crate::domain::rate_limit::{KeyedRateLimiter, Quota, client_network};
use crate::domain::sync::lock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Limits the requests of each client address.
pub(crate) struct AddressLimiter {
    started_at: Instant,
    by_network: Mutex<KeyedRateLimiter<IpAddr>>,
}

impl AddressLimiter {
    pub(crate) fn new(quota: Quota) -> Self {
        Self { started_at: Instant::now(), by_network: Mutex::new(KeyedRateLimiter::new(quota)) }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// The time until the next token.
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

/// Event streams of one user at once, including closed ones that no write has detected yet.
pub(crate) const EVENT_STREAMS_PER_USER_MAX: usize = 64;

/// Counts event streams by user.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserEventStreams(Arc<Mutex<HashMap<PrincipalId, usize>>>);

/// One event stream of a user, counted until dropped.
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
    fn event_streams_are_limited_per_user() {
        let streams = UserEventStreams::default();
        let (first, second) = (PrincipalId::User(UserId::new()), PrincipalId::User(UserId::new()));
        let mut slots: Vec<_> = std::iter::from_fn(|| streams.acquire(first)).collect();
        assert_eq!(slots.len(), EVENT_STREAMS_PER_USER_MAX);
        let other = streams.acquire(second);
        assert!(other.is_some());
        slots.pop();
        assert!(streams.acquire(first).is_some(), "a slot is free again");
        drop((slots, other));
        assert!(streams.counts().is_empty());
    }

    #[test]
    fn addresses_are_limited_separately() {
        let limiter = AddressLimiter::new(Quota::per_second(1, 2));
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
