//! How often something may happen: a token bucket, kept as the generic cell rate algorithm keeps it
//! (GCRA, ITU-T I.371 annex A), which is one number for each key.
//!
//! | term | meaning |
//! | --- | --- |
//! | quota | `burst` events at once, then one per `interval` |
//! | TAT | theoretical arrival time: when the next event is due at an even rate; it may lie at most `(burst - 1) * interval` ahead |
//!
//! | limiter | for | memory |
//! | --- | --- | --- |
//! | [`TotalRateLimiter`] | one limit for all | one number |
//! | [`KeyedRateLimiter`] | one limit per key, exactly; a key can be reset | grows with the keys up to [`MAX_KEYS`] |
//! | [`HashedRateLimiter`] | one limit per key, approximately: keys that share a cell share its limit | 32 KiB |
//!
//! Time is an argument: nanoseconds since any moment that its owner chose. A clock that goes back
//! grants one event at most, and nobody waits longer than `interval` after it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Most keys that a [`KeyedRateLimiter`] remembers. Beyond it, those nearest to a full bucket are
/// forgotten first.
pub const MAX_KEYS: usize = 65_536;
/// Cells of a [`HashedRateLimiter`].
const CELLS: usize = 4096;

/// `burst` events at once, then one per `interval`. Zero counts as one, or as a nanosecond.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    pub burst: u32,
    pub interval: Duration,
}

impl Quota {
    /// So many a second, so many of them at once.
    #[must_use]
    pub const fn per_second(rate: u32, burst: u32) -> Self {
        let rate = if rate == 0 { 1 } else { rate };
        Self { burst, interval: Duration::from_nanos(1_000_000_000 / rate as u64) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Gcra {
    interval: u64,
    tolerance: u64,
}

impl Gcra {
    const fn new(quota: Quota) -> Self {
        let nanos = quota.interval.as_nanos();
        let interval = if nanos == 0 {
            1
        } else if nanos > u64::MAX as u128 {
            u64::MAX
        } else {
            nanos as u64
        };
        let more = if quota.burst == 0 { 0 } else { quota.burst - 1 };
        Self { interval, tolerance: interval.saturating_mul(more as u64) }
    }

    /// The TAT, which events at `now` or before put at most a burst ahead. One that lies further
    /// ahead is from a clock that was ahead; it becomes one that leaves room for one event.
    fn plausible(self, tat: u64, now: u64) -> u64 {
        let one_left = now.saturating_add(self.tolerance);
        if tat > one_left.saturating_add(self.interval) { one_left } else { tat }
    }

    /// How long until an event conforms; zero: it does now.
    fn wait(self, tat: u64, now: u64) -> u64 {
        self.plausible(tat, now).saturating_sub(now).saturating_sub(self.tolerance)
    }

    fn record(self, tat: &mut u64, now: u64) {
        *tat = self.plausible(*tat, now).max(now).saturating_add(self.interval);
    }

    fn try_acquire(self, tat: &mut u64, now: u64) -> bool {
        let conforms = self.wait(*tat, now) == 0;
        if conforms {
            self.record(tat, now);
        }
        conforms
    }
}

/// One limit for all.
#[derive(Debug)]
pub struct TotalRateLimiter {
    gcra: Gcra,
    tat: u64,
}

impl TotalRateLimiter {
    #[must_use]
    pub const fn new(quota: Quota) -> Self {
        Self { gcra: Gcra::new(quota), tat: 0 }
    }

    /// Counts an event, if it conforms.
    pub fn try_acquire(&mut self, now: u64) -> bool {
        self.gcra.try_acquire(&mut self.tat, now)
    }
}

/// One limit for each key, in fixed memory. A keyed hash chooses the cell, so that nobody can
/// arrange to share somebody else's.
#[derive(Debug)]
pub struct HashedRateLimiter {
    gcra: Gcra,
    hasher: RandomState,
    /// Allocated at the first event.
    cells: Vec<u64>,
}

impl HashedRateLimiter {
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self { gcra: Gcra::new(quota), hasher: RandomState::new(), cells: Vec::new() }
    }

    /// Counts an event of this key, if it conforms.
    pub fn try_acquire(&mut self, key: impl Hash, now: u64) -> bool {
        if self.cells.is_empty() {
            self.cells = vec![0; CELLS];
        }
        let cell = usize::try_from(self.hasher.hash_one(key) % CELLS as u64).unwrap_or_default();
        self.cells.get_mut(cell).is_some_and(|tat| self.gcra.try_acquire(tat, now))
    }
}

/// One limit for each key, in bounded memory.
#[derive(Debug)]
pub struct KeyedRateLimiter<K> {
    gcra: Gcra,
    tats: HashMap<K, u64>,
}

impl<K: Eq + Hash> KeyedRateLimiter<K> {
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self { gcra: Gcra::new(quota), tats: HashMap::new() }
    }

    /// How long until an event of this key conforms; zero: it does now. Counts nothing.
    #[must_use]
    pub fn retry_after(&self, key: &K, now: u64) -> Duration {
        let tat = self.tats.get(key).copied().unwrap_or(0);
        Duration::from_nanos(self.gcra.wait(tat, now))
    }

    /// Counts an event of this key, whether it conforms or not.
    pub fn record(&mut self, key: K, now: u64) {
        if self.tats.len() >= MAX_KEYS && !self.tats.contains_key(&key) {
            self.evict(now);
        }
        self.gcra.record(self.tats.entry(key).or_insert(0), now);
    }

    /// Counts an event of this key, if it conforms.
    ///
    /// # Errors
    /// How long to wait. A refused event is not counted, so waiting helps.
    pub fn try_acquire(&mut self, key: K, now: u64) -> Result<(), Duration> {
        let wait = self.retry_after(&key, now);
        if wait.is_zero() {
            self.record(key, now);
            Ok(())
        } else {
            Err(wait)
        }
    }

    /// Takes back the last event of a key.
    pub fn give_back(&mut self, key: &K) {
        if let Some(tat) = self.tats.get_mut(key) {
            *tat = tat.saturating_sub(self.gcra.interval);
        }
    }

    /// Forgets the events of a key.
    pub fn reset(&mut self, key: &K) {
        self.tats.remove(key);
    }

    /// Keys remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tats.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tats.is_empty()
    }

    /// Forgets full buckets; when that is not enough, the half that is nearest to full.
    fn evict(&mut self, now: u64) {
        self.tats.retain(|_, tat| *tat > now);
        if self.tats.len() >= MAX_KEYS {
            let mut times: Vec<u64> = self.tats.values().copied().collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            // Many may share the median: only as many of them are kept as fit beside the later
            // ones.
            let mut left = (MAX_KEYS / 2)
                .saturating_sub(self.tats.values().filter(|tat| **tat > median).count());
            self.tats.retain(|_, tat| {
                let fits = *tat == median && left > 0;
                left -= usize::from(fits);
                fits || *tat > median
            });
        }
    }
}

/// The addresses that count as one client: an IPv4 address, or the /64 of an IPv6 address, since one
/// customer usually holds all of it.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// The addresses that one customer may hold: an IPv4 address, or the /48 of an IPv6 address (RFC
/// 6177), in which there are 65,536 [`client_network`]s.
#[must_use]
pub fn customer_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 80))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_burst_then_an_even_rate() {
        let mut limiter = TotalRateLimiter::new(Quota::per_second(100, 5));
        let passed = |limiter: &mut TotalRateLimiter, now| {
            (0..20).filter(|_| limiter.try_acquire(now)).count()
        };
        assert_eq!(passed(&mut limiter, 1000 * MS), 5);
        assert_eq!(passed(&mut limiter, 1009 * MS), 0);
        assert_eq!(passed(&mut limiter, 1010 * MS), 1);
        assert_eq!(passed(&mut limiter, 1045 * MS), 3);
        assert_eq!(passed(&mut limiter, 9000 * MS), 5, "idle time does not exceed one burst");
    }

    #[test]
    fn all_three_limiters_agree() {
        let quota = Quota { burst: 3, interval: Duration::from_millis(7) };
        let (mut one, mut hashed, mut keyed) = (
            TotalRateLimiter::new(quota),
            HashedRateLimiter::new(quota),
            KeyedRateLimiter::new(quota),
        );
        for now in [0, 0, 0, 0, 6, 7, 7, 13, 14, 20, 21, 28, 60, 60, 60, 60, 61] {
            let expected = one.try_acquire(now * MS);
            assert_eq!(hashed.try_acquire("key", now * MS), expected, "{now}");
            assert_eq!(keyed.try_acquire("key", now * MS).is_ok(), expected, "{now}");
        }
    }

    #[test]
    fn the_wait_is_exact_and_a_refused_event_is_not_counted() {
        let quota = Quota { burst: 10, interval: Duration::from_secs(30) };
        let mut limiter = KeyedRateLimiter::new(quota);
        let start = 1_000_000 * MS;
        for _ in 0..10 {
            limiter.try_acquire(1, start).unwrap();
        }
        for _ in 0..100 {
            assert_eq!(limiter.try_acquire(1, start), Err(Duration::from_secs(30)));
        }
        assert!(limiter.try_acquire(1, start + 30_000 * MS - 1).is_err());
        assert!(limiter.try_acquire(1, start + 30_000 * MS).is_ok());
        assert!(limiter.try_acquire(2, start).is_ok(), "each key has its own bucket");
        limiter.reset(&1);
        assert!(limiter.try_acquire(1, start).is_ok());
    }

    #[test]
    fn an_event_can_be_taken_back() {
        let mut limiter =
            KeyedRateLimiter::new(Quota { burst: 2, interval: Duration::from_secs(1) });
        for _ in 0..100 {
            limiter.try_acquire(1, MS).unwrap();
            limiter.give_back(&1);
        }
        limiter.give_back(&2);
        assert_eq!((0..5).filter(|_| limiter.try_acquire(1, MS).is_ok()).count(), 2);
    }

    #[test]
    fn a_clock_that_was_ahead_leaves_one_event_then_an_even_rate() {
        let quota = Quota { burst: 10, interval: Duration::from_secs(30) };
        let (mut keyed, mut hashed, mut total) = (
            KeyedRateLimiter::new(quota),
            HashedRateLimiter::new(quota),
            TotalRateLimiter::new(quota),
        );
        let (now, ahead) = (1_000_000 * MS, 864_000_000 * MS);
        for _ in 0..10 {
            keyed.try_acquire(1, ahead).unwrap();
            assert!(hashed.try_acquire(1, ahead) && total.try_acquire(ahead));
        }
        assert!(
            keyed.try_acquire(1, now).is_ok()
                && hashed.try_acquire(1, now)
                && total.try_acquire(now)
        );
        assert_eq!(keyed.try_acquire(1, now), Err(Duration::from_secs(30)), "no burst is granted");
        assert!(!hashed.try_acquire(1, now) && !total.try_acquire(now));
        keyed.try_acquire(1, now + 30_000 * MS).unwrap();
        // Back by less than the bucket holds: nobody waits longer than one interval.
        assert!(keyed.retry_after(&1, now + 20_000 * MS) <= Duration::from_secs(30));
    }

    #[test]
    fn one_key_takes_nothing_from_another() {
        let mut limiter = HashedRateLimiter::new(Quota::per_second(10, 2));
        let passed = (0..1000).filter(|_| limiter.try_acquire("greedy", MS)).count();
        assert_eq!(passed, 2);
        // Hardly one of a hundred others falls into the same cell as another.
        assert!((0..100).filter(|n| limiter.try_acquire(n, MS)).count() >= 95);
    }

    #[test]
    fn memory_is_bounded_and_the_most_active_keys_are_kept() {
        let mut limiter =
            KeyedRateLimiter::new(Quota { burst: 10, interval: Duration::from_secs(30) });
        for _ in 0..10 {
            limiter.try_acquire(usize::MAX, MS).unwrap();
        }
        for key in 0..MAX_KEYS * 3 {
            limiter.try_acquire(key, MS).unwrap();
        }
        assert!(limiter.len() <= MAX_KEYS);
        assert!(limiter.try_acquire(usize::MAX, MS).is_err());
    }

    #[test]
    fn extreme_times_and_quotas_do_not_overflow() {
        let mut limiter = KeyedRateLimiter::new(Quota { burst: 1, interval: Duration::MAX });
        limiter.try_acquire(1, u64::MAX).unwrap();
        limiter.try_acquire(1, 0).unwrap_err();
        let mut limiter = TotalRateLimiter::new(Quota { burst: 0, interval: Duration::ZERO });
        assert!(limiter.try_acquire(5) && !limiter.try_acquire(5) && limiter.try_acquire(6));
        assert_eq!(Quota::per_second(0, 1), Quota::per_second(1, 1));
    }

    #[test]
    fn clients_are_addresses_or_ipv6_networks() {
        let network = |text: &str| client_network(text.parse().unwrap());
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    }
}
