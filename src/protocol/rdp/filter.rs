//! All bytes between the browser and the desktop after TLS, both ways: the gateway's edits first,
//! then what policy allows.
//!
//! ```text
//! up    Connect-Initial (edited) ── erect, attach, join ── Client Info (rewritten) ── everything else, by the rules
//! down  Connect-Response (read: which number is which channel) ── everything else, by the rules
//! ```
//!
//! A [`Filter`] is given chunks of any size in either direction and appends what may pass: slices
//! of the same chunks, wherever it need not change anything. Now and then it has something to say
//! itself (the answer to a request it refused); that goes out between two PDUs of that direction,
//! and [`Filter::owes`] tells the relay when a direction that rests has something due.
//!
//! After an error nothing that comes passes any more, in either direction: the connection is to be
//! cut. What the filter owes for PDUs before it can still be said, so that what is put out for the
//! same bytes is the same however they were cut.

use super::channels::Channels;
use super::client_pdus::ClientPolicy;
use super::connection::ConnectionState;
use super::direction_filter::DirectionFilter;
use super::error_info::ErrorInfo;
use super::gcc::CoreEdits;
use super::info::Credential;
use super::refusal::Refusal;
use super::server_pdus::ServerPolicy;
use super::{Direction, Policy, RdpError};
use bytes::Bytes;

/// What the gateway writes into the client's early PDUs.
pub struct Edits {
    /// Into its core settings.
    pub core: CoreEdits,
    /// Who signs in; `None` when the user is to do it at the desktop's own screen. Wiped once it
    /// has been sent.
    pub credential: Option<Credential>,
}

/// One connection.
pub struct Filter {
    up: DirectionFilter,
    down: DirectionFilter,
    rules: ConnectionState,
    failed: Option<RdpError>,
}

impl Filter {
    /// For a connection whose TLS is up, and whose CredSSP, if any, is over.
    #[must_use]
    pub fn new(policy: Policy, edits: Edits) -> Self {
        Self {
            up: DirectionFilter::new(),
            down: DirectionFilter::new(),
            rules: ConnectionState::new(policy, edits),
            failed: None,
        }
    }

    /// Takes the next bytes that travel `way`, and appends to `out` what may pass. Nothing of an
    /// incomplete PDU is lost; at most one PDU and one message of a channel are kept in each
    /// direction, 64 KiB each.
    ///
    /// # Errors
    /// [`RdpError`]: what is wrong with the bytes. `out` holds what passed before them and may be sent.
    pub fn feed(
        &mut self,
        way: Direction,
        chunk: &Bytes,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        if self.failed.is_some() {
            return Err(RdpError::AlreadyFailed);
        }
        if self.is_pass_through(way) {
            if !chunk.is_empty() {
                out.push(chunk.clone());
            }
            return Ok(());
        }
        let back = way.opposite();
        self.rules.opposite_can_flush =
            self.direction(back).is_at_boundary() && self.rules.has_nothing_pending(back);
        let fed = match way {
            Direction::Up => self.up.feed(chunk, &mut ClientPolicy(&mut self.rules), out),
            Direction::Down => self.down.feed(chunk, &mut ServerPolicy(&mut self.rules), out),
        };
        self.failed = fed.err();
        fed
    }

    /// Whether the filter itself has something to send `way` at this moment: let [`Filter::speak`]
    /// say it.
    #[must_use]
    pub fn has_pending(&self, way: Direction) -> bool {
        self.direction(way).is_at_boundary() && self.rules.has_pending(way)
    }

    /// Appends what the filter itself has to send `way`. What [`Filter::feed`] put out for that
    /// direction before must be sent before.
    ///
    /// # Errors
    /// [`RdpError::Malformed`] when it is too long for a PDU, which no answer is.
    pub fn flush_pending(&mut self, way: Direction, out: &mut Vec<Bytes>) -> Result<(), RdpError> {
        if self.has_pending(way) { self.rules.flush_pending(way, out) } else { Ok(()) }
    }

    /// Whether bytes of this direction are not looked at any more, now and for good. Upward that is
    /// so once the connection is set up under a policy that forbids nothing, for a client that
    /// asked for no forbidden channel. Downward it never is: a server may announce a new desktop's
    /// size at any time.
    #[must_use]
    pub fn is_pass_through(&self, way: Direction) -> bool {
        match way {
            Direction::Up => self.rules.is_open() && self.up.is_idle(),
            Direction::Down => false,
        }
    }

    /// Whether an answer may be put between what was put out for this direction so far and what
    /// comes next.
    #[must_use]
    pub fn is_at_boundary(&self, way: Direction) -> bool {
        self.direction(way).is_at_boundary() && !self.rules.is_passing(way)
    }

    /// What was refused since this was last asked, counted by kind: for the audit log.
    #[must_use]
    pub fn refusals(&mut self) -> Vec<Refusal> {
        self.rules.refusals.take()
    }

    /// Whether there are refusals to take.
    #[must_use]
    pub fn has_refusals(&self) -> bool {
        !self.rules.refusals.is_empty()
    }

    /// What was wrong, once something was.
    #[must_use]
    pub fn error(&self) -> Option<RdpError> {
        self.failed
    }

    /// Why the server says that it ends the connection, when it did.
    #[must_use]
    pub fn error_info(&self) -> Option<ErrorInfo> {
        self.rules.error_info
    }

    /// The client's channels, once it has named them.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.rules.channels
    }

    /// Whether the Client Info PDU has passed: the credential is with the server.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.rules.is_active()
    }

    fn direction(&self, way: Direction) -> &DirectionFilter {
        match way {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}
