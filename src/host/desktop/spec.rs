//! What is launched: for whom, of which workspace, and by which display protocol.

use crate::domain::upstream::StreamProtocol;
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{SessionId, UserId, WorkspaceId};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DisplayProtocol {
    /// TigerVNC.
    Rfb,
    /// xrdp, connected to an Xorg in the same sandbox.
    Rdp,
}

impl DisplayProtocol {
    /// That of the desktops of this kind; `None`: agents do not start it.
    #[must_use]
    pub fn started_for(kind: WorkspaceKind) -> Option<Self> {
        if !kind.properties().is_started_by_agents {
            return None;
        }
        match kind.protocol() {
            StreamProtocol::Rfb => Some(Self::Rfb),
            StreamProtocol::Rdp => Some(Self::Rdp),
            StreamProtocol::Http => None,
        }
    }

    /// Name of the server's socket in the session's folder.
    #[must_use]
    pub fn socket_name(self) -> &'static str {
        match self {
            Self::Rfb => "rfb.sock",
            Self::Rdp => "rdp.sock",
        }
    }

    pub(super) fn start_script(self) -> &'static str {
        match self {
            Self::Rfb => "/etc/portcullis/start.sh",
            Self::Rdp => "/etc/portcullis/start-rdp.sh",
        }
    }
}

#[derive(Clone, Debug)]
pub struct DesktopSpec {
    pub session_id: SessionId,
    /// Selects the home.
    pub user_id: UserId,
    /// Shown in the desktop.
    pub user_name: String,
    /// The host name inside.
    pub workspace_id: WorkspaceId,
    /// The desktop's title.
    pub workspace_name: String,
    /// Whether the desktop reaches a network, as the agent's policy permits.
    pub network: bool,
    pub protocol: DisplayProtocol,
}
