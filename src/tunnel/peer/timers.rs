//! WireGuard's timers (paper, section 6), with the time as an argument.
//!
//! - An **attempt** is a series of handshake initiations, one every [`REKEY_TIMEOUT`] plus jitter,
//!   for at most [`REKEY_ATTEMPT_TIME`].
//! - Data is **unanswered** from the first data packet sent after the last authenticated one
//!   received.
//! - [`Timers::poll`] returns the action due now; the peer performs it and records that it did.
//!
//! Only deadlines are kept here: no keys, no packets.

use std::time::{Duration, Instant};

/// An initiator rekeys when the current keys are this old.
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Keys of this age are used in neither direction.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// An unanswered initiation is sent again after this time, plus jitter.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// An attempt ends after this time.
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// Received data is answered with a keepalive after this time without sending.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Unanswered data starts a handshake after this time (KEEPALIVE_TIMEOUT + REKEY_TIMEOUT): the peer
/// may have lost its keys.
pub const NEW_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often expired keys are removed.
pub const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
const REKEY_TIMEOUT_JITTER_MAX_MS: u64 = 334;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimerAction {
    /// Send a handshake initiation.
    Initiate,
    /// Send an empty packet.
    Keepalive,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    started: Instant,
    retry_at: Instant,
}

#[derive(Debug)]
pub(super) struct Timers {
    attempt: Option<Attempt>,
    next_attempt_at: Option<Instant>,
    attempt_expired: bool,
    unanswered_since: Option<Instant>,
    passive_keepalive_at: Option<Instant>,
    persistent_keepalive: Option<Duration>,
    persistent_keepalive_at: Option<Instant>,
    pub(super) last_rx: Option<Instant>,
    jitter: SplitMix64,
}

impl Timers {
    pub(super) fn new(keepalive: Option<Duration>, seed: u64, now: Instant) -> Self {
        let persistent_keepalive = keepalive.filter(|interval| !interval.is_zero());
        Self {
            attempt: None,
            // With a persistent keepalive, a session is wanted from the start.
            next_attempt_at: persistent_keepalive.map(|_| now),
            attempt_expired: false,
            unanswered_since: None,
            passive_keepalive_at: None,
            persistent_keepalive,
            persistent_keepalive_at: None,
            last_rx: None,
            jitter: SplitMix64(seed),
        }
    }

    /// The action due at `now`; to be called until it returns `None`. `keyed`: there is a key to
    /// send with.
    pub(super) fn poll(&mut self, now: Instant, keyed: bool) -> Option<TimerAction> {
        if let Some(attempt) = self.attempt {
            if now >= attempt.started + REKEY_ATTEMPT_TIME {
                self.attempt = None;
                self.attempt_expired = true;
                // With a persistent keepalive the attempts go on; otherwise the next use starts
                // one.
                self.next_attempt_at = self.persistent_keepalive.map(|interval| now + interval);
            } else if now >= attempt.retry_at {
                return Some(TimerAction::Initiate);
            }
            return None;
        }
        if self.next_attempt_at.is_some_and(|at| now >= at) {
            return Some(TimerAction::Initiate);
        }
        if !keyed {
            return None;
        }
        if self.is_unanswered(now) {
            return Some(TimerAction::Initiate);
        }
        if self.passive_keepalive_at.is_some_and(|at| now >= at)
            || self.persistent_keepalive_at.is_some_and(|at| now >= at)
        {
            return Some(TimerAction::Keepalive);
        }
        None
    }

    /// When [`Timers::poll`] may next return an action.
    pub(super) fn next_timeout(&self, keyed: bool) -> Option<Instant> {
        if let Some(attempt) = self.attempt {
            return Some(attempt.retry_at.min(attempt.started + REKEY_ATTEMPT_TIME));
        }
        let unanswered = self.unanswered_since.map(|since| since + NEW_HANDSHAKE_TIMEOUT);
        let keyed = if keyed {
            [unanswered, self.passive_keepalive_at, self.persistent_keepalive_at]
        } else {
            [None; 3]
        };
        keyed.into_iter().chain([self.next_attempt_at]).flatten().min()
    }

    pub(super) fn initiation_sent(&mut self, now: Instant) {
        let jitter = Duration::from_millis(self.jitter.next() % REKEY_TIMEOUT_JITTER_MAX_MS);
        let began = self.attempt.map_or(now, |attempt| attempt.started);
        self.attempt = Some(Attempt { started: began, retry_at: now + REKEY_TIMEOUT + jitter });
        self.next_attempt_at = None;
        self.attempt_expired = false;
    }

    /// Moves the next initiation of the current attempt forward.
    pub(super) fn retry_by(&mut self, at: Instant) {
        if let Some(attempt) = &mut self.attempt {
            attempt.retry_at = attempt.retry_at.min(at);
        }
    }

    /// New session keys are in use.
    pub(super) fn session_established(&mut self, now: Instant) {
        self.attempt = None;
        self.next_attempt_at = None;
        self.attempt_expired = false;
        self.packet_received(now, false);
        self.persistent_keepalive_at = self.persistent_keepalive.map(|interval| now + interval);
    }

    /// An authentic packet arrived; `data`: it was not empty.
    pub(super) fn packet_received(&mut self, now: Instant, data: bool) {
        self.last_rx = Some(now);
        self.unanswered_since = None;
        if data && self.passive_keepalive_at.is_none() {
            self.passive_keepalive_at = Some(now + KEEPALIVE_TIMEOUT);
        }
    }

    /// A transport packet was sent; `data`: it was not empty.
    pub(super) fn packet_sent(&mut self, now: Instant, data: bool) {
        self.passive_keepalive_at = None;
        self.persistent_keepalive_at = self.persistent_keepalive.map(|interval| now + interval);
        if data && self.unanswered_since.is_none() {
            self.unanswered_since = Some(now);
        }
    }

    pub(super) fn attempting(&self) -> bool {
        self.attempt.is_some()
    }

    /// The last attempt ended without an answer.
    pub(super) fn attempt_expired(&self) -> bool {
        self.attempt_expired
    }

    pub(super) fn is_unanswered(&self, now: Instant) -> bool {
        self.unanswered_since.is_some_and(|since| now >= since + NEW_HANDSHAKE_TIMEOUT)
    }

    /// When data will count as unanswered, unless a packet is received.
    pub(super) fn unanswered_at(&self) -> Option<Instant> {
        self.unanswered_since.map(|since| since + NEW_HANDSHAKE_TIMEOUT)
    }
}

/// SplitMix64, a small seeded generator: jitter and port numbers need repeatability, not secrecy.
#[derive(Debug, Clone)]
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn an_attempt_retries_every_five_seconds_and_ends_after_ninety() {
        let t0 = Instant::now();
        let mut timers = Timers::new(None, 1, t0);
        timers.initiation_sent(t0);
        let (mut now, mut sent) = (t0, 1);
        while let Some(at) = timers.next_timeout(false) {
            now = at;
            if timers.poll(now, false) == Some(TimerAction::Initiate) {
                timers.initiation_sent(now);
                sent += 1;
            }
        }
        assert_eq!(now, t0 + REKEY_ATTEMPT_TIME);
        assert!((17..=18).contains(&sent), "{sent}");
        assert!(timers.attempt_expired());
    }

    #[test]
    fn attempts_go_on_with_a_persistent_keepalive() {
        let t0 = Instant::now();
        let mut timers = Timers::new(Some(25 * S), 1, t0);
        timers.initiation_sent(t0);
        let mut last = t0;
        while last < t0 + 1000 * S {
            last = timers.next_timeout(false).unwrap_or(t0);
            if timers.poll(last, false).is_some() {
                timers.initiation_sent(last);
            }
        }
        assert!(last >= t0 + 1000 * S);
    }

    #[test]
    fn received_data_is_answered_with_a_keepalive_within_ten_seconds() {
        let t0 = Instant::now();
        let mut timers = Timers::new(None, 1, t0);
        timers.packet_received(t0, true);
        timers.packet_received(t0 + 5 * S, true);
        assert_eq!(timers.next_timeout(true), Some(t0 + KEEPALIVE_TIMEOUT));
        assert_eq!(timers.poll(t0 + KEEPALIVE_TIMEOUT, true), Some(TimerAction::Keepalive));
        timers.packet_sent(t0 + KEEPALIVE_TIMEOUT, false);
        assert_eq!(timers.next_timeout(true), None);
    }

    #[test]
    fn unanswered_data_starts_a_handshake() {
        let t0 = Instant::now();
        let mut timers = Timers::new(None, 1, t0);
        timers.packet_sent(t0, true);
        timers.packet_sent(t0 + 10 * S, true);
        assert_eq!(timers.poll(t0 + 14 * S, true), None);
        assert_eq!(timers.poll(t0 + 15 * S, true), Some(TimerAction::Initiate));
        timers.packet_received(t0 + 15 * S, false);
        assert_eq!(timers.poll(t0 + 15 * S, true), None);
    }
}
