//! Segments that arrive at and leave a [`Netstack`], and the bytes that users read and write.

use std::io;
use std::time::Instant;

use super::super::types::{CONNECTIONS_MAX, ConnId, Progress, WINDOWS_MAX};
use super::{Netstack, Phase};
use crate::tunnel::tcp::{
    ByteQueue, Connection, Micros, PacketOutput, Segment, SegmentHeader, SegmentOutcome, State,
};

/// RST segments that may be queued; further ones are not sent.
const RESETS_MAX: usize = 32;
/// Segments a connection sends before the next connection's turn: a good part of a batch.
const QUANTUM: usize = 16;

impl Netstack {
    /// Handles one decrypted packet from the peer's address to ours. Anything but TCP is dropped
    /// without an answer.
    pub(in crate::tunnel::peer) fn ingress(&mut self, packet: &[u8], now: Instant) {
        let trusted = self.profile.is_own_stack();
        let Some(segment) = Segment::parse(packet, trusted).filter(|_| self.addrs.is_same_family())
        else {
            return;
        };
        let time = self.micros(now);
        let known = self.by_ports.get(&(segment.local_port, segment.remote_port)).copied();
        match known.and_then(|id| Some((id, self.conns.get_mut(&id)?))) {
            Some((id, conn)) => {
                self.ready_lists.mark_dirty(id, &mut conn.ready, true);
                match conn.tcp.handle_segment(&segment, &self.addrs, time) {
                    SegmentOutcome::Handled => {}
                    SegmentOutcome::SendReset => self.queue_reset(&segment),
                }
            }
            None if segment.is_syn() && self.listeners.contains_key(&segment.local_port) => {
                self.accept_syn(&segment, now)
            }
            None => self.queue_reset(&segment),
        }
    }

    /// Without space for the connection the SYN is dropped, and will be retransmitted.
    fn accept_syn(&mut self, syn: &Segment<'_>, now: Instant) {
        let backlog = self.listeners.get(&syn.local_port).copied().unwrap_or(0);
        let half_open = self
            .conns
            .values()
            .filter(|c| c.accepted && c.ports.0 == syn.local_port && c.phase == Phase::Opening)
            .count();
        if half_open < backlog && self.conns.len() < CONNECTIONS_MAX {
            let ports = (syn.local_port, syn.remote_port);
            let (iss, config, time) = (
                self.initial_sequence_number(ports, now),
                self.connection_config(now),
                self.micros(now),
            );
            let tcp = Connection::accept(syn, &self.addrs, iss, config, time);
            self.insert(tcp, ports, true, now);
        }
    }

    fn queue_reset(&mut self, segment: &Segment<'_>) {
        if !segment.is_rst() && self.resets.len() < RESETS_MAX {
            self.resets.push(SegmentHeader::rst_for(segment));
        }
    }

    /// Sends segments while the output is ready: connections take turns.
    pub(in crate::tunnel::peer) fn egress(&mut self, out: &mut impl PacketOutput, now: Instant) {
        let time = self.micros(now);
        while out.is_ready() {
            let Some(reset) = self.resets.pop() else { break };
            reset.emit(&self.addrs, out, 0, |_| {});
        }
        self.wake_expired(time);
        while out.is_ready() {
            let Some(id) = self.ready_lists.send_ready.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            if conn.tcp.transmit(&self.addrs, out, QUANTUM, time) {
                self.ready_lists.send_ready.push_back(id);
            } else {
                conn.ready.send_ready = false;
                self.next_deadline =
                    conn.tcp.deadline().map_or(self.next_deadline, |at| self.next_deadline.min(at));
            }
        }
    }

    /// Marks connections whose deadline has passed.
    fn wake_expired(&mut self, time: Micros) {
        if time < self.next_deadline {
            return;
        }
        let (due, later): (Vec<_>, Vec<_>) = self
            .conns
            .iter()
            .filter_map(|(&id, conn)| Some((id, conn.tcp.deadline()?)))
            .partition(|&(_, at)| at <= time);
        self.next_deadline = later.into_iter().map(|(_, at)| at).min().unwrap_or(Micros::MAX);
        due.into_iter().for_each(|(id, _)| self.mark_dirty(id, true));
    }

    /// Whether more could be sent if there were space.
    pub(in crate::tunnel::peer) fn has_pending_output(&self) -> bool {
        !self.ready_lists.send_ready.is_empty() || !self.resets.is_empty()
    }

    /// Bytes that buffers may still grow by.
    fn spare_window(&self) -> usize {
        let first: usize = self.profile.initial_buffers();
        WINDOWS_MAX.saturating_sub(self.allowance_total.saturating_sub(self.conns.len() * first))
    }

    /// Moves up to `limit` received bytes into `into`.
    pub(in crate::tunnel::peer) fn read(
        &mut self,
        id: ConnId,
        into: &mut ByteQueue,
        limit: usize,
        now: Instant,
    ) -> Progress {
        let (spare, time) = (self.spare_window(), self.micros(now));
        let Some(conn) = self.conns.get_mut(&id) else {
            return Progress::Failed(io::ErrorKind::NotConnected);
        };
        let moved = conn.tcp.read(into, limit, spare, time);
        let progress = match (moved, conn.tcp.state()) {
            (0, _) if conn.tcp.has_unread() => Progress::Pending,
            (0, _) if conn.tcp.is_at_eof() => Progress::Finished,
            (0, State::Closed) => Progress::Failed(failure_kind(conn.timed_out)),
            (0, _) => Progress::Pending,
            (moved, _) => Progress::Moved(moved),
        };
        if moved > 0 {
            self.ready_lists.mark_dirty(id, &mut conn.ready, false);
        }
        progress
    }

    /// Takes bytes to be sent from `from`, as many as there is space for.
    pub(in crate::tunnel::peer) fn write(&mut self, id: ConnId, from: &mut ByteQueue) -> Progress {
        let spare = self.spare_window();
        let Some(conn) = self.conns.get_mut(&id) else {
            return Progress::Failed(io::ErrorKind::NotConnected);
        };
        // What it was granted before remains granted.
        let spare = spare + conn.buffer_allowance;
        let moved = conn.tcp.write(from, spare);
        let progress = match (moved, conn.tcp.state()) {
            (0, State::Closed) if conn.fin_queued && !conn.timed_out => Progress::Finished,
            (0, State::Closed) => Progress::Failed(failure_kind(conn.timed_out)),
            (0, _) if conn.fin_queued => Progress::Finished,
            (0, _) => Progress::Pending,
            (moved, _) => Progress::Moved(moved),
        };
        if moved > 0 {
            self.ready_lists.mark_dirty(id, &mut conn.ready, false);
        }
        progress
    }
}

fn failure_kind(timed_out: bool) -> io::ErrorKind {
    if timed_out { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionReset }
}
