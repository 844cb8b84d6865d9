//! A simulated network: two peers, network conditions, and a clock that advances from event to
//! event.
//!
//! - Conditions are loss, delay, jitter (which reorders), duplication and corruption, drawn from
//!   one seed.
//! - A side may roam: it sends from a new address, and the old one is unreachable.
//! - The **trace** is every datagram's time, direction and size. The same seed gives the same
//!   trace; contents differ, because ephemeral keys are random.

mod stream;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use portcullis::tunnel::peer::{ConnId, Event, Peer, PeerSetup};
use portcullis::tunnel::{MTU, PresharedKey, PrivateKey, Profile};

pub use stream::Stream;

pub const GATEWAY: usize = 0;
pub const AGENT: usize = 1;

#[derive(Clone, Copy, Debug)]
pub struct NetworkConditions {
    pub delay: Duration,
    pub jitter: Duration,
    /// Per mille.
    pub loss: u64,
    pub duplicate: u64,
    pub corrupt: u64,
    /// Longer datagrams are dropped.
    pub largest: usize,
}

impl NetworkConditions {
    pub const CLEAN: Self = Self {
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        loss: 0,
        duplicate: 0,
        corrupt: 0,
        largest: usize::MAX,
    };
    pub const ADVERSE: Self = Self {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(15),
        loss: 50,
        duplicate: 30,
        corrupt: 30,
        ..Self::CLEAN
    };
    pub const PARTITIONED: Self = Self { loss: 1000, ..Self::CLEAN };
}

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[derive(Clone, Debug)]
pub struct PeerSettings {
    pub private_keys: [PrivateKey; 2],
    pub preshared_keys: [PresharedKey; 2],
    pub keepalive: [Option<Duration>; 2],
    pub tunnel_addresses: [IpAddr; 2],
    pub profile: Profile,
    /// The largest packets accepted and probed for.
    pub mtu_max: [usize; 2],
}

impl PeerSettings {
    pub fn new() -> Self {
        let psk = PresharedKey::from_bytes([3; 32]);
        Self {
            private_keys: [PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32])],
            preshared_keys: [psk.clone(), psk],
            keepalive: [None, None],
            tunnel_addresses: ["10.64.0.1".parse().unwrap(), "10.64.0.2".parse().unwrap()],
            profile: Profile::Stream,
            mtu_max: [MTU; 2],
        }
    }
}

/// A datagram in flight; ordered by arrival, then by departure.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    at: Instant,
    number: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

pub struct SimulatedNetwork {
    pub now: Instant,
    pub epoch: Instant,
    pub peers: [Peer; 2],
    pub addresses: [SocketAddr; 2],
    pub conditions: NetworkConditions,
    pub rng: Rng,
    pub events: [Vec<Event>; 2],
    /// (microseconds since the start, sender, bytes)
    pub trace: Vec<(u128, usize, usize)>,
    /// Every datagram sent, with its sender.
    pub captured: Vec<(usize, Vec<u8>)>,
    pub capture: bool,
    pub streams: BTreeMap<(usize, ConnId), Stream>,
    /// Streams whose user changed something. Others are serviced only when the peer reports them,
    /// as in the product.
    notified: [Vec<ConnId>; 2],
    in_flight: BinaryHeap<Reverse<InFlight>>,
    settings: PeerSettings,
    number: u64,
    seed: u64,
}

impl SimulatedNetwork {
    pub fn new(seed: u64, conditions: NetworkConditions) -> Self {
        Self::with_settings(seed, conditions, PeerSettings::new())
    }

    pub fn with_settings(seed: u64, conditions: NetworkConditions, settings: PeerSettings) -> Self {
        let now = Instant::now();
        let addresses = ["192.0.2.1:51820".parse().unwrap(), "198.51.100.7:4444".parse().unwrap()];
        let peers = [
            peer(&settings, GATEWAY, Some(addresses[AGENT]), seed, now),
            peer(&settings, AGENT, None, seed, now),
        ];
        Self {
            now,
            epoch: now,
            peers,
            addresses,
            conditions,
            rng: Rng::new(seed),
            events: [Vec::new(), Vec::new()],
            trace: Vec::new(),
            captured: Vec::new(),
            capture: false,
            streams: BTreeMap::new(),
            notified: [Vec::new(), Vec::new()],
            in_flight: BinaryHeap::new(),
            settings,
            number: 0,
            seed,
        }
    }

    /// A process is killed and restarted with the stored endpoint; everything else about the tunnel
    /// is lost.
    pub fn restart(&mut self, side: usize) {
        self.seed += 1;
        let endpoint = self.peers[side].endpoint();
        self.peers[side] = peer(&self.settings, side, endpoint, self.seed, self.now);
        self.streams.retain(|(of, _), _| *of != side);
    }

    /// A handshake initiated by the gateway, until it completes.
    pub fn handshake(&mut self) {
        let now = self.now;
        self.peers[GATEWAY].initiate(now);
        // The agent's handshake completes with the first packet under the new key; under loss that
        // may be the first data.
        assert!(
            self.run(Duration::from_secs(80), |net| net.handshakes(GATEWAY) > 0),
            "no handshake"
        );
        self.run(Duration::from_secs(1), |net| net.handshakes(AGENT) > 0);
    }

    pub fn handshakes(&self, side: usize) -> usize {
        self.events[side].iter().filter(|event| **event == Event::HandshakeCompleted).count()
    }

    /// Opens a connection from the gateway; returns both ends.
    pub fn open(&mut self, port: u16) -> (ConnId, ConnId) {
        let now = self.now;
        let _ = self.peers[AGENT].listen(port, 4);
        let near = self.peers[GATEWAY].connect(port, now).unwrap();
        let known = self.accepted().len();
        assert!(
            self.run(Duration::from_secs(60), |net| {
                net.events[GATEWAY].contains(&Event::Connected { conn: near })
                    && net.accepted().len() > known
            }),
            "not connected: {:?}",
            self.events
        );
        let far = *self.accepted().last().unwrap();
        self.streams.insert((GATEWAY, near), Stream::default());
        self.streams.insert((AGENT, far), Stream::default());
        self.notified[GATEWAY].push(near);
        self.notified[AGENT].push(far);
        (near, far)
    }

    fn accepted(&self) -> Vec<ConnId> {
        self.events[AGENT]
            .iter()
            .filter_map(
                |event| if let Event::Accepted { conn, .. } = event { Some(*conn) } else { None },
            )
            .collect()
    }

    /// A stream, to be changed by its user.
    pub fn stream(&mut self, side: usize, conn: ConnId) -> &mut Stream {
        self.notified[side].push(conn);
        self.streams.get_mut(&(side, conn)).unwrap()
    }

    /// Delivers a datagram to a peer, as an attacker would.
    pub fn inject(&mut self, side: usize, from: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        self.peers[side].handle_datagram(bytes, from, now);
    }

    /// Runs until `done`, or for at most `limit`; returns whether it was done.
    pub fn run(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            for side in [GATEWAY, AGENT] {
                self.service(side);
            }
            if done(self) {
                return true;
            }
            let now = self.now;
            let timers = self.peers.iter_mut().filter_map(|peer| peer.poll_timeout(now));
            let arrival = self.in_flight.peek().map(|Reverse(datagram)| datagram.at);
            // The clock has the granularity of the driver's timers, so that the loop terminates.
            let next = timers
                .chain(arrival)
                .min()
                .map_or(end, |at| at.max(now + Duration::from_micros(50)));
            if next >= end {
                self.now = end;
                for side in [GATEWAY, AGENT] {
                    self.service(side);
                }
                return done(self);
            }
            self.now = next;
            self.deliver();
        }
    }

    pub fn advance(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    fn deliver(&mut self) {
        while self.in_flight.peek().is_some_and(|Reverse(datagram)| datagram.at <= self.now) {
            let Some(Reverse(datagram)) = self.in_flight.pop() else { return };
            if let Some(side) = self.addresses.iter().position(|&address| address == datagram.to) {
                self.peers[side].handle_datagram(&datagram.bytes, datagram.from, self.now);
            }
        }
    }

    fn service(&mut self, side: usize) {
        let now = self.now;
        self.peers[side].handle_timeout(now);
        loop {
            let mut notified = std::mem::take(&mut self.notified[side]);
            self.peers[side].drain_ready(&mut notified);
            for conn in notified {
                if let Some(stream) = self.streams.get_mut(&(side, conn)) {
                    stream.serve(&mut self.peers[side], conn, now);
                }
            }
            self.peers[side].flush(now);
            while let Some(event) = self.peers[side].poll_event() {
                self.events[side].push(event);
            }
            let mut sent = false;
            while let Some(transmit) = self.peers[side].poll_transmit() {
                sent = true;
                for segment in transmit.segments() {
                    self.send(side, transmit.to, segment);
                }
                self.peers[side].recycle(transmit);
            }
            if !sent || !self.peers[side].has_pending_output() {
                return;
            }
        }
    }

    fn send(&mut self, side: usize, to: SocketAddr, bytes: &[u8]) {
        self.trace.push(((self.now - self.epoch).as_micros(), side, bytes.len()));
        if self.capture {
            self.captured.push((side, bytes.to_vec()));
        }
        if self.rng.below(1000) < self.conditions.loss || bytes.len() > self.conditions.largest {
            return;
        }
        let copies = if self.rng.below(1000) < self.conditions.duplicate { 2 } else { 1 };
        for _ in 0..copies {
            let mut bytes = bytes.to_vec();
            if self.rng.below(1000) < self.conditions.corrupt {
                let bit = self.rng.below(bytes.len() as u64 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let jitter = Duration::from_micros(
                self.rng.below(self.conditions.jitter.as_micros() as u64 + 1),
            );
            self.number += 1;
            let at = self.now + self.conditions.delay + jitter;
            self.in_flight.push(Reverse(InFlight {
                at,
                number: self.number,
                from: self.addresses[side],
                to,
                bytes,
            }));
        }
    }
}

fn peer(
    settings: &PeerSettings,
    side: usize,
    endpoint: Option<SocketAddr>,
    seed: u64,
    now: Instant,
) -> Peer {
    let other = 1 - side;
    let setup = PeerSetup {
        private_key: settings.private_keys[side].clone(),
        peer_public_key: settings.private_keys[other].public_key(),
        preshared_key: settings.preshared_keys[side].clone(),
        endpoint,
        local_addr: settings.tunnel_addresses[side],
        peer_addr: settings.tunnel_addresses[other],
        keepalive: settings.keepalive[side],
        profile: settings.profile,
        mtu_max: settings.mtu_max[side],
        tcp_timeout: Duration::from_secs(20),
        index: side as u32 + 1,
        seed: seed * 2 + side as u64,
        segments_max: 64,
    };
    Peer::new(setup, now)
}
