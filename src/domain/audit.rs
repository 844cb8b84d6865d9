//! What happened, chained so that it can be proved.
//!
//! An [`RequestLogEntry`] holds the hash of the entry before it; its own hash is SHA-256 over its canonical
//! JSON without `hash` (RFC 8785: members sorted, no white space; values here are only objects,
//! arrays, strings, integers, booleans and null). Changing, removing or reordering entries breaks
//! the chain at a place [`Verifier`] names; cutting off the end is found by comparing with the
//! signed head.

pub mod export;

use super::{OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// The hash before the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What was done or tried.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// Its word in the log.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

actions! {
    /// First (and where none is due, only) factor accepted, or the whole sign-in completed.
    Login = "login",
    /// Wrong password, unknown or disabled account.
    LoginFailed = "login_failed",
    /// Too many tries.
    LoginThrottled = "login_throttled",
    /// Second factor accepted.
    MfaVerify = "mfa_verify",
    /// Second factor refused.
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
    /// Signed out everywhere.
    LogoutEverywhere = "logout_everywhere",
    /// A session was created (a seat taken).
    CreateSession = "create_session",
    /// A workspace was launched: its session is active, or the launch failed or was refused.
    LaunchWorkspace = "launch_workspace",
    /// A workspace was stopped.
    StopWorkspace = "stop_workspace",
    /// A session was disconnected by its user.
    DisconnectSession = "disconnect_session",
    /// A session was ended by an admin or by a rule.
    TerminateSession = "terminate_session",
    /// A session's time was over.
    ExpireSession = "expire_session",
    /// A session's desktop and keys are gone.
    CloseSession = "close_session",
    /// A browser's stream was opened.
    OpenStream = "open_stream",
    /// A browser's stream ended.
    CloseStream = "close_stream",
    /// A stream ticket was issued.
    IssueTicket = "issue_ticket",
    /// A used, expired, foreign or unknown ticket was tried.
    TicketRefused = "ticket_refused",
    /// Something was asked for that policy does not allow, or that is not the caller's.
    AccessDenied = "access_denied",
    /// A forged, expired or revoked token was tried.
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
    /// A host join token was made.
    CreateJoinToken = "create_join_token",
    /// A host enrolled.
    EnrollHost = "enroll_host",
    /// A standard WireGuard peer was added as a host.
    AddPeer = "add_peer",
    /// A host's configuration was shown, its preshared key in it.
    ShowHostConfig = "show_host_config",
    /// A host was removed.
    RemoveHost = "remove_host",
    /// A host's tunnel came up.
    HostConnected = "host_connected",
    /// A host's tunnel went down.
    HostLost = "host_lost",
    /// The gateway started.
    GatewayStart = "gateway_start",
    /// The gateway stopped in order.
    GatewayStop = "gateway_stop",
    /// A server's certificate was pinned: recorded at first use, or accepted by an admin.
    PinCertificate = "pin_certificate",
    /// A server showed another certificate than the one it must have.
    CertificateRefused = "certificate_refused",
    /// A server did not take the credential it was given.
    LoginRefused = "login_refused",
    /// Something that policy forbids was not let through a stream: clipboard, files, input, a
    /// channel.
    TransferRefused = "transfer_refused",
    /// A request to a web application that policy forbids: its method, path, size, or a file up or
    /// down.
    RequestRefused = "request_refused",
    /// A browser asked for another destination than its session's.
    DestinationRefused = "destination_refused",
    /// A user saved a credential of theirs for a workspace.
    SaveCredential = "save_credential",
    /// A user had a saved credential forgotten.
    ForgetCredential = "forget_credential",
    /// A user typed a credential for one use.
    EnterCredential = "enter_credential",
    /// The log was exported.
    ExportAudit = "export_audit",
    /// The log was verified.
    VerifyAudit = "verify_audit",
}

impl Action {
    /// The action of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|a| a.as_str() == word)
    }
}

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done.
    Success,
    /// Refused.
    Denied,
    /// Failed.
    Error,
}

impl Outcome {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
            Self::Error => "error",
        }
    }

    /// The outcome of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Success, Self::Denied, Self::Error].into_iter().find(|o| o.as_str() == word)
    }
}

/// Who did it. `id` and `role` are null when nobody is known (a failed sign-in); the gateway itself
/// and its command line are role `system`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Actor {
    /// User id.
    pub id: Option<String>,
    /// E-mail address, as known or as typed (cut to 254 bytes).
    pub email: Option<String>,
    /// Role at that moment.
    pub role: Option<String>,
}

/// To what.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EntryTarget {
    /// `session`, `workspace`, `user`, `host`, `login`, `audit`, `gateway`, `route`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Id.
    pub id: Option<String>,
    /// Name at that moment.
    pub name: Option<String>,
}

/// What is to be written; the store adds its place in the chain.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    /// When.
    pub time: Timestamp,
    /// Organization; `None` for what concerns the gateway as a whole or nobody known.
    pub organization_id: Option<OrganizationId>,
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: Action,
    /// To what.
    pub target: EntryTarget,
    /// How it went.
    pub outcome: Outcome,
    /// Why (a short word), for denials, errors and endings.
    pub reason: Option<String>,
    /// From where.
    pub source_ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
    /// In which session.
    pub session_id: Option<String>,
    /// In which workspace.
    pub workspace_id: Option<String>,
    /// In which request.
    pub request_id: Option<String>,
    /// More, per action. Strings, integers, booleans, null; never a secret.
    pub details: Map<String, Value>,
}

/// An entry of the log, as stored, listed and exported.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Place in the chain, from 1, without gaps.
    pub seq: i64,
    /// When.
    pub time: Timestamp,
    /// Organization.
    pub organization_id: Option<OrganizationId>,
    /// Who.
    pub actor: Actor,
    /// What (a word of [`Action`]).
    pub action: String,
    /// To what.
    pub target: EntryTarget,
    /// How it went.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<String>,
    /// From where.
    pub source_ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
    /// In which session.
    pub session_id: Option<String>,
    /// In which workspace.
    pub workspace_id: Option<String>,
    /// In which request.
    pub request_id: Option<String>,
    /// More.
    pub details: Map<String, Value>,
    /// Hash of the entry before, hex.
    pub prev_hash: String,
    /// Own hash, hex.
    pub hash: String,
}

impl Draft {
    /// The entry at place `seq` after the entry with `prev_hash`.
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
            // serde_json escapes exactly what RFC 8785 section 3.2.2.2 asks for: the two mandatory
            // characters and controls.
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

/// The end of the chain, as the store keeps it beside the entries: signed, so that cutting off
/// entries and moving the head is found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// Place of the last entry; 0 when there is none.
    pub seq: i64,
    /// Its hash; [`GENESIS`] when there is none.
    pub hash: String,
    /// Ed25519 signature over `"portcullis-audit-head:" seq ":" hash`, standard base64.
    pub signature: String,
}

impl Head {
    /// What is signed.
    #[must_use]
    pub fn signed_text(seq: i64, hash: &str) -> String {
        format!("portcullis-audit-head:{seq}:{hash}")
    }
}

/// What is wrong with a chain, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChainFault {
    /// The entry's content does not give its hash.
    #[error("entry {seq} was changed: its content does not match its hash")]
    Changed {
        /// Its place.
        seq: i64,
    },
    /// An entry is not there.
    #[error("entry {seq} is missing")]
    Missing {
        /// The place that is empty.
        seq: i64,
    },
    /// An entry stands where it does not belong.
    #[error("entry {seq} is out of order: entry {expected} belongs there")]
    Reordered {
        /// What was found.
        seq: i64,
        /// What belongs there.
        expected: i64,
    },
    /// The entry does not follow the one before it.
    #[error("entry {seq} does not follow entry {}: the one before it was changed or replaced", seq - 1)]
    BrokenLink {
        /// Its place.
        seq: i64,
    },
    /// Entries at the end are gone.
    #[error("the log was cut off after entry {last}: it had {expected} entries")]
    Truncated {
        /// Last entry found.
        last: i64,
        /// Last entry according to the head.
        expected: i64,
    },
    /// Entries follow that the head does not know.
    #[error("entry {seq} follows the signed head: it was added from outside")]
    BeyondHead {
        /// First such place.
        seq: i64,
    },
    /// The head's signature is wrong, or the last hash differs from the head's.
    #[error("the head of the log does not match: {detail}")]
    BadHead {
        /// In what.
        detail: String,
    },
}

/// Reads a chain entry by entry, in constant memory.
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
    /// Takes the next entry.
    ///
    /// # Errors
    /// [`ChainFault`] naming the first entry that is wrong.
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

    /// How many entries were read.
    #[must_use]
    pub fn entries(&self) -> i64 {
        self.seq
    }

    /// Hash of the last entry read.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Compares the end with the head (whose signature the caller has checked).
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
