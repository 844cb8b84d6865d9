//! How often something may happen, in all and for each source, in memory that does not grow.
//!
//! - A **limit** lets a burst through at once and then one event at a time at its pace: a token
//!   bucket, kept as the generic cell rate algorithm keeps it (ITU-T I.371), which is one number.
//! - A **sieve** is a fixed table of such numbers. Sources that fall into one cell share its pace;
//!   a keyed hash chooses the cell, so that nobody can arrange to share somebody else's.
//!
//! Time is an argument: nanoseconds since whenever the owner began.

use std::hash::{BuildHasher, Hash, RandomState};

/// Cells of a sieve: 32 KiB.
const BUCKETS: usize = 4096;

/// A pace.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Nanoseconds between two events.
    interval: u64,
    /// How far ahead of that they may run.
    burst_tolerance: u64,
}

impl Rate {
    const fn new(per_second: u64, burst: u64) -> Self {
        let interval = 1_000_000_000 / per_second;
        Self { interval, burst_tolerance: interval * (burst - 1) }
    }

    /// True if one more may happen now. `due`: when the next would be due at an even pace.
    fn try_acquire(self, due: &mut u64, now: u64) -> bool {
        let at = (*due).max(now);
        if at - now > self.burst_tolerance {
            return false;
        }
        *due = at + self.interval;
        true
    }
}

/// One limit for all.
#[derive(Debug)]
pub(super) struct RateLimit {
    pace: Rate,
    theoretical_arrival: u64,
}

impl RateLimit {
    /// So many a second, so many of them at once. Neither may be zero.
    pub(super) const fn new(per_second: u64, burst: u64) -> Self {
        Self { pace: Rate::new(per_second, burst), theoretical_arrival: 0 }
    }

    pub(super) fn try_acquire(&mut self, now: u64) -> bool {
        self.pace.try_acquire(&mut self.theoretical_arrival, now)
    }
}

/// A limit for each source.
#[derive(Debug)]
pub(super) struct KeyedRateLimiter {
    pace: Rate,
    hasher: RandomState,
    /// None until the first event: most hubs never have one.
    buckets: Vec<u64>,
}

impl KeyedRateLimiter {
    /// For each source so many a second, so many of them at once. Neither may be zero.
    pub(super) fn new(per_second: u64, burst: u64) -> Self {
        Self { pace: Rate::new(per_second, burst), hasher: RandomState::new(), buckets: Vec::new() }
    }

    pub(super) fn try_acquire(&mut self, source: impl Hash, now: u64) -> bool {
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS];
        }
        let cell =
            usize::try_from(self.hasher.hash_one(source) % BUCKETS as u64).unwrap_or_default();
        self.buckets.get_mut(cell).is_some_and(|due| self.pace.try_acquire(due, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_burst_and_then_the_pace() {
        let mut limit = RateLimit::new(100, 5);
        let passed =
            |limit: &mut RateLimit, now| (0..20).filter(|_| limit.try_acquire(now)).count();
        assert_eq!(passed(&mut limit, 1000 * MS), 5);
        assert_eq!(passed(&mut limit, 1009 * MS), 0);
        assert_eq!(passed(&mut limit, 1010 * MS), 1);
        assert_eq!(passed(&mut limit, 1045 * MS), 3);
        assert_eq!(passed(&mut limit, 9000 * MS), 5, "rest does not add up to more than a burst");
    }

    #[test]
    fn one_source_takes_nothing_from_another() {
        let mut sieve = KeyedRateLimiter::new(10, 2);
        let passed = (0..1000).filter(|_| sieve.try_acquire("greedy", MS)).count();
        assert_eq!(passed, 2);
        // Of a hundred others hardly one falls into the greedy one's cell or into each other's.
        assert!((0..100).filter(|n| sieve.try_acquire(n, MS)).count() >= 95);
    }
}
