//! Whether the browser lives, and how far it is: when to ping, what a pong says, when silence is
//! the end. Pure: the moment is an argument.
//!
//! One ping is under way at a time. The next is due one `every` after the last was; an unanswered
//! one is the end after `patience`. While the relay itself does not listen (it waits for the
//! desktop to take input), a pong cannot be heard: that silence is not held against the browser.

use std::time::Duration;
use tokio::time::Instant;

/// Listening deaf for less than this changes nothing.
const MIN_READ_PAUSE: Duration = Duration::from_secs(1);

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PingAction {
    /// Send a ping with these bytes.
    Ping([u8; 8]),
    /// Nothing before this moment.
    WaitUntil(Instant),
    /// The browser is gone.
    TimedOut,
}

/// A ping under way.
#[derive(Debug)]
struct PendingPing {
    number: u64,
    sent_at: Instant,
    /// The answer is waited for from here; later than `asked_at` when we were deaf.
    waiting_since: Instant,
}

/// The state of it.
#[derive(Debug)]
pub(super) struct PingState {
    interval: Duration,
    timeout: Duration,
    next_at: Instant,
    number: u64,
    pending: Option<PendingPing>,
    reads_paused_since: Option<Instant>,
}

impl PingState {
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, next_at: now, number: 0, pending: None, reads_paused_since: None }
    }

    /// What to do at `now`. A [`PingAction::Ping`] is taken as sent.
    pub(super) fn poll(&mut self, now: Instant) -> PingAction {
        match &self.pending {
            Some(_) if self.reads_paused_since.is_some() => {
                PingAction::WaitUntil(now + self.interval)
            }
            Some(question) if now >= question.waiting_since + self.timeout => PingAction::TimedOut,
            Some(question) => PingAction::WaitUntil(question.waiting_since + self.timeout),
            None if now >= self.next_at => {
                self.number += 1;
                self.next_at = now + self.interval;
                self.pending =
                    Some(PendingPing { number: self.number, sent_at: now, waiting_since: now });
                PingAction::Ping(self.number.to_be_bytes())
            }
            None => PingAction::WaitUntil(self.next_at),
        }
    }

    /// A pong was heard: how long it took, when it answers the open ping and was not delayed by
    /// ourselves.
    pub(super) fn pong(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        let question = self.pending.take_if(|q| q.number.to_be_bytes() == payload)?;
        (question.waiting_since == question.sent_at).then(|| now.duration_since(question.sent_at))
    }

    /// We stop listening.
    pub(super) fn pause_reads(&mut self, now: Instant) {
        self.reads_paused_since = Some(now);
    }

    /// We listen again.
    pub(super) fn resume_reads(&mut self, now: Instant) {
        if let Some(since) = self.reads_paused_since.take()
            && now.duration_since(since) >= MIN_READ_PAUSE
            && let Some(question) = &mut self.pending
        {
            question.waiting_since = now;
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
        let mut pulse = PingState::new(EVERY, PATIENCE, t);
        assert_eq!(pulse.poll(t), PingAction::Ping(1_u64.to_be_bytes()));
        assert_eq!(
            pulse.pong(&1_u64.to_be_bytes(), t + Duration::from_millis(30)),
            Some(Duration::from_millis(30))
        );
        assert_eq!(pulse.poll(t + s(1)), PingAction::WaitUntil(t + s(5)));
        assert_eq!(pulse.poll(t + s(5)), PingAction::Ping(2_u64.to_be_bytes()));
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let t = Instant::now();
        let mut pulse = PingState::new(EVERY, PATIENCE, t);
        pulse.poll(t);
        for wrong in [&b""[..], b"x", &2_u64.to_be_bytes(), &[0; 9]] {
            assert_eq!(pulse.pong(wrong, t), None);
        }
        assert_eq!(pulse.poll(t + s(19)), PingAction::WaitUntil(t + s(20)));
        assert_eq!(pulse.poll(t + s(20)), PingAction::TimedOut);
    }

    #[test]
    fn silence_while_deaf_is_forgiven() {
        let t = Instant::now();
        let mut pulse = PingState::new(EVERY, PATIENCE, t);
        pulse.poll(t);
        pulse.pause_reads(t + s(1));
        assert_eq!(pulse.poll(t + s(25)), PingAction::WaitUntil(t + s(30)));
        pulse.resume_reads(t + s(26));
        assert_eq!(pulse.poll(t + s(26)), PingAction::WaitUntil(t + s(46)));
        assert_eq!(pulse.pong(&1_u64.to_be_bytes(), t + s(27)), None, "that is no round trip");
        assert_eq!(pulse.poll(t + s(27)), PingAction::Ping(2_u64.to_be_bytes()));
    }

    #[test]
    fn a_moment_of_deafness_does_not_prolong_a_life() {
        let t = Instant::now();
        let mut pulse = PingState::new(EVERY, PATIENCE, t);
        pulse.poll(t);
        for second in 0..20 {
            pulse.pause_reads(t + s(second));
            pulse.resume_reads(t + s(second) + Duration::from_millis(900));
        }
        assert_eq!(pulse.poll(t + s(20)), PingAction::TimedOut);
    }
}
