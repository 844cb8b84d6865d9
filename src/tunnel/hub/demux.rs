//! Whose datagram is it? Decided in the hub's one receiving task, from tables that only this task touches.
//!
//! - A **route** is the queue to one tunnel's owner, found by the receiver index that every message but the first carries.
//! - The first message, an **initiation**, names nobody in clear: its mac1 tells which of our keys it is for, and that key opens the sender's
//!   public key (WireGuard paper, section 5.4.2). Under load, only senders that prove their address with a cookie get that far (5.4.7).
//! - Whatever matches nothing is counted and dropped, without an answer. So are most initiations of a flood: a cookie costs a system call, and whoever
//!   is real asks again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, TunnResult};
use boringtun::x25519;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Counters;
use super::socket::Message;
use crate::tunnel::driver::Inbound;
use crate::tunnel::handle::Shared;
use crate::tunnel::keys::{PrivateKey, PublicKey};

/// Initiations a second, for each of our keys, before cookies are asked for: each costs us a Diffie-Hellman or three.
const INITIATIONS: u64 = 500;
/// Cookies sent a second, for each of our keys. Then initiations without one are dropped unread: they are most of any flood.
const COOKIES: u32 = 2000;
/// Where an initiation's mac2 begins: zeros, when its sender has no cookie.
const MAC2: usize = 132;
/// Bytes that may wait for one owner.
const QUEUE_BYTES: usize = 4 << 20;
/// A cookie reply's size.
const COOKIE_REPLY: usize = 64;

/// A change to the tables.
pub(in crate::tunnel) enum Change {
    Add(Box<Route>),
    Remove { index: u32 },
}

/// The way to one tunnel's owner.
pub(in crate::tunnel) struct Route {
    pub(in crate::tunnel) index: u32,
    pub(in crate::tunnel) private_key: PrivateKey,
    pub(in crate::tunnel) peer: PublicKey,
    pub(in crate::tunnel) inbox: mpsc::Sender<Inbound>,
    pub(in crate::tunnel) shared: Arc<Shared>,
}

struct OwnKey {
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    limiter: RateLimiter,
    tunnels: usize,
    /// Cookies sent in the present second, and when that began.
    cookies: (u32, Instant),
}

impl OwnKey {
    /// The second's supply of cookies is used up.
    fn out_of_cookies(&mut self) -> bool {
        let now = Instant::now();
        let (sent, since) = &mut self.cookies;
        if now.duration_since(*since) >= Duration::from_secs(1) {
            (*sent, *since) = (0, now);
        }
        *sent >= COOKIES
    }
}

struct Entry {
    own: PublicKey,
    peer: PublicKey,
    inbox: mpsc::Sender<Inbound>,
    shared: Arc<Shared>,
}

/// The tables.
pub(super) struct Demux {
    keys: HashMap<PublicKey, OwnKey>,
    by_peer: HashMap<(PublicKey, PublicKey), u32>,
    by_index: HashMap<u32, Entry>,
    counters: Arc<Counters>,
}

/// What is to be done with a message that is not for any tunnel yet.
pub(super) enum Verdict {
    Tunnel(u32),
    Cookie([u8; COOKIE_REPLY]),
    Drop,
}

impl Demux {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { keys: HashMap::new(), by_peer: HashMap::new(), by_index: HashMap::new(), counters }
    }

    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Add(route) => {
                let own = route.private_key.public_key();
                let key = self.keys.entry(own).or_insert_with(|| OwnKey {
                    secret: route.private_key.secret(),
                    public: own.x25519(),
                    limiter: RateLimiter::new(&own.x25519(), INITIATIONS),
                    tunnels: 0,
                    cookies: (0, Instant::now()),
                });
                key.tunnels += 1;
                self.by_peer.insert((own, route.peer), route.index);
                self.by_index.insert(route.index, Entry { own, peer: route.peer, inbox: route.inbox, shared: route.shared });
            }
            Change::Remove { index } => {
                let Some(entry) = self.by_index.remove(&index) else { return };
                if self.by_peer.get(&(entry.own, entry.peer)) == Some(&index) {
                    self.by_peer.remove(&(entry.own, entry.peer));
                }
                if let Some(key) = self.keys.get_mut(&entry.own) {
                    key.tunnels -= 1;
                    if key.tunnels == 0 {
                        self.keys.remove(&entry.own);
                    }
                }
            }
        }
    }

    /// Hands a message's datagrams to their owners. Neighbours for the same owner travel together. `reply` sends a cookie.
    pub(super) fn message(&mut self, from: SocketAddr, stride: usize, message: &Message<'_>, mut reply: impl FnMut(&[u8])) {
        let mut run: Option<(u32, usize, usize)> = None;
        for (n, datagram) in message.bytes().chunks(stride).enumerate() {
            let at = n * stride;
            let to = match self.whose(from, datagram) {
                Verdict::Tunnel(index) => Some(index),
                Verdict::Cookie(cookie) => {
                    reply(&cookie);
                    None
                }
                Verdict::Drop => None,
            };
            match (&mut run, to) {
                (Some((index, _, end)), Some(to)) if *index == to && *end == at => *end = at + datagram.len(),
                _ => {
                    if let Some((index, start, end)) = run.take() {
                        self.deliver(index, from, stride, message.part(start..end));
                    }
                    run = to.map(|to| (to, at, at + datagram.len()));
                }
            }
        }
        if let Some((index, start, end)) = run {
            self.deliver(index, from, stride, message.part(start..end));
        }
    }

    fn deliver(&self, index: u32, from: SocketAddr, stride: usize, contents: Bytes) {
        let Some(entry) = self.by_index.get(&index) else { return };
        let length = contents.len();
        let (lost, waiting) = (length.div_ceil(stride) as u64, entry.shared.queued.fetch_add(length, Ordering::Relaxed));
        let sent = if waiting > QUEUE_BYTES {
            Err(TrySendError::Full(()))
        } else {
            entry.inbox.try_send(Inbound { from, stride, contents }).map_err(told)
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(())) => {
                entry.shared.queued.fetch_sub(length, Ordering::Relaxed);
                entry.shared.overflow.fetch_add(lost, Ordering::Relaxed);
                self.counters.overflow.fetch_add(lost, Ordering::Relaxed);
            }
            // The owner is gone already, and this task has yet to hear of it.
            Err(TrySendError::Closed(())) => {
                self.counters.unknown.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }

    fn whose(&mut self, from: SocketAddr, datagram: &[u8]) -> Verdict {
        let word = |at: usize| datagram.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let receiver = match (word(0), datagram.len()) {
            (Some(4), 32..) => word(4),
            (Some(2), 92) => word(8),
            (Some(3), 64) => word(4),
            (Some(1), 148) => return self.initiation(from, datagram),
            _ => {
                self.counters.malformed.fetch_add(1, Ordering::Relaxed);
                return Verdict::Drop;
            }
        };
        match receiver.map(|receiver| receiver >> 8).filter(|index| self.by_index.contains_key(index)) {
            Some(index) => Verdict::Tunnel(index),
            None => self.unknown(),
        }
    }

    fn initiation(&mut self, from: SocketAddr, datagram: &[u8]) -> Verdict {
        let mut cookie = [0; COOKIE_REPLY];
        let without = datagram.get(MAC2..).is_some_and(|mac2| mac2.iter().all(|byte| *byte == 0));
        for (own, key) in &mut self.keys {
            if without && key.out_of_cookies() {
                continue;
            }
            key.limiter.reset_count();
            match key.limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
                Ok(Packet::HandshakeInit(initiation)) => {
                    let Ok(half) = parse_handshake_anon(&key.secret, &key.public, &initiation) else { break };
                    let peer = PublicKey::from_bytes(half.peer_static_public);
                    return match self.by_peer.get(&(*own, peer)) {
                        Some(&index) => Verdict::Tunnel(index),
                        None => self.unknown(),
                    };
                }
                Err(TunnResult::WriteToNetwork(_)) if key.out_of_cookies() => break,
                Err(TunnResult::WriteToNetwork(_)) => {
                    key.cookies.0 += 1;
                    self.counters.cookies.fetch_add(1, Ordering::Relaxed);
                    return Verdict::Cookie(cookie);
                }
                // Not for this key.
                _ => {}
            }
        }
        self.unknown()
    }

    fn unknown(&self) -> Verdict {
        self.counters.unknown.fetch_add(1, Ordering::Relaxed);
        Verdict::Drop
    }
}

/// Why a queue did not take something, without the thing.
fn told(error: TrySendError<Inbound>) -> TrySendError<()> {
    match error {
        TrySendError::Full(_) => TrySendError::Full(()),
        TrySendError::Closed(_) => TrySendError::Closed(()),
    }
}
