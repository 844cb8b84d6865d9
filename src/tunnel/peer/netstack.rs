//! TCP inside the tunnel: smoltcp with one address, one neighbour, and no operating system.
//!
//! - A **connection** ([`ConnId`]) is one smoltcp socket we opened or accepted.
//! - It is **opening** until its handshake ends, then **open**, and **released** when its user has let go: then it is closed in good order
//!   and forgotten, or reset when the other end still talks to nobody.
//! - It is **lost** when the tunnel has heard nothing authentic for the configured time. smoltcp would count from the last segment it found
//!   acceptable, and so give up on a bad network an other end that is still heard; its own timeout is only a backstop, three times as long.
//! - A **listener** has no idle socket: one is made when a connection request for its port arrives, so waiting costs no memory.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint, IpListenEndpoint};

use super::timers::SplitMix;
use super::wire::{Inner, Sealer, Wire};
use super::{Event, PeerError, Profile};

/// Most connections of one tunnel.
pub const CONNECTIONS_MAX: usize = 256;
/// A connection request that is not completed in this time is reset.
const HALF_OPEN: Duration = Duration::from_secs(10);
/// A connection its user has let go of may take this long to close.
const LINGER: Duration = Duration::from_secs(20);
/// First of the ports used for outgoing connections (RFC 6335, dynamic ports).
const DYNAMIC_PORTS: u16 = 49152;

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
    socket: SocketHandle,
    remote_port: u16,
    local_port: u16,
    accepted: bool,
    phase: Phase,
    born: Instant,
    released: Option<Instant>,
    lost: bool,
}

/// What to do with a connection request.
enum Admission {
    /// A socket waits for it.
    Fresh(SocketHandle),
    /// It is for nobody, which TCP answers with a reset, or for a connection that exists.
    AsIs,
    /// There is no room: it is dropped, and will be repeated.
    Later,
}

#[derive(Debug, Default)]
struct Listener {
    backlog: usize,
}

pub(super) struct Netstack {
    interface: Interface,
    sockets: SocketSet<'static>,
    epoch: Instant,
    local: IpAddr,
    remote: IpAddr,
    profile: Profile,
    timeout: Duration,
    conns: BTreeMap<ConnId, Conn>,
    listeners: BTreeMap<u16, Listener>,
    next_conn: u64,
    ports: SplitMix,
    /// Ports (local, remote) of connections forgotten since last asked.
    forgotten: Vec<(u16, u16)>,
}

impl Netstack {
    pub(super) fn new(local: IpAddr, remote: IpAddr, profile: Profile, timeout: Duration, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut nothing = Wire { received: None, sealer: None };
        let mut interface = Interface::new(config, &mut nothing, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // A prefix of 0 makes every address a direct neighbour; the peer admits exactly one.
            let _ = addresses.push(IpCidr::new(local.into(), 0));
        });
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            epoch: now,
            local,
            remote,
            profile,
            timeout,
            conns: BTreeMap::new(),
            listeners: BTreeMap::new(),
            next_conn: 0,
            ports: SplitMix(seed ^ 0x5ea1),
            forgotten: Vec::new(),
        }
    }

    fn time(&self, now: Instant) -> smoltcp::time::Instant {
        let micros = now.saturating_duration_since(self.epoch).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn socket(&self) -> tcp::Socket<'static> {
        let (receive, send) = self.profile.windows();
        // A zeroed vector this large is fresh address space: it takes memory only where bytes have been.
        let mut socket = tcp::Socket::new(tcp::SocketBuffer::new(vec![0; receive]), tcp::SocketBuffer::new(vec![0; send]));
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(smoltcp_duration(self.timeout * 3)));
        socket.set_keep_alive(Some(smoltcp_duration(self.timeout / 4)));
        socket
    }

    fn adopt(&mut self, socket: SocketHandle, remote_port: u16, local_port: u16, accepted: bool, now: Instant) -> ConnId {
        let id = ConnId(self.next_conn);
        self.next_conn += 1;
        self.conns.insert(id, Conn { socket, remote_port, local_port, accepted, phase: Phase::Opening, born: now, released: None, lost: false });
        id
    }

    pub(super) fn connect(&mut self, port: u16, now: Instant) -> Result<ConnId, PeerError> {
        if self.conns.len() >= CONNECTIONS_MAX {
            return Err(PeerError::TooManyConnections);
        }
        let local_port = self.free_port();
        let mut socket = self.socket();
        let remote = IpEndpoint::new(self.remote.into(), port);
        let local = IpListenEndpoint { addr: Some(self.local.into()), port: local_port };
        socket.connect(self.interface.context(), remote, local).map_err(|_| PeerError::Unaddressable)?;
        let handle = self.sockets.add(socket);
        Ok(self.adopt(handle, port, local_port, false, now))
    }

    fn free_port(&mut self) -> u16 {
        loop {
            // 256 connections at most, 16384 ports: ends at once.
            let port = DYNAMIC_PORTS + (self.ports.next() % u64::from(u16::MAX - DYNAMIC_PORTS)) as u16;
            if !self.conns.values().any(|conn| conn.local_port == port) && !self.listeners.contains_key(&port) {
                return port;
            }
        }
    }

    pub(super) fn listen(&mut self, port: u16, backlog: usize) -> Result<(), PeerError> {
        if port == 0 || self.listeners.contains_key(&port) {
            return Err(PeerError::PortInUse);
        }
        self.listeners.insert(port, Listener { backlog: backlog.clamp(1, CONNECTIONS_MAX) });
        Ok(())
    }

    /// Stops listening and resets what was not yet accepted.
    pub(super) fn unlisten(&mut self, port: u16) {
        if self.listeners.remove(&port).is_some() {
            for conn in self.conns.values_mut().filter(|c| c.accepted && c.local_port == port && c.phase == Phase::Opening) {
                self.sockets.get_mut::<tcp::Socket<'_>>(conn.socket).abort();
            }
        }
    }

    /// Takes in one decrypted packet from the peer's address to ours.
    pub(super) fn ingress(&mut self, packet: &[u8], inner: Inner, sealer: &mut Sealer<'_>, now: Instant) {
        let fresh = match inner.opens {
            Some((remote, local)) => match self.prepare(remote, local) {
                Admission::Fresh(handle) => Some((handle, remote, local)),
                Admission::AsIs => None,
                Admission::Later => return,
            },
            None => None,
        };
        let at = self.time(now);
        let mut wire = Wire { received: Some(packet), sealer: Some(sealer) };
        self.interface.poll_ingress_single(at, &mut wire, &mut self.sockets);
        if let Some((handle, remote, local)) = fresh {
            if self.sockets.get::<tcp::Socket<'_>>(handle).is_listening() {
                self.sockets.remove(handle);
            } else {
                self.adopt(handle, remote, local, true, now);
            }
        }
    }

    /// Makes ready for the connection request that is about to be taken in.
    fn prepare(&mut self, remote: u16, local: u16) -> Admission {
        let Some(backlog) = self.listeners.get(&local).map(|listener| listener.backlog) else { return Admission::AsIs };
        if self.conns.values().any(|c| c.local_port == local && c.remote_port == remote) {
            return Admission::AsIs;
        }
        let half_open = self.conns.values().filter(|c| c.accepted && c.local_port == local && c.phase == Phase::Opening).count();
        if half_open >= backlog || self.conns.len() >= CONNECTIONS_MAX {
            return Admission::Later;
        }
        let mut socket = self.socket();
        match socket.listen(IpListenEndpoint { addr: Some(self.local.into()), port: local }) {
            Ok(()) => Admission::Fresh(self.sockets.add(socket)),
            Err(_) => Admission::AsIs,
        }
    }

    /// Sends what TCP has to send, as far as the sealer takes it.
    pub(super) fn egress(&mut self, sealer: &mut Sealer<'_>, now: Instant) {
        let at = self.time(now);
        loop {
            let before = sealer.sealed;
            let mut wire = Wire { received: None, sealer: Some(&mut *sealer) };
            self.interface.poll_egress(at, &mut wire, &mut self.sockets);
            if sealer.sealed == before {
                return;
            }
        }
    }

    /// Gives up connections whose other end was last heard too long ago. Each sends something every quarter of the timeout, so a living one answers.
    pub(super) fn give_up(&mut self, heard: Option<Instant>, now: Instant) {
        let timeout = self.timeout;
        for conn in self.conns.values_mut().filter(|conn| !conn.lost && now >= heard.max(Some(conn.born)).unwrap_or(now) + timeout) {
            conn.lost = true;
            self.sockets.get_mut::<tcp::Socket<'_>>(conn.socket).abort();
        }
    }

    /// When [`Netstack::give_up`] will next have something to do, if nothing is heard until then.
    pub(super) fn patience(&self, heard: Option<Instant>) -> Option<Instant> {
        let conns = self.conns.values().filter(|conn| !conn.lost);
        conns.filter_map(|conn| heard.max(Some(conn.born))).min().map(|since| since + self.timeout)
    }

    /// Notices what became of connections: opened, failed, closed.
    pub(super) fn harvest(&mut self, events: &mut VecDeque<Event>, now: Instant) {
        let mut gone = Vec::new();
        for (&id, conn) in &mut self.conns {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(conn.socket);
            if conn.phase == Phase::Opening {
                match socket.state() {
                    tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Listen => {
                        if conn.accepted && now >= conn.born + HALF_OPEN {
                            socket.abort();
                        }
                    }
                    tcp::State::Closed => {
                        let kind = if conn.lost { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionRefused };
                        if !conn.accepted && conn.released.is_none() {
                            events.push_back(Event::ConnectFailed { conn: id, kind });
                        }
                        conn.released.get_or_insert(now);
                    }
                    _ => {
                        conn.phase = Phase::Open;
                        events.push_back(if conn.accepted {
                            Event::Accepted { conn: id, port: conn.local_port }
                        } else {
                            Event::Connected { conn: id }
                        });
                    }
                }
            }
            if let Some(since) = conn.released {
                // Nobody reads any more: data that arrives, or an end that never comes, is answered with a reset (RFC 2525, section 2.17).
                if socket.can_recv() || now >= since + LINGER {
                    socket.abort();
                }
                let over = match socket.state() {
                    // A reset that is still to be sent shows as a remote endpoint.
                    tcp::State::Closed => socket.remote_endpoint().is_none() || now >= since + LINGER,
                    // Our last acknowledgement is out; should it be lost, the other end gets a reset after its own last byte, which harms nothing.
                    tcp::State::TimeWait => true,
                    _ => false,
                };
                if over {
                    gone.push(id);
                }
            }
        }
        for id in gone {
            if let Some(conn) = self.conns.remove(&id) {
                self.sockets.remove(conn.socket);
                self.forgotten.push((conn.local_port, conn.remote_port));
            }
        }
    }

    /// Connections that no longer exist, each told once.
    pub(super) fn forgotten(&mut self) -> impl Iterator<Item = (u16, u16)> {
        self.forgotten.drain(..)
    }

    fn get(&mut self, id: ConnId) -> Option<&mut tcp::Socket<'static>> {
        let conn = self.conns.get(&id)?;
        Some(self.sockets.get_mut(conn.socket))
    }

    /// Offers received bytes to `take`, which answers how many it took.
    pub(super) fn read(&mut self, id: ConnId, take: impl FnOnce(&[u8]) -> usize) -> Progress {
        let lost = self.conns.get(&id).is_some_and(|conn| conn.lost);
        let Some(socket) = self.get(id) else { return Progress::Failed(io::ErrorKind::NotConnected) };
        if matches!(socket.state(), tcp::State::SynSent | tcp::State::SynReceived) {
            return Progress::Pending;
        }
        let moved = socket.recv(|bytes| {
            let taken = take(bytes).min(bytes.len());
            (taken, taken)
        });
        match moved {
            Ok(0) => Progress::Pending,
            Ok(n) => Progress::Moved(n),
            Err(tcp::RecvError::Finished) => Progress::Finished,
            Err(tcp::RecvError::InvalidState) => Progress::Failed(failure(lost)),
        }
    }

    /// Offers free space of the send buffer to `fill`, which answers how many bytes it wrote.
    pub(super) fn write(&mut self, id: ConnId, fill: impl FnOnce(&mut [u8]) -> usize) -> Progress {
        let lost = self.conns.get(&id).is_some_and(|conn| conn.lost);
        let Some(socket) = self.get(id) else { return Progress::Failed(io::ErrorKind::NotConnected) };
        if matches!(socket.state(), tcp::State::SynSent | tcp::State::SynReceived) {
            return Progress::Pending;
        }
        let moved = socket.send(|room| {
            let filled = fill(room).min(room.len());
            (filled, filled)
        });
        match moved {
            Ok(0) => Progress::Pending,
            Ok(n) => Progress::Moved(n),
            Err(tcp::SendError::InvalidState) if socket.is_open() => Progress::Finished,
            Err(tcp::SendError::InvalidState) => Progress::Failed(failure(lost)),
        }
    }

    /// Says that nothing more will be written (sends FIN after what is queued).
    pub(super) fn shutdown(&mut self, id: ConnId) {
        if let Some(socket) = self.get(id) {
            socket.close();
        }
    }

    /// Resets a connection.
    pub(super) fn abort(&mut self, id: ConnId) {
        if let Some(socket) = self.get(id) {
            socket.abort();
        }
    }

    /// The user lets go: closes in good order, then forgets.
    pub(super) fn release(&mut self, id: ConnId, now: Instant) {
        if let Some(socket) = self.get(id) {
            socket.close();
        }
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.released.get_or_insert(now);
        }
    }

    /// Resets everything.
    pub(super) fn abort_all(&mut self) {
        self.listeners.clear();
        for conn in self.conns.values() {
            self.sockets.get_mut::<tcp::Socket<'_>>(conn.socket).abort();
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Somebody waits for something to be sent or to arrive.
    pub(super) fn wanted(&self) -> bool {
        self.conns.values().any(|conn| conn.released.is_none())
    }

    /// When TCP wants to be called again.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(self.time(now), &self.sockets)?;
        let micros = u64::try_from(at.total_micros()).unwrap_or(0);
        Some((self.epoch + Duration::from_micros(micros)).max(now))
    }
}

fn failure(lost: bool) -> io::ErrorKind {
    if lost { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionReset }
}

fn smoltcp_duration(duration: Duration) -> smoltcp::time::Duration {
    smoltcp::time::Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}
