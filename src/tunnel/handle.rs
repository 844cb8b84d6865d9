//! The handle to a tunnel, and the state it shares with the tunnel's owner task.
//!
//! - A [`Tunnel`] is cheap to clone. It sends the owner [`Command`]s through a bounded queue and
//!   reads what the owner published.
//! - **Published** values (status, counters, endpoint) are written by the owner once per round,
//!   never per packet.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::sync::lock;
use crate::tunnel::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::tunnel::peer::{PeerError, Profile, TunnelStatus};
use crate::tunnel::stream::{StreamNotifier, TunnelListener, TunnelStream};

/// A TCP connection whose peer is silent for this long is aborted, unless configured otherwise.
pub const TCP_TIMEOUT: Duration = Duration::from_secs(20);
/// Upper bound of a listener's backlog.
const BACKLOG_MAX: usize = 128;

/// A session's id, or a host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelId(pub uuid::Uuid);

#[derive(Debug, Clone)]
pub struct PeerConfig {
    pub id: TunnelId,
    /// Tunnels of one hub may share a private key or have their own.
    pub private_key: PrivateKey,
    pub peer_public_key: PublicKey,
    pub preshared_key: PresharedKey,
    /// Outer address of the peer; `None` when the peer initiates.
    pub endpoint: Option<SocketAddr>,
    /// Our address inside the tunnel.
    pub local_addr: IpAddr,
    /// The peer's address inside the tunnel.
    pub peer_addr: IpAddr,
    /// Persistent keepalive interval. With one, handshake attempts never stop.
    pub keepalive: Option<Duration>,
    pub profile: Profile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// The tunnel, or its hub, is closed.
    #[error("tunnel is closed")]
    Closed,
    /// The hub has a tunnel with this id.
    #[error("a tunnel of this id exists")]
    DuplicateId,
    /// The hub has a tunnel between these two keys.
    #[error("a tunnel between these keys exists")]
    DuplicateKey,
    /// The hub, the tunnel or its command queue is full.
    #[error("too many tunnels, connections or requests")]
    Full,
    #[error("port is in use")]
    PortInUse,
    /// Port 0, an address that is not a host's, or addresses of different families.
    #[error("not an address a tunnel can have")]
    Unaddressable,
    /// The peer has no listener on that port.
    #[error("connection refused inside the tunnel")]
    Refused,
    #[error("no answer inside the tunnel")]
    TimedOut,
}

impl From<PeerError> for TunnelError {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::TooManyConnections => Self::Full,
            PeerError::PortInUse => Self::PortInUse,
            PeerError::Unaddressable => Self::Unaddressable,
        }
    }
}

impl From<TunnelError> for std::io::Error {
    fn from(error: TunnelError) -> Self {
        use std::io::ErrorKind;
        let kind = match error {
            TunnelError::Closed => ErrorKind::ConnectionAborted,
            TunnelError::Refused => ErrorKind::ConnectionRefused,
            TunnelError::TimedOut => ErrorKind::TimedOut,
            TunnelError::PortInUse => ErrorKind::AddrInUse,
            TunnelError::Unaddressable => ErrorKind::AddrNotAvailable,
            TunnelError::DuplicateId | TunnelError::DuplicateKey => ErrorKind::AlreadyExists,
            TunnelError::Full => ErrorKind::QuotaExceeded,
        };
        Self::new(kind, error)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelStats {
    /// Completion time of the latest handshake.
    pub last_handshake: Option<SystemTime>,
    /// Encrypted bytes sent.
    pub tx_bytes: u64,
    /// Authenticated encrypted bytes received.
    pub rx_bytes: u64,
    /// The peer's outer address: where it was last heard from, or as configured.
    pub endpoint: Option<SocketAddr>,
    /// Duration of the latest handshake that we initiated.
    pub rtt: Option<Duration>,
    /// Largest smoothed round-trip time among the TCP connections inside.
    pub tcp_rtt: Option<Duration>,
    pub handshakes: u64,
    /// TCP segments retransmitted, of all connections.
    pub retransmits: u64,
    /// Received datagrams dropped: not authenticated, replayed, with other inner addresses, or
    /// because the owner's queue was full.
    pub dropped: u64,
}

pub(super) enum Command {
    Initiate,
    Connect { port: u16, answer: oneshot::Sender<Result<TunnelStream, TunnelError>> },
    Listen { port: u16, backlog: usize, incoming: mpsc::Sender<TunnelStream> },
}

/// State shared by handles, the owner and the hub.
pub(super) struct Shared {
    pub(super) id: TunnelId,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) notifier: Arc<StreamNotifier>,
    pub(super) closing: CancellationToken,
    pub(super) closed: CancellationToken,
    pub(super) status: watch::Sender<TunnelStatus>,
    pub(super) endpoint: Mutex<Option<SocketAddr>>,
    pub(super) listening: Mutex<Vec<(u16, mpsc::WeakSender<TunnelStream>)>>,
    pub(super) last_handshake_ms: AtomicI64,
    pub(super) tx_bytes: AtomicU64,
    pub(super) rx_bytes: AtomicU64,
    pub(super) rtt_us: AtomicU64,
    pub(super) tcp_rtt_us: AtomicU64,
    pub(super) handshakes: AtomicU64,
    pub(super) retransmits: AtomicU64,
    pub(super) rejected: AtomicU64,
    /// Datagrams the hub could not queue.
    pub(super) overflow: AtomicU64,
    /// Bytes waiting in the owner's queue.
    pub(super) queued_bytes: AtomicUsize,
}

impl Shared {
    pub(super) fn new(
        id: TunnelId,
        endpoint: Option<SocketAddr>,
        commands: mpsc::Sender<Command>,
        notifier: Arc<StreamNotifier>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            id,
            commands,
            notifier,
            closing,
            closed: CancellationToken::new(),
            status: watch::Sender::new(TunnelStatus::Connecting),
            endpoint: Mutex::new(endpoint),
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
        }
    }
}

#[derive(Clone)]
pub struct Tunnel {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel")
            .field("id", &self.shared.id)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl Tunnel {
    pub fn id(&self) -> TunnelId {
        self.shared.id
    }

    /// Starts a handshake now, if the endpoint is known.
    pub fn initiate(&self) {
        // A full queue holds connect requests, each of which starts a handshake if one is needed.
        let _ = self.shared.commands.try_send(Command::Initiate);
    }

    /// Opens a TCP connection to a port of the peer, after a handshake if there are no session
    /// keys. Dropping the future cancels it.
    pub async fn connect(&self, port: u16) -> Result<TunnelStream, TunnelError> {
        let (answer, answered) = oneshot::channel();
        self.shared
            .commands
            .send(Command::Connect { port, answer })
            .await
            .map_err(|_| TunnelError::Closed)?;
        answered.await.map_err(|_| TunnelError::Closed)?
    }

    /// Accepts TCP connections on a port of our inner address. At most `backlog` (1 to 128) wait to
    /// be accepted; further ones are refused.
    pub fn listen(&self, port: u16, backlog: usize) -> Result<TunnelListener, TunnelError> {
        if port == 0 {
            return Err(TunnelError::Unaddressable);
        }
        let backlog = backlog.clamp(1, BACKLOG_MAX);
        let mut listening = lock(&self.shared.listening);
        // Dropping a listener closes its queue, which frees the port.
        listening.retain(|(_, queue)| queue.upgrade().is_some_and(|queue| !queue.is_closed()));
        if listening.iter().any(|(taken, _)| *taken == port) {
            return Err(TunnelError::PortInUse);
        }
        let (queue, incoming) = mpsc::channel(backlog);
        listening.push((port, queue.downgrade()));
        self.shared.commands.try_send(Command::Listen { port, backlog, incoming: queue }).map_err(
            |error| match error {
                mpsc::error::TrySendError::Full(_) => TunnelError::Full,
                mpsc::error::TrySendError::Closed(_) => TunnelError::Closed,
            },
        )?;
        Ok(TunnelListener { port, incoming, notifier: self.shared.notifier.clone() })
    }

    pub fn status(&self) -> TunnelStatus {
        *self.shared.status.borrow()
    }

    pub fn watch_status(&self) -> watch::Receiver<TunnelStatus> {
        self.shared.status.subscribe()
    }

    pub fn stats(&self) -> TunnelStats {
        let shared = &*self.shared;
        let last = shared.last_handshake_ms.load(Ordering::Relaxed);
        let micros = |of: &AtomicU64| {
            Some(of.load(Ordering::Relaxed)).filter(|&us| us > 0).map(Duration::from_micros)
        };
        TunnelStats {
            last_handshake: u64::try_from(last)
                .ok()
                .filter(|&ms| ms > 0)
                .map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms)),
            tx_bytes: shared.tx_bytes.load(Ordering::Relaxed),
            rx_bytes: shared.rx_bytes.load(Ordering::Relaxed),
            endpoint: *lock(&shared.endpoint),
            rtt: micros(&shared.rtt_us),
            tcp_rtt: micros(&shared.tcp_rtt_us),
            handshakes: shared.handshakes.load(Ordering::Relaxed),
            retransmits: shared.retransmits.load(Ordering::Relaxed),
            dropped: shared.rejected.load(Ordering::Relaxed)
                + shared.overflow.load(Ordering::Relaxed),
        }
    }

    /// Waits until the status is `Encrypted`. The caller sets the time limit.
    pub async fn wait_for_handshake(&self) -> Result<(), TunnelError> {
        let mut status = self.watch_status();
        let seen = tokio::select! {
            () = self.shared.closed.cancelled() => return Err(TunnelError::Closed),
            seen = status.wait_for(|status| *status == TunnelStatus::Encrypted) => seen.is_ok(),
        };
        if seen { Ok(()) } else { Err(TunnelError::Closed) }
    }

    /// Closes the tunnel at once: its streams fail, its keys are dropped, the hub removes it.
    pub fn close(&self) {
        self.shared.closing.cancel();
    }

    /// Waits until the tunnel is closed and its keys are dropped.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.shared.closed.clone().cancelled_owned()
    }
}
