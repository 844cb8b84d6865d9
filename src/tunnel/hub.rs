//! The hub: one UDP port, many tunnels.
//!
//! - One task receives and demultiplexes (see `demux`) and limits handshake initiations (see
//!   `initiation_gate`), which are processed after the datagrams of established tunnels. One task
//!   per tunnel owns it (see `driver`) and sends by itself.
//! - The **registry** maps ids to tunnels for the handles; the packet path does not use it.
//! - Tunnels run on the runtime the hub was bound on, or on threads of the hub's own, independent
//!   of who adds them.

mod demux;
mod initiation_gate;
pub(in crate::tunnel) mod socket;
mod threads;

use crate::domain::sync::lock;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tunnel::driver::Driver;
use crate::tunnel::handle::{PeerConfig, Shared, TCP_TIMEOUT, Tunnel, TunnelError, TunnelId};
use crate::tunnel::keys::PublicKey;
use crate::tunnel::peer::{MTU, MTU_MAX, Peer, PeerSetup, Transmit, TunnelStatus};
use crate::tunnel::stream::StreamNotifier;
use demux::{Change, Demux, Registration};
use socket::{HubSocket, ReceiveBuffers};
use threads::WorkerThreads;
pub use threads::worker_threads;

/// Most tunnels of one hub.
pub const TUNNELS_MAX: usize = 16_384;
/// Batches that may wait for one owner.
const INBOX_BATCHES: usize = 1024;
/// Commands that may wait for one owner.
const COMMANDS_MAX: usize = 256;
/// Messages after which the receive loop yields.
const YIELD_EVERY: usize = 256;

#[derive(Debug, Clone)]
pub struct HubConfig {
    /// UDP address and port; port 0 takes a free one.
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HubCounters {
    /// Messages received; the kernel may have coalesced several datagrams in one.
    pub received: u64,
    pub received_bytes: u64,
    /// Sends accepted by the kernel.
    pub sent: u64,
    /// Sends refused by the kernel.
    pub send_failed: u64,
    /// Datagrams for no tunnel of this hub.
    pub unknown: u64,
    /// Datagrams that are no WireGuard message.
    pub malformed: u64,
    /// Initiations answered with a cookie reply because of rate limits.
    pub cookies: u64,
    /// Initiations dropped because of rate limits.
    pub limited: u64,
    /// Datagrams dropped because the owner's queue was full.
    pub overflow: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    received: AtomicU64,
    received_bytes: AtomicU64,
    unknown: AtomicU64,
    malformed: AtomicU64,
    cookies: AtomicU64,
    limited: AtomicU64,
    overflow: AtomicU64,
}

#[derive(Default)]
struct Table {
    tunnels: HashMap<TunnelId, (u32, Tunnel)>,
    indices: HashMap<u32, (PublicKey, PublicKey)>,
    key_pairs: HashSet<(PublicKey, PublicKey)>,
}

/// Outer addresses of the tunnels' peers, authenticated or as configured, each with the number of
/// its tunnels.
#[derive(Default)]
pub(super) struct Endpoints(Mutex<HashMap<SocketAddr, usize>>);

impl Endpoints {
    /// Moves a tunnel's peer from one address to another.
    pub(super) fn update(&self, from: Option<SocketAddr>, to: Option<SocketAddr>) {
        let mut known = lock(&self.0);
        if let Some(to) = to {
            *known.entry(to).or_default() += 1;
        }
        if let Some(from) = from
            && let Some(count) = known.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                known.remove(&from);
            }
        }
    }

    fn contains(&self, address: SocketAddr) -> bool {
        lock(&self.0).contains_key(&address)
    }
}

pub(super) struct Registry {
    pub(super) endpoints: Arc<Endpoints>,
    table: Mutex<Table>,
    changes: mpsc::UnboundedSender<Change>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// Removes the tunnel with this index; idempotent.
    pub(super) fn remove(&self, id: TunnelId, index: u32) {
        let mut table = self.lock();
        let Some(pair) = table.indices.remove(&index) else { return };
        table.key_pairs.remove(&pair);
        if table.tunnels.get(&id).is_some_and(|(known, _)| *known == index) {
            table.tunnels.remove(&id);
        }
        drop(table);
        // Bounded by the table: one addition and one removal per tunnel. If the receive loop has
        // ended there is nothing to update.
        let _ = self.changes.send(Change::Remove { index });
    }
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
        let registry = Arc::new(Registry { endpoints, table: Mutex::default(), changes });
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
                mtu_max: AtomicUsize::new(MTU_MAX),
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

    /// Largest packet inside tunnels added from now on, in bytes: [`MTU`] to [`MTU_MAX`], which is
    /// the default.
    pub fn set_mtu_max(&self, bytes: usize) {
        self.inner.mtu_max.store(bytes.clamp(MTU, MTU_MAX), Ordering::Relaxed);
    }

    /// Adds a tunnel, which responds to handshakes from now on. With a keepalive and a known
    /// endpoint it initiates handshakes by itself and keeps trying; otherwise it sends nothing
    /// until it is used.
    pub fn add_peer(&self, config: PeerConfig) -> Result<Tunnel, TunnelError> {
        let inner = &*self.inner;
        if !is_host_address(config.local_addr)
            || !is_host_address(config.peer_addr)
            || config.local_addr.is_ipv4() != config.peer_addr.is_ipv4()
        {
            return Err(TunnelError::Unaddressable);
        }
        if config.local_addr == config.peer_addr {
            return Err(TunnelError::Unaddressable);
        }
        let pair = (config.private_key.public_key(), config.peer_public_key);
        let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
        let (inbox, received) = mpsc::channel(INBOX_BATCHES);
        let shared = Arc::new(Shared {
            id: config.id,
            commands,
            notifier: StreamNotifier::new(inner.threads.is_some()),
            closing: inner.closing.child_token(),
            closed: CancellationToken::new(),
            status: watch::Sender::new(TunnelStatus::Connecting),
            endpoint: Mutex::new(config.endpoint),
            listening: Mutex::default(),
            last_handshake_ms: AtomicI64::new(0),
            tx_bytes: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
            rtt_us: AtomicU64::new(0),
            tcp_rtt_us: AtomicU64::new(0),
            handshakes: AtomicU64::new(0),
            retransmits: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            overflow: AtomicU64::new(0),
            queued_bytes: AtomicUsize::new(0),
        });
        let tunnel = Tunnel { shared: shared.clone() };
        let index = self.register(config.id, pair, &tunnel)?;
        let mut seed = [0; 8];
        if getrandom::fill(&mut seed).is_err() {
            inner.registry.remove(config.id, index);
            return Err(TunnelError::Full);
        }
        let route = Registration {
            index,
            private_key: config.private_key.clone(),
            peer: config.peer_public_key,
            inbox,
            shared: shared.clone(),
        };
        if inner.registry.changes.send(Change::Add(Box::new(route))).is_err() {
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

    fn register(
        &self,
        id: TunnelId,
        pair: (PublicKey, PublicKey),
        tunnel: &Tunnel,
    ) -> Result<u32, TunnelError> {
        let mut table = self.inner.registry.lock();
        if self.inner.closing.is_cancelled() {
            return Err(TunnelError::Closed);
        }
        if table.tunnels.contains_key(&id) {
            return Err(TunnelError::DuplicateId);
        }
        if table.key_pairs.contains(&pair) {
            return Err(TunnelError::DuplicateKey);
        }
        if table.tunnels.len() >= TUNNELS_MAX {
            return Err(TunnelError::Full);
        }
        // At most 16 384 of 16 million are taken, so a free one is found at once. Random, so that
        // an outsider cannot guess it.
        let index = loop {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).map_err(|_| TunnelError::Full)?;
            let index = u32::from_le_bytes(bytes) >> 8;
            if !table.indices.contains_key(&index) {
                break index;
            }
        };
        table.tunnels.insert(id, (index, tunnel.clone()));
        table.indices.insert(index, pair);
        table.key_pairs.insert(pair);
        Ok(index)
    }

    pub fn tunnel(&self, id: TunnelId) -> Option<Tunnel> {
        self.inner.registry.lock().tunnels.get(&id).map(|(_, tunnel)| tunnel.clone())
    }

    /// Closes a tunnel and frees its id at once.
    pub fn remove(&self, id: TunnelId) {
        let known = self.inner.registry.lock().tunnels.get(&id).cloned();
        if let Some((index, tunnel)) = known {
            tunnel.close();
            self.inner.registry.remove(id, index);
        }
    }

    /// Whether it still receives.
    pub fn is_running(&self) -> bool {
        !self.inner.closing.is_cancelled() && !self.inner.registry.changes.is_closed()
    }

    /// Number of tunnels.
    pub fn peers(&self) -> usize {
        self.inner.registry.lock().tunnels.len()
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

async fn receive_loop(
    socket: Arc<HubSocket>,
    mut changes: mpsc::UnboundedReceiver<Change>,
    mut demux: Demux,
    counters: Arc<Counters>,
    closing: CancellationToken,
) {
    let mut buffers = ReceiveBuffers::new();
    let mut since_yield = 0;
    let mut applied = Vec::new();
    loop {
        let ready = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            count = changes.recv_many(&mut applied, 64) => {
                if count == 0 {
                    return;
                }
                applied.drain(..).for_each(|change| demux.apply_change(change));
                continue;
            }
            ready = socket.readable(), if !demux.has_pending_initiations() => ready,
            // Pending initiations are processed after the datagrams that have arrived.
            () = std::future::ready(()), if demux.has_pending_initiations() => Ok(()),
        };
        let result = ready.and_then(|()| {
            let count = socket.receive(&mut buffers)?;
            // A tunnel's registration precedes its first datagram, so it is known here before a
            // response can arrive.
            while let Ok(change) = changes.try_recv() {
                demux.apply_change(change);
            }
            buffers.for_each_message(count, |from, stride, message| {
                counters.received.fetch_add(1, Ordering::Relaxed);
                counters.received_bytes.fetch_add(message.bytes().len() as u64, Ordering::Relaxed);
                demux.dispatch(from, stride, message);
            });
            let reply = |to, cookie: &[u8]| {
                socket.send_nonblocking(&Transmit {
                    to,
                    contents: cookie.to_vec(),
                    segment_size: cookie.len(),
                })
            };
            let more =
                demux.has_pending_initiations() && demux.process_initiations(Instant::now(), reply);
            // Decrypting an initiation takes as long as dispatching many messages.
            Ok(count + if more { YIELD_EVERY / 4 } else { 0 })
        });
        match result {
            Ok(count) => since_yield += count,
            Err(error) => {
                tracing::warn!(%error, "tunnel.receive");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        if since_yield >= YIELD_EVERY {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Whether an address can be that of one host.
fn is_host_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
    }
}
