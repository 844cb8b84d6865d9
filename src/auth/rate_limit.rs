//! How often an account and an address may try: a token bucket for each, told as one time (GCRA, as
//! in ITU-T I.371 annex A).
//!
//! | term | meaning |
//! | --- | --- |
//! | quota | `burst` tries at once, then one per `every` |
//! | full at | the moment at which a bucket is full again; a try moves it on by `every`, and it may lie at most `burst * every` ahead |
//! | address | an IPv4 address, or the /64 of an IPv6 address: one customer usually holds all of it |
//!
//! Written here rather than taken from the `governor` crate, because an account must be forgotten
//! when its owner succeeds, and because time is an argument.

use crate::domain::Timestamp;
use crate::domain::sync::lock;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::Duration;

/// `burst` tries at once, then one per `every`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    pub burst: u32,
    pub interval: Duration,
}

impl Quota {
    /// Default for an account: 10, then one per 30 s.
    pub const ACCOUNT: Self = Self { burst: 10, interval: Duration::from_secs(30) };
    /// Default for an address: 30, then one per 5 s.
    pub const ADDRESS: Self = Self { burst: 30, interval: Duration::from_secs(5) };
}

/// Most keys a map remembers. Beyond it, those nearest to being full again are forgotten first.
const MAX_KEYS: usize = 65_536;

/// Remembers tries per account and per address, in bounded memory.
#[derive(Debug)]
pub struct AttemptLimiter {
    accounts: Mutex<GcraLimiter<[u8; 16]>>,
    addresses: Mutex<GcraLimiter<IpAddr>>,
}

impl AttemptLimiter {
    #[must_use]
    pub fn new(per_account: Quota, per_address: Quota) -> Self {
        Self {
            accounts: Mutex::new(GcraLimiter::new(per_account)),
            addresses: Mutex::new(GcraLimiter::new(per_address)),
        }
    }

    /// Counts a try, when both the account (compared case-insensitively) and the address may make
    /// one.
    ///
    /// # Errors
    /// How long to wait. A refused try is not counted, so waiting helps.
    pub fn check(
        &self,
        account: &str,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let mut accounts = lock(&self.accounts);
        let mut addresses = lock(&self.addresses);
        let (account, address) = (account_key(account), address.map(address_key));
        let wait = accounts
            .retry_after(&account, now)
            .max(address.map_or(Duration::ZERO, |a| addresses.retry_after(&a, now)));
        if !wait.is_zero() {
            return Err(wait);
        }
        accounts.record(account, now);
        if let Some(address) = address {
            addresses.record(address, now);
        }
        Ok(())
    }

    /// The owner of the account proved who they are: its tries are forgotten. Its address's are
    /// not.
    pub fn reset_account(&self, account: &str) {
        lock(&self.accounts).tat.remove(&account_key(account));
    }
}

/// Fixed in size, whatever somebody types as an account.
fn account_key(account: &str) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&Sha256::digest(account.trim().to_lowercase())[..16]);
    key
}

fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[derive(Debug)]
struct GcraLimiter<K> {
    emission_interval: i64,
    burst_tolerance: i64,
    tat: HashMap<K, i64>,
}

impl<K: Eq + Hash> GcraLimiter<K> {
    fn new(quota: Quota) -> Self {
        let emission_interval =
            i64::try_from(quota.interval.as_millis()).unwrap_or(i64::MAX).max(1);
        Self {
            emission_interval,
            burst_tolerance: emission_interval.saturating_mul(i64::from(quota.burst.max(1))),
            tat: HashMap::new(),
        }
    }

    fn retry_after(&self, key: &K, now: Timestamp) -> Duration {
        let full_at = self.tat.get(key).copied().unwrap_or(now.0).max(now.0);
        let over = full_at
            .saturating_add(self.emission_interval)
            .saturating_sub(now.0.saturating_add(self.burst_tolerance));
        Duration::from_millis(u64::try_from(over).unwrap_or(0))
    }

    fn record(&mut self, key: K, now: Timestamp) {
        if self.tat.len() >= MAX_KEYS && !self.tat.contains_key(&key) {
            self.evict(now);
        }
        let full_at = self.tat.entry(key).or_insert(now.0);
        *full_at = (*full_at).max(now.0).saturating_add(self.emission_interval);
    }

    /// Forgets full buckets; when that is not enough, the half that is nearest to full.
    fn evict(&mut self, now: Timestamp) {
        self.tat.retain(|_, full_at| *full_at > now.0);
        if self.tat.len() >= MAX_KEYS {
            let mut times: Vec<i64> = self.tat.values().copied().collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            // Many may share the median: of them only as many are kept as there is room beside the
            // worse ones.
            let mut room = (MAX_KEYS / 2)
                .saturating_sub(self.tat.values().filter(|full_at| **full_at > median).count());
            self.tat.retain(|_, full_at| {
                let fits = *full_at == median && room > 0;
                room -= usize::from(fits);
                fits || *full_at > median
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_772_721_000_000);

    fn throttle() -> AttemptLimiter {
        AttemptLimiter::new(Quota::ACCOUNT, Quota::ADDRESS)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_account_has_its_burst_then_one_per_period() {
        let throttle = throttle();
        for _ in 0..10 {
            throttle.check("ann@example.com", None, NOW).unwrap();
        }
        assert_eq!(throttle.check("ANN@example.com ", None, NOW), Err(Duration::from_secs(30)));
        throttle.check("bob@example.com", None, NOW).unwrap();
        let later = NOW.after(Duration::from_secs(30));
        throttle.check("ann@example.com", None, later).unwrap();
        assert!(throttle.check("ann@example.com", None, later).is_err());
        throttle.reset_account("Ann@example.com");
        throttle.check("ann@example.com", None, later).unwrap();
    }

    #[test]
    fn an_address_is_counted_over_all_accounts() {
        let throttle = throttle();
        for i in 0..30 {
            throttle.check(&i.to_string(), ip("2001:db8:1:2::1"), NOW).unwrap();
        }
        assert_eq!(
            throttle.check("x", ip("2001:db8:1:2:ffff::9"), NOW),
            Err(Duration::from_secs(5))
        );
        throttle.check("x", ip("2001:db8:1:3::1"), NOW).unwrap();
        throttle.reset_account("x");
        assert!(throttle.check("x", ip("2001:db8:1:2::1"), NOW).is_err());
        assert_eq!(
            address_key("::ffff:192.0.2.1".parse().unwrap()),
            "192.0.2.1".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn refused_tries_do_not_count() {
        let throttle = throttle();
        for _ in 0..10 {
            throttle.check("ann", ip("192.0.2.1"), NOW).unwrap();
        }
        for _ in 0..100 {
            assert!(throttle.check("ann", ip("192.0.2.1"), NOW).is_err());
        }
        throttle.check("bob", ip("192.0.2.1"), NOW).unwrap();
        throttle.check("ann", ip("192.0.2.1"), NOW.after(Duration::from_secs(30))).unwrap();
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_remembered() {
        let throttle = throttle();
        for _ in 0..10 {
            throttle.check("worst", None, NOW).unwrap();
        }
        for i in 0..MAX_KEYS * 3 {
            throttle.check(&format!("account {i}"), None, NOW).unwrap();
        }
        assert!(throttle.accounts.lock().unwrap().tat.len() <= MAX_KEYS);
        assert!(throttle.check("worst", None, NOW).is_err());
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let throttle = throttle();
        throttle.check("ann", None, NOW).unwrap();
        throttle.check("ann", None, NOW.before(Duration::from_secs(1))).unwrap();
        throttle.check("ann", None, Timestamp(i64::MAX)).unwrap();
    }
}
