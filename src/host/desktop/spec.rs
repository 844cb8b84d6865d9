//! What is launched: for whom, of which workspace, and by which display protocol.

use crate::domain::{SessionId, UserId, WorkspaceId};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DisplayProtocol {
    /// TigerVNC.
    Rfb,
    /// xrdp, connected to an Xorg in the same sandbox.
    Rdp,
}

impl DisplayProtocol {
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
    /// Whether the desktop reaches the host's network.
    pub network: bool,
    pub protocol: DisplayProtocol,
}
