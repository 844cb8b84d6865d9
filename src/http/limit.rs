//! How often one address may come. A flood is refused here, before it costs a query or a hash.

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// After how many questions the addresses that have recovered are forgotten.
const FORGET_EVERY: u64 = 4096;

/// So many a second, and so many at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Sustained.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// Counts by address.
pub(crate) struct Limiter {
    by_address: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
    asked: AtomicU64,
}

impl Limiter {
    pub(crate) fn new(rate: Rate) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(rate.per_second)).allow_burst(at_least_one(rate.burst));
        Self { by_address: RateLimiter::keyed(quota), clock: DefaultClock::default(), asked: AtomicU64::new(0) }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn check(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        let Some(address) = address else { return Ok(()) };
        if self.asked.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.by_address.retain_recent();
        }
        self.by_address.check_key(&group(address)).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("addresses", &self.by_address.len()).finish_non_exhaustive()
    }
}

/// One IPv6 subscriber has a /64 to choose from; they count as one.
fn group(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count() {
        let limiter = Limiter::new(Rate { per_second: 1, burst: 2 });
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|ip| Some(ip.parse().unwrap()));
        assert!(limiter.check(a).is_ok() && limiter.check(a).is_ok());
        assert!(limiter.check(a).unwrap_err() > Duration::ZERO);
        assert!(limiter.check(b).is_ok());
        let [near, far] = ["2001:db8::1", "2001:db8::ffff"].map(|ip| Some(ip.parse().unwrap()));
        assert!(limiter.check(near).is_ok() && limiter.check(far).is_ok() && limiter.check(near).is_err());
    }
}
