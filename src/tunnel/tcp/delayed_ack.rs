//! The acknowledgement that is owed for what arrived (RFC 9293, section 3.8.6.3), and whether it
//! may wait for words of ours to travel with.
//!
//! It waits in a *conversation* alone: where our words followed theirs within [`PATIENCE`], as
//! answers do. There each round takes two segments instead of four. Once it waited in vain, the
//! conversation is over, and acknowledgements go at once again, so that a one-sided stream costs no
//! clock.

use super::{MS, Micros};

/// How long it waits for our words. The other end expects no less of anybody (`MAX_ACK_DELAY` in
/// `output`).
const ACK_DELAY: Micros = 10 * MS;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DelayedAck {
    immediate: bool,
    /// It may wait until then.
    deadline: Option<Micros>,
    /// Bytes that arrived since the last one.
    unacked_bytes: usize,
    /// When words came last that we said nothing to.
    last_data_rx: Option<Micros>,
    interactive: bool,
}

impl DelayedAck {
    /// It is owed now.
    pub(super) fn request_immediate(&mut self) {
        self.immediate = true;
    }

    /// Data arrived. `calm`: in order, and nothing is missing.
    pub(super) fn data_received(&mut self, bytes: usize, calm: bool, mss: usize, now: Micros) {
        self.unacked_bytes = self.unacked_bytes.saturating_add(bytes);
        self.last_data_rx = Some(now);
        if calm && self.interactive && self.unacked_bytes < 2 * mss {
            self.deadline = self.deadline.or(Some(now + ACK_DELAY));
        } else {
            self.immediate = true;
        }
    }

    /// The clock speaks.
    pub(super) fn handle_timeout(&mut self, now: Micros) {
        if self.deadline.is_some_and(|by| now >= by) {
            (self.immediate, self.interactive, self.deadline) = (true, false, None);
        }
    }

    /// When the clock is to speak.
    pub(super) fn deadline(&self) -> Option<Micros> {
        self.deadline
    }

    /// Whether it is owed now.
    pub(super) fn is_due(&self) -> bool {
        self.immediate
    }

    /// Something new is said.
    pub(super) fn data_sent(&mut self, now: Micros) {
        if let Some(heard) = self.last_data_rx.take() {
            self.interactive = now.saturating_sub(heard) <= ACK_DELAY;
        }
    }

    /// An acknowledgement leaves, whatever it travels with.
    pub(super) fn ack_sent(&mut self) {
        (self.immediate, self.deadline, self.unacked_bytes) = (false, None, 0);
    }
}
