//! Whose datagram is it? Decided in the hub's one receiving task, from tables that only this task
//! touches.
//!
//! - A **route** is the queue to one tunnel's owner, found by the receiver index that every message
//!   but the first carries.
//! - The first message, an initiation, carries none: it waits at the `door`.
//! - Whatever matches nothing is counted and dropped, without an answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::door::{Door, INITIATION, Verdict};
use super::socket::Message;
use super::{Counters, Endpoints};
use crate::tunnel::driver::Inbound;
use crate::tunnel::handle::Shared;
use crate::tunnel::keys::{PrivateKey, PublicKey};

/// Bytes that may wait for one owner.
const QUEUE_BYTES: usize = 4 << 20;
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

struct Entry {
    own: PublicKey,
    peer: PublicKey,
    inbox: mpsc::Sender<Inbound>,
    shared: Arc<Shared>,
}

/// The tables.
pub(super) struct Demux {
    door: Door,
    by_peer: HashMap<(PublicKey, PublicKey), u32>,
    by_index: HashMap<u32, Entry>,
    counters: Arc<Counters>,
}

impl Demux {
    pub(super) fn new(endpoints: Arc<Endpoints>, counters: Arc<Counters>, now: Instant) -> Self {
        Self {
            door: Door::new(endpoints, counters.clone(), now),
            by_peer: HashMap::new(),
            by_index: HashMap::new(),
            counters,
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Add(route) => {
                let own = route.private_key.public_key();
                self.door.use_key(&route.private_key);
                self.by_peer.insert((own, route.peer), route.index);
                self.by_index.insert(
                    route.index,
                    Entry { own, peer: route.peer, inbox: route.inbox, shared: route.shared },
                );
            }
            Change::Remove { index } => {
                let Some(entry) = self.by_index.remove(&index) else { return };
                if self.by_peer.get(&(entry.own, entry.peer)) == Some(&index) {
                    self.by_peer.remove(&(entry.own, entry.peer));
                }
                self.door.drop_key(&entry.own);
            }
        }
    }

    /// Hands a message's datagrams to their owners. Neighbours for the same owner travel together.
    pub(super) fn message(&mut self, from: SocketAddr, stride: usize, message: &Message<'_>) {
        let mut run: Option<(u32, usize, usize)> = None;
        for (n, datagram) in message.bytes().chunks(stride).enumerate() {
            let at = n * stride;
            let to = self.whose(from, datagram);
            match (&mut run, to) {
                (Some((index, _, end)), Some(to)) if *index == to && *end == at => {
                    *end = at + datagram.len()
                }
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
        let (lost, waiting) = (
            length.div_ceil(stride) as u64,
            entry.shared.queued.fetch_add(length, Ordering::Relaxed),
        );
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

    /// Looks at initiations that wait, some of them. `reply` sends a cookie. True if more wait.
    pub(super) fn greet(&mut self, now: Instant, mut reply: impl FnMut(SocketAddr, &[u8])) -> bool {
        let mut opened = Vec::new();
        self.door.look(now, |verdict| match verdict {
            Verdict::Cookie { to, reply: cookie } => reply(to, &cookie),
            Verdict::Opened { own, peer, from, message } => opened.push((own, peer, from, message)),
        });
        for (own, peer, from, message) in opened {
            match self.by_peer.get(&(own, peer)) {
                Some(&index) => {
                    self.deliver(index, from, INITIATION, Bytes::copy_from_slice(&message))
                }
                None => drop(self.unknown()),
            }
        }
        self.waits()
    }

    /// Initiations wait to be looked at.
    pub(super) fn waits(&self) -> bool {
        !self.door.is_empty()
    }

    fn whose(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<u32> {
        let word = |at: usize| {
            datagram.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
        };
        let receiver = match (word(0), datagram.len()) {
            (Some(4), 32..) => word(4),
            (Some(2), 92) => word(8),
            (Some(3), 64) => word(4),
            (Some(1), INITIATION) => {
                datagram
                    .first_chunk()
                    .into_iter()
                    .for_each(|message| self.door.knock(from, message));
                return None;
            }
            _ => {
                self.counters.malformed.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        match receiver
            .map(|receiver| receiver >> 8)
            .filter(|index| self.by_index.contains_key(index))
        {
            Some(index) => Some(index),
            None => self.unknown(),
        }
    }

    fn unknown(&self) -> Option<u32> {
        self.counters.unknown.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Why a queue did not take something, without the thing.
fn told(error: TrySendError<Inbound>) -> TrySendError<()> {
    match error {
        TrySendError::Full(_) => TrySendError::Full(()),
        TrySendError::Closed(_) => TrySendError::Closed(()),
    }
}
