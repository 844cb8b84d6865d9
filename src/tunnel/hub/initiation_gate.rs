//! Who is let in? Initiations wait here until everything else that arrived has been handed on, and
//! are then looked at a few at a time.
//!
//! An **initiation** names nobody in clear: its mac1 tells which of our keys it is for, and that
//! key opens the sender's public key (WireGuard paper, section 5.4.2) at the price of a
//! Diffie-Hellman here and, if the key is known, three more at its owner. Anybody who knows our
//! public key can ask for that, from any address. So:
//!
//! - Whoever writes from where a live tunnel's other end **is known** to be keeps its tunnel alive
//!   whatever others do.
//! - A **stranger** is let in as long as it and all strangers together ask seldom.
//! - Otherwise it is to **prove** that it is where it says, with a cookie (5.3 and 5.4.7), and is
//!   let in at a pace of its own. A cookie costs no Diffie-Hellman, but a system call: so there is
//!   a limit to cookies, too.
//!
//! Addresses can be forged, so no limit here is the only way in: what a forger uses up in
//! somebody's name is asked for again by the next way.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, TunnResult};
use boringtun::x25519;

use super::{Counters, Endpoints};
use crate::domain::rate_limit::{HashedRateLimiter, Quota, TotalRateLimiter};
use crate::tunnel::keys::{PrivateKey, PublicKey};

/// An initiation's size.
pub(super) const INITIATION_LEN: usize = 148;
/// A cookie reply's size.
const COOKIE_REPLY_LEN: usize = 64;
/// Where an initiation's mac2 begins: zeros, when its sender has no cookie.
const MAC2_OFFSET: usize = 132;
/// Initiations that wait: of known ends, and of strangers. More are dropped; whoever is real asks
/// again.
const QUEUE_MAX: (usize, usize) = (512, 1024);
/// What is done in one go, before what arrived meanwhile is looked at. A Diffie-Hellman takes some
/// 50 us, a cookie 5, a look at mac1 less than one.
const WORK_BUDGET: u32 = DECRYPT_COST;
const DECRYPT_COST: u32 = 48;
const COOKIE_COST: u32 = 6;
const MAC1_COST: u32 = 1;

struct OwnKey {
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    /// Checks mac1 alone.
    mac1_limiter: RateLimiter,
    /// Checks mac2, too, and makes cookies.
    mac2_limiter: RateLimiter,
    tunnels: usize,
}

struct GateLimits {
    /// From known ends, all together. A gateway that starts sessions calls its hosts' agents
    /// hundreds of times a second.
    known_total: TotalRateLimiter,
    /// From strangers, each (an address, or a /64) and all together.
    unknown_per_source: HashedRateLimiter,
    unknown_total: TotalRateLimiter,
    /// From strangers that have a cookie.
    cookie_validated_per_source: HashedRateLimiter,
    cookie_validated_total: TotalRateLimiter,
    /// Cookies, to one address and port, and in all. By port: who shares an address with a flood
    /// has a port of its own.
    cookie_replies_per_address: HashedRateLimiter,
    cookie_replies_total: TotalRateLimiter,
}

/// What waits, and what is known of the own keys.
pub(super) struct InitiationGate {
    keys: HashMap<PublicKey, OwnKey>,
    endpoints: Arc<Endpoints>,
    known: VecDeque<(SocketAddr, [u8; INITIATION_LEN])>,
    unknown: VecDeque<(SocketAddr, [u8; INITIATION_LEN])>,
    limits: GateLimits,
    epoch: Instant,
    counters: Arc<Counters>,
}

/// What became of an initiation.
pub(super) enum GateOutcome {
    /// It is for this key of ours, and from this peer.
    Decrypted { own: PublicKey, peer: PublicKey, from: SocketAddr, message: [u8; INITIATION_LEN] },
    /// It is answered with a cookie.
    CookieReply { to: SocketAddr, reply: [u8; COOKIE_REPLY_LEN] },
}

impl InitiationGate {
    pub(super) fn new(endpoints: Arc<Endpoints>, counters: Arc<Counters>, now: Instant) -> Self {
        let limits = GateLimits {
            known_total: TotalRateLimiter::new(Quota::per_second(2000, 500)),
            unknown_per_source: HashedRateLimiter::new(Quota::per_second(250, 250)),
            unknown_total: TotalRateLimiter::new(Quota::per_second(500, 500)),
            cookie_validated_per_source: HashedRateLimiter::new(Quota::per_second(50, 50)),
            cookie_validated_total: TotalRateLimiter::new(Quota::per_second(500, 200)),
            cookie_replies_per_address: HashedRateLimiter::new(Quota::per_second(5, 5)),
            cookie_replies_total: TotalRateLimiter::new(Quota::per_second(10_000, 1000)),
        };
        Self {
            keys: HashMap::new(),
            endpoints,
            known: VecDeque::new(),
            unknown: VecDeque::new(),
            limits,
            epoch: now,
            counters,
        }
    }

    /// A tunnel uses this key.
    pub(super) fn add_key(&mut self, key: &PrivateKey) {
        let own = key.public_key();
        let known = self.keys.entry(own).or_insert_with(|| OwnKey {
            secret: key.secret(),
            public: own.x25519(),
            mac1_limiter: RateLimiter::new(&own.x25519(), u64::MAX),
            mac2_limiter: RateLimiter::new(&own.x25519(), 0),
            tunnels: 0,
        });
        known.tunnels += 1;
    }

    /// A tunnel uses it no more.
    pub(super) fn remove_key(&mut self, own: &PublicKey) {
        if let Some(key) = self.keys.get_mut(own) {
            key.tunnels -= 1;
            if key.tunnels == 0 {
                self.keys.remove(own);
            }
        }
    }

    /// Nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    /// Lets an initiation wait.
    pub(super) fn enqueue(&mut self, from: SocketAddr, message: &[u8; INITIATION_LEN]) {
        let (queue, places) = if self.endpoints.contains(from) {
            (&mut self.known, QUEUE_MAX.0)
        } else {
            (&mut self.unknown, QUEUE_MAX.1)
        };
        if queue.len() < places {
            queue.push_back((from, *message));
        } else {
            self.counters.limited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks at those who wait, known ends first, until enough was done for now.
    pub(super) fn process(&mut self, now: Instant, mut verdict: impl FnMut(GateOutcome)) {
        let now =
            u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        let mut effort = 0;
        while effort < WORK_BUDGET {
            let (known, next) = match self.known.pop_front() {
                Some(friend) => (true, Some(friend)),
                None => (false, self.unknown.pop_front()),
            };
            let Some((from, message)) = next else { return };
            let (cost, found) = self.evaluate(from, &message, known, now);
            effort += cost;
            found.into_iter().for_each(&mut verdict);
        }
    }

    fn evaluate(
        &mut self,
        from: SocketAddr,
        message: &[u8; INITIATION_LEN],
        known: bool,
        now: u64,
    ) -> (u32, Option<GateOutcome>) {
        let mut reply = [0; COOKIE_REPLY_LEN];
        let counters = &*self.counters;
        let found = self.keys.iter().find_map(|(own, key)| {
            match key.mac1_limiter.verify_packet(None, message, &mut [0; COOKIE_REPLY_LEN]) {
                Ok(Packet::HandshakeInit(initiation)) => Some((own, key, initiation)),
                _ => None,
            }
        });
        let Some((own, key, initiation)) = found else {
            counters.unknown.fetch_add(1, Ordering::Relaxed);
            return (MAC1_COST, None);
        };
        let limits = &mut self.limits;
        // Each source's own limit first: what it refuses takes nothing from the others.
        let welcome = (known && limits.known_total.try_acquire(now))
            || (limits.unknown_per_source.try_acquire(source_prefix(from.ip()), now)
                && limits.unknown_total.try_acquire(now));
        if !welcome {
            let bare =
                message.get(MAC2_OFFSET..).is_none_or(|mac2| mac2.iter().all(|byte| *byte == 0));
            if bare
                && !(limits.cookie_replies_per_address.try_acquire(from, now)
                    && limits.cookie_replies_total.try_acquire(now))
            {
                counters.limited.fetch_add(1, Ordering::Relaxed);
                return (MAC1_COST, None);
            }
            match key.mac2_limiter.verify_packet(Some(from.ip()), message, &mut reply) {
                Ok(_)
                    if limits
                        .cookie_validated_per_source
                        .try_acquire(source_prefix(from.ip()), now)
                        && limits.cookie_validated_total.try_acquire(now) => {}
                Err(TunnResult::WriteToNetwork(_))
                    if bare
                        || (limits.cookie_replies_per_address.try_acquire(from, now)
                            && limits.cookie_replies_total.try_acquire(now)) =>
                {
                    counters.cookies.fetch_add(1, Ordering::Relaxed);
                    return (COOKIE_COST, Some(GateOutcome::CookieReply { to: from, reply }));
                }
                _ => {
                    counters.limited.fetch_add(1, Ordering::Relaxed);
                    return (COOKIE_COST, None);
                }
            }
        }
        match parse_handshake_anon(&key.secret, &key.public, &initiation) {
            Ok(half) => {
                let peer = PublicKey::from_bytes(half.peer_static_public);
                (
                    DECRYPT_COST,
                    Some(GateOutcome::Decrypted { own: *own, peer, from, message: *message }),
                )
            }
            Err(_) => {
                counters.unknown.fetch_add(1, Ordering::Relaxed);
                (DECRYPT_COST, None)
            }
        }
    }
}

/// What one customer of a network has: an address, or a /64 (RFC 6177).
fn source_prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boringtun::noise::Tunn;

    const FLOOD: &str = "192.0.2.66:1000";

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    /// Somebody who knows our public key.
    struct Principal {
        tunn: Tunn,
        public: PublicKey,
    }

    impl Principal {
        fn new(ours: &PrivateKey) -> Self {
            let key = PrivateKey::generate().unwrap();
            Self {
                tunn: Tunn::new(key.secret(), ours.public_key().x25519(), None, None, 1, None),
                public: key.public_key(),
            }
        }

        fn initiation(&mut self) -> [u8; INITIATION_LEN] {
            let mut room = [0; 256];
            let TunnResult::WriteToNetwork(message) =
                self.tunn.format_handshake_initiation(&mut room, true)
            else {
                panic!("no initiation")
            };
            <[u8; INITIATION_LEN]>::try_from(&*message).unwrap()
        }

        fn hear(&mut self, cookie: &[u8]) {
            assert!(
                matches!(self.tunn.decapsulate(None, cookie, &mut [0; 256]), TunnResult::Done),
                "it is a cookie"
            );
        }
    }

    struct Seen {
        opened: Vec<(PublicKey, SocketAddr)>,
        cookies: Vec<(SocketAddr, [u8; COOKIE_REPLY_LEN])>,
    }

    /// Looks until nobody waits. No time passes in these tests.
    fn all(door: &mut InitiationGate) -> Seen {
        let mut seen = Seen { opened: Vec::new(), cookies: Vec::new() };
        while !door.is_empty() {
            door.process(door.epoch, |verdict| match verdict {
                GateOutcome::Decrypted { peer, from, .. } => seen.opened.push((peer, from)),
                GateOutcome::CookieReply { to, reply } => seen.cookies.push((to, reply)),
            });
        }
        seen
    }

    fn door() -> (InitiationGate, PrivateKey, Arc<Endpoints>) {
        let (endpoints, key) = (Arc::<Endpoints>::default(), PrivateKey::generate().unwrap());
        let mut door = InitiationGate::new(endpoints.clone(), Arc::default(), Instant::now());
        door.add_key(&key);
        (door, key, endpoints)
    }

    /// As much of a flood as uses up what one address may ask for, and its cookies.
    fn flooded(door: &mut InitiationGate, key: &PrivateKey) -> [u8; INITIATION_LEN] {
        let message = Principal::new(key).initiation();
        for _ in 0..3 {
            (0..QUEUE_MAX.1).for_each(|_| door.enqueue(at(FLOOD), &message));
            all(door);
        }
        message
    }

    #[test]
    fn a_stranger_beside_a_flood_from_its_own_address_gets_in_with_a_cookie() {
        let (mut door, key, _) = door();
        let message = flooded(&mut door, &key);
        let mut caller = Principal::new(&key);
        let from = at("192.0.2.66:2000");
        door.enqueue(from, &caller.initiation());
        let cookie =
            all(&mut door).cookies.pop().expect("a cookie: this port has asked for none yet");
        assert_eq!(cookie.0, from);
        caller.hear(&cookie.1);
        (0..100).for_each(|_| door.enqueue(at(FLOOD), &message));
        door.enqueue(from, &caller.initiation());
        assert!(all(&mut door).opened.contains(&(caller.public, from)));
        assert!(door.counters.limited.load(Ordering::Relaxed) > 2000);
    }

    #[test]
    fn a_cookie_is_worth_nothing_elsewhere() {
        let (mut door, key, _) = door();
        flooded(&mut door, &key);
        let mut caller = Principal::new(&key);
        door.enqueue(at("192.0.2.66:2000"), &caller.initiation());
        caller.hear(&all(&mut door).cookies[0].1);
        let message = caller.initiation();
        // Another address that has asked too often.
        for n in 0..300 {
            door.enqueue(at("192.0.2.77:1"), &Principal::new(&key).initiation());
            if n % 100 == 0 {
                all(&mut door);
            }
        }
        all(&mut door);
        door.enqueue(at("192.0.2.77:1"), &message);
        assert!(all(&mut door).opened.is_empty());
    }

    #[test]
    fn a_stranger_from_another_address_hardly_notices_a_flood() {
        let (mut door, key, _) = door();
        flooded(&mut door, &key);
        let mut caller = Principal::new(&key);
        door.enqueue(at("198.51.100.1:1"), &caller.initiation());
        assert_eq!(all(&mut door).opened, [(caller.public, at("198.51.100.1:1"))]);
    }

    #[test]
    fn a_known_end_goes_first_and_needs_no_cookie() {
        let (mut door, key, endpoints) = door();
        let friend = at("192.0.2.66:3000");
        endpoints.update(None, Some(friend));
        let message = flooded(&mut door, &key);
        (0..QUEUE_MAX.1).for_each(|_| door.enqueue(at(FLOOD), &message));
        let mut caller = Principal::new(&key);
        door.enqueue(friend, &caller.initiation());
        let mut first = None;
        door.process(door.epoch, |verdict| {
            if let GateOutcome::Decrypted { peer, .. } = verdict {
                first.get_or_insert(peer);
            }
        });
        assert_eq!(first, Some(caller.public));
        assert!(!door.is_empty(), "the flood still waits");
        // It is one as long as a tunnel's other end is there.
        endpoints.update(Some(friend), None);
        all(&mut door);
        door.enqueue(friend, &caller.initiation());
        assert!(all(&mut door).opened.is_empty());
    }

    #[test]
    fn junk_uses_up_nobodys_turn() {
        let (mut door, key, _) = door();
        for _ in 0..3 {
            (0..QUEUE_MAX.1).for_each(|_| door.enqueue(at(FLOOD), &[1; INITIATION_LEN]));
            all(&mut door);
        }
        let mut caller = Principal::new(&key);
        door.enqueue(at(FLOOD), &caller.initiation());
        assert_eq!(all(&mut door).opened, [(caller.public, at(FLOOD))]);
        assert_eq!(door.counters.unknown.load(Ordering::Relaxed), 3 * QUEUE_MAX.1 as u64);
    }
}
