//! What can be launched.

use super::reach::Target;
use super::user::Role;
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
    pub target: Option<Target>,
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
    /// When created.
    pub created_at: Timestamp,
    /// When last changed.
    pub updated_at: Timestamp,
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
    pub fn of(maintenance: bool, host_connected: bool, starting: bool, in_use: bool) -> Self {
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
                assert_eq!(WorkspaceStatus::of(true, true, starting, in_use), Maintenance);
                assert_eq!(WorkspaceStatus::of(false, false, starting, in_use), Offline);
            }
            assert_eq!(WorkspaceStatus::of(false, true, starting, true), if starting { Starting } else { InUse });
        }
        assert_eq!(WorkspaceStatus::of(false, true, false, false), Available);
    }
}
