//! One end of one tunnel, without I/O: datagrams and the time go in, datagrams and events come out.
//!
//! - A **datagram** is the payload of a UDP datagram: a handshake message or an encrypted packet. A
//!   **packet** is the IP packet inside.
//! - The **endpoint** is the outer address of the last authenticated datagram; it follows a peer
//!   that roams.
//! - The caller (`driver`, or a test) calls, in any order: [`Peer::handle_datagram`], TCP
//!   operations, [`Peer::handle_timeout`] when [`Peer::poll_timeout`] is reached; then
//!   [`Peer::flush`], and drains [`Peer::poll_transmit`] and [`Peer::poll_event`].
//!
//! # Time
//! `now` is an argument everywhere and alone decides about rekeying, retries, keepalives, expiry of
//! keys, status (in `timers` and `keyring`), and TCP. boringtun 0.7.1 also reads a clock of its own
//! (CLOCK_BOOTTIME) inside `Tunn`, which is used for three purposes only: the timestamp in an
//! initiation (which must be real time), the age of its cookie, and zeroizing keys 180 s after a
//! handshake through `Tunn::update_timers`, which is called for maintenance. Where that call also
//! produces a message, it is sent and recorded like one of ours, so the two never disagree. In
//! production both clocks advance alike. In a simulation only `now` advances, and keys are refused
//! exactly when they expire. The bytes of a simulated exchange differ from run to run (ephemeral
//! keys are random); its sizes, times, order and content do not.

mod keyring;
mod netstack;
mod path_mtu;
mod ready_lists;
mod scratch;
mod timers;
mod transmit_queue;
mod types;
mod wire;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};

use keyring::Keyring;
use netstack::Netstack;
use path_mtu::{Echo, PathMtu};
use timers::{TimerAction, Timers};
use transmit_queue::TransmitQueue;
use wire::Sealer;

use crate::tunnel::tcp::PacketOutput as _;

pub use crate::tunnel::tcp::ByteQueue;
pub use netstack::{CONNECTIONS_MAX, ConnId, Progress, WINDOWS_MAX};
pub use timers::{
    KEEPALIVE_TIMEOUT, MAINTENANCE_INTERVAL, NEW_HANDSHAKE_TIMEOUT, REJECT_AFTER_TIME,
    REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT,
};
pub use transmit_queue::Transmit;
pub use types::{Event, PeerCounters, PeerError, PeerSetup, Profile, TunnelStatus};
pub use wire::{MTU, MTU_MAX};

/// Longer datagrams are dropped. Ours are at most 8952 bytes; a standard peer's MTU may be a little
/// larger.
const DATAGRAM_MAX: usize = 9216;
/// Packets, and their bytes, received before TCP output is produced: acknowledgements, and the data
/// they allow to be sent, should not wait for the end of a long batch.
const ACK_EVERY: (u32, usize) = (32, 48 << 10);
/// Minimum interval between two initiations, however often they are requested.
const INITIATION_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// Maintenance interval of an idle tunnel, so that ten thousand of them cost little. No key is used
/// longer because of it.
const MAINTENANCE_INTERVAL_IDLE: Duration = Duration::from_secs(10);
/// Time without data after which a tunnel counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Passes of TCP output in one flush: output ends some connections, whose final segments need
/// another pass.
const FLUSH_PASSES_MAX: usize = 3;

pub struct Peer {
    tunn: Tunn,
    keys: Keyring,
    timers: Timers,
    netstack: Netstack,
    transmits: TransmitQueue,
    events: VecDeque<Event>,
    endpoint: Option<SocketAddr>,
    local: IpAddr,
    remote: IpAddr,
    counters: PeerCounters,
    initiated_at: Option<Instant>,
    maintenance_at: Instant,
    path_mtu: PathMtu,
    /// Packets and bytes received since the last TCP output.
    unacked: (u32, usize),
    last_data_rx: Instant,
}

impl Peer {
    /// A peer that has sent nothing yet.
    pub fn new(setup: PeerSetup, now: Instant) -> Self {
        let own = setup.private_key.public_key();
        // The hub limits handshakes of all tunnels of a key together; boringtun's own limiter would
        // use its own clock.
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
            netstack: Netstack::new(
                setup.local_addr,
                setup.peer_addr,
                setup.profile,
                setup.mtu_max,
                setup.tcp_timeout,
                setup.seed,
                now,
            ),
            path_mtu: PathMtu::new(setup.mtu_max, setup.seed, now),
            transmits: TransmitQueue::new(setup.segments_max),
            events: VecDeque::new(),
            endpoint: setup.endpoint,
            local: setup.local_addr,
            remote: setup.peer_addr,
            counters: PeerCounters::default(),
            initiated_at: None,
            maintenance_at: now,
            unacked: (0, 0),
            last_data_rx: now,
        }
    }

    // ---- input ----

    /// Handles one datagram of any content. What is not authentic is counted and dropped.
    pub fn handle_datagram(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let kind = datagram.first_chunk().map(|kind| u32::from_le_bytes(*kind));
        let accepted = datagram.len() <= DATAGRAM_MAX
            && match kind {
                Some(4) => scratch::with_plaintext(|plaintext| {
                    self.handle_data(datagram, plaintext, from, now)
                }),
                Some(1..=3) => scratch::with_plaintext(|plaintext| {
                    self.handle_handshake(datagram, plaintext, from, now)
                }),
                _ => false,
            };
        if !accepted {
            self.counters.rejected += 1;
        }
    }

    fn handle_handshake(
        &mut self,
        datagram: &[u8],
        plaintext: &mut [u8],
        from: SocketAddr,
        now: Instant,
    ) -> bool {
        // Updates boringtun's clock, so that this session is newer than the last.
        self.maintain(now);
        let TunnResult::WriteToNetwork(answer) = ({
            match self.tunn.decapsulate(Some(from.ip()), datagram, plaintext) {
                // Only a cookie reply is handled without an answer; it does not authenticate the
                // sender's address.
                TunnResult::Done => return true,
                result => result,
            }
        }) else {
            return false;
        };
        let answer = answer.to_vec();
        match (u32_at(datagram, 0), u32_at(&answer, 0)) {
            (Some(1), Some(2)) => {
                self.keys.add(u32_at(&answer, 4).unwrap_or_default(), false, now);
                // The response goes to the sender, but the endpoint stays: an initiation from
                // before our restart could be replayed by anybody. Only the confirming packet,
                // which proves the new key, moves it.
            }
            (Some(2), Some(4)) => {
                self.keys.add(u32_at(datagram, 8).unwrap_or_default(), true, now);
                self.counters.rtt = self.initiated_at.map(|at| now.saturating_duration_since(at));
                self.update_endpoint(from, now);
                self.session_established(now);
                self.timers.packet_sent(now, false);
            }
            // A cookie reply: the sender must prove its address.
            _ => {}
        }
        self.counters.rx_bytes += datagram.len() as u64;
        self.send_to(from, &answer);
        // Required by boringtun: after an answer, call again until there is none.
        while let TunnResult::WriteToNetwork(more) = self.tunn.decapsulate(None, &[], plaintext) {
            let more = more.to_vec();
            self.send_to(from, &more);
        }
        true
    }

    fn handle_data(
        &mut self,
        datagram: &[u8],
        plaintext: &mut [u8],
        from: SocketAddr,
        now: Instant,
    ) -> bool {
        let Some(index) = u32_at(datagram, 4).filter(|&index| self.keys.admits(index, now)) else {
            return false;
        };
        let packet: &[u8] = match self.tunn.decapsulate(None, datagram, plaintext) {
            TunnResult::Done => &[],
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                packet
            }
            TunnResult::Err(_) | TunnResult::WriteToNetwork(_) => return false,
        };
        let (length, between) = (packet.len(), wire::addresses(packet));
        self.counters.rx_bytes += datagram.len() as u64;
        self.update_endpoint(from, now);
        if self.keys.confirm(index) {
            self.session_established(now);
        }
        self.timers.packet_received(now, length > 0);
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
        self.last_data_rx = now;
        if let Some(echo) = Echo::parse(packet) {
            self.handle_echo(&echo, now);
            return true;
        }
        self.unacked = (self.unacked.0 + 1, self.unacked.1 + length);
        self.netstack.ingress(packet, now);
        if self.unacked.0 >= ACK_EVERY.0 || self.unacked.1 >= ACK_EVERY.1 {
            self.egress(now);
        }
        true
    }

    /// Replies to an echo request, or takes the reply to our path MTU probe.
    fn handle_echo(&mut self, echo: &Echo<'_>, now: Instant) {
        if echo.is_request {
            let (local, remote) = (self.local, self.remote);
            self.send_unbatched(now, |buffer| echo.write_reply(local, remote, buffer));
        } else if self.path_mtu.handle_reply(echo) {
            self.set_path_mtu(self.path_mtu.mtu());
        }
    }

    fn set_path_mtu(&mut self, mtu: usize) {
        self.netstack.set_path_mtu(mtu);
        self.events.push_back(Event::PathMtuChanged(mtu));
    }

    fn session_established(&mut self, now: Instant) {
        self.counters.handshakes += 1;
        self.timers.session_established(now);
        self.events.push_back(Event::HandshakeCompleted);
    }

    fn update_endpoint(&mut self, from: SocketAddr, now: Instant) {
        if self.endpoint != Some(from) {
            self.counters.roamed += u64::from(self.endpoint.is_some());
            self.endpoint = Some(from);
            self.netstack.endpoint_changed();
            if self.path_mtu.mtu() > MTU {
                self.set_path_mtu(MTU);
            }
            self.path_mtu.reset(now);
            self.events.push_back(Event::EndpointChanged(from));
        }
    }

    // ---- time ----

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

    fn maintain(&mut self, now: Instant) {
        let quiet = now.saturating_duration_since(self.last_data_rx) > IDLE_AFTER;
        self.maintenance_at =
            now + if quiet { MAINTENANCE_INTERVAL_IDLE } else { MAINTENANCE_INTERVAL };
        self.keys.expire(now);
        let mut buffer = [0; wire::ENCAPSULATE_BUFFER_MIN];
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

    // ---- output ----

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

    fn send_initiation(&mut self, now: Instant) {
        let Some(to) = self.endpoint else { return };
        let mut buffer = [0; wire::ENCAPSULATE_BUFFER_MIN];
        // Recorded first, so that a failed attempt is retried only after its interval.
        self.record_initiation(now);
        if let TunnResult::WriteToNetwork(message) =
            self.tunn.format_handshake_initiation(&mut buffer, true)
        {
            let message = message.to_vec();
            self.send_to(to, &message);
        }
    }

    fn record_initiation(&mut self, now: Instant) {
        self.timers.initiation_sent(now);
        self.initiated_at = Some(now);
    }

    fn send_keepalive(&mut self, now: Instant) {
        self.with_sealer(now, false, |_, sealer| sealer.seal(0));
    }

    fn send_to(&mut self, to: SocketAddr, message: &[u8]) {
        self.counters.tx_bytes += message.len() as u64;
        self.transmits.append(to, message.len(), message.len(), |buffer| {
            buffer.copy_from_slice(message);
            message.len()
        });
    }

    /// Lets TCP send, and collects events of connections. To be called after any operation; then
    /// drain the outputs.
    pub fn flush(&mut self, now: Instant) {
        for _ in 0..FLUSH_PASSES_MAX {
            self.egress(now);
            self.netstack.collect_events(&mut self.events, now);
            // An aborted connection has a RST to send.
            if !self.netstack.has_pending_output() || self.transmits.is_full() {
                break;
            }
        }
        self.probe_path_mtu(now);
    }

    /// Probes for a larger path MTU where that is useful; falls back to [`MTU`] when TCP detected a
    /// black hole.
    fn probe_path_mtu(&mut self, now: Instant) {
        if self.path_mtu.mtu() > self.netstack.mtu() {
            self.path_mtu.fall_back(now);
            self.set_path_mtu(MTU);
        }
        if !self.transmits.is_full()
            && self.path_mtu.probe_due(now)
            && self.netstack.wants_path_mtu_probe()
        {
            let (mut path_mtu, local, remote) = (self.path_mtu, self.local, self.remote);
            self.send_unbatched(now, |buffer| path_mtu.write_probe(local, remote, buffer, now));
            self.path_mtu = path_mtu;
        }
    }

    /// Sends a packet that `write` puts into the given buffer, in a datagram that shares no GSO
    /// batch: the kernel may refuse it as too large.
    fn send_unbatched(&mut self, now: Instant, write: impl FnOnce(&mut [u8]) -> usize) {
        self.with_sealer(now, true, |_, sealer| {
            if sealer.is_ready() {
                sealer.transmits.close_last();
                let length = write(sealer.buffer());
                if length > 0 {
                    sealer.seal(length);
                }
                sealer.transmits.close_last();
            }
        });
    }

    fn egress(&mut self, now: Instant) {
        self.unacked = (0, 0);
        self.with_sealer(now, true, |net, sealer| net.egress(sealer, now));
    }

    /// Runs `f` with access to encryption. `data`: what it sends expects an answer (a keepalive
    /// expects none).
    fn with_sealer<R>(
        &mut self,
        now: Instant,
        data: bool,
        f: impl FnOnce(&mut Netstack, &mut Sealer<'_>) -> R,
    ) -> R {
        let to = if self.keys.usable(now) { self.endpoint } else { None };
        let (result, sealed, bytes, lost_key) = scratch::with_packet(|scratch| {
            let (tunn, transmits) = (&mut self.tunn, &mut self.transmits);
            let mut sealer =
                Sealer { tunn, transmits, scratch, to, packets: 0, bytes: 0, session_lost: false };
            let result = f(&mut self.netstack, &mut sealer);
            (result, sealer.packets, sealer.bytes, sealer.session_lost)
        });
        self.counters.tx_bytes += bytes;
        if lost_key {
            // Only boringtun's clock can have expired the session (a machine that was suspended).
            self.keys.clear();
        }
        if sealed > 0 {
            self.timers.packet_sent(now, data);
            if self.keys.old_for_sending(now) && !self.timers.attempting() {
                self.send_initiation(now);
            }
        }
        result
    }

    // ---- polling ----

    /// The next batch of datagrams to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop()
    }

    /// Returns the buffer of a sent batch.
    pub fn recycle(&mut self, sent: Transmit) {
        self.transmits.recycle(sent);
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn status(&self, now: Instant) -> TunnelStatus {
        match (self.keys.usable(now), self.keys.any() || self.timers.attempt_expired()) {
            (true, _) if self.timers.is_unanswered(now) => TunnelStatus::Stale,
            (true, _) => TunnelStatus::Encrypted,
            (false, true) => TunnelStatus::Down,
            (false, false) => TunnelStatus::Connecting,
        }
    }

    pub fn counters(&self) -> PeerCounters {
        let (retransmits, tcp_rtt) = self.netstack.stats();
        PeerCounters { retransmits, tcp_rtt, ..self.counters }
    }

    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    // ---- TCP ----

    /// Opens a connection to a port of the peer; [`Event::Connected`] or [`Event::ConnectFailed`]
    /// follows. Starts a handshake if there is no session key.
    pub fn connect(&mut self, port: u16, now: Instant) -> Result<ConnId, PeerError> {
        let conn = self.netstack.connect(port, now)?;
        if !self.keys.usable(now) {
            self.initiate(now);
        }
        Ok(conn)
    }

    /// Accepts connections on a port; at most `backlog` may be half-open.
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<(), PeerError> {
        self.netstack.listen(port, backlog)
    }

    pub fn unlisten(&mut self, port: u16) {
        self.netstack.unlisten(port);
    }

    /// Appends the connections that may have something new for their users since the last call:
    /// data, buffer space, an end.
    pub fn drain_ready(&mut self, into: &mut Vec<ConnId>) {
        self.netstack.drain_ready(into);
    }

    /// Whether there may be output that did not fit into the transmit queue.
    pub fn has_pending_output(&self) -> bool {
        self.netstack.has_pending_output()
    }

    /// Moves up to `limit` received bytes to the end of `into`.
    pub fn read(
        &mut self,
        conn: ConnId,
        into: &mut ByteQueue,
        limit: usize,
        now: Instant,
    ) -> Progress {
        self.netstack.read(conn, into, limit, now)
    }

    /// Takes bytes to be sent from the front of `from`, as many as there is space for.
    pub fn write(&mut self, conn: ConnId, from: &mut ByteQueue) -> Progress {
        self.netstack.write(conn, from)
    }

    /// Sends a FIN after what was written.
    pub fn shutdown(&mut self, conn: ConnId) {
        self.netstack.shutdown(conn);
    }

    pub fn abort(&mut self, conn: ConnId) {
        self.netstack.abort(conn);
    }

    /// Closes a connection and removes it once it is closed.
    pub fn release(&mut self, conn: ConnId, now: Instant) {
        self.netstack.release(conn, now);
    }

    /// Resets every connection and stops listening, before the keys are dropped.
    pub fn abort_all(&mut self, now: Instant) {
        self.transmits.clear();
        self.netstack.abort_all();
        self.egress(now);
    }

    /// Number of connections, open or not.
    pub fn connections(&self) -> usize {
        self.netstack.connections()
    }
}

fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
}
