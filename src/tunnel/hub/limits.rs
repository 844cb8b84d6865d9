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
const CELLS: usize = 4096;

/// A pace.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Nanoseconds between two events.
    every: u64,
    /// How far ahead of that they may run.
    ahead: u64,
}

impl Pace {
    const fn new(per_second: u64, burst: u64) -> Self {
        let every = 1_000_000_000 / per_second;
        Self { every, ahead: every * (burst - 1) }
    }

    /// True if one more may happen now. `due`: when the next would be due at an even pace.
    fn take(self, due: &mut u64, now: u64) -> bool {
        let at = (*due).max(now);
        if at - now > self.ahead {
            return false;
        }
        *due = at + self.every;
        true
    }
}

/// One limit for all.
#[derive(Debug)]
pub(super) struct Limit {
    pace: Pace,
    due: u64,
}

impl Limit {
    /// So many a second, so many of them at once. Neither may be zero.
    pub(super) const fn new(per_second: u64, burst: u64) -> Self {
        Self { pace: Pace::new(per_second, burst), due: 0 }
    }

    pub(super) fn take(&mut self, now: u64) -> bool {
        self.pace.take(&mut self.due, now)
    }
}

/// A limit for each source.
#[derive(Debug)]
pub(super) struct Sieve {
    pace: Pace,
    hasher: RandomState,
    /// None until the first event: most hubs never have one.
    cells: Vec<u64>,
}

impl Sieve {
    /// For each source so many a second, so many of them at once. Neither may be zero.
    pub(super) fn new(per_second: u64, burst: u64) -> Self {
        Self { pace: Pace::new(per_second, burst), hasher: RandomState::new(), cells: Vec::new() }
    }

    pub(super) fn take(&mut self, source: impl Hash, now: u64) -> bool {
        if self.cells.is_empty() {
            self.cells = vec![0; CELLS];
        }
        let cell = usize::try_from(self.hasher.hash_one(source) % CELLS as u64).unwrap_or_default();
        self.cells.get_mut(cell).is_some_and(|due| self.pace.take(due, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_burst_and_then_the_pace() {
        let mut limit = Limit::new(100, 5);
        let passed = |limit: &mut Limit, now| (0..20).filter(|_| limit.take(now)).count();
        assert_eq!(passed(&mut limit, 1000 * MS), 5);
        assert_eq!(passed(&mut limit, 1009 * MS), 0);
        assert_eq!(passed(&mut limit, 1010 * MS), 1);
        assert_eq!(passed(&mut limit, 1045 * MS), 3);
        assert_eq!(passed(&mut limit, 9000 * MS), 5, "rest does not add up to more than a burst");
    }

    #[test]
    fn one_source_takes_nothing_from_another() {
        let mut sieve = Sieve::new(10, 2);
        let passed = (0..1000).filter(|_| sieve.take("greedy", MS)).count();
        assert_eq!(passed, 2);
        // Of a hundred others hardly one falls into the greedy one's cell or into each other's.
        assert!((0..100).filter(|n| sieve.take(n, MS)).count() >= 95);
    }
}
