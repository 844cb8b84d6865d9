//! How long desktops live on without their gateway: pure, so that it can be tested without waiting.

use std::time::{Duration, Instant};

/// Knows since when the gateway is away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Absence {
    since: Option<Instant>,
}

impl Absence {
    /// Takes in whether the gateway is there now.
    pub fn note(&mut self, present: bool, now: Instant) {
        self.since = if present { None } else { Some(self.since.unwrap_or(now)) };
    }

    /// Whether a desktop's grace is over.
    #[must_use]
    pub fn outlasts(&self, grace: Duration, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_runs_from_when_the_gateway_left_and_starts_anew_when_it_was_back() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let grace = Duration::from_secs(600);
        let mut absence = Absence::default();
        assert!(!absence.outlasts(grace, at(10_000)), "never away");
        absence.note(false, at(0));
        absence.note(false, at(500));
        assert!(!absence.outlasts(grace, at(599)));
        assert!(absence.outlasts(grace, at(600)));
        absence.note(true, at(600));
        absence.note(false, at(700));
        assert!(!absence.outlasts(grace, at(1299)));
        assert!(absence.outlasts(Duration::ZERO, at(700)));
    }
}
