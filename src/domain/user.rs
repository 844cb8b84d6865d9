//! Users, their roles and factors, and the source of a request.

use super::{OrganizationId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// What a user may do, in broad strokes. Rules are in [`super::policy`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Member,
    /// Also manages workspaces, users and hosts, and reads the audit log.
    Admin,
    /// Also reads the audit log, users and live sessions; manages nothing.
    Security,
}

impl Role {
    /// Every role, for tables and tests.
    pub const ALL: [Self; 3] = [Self::Member, Self::Admin, Self::Security];

    /// Its word in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Security => "security",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A user as others see them. Secrets (password hash, TOTP seed) are elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub id: UserId,
    pub organization_id: OrganizationId,
    /// E-mail address, as written; compared case-insensitively.
    pub email: String,
    pub name: String,
    pub role: Role,
    /// Whether a second factor is enrolled and confirmed.
    pub mfa_enrolled: bool,
    /// A disabled user cannot sign in and holds no session.
    pub disabled: bool,
    pub created_at: Timestamp,
    pub last_login_at: Option<Timestamp>,
}

/// How a second factor was verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MfaMethod {
    /// A time-based one-time code (RFC 6238).
    #[serde(rename = "totp")]
    Totp,
}

impl MfaMethod {
    /// Its word in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        (word == "totp").then_some(Self::Totp)
    }
}

/// A second factor that was verified: which, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mfa {
    pub method: MfaMethod,
    pub verified_at: Timestamp,
}

/// Where a request came from, for the audit log and for policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestSource {
    /// Id of the request, in logs and in the `X-Request-Id` header.
    pub request_id: String,
    /// Peer address; `None` for the command line and for the gateway itself.
    pub source_ip: Option<IpAddr>,
    /// At most 256 bytes.
    pub user_agent: Option<String>,
}

impl RequestSource {
    /// The gateway itself, or its command line.
    #[must_use]
    pub fn local(request_id: impl Into<String>) -> Self {
        Self { request_id: request_id.into(), source_ip: None, user_agent: None }
    }
}
