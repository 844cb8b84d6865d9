//! Filters all bytes between the browser and the desktop after TLS, in both directions: applies the
//! gateway's edits, then the policy.
//!
//! ```text
//! up    Connect-Initial (edited) ── erect, attach, join ── Client Info (rewritten) ── everything else, by policy
//! down  Connect-Response (read: channel ids) ── everything else, by policy
//! ```
//!
//! A [`Filter`] is fed chunks of any size in either direction and appends what may pass: slices of
//! the same chunks wherever nothing is changed. Its own replies (the response to a refused request)
//! are inserted between two PDUs of a direction; [`Filter::has_pending`] tells the relay that an
//! idle direction has a reply to send.
//!
//! After an error no input passes any more, in either direction, and the connection must be closed.
//! Replies that were pending before the error can still be sent, so the output for the same bytes
//! does not depend on how they were split into chunks.

use super::channels::Channels;
use super::client_pdus::ClientPolicy;
use super::connection::ConnectionState;
use super::direction_filter::DirectionFilter;
use super::error_info::ErrorInfo;
use super::refusal::Refusal;
use super::server_pdus::ServerPolicy;
use super::{Direction, Policy, RdpError};
use bytes::Bytes;

pub use super::connection::Edits;

/// Filter of one connection.
pub struct Filter {
    up: DirectionFilter,
    down: DirectionFilter,
    connection: ConnectionState,
    failed: Option<RdpError>,
}

impl Filter {
    /// For a connection after TLS and, if it is used, CredSSP.
    #[must_use]
    pub fn new(policy: Policy, edits: Edits) -> Self {
        Self {
            up: DirectionFilter::new(),
            down: DirectionFilter::new(),
            connection: ConnectionState::new(policy, edits),
            failed: None,
        }
    }

    /// Filters the next bytes of a direction and appends to `out` what may pass. An incomplete PDU
    /// is kept; at most one PDU and one channel message are kept in each direction, 64 KiB each.
    ///
    /// # Errors
    /// [`RdpError`]. `out` holds what passed before the error and may be sent.
    pub fn feed(
        &mut self,
        direction: Direction,
        chunk: &Bytes,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        if self.failed.is_some() {
            return Err(RdpError::AlreadyFailed);
        }
        if self.is_pass_through(direction) {
            if !chunk.is_empty() {
                out.push(chunk.clone());
            }
            return Ok(());
        }
        let opposite = direction.opposite();
        self.connection.opposite_can_flush = self.direction(opposite).is_at_boundary()
            && self.connection.has_nothing_pending(opposite);
        let result = match direction {
            Direction::Up => self.up.feed(chunk, &mut ClientPolicy(&mut self.connection), out),
            Direction::Down => self.down.feed(chunk, &mut ServerPolicy(&mut self.connection), out),
        };
        self.failed = result.err();
        result
    }

    /// Whether the filter has replies to send in this direction now; [`Filter::flush_pending`]
    /// returns them.
    #[must_use]
    pub fn has_pending(&self, direction: Direction) -> bool {
        self.direction(direction).is_at_boundary() && self.connection.has_pending(direction)
    }

    /// Appends the filter's replies for a direction. Send the output of [`Filter::feed`] for that
    /// direction first.
    ///
    /// # Errors
    /// [`RdpError::Malformed`] when a reply is too long for a PDU, which none is.
    pub fn flush_pending(
        &mut self,
        direction: Direction,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        if self.has_pending(direction) {
            self.connection.flush_pending(direction, out)
        } else {
            Ok(())
        }
    }

    /// Whether this direction is not inspected any more, for good. Upward that is so once the
    /// connection is set up, if policy forbids nothing and the client requested no forbidden
    /// channel. Downward it never is: a server may announce another desktop size at any time.
    #[must_use]
    pub fn is_pass_through(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.connection.is_open() && self.up.is_idle(),
            Direction::Down => false,
        }
    }

    /// Whether a reply may be inserted after the output of this direction so far.
    #[must_use]
    pub fn is_at_boundary(&self, direction: Direction) -> bool {
        self.direction(direction).is_at_boundary() && !self.connection.is_passing(direction)
    }

    /// Refusals since the last call, counted by kind: for the audit log.
    #[must_use]
    pub fn refusals(&mut self) -> Vec<Refusal> {
        self.connection.refusals.take()
    }

    #[must_use]
    pub fn has_refusals(&self) -> bool {
        !self.connection.refusals.is_empty()
    }

    /// The error, if there was one.
    #[must_use]
    pub fn error(&self) -> Option<RdpError> {
        self.failed
    }

    /// Why the server announced that it ends the connection.
    #[must_use]
    pub fn error_info(&self) -> Option<ErrorInfo> {
        self.connection.error_info
    }

    /// The client's channels, after its Connect-Initial.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.connection.channels
    }

    /// Whether the Client Info PDU has passed, and with it the credential.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.connection.is_active()
    }

    fn direction(&self, direction: Direction) -> &DirectionFilter {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}
