//! Which connections of a tunnel are looked at.
//!
//! - **lively**: it may have something to send; in the order of their turns.
//! - **touched**: something may have become of it.
//! - **stirred**: its user may find something new.
//! - **passing**: it is opening or released, where time alone may change something; looked at each
//!   time.
//!
//! A connection is in a list once; a mark of its own says so. It may be gone by the time it is
//! looked at.

use std::collections::VecDeque;
use std::mem::{replace, take};

use super::netstack::ConnId;

/// The lists that a connection is in.
#[derive(Debug, Default)]
pub(super) struct ReadyFlags {
    pub(super) send_ready: bool,
    pub(super) dirty: bool,
    pub(super) notify_user: bool,
    pub(super) opening_or_closing: bool,
}

/// The lists.
#[derive(Debug, Default)]
pub(super) struct ReadyLists {
    pub(super) send_ready: VecDeque<ConnId>,
    pub(super) dirty: Vec<ConnId>,
    pub(super) notify_user: Vec<ConnId>,
    pub(super) opening_or_closing: Vec<ConnId>,
}

impl ReadyLists {
    /// Something was done to a connection; `stir`: something its user did not do.
    pub(super) fn mark_dirty(&mut self, id: ConnId, marks: &mut ReadyFlags, stir: bool) {
        if !replace(&mut marks.send_ready, true) {
            self.send_ready.push_back(id);
        }
        if !replace(&mut marks.dirty, true) {
            self.dirty.push(id);
        }
        if stir && !replace(&mut marks.notify_user, true) {
            self.notify_user.push(id);
        }
    }

    /// It is opening, or released.
    pub(super) fn track_transition(&mut self, id: ConnId, marks: &mut ReadyFlags) {
        if !replace(&mut marks.opening_or_closing, true) {
            self.opening_or_closing.push(id);
        }
    }

    /// Gives back what nothing is in.
    pub(super) fn shrink(&mut self) {
        self.send_ready.shrink_to_fit();
        for list in [&mut self.dirty, &mut self.notify_user, &mut self.opening_or_closing] {
            list.shrink_to_fit();
        }
    }

    /// The touched, of which there are none any more, and the passing; some are both, and named
    /// twice.
    pub(super) fn take_dirty(&mut self) -> Vec<ConnId> {
        let mut all = take(&mut self.dirty);
        all.extend(&self.opening_or_closing);
        all
    }
}
