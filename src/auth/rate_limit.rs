//! How often something may happen per name and per address: both buckets
//! ([`crate::domain::rate_limit`]) must have room.

use crate::domain::Timestamp;
use crate::domain::rate_limit::{KeyedRateLimiter, Quota, client_network};
use crate::domain::sync::lock;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

/// Limits attempts per account and per address, in bounded memory.
#[derive(Debug)]
pub struct AttemptLimiter {
    accounts: Mutex<KeyedRateLimiter<[u8; 16]>>,
    addresses: Mutex<KeyedRateLimiter<IpAddr>>,
}

impl AttemptLimiter {
    #[must_use]
    pub fn new(per_account: Quota, per_address: Quota) -> Self {
        Self {
            accounts: Mutex::new(KeyedRateLimiter::new(per_account)),
            addresses: Mutex::new(KeyedRateLimiter::new(per_address)),
        }
    }

    /// Counts an attempt, if both the account (compared case-insensitively) and the address have
    /// room.
    ///
    /// # Errors
    /// How long to wait. A refused attempt is not counted, so waiting helps.
    pub fn check(
        &self,
        account: &str,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let (mut accounts, mut addresses) = (lock(&self.accounts), lock(&self.addresses));
        let (account, address, now) =
            (account_key(account), address.map(client_network), nanoseconds(now));
        let wait = address.map_or(Duration::ZERO, |address| addresses.retry_after(&address, now));
        let wait = accounts.retry_after(&account, now).max(wait);
        if !wait.is_zero() {
            return Err(wait);
        }
        accounts.record(account, now);
        if let Some(address) = address {
            addresses.record(address, now);
        }
        Ok(())
    }
}

/// Of fixed size, whatever is entered as an account.
fn account_key(account: &str) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&Sha256::digest(account.trim().to_lowercase())[..16]);
    key
}

fn nanoseconds(now: Timestamp) -> u64 {
    u64::try_from(now.0).unwrap_or(0).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Quota = Quota { burst: 10, interval: Duration::from_secs(30) };
    const ADDRESS: Quota = Quota { burst: 30, interval: Duration::from_secs(5) };
    const NOW: Timestamp = Timestamp(1_772_721_000_000);

    fn throttle() -> AttemptLimiter {
        AttemptLimiter::new(ACCOUNT, ADDRESS)
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
        assert!(throttle.check("x", ip("2001:db8:1:2::1"), NOW).is_err());
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
    fn a_clock_that_goes_back_does_no_harm() {
        let throttle = throttle();
        throttle.check("ann", None, NOW).unwrap();
        throttle.check("ann", None, NOW.before(Duration::from_secs(1))).unwrap();
        throttle.check("ann", None, Timestamp(i64::MAX)).unwrap();
    }
}
