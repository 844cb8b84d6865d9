//! State changes of connections: opened, failed, timed out, closed.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::super::types::{ConnId, Event};
use super::{Conn, Netstack, Phase};
use crate::tunnel::mtu::MTU;
use crate::tunnel::tcp::{Micros, State};

/// A connection in SYN-RECEIVED for this long is reset.
const SYN_RECEIVED_TIMEOUT: Duration = Duration::from_secs(10);
/// A released connection may take this long to close.
const LINGER: Duration = Duration::from_secs(20);
/// With this many connections or fewer the largest RTT is always up to date; with more it may be
/// this old.
const RTT_SCAN_CONNECTIONS: usize = 8;
const RTT_SCAN_INTERVAL: Duration = Duration::from_millis(20);

impl Conn {
    /// Reports the end of the handshake; returns true if it took too long and was aborted.
    fn advance_opening(&mut self, id: ConnId, events: &mut VecDeque<Event>, now: Instant) -> bool {
        match self.tcp.state() {
            State::SynSent | State::SynReceived => {
                let expired = self.accepted && now >= self.created + SYN_RECEIVED_TIMEOUT;
                if expired {
                    self.tcp.abort();
                }
                return expired;
            }
            State::Closed => {
                let kind = if self.timed_out {
                    io::ErrorKind::TimedOut
                } else {
                    io::ErrorKind::ConnectionRefused
                };
                if !self.accepted && self.released.is_none() {
                    events.push_back(Event::ConnectFailed { conn: id, kind });
                }
                self.released.get_or_insert(now);
            }
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => {
                self.phase = Phase::Open;
                let port = self.ports.0;
                events.push_back(if self.accepted {
                    Event::Accepted { conn: id, port }
                } else {
                    Event::Connected { conn: id }
                });
            }
        }
        false
    }

    /// Nobody reads any more: further data, or a missing FIN, is answered with a RST (RFC 2525,
    /// section 2.17).
    fn must_reset(&self, released: Instant, now: Instant) -> bool {
        self.tcp.state() != State::Closed && (self.tcp.has_unread() || now >= released + LINGER)
    }
}

impl Netstack {
    /// Aborts connections whose peer was last heard from too long ago. Each sends a probe every
    /// quarter of the timeout, so a live peer answers.
    pub(in crate::tunnel::peer) fn expire_silent(
        &mut self,
        last_rx: Option<Instant>,
        now: Instant,
    ) {
        let timeout = self.timeout;
        if last_rx.is_some_and(|last_rx| now < last_rx + timeout) {
            return;
        }
        let silent = |conn: &Conn| {
            !conn.timed_out && now >= last_rx.max(Some(conn.created)).unwrap_or(now) + timeout
        };
        let timed_out: Vec<_> =
            self.conns.iter().filter(|(_, conn)| silent(conn)).map(|(&id, _)| id).collect();
        for id in timed_out {
            self.conns.entry(id).and_modify(|conn| conn.timed_out = true);
            self.abort(id);
        }
    }

    /// When [`Netstack::expire_silent`] may next have to act, if nothing is received.
    pub(in crate::tunnel::peer) fn next_expiry(
        &self,
        last_rx: Option<Instant>,
        now: Instant,
    ) -> Option<Instant> {
        if let Some(at) = last_rx
            .map(|last_rx| last_rx + self.timeout)
            .filter(|&at| now < at && !self.conns.is_empty())
        {
            return Some(at);
        }
        let conns = self.conns.values().filter(|conn| !conn.timed_out);
        conns
            .filter_map(|conn| last_rx.max(Some(conn.created)))
            .min()
            .map(|since| since + self.timeout)
    }

    /// Collects state changes of connections: opened, failed, closed.
    pub(in crate::tunnel::peer) fn collect_events(
        &mut self,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) {
        let (mut closed, mut aborted, mut blackhole_detected) = (Vec::new(), Vec::new(), false);
        let mut dirty = self.ready_lists.take_dirty();
        for id in dirty.drain(..) {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            conn.ready.dirty = false;
            if conn.phase == Phase::Opening && conn.advance_opening(id, events, now) {
                aborted.push(id);
            }
            if let Some(since) = conn.released {
                if conn.must_reset(since, now) {
                    conn.tcp.abort();
                    aborted.push(id);
                }
                if conn.tcp.is_fully_closed() || now >= since + 2 * LINGER {
                    closed.push(id);
                }
            }
            conn.ready.opening_or_closing = conn.phase == Phase::Opening || conn.released.is_some();
            blackhole_detected |= conn.tcp.path_mtu() < self.mtu;
            if let Some(payload) = conn.tcp.blackhole_payload() {
                self.blackhole = Some((payload, now));
            }
            let (buffer_allowance, retransmits) =
                (conn.tcp.buffer_allowance(), conn.tcp.retransmits());
            self.allowance_total =
                self.allowance_total.saturating_sub(conn.buffer_allowance) + buffer_allowance;
            self.retransmits += retransmits - conn.retransmits;
            (conn.buffer_allowance, conn.retransmits) = (buffer_allowance, retransmits);
        }
        self.ready_lists.dirty = dirty;
        for id in closed {
            if let Some(conn) = self.conns.remove(&id) {
                self.by_ports.remove(&conn.ports);
                self.allowance_total = self.allowance_total.saturating_sub(conn.buffer_allowance);
            }
        }
        self.ready_lists
            .opening_or_closing
            .retain(|id| self.conns.get(id).is_some_and(|conn| conn.ready.opening_or_closing));
        aborted.into_iter().for_each(|id| self.mark_dirty(id, true));
        self.update_max_rtt(now);
        if blackhole_detected {
            self.set_path_mtu(MTU);
        }
    }

    fn update_max_rtt(&mut self, now: Instant) {
        let recent = |&(_, seen): &(Micros, Instant)| {
            now.saturating_duration_since(seen) < RTT_SCAN_INTERVAL
        };
        if self.conns.len() <= RTT_SCAN_CONNECTIONS || !self.max_rtt.as_ref().is_some_and(recent) {
            self.max_rtt = self
                .conns
                .values()
                .filter_map(|conn| conn.tcp.smoothed_rtt())
                .max()
                .map(|rtt| (rtt, now));
        }
    }

    /// When TCP wants to be called again, at the latest.
    pub(in crate::tunnel::peer) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let pending = self
            .ready_lists
            .send_ready
            .iter()
            .filter_map(|id| self.conns.get(id)?.tcp.deadline())
            .min();
        let at = self.next_deadline.min(pending.unwrap_or(Micros::MAX));
        let at = (at < Micros::MAX && !self.conns.is_empty()).then_some(at)?;
        Some(self.epoch.checked_add(Duration::from_micros(at))?.max(now))
    }
}
