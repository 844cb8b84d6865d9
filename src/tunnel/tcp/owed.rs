//! The acknowledgement that is owed for what arrived (RFC 9293, section 3.8.6.3), and whether it
//! may wait for words of ours to travel with.
//!
//! It waits in a *conversation* alone: where our words followed theirs within [`PATIENCE`], as
//! answers do. There each round takes two segments instead of four. Once it waited in vain, the
//! conversation is over, and acknowledgements go at once again, so that a one-sided stream costs no
//! clock.

use super::{MS, Micros};

/// How long it waits for our words. The other end expects no less of anybody (`ACK_DELAY` in
/// `output`).
const PATIENCE: Micros = 10 * MS;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Owed {
    at_once: bool,
    /// It may wait until then.
    by: Option<Micros>,
    /// Bytes that arrived since the last one.
    bytes: usize,
    /// When words came last that we said nothing to.
    heard: Option<Micros>,
    converses: bool,
}

impl Owed {
    /// It is owed now.
    pub(super) fn at_once(&mut self) {
        self.at_once = true;
    }

    /// Data arrived. `calm`: in order, and nothing is missing.
    pub(super) fn data(&mut self, bytes: usize, calm: bool, mss: usize, now: Micros) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.heard = Some(now);
        if calm && self.converses && self.bytes < 2 * mss {
            self.by = self.by.or(Some(now + PATIENCE));
        } else {
            self.at_once = true;
        }
    }

    /// The clock speaks.
    pub(super) fn tick(&mut self, now: Micros) {
        if self.by.is_some_and(|by| now >= by) {
            (self.at_once, self.converses, self.by) = (true, false, None);
        }
    }

    /// When the clock is to speak.
    pub(super) fn deadline(&self) -> Option<Micros> {
        self.by
    }

    /// Whether it is owed now.
    pub(super) fn is_due(&self) -> bool {
        self.at_once
    }

    /// Something new is said.
    pub(super) fn said(&mut self, now: Micros) {
        if let Some(heard) = self.heard.take() {
            self.converses = now.saturating_sub(heard) <= PATIENCE;
        }
    }

    /// An acknowledgement leaves, whatever it travels with.
    pub(super) fn paid(&mut self) {
        (self.at_once, self.by, self.bytes) = (false, None, 0);
    }
}
