//! Workspaces: what can be launched.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`Workspace`] | what every workspace has, and its spec |
//! | [`WorkspaceSpec`] | its kind, with the kind's own settings |
//! | [`WorkspaceDriver`] | what the layers ask of a kind; each kind answers in a file of its own |
//! | [`WorkspaceFields`] | the settings of every kind side by side, as APIs and the store have them |

mod driver;
mod fields;
mod linux_desktop;
mod rdp;
mod spec;
mod vnc;
mod web_application;

pub use driver::{
    DESKTOP_HAS_OWN_CREDENTIAL, DesktopAuthentication, KindProperties, ReadinessCheck,
    StartedDesktop, WorkspaceDriver,
};
pub use fields::{ServerAccess, UpstreamFields, WorkspaceFields};
pub use linux_desktop::LinuxDesktop;
pub use rdp::{RdpDesktop, RdpServer};
pub use spec::{WorkspaceKind, WorkspaceSpec};
pub use vnc::VncServer;
pub use web_application::WebApplication;

use super::session_times::SessionLimits;
use super::upstream::{CredentialSource, Fingerprint};
use super::user::Role;
use super::{OrganizationId, Timestamp, WorkspaceId, WorkspaceKey};
use serde::Serialize;

/// A workspace as an administrator defined it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workspace {
    /// Unique in the gateway.
    pub id: WorkspaceId,
    pub organization_id: OrganizationId,
    pub name: String,
    pub description: String,
    /// Name of an icon: `desktop`, `terminal`, `browser`, `windows`, `code`.
    pub icon: String,
    pub tags: Vec<String>,
    /// Launching requires a verified second factor.
    pub requires_mfa: bool,
    /// One principal at a time; otherwise each has their own desktop.
    pub single_seat: bool,
    pub allowed_roles: Vec<Role>,
    /// An administrator took it out of service.
    pub maintenance: bool,
    /// How long its sessions last.
    pub session_limits: SessionLimits,
    /// Its kind, with the kind's own settings.
    pub spec: WorkspaceSpec,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Workspace {
    #[must_use]
    pub fn key(&self) -> WorkspaceKey {
        WorkspaceKey { organization_id: self.organization_id, id: self.id.clone() }
    }

    #[must_use]
    pub fn kind(&self) -> WorkspaceKind {
        self.spec.kind()
    }

    /// `None`: the gateway does not sign in to anything.
    #[must_use]
    pub fn credential_source(&self) -> Option<CredentialSource> {
        self.driver().access().map(|access| access.credential_source)
    }

    /// The rules of its kind.
    #[must_use]
    pub fn driver(&self) -> &dyn WorkspaceDriver {
        self.spec.driver()
    }
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
