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

mod clock;
mod input;
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
use std::time::Instant;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};

use keyring::Keyring;
use netstack::Netstack;
use path_mtu::PathMtu;
use timers::Timers;
use transmit_queue::TransmitQueue;
use wire::Sealer;

use crate::tunnel::mtu::MTU;
use crate::tunnel::tcp::PacketOutput as _;

pub use crate::tunnel::tcp::ByteQueue;
pub use timers::{
    KEEPALIVE_TIMEOUT, MAINTENANCE_INTERVAL, NEW_HANDSHAKE_TIMEOUT, REJECT_AFTER_TIME,
    REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT,
};
pub use transmit_queue::Transmit;
pub use types::{
    CONNECTIONS_MAX, ConnId, Event, PeerCounters, PeerError, PeerSetup, Profile, Progress,
    TunnelStatus, WINDOWS_MAX,
};

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

    fn set_path_mtu(&mut self, mtu: usize) {
        self.netstack.set_path_mtu(mtu);
        self.events.push_back(Event::PathMtuChanged(mtu));
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

    /// Resets every connection and stops listening, before the keys are dropped.
    pub fn abort_all(&mut self, now: Instant) {
        self.transmits.clear();
        self.netstack.abort_all();
        self.egress(now);
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

    /// Whether there may be output that did not fit into the transmit queue.
    pub fn has_pending_output(&self) -> bool {
        self.netstack.has_pending_output()
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

    /// Number of connections, open or not.
    pub fn connections(&self) -> usize {
        self.netstack.connections()
    }

    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }
}
