//! Attacks on one account and on many, and what their neighbours notice of them.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const NOW: Timestamp = Timestamp(1_772_721_000_000);
const QUOTAS: GuessQuotas = GuessQuotas {
    pair: Quota { burst: 10, interval: Duration::from_secs(30) },
    address: Quota { burst: 100, interval: SECOND },
    account: Quota { burst: 100, interval: Duration::from_secs(5) },
    queue: Quota { burst: 1, interval: Duration::from_secs(600) },
    browser: Quota { burst: 10, interval: Duration::from_secs(30) },
    accepted: Quota { burst: 60, interval: Duration::from_secs(5) },
};

fn limiter() -> GuessLimiter {
    GuessLimiter::new(QUOTAS)
}

fn from(account: &str, address: &str) -> Attempt {
    Attempt::new(account, Some(address.parse().unwrap()), None)
}

fn bot(n: u32) -> Attempt {
    Attempt::new("ann", Some(IpAddr::V4((0x0a00_0000 + n).into())), None)
}

/// Tries until refused; how many were admitted.
fn exhaust(limiter: &GuessLimiter, attempt: &Attempt, now: Timestamp) -> u32 {
    let mut admitted = 0;
    while limiter.acquire(attempt, now).is_ok() {
        admitted += 1;
        assert!(admitted < 10_000, "nothing limits {attempt:?}");
    }
    admitted
}

#[test]
fn a_wrong_password_costs_its_own_address_only() {
    let limiter = limiter();
    assert_eq!(exhaust(&limiter, &from("ann", "192.0.2.1"), NOW), 10);
    assert_eq!(limiter.check(&from("ANN ", "192.0.2.1"), NOW), Err(Duration::from_secs(30)));
    limiter.check(&from("ann", "192.0.2.2"), NOW).unwrap();
    limiter.check(&from("bob", "192.0.2.1"), NOW).unwrap();
    limiter.acquire(&from("ann", "192.0.2.1"), NOW.after(Duration::from_secs(30))).unwrap();
}

#[test]
fn a_day_of_one_address_leaves_the_account_open() {
    let limiter = limiter();
    let (attacker, mut admitted) = (from("ann", "192.0.2.1"), 0);
    for second in 0..86_400 {
        let now = NOW.after(SECOND * second);
        admitted += u32::from(limiter.acquire(&attacker, now).is_ok());
        limiter.check(&from("ann", "192.0.2.2"), now).unwrap();
    }
    assert!((2880..2900).contains(&admitted), "{admitted}");
}

#[test]
fn an_ipv6_customer_is_one_client_by_64_and_bounded_by_48() {
    let limiter = limiter();
    assert_eq!(exhaust(&limiter, &from("ann", "2001:db8:1:2::1"), NOW), 10);
    limiter.check(&from("ann", "2001:db8:1:2:ffff::9"), NOW).unwrap_err();
    limiter.check(&from("ann", "2001:db8:1:3::1"), NOW).unwrap();
    // Over many accounts, changing the /64 every time.
    let sprayed = (0..2000)
        .filter(|n| {
            let attempt = from(&format!("u{n}"), &format!("2001:db8:1:{n:x}::1"));
            limiter.acquire(&attempt, NOW).is_ok()
        })
        .count();
    assert!((700..=800).contains(&sprayed), "{sprayed}");
    limiter.check(&from("u", "2001:db8:2::1"), NOW).unwrap();
}

#[test]
fn one_address_cannot_try_many_accounts() {
    let limiter = limiter();
    let sprayed = (0..1000)
        .filter(|n| limiter.acquire(&from(&n.to_string(), "192.0.2.1"), NOW).is_ok())
        .count();
    assert_eq!(sprayed, 100);
    limiter.check(&from("ann", "192.0.2.2"), NOW).unwrap();
    let at_home = Attempt::new("ann", Some("192.0.2.1".parse().unwrap()), Some([1; 16]));
    limiter.check(&at_home, NOW).unwrap();
}

#[test]
fn right_passwords_of_many_users_behind_one_address_cost_nothing() {
    let limiter = limiter();
    for n in 0..5000 {
        let attempt = from(&n.to_string(), "192.0.2.1");
        limiter.acquire(&attempt, NOW).unwrap();
        limiter.give_back(&attempt, NOW);
    }
    // Only one that signs in without end is slowed, and nobody beside it.
    let (attempt, mut admitted) = (from("ann", "192.0.2.1"), 0);
    while limiter.acquire(&attempt, NOW).is_ok() {
        limiter.give_back(&attempt, NOW);
        admitted += 1;
    }
    assert_eq!(admitted, 60);
    limiter.check(&from("bob", "192.0.2.1"), NOW).unwrap();
}

#[test]
fn a_known_browser_has_its_own_allowance() {
    let limiter = limiter();
    for n in 0..400 {
        exhaust(&limiter, &bot(n), NOW);
    }
    let known = Attempt::new("ann", Some("10.0.0.1".parse().unwrap()), Some([7; 16]));
    limiter.check(&known, NOW).unwrap();
    assert_eq!(exhaust(&limiter, &known, NOW), 10);
    assert_eq!(limiter.check(&known, NOW), Err(Duration::from_secs(30)));
    let other = Attempt::new("ann", Some("10.0.0.1".parse().unwrap()), Some([8; 16]));
    limiter.check(&other, NOW).unwrap();
    limiter.forget(&known);
    limiter.check(&known, NOW).unwrap();
}

/// Bots of `networks` addresses that try whenever they may, for an hour; how many tries they had,
/// and how long somebody who comes after ten minutes waited.
fn siege(networks: u32) -> (u32, Duration) {
    let limiter = limiter();
    let (ann, arrival) = (from("ann", "192.0.2.7"), 600);
    let (mut admitted, mut waited) = (0, None);
    let mut next = 0;
    for second in 0..3600 {
        let now = NOW.after(SECOND * second);
        for n in 0..networks {
            admitted += u32::from(limiter.acquire(&bot(n), now).is_ok());
        }
        // She comes back when she was told to.
        if second >= arrival && second >= next && waited.is_none() {
            match limiter.acquire(&ann, now) {
                Ok(_) => waited = Some(SECOND * (second - arrival)),
                Err(wait) => {
                    next = second + u32::try_from(wait.as_secs_f64().ceil() as u64).unwrap();
                }
            }
        }
    }
    (admitted, waited.expect("she was shut out"))
}

#[test]
fn a_botnet_is_slow_and_shuts_nobody_out() {
    for (networks, longest_wait) in [(1, 0), (3, 0), (20, 105), (100, 505), (300, 1505)] {
        let (admitted, waited) = siege(networks);
        // The account's quota, and one in a hundred for turns that are used late.
        assert!(
            admitted <= (100 + 3600 / 5) * 101 / 100,
            "{networks} networks had {admitted} tries"
        );
        assert!(waited <= SECOND * longest_wait, "{networks} networks: she waited {waited:?}");
    }
}

#[test]
fn a_place_in_the_queue_is_kept_and_cannot_be_multiplied() {
    let limiter = limiter();
    for n in 0..11 {
        exhaust(&limiter, &bot(n), NOW);
    }
    let ann = from("ann", "192.0.2.7");
    let wait = limiter.check(&ann, NOW).unwrap_err();
    assert!(wait <= Duration::from_secs(10), "{wait:?}");
    for _ in 0..1000 {
        assert_eq!(limiter.check(&ann, NOW), Err(wait), "asking again changes nothing");
    }
    let behind = limiter.check(&bot(500), NOW).unwrap_err();
    assert_eq!(behind, wait + Duration::from_secs(5));
    limiter.acquire(&ann, NOW.after(wait)).unwrap();
    limiter.acquire(&ann, NOW.after(wait)).unwrap_err();
    limiter.acquire(&bot(500), NOW.after(behind)).unwrap();
}

#[test]
fn an_emptied_account_is_reported_once_an_hour() {
    let limiter = limiter();
    let reports = |now: Timestamp| {
        let tries = (0..200).filter_map(|n| limiter.acquire(&bot(n), now).ok());
        tries.filter(|admission| admission.empties_account).count()
    };
    assert_eq!(reports(NOW), 1);
    assert_eq!(reports(NOW.after(Duration::from_secs(60))), 0);
    assert_eq!(reports(NOW.after(Duration::from_secs(7200))), 1);
}

#[test]
fn a_clock_that_was_ahead_locks_nobody_out() {
    let limiter = limiter();
    let ahead = NOW.after(Duration::from_secs(10 * 86_400));
    for n in 0..200 {
        exhaust(&limiter, &bot(n), ahead);
    }
    let known = Attempt::new("ann", None, Some([7; 16]));
    exhaust(&limiter, &known, ahead);
    for (n, attempt) in [bot(0), bot(150), from("ann", "192.0.2.7"), known].iter().enumerate() {
        let now = NOW.after(Duration::from_secs(5 * n as u64));
        limiter.acquire(attempt, now).unwrap_or_else(|wait| panic!("{attempt:?}: {wait:?}"));
    }
    limiter.acquire(&bot(0), Timestamp(i64::MAX)).unwrap();
    limiter.acquire(&bot(0), Timestamp(i64::MIN)).unwrap();
}

#[test]
fn memory_is_bounded() {
    let limiter = limiter();
    for n in 0..40_000 {
        let attempt = Attempt::new(&(n / 30).to_string(), bot(n).address, None);
        exhaust(&limiter, &attempt, NOW);
    }
    let buckets = lock(&limiter.buckets);
    assert!(buckets.places.len() <= PLACES_MAX && buckets.queue_ends.len() <= PLACES_MAX);
    assert!(buckets.pairs.len() <= crate::domain::rate_limit::MAX_KEYS);
}
