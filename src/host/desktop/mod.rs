//! Desktops: a display server with a desktop environment, each in its own sandbox.
//!
//! - The [`Launcher`] starts a [`Desktop`] from a [`DesktopSpec`]; it is ready when its server
//!   greets.
//! - Its [`DisplayProtocol`] is what its server speaks: RFB (TigerVNC), or RDP (xrdp on Xorg, see
//!   [`rdp`]).
//! - The **sandbox** ([`sandbox`]) is bubblewrap: own user, process, IPC, host name, mount and
//!   cgroup namespaces, without network.
//! - A desktop that may use the **network** ([`network`]) has a namespace that is connected by a
//!   program of its user, and reaches neither the host nor private networks.
//! - A **home** ([`homes`]) is kept per user; each user has a system uid of their own when the
//!   agent is root, from a range that the agent has for itself ([`uid_ranges`]).
//! - **Limits** ([`limits`]) are rlimits inside the sandbox, a cgroup around it where the system
//!   permits one ([`cgroups`], `scope`), and the measured size of its home (`home_usage`).
//! - A **filter** ([`seccomp`]) permits the system calls that programs need.
//! - The **process spawner** ([`process_spawner`]) is the one thread that starts processes, so that
//!   they die with the agent.
//!
//! A desktop can access its home, its socket folder, and, read-only, `/usr` and a few files of
//! `/etc`.

pub mod cgroups;
pub mod desktop_files;
mod home_usage;
pub mod homes;
mod launch_error;
pub mod launcher;
pub mod limits;
mod network;
pub mod password;
pub mod process_spawner;
pub mod rdp;
pub mod sandbox;
mod scope;
mod seccomp;
mod socket;
mod spec;
mod supervisor;
pub mod uid_ranges;

pub use launch_error::LaunchError;
pub use launcher::Launcher;
pub use limits::{Limits, NetworkPolicy};
pub use spec::{DesktopSpec, DisplayProtocol};
pub use supervisor::{Desktop, DesktopConnector, Phase};
