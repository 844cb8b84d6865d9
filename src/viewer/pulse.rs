//! Whether the browser lives, and how far it is: when to ping, what a pong says, when silence is
//! the end. Pure: the moment is an argument.
//!
//! One ping is under way at a time. The next is due one `every` after the last was; an unanswered
//! one is the end after `patience`. While the relay itself does not listen (it waits for the
//! desktop to take input), a pong cannot be heard: that silence is not held against the browser.

use std::time::Duration;
use tokio::time::Instant;

/// Listening deaf for less than this changes nothing.
const NOTABLE_DEAFNESS: Duration = Duration::from_secs(1);

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beat {
    /// Send a ping with these bytes.
    Ping([u8; 8]),
    /// Nothing before this moment.
    Until(Instant),
    /// The browser is gone.
    Dead,
}

/// A ping under way.
#[derive(Debug)]
struct Question {
    number: u64,
    asked_at: Instant,
    /// The answer is waited for from here; later than `asked_at` when we were deaf.
    since: Instant,
}

/// The state of it.
#[derive(Debug)]
pub(super) struct Pulse {
    every: Duration,
    patience: Duration,
    next_at: Instant,
    number: u64,
    open: Option<Question>,
    deaf_since: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(every: Duration, patience: Duration, now: Instant) -> Self {
        Self { every, patience, next_at: now, number: 0, open: None, deaf_since: None }
    }

    /// What to do at `now`. A [`Beat::Ping`] is taken as sent.
    pub(super) fn beat(&mut self, now: Instant) -> Beat {
        match &self.open {
            Some(_) if self.deaf_since.is_some() => Beat::Until(now + self.every),
            Some(question) if now >= question.since + self.patience => Beat::Dead,
            Some(question) => Beat::Until(question.since + self.patience),
            None if now >= self.next_at => {
                self.number += 1;
                self.next_at = now + self.every;
                self.open = Some(Question { number: self.number, asked_at: now, since: now });
                Beat::Ping(self.number.to_be_bytes())
            }
            None => Beat::Until(self.next_at),
        }
    }

    /// A pong was heard: how long it took, when it answers the open ping and was not delayed by
    /// ourselves.
    pub(super) fn pong(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        let question = self.open.take_if(|q| q.number.to_be_bytes() == payload)?;
        (question.since == question.asked_at).then(|| now.duration_since(question.asked_at))
    }

    /// We stop listening.
    pub(super) fn deafen(&mut self, now: Instant) {
        self.deaf_since = Some(now);
    }

    /// We listen again.
    pub(super) fn listen(&mut self, now: Instant) {
        if let Some(since) = self.deaf_since.take()
            && now.duration_since(since) >= NOTABLE_DEAFNESS
            && let Some(question) = &mut self.open
        {
            question.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(5);
    const PATIENCE: Duration = Duration::from_secs(20);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn asks_at_once_then_every_five_seconds() {
        let t = Instant::now();
        let mut pulse = Pulse::new(EVERY, PATIENCE, t);
        assert_eq!(pulse.beat(t), Beat::Ping(1_u64.to_be_bytes()));
        assert_eq!(
            pulse.pong(&1_u64.to_be_bytes(), t + Duration::from_millis(30)),
            Some(Duration::from_millis(30))
        );
        assert_eq!(pulse.beat(t + s(1)), Beat::Until(t + s(5)));
        assert_eq!(pulse.beat(t + s(5)), Beat::Ping(2_u64.to_be_bytes()));
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let t = Instant::now();
        let mut pulse = Pulse::new(EVERY, PATIENCE, t);
        pulse.beat(t);
        for wrong in [&b""[..], b"x", &2_u64.to_be_bytes(), &[0; 9]] {
            assert_eq!(pulse.pong(wrong, t), None);
        }
        assert_eq!(pulse.beat(t + s(19)), Beat::Until(t + s(20)));
        assert_eq!(pulse.beat(t + s(20)), Beat::Dead);
    }

    #[test]
    fn silence_while_deaf_is_forgiven() {
        let t = Instant::now();
        let mut pulse = Pulse::new(EVERY, PATIENCE, t);
        pulse.beat(t);
        pulse.deafen(t + s(1));
        assert_eq!(pulse.beat(t + s(25)), Beat::Until(t + s(30)));
        pulse.listen(t + s(26));
        assert_eq!(pulse.beat(t + s(26)), Beat::Until(t + s(46)));
        assert_eq!(pulse.pong(&1_u64.to_be_bytes(), t + s(27)), None, "that is no round trip");
        assert_eq!(pulse.beat(t + s(27)), Beat::Ping(2_u64.to_be_bytes()));
    }

    #[test]
    fn a_moment_of_deafness_does_not_prolong_a_life() {
        let t = Instant::now();
        let mut pulse = Pulse::new(EVERY, PATIENCE, t);
        pulse.beat(t);
        for second in 0..20 {
            pulse.deafen(t + s(second));
            pulse.listen(t + s(second) + Duration::from_millis(900));
        }
        assert_eq!(pulse.beat(t + s(20)), Beat::Dead);
    }
}
