//! Demultiplexes received datagrams to the tunnels' owners, in the hub's one receive task, whose
//! tables no other task touches.
//!
//! - Every message but the first carries a receiver index, which finds the queue of the tunnel's
//!   owner.
//! - The first message, a handshake initiation, carries none: it is queued at the
//!   `initiation_gate`.
//! - A datagram that matches no tunnel is counted and dropped, without an answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::counters::Counters;
use super::endpoints::Endpoints;
use super::initiation_gate::{GateOutcome, INITIATION_LEN, InitiationGate};
use super::registration::{Change, InboundBatch};
use super::socket::Message;
use crate::tunnel::handle::Shared;
use crate::tunnel::keys::PublicKey;

/// Bytes that may wait for one owner.
const QUEUE_BYTES_MAX: usize = 4 << 20;

struct Entry {
    own: PublicKey,
    peer: PublicKey,
    inbox: mpsc::Sender<InboundBatch>,
    shared: Arc<Shared>,
}

pub(super) struct Demux {
    gate: InitiationGate,
    by_peer: HashMap<(PublicKey, PublicKey), u32>,
    by_index: HashMap<u32, Entry>,
    counters: Arc<Counters>,
}

impl Demux {
    pub(super) fn new(endpoints: Arc<Endpoints>, counters: Arc<Counters>, now: Instant) -> Self {
        Self {
            gate: InitiationGate::new(endpoints, counters.clone(), now),
            by_peer: HashMap::new(),
            by_index: HashMap::new(),
            counters,
        }
    }

    pub(super) fn apply_change(&mut self, change: Change) {
        match change {
            Change::Add(registration) => {
                let own = registration.private_key.public_key();
                self.gate.add_key(&registration.private_key);
                self.by_peer.insert((own, registration.peer), registration.index);
                self.by_index.insert(
                    registration.index,
                    Entry {
                        own,
                        peer: registration.peer,
                        inbox: registration.inbox,
                        shared: registration.shared,
                    },
                );
            }
            Change::Remove { index } => {
                let Some(entry) = self.by_index.remove(&index) else { return };
                if self.by_peer.get(&(entry.own, entry.peer)) == Some(&index) {
                    self.by_peer.remove(&(entry.own, entry.peer));
                }
                self.gate.remove_key(&entry.own);
            }
        }
    }

    /// Delivers a message's datagrams to their owners; consecutive ones for the same owner as one
    /// batch.
    pub(super) fn dispatch(&mut self, from: SocketAddr, stride: usize, message: &Message<'_>) {
        let mut run: Option<(u32, usize, usize)> = None;
        for (n, datagram) in message.bytes().chunks(stride).enumerate() {
            let at = n * stride;
            let to = self.lookup_owner(from, datagram);
            match (&mut run, to) {
                (Some((index, _, end)), Some(to)) if *index == to && *end == at => {
                    *end = at + datagram.len()
                }
                _ => {
                    if let Some((index, start, end)) = run.take() {
                        self.deliver(index, from, stride, message.slice(start..end));
                    }
                    run = to.map(|to| (to, at, at + datagram.len()));
                }
            }
        }
        if let Some((index, start, end)) = run {
            self.deliver(index, from, stride, message.slice(start..end));
        }
    }

    fn deliver(&self, index: u32, from: SocketAddr, stride: usize, contents: Bytes) {
        let Some(entry) = self.by_index.get(&index) else { return };
        let length = contents.len();
        let (datagrams, queued) = (
            length.div_ceil(stride) as u64,
            entry.shared.queued_bytes.fetch_add(length, Ordering::Relaxed),
        );
        let sent = if queued > QUEUE_BYTES_MAX {
            Err(TrySendError::Full(()))
        } else {
            entry.inbox.try_send(InboundBatch { from, stride, contents }).map_err(without_payload)
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(())) => {
                entry.shared.queued_bytes.fetch_sub(length, Ordering::Relaxed);
                entry.shared.overflow.fetch_add(datagrams, Ordering::Relaxed);
                self.counters.overflow.fetch_add(datagrams, Ordering::Relaxed);
            }
            // The owner has ended; its removal is still queued.
            Err(TrySendError::Closed(())) => {
                self.counters.unknown.fetch_add(datagrams, Ordering::Relaxed);
            }
        }
    }

    /// Processes some of the pending initiations. `reply` sends a cookie reply. Returns true if
    /// more are pending.
    pub(super) fn process_initiations(
        &mut self,
        now: Instant,
        mut reply: impl FnMut(SocketAddr, &[u8]),
    ) -> bool {
        let mut decrypted = Vec::new();
        self.gate.process(now, |outcome| match outcome {
            GateOutcome::CookieReply { to, reply: cookie } => reply(to, &cookie),
            GateOutcome::Decrypted { own, peer, from, message } => {
                decrypted.push((own, peer, from, message))
            }
        });
        for (own, peer, from, message) in decrypted {
            match self.by_peer.get(&(own, peer)) {
                Some(&index) => {
                    self.deliver(index, from, INITIATION_LEN, Bytes::copy_from_slice(&message))
                }
                None => drop(self.count_unknown()),
            }
        }
        self.has_pending_initiations()
    }

    pub(super) fn has_pending_initiations(&self) -> bool {
        !self.gate.is_empty()
    }

    fn lookup_owner(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<u32> {
        let u32_at = |at: usize| {
            datagram.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
        };
        let receiver = match (u32_at(0), datagram.len()) {
            (Some(4), 32..) => u32_at(4),
            (Some(2), 92) => u32_at(8),
            (Some(3), 64) => u32_at(4),
            (Some(1), INITIATION_LEN) => {
                datagram
                    .first_chunk()
                    .into_iter()
                    .for_each(|message| self.gate.enqueue(from, message));
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
            None => self.count_unknown(),
        }
    }

    fn count_unknown(&self) -> Option<u32> {
        self.counters.unknown.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// The reason of a failed send, without the batch.
fn without_payload(error: TrySendError<InboundBatch>) -> TrySendError<()> {
    match error {
        TrySendError::Full(_) => TrySendError::Full(()),
        TrySendError::Closed(_) => TrySendError::Closed(()),
    }
}
