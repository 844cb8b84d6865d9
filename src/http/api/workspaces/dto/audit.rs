//! The audit log.

use crate::broker::model::{SearchPage, VerificationReport};
use crate::domain::Timestamp;
use crate::domain::audit::{Actor, Entry, EntryTarget, Head, Outcome};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Outcome of an action.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditOutcome {
    /// Done.
    Success,
    /// Refused.
    Denied,
    /// Failed.
    Error,
}

impl From<Outcome> for AuditOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Denied => Self::Denied,
            Outcome::Error => Self::Error,
        }
    }
}

/// Actor.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditActor {
    /// User id.
    #[schema(required = true)]
    pub id: Option<String>,
    /// E-mail address, of the user or as entered.
    #[schema(required = true)]
    pub email: Option<String>,
    /// Role at that time; `system` for the gateway itself.
    #[schema(required = true)]
    pub role: Option<String>,
    /// `api_key` for an API key, whose id is `id`; absent for users and the gateway itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
}

impl From<Actor> for AuditActor {
    fn from(a: Actor) -> Self {
        Self { id: a.id, email: a.email, role: a.role, r#type: a.kind }
    }
}

/// Target.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditTarget {
    /// Kind of target.
    #[schema(required = true)]
    pub r#type: Option<String>,
    /// Id.
    #[schema(required = true)]
    pub id: Option<String>,
    /// Name at that time.
    #[schema(required = true)]
    pub name: Option<String>,
}

impl From<EntryTarget> for AuditTarget {
    fn from(t: EntryTarget) -> Self {
        Self { r#type: t.kind, id: t.id, name: t.name }
    }
}

/// An entry of the log. Its fields and values are those of the hash chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Position in the chain, from 1.
    pub seq: i64,
    /// Time.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Organization.
    #[schema(required = true)]
    pub organization_id: Option<String>,
    /// Actor.
    pub actor: AuditActor,
    /// Action.
    pub action: String,
    /// Target.
    pub target: AuditTarget,
    /// Outcome.
    pub outcome: AuditOutcome,
    /// Reason.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// Client address.
    #[schema(required = true)]
    pub source_ip: Option<String>,
    /// User agent.
    #[schema(required = true)]
    pub user_agent: Option<String>,
    /// Session.
    #[schema(required = true)]
    pub session_id: Option<String>,
    /// Workspace.
    #[schema(required = true)]
    pub workspace_id: Option<String>,
    /// Request id.
    #[schema(required = true)]
    pub request_id: Option<String>,
    /// Details, by action.
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub details: Map<String, Value>,
    /// Hash of the previous entry, hex.
    pub prev_hash: String,
    /// Hash of this entry, hex.
    pub hash: String,
}

impl From<Entry> for AuditEntry {
    fn from(e: Entry) -> Self {
        Self {
            seq: e.seq,
            time: e.time,
            organization_id: e.organization_id.map(|id| id.to_string()),
            actor: e.actor.into(),
            action: e.action,
            target: e.target.into(),
            outcome: e.outcome.into(),
            reason: e.reason,
            source_ip: e.source_ip,
            user_agent: e.user_agent,
            session_id: e.session_id,
            workspace_id: e.workspace_id,
            request_id: e.request_id,
            details: e.details,
            prev_hash: e.prev_hash,
            hash: e.hash,
        }
    }
}

/// A page of the log, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// Entries.
    pub entries: Vec<AuditEntry>,
    /// Cursor of the next page; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// The search took too long: entries before this time are not searched yet, `next_cursor` goes on
    /// with them. Otherwise null.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    pub searched_to: Option<Timestamp>,
    /// The newest entry of the log when the search began. With it as `after`, a later request finds
    /// what was added since.
    pub newest_seq: i64,
}

impl From<SearchPage<Entry>> for AuditPage {
    fn from(page: SearchPage<Entry>) -> Self {
        Self {
            entries: page.items.into_iter().map(Into::into).collect(),
            next_cursor: page.next_cursor,
            searched_to: page.searched_to,
            newest_seq: page.newest_seq,
        }
    }
}

/// The signed head of the chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditHead {
    /// Position of the last entry.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
    /// Ed25519 signature, base64.
    pub signature: String,
}

impl From<Head> for AuditHead {
    fn from(h: Head) -> Self {
        Self { seq: h.seq, hash: h.hash, signature: h.signature }
    }
}

/// Verification of the chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditVerification {
    /// Complete and unaltered.
    pub ok: bool,
    /// Entries read.
    pub entries: i64,
    /// The head it was compared with.
    pub head: AuditHead,
    /// The first fault, with its entry.
    #[schema(required = true)]
    pub first_error: Option<String>,
    /// Number of the entry by which an administrator accepted damage: nothing before it is proved.
    #[schema(required = true)]
    pub accepted_by: Option<i64>,
}

impl From<VerificationReport> for AuditVerification {
    fn from(v: VerificationReport) -> Self {
        Self {
            ok: v.fault.is_none(),
            entries: v.entries,
            accepted_by: v.accepted_by,
            head: v.head.into(),
            first_error: v.fault.map(|f| f.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::{Action, Draft, GENESIS};

    #[test]
    fn an_entry_is_listed_as_it_is_hashed() {
        let entry = Draft {
            time: Timestamp(1_772_721_000_007),
            organization_id: Some(crate::domain::OrganizationId::new()),
            actor: Actor {
                id: Some("a".to_owned()),
                role: Some("admin".to_owned()),
                ..Actor::default()
            },
            action: Action::LaunchWorkspace,
            target: EntryTarget {
                kind: Some("workspace".to_owned()),
                id: Some("ws".to_owned()),
                name: None,
            },
            outcome: Outcome::Denied,
            reason: Some("role".to_owned()),
            source_ip: Some("192.0.2.1".to_owned()),
            user_agent: None,
            session_id: None,
            workspace_id: Some("ws".to_owned()),
            request_id: Some("r".to_owned()),
            details: serde_json::from_str(r#"{"tries":3}"#).unwrap(),
        }
        .chain(1, GENESIS);
        let listed: Entry =
            serde_json::from_value(serde_json::to_value(AuditEntry::from(entry.clone())).unwrap())
                .unwrap();
        assert_eq!(listed, entry);
        assert_eq!(listed.computed_hash(), entry.hash);
    }
}
