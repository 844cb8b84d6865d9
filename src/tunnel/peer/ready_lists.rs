//! Which connections of a tunnel need attention, so that idle ones cost nothing.
//!
//! - `send_ready`: may have segments to send, in round-robin order.
//! - `dirty`: its state may have changed.
//! - `notify_user`: may have something new for its user.
//! - `opening_or_closing`: in the handshake or released, where time alone may change something;
//!   visited each time.
//!
//! A flag of the connection says which lists it is in, so it is in each once. It may be gone by the
//! time a list is visited.

use std::collections::VecDeque;
use std::mem::{replace, take};

use super::types::ConnId;

/// The lists a connection is in.
#[derive(Debug, Default)]
pub(super) struct ReadyFlags {
    pub(super) send_ready: bool,
    pub(super) dirty: bool,
    pub(super) notify_user: bool,
    pub(super) opening_or_closing: bool,
}

#[derive(Debug, Default)]
pub(super) struct ReadyLists {
    pub(super) send_ready: VecDeque<ConnId>,
    pub(super) dirty: Vec<ConnId>,
    pub(super) notify_user: Vec<ConnId>,
    pub(super) opening_or_closing: Vec<ConnId>,
}

impl ReadyLists {
    /// A connection changed. `notify`: not by its own user.
    pub(super) fn mark_dirty(&mut self, id: ConnId, flags: &mut ReadyFlags, notify: bool) {
        if !replace(&mut flags.send_ready, true) {
            self.send_ready.push_back(id);
        }
        if !replace(&mut flags.dirty, true) {
            self.dirty.push(id);
        }
        if notify && !replace(&mut flags.notify_user, true) {
            self.notify_user.push(id);
        }
    }

    /// Adds a connection that is opening or released.
    pub(super) fn track_transition(&mut self, id: ConnId, flags: &mut ReadyFlags) {
        if !replace(&mut flags.opening_or_closing, true) {
            self.opening_or_closing.push(id);
        }
    }

    /// Frees the memory of empty lists.
    pub(super) fn shrink(&mut self) {
        self.send_ready.shrink_to_fit();
        for list in [&mut self.dirty, &mut self.notify_user, &mut self.opening_or_closing] {
            list.shrink_to_fit();
        }
    }

    /// Takes the dirty connections and copies those opening or closing; some may be listed twice.
    pub(super) fn take_dirty(&mut self) -> Vec<ConnId> {
        let mut all = take(&mut self.dirty);
        all.extend(&self.opening_or_closing);
        all
    }
}
