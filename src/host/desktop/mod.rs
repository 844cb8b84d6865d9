//! Desktops: a display server and what one sees in it, each in a sandbox of its own.
//!
//! - A [`DesktopSpec`] says whose desktop it is; the [`StubLauncher`] makes a [`FakeDesktop`] of it, ready when
//!   its server greets.
//! - Its [`DisplayProtocol`] is what its server speaks: RFB (TigerVNC), or RDP (xrdp on Xorg, see [`rdp`]).
//! - The **sandbox** ([`sandbox`]) is bubblewrap: own user, process, IPC, host name, mount and
//!   cgroup namespaces, no network unless asked for.
//! - A **home** ([`homes`]) is kept per user; each user has a system uid of their own when the
//!   agent is root.
//! - **Limits** ([`limits`]) are rlimits inside the sandbox and, where the system lets us, a cgroup
//!   around it.
//! - The **nursery** ([`nursery`]) is the one thread that starts processes, so that they die with
//!   the agent.
//!
//! What a desktop can touch of this machine: its home, its socket folder, `/usr` and a few files of
//! `/etc`, read-only.

pub mod desktop_files;
pub mod homes;
pub mod launcher;
pub mod limits;
pub mod password;
pub mod process_spawner;
pub mod rdp;
pub mod sandbox;
mod socket;
mod supervisor;

pub use launcher::{LaunchError, Launcher};
pub use limits::Limits;
pub use supervisor::{Desktop, DesktopConnector, Phase};

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
    fn start_script(self) -> &'static str {
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
