//! Tests of whose connection is closed for another.

use super::*;
use std::net::IpAddr;

const LIMITS: PoolLimits = PoolLimits { total: 8, per_client: 5, reserved: 2 };

fn client(n: u8) -> Client {
    Client::Network(IpAddr::from([192, 0, 2, n]))
}

/// A pool whose times are the order of its calls.
#[derive(Default)]
struct Pool {
    occupancy: Occupancy,
    now: u64,
}

impl Pool {
    fn try_open(&mut self, n: u8, is_known: bool) -> Result<Accepted, CloseReason> {
        self.now += 1;
        self.occupancy.insert(client(n), is_known, LIMITS, self.now)
    }

    fn open(&mut self, n: u8) -> Accepted {
        self.try_open(n, false).unwrap()
    }

    /// In use by a request.
    fn open_used(&mut self, n: u8) -> Accepted {
        let accepted = self.open(n);
        assert!(accepted.connection.add_request(0));
        accepted
    }

    fn check(&self) {
        let of = &self.occupancy;
        let total: usize = of.by_client.values().map(|c| c.by_number.len()).sum();
        assert_eq!(total, of.len());
        assert_eq!(of.by_client.len(), of.unknown.clients.len() + of.known.clients.len());
        assert!(of.by_client.values().all(|c| !c.by_number.is_empty()));
        assert!(total <= LIMITS.total && of.unknown.connections <= LIMITS.total - LIMITS.reserved);
    }
}

fn evicted(accepted: &Accepted) -> Option<(&Arc<Connection>, CloseReason)> {
    accepted.evicted.as_ref().map(|eviction| (&eviction.connection, eviction.reason))
}

#[test]
fn a_client_at_its_limit_loses_its_oldest_idle_connection() {
    let mut pool = Pool::default();
    let first = pool.open_used(1);
    let second = pool.open(1);
    for _ in 0..3 {
        pool.open(1);
    }
    let more = pool.open(1);
    let (closed, reason) = evicted(&more).unwrap();
    assert!(Arc::ptr_eq(closed, &second.connection), "the oldest is in use");
    assert_eq!(reason, CloseReason::ClientLimit);
    // A request makes it the youngest idle one.
    first.connection.remove_request(0, 100);
    let next = pool.open(1);
    assert!(!Arc::ptr_eq(evicted(&next).unwrap().0, &first.connection));
    assert!(pool.open(2).evicted.is_none(), "others have room");
    pool.check();
}

#[test]
fn connections_in_use_go_last_and_authenticated_ones_never() {
    let mut pool = Pool::default();
    let used: Vec<_> = (0..5).map(|_| pool.open_used(1)).collect();
    used[0].connection.is_authenticated.store(true, Ordering::Release);
    let more = pool.open_used(1);
    assert!(Arc::ptr_eq(evicted(&more).unwrap().0, &used[1].connection));
    for accepted in used.iter().skip(2).chain([&more]) {
        accepted.connection.is_authenticated.store(true, Ordering::Release);
    }
    assert_eq!(pool.try_open(1, false).unwrap_err(), CloseReason::ClientLimit);
    pool.check();
}

#[test]
fn the_client_with_most_loses_when_all_is_full() {
    let mut pool = Pool::default();
    let [_, b, ..] = [1, 2, 2, 2, 3, 3].map(|n| pool.open(n));
    let more = pool.open(4);
    let (closed, reason) = evicted(&more).unwrap();
    assert!(Arc::ptr_eq(closed, &b.connection));
    assert_eq!(reason, CloseReason::Full);
    pool.check();
    // Among equals, the one that came first: 2 and 3 have two each.
    let next = pool.open(5);
    assert_eq!(evicted(&next).unwrap().0.client, client(2));
    pool.check();
}

#[test]
fn nobody_is_closed_for_a_client_that_has_as_many() {
    let mut pool = Pool::default();
    for n in [1, 1, 1, 2, 2, 2] {
        pool.open(n);
    }
    let own = pool.open(1);
    assert_eq!(evicted(&own).unwrap().0.client, client(1), "of equals its own");
    pool.check();
    let mut pool = Pool::default();
    for n in [1, 1, 1, 2, 2] {
        pool.open_used(n).connection.is_authenticated.store(true, Ordering::Release);
    }
    pool.open(3);
    assert_eq!(pool.try_open(1, false).unwrap_err(), CloseReason::Full);
    assert!(pool.try_open(3, false).is_ok(), "its own is idle");
    pool.check();
}

#[test]
fn known_clients_have_a_reserve() {
    let mut pool = Pool::default();
    for n in 1..=6 {
        pool.open_used(n).connection.is_authenticated.store(true, Ordering::Release);
    }
    assert_eq!(pool.try_open(7, false).unwrap_err(), CloseReason::Full);
    assert!(pool.try_open(7, true).unwrap().evicted.is_none());
    assert!(pool.try_open(7, true).unwrap().evicted.is_none());
    pool.check();
    // The reserve is full: a known client's own goes before it is refused.
    assert!(pool.try_open(7, true).unwrap().evicted.is_some());
    pool.check();
}

#[test]
fn clients_of_one_connection_each_take_turns() {
    let mut pool = Pool::default();
    for n in 1..=6 {
        pool.open(n);
    }
    for n in 7..=30 {
        let accepted = pool.open(n);
        assert_eq!(evicted(&accepted).unwrap().0.client, client(n - 6), "the oldest");
        pool.check();
    }
}

#[test]
fn a_client_becomes_known_with_its_connections() {
    let mut pool = Pool::default();
    let accepted: Vec<_> = [1, 1, 1, 2, 3, 4].map(|n| pool.open(n)).into_iter().collect();
    pool.occupancy.set_known(client(1), true);
    assert_eq!((pool.occupancy.unknown.connections, pool.occupancy.known.connections), (3, 3));
    pool.check();
    for n in 5..=6 {
        assert!(pool.open(n).evicted.is_none());
    }
    // Full: those of unknown clients go first, though a known one has more.
    assert_ne!(evicted(&pool.open(7)).unwrap().0.client, client(1));
    for one in accepted.iter().take(3) {
        assert!(pool.occupancy.remove(client(1), one.number).is_some());
        assert!(pool.occupancy.remove(client(1), one.number).is_none(), "only once");
    }
    pool.check();
}

#[test]
fn a_proxy_has_no_limit_of_its_own() {
    let mut pool = Pool::default();
    let proxy = Client::Proxy(IpAddr::from([10, 0, 0, 1]));
    for n in 0..20 {
        let accepted = pool.occupancy.insert(proxy, true, LIMITS, n).unwrap();
        assert_eq!(accepted.evicted.is_some(), n >= 8, "{n}");
    }
    pool.check();
}
