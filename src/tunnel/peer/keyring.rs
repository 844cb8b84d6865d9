//! Session keys, their age, and which one is used for sending: a mirror of boringtun's internal
//! state.
//!
//! - A **key** here is its receiver index and age; its bytes stay in boringtun.
//! - It is **confirmed** when the peer is known to have it: at once for the initiator, with the
//!   first packet for the responder.
//! - The **current** key is the newest confirmed one.

use std::time::Instant;

use super::timers::{KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_TIMEOUT};

/// boringtun keeps this many sessions, by index modulo this.
const SLOTS: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Key {
    index: u32,
    born: Instant,
    initiator: bool,
}

#[derive(Debug, Default)]
pub(super) struct Keyring {
    slots: [Option<Key>; SLOTS],
    current: Option<Key>,
}

impl Keyring {
    fn slot(&mut self, index: u32) -> &mut Option<Key> {
        &mut self.slots[index as usize % SLOTS]
    }

    /// A handshake completed with this key.
    pub(super) fn add(&mut self, index: u32, initiator: bool, now: Instant) {
        let key = Key { index, born: now, initiator };
        *self.slot(index) = Some(key);
        if initiator {
            self.current = Some(key);
        }
    }

    /// Whether a packet with this index may be decrypted.
    pub(super) fn admits(&mut self, index: u32, now: Instant) -> bool {
        self.slot(index).is_some_and(|key| key.index == index && now < key.born + REJECT_AFTER_TIME)
    }

    /// A packet with this index was authentic; returns true if that made the key current.
    pub(super) fn confirm(&mut self, index: u32) -> bool {
        let Some(key) = *self.slot(index) else { return false };
        if self.current.is_some_and(|current| current.index == index || current.born > key.born) {
            return false;
        }
        self.current = Some(key);
        true
    }

    /// There is a key to send with.
    pub(super) fn usable(&self, now: Instant) -> bool {
        self.current.is_some_and(|key| now < key.born + REJECT_AFTER_TIME)
    }

    /// There was a key, whatever its age.
    pub(super) fn any(&self) -> bool {
        self.current.is_some()
    }

    /// When the current key expires.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.current.map(|key| key.born + REJECT_AFTER_TIME)
    }

    /// Whether we must initiate a rekey after sending.
    pub(super) fn old_for_sending(&self, now: Instant) -> bool {
        self.current.is_some_and(|key| key.initiator && now >= key.born + REKEY_AFTER_TIME)
    }

    /// Whether we must initiate a rekey after receiving.
    pub(super) fn old_for_receiving(&self, now: Instant) -> bool {
        let limit = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT;
        self.current.is_some_and(|key| key.initiator && now >= key.born + limit)
    }

    /// Removes expired keys.
    pub(super) fn expire(&mut self, now: Instant) {
        for slot in &mut self.slots {
            if slot.is_some_and(|key| now >= key.born + REJECT_AFTER_TIME) {
                *slot = None;
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
