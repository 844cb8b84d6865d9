//! Tickets, and what opens a stream.

use crate::domain::Timestamp;
use crate::domain::principal::Principal;
use crate::domain::secret::SecretString;

#[derive(Debug)]
pub struct Ticket {
    pub ticket: SecretString,
    pub expires_at: Timestamp,
    /// RDP: the keyboard layout that the workspace has.
    pub keyboard_layout: Option<u32>,
}

/// What opens a stream.
#[derive(Debug)]
pub enum StreamProof<'a> {
    /// A one-use ticket.
    Ticket(&'a SecretString),
    /// A signed-in caller (cookie or bearer token).
    Principal(&'a Principal),
}

/// Cause of a `Conflict`: the session has the maximum number of streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the session has all the viewers it may have")]
pub struct TooManyViewers;
