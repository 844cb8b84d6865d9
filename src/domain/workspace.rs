//! What can be launched.

use super::route::TargetSpec;
use super::upstream::{CredentialSource, Fingerprint, StreamPolicy, TrustRule};
use super::user::Role;
use super::web_app::WebAppConfig;
use super::{OrganizationId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

/// What kind of thing a workspace is, and so which protocol its stream speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceKind {
    /// A Linux desktop that a host agent starts for the session (RFB).
    Linux,
    /// An existing VNC server (RFB).
    Vnc,
    /// A Windows or xrdp desktop (RDP).
    Rdp,
    /// A web application (HTTP).
    Html5,
}

impl WorkspaceKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Linux, Self::Vnc, Self::Rdp, Self::Html5];

    /// Its word in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Vnc => "vnc",
            Self::Rdp => "rdp",
            Self::Html5 => "html5",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == word)
    }
}

/// A workspace as an admin defined it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workspace {
    /// Slug, unique in the gateway.
    pub id: WorkspaceId,
    /// Organization.
    pub organization_id: OrganizationId,
    /// Name people read.
    pub name: String,
    /// One or two sentences.
    pub description: String,
    /// Kind.
    pub kind: WorkspaceKind,
    /// Where its server is; `None`: a host's agent starts a desktop.
    pub target: Option<TargetSpec>,
    /// Name of a picture: `desktop`, `terminal`, `browser`, `windows`, `code`.
    pub icon: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Launching needs a verified second factor.
    pub requires_mfa: bool,
    /// One user at a time; otherwise each user has their own desktop.
    pub single_seat: bool,
    /// The desktop reaches the host's network.
    pub network: bool,
    /// Roles that may launch it.
    pub allowed_roles: Vec<Role>,
    /// Taken out of service by an admin.
    pub maintenance: bool,
    /// What its streams may carry.
    pub policy: StreamPolicy,
    /// How the gateway meets its server; as new where there is none to meet.
    pub upstream: UpstreamConfig,
    /// When created.
    pub created_at: Timestamp,
    /// When last changed.
    pub updated_at: Timestamp,
}

impl Workspace {
    /// Whether a server is behind it that the gateway meets with a credential and a rule of trust:
    /// every RDP and VNC desktop, every web application.
    #[must_use]
    pub fn has_upstream(&self) -> bool {
        match self.kind {
            WorkspaceKind::Rdp | WorkspaceKind::Vnc | WorkspaceKind::Html5 => true,
            WorkspaceKind::Linux => false,
        }
    }

    /// Whether a host's agent starts a desktop for each session, with a credential and a
    /// certificate of its own.
    #[must_use]
    pub fn is_agent_started(&self) -> bool {
        self.target.is_none()
    }
}

/// How the gateway meets a workspace's server, as an admin said. No secret is in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamConfig {
    /// Where the credential comes from.
    pub credential_source: CredentialSource,
    /// Account name of the workspace's own credential; empty: none.
    pub username: String,
    /// Its Windows domain; empty: the server's own accounts.
    pub domain: String,
    /// How the server's certificate is checked.
    pub trust: TrustRule,
    /// RFB: other clients of the same desktop are put out.
    pub exclusive: bool,
    /// RDP: the keyboard layout told to the server (a Windows input locale identifier); `None`: the
    /// browser's own word.
    pub keyboard_layout: Option<u32>,
    /// HTML5: how the application is met; as new for every other kind.
    pub web_app: WebAppConfig,
}

/// What the gateway has come to know of a workspace's server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamState {
    /// Whether a password of the workspace is kept.
    pub has_password: bool,
    /// The certificate recorded at first use or accepted, and when.
    pub pinned: Option<(Fingerprint, Timestamp)>,
    /// Another one that was refused since.
    pub offered: Option<OfferedCertificate>,
}

/// A certificate that a server showed and that was refused: an admin may accept it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfferedCertificate {
    /// Of the certificate.
    pub fingerprint: Fingerprint,
    /// When it was last shown.
    pub at: Timestamp,
    /// Whose it says it is; of at most 200 bytes, without controls.
    pub subject: String,
}

/// What a caller sees of a workspace now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceStatus {
    /// Can be launched.
    Available,
    /// Runs for the caller, or for the one who holds the single seat.
    InUse,
    /// Is being launched.
    Starting,
    /// Taken out of service.
    Maintenance,
    /// No host can run it now.
    Offline,
}

impl WorkspaceStatus {
    /// The status from its facts; the first that holds wins, in the order of the arguments.
    #[must_use]
    pub fn from_facts(
        maintenance: bool,
        host_connected: bool,
        starting: bool,
        in_use: bool,
    ) -> Self {
        match (maintenance, host_connected, starting, in_use) {
            (true, ..) => Self::Maintenance,
            (false, false, ..) => Self::Offline,
            (false, true, true, _) => Self::Starting,
            (false, true, false, true) => Self::InUse,
            (false, true, false, false) => Self::Available,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WorkspaceStatus::{self, Available, InUse, Maintenance, Offline, Starting};

    #[test]
    fn the_first_fact_that_holds_wins() {
        let facts = [false, true];
        for starting in facts {
            for in_use in facts {
                assert_eq!(WorkspaceStatus::from_facts(true, true, starting, in_use), Maintenance);
                assert_eq!(WorkspaceStatus::from_facts(false, false, starting, in_use), Offline);
            }
            assert_eq!(
                WorkspaceStatus::from_facts(false, true, starting, true),
                if starting { Starting } else { InUse }
            );
        }
        assert_eq!(WorkspaceStatus::from_facts(false, true, false, false), Available);
    }
}
