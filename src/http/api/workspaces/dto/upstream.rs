//! The server of a workspace: stream policy, credential, certificate.

use super::web::WebSignInBy;
use crate::broker::model::NewCredential;
use crate::broker::model::{ManagedUpstream, PolicyChange, UpstreamChange, UpstreamView};
use crate::domain::secret::SecretString;
use crate::domain::upstream::{self, CredentialSource, Fingerprint, TrustRule};
use crate::domain::workspace::UpstreamState;
use crate::domain::{Error, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Direction of clipboard text; `in` is into the desktop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Clipboard {
    /// Neither direction.
    None,
    /// Only into the desktop.
    In,
    /// Only out of the desktop.
    Out,
    /// Both directions.
    Both,
}

impl From<upstream::Clipboard> for Clipboard {
    fn from(clipboard: upstream::Clipboard) -> Self {
        match clipboard {
            upstream::Clipboard::None => Self::None,
            upstream::Clipboard::In => Self::In,
            upstream::Clipboard::Out => Self::Out,
            upstream::Clipboard::Both => Self::Both,
        }
    }
}

impl From<Clipboard> for upstream::Clipboard {
    fn from(clipboard: Clipboard) -> Self {
        match clipboard {
            Clipboard::None => Self::None,
            Clipboard::In => Self::In,
            Clipboard::Out => Self::Out,
            Clipboard::Both => Self::Both,
        }
    }
}

/// Stream policy; enforced by the gateway.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct StreamPolicy {
    /// Clipboard text.
    pub clipboard: Clipboard,
    /// Files and drives.
    pub files: bool,
    /// Keys, pointer and clipboard do not reach the desktop.
    pub read_only: bool,
}

impl From<upstream::StreamPolicy> for StreamPolicy {
    fn from(policy: upstream::StreamPolicy) -> Self {
        Self {
            clipboard: policy.clipboard.into(),
            files: policy.files,
            read_only: policy.read_only,
        }
    }
}

/// A change of the stream policy; missing fields stay as they are. Open streams are closed and
/// reopened with it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamPolicyInput {
    /// Clipboard text; `both` in a new workspace.
    clipboard: Option<Clipboard>,
    /// Files and drives; false in a new workspace.
    files: Option<bool>,
    /// Keys, pointer and clipboard do not reach the desktop; false in a new workspace.
    read_only: Option<bool>,
}

impl From<StreamPolicyInput> for PolicyChange {
    fn from(p: StreamPolicyInput) -> Self {
        Self { clipboard: p.clipboard.map(Into::into), files: p.files, read_only: p.read_only }
    }
}

/// Source of the credential for a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CredentialFrom {
    /// One for the workspace, stored sealed.
    Workspace,
    /// One per user and workspace, stored sealed.
    User,
    /// Entered in the viewer, used once, not stored.
    Ask,
}

impl From<CredentialSource> for CredentialFrom {
    fn from(source: CredentialSource) -> Self {
        match source {
            CredentialSource::Workspace => Self::Workspace,
            CredentialSource::User => Self::User,
            CredentialSource::Ask => Self::Ask,
        }
    }
}

impl From<CredentialFrom> for CredentialSource {
    fn from(from: CredentialFrom) -> Self {
        match from {
            CredentialFrom::Workspace => Self::Workspace,
            CredentialFrom::User => Self::User,
            CredentialFrom::Ask => Self::Ask,
        }
    }
}

/// How a server's certificate is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrustBy {
    /// The first one is pinned; another is refused until an admin accepts it.
    FirstUse,
    /// Exactly this one.
    Pinned,
    /// One issued by these authorities.
    Authority,
}

/// How a server's certificate is checked.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The rule.
    rule: TrustBy,
    /// `pinned`: SHA-256 of the certificate, hexadecimal, with or without colons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// `authority`: certificates of the authorities, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roots: Option<String>,
    /// `authority`: the name in the certificate; without one, any name signed by these authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl From<TrustRule> for Trust {
    fn from(rule: TrustRule) -> Self {
        let plain = |rule| Self { rule, fingerprint: None, roots: None, name: None };
        match rule {
            TrustRule::FirstUse => plain(TrustBy::FirstUse),
            TrustRule::Pinned(pin) => {
                Self { fingerprint: Some(pin.to_string()), ..plain(TrustBy::Pinned) }
            }
            TrustRule::Authority { roots, name } => {
                Self { roots: Some(roots), name, ..plain(TrustBy::Authority) }
            }
        }
    }
}

impl TryFrom<Trust> for TrustRule {
    type Error = Error;
    fn try_from(t: Trust) -> Result<Self, Error> {
        match (t.rule, t.fingerprint, t.roots, t.name) {
            (TrustBy::FirstUse, None, None, None) => Ok(Self::FirstUse),
            (TrustBy::Pinned, Some(text), None, None) => {
                Fingerprint::parse(&text).map(Self::Pinned).ok_or_else(|| {
                    Error::invalid("trust.fingerprint must be a SHA-256: 64 hexadecimal digits.")
                })
            }
            (TrustBy::Authority, None, Some(roots), name) => Ok(Self::Authority { roots, name }),
            (TrustBy::FirstUse, ..) => {
                Err(Error::invalid("trust with the rule first_use has nothing beside it."))
            }
            (TrustBy::Pinned, ..) => Err(Error::invalid(
                "trust with the rule pinned has a fingerprint and nothing beside it.",
            )),
            (TrustBy::Authority, ..) => {
                Err(Error::invalid("trust with the rule authority has roots, and perhaps a name."))
            }
        }
    }
}

/// Certificates of a server.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerCertificate {
    /// The pinned one (first use, or accepted), SHA-256.
    #[schema(required = true)]
    pub pinned: Option<String>,
    /// When it was pinned.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub pinned_at: Option<Timestamp>,
    /// Another one that was refused since.
    #[schema(required = true)]
    pub offered: Option<String>,
    /// When it was last refused.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub offered_at: Option<Timestamp>,
    /// Its subject.
    #[schema(required = true)]
    pub offered_subject: Option<String>,
}

impl ServerCertificate {
    fn of(state: UpstreamState) -> Option<Self> {
        let UpstreamState { has_password: _, pinned, offered } = state;
        if pinned.is_none() && offered.is_none() {
            return None;
        }
        Some(Self {
            pinned: pinned.map(|(pin, _)| pin.to_string()),
            pinned_at: pinned.map(|(_, at)| at),
            offered: offered.as_ref().map(|o| o.fingerprint.to_string()),
            offered_at: offered.as_ref().map(|o| o.at),
            offered_subject: offered.map(|o| o.subject),
        })
    }
}

/// The server of a workspace of type `rdp`, `vnc` or `html5`.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkspaceServer {
    /// Source of the credential.
    pub credential: CredentialFrom,
    /// Whether there is one: the caller's own, where users have their own; else the workspace's, or
    /// the one every started desktop has. False where it is asked for.
    pub credential_saved: bool,
    /// `vnc`: disconnects other clients of the same desktop.
    pub exclusive: bool,
    /// `rdp`: the keyboard layout sent to the server, such as `0x00000407` for German; null: as the
    /// browser reports it.
    #[schema(required = true)]
    pub keyboard: Option<String>,
    /// `html5`: how the gateway signs in to the application with the credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<WebSignInBy>,
    /// Account name of the workspace's credential (admins).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Its Windows domain (admins).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// How the server's certificate is checked (admins).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// Its certificates; null before the first connection (admins).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ServerCertificate>)]
    pub certificate: Option<Option<ServerCertificate>>,
}

impl From<UpstreamView> for WorkspaceServer {
    fn from(view: UpstreamView) -> Self {
        let plain = Self {
            credential: view.source.into(),
            credential_saved: view.credential_saved,
            exclusive: view.exclusive,
            keyboard: view.keyboard.map(|id| format!("0x{id:08x}")),
            sign_in: view.sign_in.as_ref().map(WebSignInBy::of),
            username: None,
            domain: None,
            trust: None,
            certificate: None,
        };
        let Some(ManagedUpstream { username, domain, trust, state, target: _, web: _ }) =
            view.managed
        else {
            return plain;
        };
        let (username, domain, trust) = (Some(username), Some(domain), Some(trust.into()));
        Self { username, domain, trust, certificate: Some(ServerCertificate::of(state)), ..plain }
    }
}

/// A change of a server; missing fields stay as they are.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceServerInput {
    /// Where the credential comes from; `workspace` in a new workspace. With another one, what the
    /// workspace had of its own is forgotten. Type `html5` has no `ask`.
    credential: Option<CredentialFrom>,
    /// Account name of the workspace's credential.
    username: Option<String>,
    /// Its Windows domain (type `rdp`).
    domain: Option<String>,
    /// How the server's certificate is checked; `first_use` in a new workspace. Open streams are
    /// cut and come back under it.
    trust: Option<Trust>,
    /// Disconnects other clients of the same desktop (type `vnc`).
    exclusive: Option<bool>,
    /// The keyboard layout sent to the server, such as `0x00000407` (type `rdp`); null or empty: as
    /// the browser reports it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    keyboard: Option<Option<String>>,
}

/// Distinguishes null from a missing field.
fn nullable<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(d).map(Some)
}

fn keyboard_of(text: &str) -> Result<Option<u32>, Error> {
    upstream::parse_keyboard_layout(text).ok_or_else(|| {
        Error::invalid(
            "server.keyboard must be a Windows input locale identifier, such as 0x00000407.",
        )
    })
}

impl TryFrom<WorkspaceServerInput> for UpstreamChange {
    type Error = Error;
    fn try_from(s: WorkspaceServerInput) -> Result<Self, Error> {
        Ok(Self {
            source: s.credential.map(Into::into),
            username: s.username,
            domain: s.domain,
            trust: s.trust.map(TrustRule::try_from).transpose()?,
            exclusive: s.exclusive,
            keyboard: s
                .keyboard
                .map(|text| keyboard_of(text.as_deref().unwrap_or_default()))
                .transpose()?,
        })
    }
}

/// A credential for a server (write-only).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialInput {
    /// Account name, if the protocol has one.
    username: Option<String>,
    /// Windows domain.
    domain: Option<String>,
    /// Password.
    #[schema(value_type = String)]
    password: SecretString,
}

impl From<CredentialInput> for NewCredential {
    fn from(c: CredentialInput) -> Self {
        Self { username: c.username, domain: c.domain, password: c.password }
    }
}

/// The certificate to accept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptCertificate {
    /// SHA-256 of the offered certificate.
    fingerprint: String,
}

impl TryFrom<AcceptCertificate> for Fingerprint {
    type Error = Error;
    fn try_from(body: AcceptCertificate) -> Result<Self, Error> {
        Self::parse(&body.fingerprint)
            .ok_or_else(|| Error::invalid("fingerprint must be a SHA-256: 64 hexadecimal digits."))
    }
}
