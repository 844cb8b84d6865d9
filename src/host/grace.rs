//! How long desktops live on without their gateway: pure, so that it can be tested without waiting.

use std::time::{Duration, Instant};

/// Knows since when the gateway is away.
#[derive(Clone, Copy, Debug, Default)]
pub struct GatewayAbsence {
    since: Option<Instant>,
}

impl GatewayAbsence {
    /// Takes in whether the gateway is there now.
    pub fn update(&mut self, present: bool, now: Instant) {
        self.since = if present { None } else { Some(self.since.unwrap_or(now)) };
    }

    /// Whether a desktop's grace is over.
    #[must_use]
    pub fn exceeds(&self, grace: Duration, now: Instant) -> bool {
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
        let mut absence = GatewayAbsence::default();
        assert!(!absence.exceeds(grace, at(10_000)), "never away");
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
