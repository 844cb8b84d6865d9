//! One end of one tunnel, without I/O: datagrams and the time go in, datagrams and events come out.
//!
//! - A **datagram** is what UDP carries: a handshake message or an encrypted packet. A **packet**
//!   is the IP packet inside.
//! - The **endpoint** is the address the other end was last authentically heard from; it follows
//!   the other end when that moves (roaming).
//! - The shell around a peer (`driver`, or a test) does, in any order: [`Peer::handle_datagram`],
//!   TCP operations, [`Peer::handle_timeout`] when [`Peer::poll_timeout`] is reached; then
//!   [`Peer::flush`], and drains [`Peer::poll_transmit`] and [`Peer::poll_event`].
//!
//! # Time
//! `now` is an argument everywhere, and it alone decides: rekeying, retries, keepalive, expiry of
//! keys, status (all in `timers` and `keyring`), and TCP. boringtun 0.7.1 also reads a clock of its
//! own (CLOCK_BOOTTIME) inside `Tunn`. That clock is left three jobs: the timestamp in an
//! initiation (which must be real time), measuring its cookie's age, and wiping key bytes 180 s
//! after a handshake through `Tunn::update_timers`, which we call as housekeeping. Where that call
//! also produces a message, the message is sent and noted like one of ours, so the two never argue.
//! In production both clocks advance alike; in a simulation only `now` advances, and it refuses
//! keys exactly when they expire. The bytes of a simulated conversation differ from run to run
//! (ephemeral keys are random); its sizes, times, order and content do not.

mod keyring;
mod marks;
mod netstack;
mod reach;
mod room;
mod terms;
mod timers;
mod train;
mod wire;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};

use keyring::Keyring;
use netstack::Netstack;
use reach::{Echo, Reach};
use timers::{Due, Timers};
use train::Trains;
use wire::Sealer;

use crate::tunnel::tcp::Outlet as _;

pub use crate::tunnel::tcp::Chain;
pub use netstack::{CONNECTIONS_MAX, ConnId, Progress, WINDOWS_MAX};
pub use terms::{Event, PeerCounters, PeerError, PeerSetup, Profile, TunnelStatus};
pub use timers::{
    HOUSEKEEPING, KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME,
    REKEY_TIMEOUT, UNANSWERED,
};
pub use train::Transmit;
pub use wire::{MTU, MTU_MAX};

/// Largest datagram looked at; ours are at most 8952 bytes, a peer's own MTU may be a little
/// larger.
const DATAGRAM_MAX: usize = 9216;
/// Packets, and their bytes, taken in before TCP speaks in between: their acknowledgement, and what
/// it allows to be sent, should not wait for the end of a long batch.
const ACK_EVERY: (u32, usize) = (32, 48 << 10);
/// Two initiations are at least this far apart, however often they are asked for.
const INITIATE_PAUSE: Duration = Duration::from_millis(20);
/// A quiet tunnel looks for expired keys less often: ten thousand of them would do nothing else. No
/// key is used a moment longer for it.
const HOUSEKEEPING_QUIET: Duration = Duration::from_secs(10);
/// Silence after which a tunnel counts as quiet.
const QUIET: Duration = Duration::from_secs(1);

/// Times TCP speaks in one flush: what it says ends some connections, which have a last word to
/// say.
const FLUSHES: usize = 3;

/// One end of one tunnel.
pub struct Peer {
    tunn: Tunn,
    keys: Keyring,
    timers: Timers,
    net: Netstack,
    trains: Trains,
    events: VecDeque<Event>,
    endpoint: Option<SocketAddr>,
    local: IpAddr,
    remote: IpAddr,
    counters: PeerCounters,
    initiated: Option<Instant>,
    housekeeping: Instant,
    reach: Reach,
    /// Packets and bytes taken in since TCP spoke.
    unacknowledged: (u32, usize),
    last_data: Instant,
}

impl Peer {
    /// A peer that knows its keys and has said nothing yet.
    pub fn new(setup: PeerSetup, now: Instant) -> Self {
        let own = setup.private_key.public_key();
        // The hub limits handshakes before they get here, for all tunnels of a key together;
        // boringtun's own limit would count by its own clock.
        let limiter = Arc::new(RateLimiter::new(&own.x25519(), u64::MAX));
        let tunn = Tunn::new(
            setup.private_key.secret(),
            setup.peer_public_key.x25519(),
            Some(*setup.preshared_key.expose()),
            None,
            setup.index & 0x00ff_ffff,
            Some(limiter),
        );
        Self {
            tunn,
            keys: Keyring::default(),
            timers: Timers::new(setup.keepalive, setup.seed, now),
            net: Netstack::new(
                setup.local_addr,
                setup.peer_addr,
                setup.profile,
                setup.mtu_max,
                setup.tcp_timeout,
                setup.seed,
                now,
            ),
            reach: Reach::new(setup.mtu_max, setup.seed, now),
            trains: Trains::new(setup.segments_max),
            events: VecDeque::new(),
            endpoint: setup.endpoint,
            local: setup.local_addr,
            remote: setup.peer_addr,
            counters: PeerCounters::default(),
            initiated: None,
            housekeeping: now,
            unacknowledged: (0, 0),
            last_data: now,
        }
    }

    // ---- datagrams in ----

    /// Takes in one datagram. Nothing it may contain does harm; what is not authentic is counted
    /// and forgotten.
    pub fn handle_datagram(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let kind = datagram.first_chunk().map(|kind| u32::from_le_bytes(*kind));
        let accepted = datagram.len() <= DATAGRAM_MAX
            && match kind {
                Some(4) => room::plain(|plain| self.handle_packet(datagram, plain, from, now)),
                Some(1..=3) => {
                    room::plain(|plain| self.handle_handshake(datagram, plain, from, now))
                }
                _ => false,
            };
        if !accepted {
            self.counters.rejected += 1;
        }
    }

    fn handle_handshake(
        &mut self,
        datagram: &[u8],
        plain: &mut [u8],
        from: SocketAddr,
        now: Instant,
    ) -> bool {
        // Lets boringtun's clock tick, so that it sees this session as newer than the last.
        self.housekeep(now);
        let TunnResult::WriteToNetwork(answer) = ({
            match self.tunn.decapsulate(Some(from.ip()), datagram, plain) {
                // Only a cookie reply is done with in silence; it says nothing about where the peer
                // is.
                TunnResult::Done => return true,
                result => result,
            }
        }) else {
            return false;
        };
        let answer = answer.to_vec();
        match (index_at(datagram, 0), index_at(&answer, 0)) {
            (Some(1), Some(2)) => {
                self.keys.add(index_at(&answer, 4).unwrap_or_default(), false, now);
                // The answer goes to the sender, but the endpoint stays: an initiation from before
                // our restart could be replayed by anybody. Only who holds the new key moves it,
                // with the packet that confirms.
            }
            (Some(2), Some(4)) => {
                self.keys.add(index_at(datagram, 8).unwrap_or_default(), true, now);
                self.counters.rtt = self.initiated.map(|at| now.saturating_duration_since(at));
                self.moved_to(from, now);
                self.established(now);
                self.timers.sent(now, false);
            }
            // A cookie reply: only an address that can read it may go on.
            _ => {}
        }
        self.counters.rx_bytes += datagram.len() as u64;
        self.send_to(from, &answer);
        // boringtun's rule: after an answer, ask again until there is none.
        while let TunnResult::WriteToNetwork(more) = self.tunn.decapsulate(None, &[], plain) {
            let more = more.to_vec();
            self.send_to(from, &more);
        }
        true
    }

    fn handle_packet(
        &mut self,
        datagram: &[u8],
        plain: &mut [u8],
        from: SocketAddr,
        now: Instant,
    ) -> bool {
        let Some(index) = index_at(datagram, 4).filter(|&index| self.keys.admits(index, now))
        else {
            return false;
        };
        let packet: &[u8] = match self.tunn.decapsulate(None, datagram, plain) {
            TunnResult::Done => &[],
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                packet
            }
            TunnResult::Err(_) | TunnResult::WriteToNetwork(_) => return false,
        };
        let (length, between) = (packet.len(), wire::addresses(packet));
        self.counters.rx_bytes += datagram.len() as u64;
        self.moved_to(from, now);
        if self.keys.confirm(index) {
            self.established(now);
        }
        self.timers.heard(now, length > 0);
        if self.keys.old_for_receiving(now) && !self.timers.attempting() {
            self.send_initiation(now);
        }
        if length == 0 {
            return true;
        }
        if between != Some((self.remote, self.local)) {
            self.counters.foreign += 1;
            return true;
        }
        self.last_data = now;
        if let Some(echo) = Echo::parse(packet) {
            self.echo(&echo, now);
            return true;
        }
        self.unacknowledged = (self.unacknowledged.0 + 1, self.unacknowledged.1 + length);
        self.net.ingress(packet, now);
        if self.unacknowledged.0 >= ACK_EVERY.0 || self.unacknowledged.1 >= ACK_EVERY.1 {
            self.egress(now);
        }
        true
    }

    /// An echo request is answered; an answer to our probe says what the path carries.
    fn echo(&mut self, echo: &Echo<'_>, now: Instant) {
        if echo.asks {
            let (local, remote) = (self.local, self.remote);
            self.send_alone(now, |room| echo.answer(local, remote, room));
        } else if self.reach.answered(echo) {
            self.carries(self.reach.mtu());
        }
    }

    fn carries(&mut self, mtu: usize) {
        self.net.carry(mtu);
        self.events.push_back(Event::Carries(mtu));
    }

    fn established(&mut self, now: Instant) {
        self.counters.handshakes += 1;
        self.timers.established(now);
        self.events.push_back(Event::Handshaken);
    }

    fn moved_to(&mut self, from: SocketAddr, now: Instant) {
        if self.endpoint != Some(from) {
            self.counters.roamed += u64::from(self.endpoint.is_some());
            self.endpoint = Some(from);
            self.net.moved();
            if self.reach.mtu() > MTU {
                self.carries(MTU);
            }
            self.reach.moved(now);
            self.events.push_back(Event::Endpoint(from));
        }
    }

    // ---- time ----

    /// Does what the clock asks for.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.housekeeping {
            self.housekeep(now);
            if now.saturating_duration_since(self.last_data) > QUIET {
                self.trains.shrink();
                self.net.shrink();
            }
        }
        self.net.give_up(self.timers.last_heard, now);
        while let Some(due) = self.timers.due(now, self.keys.usable(now)) {
            match due {
                Due::Initiate if self.endpoint.is_none() => break,
                Due::Initiate => self.send_initiation(now),
                Due::Keepalive => self.keepalive(now),
            }
        }
        if !self.keys.usable(now)
            && self.net.wanted()
            && !self.timers.attempting()
            && !self.timers.gave_up()
        {
            self.send_initiation(now);
        }
    }

    /// When to call [`Peer::handle_timeout`] and [`Peer::flush`] next, if nothing else happens.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let usable = self.keys.usable(now);
        let tcp = if usable && !self.trains.full() { self.net.next(now) } else { None };
        let busy = self.keys.any() || self.timers.attempting() || self.net.connections() > 0;
        let housekeeping = busy.then_some(self.housekeeping);
        let expiry = self.keys.expires().filter(|&at| at > now);
        let stale = self.timers.unanswered_at().filter(|&at| at > now);
        let patience = self.net.patience(self.timers.last_heard, now);
        // Without an endpoint there is nothing the timers could do.
        let timers = if self.endpoint.is_some() { self.timers.next(usable) } else { None };
        [tcp, housekeeping, expiry, stale, patience, timers].into_iter().flatten().min()
    }

    fn housekeep(&mut self, now: Instant) {
        let quiet = now.saturating_duration_since(self.last_data) > QUIET;
        self.housekeeping = now + if quiet { HOUSEKEEPING_QUIET } else { HOUSEKEEPING };
        self.keys.expire(now);
        let mut room = [0; wire::LEAST_ROOM];
        if let TunnResult::WriteToNetwork(message) = self.tunn.update_timers(&mut room) {
            let message = message.to_vec();
            let Some(to) = self.endpoint else { return };
            match index_at(&message, 0) {
                Some(1) => self.note_initiation(now),
                _ => self.timers.sent(now, false),
            }
            self.send_to(to, &message);
        }
    }

    // ---- saying something ----

    /// Begins a handshake now, if it is known where the other end is. For whoever knows that now is
    /// the moment; the peer does by itself what WireGuard's timers ask for.
    pub fn initiate(&mut self, now: Instant) {
        match self
            .initiated
            .map(|at| at + INITIATE_PAUSE)
            .filter(|&earliest| self.timers.attempting() && now < earliest)
        {
            Some(earliest) => self.timers.hasten(earliest),
            None => self.send_initiation(now),
        }
    }

    fn send_initiation(&mut self, now: Instant) {
        let Some(to) = self.endpoint else { return };
        let mut room = [0; wire::LEAST_ROOM];
        // Noted first, so that even a failure waits for its turn to be repeated.
        self.note_initiation(now);
        if let TunnResult::WriteToNetwork(message) =
            self.tunn.format_handshake_initiation(&mut room, true)
        {
            let message = message.to_vec();
            self.send_to(to, &message);
        }
    }

    fn note_initiation(&mut self, now: Instant) {
        self.timers.initiated(now);
        self.initiated = Some(now);
    }

    fn keepalive(&mut self, now: Instant) {
        self.with_sealer(now, false, |_, sealer| sealer.seal(0));
    }

    fn send_to(&mut self, to: SocketAddr, message: &[u8]) {
        self.counters.tx_bytes += message.len() as u64;
        self.trains.append(to, message.len(), message.len(), |room| {
            room.copy_from_slice(message);
            message.len()
        });
    }

    /// Lets TCP send what it has to say, and notices what became of connections. Call after any
    /// operation, then drain the outputs.
    pub fn flush(&mut self, now: Instant) {
        for _ in 0..FLUSHES {
            self.egress(now);
            self.net.harvest(&mut self.events, now);
            // Who was given up has a last word.
            if !self.net.has_more() || self.trains.full() {
                break;
            }
        }
        self.look_further(now);
    }

    /// Tries larger packets where that is of use; believes in them no longer when TCP does not.
    fn look_further(&mut self, now: Instant) {
        if self.reach.mtu() > self.net.mtu() {
            self.reach.failed(now);
            self.carries(MTU);
        }
        if !self.trains.full() && self.reach.due(now) && self.net.wants_larger() {
            let (mut reach, local, remote) = (self.reach, self.local, self.remote);
            self.send_alone(now, |room| reach.probe(local, remote, room, now));
            self.reach = reach;
        }
    }

    /// Sends a packet that `write` puts into the room it is given, in a datagram that no other
    /// shares a system call with: it may be refused as too large.
    fn send_alone(&mut self, now: Instant, write: impl FnOnce(&mut [u8]) -> usize) {
        self.with_sealer(now, true, |_, sealer| {
            if sealer.ready() {
                sealer.trains.close();
                let length = write(sealer.room());
                if length > 0 {
                    sealer.seal(length);
                }
                sealer.trains.close();
            }
        });
    }

    fn egress(&mut self, now: Instant) {
        self.unacknowledged = (0, 0);
        self.with_sealer(now, true, |net, sealer| net.egress(sealer, now));
    }

    /// Runs `f` with the means to encrypt. `data`: what it sends asks for an answer (an empty
    /// packet asks for none).
    fn with_sealer<R>(
        &mut self,
        now: Instant,
        data: bool,
        f: impl FnOnce(&mut Netstack, &mut Sealer<'_>) -> R,
    ) -> R {
        let to = if self.keys.usable(now) { self.endpoint } else { None };
        let (result, sealed, bytes, lost_key) = room::scratch(|scratch| {
            let (tunn, trains) = (&mut self.tunn, &mut self.trains);
            let mut sealer =
                Sealer { tunn, trains, scratch, to, sealed: 0, bytes: 0, lost_key: false };
            let result = f(&mut self.net, &mut sealer);
            (result, sealer.sealed, sealer.bytes, sealer.lost_key)
        });
        self.counters.tx_bytes += bytes;
        if lost_key {
            // Only boringtun's clock can have done this (a machine that slept): believe it.
            self.keys.clear();
        }
        if sealed > 0 {
            self.timers.sent(now, data);
            if self.keys.old_for_sending(now) && !self.timers.attempting() {
                self.send_initiation(now);
            }
        }
        result
    }

    // ---- outputs ----

    /// The next train of datagrams to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.trains.pop()
    }

    /// Gives a sent train's buffer back.
    pub fn recycle(&mut self, sent: Transmit) {
        self.trains.recycle(sent);
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What the state machine says at `now`.
    pub fn status(&self, now: Instant) -> TunnelStatus {
        match (self.keys.usable(now), self.keys.any() || self.timers.gave_up()) {
            (true, _) if self.timers.unanswered(now) => TunnelStatus::Stale,
            (true, _) => TunnelStatus::Encrypted,
            (false, true) => TunnelStatus::Down,
            (false, false) => TunnelStatus::Connecting,
        }
    }

    /// What went through so far.
    pub fn counters(&self) -> PeerCounters {
        let (retransmits, tcp_rtt) = self.net.figures();
        PeerCounters { retransmits, tcp_rtt, ..self.counters }
    }

    /// Where the other end is.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    // ---- TCP ----

    /// Opens a connection to a port of the other end; [`Event::Connected`] or
    /// [`Event::ConnectFailed`] follows. Begins a handshake if there is no key.
    pub fn connect(&mut self, port: u16, now: Instant) -> Result<ConnId, PeerError> {
        let conn = self.net.connect(port, now)?;
        if !self.keys.usable(now) {
            self.initiate(now);
        }
        Ok(conn)
    }

    /// Accepts connections on a port; at most `backlog` may be half open.
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<(), PeerError> {
        self.net.listen(port, backlog)
    }

    /// Accepts no more.
    pub fn unlisten(&mut self, port: u16) {
        self.net.unlisten(port);
    }

    /// Adds the connections that may have something new for their users since this was asked last:
    /// bytes, room for bytes, an end.
    pub fn stirred(&mut self, into: &mut Vec<ConnId>) {
        self.net.stirred(into);
    }

    /// There may be more to send than there was room for.
    pub fn has_more(&self) -> bool {
        self.net.has_more()
    }

    /// Moves up to `limit` received bytes to the end of `into`.
    pub fn read(&mut self, conn: ConnId, into: &mut Chain, limit: usize, now: Instant) -> Progress {
        self.net.read(conn, into, limit, now)
    }

    /// Takes bytes to be sent from the front of `from`, as many as there is room for.
    pub fn write(&mut self, conn: ConnId, from: &mut Chain) -> Progress {
        self.net.write(conn, from)
    }

    /// Ends our half of a connection, after what was written.
    pub fn shutdown(&mut self, conn: ConnId) {
        self.net.shutdown(conn);
    }

    /// Resets a connection.
    pub fn abort(&mut self, conn: ConnId) {
        self.net.abort(conn);
    }

    /// Lets go of a connection: it closes in good order and is forgotten.
    pub fn release(&mut self, conn: ConnId, now: Instant) {
        self.net.release(conn, now);
    }

    /// Resets every connection and stops listening: the last words before the keys go.
    pub fn abort_all(&mut self, now: Instant) {
        self.trains.clear();
        self.net.abort_all();
        self.egress(now);
    }

    /// Connections that exist, open or not.
    pub fn connections(&self) -> usize {
        self.net.connections()
    }
}

fn index_at(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
}
