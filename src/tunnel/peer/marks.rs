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
pub(super) struct Marks {
    pub(super) lively: bool,
    pub(super) touched: bool,
    pub(super) stirred: bool,
    pub(super) passing: bool,
}

/// The lists.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) lively: VecDeque<ConnId>,
    pub(super) touched: Vec<ConnId>,
    pub(super) stirred: Vec<ConnId>,
    pub(super) passing: Vec<ConnId>,
}

impl Lists {
    /// Something was done to a connection; `stir`: something its user did not do.
    pub(super) fn mark(&mut self, id: ConnId, marks: &mut Marks, stir: bool) {
        if !replace(&mut marks.lively, true) {
            self.lively.push_back(id);
        }
        if !replace(&mut marks.touched, true) {
            self.touched.push(id);
        }
        if stir && !replace(&mut marks.stirred, true) {
            self.stirred.push(id);
        }
    }

    /// It is opening, or released.
    pub(super) fn pass(&mut self, id: ConnId, marks: &mut Marks) {
        if !replace(&mut marks.passing, true) {
            self.passing.push(id);
        }
    }

    /// Gives back what nothing is in.
    pub(super) fn shrink(&mut self) {
        self.lively.shrink_to_fit();
        for list in [&mut self.touched, &mut self.stirred, &mut self.passing] {
            list.shrink_to_fit();
        }
    }

    /// The touched, of which there are none any more, and the passing; some are both, and named
    /// twice.
    pub(super) fn take_changed(&mut self) -> Vec<ConnId> {
        let mut all = take(&mut self.touched);
        all.extend(&self.passing);
        all
    }
}
