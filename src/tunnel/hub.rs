//! The hub: one UDP port, many tunnels.
//!
//! - One task receives and demultiplexes (see `demux`) and limits handshake initiations (see
//!   `initiation_gate`), which are processed after the datagrams of established tunnels. One task
//!   per tunnel owns it (see `driver`) and sends by itself.
//! - The **registry** maps ids to tunnels for the handles; the packet path does not use it.
//! - Tunnels run on the runtime the hub was bound on, or on threads of the hub's own, independent
//!   of who adds them.

mod counters;
mod demux;
mod endpoints;
mod initiation_gate;
mod receive;
pub(in crate::tunnel) mod registration;
pub(in crate::tunnel) mod registry;
pub(in crate::tunnel) mod socket;
mod threads;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tunnel::driver::Driver;
use crate::tunnel::handle::{PeerConfig, Shared, TCP_TIMEOUT, Tunnel, TunnelError, TunnelId};
use crate::tunnel::mtu::{MTU, MTU_MAX};
use crate::tunnel::peer::{Peer, PeerSetup};
use crate::tunnel::stream::StreamNotifier;
use counters::Counters;
use demux::Demux;
use endpoints::Endpoints;
use receive::receive_loop;
use registration::{Change, Registration};
use registry::Registry;
use socket::HubSocket;
use threads::WorkerThreads;

pub use counters::HubCounters;
pub use registry::TUNNELS_MAX;
pub use threads::worker_threads;

/// Batches that may wait for one owner.
const INBOX_BATCHES: usize = 1024;
/// Commands that may wait for one owner.
const COMMANDS_MAX: usize = 256;

#[derive(Debug, Clone)]
pub struct HubConfig {
    /// UDP address and port; port 0 takes a free one.
    pub listen: SocketAddr,
}

struct Inner {
    socket: Arc<HubSocket>,
    registry: Arc<Registry>,
    counters: Arc<Counters>,
    closing: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
    threads: Option<WorkerThreads>,
    tcp_timeout_ms: AtomicU64,
    mtu_max: AtomicUsize,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// A handle to a hub. Dropping the last one closes the hub and its tunnels.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("local_addr", &self.local_addr())
            .field("peers", &self.peers())
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// Binds the port and starts receiving, on the current runtime.
    pub async fn bind(config: HubConfig) -> io::Result<Self> {
        Self::open(config, Handle::current(), None)
    }

    /// The same on [`worker_threads`] dedicated threads, for a process whose tunnels' users run on
    /// other threads.
    pub async fn bind_on_own_threads(config: HubConfig) -> io::Result<Self> {
        let threads = WorkerThreads::start()?;
        let runtime = threads.runtime();
        let _entered = runtime.enter();
        Self::open(config, runtime.clone(), Some(threads))
    }

    fn open(
        config: HubConfig,
        runtime: Handle,
        threads: Option<WorkerThreads>,
    ) -> io::Result<Self> {
        let socket = Arc::new(HubSocket::bind(config.listen)?);
        let (changes, changed) = mpsc::unbounded_channel();
        let counters = Arc::<Counters>::default();
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let endpoints = Arc::<Endpoints>::default();
        let demux = Demux::new(endpoints.clone(), counters.clone(), Instant::now());
        tasks.spawn_on(
            receive_loop(socket.clone(), changed, demux, counters.clone(), closing.clone()),
            &runtime,
        );
        let tcp_timeout_ms =
            AtomicU64::new(u64::try_from(TCP_TIMEOUT.as_millis()).unwrap_or(u64::MAX));
        let registry = Arc::new(Registry::new(endpoints, changes));
        Ok(Self {
            inner: Arc::new(Inner {
                socket,
                registry,
                counters,
                closing,
                tasks,
                runtime,
                threads,
                tcp_timeout_ms,
                mtu_max: AtomicUsize::new(MTU),
            }),
        })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.socket.local_addr()
    }

    /// How long the peer of a TCP connection may be silent before the connection is aborted, for
    /// tunnels added from now on: one second to one hour, [`TCP_TIMEOUT`] by default.
    pub fn set_tcp_timeout(&self, timeout: Duration) {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).clamp(1000, 3_600_000);
        self.inner.tcp_timeout_ms.store(millis, Ordering::Relaxed);
    }

    /// Largest packet accepted and probed for inside tunnels added from now on, in bytes: [`MTU`],
    /// which is the default, to [`MTU_MAX`]. Neither end probes unless both accept more.
    pub fn set_mtu_max(&self, bytes: usize) {
        self.inner.mtu_max.store(bytes.clamp(MTU, MTU_MAX), Ordering::Relaxed);
    }

    /// Adds a tunnel, which responds to handshakes from now on. With a keepalive and a known
    /// endpoint it initiates handshakes by itself and keeps trying; otherwise it sends nothing
    /// until it is used.
    pub fn add_peer(&self, config: PeerConfig) -> Result<Tunnel, TunnelError> {
        let inner = &*self.inner;
        check_addresses(config.local_addr, config.peer_addr)?;
        let pair = (config.private_key.public_key(), config.peer_public_key);
        let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
        let (inbox, received) = mpsc::channel(INBOX_BATCHES);
        let shared = Arc::new(Shared::new(
            config.id,
            config.endpoint,
            commands,
            StreamNotifier::new(inner.threads.is_some()),
            inner.closing.child_token(),
        ));
        let tunnel = Tunnel { shared: shared.clone() };
        if inner.closing.is_cancelled() {
            return Err(TunnelError::Closed);
        }
        let index = inner.registry.register(config.id, pair, &tunnel)?;
        let mut seed = [0; 8];
        if getrandom::fill(&mut seed).is_err() {
            inner.registry.remove(config.id, index);
            return Err(TunnelError::Full);
        }
        let registration = Registration {
            index,
            private_key: config.private_key.clone(),
            peer: config.peer_public_key,
            inbox,
            shared: shared.clone(),
        };
        if !inner.registry.announce(Change::Add(Box::new(registration))) {
            inner.registry.remove(config.id, index);
            return Err(TunnelError::Closed);
        }
        inner.registry.endpoints.update(None, config.endpoint);
        let setup = PeerSetup {
            private_key: config.private_key,
            peer_public_key: config.peer_public_key,
            preshared_key: config.preshared_key,
            endpoint: config.endpoint,
            local_addr: config.local_addr,
            peer_addr: config.peer_addr,
            keepalive: config.keepalive,
            profile: config.profile,
            mtu_max: config.profile.mtu_max().min(inner.mtu_max.load(Ordering::Relaxed)),
            tcp_timeout: Duration::from_millis(inner.tcp_timeout_ms.load(Ordering::Relaxed)),
            index,
            seed: u64::from_le_bytes(seed),
            segments_max: inner.socket.segments_max(),
        };
        let driver = Driver {
            peer: Box::new(Peer::new(setup, Instant::now())),
            profile: config.profile,
            shared,
            socket: inner.socket.clone(),
            inbox: received,
            commands: commanded,
            registry: inner.registry.clone(),
            index,
            streams: Default::default(),
        };
        inner.tasks.spawn_on(driver.run(), &inner.runtime);
        Ok(tunnel)
    }

    pub fn tunnel(&self, id: TunnelId) -> Option<Tunnel> {
        self.inner.registry.get(id).map(|(_, tunnel)| tunnel)
    }

    /// Closes a tunnel and frees its id at once.
    pub fn remove(&self, id: TunnelId) {
        if let Some((index, tunnel)) = self.inner.registry.get(id) {
            tunnel.close();
            self.inner.registry.remove(id, index);
        }
    }

    /// Whether it still receives.
    pub fn is_running(&self) -> bool {
        !self.inner.closing.is_cancelled() && self.inner.registry.is_received()
    }

    /// Number of tunnels.
    pub fn peers(&self) -> usize {
        self.inner.registry.len()
    }

    /// Closes every tunnel and the port, and waits until that is done.
    pub async fn shutdown(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    pub fn counters(&self) -> HubCounters {
        let (counters, socket) = (&self.inner.counters, &self.inner.socket);
        HubCounters {
            received: counters.received.load(Ordering::Relaxed),
            received_bytes: counters.received_bytes.load(Ordering::Relaxed),
            sent: socket.sent.load(Ordering::Relaxed),
            send_failed: socket.send_failed.load(Ordering::Relaxed),
            unknown: counters.unknown.load(Ordering::Relaxed),
            malformed: counters.malformed.load(Ordering::Relaxed),
            cookies: counters.cookies.load(Ordering::Relaxed),
            limited: counters.limited.load(Ordering::Relaxed),
            overflow: counters.overflow.load(Ordering::Relaxed),
        }
    }
}

/// Both are addresses of hosts, different ones of one family.
fn check_addresses(local: IpAddr, peer: IpAddr) -> Result<(), TunnelError> {
    let usable = is_host_address(local)
        && is_host_address(peer)
        && local.is_ipv4() == peer.is_ipv4()
        && local != peer;
    if usable { Ok(()) } else { Err(TunnelError::Unaddressable) }
}

/// Whether an address can be that of one host.
fn is_host_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
    }
}
