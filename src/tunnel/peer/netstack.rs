//! The TCP connections of one tunnel, between its two addresses, without an operating system.
//!
//! - A connection is **opening** until its handshake completes, then **open**, and **released**
//!   once its user has dropped it: then it is closed and removed, or reset if the peer keeps
//!   sending.
//! - It **times out** when the tunnel has received nothing authentic for the configured time.
//! - A listener has no idle connection: one is created when a SYN for its port arrives, so
//!   listening costs no memory.
//! - The buffers of all connections together are limited; each starts small and may grow while
//!   there is spare space.
//! - Only connections that need attention are visited (see `ready_lists`).

mod lifecycle;
mod segments;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::ready_lists::{ReadyFlags, ReadyLists};
use super::timers::SplitMix64;
use super::types::{CONNECTIONS_MAX, ConnId, PeerError, Profile};
use crate::tunnel::mtu::MTU;
use crate::tunnel::tcp::{AddressPair, Connection, ConnectionConfig, Micros, SegmentHeader};

/// First of the dynamic ports (RFC 6335), used for outgoing connections.
const EPHEMERAL_PORT_FIRST: u16 = 49152;
/// How long a reduced path MTU is remembered (RFC 8899, section 5.1.1).
const BLACKHOLE_TTL: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
}

#[derive(Debug)]
struct Conn {
    tcp: Connection,
    /// Local and remote port.
    ports: (u16, u16),
    accepted: bool,
    phase: Phase,
    created: Instant,
    released: Option<Instant>,
    fin_queued: bool,
    timed_out: bool,
    ready: ReadyFlags,
    /// Retransmissions counted in the tunnel's total so far.
    retransmits: u64,
    /// Buffer allowance counted in the tunnel's total.
    buffer_allowance: usize,
}

pub(super) struct Netstack {
    addrs: AddressPair,
    epoch: Instant,
    last_now: Instant,
    last_micros: Micros,
    profile: Profile,
    timeout: Duration,
    /// Boxed: a map node has space for eleven values, and most tunnels have one connection.
    conns: BTreeMap<ConnId, Box<Conn>>,
    by_ports: BTreeMap<(u16, u16), ConnId>,
    listeners: BTreeMap<u16, usize>,
    next_conn: u64,
    ready_lists: ReadyLists,
    /// No connection has an earlier deadline. Updated when it is reached, not when a connection
    /// moves its deadline back.
    next_deadline: Micros,
    isn_secret: u64,
    port_rng: SplitMix64,
    resets: Vec<SegmentHeader>,
    /// Payload of segments that pass a path MTU black hole, and when that was last observed.
    blackhole: Option<(usize, Instant)>,
    /// The largest packet that the path is known to carry, and the largest accepted.
    mtu: usize,
    mtu_max: usize,
    allowance_total: usize,
    retransmits: u64,
    /// The largest smoothed RTT of a connection, and when it was determined.
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
            addrs: AddressPair { local, remote },
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

    /// Time since the tunnel was created. If `now` goes back, this stands still until it has caught
    /// up.
    fn micros(&mut self, now: Instant) -> Micros {
        // Called for every packet of a batch with the same `now`.
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
        // A new connection starts with the path MTU its predecessors found and offers the peer no
        // larger MSS: a path is mostly symmetric in this respect.
        let blackhole =
            self.blackhole.filter(|&(_, seen)| now.saturating_duration_since(seen) < BLACKHOLE_TTL);
        let mtu = blackhole
            .map_or(self.mtu_max, |(payload, _)| (payload + self.addrs.header_len()).min(MTU));
        ConnectionConfig {
            receive_buffer_max: receive,
            send_buffer_max: send,
            mtu_max: mtu,
            path_mtu: self.mtu,
            keepalive_interval: Micros::try_from((self.timeout / 4).as_micros())
                .unwrap_or(Micros::MAX),
        }
    }

    /// Initial sequence number (RFC 6528): a clock, plus a keyed hash of addresses and ports.
    fn initial_sequence_number(&mut self, ports: (u16, u16), now: Instant) -> u32 {
        let mut hash = DefaultHasher::new();
        (self.isn_secret, self.addrs.local, self.addrs.remote, ports).hash(&mut hash);
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
        let buffer_allowance = tcp.buffer_allowance();
        self.allowance_total += buffer_allowance;
        let phase = Phase::Opening;
        let (released, closed, timed_out, mut marks, retransmits) =
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
            timed_out,
            ready: marks,
            retransmits,
            buffer_allowance,
        };
        self.conns.insert(id, Box::new(conn));
        self.by_ports.insert(ports, id);
        id
    }

    /// A connection changed. `notify`: not by its own user.
    fn mark_dirty(&mut self, id: ConnId, notify: bool) {
        if let Some(conn) = self.conns.get_mut(&id) {
            self.ready_lists.mark_dirty(id, &mut conn.ready, notify);
        }
    }

    pub(super) fn shrink(&mut self) {
        self.ready_lists.shrink();
    }

    fn mark_all_dirty(&mut self) {
        for (&id, conn) in &mut self.conns {
            self.ready_lists.mark_dirty(id, &mut conn.ready, true);
        }
    }

    /// Appends the connections that may have something new for their users since the last call.
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
        if port == 0 || !self.addrs.is_same_family() {
            return Err(PeerError::Unaddressable);
        }
        let ports = (self.ephemeral_port(), port);
        let (iss, config, time) = (
            self.initial_sequence_number(ports, now),
            self.connection_config(now),
            self.micros(now),
        );
        let tcp = Connection::connect(ports.0, ports.1, &self.addrs, iss, config, time);
        Ok(self.insert(tcp, ports, false, now))
    }

    fn ephemeral_port(&mut self) -> u16 {
        loop {
            // At most 256 connections and 16384 ports: terminates quickly.
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

    /// Stops listening and resets connections that were not accepted yet.
    pub(super) fn unlisten(&mut self, port: u16) {
        if self.listeners.remove(&port).is_some() {
            let opening =
                |conn: &Conn| conn.accepted && conn.ports.0 == port && conn.phase == Phase::Opening;
            let closed: Vec<_> =
                self.conns.iter().filter(|(_, conn)| opening(conn)).map(|(&id, _)| id).collect();
            closed.into_iter().for_each(|id| self.abort(id));
        }
    }

    /// The largest packet that the path is taken to carry.
    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    pub(super) fn set_path_mtu(&mut self, mtu: usize) {
        if mtu != self.mtu {
            self.mtu = mtu;
            self.conns.values_mut().for_each(|conn| conn.tcp.set_path_mtu(mtu));
            self.mark_all_dirty();
        }
    }

    /// Whether a connection has enough data queued to use larger segments, and a peer that accepts
    /// them.
    pub(super) fn wants_path_mtu_probe(&self) -> bool {
        self.mtu < self.mtu_max && self.conns.values().any(|conn| conn.tcp.wants_path_mtu_probe())
    }

    /// The endpoint changed: the path is unknown.
    pub(super) fn endpoint_changed(&mut self) {
        self.blackhole = None;
    }

    /// Sends a FIN after what is queued.
    pub(super) fn shutdown(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.fin_queued = true;
            conn.tcp.close();
            self.ready_lists.mark_dirty(id, &mut conn.ready, false);
        }
    }

    pub(super) fn abort(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.tcp.abort();
            self.ready_lists.mark_dirty(id, &mut conn.ready, true);
        }
    }

    /// The user has dropped the connection: closes it and removes it once it is closed.
    pub(super) fn release(&mut self, id: ConnId, now: Instant) {
        self.shutdown(id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.released.get_or_insert(now);
            self.ready_lists.track_transition(id, &mut conn.ready);
        }
    }

    /// Resets every connection.
    pub(super) fn abort_all(&mut self) {
        self.listeners.clear();
        self.conns.values_mut().for_each(|conn| conn.tcp.abort());
        self.mark_all_dirty();
    }

    pub(super) fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Whether a user waits for any connection.
    pub(super) fn has_users(&self) -> bool {
        self.conns.values().any(|conn| conn.released.is_none())
    }

    /// Segments retransmitted so far, and a recent value of the largest smoothed RTT.
    pub(super) fn stats(&self) -> (u64, Option<Duration>) {
        (self.retransmits, self.max_rtt.map(|(rtt, _)| Duration::from_micros(rtt)))
    }
}
