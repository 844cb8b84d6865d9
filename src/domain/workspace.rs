//! Workspaces: what can be launched.

use super::route::TargetSpec;
use super::upstream::{CredentialSource, Fingerprint, StreamPolicy, TrustRule};
use super::user::Role;
use super::web_app::WebAppConfig;
use super::{OrganizationId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

/// The kind of a workspace, which decides the protocol of its stream.
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
    pub const ALL: [Self; 4] = [Self::Linux, Self::Vnc, Self::Rdp, Self::Html5];

    /// Its name in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Vnc => "vnc",
            Self::Rdp => "rdp",
            Self::Html5 => "html5",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == name)
    }
}

/// A workspace as an administrator defined it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workspace {
    /// Unique in the gateway.
    pub id: WorkspaceId,
    pub organization_id: OrganizationId,
    pub name: String,
    pub description: String,
    pub kind: WorkspaceKind,
    /// Where its server is; `None`: a host's agent starts a desktop.
    pub target: Option<TargetSpec>,
    /// Name of an icon: `desktop`, `terminal`, `browser`, `windows`, `code`.
    pub icon: String,
    pub tags: Vec<String>,
    /// Launching requires a verified second factor.
    pub requires_mfa: bool,
    /// One principal at a time; otherwise each has their own desktop.
    pub single_seat: bool,
    /// The desktop may use the host's network.
    pub network: bool,
    pub allowed_roles: Vec<Role>,
    /// An administrator took it out of service.
    pub maintenance: bool,
    pub policy: StreamPolicy,
    /// How the gateway connects to its server; the default where there is none.
    pub upstream: UpstreamConfig,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Workspace {
    /// Whether the gateway connects to a server with a credential and a trust rule: every RDP and
    /// VNC desktop, every web application.
    #[must_use]
    pub fn has_upstream(&self) -> bool {
        match self.kind {
            WorkspaceKind::Rdp | WorkspaceKind::Vnc | WorkspaceKind::Html5 => true,
            WorkspaceKind::Linux => false,
        }
    }

    /// Whether a host's agent starts a desktop for each session, with its own credential and
    /// certificate.
    #[must_use]
    pub fn is_agent_started(&self) -> bool {
        self.target.is_none()
    }
}

/// How the gateway connects to a workspace's server. Contains no secret.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamConfig {
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
    /// The default for every kind but HTML5.
    pub web_app: WebAppConfig,
}

/// What the gateway has stored about a workspace's server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamState {
    /// Whether a password of the workspace is stored.
    pub has_password: bool,
    /// The certificate recorded at first use or accepted, and when.
    pub pinned: Option<(Fingerprint, Timestamp)>,
    /// Another certificate, refused since.
    pub offered: Option<OfferedCertificate>,
}

/// A certificate that was presented and refused: an administrator may accept it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfferedCertificate {
    pub fingerprint: Fingerprint,
    pub at: Timestamp,
    /// The certificate's subject, at most 200 bytes, without control characters.
    pub subject: String,
}

/// What a principal sees of a workspace now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceStatus {
    Available,
    /// Runs for the principal, or for the one that holds the single seat.
    InUse,
    Starting,
    Maintenance,
    /// No host can run it now.
    Offline,
}

impl WorkspaceStatus {
    /// Derives the status; the first argument that is decisive wins.
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
    fn the_first_decisive_fact_wins() {
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
