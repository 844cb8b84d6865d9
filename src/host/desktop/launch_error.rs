//! Why a desktop does not start.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("the desktop ended while it started")]
    Ended,
    #[error("the desktop did not answer in time")]
    TimedOut,
    #[error("no randomness for a password")]
    NoRandomness,
    /// Names of the limits that the settings require.
    #[error("this host cannot hold these limits of desktops, which its settings require: {0}")]
    LimitsNotHeld(String),
    #[error(
        "the home folder of this user is above its limit: ask an administrator to remove files of it, or to raise agent.home_quota_mib"
    )]
    HomeFull,
    /// Packages that are not installed.
    #[error("this host cannot start desktops with network: {0} not installed")]
    NoNetwork(String),
    /// Packages that are not installed.
    #[error("this host cannot start RDP desktops: {0} not installed")]
    Missing(String),
}

pub(super) fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Io { what, source }
}
