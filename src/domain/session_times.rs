//! How long a session lasts, how far it can be extended, and how long it may be idle.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`SessionLimits`] | what a workspace says about it; what it does not say is the installation's |
//! | [`SessionTimes`] | what holds for the sessions of one workspace |
//! | idle timeout | a session without input for so long is ended |

use super::Timestamp;
use super::duration::duration_in_words;
use std::time::Duration;

/// Shortest duration and idle timeout of a session.
pub const SHORTEST: Duration = Duration::from_secs(60);
/// Longest duration, extension and idle timeout of a session.
pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a workspace says about the times of its sessions; `None`: as the installation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionLimits {
    /// How long a session lasts unless it is extended.
    pub duration: Option<Duration>,
    /// By how much it can be extended in all; zero: not at all.
    pub extension: Option<Duration>,
    /// Zero: never.
    pub idle_timeout: Option<Duration>,
}

/// The times of the sessions of an installation, or of one workspace of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionTimes {
    /// How long a session lasts unless it is extended.
    pub duration: Duration,
    /// How long it lasts at most.
    pub max_duration: Duration,
    /// `None`: never.
    pub idle_timeout: Option<Duration>,
    pub extendable: bool,
}

/// Why a session cannot be extended by that much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtensionLimit {
    /// Sessions of its workspace cannot be extended.
    NotExtendable,
    /// It can be extended by this much; zero: it lasts as long as it may already.
    Left { left: Duration, max_duration: Duration },
}

impl SessionTimes {
    /// An installation's: a session lasts `duration`, `max_duration` with extensions.
    #[must_use]
    pub fn of_installation(
        duration: Duration,
        max_duration: Duration,
        idle_timeout: Option<Duration>,
    ) -> Self {
        Self { duration: duration.min(max_duration), max_duration, idle_timeout, extendable: true }
    }

    /// Those of a workspace: never longer than the installation's maximum.
    #[must_use]
    pub fn within(self, limits: SessionLimits) -> Self {
        let duration = limits.duration.unwrap_or(self.duration).min(self.max_duration);
        let max_duration = limits.extension.map_or(self.max_duration, |extension| {
            duration.saturating_add(extension).min(self.max_duration)
        });
        Self {
            duration,
            max_duration,
            idle_timeout: match limits.idle_timeout {
                None => self.idle_timeout,
                Some(timeout) => Some(timeout).filter(|timeout| !timeout.is_zero()),
            },
            extendable: limits.extension != Some(Duration::ZERO),
        }
    }

    /// Until when an active session can be extended; `None` when it cannot.
    #[must_use]
    pub fn extendable_until(
        &self,
        created_at: Timestamp,
        expires_at: Timestamp,
    ) -> Option<Timestamp> {
        let latest = created_at.after(self.max_duration);
        (self.extendable && latest > expires_at).then_some(latest)
    }

    /// When a session ends that is extended.
    ///
    /// # Errors
    /// [`ExtensionLimit`] when it would last too long.
    pub fn extended_end(
        &self,
        created_at: Timestamp,
        expires_at: Timestamp,
        by: Duration,
    ) -> Result<Timestamp, ExtensionLimit> {
        if !self.extendable {
            return Err(ExtensionLimit::NotExtendable);
        }
        let latest = created_at.after(self.max_duration);
        let until = expires_at.after(by);
        if until > latest {
            let left = latest.since(expires_at);
            return Err(ExtensionLimit::Left { left, max_duration: self.max_duration });
        }
        Ok(until)
    }
}

impl ExtensionLimit {
    /// A sentence for the user.
    #[must_use]
    pub fn user_message(&self) -> String {
        match self {
            Self::NotExtendable => {
                "Sessions of this workspace cannot be extended. Save your work before it ends."
                    .to_owned()
            }
            Self::Left { left, max_duration } => {
                let cap = duration_in_words(*max_duration);
                if left.as_secs() == 0 {
                    format!(
                        "This session may last {cap} in all and cannot be extended further. Save your work before it ends."
                    )
                } else {
                    format!(
                        "This session may last {cap} in all: it can be extended by {} at most.",
                        duration_in_words(*left)
                    )
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
