//! Desktops: a display server with a desktop environment, each in its own sandbox.
//!
//! - The [`Launcher`] starts a [`Desktop`] from a [`DesktopSpec`]; it is ready when its server
//!   greets.
//! - Its [`DisplayProtocol`] is what its server speaks: RFB (TigerVNC), or RDP (xrdp on Xorg, see
//!   [`rdp`]).
//! - The **sandbox** ([`sandbox`]) is bubblewrap: own user, process, IPC, host name, mount and
//!   cgroup namespaces, no network unless asked for.
//! - A **home** ([`homes`]) is kept per user; each user has a system uid of their own when the
//!   agent is root.
//! - **Limits** ([`limits`]) are rlimits inside the sandbox and, where permitted, a cgroup around
//!   it.
//! - The **process spawner** ([`process_spawner`]) is the one thread that starts processes, so that
//!   they die with the agent.
//!
//! A desktop can access its home, its socket folder, and, read-only, `/usr` and a few files of
//! `/etc`.

pub mod desktop_files;
pub mod homes;
pub mod launcher;
pub mod limits;
pub mod password;
pub mod process_spawner;
pub mod rdp;
pub mod sandbox;
mod socket;
mod spec;
mod supervisor;

pub use launcher::{LaunchError, Launcher};
pub use limits::Limits;
pub use spec::{DesktopSpec, DisplayProtocol};
pub use supervisor::{Desktop, DesktopConnector, Phase};
