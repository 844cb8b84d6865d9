//! How often a password or a one-time code may be tried (docs/adr/0024).
//!
//! | bucket | key | wrong tries of |
//! | --- | --- | --- |
//! | pair | account, address | unknown browsers |
//! | address | address; for IPv6 also its /48, with eight times the quota | unknown browsers, over all accounts |
//! | account | account | unknown browsers, from all addresses |
//! | browser | a browser that signed in to the account before | this browser |
//! | accepted | account, address | nobody: it counts right ones |
//!
//! A try is counted before it is checked and given back when it was right, so that tries at the same
//! time cannot exceed a quota. While an account's bucket is empty, unknown browsers wait in a queue
//! in which each address has one place: `retry_after` is when its turn comes, and then it has a try.

use crate::domain::Timestamp;
use crate::domain::email::email_key;
use crate::domain::rate_limit::{
    KeyedRateLimiter, MAX_KEYS, Quota, client_network, customer_network,
};
use crate::domain::sync::lock;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

/// The farthest place in a queue; who comes later is told to ask again then.
const QUEUE_MAX: u64 = 3600 * SECOND;
/// How long a place is kept once its turn has come, at least; and until the next turn.
const PLACE_LIFE: u64 = 120 * SECOND;
/// Places in all queues together.
const PLACES_MAX: usize = 16_384;
/// An account whose bucket empties is reported once in this time.
const REPORTS: Quota = Quota { burst: 1, interval: Duration::from_secs(3600) };
/// Quota of an IPv6 /48 in relation to that of one address.
const CUSTOMER_FACTOR: u32 = 8;
const SECOND: u64 = 1_000_000_000;

/// The quotas of one kind of secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuessQuotas {
    /// Wrong tries of an account from an address.
    pub pair: Quota,
    /// Wrong tries from an address, over all accounts.
    pub address: Quota,
    /// Wrong tries of an account from all unknown browsers. Once it is empty, `interval` is the
    /// pace of the queue.
    pub account: Quota,
    /// Places of one address (IPv6: one /48) in the queue of an account.
    pub queue: Quota,
    /// Wrong tries of a known browser.
    pub browser: Quota,
    /// Right ones of an account from an address: each costs a hash and an audit entry.
    pub accepted: Quota,
}

/// Identifies a browser that signed in to the account before.
pub type BrowserId = [u8; 16];

type Account = [u8; 16];
type Pair = (Account, Option<IpAddr>);

/// Who tries which account.
#[derive(Clone, Debug)]
pub struct Attempt {
    account: Account,
    address: Option<IpAddr>,
    browser: Option<BrowserId>,
}

impl Attempt {
    /// The account is compared as sign-in does ([`email_key`]). `browser` is authenticated by
    /// the caller.
    #[must_use]
    pub fn new(account: &str, address: Option<IpAddr>, browser: Option<BrowserId>) -> Self {
        // Of fixed size, whatever is entered as an account.
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(email_key(account))[..16]);
        Self { account: key, address, browser }
    }

    /// The same client's try of another account.
    #[must_use]
    pub fn of_account(&self, account: &str) -> Self {
        Self::new(account, self.address, self.browser)
    }

    /// Whether a known browser tries.
    #[must_use]
    pub fn is_from_known_browser(&self) -> bool {
        self.browser.is_some()
    }

    fn pair(&self) -> Pair {
        (self.account, self.address.map(client_network))
    }

    fn customer_pair(&self) -> Pair {
        (self.account, self.address.map(customer_network))
    }

    /// The IPv6 /48, which has a bucket beside that of the /64.
    fn customer(&self) -> Option<IpAddr> {
        self.address.map(customer_network).filter(IpAddr::is_ipv6)
    }
}

/// A try that may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    /// The account's bucket became empty by this try, which was not reported lately.
    pub empties_account: bool,
}

/// Limits tries, in bounded memory.
#[derive(Debug)]
pub struct GuessLimiter {
    quotas: GuessQuotas,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    pairs: KeyedRateLimiter<Pair>,
    addresses: KeyedRateLimiter<IpAddr>,
    customers: KeyedRateLimiter<IpAddr>,
    accounts: KeyedRateLimiter<Account>,
    browsers: KeyedRateLimiter<BrowserId>,
    accepted: KeyedRateLimiter<Pair>,
    queue_entries: KeyedRateLimiter<Pair>,
    reports: KeyedRateLimiter<Account>,
    /// When the turn of each place comes.
    places: HashMap<Pair, u64>,
    /// The last place of each account's queue.
    queue_ends: HashMap<Account, u64>,
    /// Wrong tries of each account since its owner last signed in. Of more than [`MAX_KEYS`]
    /// accounts they are not known.
    wrong: HashMap<Account, u32>,
    /// When places that do not count any more were last removed.
    cleared_at: u64,
}

impl GuessLimiter {
    #[must_use]
    pub fn new(quotas: GuessQuotas) -> Self {
        let customer = Quota {
            burst: quotas.address.burst.saturating_mul(CUSTOMER_FACTOR),
            interval: quotas.address.interval / CUSTOMER_FACTOR,
        };
        Self {
            quotas,
            buckets: Mutex::new(Buckets {
                pairs: KeyedRateLimiter::new(quotas.pair),
                addresses: KeyedRateLimiter::new(quotas.address),
                customers: KeyedRateLimiter::new(customer),
                accounts: KeyedRateLimiter::new(quotas.account),
                browsers: KeyedRateLimiter::new(quotas.browser),
                accepted: KeyedRateLimiter::new(quotas.accepted),
                queue_entries: KeyedRateLimiter::new(quotas.queue),
                reports: KeyedRateLimiter::new(REPORTS),
                places: HashMap::new(),
                queue_ends: HashMap::new(),
                wrong: HashMap::new(),
                cleared_at: 0,
            }),
        }
    }

    /// Whether a try would be admitted now. Counts nothing, but may take a place in the queue.
    ///
    /// # Errors
    /// How long to wait.
    pub fn check(&self, attempt: &Attempt, now: Timestamp) -> Result<(), Duration> {
        lock(&self.buckets).check(attempt, self.pace(), nanoseconds(now))
    }

    /// Counts a try, if it is admitted.
    ///
    /// # Errors
    /// How long to wait. A refused try is not counted, so waiting helps.
    pub fn acquire(&self, attempt: &Attempt, now: Timestamp) -> Result<Admission, Duration> {
        let now = nanoseconds(now);
        let mut buckets = lock(&self.buckets);
        buckets.check(attempt, self.pace(), now)?;
        Ok(buckets.count(attempt, now))
    }

    /// The secret was right: the try is given back.
    pub fn give_back(&self, attempt: &Attempt, now: Timestamp) {
        lock(&self.buckets).give_back(attempt, nanoseconds(now));
    }

    /// The owner of the account is signed in: the wrong tries of this client are forgotten, those of
    /// others are not. Returns how many there were since the owner last signed in, of anybody.
    pub fn forget(&self, attempt: &Attempt) -> u32 {
        let mut buckets = lock(&self.buckets);
        if let Some(browser) = &attempt.browser {
            buckets.browsers.reset(browser);
        } else {
            buckets.pairs.reset(&attempt.pair());
            buckets.queue_entries.reset(&attempt.customer_pair());
        }
        buckets.wrong.remove(&attempt.account).unwrap_or_default()
    }

    /// All wrong tries of an account from unknown browsers are forgotten.
    pub fn forget_account(&self, attempt: &Attempt) {
        let mut buckets = lock(&self.buckets);
        buckets.accounts.reset(&attempt.account);
        buckets.queue_ends.remove(&attempt.account);
    }

    fn pace(&self) -> u64 {
        u64::try_from(self.quotas.account.interval.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Buckets {
    fn check(&mut self, attempt: &Attempt, pace: u64, now: u64) -> Result<(), Duration> {
        let mut wait = self.accepted.retry_after(&attempt.pair(), now);
        if let Some(browser) = &attempt.browser {
            return admitted(wait.max(self.browsers.retry_after(browser, now)));
        }
        wait = wait.max(self.pairs.retry_after(&attempt.pair(), now));
        if let Some(address) = attempt.address {
            wait = wait.max(self.addresses.retry_after(&client_network(address), now));
        }
        if let Some(customer) = attempt.customer() {
            wait = wait.max(self.customers.retry_after(&customer, now));
        }
        admitted(wait)?;
        self.check_account(attempt, pace, now)
    }

    /// The account's bucket, and the queue for it.
    fn check_account(&mut self, attempt: &Attempt, pace: u64, now: u64) -> Result<(), Duration> {
        let empty = self.accounts.retry_after(&attempt.account, now);
        // A turn is kept whatever the bucket says, which those who come late to theirs may empty.
        if let Some(turn) = self.place(&attempt.pair(), pace, now) {
            return admitted(Duration::from_nanos(turn.saturating_sub(now)));
        }
        let queue_end = self
            .queue_ends
            .get(&attempt.account)
            .copied()
            .filter(|end| *end > now && *end <= now.saturating_add(QUEUE_MAX));
        if empty.is_zero() && queue_end.is_none() {
            return Ok(());
        }
        let first = now.saturating_add(u64::try_from(empty.as_nanos()).unwrap_or(u64::MAX));
        let turn = queue_end.map_or(first, |end| end.saturating_add(pace)).max(first);
        let wait = Duration::from_nanos(turn.saturating_sub(now));
        let entry = self.queue_entries.retry_after(&attempt.customer_pair(), now);
        if !entry.is_zero() || turn > now.saturating_add(QUEUE_MAX) || !self.has_room(pace, now) {
            return Err(wait.max(entry));
        }
        self.queue_entries.record(attempt.customer_pair(), now);
        self.places.insert(attempt.pair(), turn);
        self.queue_ends.insert(attempt.account, turn);
        Err(wait)
    }

    /// When the turn of a client comes that has a place.
    fn place(&self, pair: &Pair, pace: u64, now: u64) -> Option<u64> {
        self.places.get(pair).copied().filter(|turn| is_kept(*turn, pace, now))
    }

    fn has_room(&mut self, pace: u64, now: u64) -> bool {
        let has_room =
            |this: &Self| this.places.len() < PLACES_MAX && this.queue_ends.len() < PLACES_MAX;
        if !has_room(self) && now.abs_diff(self.cleared_at) >= SECOND {
            self.cleared_at = now;
            self.places.retain(|_, turn| is_kept(*turn, pace, now));
            self.queue_ends.retain(|_, end| *end > now && is_kept(*end, pace, now));
        }
        has_room(self)
    }

    fn count(&mut self, attempt: &Attempt, now: u64) -> Admission {
        if self.wrong.len() < MAX_KEYS || self.wrong.contains_key(&attempt.account) {
            let wrong = self.wrong.entry(attempt.account).or_default();
            *wrong = wrong.saturating_add(1);
        }
        if let Some(browser) = attempt.browser {
            self.browsers.record(browser, now);
            return Admission { empties_account: false };
        }
        self.pairs.record(attempt.pair(), now);
        if let Some(address) = attempt.address {
            self.addresses.record(client_network(address), now);
        }
        if let Some(customer) = attempt.customer() {
            self.customers.record(customer, now);
        }
        self.places.remove(&attempt.pair());
        self.accounts.record(attempt.account, now);
        let empty = !self.accounts.retry_after(&attempt.account, now).is_zero();
        let empties_account = empty && self.reports.try_acquire(attempt.account, now).is_ok();
        Admission { empties_account }
    }

    fn give_back(&mut self, attempt: &Attempt, now: u64) {
        self.accepted.record(attempt.pair(), now);
        if let Some(wrong) = self.wrong.get_mut(&attempt.account) {
            *wrong = wrong.saturating_sub(1);
        }
        if let Some(browser) = &attempt.browser {
            self.browsers.give_back(browser);
            return;
        }
        self.pairs.give_back(&attempt.pair());
        if let Some(address) = attempt.address {
            self.addresses.give_back(&client_network(address));
        }
        if let Some(customer) = attempt.customer() {
            self.customers.give_back(&customer);
        }
        self.accounts.give_back(&attempt.account);
    }
}

/// Whether a place whose turn comes then still counts. One beyond the queue's end is from a clock
/// that was ahead.
fn is_kept(turn: u64, pace: u64, now: u64) -> bool {
    turn.saturating_add(PLACE_LIFE.max(pace)) > now && turn <= now.saturating_add(QUEUE_MAX)
}

fn admitted(wait: Duration) -> Result<(), Duration> {
    if wait.is_zero() { Ok(()) } else { Err(wait) }
}

fn nanoseconds(now: Timestamp) -> u64 {
    u64::try_from(now.0).unwrap_or(0).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests;
