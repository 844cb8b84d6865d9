//! Desktops: a TigerVNC server and what one sees in it, each in a sandbox of its own.
//!
//! - A [`Spec`] says whose desktop it is; the [`Launcher`] makes a [`Desktop`] of it, ready when its server greets.
//! - The **sandbox** ([`sandbox`]) is bubblewrap: own user, process, IPC, host name, mount and cgroup namespaces, no network unless asked for.
//! - A **home** ([`homes`]) is kept per user; each user has a system uid of their own when the agent is root.
//! - **Limits** ([`limits`]) are rlimits inside the sandbox and, where the system lets us, a cgroup around it.
//! - The **nursery** ([`nursery`]) is the one thread that starts processes, so that they die with the agent.
//!
//! What a desktop can touch of this machine: its home, its socket folder, `/usr` and a few files of `/etc`, read-only.

pub mod homes;
pub mod launcher;
pub mod limits;
pub mod nursery;
mod owner;
pub mod password;
pub mod sandbox;
pub mod share;
mod socket;

pub use launcher::{LaunchError, Launcher};
pub use limits::Limits;
pub use owner::{Desktop, Door, Phase};

use crate::domain::{SessionId, UserId, WorkspaceId};

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
}
