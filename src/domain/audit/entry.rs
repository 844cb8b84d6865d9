//! An entry of the audit log, and the canonical JSON its hash covers.

use super::action::Action;
use crate::domain::principal::Principal;
use crate::domain::user::User;
use crate::domain::{OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use uuid::Uuid;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Success,
    Denied,
    Error,
}

impl Outcome {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
            Self::Error => "error",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Success, Self::Denied, Self::Error].into_iter().find(|o| o.as_str() == name)
    }
}

/// Who did it. `id` and `role` are null for an unauthenticated client (a failed sign-in); the
/// gateway itself and its command line have the role `system`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Actor {
    pub id: Option<String>,
    /// E-mail address, as stored or as entered (at most 254 bytes).
    pub email: Option<String>,
    pub role: Option<String>,
    /// `api_key` for an API key, whose id is `id`; absent for users and the system. Not part of the
    /// canonical JSON when absent, so that older entries keep their hashes.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Whose entries are sought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ActorFilter {
    /// A user or an API key.
    Id(Uuid),
    /// An e-mail address, in any case.
    Email(String),
}

impl fmt::Display for ActorFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{}", id.hyphenated()),
            Self::Email(email) => f.write_str(email),
        }
    }
}

impl From<&Principal> for Actor {
    fn from(principal: &Principal) -> Self {
        match principal {
            Principal::User(signed_in) => Self::from(&signed_in.user),
            Principal::ApiKey(key) => Self {
                id: Some(key.id.to_string()),
                email: None,
                role: Some(key.role.as_str().to_owned()),
                kind: Some(principal.id().kind().to_owned()),
            },
            Principal::System { .. } => Self { role: Some("system".to_owned()), ..Self::default() },
        }
    }
}

impl From<&User> for Actor {
    fn from(user: &User) -> Self {
        Self {
            id: Some(user.id.to_string()),
            email: Some(user.email.clone()),
            role: Some(user.role.as_str().to_owned()),
            kind: None,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EntryTarget {
    /// `session`, `workspace`, `user`, `host`, `login`, `audit`, `gateway`, `route`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub id: Option<String>,
    pub name: Option<String>,
}

/// An entry without its position in the chain, which the store adds.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    pub time: Timestamp,
    /// `None` for events of the gateway as a whole and of unauthenticated clients.
    pub organization_id: Option<OrganizationId>,
    pub actor: Actor,
    pub action: Action,
    pub target: EntryTarget,
    pub outcome: Outcome,
    /// One short name, for denials, errors and endings.
    pub reason: Option<String>,
    pub source_ip: Option<String>,
    pub user_agent: Option<String>,
    pub session_id: Option<String>,
    pub workspace_id: Option<String>,
    pub request_id: Option<String>,
    /// Additional fields of the action: strings, integers, booleans, null. Never a secret.
    pub details: Map<String, Value>,
}

/// An entry as it is stored, listed and exported.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Position in the chain, from 1, without gaps.
    pub seq: i64,
    pub time: Timestamp,
    pub organization_id: Option<OrganizationId>,
    pub actor: Actor,
    pub action: String,
    pub target: EntryTarget,
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub source_ip: Option<String>,
    pub user_agent: Option<String>,
    pub session_id: Option<String>,
    pub workspace_id: Option<String>,
    pub request_id: Option<String>,
    pub details: Map<String, Value>,
    /// Hash of the previous entry, hex.
    pub prev_hash: String,
    /// Hash of this entry, hex.
    pub hash: String,
}

/// An entry that its reader may not see: its position and hashes, so that the chain can be verified.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithheldEntry {
    pub seq: i64,
    pub prev_hash: String,
    pub hash: String,
}

/// An entry as a reader of one organization gets it: those of other organizations, and those of
/// none, are withheld.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExportedEntry {
    Entry(Box<Entry>),
    Withheld(WithheldEntry),
}

impl ExportedEntry {
    #[must_use]
    pub fn seq(&self) -> i64 {
        match self {
            Self::Entry(entry) => entry.seq,
            Self::Withheld(entry) => entry.seq,
        }
    }

    /// `None`: it is withheld.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Withheld(_) => None,
        }
    }
}

impl Entry {
    /// As a reader of `organization` gets it; `None` reads everything.
    #[must_use]
    pub fn for_reader(self, organization: Option<OrganizationId>) -> ExportedEntry {
        if organization.is_none() || self.organization_id == organization {
            return ExportedEntry::Entry(Box::new(self));
        }
        let Self { seq, prev_hash, hash, .. } = self;
        ExportedEntry::Withheld(WithheldEntry { seq, prev_hash, hash })
    }
}

impl Draft {
    /// The entry at position `seq` after the entry with `prev_hash`.
    #[must_use]
    pub fn chain(self, seq: i64, prev_hash: &str) -> Entry {
        let mut entry = Entry {
            seq,
            time: self.time,
            organization_id: self.organization_id,
            actor: self.actor,
            action: self.action.as_str().to_owned(),
            target: self.target,
            outcome: self.outcome,
            reason: self.reason,
            source_ip: self.source_ip,
            user_agent: self.user_agent,
            session_id: self.session_id,
            workspace_id: self.workspace_id,
            request_id: self.request_id,
            details: self.details,
            prev_hash: prev_hash.to_owned(),
            hash: String::new(),
        };
        entry.hash = entry.computed_hash();
        entry
    }
}

impl Entry {
    /// SHA-256, hex, over the canonical JSON of everything but `hash`.
    #[must_use]
    pub fn computed_hash(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or(Value::Null);
        if let Value::Object(members) = &mut value {
            members.remove("hash");
        }
        hex::encode(Sha256::digest(canonical_json(&value)))
    }
}

/// Canonical JSON (RFC 8785, for the value kinds the log allows): members sorted by their UTF-16
/// code units, no white space.
#[must_use]
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            // serde_json escapes exactly what RFC 8785 section 3.2.2.2 requires: the two mandatory
            // characters and control characters.
            let _ = write!(out, "{value}");
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            out.push('{');
            for (i, (name, item)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Value::String(name.clone()));
                write_canonical(item, out);
            }
            out.push('}');
        }
    }
}
