//! Whose desktop, of which workspace, and what its server speaks.

use crate::domain::{SessionId, UserId, WorkspaceId};

/// What a desktop's server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DisplayProtocol {
    /// RFB: TigerVNC.
    Rfb,
    /// RDP: xrdp, joined to an Xorg of the desktop's own.
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

    /// Its first program inside the sandbox.
    pub(super) fn start_script(self) -> &'static str {
        match self {
            Self::Rfb => "/etc/portcullis/start.sh",
            Self::Rdp => "/etc/portcullis/start-rdp.sh",
        }
    }
}

/// Whose desktop, and of what.
#[derive(Clone, Debug)]
pub struct DesktopSpec {
    /// Session.
    pub session_id: SessionId,
    /// Names the home.
    pub user_id: UserId,
    /// Shown in it.
    pub user_name: String,
    /// Its host name.
    pub workspace_id: WorkspaceId,
    /// Its title.
    pub workspace_name: String,
    /// Whether it reaches the host's network.
    pub network: bool,
    /// What its server speaks.
    pub protocol: DisplayProtocol,
}
