//! The audit log: queries and verification.

use crate::domain::audit::{ChainFault, Head};
use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// User id or e-mail address.
    pub actor: Option<String>,
    /// Name of an action.
    pub action: Option<String>,
    pub workspace_id: Option<String>,
    pub session_id: Option<String>,
    /// `success`, `denied`, `error`.
    pub outcome: Option<String>,
    /// RFC 3339, inclusive.
    pub from: Option<String>,
    /// RFC 3339, exclusive.
    pub to: Option<String>,
    /// Text contained in actor, target, reason or source address.
    pub q: Option<String>,
    /// 1 to 500; default 50.
    pub limit: Option<u32>,
    /// Cursor of the previous page.
    pub cursor: Option<String>,
}

/// Result of verifying the chain.
#[derive(Clone, Debug)]
pub struct VerificationReport {
    /// Entries read.
    pub entries: i64,
    pub head: Head,
    /// The first fault; `None`: complete and unaltered.
    pub fault: Option<ChainFault>,
}
