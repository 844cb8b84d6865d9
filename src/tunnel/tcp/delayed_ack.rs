//! Delayed acknowledgements (RFC 9293, section 3.8.6.3).
//!
//! An ACK is delayed only on an *interactive* connection: where data of ours followed the peer's
//! within [`ACK_DELAY`], as replies do. There it is piggybacked, and a round takes two segments
//! instead of four. After a delayed ACK that was not piggybacked, the connection acknowledges
//! immediately again, so that a one-way stream needs no timer.

use super::time::{MS, Micros};

/// How long an ACK may be delayed. The peer allows for at least this much (`MAX_ACK_DELAY` in
/// `output`).
const ACK_DELAY: Micros = 10 * MS;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DelayedAck {
    immediate: bool,
    /// When a delayed ACK is sent at the latest.
    deadline: Option<Micros>,
    /// Bytes received since the last ACK.
    unacked_bytes: usize,
    /// When data was received that no data of ours has followed.
    last_data_rx: Option<Micros>,
    interactive: bool,
}

impl DelayedAck {
    /// An ACK is to be sent now.
    pub(super) fn request_immediate(&mut self) {
        self.immediate = true;
    }

    /// `in_sequence`: received in order, with nothing missing.
    pub(super) fn data_received(
        &mut self,
        bytes: usize,
        in_sequence: bool,
        mss: usize,
        now: Micros,
    ) {
        self.unacked_bytes = self.unacked_bytes.saturating_add(bytes);
        self.last_data_rx = Some(now);
        if in_sequence && self.interactive && self.unacked_bytes < 2 * mss {
            self.deadline = self.deadline.or(Some(now + ACK_DELAY));
        } else {
            self.immediate = true;
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Micros) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            (self.immediate, self.interactive, self.deadline) = (true, false, None);
        }
    }

    pub(super) fn deadline(&self) -> Option<Micros> {
        self.deadline
    }

    pub(super) fn is_due(&self) -> bool {
        self.immediate
    }

    /// New data is sent.
    pub(super) fn data_sent(&mut self, now: Micros) {
        if let Some(received_at) = self.last_data_rx.take() {
            self.interactive = now.saturating_sub(received_at) <= ACK_DELAY;
        }
    }

    /// An ACK is sent, in whatever segment.
    pub(super) fn ack_sent(&mut self) {
        (self.immediate, self.deadline, self.unacked_bytes) = (false, None, 0);
    }
}
