//! WebSocket keepalive and round-trip time: when to ping, what a pong means, when a missing pong
//! ends the stream. Pure: time is an argument.
//!
//! One ping is pending at a time. The next is due one `interval` after the last one was sent; the
//! stream ends when a ping is not answered within `timeout`. While the relay does not read from the
//! browser (it waits for the desktop to accept input), a pong cannot be received; that time does
//! not count.

use std::time::Duration;
use tokio::time::Instant;

/// A read pause shorter than this changes nothing.
const MIN_READ_PAUSE: Duration = Duration::from_secs(1);

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PingAction {
    /// Send a ping with this payload.
    Ping([u8; 8]),
    /// Nothing before this time.
    WaitUntil(Instant),
    /// The pong did not come in time.
    TimedOut,
}

#[derive(Debug)]
struct PendingPing {
    number: u64,
    sent_at: Instant,
    /// Start of the wait for the pong; later than `sent_at` after a read pause.
    waiting_since: Instant,
}

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

    /// What to do at `now`. A returned [`PingAction::Ping`] counts as sent.
    pub(super) fn poll(&mut self, now: Instant) -> PingAction {
        match &self.pending {
            Some(_) if self.reads_paused_since.is_some() => {
                PingAction::WaitUntil(now + self.interval)
            }
            Some(ping) if now >= ping.waiting_since + self.timeout => PingAction::TimedOut,
            Some(ping) => PingAction::WaitUntil(ping.waiting_since + self.timeout),
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

    /// A pong was received. Returns the round-trip time when it answers the pending ping and no
    /// read pause delayed it.
    pub(super) fn pong(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        let ping = self.pending.take_if(|q| q.number.to_be_bytes() == payload)?;
        (ping.waiting_since == ping.sent_at).then(|| now.duration_since(ping.sent_at))
    }

    /// The relay stops reading from the browser.
    pub(super) fn pause_reads(&mut self, now: Instant) {
        self.reads_paused_since = Some(now);
    }

    /// The relay reads again.
    pub(super) fn resume_reads(&mut self, now: Instant) {
        if let Some(since) = self.reads_paused_since.take()
            && now.duration_since(since) >= MIN_READ_PAUSE
            && let Some(ping) = &mut self.pending
        {
            ping.waiting_since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pings_at_once_then_every_five_seconds() {
        let t = Instant::now();
        let mut state = PingState::new(INTERVAL, TIMEOUT, t);
        assert_eq!(state.poll(t), PingAction::Ping(1_u64.to_be_bytes()));
        assert_eq!(
            state.pong(&1_u64.to_be_bytes(), t + Duration::from_millis(30)),
            Some(Duration::from_millis(30))
        );
        assert_eq!(state.poll(t + s(1)), PingAction::WaitUntil(t + s(5)));
        assert_eq!(state.poll(t + s(5)), PingAction::Ping(2_u64.to_be_bytes()));
    }

    #[test]
    fn only_the_pong_of_the_pending_ping_counts() {
        let t = Instant::now();
        let mut state = PingState::new(INTERVAL, TIMEOUT, t);
        state.poll(t);
        for wrong in [&b""[..], b"x", &2_u64.to_be_bytes(), &[0; 9]] {
            assert_eq!(state.pong(wrong, t), None);
        }
        assert_eq!(state.poll(t + s(19)), PingAction::WaitUntil(t + s(20)));
        assert_eq!(state.poll(t + s(20)), PingAction::TimedOut);
    }

    #[test]
    fn a_read_pause_does_not_count_as_a_missing_pong() {
        let t = Instant::now();
        let mut state = PingState::new(INTERVAL, TIMEOUT, t);
        state.poll(t);
        state.pause_reads(t + s(1));
        assert_eq!(state.poll(t + s(25)), PingAction::WaitUntil(t + s(30)));
        state.resume_reads(t + s(26));
        assert_eq!(state.poll(t + s(26)), PingAction::WaitUntil(t + s(46)));
        assert_eq!(state.pong(&1_u64.to_be_bytes(), t + s(27)), None, "that is no round trip");
        assert_eq!(state.poll(t + s(27)), PingAction::Ping(2_u64.to_be_bytes()));
    }

    #[test]
    fn short_read_pauses_do_not_extend_the_timeout() {
        let t = Instant::now();
        let mut state = PingState::new(INTERVAL, TIMEOUT, t);
        state.poll(t);
        for second in 0..20 {
            state.pause_reads(t + s(second));
            state.resume_reads(t + s(second) + Duration::from_millis(900));
        }
        assert_eq!(state.poll(t + s(20)), PingAction::TimedOut);
    }
}
