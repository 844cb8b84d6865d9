//! The TCP connections of one tunnel: between its two addresses, with no operating system.
//!
//! - A **connection** ([`ConnId`]) is one that we opened or accepted.
//! - It is **opening** until its handshake ends, then **open**, and **released** when its user has
//!   let go: then it is closed in good order and forgotten, or reset when the other end still talks
//!   to nobody.
//! - It is **lost** when the tunnel has heard nothing authentic for the configured time.
//! - A **listener** has no idle connection: one is made when a request for its port arrives, so
//!   waiting costs no memory.
//! - The windows of all connections together have a limit; each starts small, and may grow while
//!   something is **spare**.
//! - Most connections do nothing most of the time, and cost nothing then: who is looked at is in a
//!   list (see `marks`).

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::ready_lists::{ReadyFlags, ReadyLists};
use super::timers::SplitMix64;
use super::{Event, MTU, PeerError, Profile};
use crate::tunnel::tcp::{
    AddressPair, ByteQueue, Connection, ConnectionConfig, Micros, PacketOutput, Segment,
    SegmentHeader, SegmentOutcome, State,
};

/// Most connections of one tunnel.
pub const CONNECTIONS_MAX: usize = 256;
/// Most bytes that the windows of a tunnel's connections may grow to together, beyond the 64 KiB
/// each way that every connection starts with.
pub const WINDOWS_MAX: usize = 16 << 20;
/// A connection request that is not completed in this time is reset.
const SYN_RECEIVED_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection its user has let go of may take this long to close.
const LINGER: Duration = Duration::from_secs(20);
/// First of the ports used for outgoing connections (RFC 6335, dynamic ports).
const EPHEMERAL_PORT_FIRST: u16 = 49152;
/// Resets that may wait to be sent; more are not.
const RESETS_MAX: usize = 32;
/// How long a path is remembered as narrow (RFC 8899, section 5.1.1).
const BLACKHOLE_TTL: Duration = Duration::from_secs(600);
/// Segments a connection sends before it is another's turn: a good part of a train.
const QUANTUM: usize = 16;
/// Connections that are few, and how old a figure about many may be.
const RTT_SCAN_CONNECTIONS: usize = 8;
const RTT_SCAN_INTERVAL: Duration = Duration::from_millis(20);

/// One TCP connection of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// What reading or writing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes.
    Moved(usize),
    /// Nothing now.
    Pending,
    /// The other end has said all it had to say.
    Finished,
    /// The connection is gone.
    Failed(io::ErrorKind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
}

#[derive(Debug)]
struct Conn {
    tcp: Connection,
    /// Our port and theirs.
    ports: (u16, u16),
    accepted: bool,
    phase: Phase,
    created: Instant,
    released: Option<Instant>,
    fin_queued: bool,
    timed_out: bool,
    ready: ReadyFlags,
    /// Segments it sent again, as counted among all.
    retransmits: u64,
    /// What it may hold at present, as counted among all.
    buffer_allowance: usize,
}

pub(super) struct Netstack {
    flow: AddressPair,
    epoch: Instant,
    last_now: Instant,
    last_micros: Micros,
    profile: Profile,
    timeout: Duration,
    /// Each in a box: a map's node has room for eleven, and most tunnels have one connection.
    conns: BTreeMap<ConnId, Box<Conn>>,
    by_ports: BTreeMap<(u16, u16), ConnId>,
    listeners: BTreeMap<u16, usize>,
    next_conn: u64,
    ready_lists: ReadyLists,
    /// No connection asks for the clock before this, in the tunnel's time. Set forward when it has
    /// come, not when one asks for a later moment.
    next_deadline: Micros,
    isn_secret: u64,
    port_rng: SplitMix64,
    resets: Vec<SegmentHeader>,
    /// Payload of the segments that get through, when large ones do not, and when that was last
    /// seen.
    blackhole: Option<(usize, Instant)>,
    /// The largest packet that the path is known to carry, and the largest that is welcome.
    mtu: usize,
    mtu_max: usize,
    /// Sum of the allowances, and of the segments that were sent again.
    allowance_total: usize,
    retransmits: u64,
    /// The longest round trip of a connection, and when it was looked for.
    max_rtt: Option<(Micros, Instant)>,
}

impl Netstack {
    pub(super) fn new(
        local: IpAddr,
        remote: IpAddr,
        profile: Profile,
        mtu_max: usize,
        timeout: Duration,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            flow: AddressPair { local, remote },
            epoch: now,
            last_now: now,
            last_micros: 0,
            profile,
            timeout,
            conns: BTreeMap::new(),
            by_ports: BTreeMap::new(),
            listeners: BTreeMap::new(),
            next_conn: 0,
            ready_lists: ReadyLists::default(),
            next_deadline: Micros::MAX,
            isn_secret: seed,
            port_rng: SplitMix64(seed ^ 0x5ea1),
            resets: Vec::new(),
            blackhole: None,
            mtu: MTU,
            mtu_max,
            allowance_total: 0,
            retransmits: 0,
            max_rtt: None,
        }
    }

    /// The time since the tunnel was made. A clock that jumps back stands still here until it has
    /// caught up.
    fn micros(&mut self, now: Instant) -> Micros {
        // Asked for every packet of a batch, which all have one time.
        if now != self.last_now {
            self.last_now = now;
            let micros = now.saturating_duration_since(self.epoch).as_micros();
            self.last_micros =
                self.last_micros.max(Micros::try_from(micros).unwrap_or(Micros::MAX));
        }
        self.last_micros
    }

    fn connection_config(&self, now: Instant) -> ConnectionConfig {
        let (receive, send) = self.profile.buffers_max();
        // A new connection begins with what its neighbours found out, and asks the other end for no
        // larger segments: a path is mostly narrow both ways.
        let narrow =
            self.blackhole.filter(|&(_, seen)| now.saturating_duration_since(seen) < BLACKHOLE_TTL);
        let mtu =
            narrow.map_or(self.mtu_max, |(payload, _)| (payload + self.flow.header_len()).min(MTU));
        ConnectionConfig {
            receive_buffer_max: receive,
            send_buffer_max: send,
            mtu_max: mtu,
            path_mtu: self.mtu,
            keepalive_interval: Micros::try_from((self.timeout / 4).as_micros())
                .unwrap_or(Micros::MAX),
        }
    }

    /// Where a connection's sequence numbers begin (RFC 6528): a clock, plus a secret function of
    /// its addresses and ports.
    fn initial_sequence_number(&mut self, ports: (u16, u16), now: Instant) -> u32 {
        let mut hash = DefaultHasher::new();
        (self.isn_secret, self.flow.local, self.flow.remote, ports).hash(&mut hash);
        (hash.finish() as u32).wrapping_add((self.micros(now) / 4) as u32)
    }

    fn insert(
        &mut self,
        tcp: Connection,
        ports: (u16, u16),
        accepted: bool,
        now: Instant,
    ) -> ConnId {
        let id = ConnId(self.next_conn);
        self.next_conn += 1;
        let allowance = tcp.buffer_allowance();
        self.allowance_total += allowance;
        let phase = Phase::Opening;
        let (released, closed, lost, mut marks, repeated) =
            (None, false, false, ReadyFlags::default(), 0);
        self.ready_lists.mark_dirty(id, &mut marks, true);
        self.ready_lists.track_transition(id, &mut marks);
        let conn = Conn {
            tcp,
            ports,
            accepted,
            phase,
            created: now,
            released,
            fin_queued: closed,
            timed_out: lost,
            ready: marks,
            retransmits: repeated,
            buffer_allowance: allowance,
        };
        self.conns.insert(id, Box::new(conn));
        self.by_ports.insert(ports, id);
        id
    }

    /// Something was done to a connection; `stir`: something its user did not do.
    fn mark_dirty(&mut self, id: ConnId, stir: bool) {
        if let Some(conn) = self.conns.get_mut(&id) {
            self.ready_lists.mark_dirty(id, &mut conn.ready, stir);
        }
    }

    /// Gives the memory of empty lists back.
    pub(super) fn shrink(&mut self) {
        self.ready_lists.shrink();
    }

    fn mark_all_dirty(&mut self) {
        for (&id, conn) in &mut self.conns {
            self.ready_lists.mark_dirty(id, &mut conn.ready, true);
        }
    }

    /// Adds the connections whose users may find something new since this was asked last.
    pub(super) fn drain_ready(&mut self, into: &mut Vec<ConnId>) {
        for id in self.ready_lists.notify_user.drain(..) {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.ready.notify_user = false;
                into.push(id);
            }
        }
    }

    pub(super) fn connect(&mut self, port: u16, now: Instant) -> Result<ConnId, PeerError> {
        if self.conns.len() >= CONNECTIONS_MAX {
            return Err(PeerError::TooManyConnections);
        }
        if port == 0 || !self.flow.is_same_family() {
            return Err(PeerError::Unaddressable);
        }
        let ports = (self.ephemeral_port(), port);
        let (number, limits, time) = (
            self.initial_sequence_number(ports, now),
            self.connection_config(now),
            self.micros(now),
        );
        let tcp = Connection::connect(ports.0, ports.1, &self.flow, number, limits, time);
        Ok(self.insert(tcp, ports, false, now))
    }

    fn ephemeral_port(&mut self) -> u16 {
        loop {
            // 256 connections at most, 16384 ports: ends at once.
            let port = EPHEMERAL_PORT_FIRST
                + (self.port_rng.next() % u64::from(u16::MAX - EPHEMERAL_PORT_FIRST)) as u16;
            if !self.conns.values().any(|conn| conn.ports.0 == port)
                && !self.listeners.contains_key(&port)
            {
                return port;
            }
        }
    }

    pub(super) fn listen(&mut self, port: u16, backlog: usize) -> Result<(), PeerError> {
        if port == 0 || self.listeners.contains_key(&port) {
            return Err(PeerError::PortInUse);
        }
        self.listeners.insert(port, backlog.clamp(1, CONNECTIONS_MAX));
        Ok(())
    }

    /// Stops listening and resets what was not yet accepted.
    pub(super) fn unlisten(&mut self, port: u16) {
        if self.listeners.remove(&port).is_some() {
            let opening =
                |conn: &Conn| conn.accepted && conn.ports.0 == port && conn.phase == Phase::Opening;
            let gone: Vec<_> =
                self.conns.iter().filter(|(_, conn)| opening(conn)).map(|(&id, _)| id).collect();
            gone.into_iter().for_each(|id| self.abort(id));
        }
    }

    /// Takes in one decrypted packet from the peer's address to ours. What is no TCP is for nobody
    /// here, and gets no answer.
    pub(super) fn ingress(&mut self, packet: &[u8], now: Instant) {
        let vouched = self.profile.is_own_stack();
        let Some(segment) = Segment::parse(packet, vouched).filter(|_| self.flow.is_same_family())
        else {
            return;
        };
        let time = self.micros(now);
        let known = self.by_ports.get(&(segment.local_port, segment.remote_port)).copied();
        match known.and_then(|id| Some((id, self.conns.get_mut(&id)?))) {
            Some((id, conn)) => {
                self.ready_lists.mark_dirty(id, &mut conn.ready, true);
                match conn.tcp.handle_segment(&segment, &self.flow, time) {
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

    /// A connection request. Without room for it, it is dropped, and will be repeated.
    fn accept_syn(&mut self, syn: &Segment<'_>, now: Instant) {
        let backlog = self.listeners.get(&syn.local_port).copied().unwrap_or(0);
        let half_open = self
            .conns
            .values()
            .filter(|c| c.accepted && c.ports.0 == syn.local_port && c.phase == Phase::Opening)
            .count();
        if half_open < backlog && self.conns.len() < CONNECTIONS_MAX {
            let ports = (syn.local_port, syn.remote_port);
            let (number, limits, time) = (
                self.initial_sequence_number(ports, now),
                self.connection_config(now),
                self.micros(now),
            );
            let tcp = Connection::accept(syn, &self.flow, number, limits, time);
            self.insert(tcp, ports, true, now);
        }
    }

    fn queue_reset(&mut self, segment: &Segment<'_>) {
        if !segment.is_rst() && self.resets.len() < RESETS_MAX {
            self.resets.push(SegmentHeader::rst_for(segment));
        }
    }

    /// Sends what TCP has to send, as far as the outlet takes it: connections take turns.
    pub(super) fn egress(&mut self, out: &mut impl PacketOutput, now: Instant) {
        let time = self.micros(now);
        while out.is_ready() {
            let Some(reset) = self.resets.pop() else { break };
            reset.emit(&self.flow, out, 0, |_| {});
        }
        self.wake_expired(time);
        while out.is_ready() {
            let Some(id) = self.ready_lists.send_ready.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            if conn.tcp.transmit(&self.flow, out, QUANTUM, time) {
                self.ready_lists.send_ready.push_back(id);
            } else {
                conn.ready.send_ready = false;
                self.next_deadline =
                    conn.tcp.deadline().map_or(self.next_deadline, |at| self.next_deadline.min(at));
            }
        }
    }

    /// Makes those lively whose moment has come.
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

    /// More could be sent if there were room.
    pub(super) fn has_pending_output(&self) -> bool {
        !self.ready_lists.send_ready.is_empty() || !self.resets.is_empty()
    }

    /// Gives up connections whose other end was last heard too long ago. Each sends something every
    /// quarter of the timeout, so a living one answers.
    pub(super) fn expire_silent(&mut self, heard: Option<Instant>, now: Instant) {
        let timeout = self.timeout;
        if heard.is_some_and(|heard| now < heard + timeout) {
            return;
        }
        let silent = |conn: &Conn| {
            !conn.timed_out && now >= heard.max(Some(conn.created)).unwrap_or(now) + timeout
        };
        let lost: Vec<_> =
            self.conns.iter().filter(|(_, conn)| silent(conn)).map(|(&id, _)| id).collect();
        for id in lost {
            self.conns.entry(id).and_modify(|conn| conn.timed_out = true);
            self.abort(id);
        }
    }

    /// When [`Netstack::give_up`] may next have something to do, if nothing is heard until then.
    pub(super) fn next_expiry(&self, heard: Option<Instant>, now: Instant) -> Option<Instant> {
        if let Some(at) =
            heard.map(|heard| heard + self.timeout).filter(|&at| now < at && !self.conns.is_empty())
        {
            return Some(at);
        }
        let conns = self.conns.values().filter(|conn| !conn.timed_out);
        conns
            .filter_map(|conn| heard.max(Some(conn.created)))
            .min()
            .map(|since| since + self.timeout)
    }

    /// Notices what became of connections: opened, failed, closed.
    pub(super) fn collect_events(&mut self, events: &mut VecDeque<Event>, now: Instant) {
        let (mut gone, mut aborted, mut larger_failed) = (Vec::new(), Vec::new(), false);
        let mut looked_at = self.ready_lists.take_dirty();
        for id in looked_at.drain(..) {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            conn.ready.dirty = false;
            if conn.phase == Phase::Opening {
                match conn.tcp.state() {
                    State::SynSent | State::SynReceived => {
                        if conn.accepted && now >= conn.created + SYN_RECEIVED_TIMEOUT {
                            conn.tcp.abort();
                            aborted.push(id);
                        }
                    }
                    State::Closed => {
                        let kind = if conn.timed_out {
                            io::ErrorKind::TimedOut
                        } else {
                            io::ErrorKind::ConnectionRefused
                        };
                        if !conn.accepted && conn.released.is_none() {
                            events.push_back(Event::ConnectFailed { conn: id, kind });
                        }
                        conn.released.get_or_insert(now);
                    }
                    State::Established
                    | State::FinWait1
                    | State::FinWait2
                    | State::CloseWait
                    | State::Closing
                    | State::LastAck
                    | State::TimeWait => {
                        conn.phase = Phase::Open;
                        let port = conn.ports.0;
                        events.push_back(if conn.accepted {
                            Event::Accepted { conn: id, port }
                        } else {
                            Event::Connected { conn: id }
                        });
                    }
                }
            }
            if let Some(since) = conn.released {
                // Nobody reads any more: data that arrives, or an end that never comes, is answered
                // with a reset (RFC 2525, section 2.17).
                if conn.tcp.state() != State::Closed
                    && (conn.tcp.has_unread() || now >= since + LINGER)
                {
                    conn.tcp.abort();
                    aborted.push(id);
                }
                if conn.tcp.is_fully_closed() || now >= since + 2 * LINGER {
                    gone.push(id);
                }
            }
            conn.ready.opening_or_closing = conn.phase == Phase::Opening || conn.released.is_some();
            larger_failed |= conn.tcp.path_mtu() < self.mtu;
            if let Some(payload) = conn.tcp.blackhole_payload() {
                self.blackhole = Some((payload, now));
            }
            let (allowance, repeated) = (conn.tcp.buffer_allowance(), conn.tcp.retransmits());
            self.allowance_total =
                self.allowance_total.saturating_sub(conn.buffer_allowance) + allowance;
            self.retransmits += repeated - conn.retransmits;
            (conn.buffer_allowance, conn.retransmits) = (allowance, repeated);
        }
        self.ready_lists.dirty = looked_at;
        for id in gone {
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
        if larger_failed {
            self.set_path_mtu(MTU);
        }
    }

    /// The largest packet that the path is believed to carry.
    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    /// The path carries packets so large, and no larger ones.
    pub(super) fn set_path_mtu(&mut self, mtu: usize) {
        if mtu != self.mtu {
            self.mtu = mtu;
            self.conns.values_mut().for_each(|conn| conn.tcp.set_path_mtu(mtu));
            self.mark_all_dirty();
        }
    }

    /// A connection has much to send, and an other end that takes larger segments.
    pub(super) fn wants_path_mtu_probe(&self) -> bool {
        self.mtu < self.mtu_max && self.conns.values().any(|conn| conn.tcp.wants_path_mtu_probe())
    }

    /// The other end is elsewhere: what was found out about the way there says nothing any more.
    pub(super) fn endpoint_changed(&mut self) {
        self.blackhole = None;
    }

    /// What windows may still grow by.
    fn spare_window(&self) -> usize {
        let first: usize = self.profile.initial_buffers();
        WINDOWS_MAX.saturating_sub(self.allowance_total.saturating_sub(self.conns.len() * first))
    }

    /// Moves up to `limit` received bytes into `into`.
    pub(super) fn read(
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

    /// Takes bytes to be sent from `from`, as many as there is room for.
    pub(super) fn write(&mut self, id: ConnId, from: &mut ByteQueue) -> Progress {
        let spare = self.spare_window();
        let Some(conn) = self.conns.get_mut(&id) else {
            return Progress::Failed(io::ErrorKind::NotConnected);
        };
        // What it was granted before stays granted.
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

    /// Says that nothing more will be written (sends FIN after what is queued).
    pub(super) fn shutdown(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.fin_queued = true;
            conn.tcp.close();
            self.ready_lists.mark_dirty(id, &mut conn.ready, false);
        }
    }

    /// Resets a connection.
    pub(super) fn abort(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.tcp.abort();
            self.ready_lists.mark_dirty(id, &mut conn.ready, true);
        }
    }

    /// The user lets go: closes in good order, then forgets.
    pub(super) fn release(&mut self, id: ConnId, now: Instant) {
        self.shutdown(id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.released.get_or_insert(now);
            self.ready_lists.track_transition(id, &mut conn.ready);
        }
    }

    /// Resets everything.
    pub(super) fn abort_all(&mut self) {
        self.listeners.clear();
        self.conns.values_mut().for_each(|conn| conn.tcp.abort());
        self.mark_all_dirty();
    }

    pub(super) fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Somebody waits for something to be sent or to arrive.
    pub(super) fn has_users(&self) -> bool {
        self.conns.values().any(|conn| conn.released.is_none())
    }

    /// Segments sent again so far, and the longest smoothed round trip of the connections that are
    /// open, of late.
    pub(super) fn stats(&self) -> (u64, Option<Duration>) {
        (self.retransmits, self.max_rtt.map(|(rtt, _)| Duration::from_micros(rtt)))
    }

    /// Looks for the longest round trip: always among few connections, now and then among many.
    fn update_max_rtt(&mut self, now: Instant) {
        let fresh = |&(_, seen): &(Micros, Instant)| {
            now.saturating_duration_since(seen) < RTT_SCAN_INTERVAL
        };
        if self.conns.len() <= RTT_SCAN_CONNECTIONS || !self.max_rtt.as_ref().is_some_and(fresh) {
            self.max_rtt = self
                .conns
                .values()
                .filter_map(|conn| conn.tcp.smoothed_rtt())
                .max()
                .map(|rtt| (rtt, now));
        }
    }

    /// When TCP wants to be called again, at the latest.
    pub(super) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let unsettled = self
            .ready_lists
            .send_ready
            .iter()
            .filter_map(|id| self.conns.get(id)?.tcp.deadline())
            .min();
        let at = self.next_deadline.min(unsettled.unwrap_or(Micros::MAX));
        let at = (at < Micros::MAX && !self.conns.is_empty()).then_some(at)?;
        Some(self.epoch.checked_add(Duration::from_micros(at))?.max(now))
    }
}

fn failure_kind(lost: bool) -> io::ErrorKind {
    if lost { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionReset }
}
