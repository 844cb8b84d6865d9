//! The timeouts of a [`Peer`].

use std::time::{Duration, Instant};

use boringtun::noise::TunnResult;

use super::Peer;
use super::timers::{MAINTENANCE_INTERVAL, TimerAction};
use super::wire::{ENCAPSULATE_BUFFER_MIN, u32_at};

/// Minimum interval between two initiations, however often they are requested.
const INITIATION_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// Maintenance interval of an idle tunnel, so that ten thousand of them cost little. No key is used
/// longer because of it.
const MAINTENANCE_INTERVAL_IDLE: Duration = Duration::from_secs(10);
/// Time without data after which a tunnel counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(1);

impl Peer {
    /// Performs the actions that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.maintenance_at {
            self.maintain(now);
            if now.saturating_duration_since(self.last_data_rx) > IDLE_AFTER {
                self.transmits.shrink();
                self.netstack.shrink();
            }
        }
        self.netstack.expire_silent(self.timers.last_rx, now);
        while let Some(due) = self.timers.poll(now, self.keys.usable(now)) {
            match due {
                TimerAction::Initiate if self.endpoint.is_none() => break,
                TimerAction::Initiate => self.send_initiation(now),
                TimerAction::Keepalive => self.send_keepalive(now),
            }
        }
        if !self.keys.usable(now)
            && self.netstack.has_users()
            && !self.timers.attempting()
            && !self.timers.attempt_expired()
        {
            self.send_initiation(now);
        }
    }

    /// When to call [`Peer::handle_timeout`] and [`Peer::flush`] next, if nothing else happens.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let usable = self.keys.usable(now);
        let tcp = if usable && !self.transmits.is_full() {
            self.netstack.poll_timeout(now)
        } else {
            None
        };
        let busy = self.keys.any() || self.timers.attempting() || self.netstack.connections() > 0;
        let maintenance = busy.then_some(self.maintenance_at);
        let expiry = self.keys.expires().filter(|&at| at > now);
        let stale = self.timers.unanswered_at().filter(|&at| at > now);
        let silence = self.netstack.next_expiry(self.timers.last_rx, now);
        // Without an endpoint there is nothing the timers could send to.
        let timers = if self.endpoint.is_some() { self.timers.next_timeout(usable) } else { None };
        [tcp, maintenance, expiry, stale, silence, timers].into_iter().flatten().min()
    }

    pub(super) fn maintain(&mut self, now: Instant) {
        let quiet = now.saturating_duration_since(self.last_data_rx) > IDLE_AFTER;
        self.maintenance_at =
            now + if quiet { MAINTENANCE_INTERVAL_IDLE } else { MAINTENANCE_INTERVAL };
        self.keys.expire(now);
        let mut buffer = [0; ENCAPSULATE_BUFFER_MIN];
        if let TunnResult::WriteToNetwork(message) = self.tunn.update_timers(&mut buffer) {
            let message = message.to_vec();
            let Some(to) = self.endpoint else { return };
            match u32_at(&message, 0) {
                Some(1) => self.record_initiation(now),
                _ => self.timers.packet_sent(now, false),
            }
            self.send_to(to, &message);
        }
    }

    /// Starts a handshake now, if the endpoint is known. For a caller that knows of a reason;
    /// handshakes required by WireGuard's timers are started without it.
    pub fn initiate(&mut self, now: Instant) {
        match self
            .initiated_at
            .map(|at| at + INITIATION_INTERVAL_MIN)
            .filter(|&earliest| self.timers.attempting() && now < earliest)
        {
            Some(earliest) => self.timers.retry_by(earliest),
            None => self.send_initiation(now),
        }
    }
}
