//! Desktops: a display server and what one sees in it, each in a sandbox of its own.
//!
//! - A [`Spec`] says whose desktop it is; the [`Launcher`] makes a [`Desktop`] of it, ready when
//!   its server greets.
//! - Its [`Screen`] is what its server speaks: RFB (TigerVNC), or RDP (xrdp on Xorg, see [`rdp`]).
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

pub mod homes;
pub mod launcher;
pub mod limits;
pub mod nursery;
mod owner;
pub mod password;
pub mod rdp;
pub mod sandbox;
pub mod share;
mod socket;

pub use launcher::{LaunchError, Launcher};
pub use limits::Limits;
pub use owner::{Desktop, Door, Phase};

use crate::domain::{SessionId, UserId, WorkspaceId};

/// What a desktop's server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Screen {
    /// RFB: TigerVNC.
    Rfb,
    /// RDP: xrdp, joined to an Xorg of the desktop's own.
    Rdp,
}

impl Screen {
    /// Name of the server's socket in the session's folder.
    #[must_use]
    pub fn socket(self) -> &'static str {
        match self {
            Self::Rfb => "rfb.sock",
            Self::Rdp => "rdp.sock",
        }
    }

    /// Its first program inside the sandbox.
    fn start(self) -> &'static str {
        match self {
            Self::Rfb => "/etc/portcullis/start.sh",
            Self::Rdp => "/etc/portcullis/start-rdp.sh",
        }
    }
}

/// Whose desktop, and of what.
#[derive(Clone, Debug)]
pub struct Spec {
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
    pub screen: Screen,
}
