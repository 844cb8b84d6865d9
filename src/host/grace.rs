//! How long desktops run on without their gateway. Pure: time is an argument.

use std::time::{Duration, Instant};

/// Since when the gateway has been absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct GatewayAbsence {
    since: Option<Instant>,
}

impl GatewayAbsence {
    pub fn update(&mut self, present: bool, now: Instant) {
        self.since = if present { None } else { Some(self.since.unwrap_or(now)) };
    }

    /// Whether the gateway has been absent for at least `grace`.
    #[must_use]
    pub fn exceeds(&self, grace: Duration, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_starts_with_each_absence() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let grace = Duration::from_secs(600);
        let mut absence = GatewayAbsence::default();
        assert!(!absence.exceeds(grace, at(10_000)), "never absent");
        absence.update(false, at(0));
        absence.update(false, at(500));
        assert!(!absence.exceeds(grace, at(599)));
        assert!(absence.exceeds(grace, at(600)));
        absence.update(true, at(600));
        absence.update(false, at(700));
        assert!(!absence.exceeds(grace, at(1299)));
        assert!(absence.exceeds(Duration::ZERO, at(700)));
    }
}
