//! The audit log: entries chained by hash, so that a change is found.
//!
//! An [`Entry`] holds the hash of the previous entry; its own hash is SHA-256 over its canonical
//! JSON without `hash` (RFC 8785: members sorted, no white space; values here are only objects,
//! arrays, strings, integers, booleans and null). Changing, removing or reordering entries breaks
//! the chain at a sequence number that [`Verifier`] reports; a truncated log is found by comparing
//! with the signed head.

pub mod export;

use super::{OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// `prev_hash` of the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

actions! {
    /// The first factor was accepted (and no second one is required), or the sign-in was completed.
    Login = "login",
    /// Wrong password, unknown or disabled account.
    LoginFailed = "login_failed",
    /// Too many attempts.
    LoginThrottled = "login_throttled",
    /// Second factor accepted.
    MfaVerify = "mfa_verify",
    /// Second factor rejected.
    MfaFailed = "mfa_failed",
    /// Second factor enrolled.
    MfaEnroll = "mfa_enroll",
    /// Second factor removed by an admin.
    MfaReset = "mfa_reset",
    /// Tokens renewed.
    Refresh = "refresh",
    /// A refresh token was used twice: the login was revoked.
    RefreshReuse = "refresh_reuse",
    /// Signed out.
    Logout = "logout",
    /// Every login of a user was ended.
    LogoutEverywhere = "logout_everywhere",
    /// A session was created.
    CreateSession = "create_session",
    /// A workspace was launched and its session is active, or the launch failed or was refused.
    LaunchWorkspace = "launch_workspace",
    /// A workspace was stopped.
    StopWorkspace = "stop_workspace",
    /// A session was disconnected by its user.
    DisconnectSession = "disconnect_session",
    /// A session was ended by an administrator or by the gateway.
    TerminateSession = "terminate_session",
    /// A session reached its expiry.
    ExpireSession = "expire_session",
    /// The desktop and the tunnel keys of a session were removed.
    CloseSession = "close_session",
    /// A stream was opened.
    OpenStream = "open_stream",
    /// A stream was closed.
    CloseStream = "close_stream",
    /// A stream ticket was issued.
    IssueTicket = "issue_ticket",
    /// A used, expired, foreign or unknown ticket was presented.
    TicketRefused = "ticket_refused",
    /// Policy denied an action, or the object belongs to somebody else.
    AccessDenied = "access_denied",
    /// A forged, expired or revoked token was presented.
    TokenRefused = "token_refused",
    /// A workspace was created.
    CreateWorkspace = "create_workspace",
    /// A workspace was changed.
    UpdateWorkspace = "update_workspace",
    /// A workspace was removed.
    DeleteWorkspace = "delete_workspace",
    /// A user was created.
    CreateUser = "create_user",
    /// A user was changed.
    UpdateUser = "update_user",
    /// A user was disabled.
    DisableUser = "disable_user",
    /// A user was enabled.
    EnableUser = "enable_user",
    /// A user was signed out by an admin.
    SignOutUser = "sign_out_user",
    /// A host join token was created.
    CreateJoinToken = "create_join_token",
    /// A host enrolled.
    EnrollHost = "enroll_host",
    /// A standard WireGuard peer was added as a host.
    AddPeer = "add_peer",
    /// A host's configuration, which contains its preshared key, was shown.
    ShowHostConfig = "show_host_config",
    /// A host was removed.
    RemoveHost = "remove_host",
    /// A host's tunnel came up.
    HostConnected = "host_connected",
    /// A host's tunnel went down.
    HostLost = "host_lost",
    /// The gateway started.
    GatewayStart = "gateway_start",
    /// The gateway shut down regularly.
    GatewayStop = "gateway_stop",
    /// The certificate of an upstream was pinned: recorded at first use, or accepted by an
    /// administrator.
    PinCertificate = "pin_certificate",
    /// An upstream presented another certificate than the expected one.
    CertificateRefused = "certificate_refused",
    /// An upstream rejected the credential.
    LoginRefused = "login_refused",
    /// Policy blocked a transfer in a stream: clipboard, files, input, a channel.
    TransferRefused = "transfer_refused",
    /// Policy blocked a request to a web application: by method, path, size, or as an upload or
    /// download.
    RequestRefused = "request_refused",
    /// A browser requested another destination than its session's.
    DestinationRefused = "destination_refused",
    /// A user saved their own credential for a workspace.
    SaveCredential = "save_credential",
    /// A user deleted their saved credential.
    ForgetCredential = "forget_credential",
    /// A user entered a credential for one use.
    EnterCredential = "enter_credential",
    /// The log was exported.
    ExportAudit = "export_audit",
    /// The log was verified.
    VerifyAudit = "verify_audit",
}

impl Action {
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|a| a.as_str() == name)
    }
}

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

/// The end of the chain, stored beside the entries and signed, so that truncation and a replaced
/// head are found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// Position of the last entry; 0 for an empty log.
    pub seq: i64,
    /// Hash of the last entry; [`GENESIS`] for an empty log.
    pub hash: String,
    /// Ed25519 signature over `"portcullis-audit-head:" seq ":" hash`, standard base64.
    pub signature: String,
}

impl Head {
    #[must_use]
    pub fn signed_text(seq: i64, hash: &str) -> String {
        format!("portcullis-audit-head:{seq}:{hash}")
    }
}

/// A fault of the chain, and its position.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChainFault {
    /// The content of the entry does not match its hash.
    #[error("entry {seq} was changed: its content does not match its hash")]
    Changed { seq: i64 },
    #[error("entry {seq} is missing")]
    Missing { seq: i64 },
    /// An entry is at the wrong position.
    #[error("entry {seq} is out of order: entry {expected} belongs there")]
    Reordered { seq: i64, expected: i64 },
    /// `prev_hash` is not the hash of the previous entry.
    #[error("entry {seq} does not follow entry {}: the one before it was changed or replaced", seq - 1)]
    BrokenLink { seq: i64 },
    /// Entries at the end are missing.
    #[error("the log was cut off after entry {last}: it had {expected} entries")]
    Truncated {
        last: i64,
        /// Last entry according to the head.
        expected: i64,
    },
    /// There are entries after the signed head.
    #[error("entry {seq} follows the signed head: it was added from outside")]
    BeyondHead { seq: i64 },
    /// The signature of the head is wrong, or the last hash differs from the head's.
    #[error("the head of the log does not match: {detail}")]
    BadHead { detail: String },
}

/// Verifies a chain entry by entry, in constant memory.
#[derive(Clone, Debug)]
pub struct Verifier {
    seq: i64,
    hash: String,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS.to_owned() }
    }
}

impl Verifier {
    /// Verifies the next entry.
    ///
    /// # Errors
    /// [`ChainFault`] of the first faulty entry.
    pub fn push(&mut self, entry: &Entry) -> Result<(), ChainFault> {
        let expected = self.seq + 1;
        if entry.seq > expected {
            return Err(ChainFault::Missing { seq: expected });
        }
        if entry.seq < expected {
            return Err(ChainFault::Reordered { seq: entry.seq, expected });
        }
        if entry.computed_hash() != entry.hash {
            return Err(ChainFault::Changed { seq: entry.seq });
        }
        if entry.prev_hash != self.hash {
            return Err(ChainFault::BrokenLink { seq: entry.seq });
        }
        self.seq = entry.seq;
        self.hash.clone_from(&entry.hash);
        Ok(())
    }

    #[must_use]
    pub fn entries(&self) -> i64 {
        self.seq
    }

    /// Hash of the last verified entry.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Compares the end with the head, whose signature the caller has verified.
    ///
    /// # Errors
    /// [`ChainFault`] when entries are missing at the end, follow the head, or end in another hash.
    pub fn finish(&self, head: &Head) -> Result<(), ChainFault> {
        match self.seq.cmp(&head.seq) {
            std::cmp::Ordering::Less => {
                Err(ChainFault::Truncated { last: self.seq, expected: head.seq })
            }
            std::cmp::Ordering::Greater => Err(ChainFault::BeyondHead { seq: head.seq + 1 }),
            std::cmp::Ordering::Equal if self.hash != head.hash => {
                Err(ChainFault::BadHead { detail: "its hash is not the last entry's".to_owned() })
            }
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
