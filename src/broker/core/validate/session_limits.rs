//! What a workspace says about the times of its sessions.

use super::fields::set_if_changed;
use crate::broker::model::SessionLimitsChange;
use crate::domain::session_times::{LONGEST, SHORTEST, SessionLimits};
use crate::domain::{Error, Result};
use std::time::Duration;

pub(super) fn apply_change(
    limits: &mut SessionLimits,
    change: SessionLimitsChange,
    names: &mut Vec<&'static str>,
) -> Result<()> {
    let within = |duration: Duration| (SHORTEST..=LONGEST).contains(&duration);
    let all = |value: Option<Option<Duration>>, fits: &dyn Fn(Duration) -> bool| {
        value.flatten().is_none_or(fits)
    };
    if !all(change.duration, &within) {
        return Err(Error::invalid(
            "session_limits.duration_seconds must be 60 to 2592000 (30 days), or null for the installation's.",
        ));
    }
    if !all(change.extension, &|extension| extension <= LONGEST) {
        return Err(Error::invalid(
            "session_limits.extension_seconds must be 0 (sessions cannot be extended) to 2592000 (30 days), or null for the installation's.",
        ));
    }
    if !all(change.idle_timeout, &|timeout| timeout.is_zero() || within(timeout)) {
        return Err(Error::invalid(
            "session_limits.idle_timeout_seconds must be 60 to 2592000 (30 days), 0 for never, or null for the installation's.",
        ));
    }
    set_if_changed(&mut limits.duration, change.duration, "session_limits.duration", names);
    set_if_changed(&mut limits.extension, change.extension, "session_limits.extension", names);
    set_if_changed(
        &mut limits.idle_timeout,
        change.idle_timeout,
        "session_limits.idle_timeout",
        names,
    );
    Ok(())
}
