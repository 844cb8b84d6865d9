//! The audit log: queries and verification.

use crate::domain::Timestamp;
use crate::domain::audit::{Action, ActorFilter, ChainFault, Head, Outcome};

#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    pub actor: Option<ActorFilter>,
    pub action: Option<Action>,
    pub workspace_id: Option<String>,
    pub session_id: Option<String>,
    pub outcome: Option<Outcome>,
    /// Inclusive.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
    /// Text contained in actor, target, reason or source address; at most 200 bytes.
    pub q: Option<String>,
    /// 1 to 500; default 50.
    pub limit: Option<u32>,
    /// Cursor of the previous page.
    pub cursor: Option<String>,
    /// Only entries after this one.
    pub after: Option<i64>,
}

/// Result of verifying the chain.
#[derive(Clone, Debug)]
pub struct VerificationReport {
    /// Entries read.
    pub entries: i64,
    /// The entry by which an administrator accepted damage: nothing before it is proved.
    pub accepted_by: Option<i64>,
    pub head: Head,
    /// The first fault; `None`: complete and unaltered.
    pub fault: Option<ChainFault>,
}
