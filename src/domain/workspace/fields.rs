//! The settings of every kind side by side, as APIs and the store have them. A kind takes its own
//! out of them ([`super::WorkspaceSpec::from_fields`]) and refuses the others.

use crate::domain::route::TargetSpec;
use crate::domain::upstream::{CredentialSource, StreamPolicy, TrustRule};
use crate::domain::web_app::WebAppConfig;
use crate::domain::{Error, Result};

/// Settings that are not a kind's own have their default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WorkspaceFields {
    /// Where its server is; `None`: a host's agent starts a desktop.
    pub target: Option<TargetSpec>,
    /// The started desktop may use the host's network. Without a meaning, and not kept, where
    /// nothing is started.
    pub network: bool,
    pub policy: StreamPolicy,
    pub upstream: UpstreamFields,
    pub web_app: WebAppConfig,
}

/// How the gateway connects to a workspace's server. Contains no secret.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamFields {
    pub credential_source: CredentialSource,
    /// Account name of the workspace's credential; empty: none.
    pub username: String,
    /// Windows domain; empty: the upstream's local accounts.
    pub domain: String,
    pub trust: TrustRule,
    /// RFB: other clients of the same desktop are disconnected.
    pub exclusive: bool,
    /// RDP: the keyboard layout sent to the server (a Windows input locale identifier); `None`: the
    /// browser's.
    pub keyboard_layout: Option<u32>,
}

/// How the gateway signs in to a server, and how it verifies it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerAccess {
    pub credential_source: CredentialSource,
    /// Account name of the workspace's credential; empty: none.
    pub username: String,
    pub trust: TrustRule,
}

/// The access to a desktop that an agent started: its credential and its certificate are its own.
pub(super) static STARTED_DESKTOP_ACCESS: ServerAccess = ServerAccess {
    credential_source: CredentialSource::Workspace,
    username: String::new(),
    trust: TrustRule::FirstUse,
};

impl ServerAccess {
    /// Takes the access out of the fields; `domain`, `exclusive` and `keyboard_layout` are the
    /// caller's.
    pub(super) fn take(upstream: UpstreamFields) -> Self {
        let UpstreamFields { credential_source, username, trust, .. } = upstream;
        Self { credential_source, username, trust }
    }

    /// The fields with this access.
    pub(super) fn to_fields(&self) -> UpstreamFields {
        UpstreamFields {
            credential_source: self.credential_source,
            username: self.username.clone(),
            trust: self.trust.clone(),
            ..UpstreamFields::default()
        }
    }

    /// Refuses an account name of the workspace where its users give theirs.
    pub(super) fn validate(&self, domain: &str) -> Result<()> {
        match self.credential_source {
            CredentialSource::User | CredentialSource::Ask
                if !self.username.is_empty() || !domain.is_empty() =>
            {
                Err(Error::invalid(
                    "server.username and server.domain are the workspace's own; with this server.credential, users give theirs.",
                ))
            }
            CredentialSource::Workspace | CredentialSource::User | CredentialSource::Ask => Ok(()),
        }
    }
}

/// Refusals of fields that belong to other kinds.
impl WorkspaceFields {
    pub(super) fn refuse_web_app(&self) -> Result<()> {
        refuse(self.web_app != WebAppConfig::default(), "web is for workspaces of type html5.")
    }

    pub(super) fn refuse_domain_and_keyboard(&self) -> Result<()> {
        refuse(
            !self.upstream.domain.is_empty() || self.upstream.keyboard_layout.is_some(),
            "server.domain and server.keyboard are for workspaces of type rdp.",
        )
    }

    pub(super) fn refuse_exclusive(&self) -> Result<()> {
        refuse(self.upstream.exclusive, "server.exclusive is for workspaces of type vnc.")
    }
}

fn refuse(given: bool, message: &str) -> Result<()> {
    if given { Err(Error::invalid(message)) } else { Ok(()) }
}
