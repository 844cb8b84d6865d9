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

use super::marks::{Lists, Marks};
use super::timers::SplitMix;
use super::{Event, MTU, PeerError, Profile};
use crate::tunnel::tcp::{
    Chain, Connection, Flow, Header, Limits, Micros, Outlet, Segment, State, Verdict,
};

/// Most connections of one tunnel.
pub const CONNECTIONS_MAX: usize = 256;
/// Most bytes that the windows of a tunnel's connections may grow to together, beyond the 64 KiB
/// each way that every connection starts with.
pub const WINDOWS_MAX: usize = 16 << 20;
/// A connection request that is not completed in this time is reset.
const HALF_OPEN: Duration = Duration::from_secs(10);
/// A connection its user has let go of may take this long to close.
const LINGER: Duration = Duration::from_secs(20);
/// First of the ports used for outgoing connections (RFC 6335, dynamic ports).
const DYNAMIC_PORTS: u16 = 49152;
/// Resets that may wait to be sent; more are not.
const RESETS_MAX: usize = 32;
/// How long a path is remembered as narrow (RFC 8899, section 5.1.1).
const NARROW: Duration = Duration::from_secs(600);
/// Segments a connection sends before it is another's turn: a good part of a train.
const TURN: usize = 16;
/// Connections that are few, and how old a figure about many may be.
const FEW: usize = 8;
const FIGURED: Duration = Duration::from_millis(20);

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
    born: Instant,
    released: Option<Instant>,
    closed: bool,
    lost: bool,
    marks: Marks,
    /// Segments it sent again, as counted among all.
    repeated: u64,
    /// What it may hold at present, as counted among all.
    allowance: usize,
}

pub(super) struct Netstack {
    flow: Flow,
    epoch: Instant,
    seen: Instant,
    clock: Micros,
    profile: Profile,
    timeout: Duration,
    /// Each in a box: a map's node has room for eleven, and most tunnels have one connection.
    conns: BTreeMap<ConnId, Box<Conn>>,
    by_ports: BTreeMap<(u16, u16), ConnId>,
    listeners: BTreeMap<u16, usize>,
    next_conn: u64,
    lists: Lists,
    /// No connection asks for the clock before this, in the tunnel's time. Set forward when it has
    /// come, not when one asks for a later moment.
    soonest: Micros,
    secret: u64,
    ports: SplitMix,
    resets: Vec<Header>,
    /// Payload of the segments that get through, when large ones do not, and when that was last
    /// seen.
    narrow: Option<(usize, Instant)>,
    /// The largest packet that the path is known to carry, and the largest that is welcome.
    mtu: usize,
    mtu_max: usize,
    /// Sum of the allowances, and of the segments that were sent again.
    allowances: usize,
    repeated: u64,
    /// The longest round trip of a connection, and when it was looked for.
    slowest: Option<(Micros, Instant)>,
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
            flow: Flow { local, remote },
            epoch: now,
            seen: now,
            clock: 0,
            profile,
            timeout,
            conns: BTreeMap::new(),
            by_ports: BTreeMap::new(),
            listeners: BTreeMap::new(),
            next_conn: 0,
            lists: Lists::default(),
            soonest: Micros::MAX,
            secret: seed,
            ports: SplitMix(seed ^ 0x5ea1),
            resets: Vec::new(),
            narrow: None,
            mtu: MTU,
            mtu_max,
            allowances: 0,
            repeated: 0,
            slowest: None,
        }
    }

    /// The time since the tunnel was made. A clock that jumps back stands still here until it has
    /// caught up.
    fn time(&mut self, now: Instant) -> Micros {
        // Asked for every packet of a batch, which all have one time.
        if now != self.seen {
            self.seen = now;
            let micros = now.saturating_duration_since(self.epoch).as_micros();
            self.clock = self.clock.max(Micros::try_from(micros).unwrap_or(Micros::MAX));
        }
        self.clock
    }

    fn limits(&self, now: Instant) -> Limits {
        let (receive, send) = self.profile.windows();
        // A new connection begins with what its neighbours found out, and asks the other end for no
        // larger segments: a path is mostly narrow both ways.
        let narrow = self.narrow.filter(|&(_, seen)| now.saturating_duration_since(seen) < NARROW);
        let mtu =
            narrow.map_or(self.mtu_max, |(payload, _)| (payload + self.flow.headers()).min(MTU));
        Limits {
            receive,
            send,
            mtu,
            path: self.mtu,
            keepalive: Micros::try_from((self.timeout / 4).as_micros()).unwrap_or(Micros::MAX),
        }
    }

    /// Where a connection's sequence numbers begin (RFC 6528): a clock, plus a secret function of
    /// its addresses and ports.
    fn first_number(&mut self, ports: (u16, u16), now: Instant) -> u32 {
        let mut hash = DefaultHasher::new();
        (self.secret, self.flow.local, self.flow.remote, ports).hash(&mut hash);
        (hash.finish() as u32).wrapping_add((self.time(now) / 4) as u32)
    }

    fn adopt(
        &mut self,
        tcp: Connection,
        ports: (u16, u16),
        accepted: bool,
        now: Instant,
    ) -> ConnId {
        let id = ConnId(self.next_conn);
        self.next_conn += 1;
        let allowance = tcp.allowance();
        self.allowances += allowance;
        let phase = Phase::Opening;
        let (released, closed, lost, mut marks, repeated) =
            (None, false, false, Marks::default(), 0);
        self.lists.mark(id, &mut marks, true);
        self.lists.pass(id, &mut marks);
        let conn = Conn {
            tcp,
            ports,
            accepted,
            phase,
            born: now,
            released,
            closed,
            lost,
            marks,
            repeated,
            allowance,
        };
        self.conns.insert(id, Box::new(conn));
        self.by_ports.insert(ports, id);
        id
    }

    /// Something was done to a connection; `stir`: something its user did not do.
    fn mark(&mut self, id: ConnId, stir: bool) {
        if let Some(conn) = self.conns.get_mut(&id) {
            self.lists.mark(id, &mut conn.marks, stir);
        }
    }

    /// Gives the memory of empty lists back.
    pub(super) fn shrink(&mut self) {
        self.lists.shrink();
    }

    fn mark_all(&mut self) {
        for (&id, conn) in &mut self.conns {
            self.lists.mark(id, &mut conn.marks, true);
        }
    }

    /// Adds the connections whose users may find something new since this was asked last.
    pub(super) fn stirred(&mut self, into: &mut Vec<ConnId>) {
        for id in self.lists.stirred.drain(..) {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.marks.stirred = false;
                into.push(id);
            }
        }
    }

    pub(super) fn connect(&mut self, port: u16, now: Instant) -> Result<ConnId, PeerError> {
        if self.conns.len() >= CONNECTIONS_MAX {
            return Err(PeerError::TooManyConnections);
        }
        if port == 0 || !self.flow.is_sound() {
            return Err(PeerError::Unaddressable);
        }
        let ports = (self.free_port(), port);
        let (number, limits, time) =
            (self.first_number(ports, now), self.limits(now), self.time(now));
        let tcp = Connection::connect(ports.0, ports.1, &self.flow, number, limits, time);
        Ok(self.adopt(tcp, ports, false, now))
    }

    fn free_port(&mut self) -> u16 {
        loop {
            // 256 connections at most, 16384 ports: ends at once.
            let port =
                DYNAMIC_PORTS + (self.ports.next() % u64::from(u16::MAX - DYNAMIC_PORTS)) as u16;
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
        let vouched = self.profile.ends_here();
        let Some(segment) = Segment::parse(packet, vouched).filter(|_| self.flow.is_sound()) else {
            return;
        };
        let time = self.time(now);
        let known = self.by_ports.get(&(segment.local, segment.remote)).copied();
        match known.and_then(|id| Some((id, self.conns.get_mut(&id)?))) {
            Some((id, conn)) => {
                self.lists.mark(id, &mut conn.marks, true);
                match conn.tcp.segment(&segment, &self.flow, time) {
                    Verdict::Done => {}
                    Verdict::Reset => self.reset(&segment),
                }
            }
            None if segment.opens() && self.listeners.contains_key(&segment.local) => {
                self.admit(&segment, now)
            }
            None => self.reset(&segment),
        }
    }

    /// A connection request. Without room for it, it is dropped, and will be repeated.
    fn admit(&mut self, syn: &Segment<'_>, now: Instant) {
        let backlog = self.listeners.get(&syn.local).copied().unwrap_or(0);
        let half_open = self
            .conns
            .values()
            .filter(|c| c.accepted && c.ports.0 == syn.local && c.phase == Phase::Opening)
            .count();
        if half_open < backlog && self.conns.len() < CONNECTIONS_MAX {
            let ports = (syn.local, syn.remote);
            let (number, limits, time) =
                (self.first_number(ports, now), self.limits(now), self.time(now));
            let tcp = Connection::accept(syn, &self.flow, number, limits, time);
            self.adopt(tcp, ports, true, now);
        }
    }

    fn reset(&mut self, segment: &Segment<'_>) {
        if !segment.resets() && self.resets.len() < RESETS_MAX {
            self.resets.push(Header::reset(segment));
        }
    }

    /// Sends what TCP has to send, as far as the outlet takes it: connections take turns.
    pub(super) fn egress(&mut self, out: &mut impl Outlet, now: Instant) {
        let time = self.time(now);
        while out.ready() {
            let Some(reset) = self.resets.pop() else { break };
            reset.send(&self.flow, out, 0, |_| {});
        }
        self.alarm(time);
        while out.ready() {
            let Some(id) = self.lists.lively.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            if conn.tcp.transmit(&self.flow, out, TURN, time) {
                self.lists.lively.push_back(id);
            } else {
                conn.marks.lively = false;
                self.soonest = conn.tcp.deadline().map_or(self.soonest, |at| self.soonest.min(at));
            }
        }
    }

    /// Makes those lively whose moment has come.
    fn alarm(&mut self, time: Micros) {
        if time < self.soonest {
            return;
        }
        let (due, later): (Vec<_>, Vec<_>) = self
            .conns
            .iter()
            .filter_map(|(&id, conn)| Some((id, conn.tcp.deadline()?)))
            .partition(|&(_, at)| at <= time);
        self.soonest = later.into_iter().map(|(_, at)| at).min().unwrap_or(Micros::MAX);
        due.into_iter().for_each(|(id, _)| self.mark(id, true));
    }

    /// More could be sent if there were room.
    pub(super) fn has_more(&self) -> bool {
        !self.lists.lively.is_empty() || !self.resets.is_empty()
    }

    /// Gives up connections whose other end was last heard too long ago. Each sends something every
    /// quarter of the timeout, so a living one answers.
    pub(super) fn give_up(&mut self, heard: Option<Instant>, now: Instant) {
        let timeout = self.timeout;
        if heard.is_some_and(|heard| now < heard + timeout) {
            return;
        }
        let silent =
            |conn: &Conn| !conn.lost && now >= heard.max(Some(conn.born)).unwrap_or(now) + timeout;
        let lost: Vec<_> =
            self.conns.iter().filter(|(_, conn)| silent(conn)).map(|(&id, _)| id).collect();
        for id in lost {
            self.conns.entry(id).and_modify(|conn| conn.lost = true);
            self.abort(id);
        }
    }

    /// When [`Netstack::give_up`] may next have something to do, if nothing is heard until then.
    pub(super) fn patience(&self, heard: Option<Instant>, now: Instant) -> Option<Instant> {
        if let Some(at) =
            heard.map(|heard| heard + self.timeout).filter(|&at| now < at && !self.conns.is_empty())
        {
            return Some(at);
        }
        let conns = self.conns.values().filter(|conn| !conn.lost);
        conns.filter_map(|conn| heard.max(Some(conn.born))).min().map(|since| since + self.timeout)
    }

    /// Notices what became of connections: opened, failed, closed.
    pub(super) fn harvest(&mut self, events: &mut VecDeque<Event>, now: Instant) {
        let (mut gone, mut aborted, mut larger_failed) = (Vec::new(), Vec::new(), false);
        let mut looked_at = self.lists.take_changed();
        for id in looked_at.drain(..) {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            conn.marks.touched = false;
            if conn.phase == Phase::Opening {
                match conn.tcp.state() {
                    State::SynSent | State::SynReceived => {
                        if conn.accepted && now >= conn.born + HALF_OPEN {
                            conn.tcp.abort();
                            aborted.push(id);
                        }
                    }
                    State::Closed => {
                        let kind = if conn.lost {
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
                    && (conn.tcp.has_input() || now >= since + LINGER)
                {
                    conn.tcp.abort();
                    aborted.push(id);
                }
                if conn.tcp.is_over() || now >= since + 2 * LINGER {
                    gone.push(id);
                }
            }
            conn.marks.passing = conn.phase == Phase::Opening || conn.released.is_some();
            larger_failed |= conn.tcp.carried() < self.mtu;
            if let Some(payload) = conn.tcp.narrow() {
                self.narrow = Some((payload, now));
            }
            let (allowance, repeated) = (conn.tcp.allowance(), conn.tcp.repeated());
            self.allowances = self.allowances.saturating_sub(conn.allowance) + allowance;
            self.repeated += repeated - conn.repeated;
            (conn.allowance, conn.repeated) = (allowance, repeated);
        }
        self.lists.touched = looked_at;
        for id in gone {
            if let Some(conn) = self.conns.remove(&id) {
                self.by_ports.remove(&conn.ports);
                self.allowances = self.allowances.saturating_sub(conn.allowance);
            }
        }
        self.lists.passing.retain(|id| self.conns.get(id).is_some_and(|conn| conn.marks.passing));
        aborted.into_iter().for_each(|id| self.mark(id, true));
        self.figure(now);
        if larger_failed {
            self.carry(MTU);
        }
    }

    /// The largest packet that the path is believed to carry.
    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    /// The path carries packets so large, and no larger ones.
    pub(super) fn carry(&mut self, mtu: usize) {
        if mtu != self.mtu {
            self.mtu = mtu;
            self.conns.values_mut().for_each(|conn| conn.tcp.carry(mtu));
            self.mark_all();
        }
    }

    /// A connection has much to send, and an other end that takes larger segments.
    pub(super) fn wants_larger(&self) -> bool {
        self.mtu < self.mtu_max && self.conns.values().any(|conn| conn.tcp.wants_larger())
    }

    /// The other end is elsewhere: what was found out about the way there says nothing any more.
    pub(super) fn moved(&mut self) {
        self.narrow = None;
    }

    /// What windows may still grow by.
    fn spare(&self) -> usize {
        let first: usize = self.profile.windows_first();
        WINDOWS_MAX.saturating_sub(self.allowances.saturating_sub(self.conns.len() * first))
    }

    /// Moves up to `limit` received bytes into `into`.
    pub(super) fn read(
        &mut self,
        id: ConnId,
        into: &mut Chain,
        limit: usize,
        now: Instant,
    ) -> Progress {
        let (spare, time) = (self.spare(), self.time(now));
        let Some(conn) = self.conns.get_mut(&id) else {
            return Progress::Failed(io::ErrorKind::NotConnected);
        };
        let moved = conn.tcp.read(into, limit, spare, time);
        let progress = match (moved, conn.tcp.state()) {
            (0, _) if conn.tcp.has_input() => Progress::Pending,
            (0, _) if conn.tcp.is_finished() => Progress::Finished,
            (0, State::Closed) => Progress::Failed(failure(conn.lost)),
            (0, _) => Progress::Pending,
            (moved, _) => Progress::Moved(moved),
        };
        if moved > 0 {
            self.lists.mark(id, &mut conn.marks, false);
        }
        progress
    }

    /// Takes bytes to be sent from `from`, as many as there is room for.
    pub(super) fn write(&mut self, id: ConnId, from: &mut Chain) -> Progress {
        let spare = self.spare();
        let Some(conn) = self.conns.get_mut(&id) else {
            return Progress::Failed(io::ErrorKind::NotConnected);
        };
        // What it was granted before stays granted.
        let spare = spare + conn.allowance;
        let moved = conn.tcp.write(from, spare);
        let progress = match (moved, conn.tcp.state()) {
            (0, State::Closed) if conn.closed && !conn.lost => Progress::Finished,
            (0, State::Closed) => Progress::Failed(failure(conn.lost)),
            (0, _) if conn.closed => Progress::Finished,
            (0, _) => Progress::Pending,
            (moved, _) => Progress::Moved(moved),
        };
        if moved > 0 {
            self.lists.mark(id, &mut conn.marks, false);
        }
        progress
    }

    /// Says that nothing more will be written (sends FIN after what is queued).
    pub(super) fn shutdown(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.closed = true;
            conn.tcp.close();
            self.lists.mark(id, &mut conn.marks, false);
        }
    }

    /// Resets a connection.
    pub(super) fn abort(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.tcp.abort();
            self.lists.mark(id, &mut conn.marks, true);
        }
    }

    /// The user lets go: closes in good order, then forgets.
    pub(super) fn release(&mut self, id: ConnId, now: Instant) {
        self.shutdown(id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.released.get_or_insert(now);
            self.lists.pass(id, &mut conn.marks);
        }
    }

    /// Resets everything.
    pub(super) fn abort_all(&mut self) {
        self.listeners.clear();
        self.conns.values_mut().for_each(|conn| conn.tcp.abort());
        self.mark_all();
    }

    pub(super) fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Somebody waits for something to be sent or to arrive.
    pub(super) fn wanted(&self) -> bool {
        self.conns.values().any(|conn| conn.released.is_none())
    }

    /// Segments sent again so far, and the longest smoothed round trip of the connections that are
    /// open, of late.
    pub(super) fn figures(&self) -> (u64, Option<Duration>) {
        (self.repeated, self.slowest.map(|(rtt, _)| Duration::from_micros(rtt)))
    }

    /// Looks for the longest round trip: always among few connections, now and then among many.
    fn figure(&mut self, now: Instant) {
        let fresh = |&(_, seen): &(Micros, Instant)| now.saturating_duration_since(seen) < FIGURED;
        if self.conns.len() <= FEW || !self.slowest.as_ref().is_some_and(fresh) {
            self.slowest =
                self.conns.values().filter_map(|conn| conn.tcp.rtt()).max().map(|rtt| (rtt, now));
        }
    }

    /// When TCP wants to be called again, at the latest.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        let unsettled =
            self.lists.lively.iter().filter_map(|id| self.conns.get(id)?.tcp.deadline()).min();
        let at = self.soonest.min(unsettled.unwrap_or(Micros::MAX));
        let at = (at < Micros::MAX && !self.conns.is_empty()).then_some(at)?;
        Some(self.epoch.checked_add(Duration::from_micros(at))?.max(now))
    }
}

fn failure(lost: bool) -> io::ErrorKind {
    if lost { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionReset }
}
