//! Limits the work that handshake initiations cause. They are queued until everything else that
//! arrived has been dispatched, and are then processed a few at a time.
//!
//! An **initiation** is not authenticated before it is decrypted: its mac1 tells which of our keys
//! it is for, and that key decrypts the sender's static public key (WireGuard paper, section 5.4.2)
//! at the cost of one Diffie-Hellman here and, if the peer is known, three more at its owner.
//! Anybody who knows our public key can cause that work, from any address. Therefore:
//!
//! - Initiations from the address of an established tunnel's peer (**known**) have a limit of their
//!   own, so that a flood from elsewhere does not keep tunnels from renewing their keys.
//! - Initiations from other addresses (**unknown**) are accepted within a limit per source and a
//!   limit in total.
//! - Beyond these limits the sender must prove its address with a cookie (sections 5.3 and 5.4.7),
//!   and is then accepted within further limits (**cookie-validated**). A cookie reply costs no
//!   Diffie-Hellman but a system call, so cookie replies are limited too.
//!
//! Source addresses can be forged, so no limit is the only way in: what an attacker exhausts under
//! another's address is tried again by the next rule.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, TunnResult};
use boringtun::x25519;

use super::counters::Counters;
use super::endpoints::Endpoints;
use crate::domain::rate_limit::{HashedRateLimiter, Quota, TotalRateLimiter, client_network};
use crate::tunnel::keys::{PrivateKey, PublicKey};

/// Length of a handshake initiation, in bytes.
pub(super) const INITIATION_LEN: usize = 148;
const COOKIE_REPLY_LEN: usize = 64;
/// Offset of mac2 in an initiation; zeros if the sender has no cookie.
const MAC2_OFFSET: usize = 132;
/// Queue lengths: known and unknown sources. Further initiations are dropped; a genuine peer
/// retries.
const QUEUE_MAX: (usize, usize) = (512, 1024);
/// Work of one `process` call, before newly arrived datagrams are dispatched, in units of about 1
/// us: a Diffie-Hellman takes 50 us, a cookie reply 5, checking mac1 less than one.
const WORK_BUDGET: u32 = DECRYPT_COST;
const DECRYPT_COST: u32 = 48;
const COOKIE_COST: u32 = 6;
const MAC1_COST: u32 = 1;

struct OwnKey {
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    /// Verifies mac1 only.
    mac1_limiter: RateLimiter,
    /// Verifies mac2 too, and makes cookie replies.
    mac2_limiter: RateLimiter,
    tunnels: usize,
}

struct GateLimits {
    /// Known sources, in total. A gateway that launches sessions sends initiations to its hosts'
    /// agents hundreds of times a second.
    known_total: TotalRateLimiter,
    /// Unknown sources, each (an address, or a /64) and in total.
    unknown_per_source: HashedRateLimiter,
    unknown_total: TotalRateLimiter,
    /// Sources with a valid cookie.
    cookie_validated_per_source: HashedRateLimiter,
    cookie_validated_total: TotalRateLimiter,
    /// Cookie replies, per address and port and in total. By port, because a peer behind the same
    /// address as a flood has a port of its own.
    cookie_replies_per_address: HashedRateLimiter,
    cookie_replies_total: TotalRateLimiter,
}

impl GateLimits {
    /// The source's own limit first: what it refuses takes nothing from the total.
    fn accepts(&mut self, from: SocketAddr, known: bool, now: u64) -> bool {
        (known && self.known_total.try_acquire(now))
            || (self.unknown_per_source.try_acquire(client_network(from.ip()), now)
                && self.unknown_total.try_acquire(now))
    }

    fn accepts_validated(&mut self, from: SocketAddr, now: u64) -> bool {
        self.cookie_validated_per_source.try_acquire(client_network(from.ip()), now)
            && self.cookie_validated_total.try_acquire(now)
    }

    fn allows_reply(&mut self, from: SocketAddr, now: u64) -> bool {
        self.cookie_replies_per_address.try_acquire(from, now)
            && self.cookie_replies_total.try_acquire(now)
    }
}

pub(super) struct InitiationGate {
    keys: HashMap<PublicKey, OwnKey>,
    endpoints: Arc<Endpoints>,
    known: VecDeque<(SocketAddr, [u8; INITIATION_LEN])>,
    unknown: VecDeque<(SocketAddr, [u8; INITIATION_LEN])>,
    limits: GateLimits,
    epoch: Instant,
    counters: Arc<Counters>,
}

pub(super) enum GateOutcome {
    /// For this key of responder, from this peer.
    Decrypted {
        own: PublicKey,
        peer: PublicKey,
        from: SocketAddr,
        message: [u8; INITIATION_LEN],
    },
    CookieReply {
        to: SocketAddr,
        reply: [u8; COOKIE_REPLY_LEN],
    },
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

    pub(super) fn remove_key(&mut self, own: &PublicKey) {
        if let Some(key) = self.keys.get_mut(own) {
            key.tunnels -= 1;
            if key.tunnels == 0 {
                self.keys.remove(own);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    pub(super) fn enqueue(&mut self, from: SocketAddr, message: &[u8; INITIATION_LEN]) {
        let (queue, capacity) = if self.endpoints.contains(from) {
            (&mut self.known, QUEUE_MAX.0)
        } else {
            (&mut self.unknown, QUEUE_MAX.1)
        };
        if queue.len() < capacity {
            queue.push_back((from, *message));
        } else {
            self.counters.limited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Processes queued initiations, known sources first, until the work budget is used up.
    pub(super) fn process(&mut self, now: Instant, mut outcome: impl FnMut(GateOutcome)) {
        let now =
            u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        let mut work = 0;
        while work < WORK_BUDGET {
            let (known, next) = match self.known.pop_front() {
                Some(entry) => (true, Some(entry)),
                None => (false, self.unknown.pop_front()),
            };
            let Some((from, message)) = next else { return };
            let (cost, found) = self.evaluate(from, &message, known, now);
            work += cost;
            found.into_iter().for_each(&mut outcome);
        }
    }

    fn evaluate(
        &mut self,
        from: SocketAddr,
        message: &[u8; INITIATION_LEN],
        known: bool,
        now: u64,
    ) -> (u32, Option<GateOutcome>) {
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
        if !self.limits.accepts(from, known, now) {
            match check_cookie(&mut self.limits, key, from, message, now) {
                Cookie::Valid => {}
                Cookie::Reply(reply) => {
                    counters.cookies.fetch_add(1, Ordering::Relaxed);
                    return (COOKIE_COST, Some(GateOutcome::CookieReply { to: from, reply }));
                }
                Cookie::Refused { cost } => {
                    counters.limited.fetch_add(1, Ordering::Relaxed);
                    return (cost, None);
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

enum Cookie {
    Valid,
    /// The sender is to prove its address with this.
    Reply([u8; COOKIE_REPLY_LEN]),
    Refused {
        cost: u32,
    },
}

/// Checks the cookie of an initiation beyond the limits of its source.
fn check_cookie(
    limits: &mut GateLimits,
    key: &OwnKey,
    from: SocketAddr,
    message: &[u8; INITIATION_LEN],
    now: u64,
) -> Cookie {
    let without_cookie =
        message.get(MAC2_OFFSET..).is_none_or(|mac2| mac2.iter().all(|byte| *byte == 0));
    if without_cookie && !limits.allows_reply(from, now) {
        return Cookie::Refused { cost: MAC1_COST };
    }
    let mut reply = [0; COOKIE_REPLY_LEN];
    match key.mac2_limiter.verify_packet(Some(from.ip()), message, &mut reply) {
        Ok(_) if limits.accepts_validated(from, now) => Cookie::Valid,
        Err(TunnResult::WriteToNetwork(_)) if without_cookie || limits.allows_reply(from, now) => {
            Cookie::Reply(reply)
        }
        _ => Cookie::Refused { cost: COOKIE_COST },
    }
}

#[cfg(test)]
mod tests;
