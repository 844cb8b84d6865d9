//! The handle by which everybody else uses a tunnel, and what it shares with the tunnel's owner
//! task.
//!
//! - A [`Tunnel`] is cheap to clone; it asks the owner through a bounded queue of [`Command`]s and
//!   reads what the owner published.
//! - **Published** values (status, counters, endpoint) are written once per batch by the owner,
//!   never per packet.

use crate::domain::sync::lock;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::tunnel::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::tunnel::peer::{PeerError, Profile, TunnelStatus};
use crate::tunnel::stream::{StreamNotifier, TunnelListener, TunnelStream};

/// Silence after which a TCP connection in a tunnel is given up, unless configured otherwise.
pub const TCP_TIMEOUT: Duration = Duration::from_secs(20);
/// Most connections that may wait to be accepted on one port.
const BACKLOG_MAX: usize = 128;

/// Names a tunnel: a session's id, or a host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelId(pub uuid::Uuid);

/// What a tunnel is made of.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Its name in the hub.
    pub id: TunnelId,
    /// Our private key; tunnels of one hub may share one or have their own.
    pub private_key: PrivateKey,
    /// The other end's public key.
    pub peer_public_key: PublicKey,
    /// The secret both ends mix in.
    pub preshared_key: PresharedKey,
    /// Where the other end may be reached; unknown when it is to call us.
    pub endpoint: Option<SocketAddr>,
    /// Our address inside the tunnel.
    pub local_addr: IpAddr,
    /// The other end's address inside the tunnel.
    pub peer_addr: IpAddr,
    /// Send something at least this often; also: never stop trying to reach the other end.
    pub keepalive: Option<Duration>,
    /// TCP window sizes.
    pub profile: Profile,
}

/// Why a tunnel did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// The tunnel, or its hub, is closed.
    #[error("tunnel is closed")]
    Closed,
    /// The hub has a tunnel of this name.
    #[error("a tunnel of this id exists")]
    DuplicateId,
    /// The hub has a tunnel between these two keys.
    #[error("a tunnel between these keys exists")]
    DuplicateKey,
    /// The hub, the tunnel or its queue is full.
    #[error("too many tunnels, connections or requests")]
    Full,
    /// Somebody listens on that port.
    #[error("port is in use")]
    PortInUse,
    /// Not an address or port that a tunnel can have.
    #[error("not an address a tunnel can have")]
    Unaddressable,
    /// Nobody listens on that port of the other end.
    #[error("connection refused inside the tunnel")]
    Refused,
    /// The other end did not answer.
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

/// What went through a tunnel so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelStats {
    /// When the present keys were made.
    pub last_handshake: Option<SystemTime>,
    /// Encrypted bytes sent.
    pub tx_bytes: u64,
    /// Authentic encrypted bytes received.
    pub rx_bytes: u64,
    /// Where the other end was last heard from, or is expected.
    pub endpoint: Option<SocketAddr>,
    /// How long the last handshake we began took.
    pub rtt: Option<Duration>,
    /// The longest smoothed round trip of the TCP connections inside.
    pub tcp_rtt: Option<Duration>,
    /// Handshakes completed.
    pub handshakes: u64,
    /// TCP segments sent again inside, of all connections.
    pub retransmits: u64,
    /// Datagrams thrown away: not authentic, replayed, between foreign addresses, or more than the
    /// owner could take.
    pub dropped: u64,
}

/// What the owner is asked to do.
pub(super) enum Command {
    Initiate,
    Connect { port: u16, answer: oneshot::Sender<Result<TunnelStream, TunnelError>> },
    Listen { port: u16, backlog: usize, incoming: mpsc::Sender<TunnelStream> },
}

/// What the owner publishes, and what the hub counts on its behalf.
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

/// A handle to one tunnel.
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
    /// Its name.
    pub fn id(&self) -> TunnelId {
        self.shared.id
    }

    /// Begins a handshake now, if the endpoint is known.
    pub fn initiate(&self) {
        // A full queue means the owner is busy with requests, each of which begins a handshake if
        // there is need.
        let _ = self.shared.commands.try_send(Command::Initiate);
    }

    /// Opens a TCP connection to a port of the other end, after the handshake if there was none
    /// yet. Dropping the future gives up.
    pub async fn connect(&self, port: u16) -> Result<TunnelStream, TunnelError> {
        let (answer, answered) = oneshot::channel();
        self.shared
            .commands
            .send(Command::Connect { port, answer })
            .await
            .map_err(|_| TunnelError::Closed)?;
        answered.await.map_err(|_| TunnelError::Closed)?
    }

    /// Accepts TCP connections on a port of our address. At most `backlog` wait to be accepted;
    /// more are refused.
    pub fn listen(&self, port: u16, backlog: usize) -> Result<TunnelListener, TunnelError> {
        if port == 0 {
            return Err(TunnelError::Unaddressable);
        }
        let backlog = backlog.clamp(1, BACKLOG_MAX);
        let mut listening = lock(&self.shared.listening);
        // A listener that was dropped closed its queue: its port is free again.
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

    /// What the WireGuard state machine says.
    pub fn status(&self) -> TunnelStatus {
        *self.shared.status.borrow()
    }

    /// Follows the status.
    pub fn watch_status(&self) -> watch::Receiver<TunnelStatus> {
        self.shared.status.subscribe()
    }

    /// What went through so far.
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

    /// Waits until there are session keys and the other end answers. The caller sets the time
    /// limit.
    pub async fn wait_for_handshake(&self) -> Result<(), TunnelError> {
        let mut status = self.watch_status();
        let seen = tokio::select! {
            () = self.shared.closed.cancelled() => return Err(TunnelError::Closed),
            seen = status.wait_for(|status| *status == TunnelStatus::Encrypted) => seen.is_ok(),
        };
        if seen { Ok(()) } else { Err(TunnelError::Closed) }
    }

    /// Ends the tunnel: its streams fail, its keys are dropped, at once. The hub forgets it.
    pub fn close(&self) {
        self.shared.closing.cancel();
    }

    /// Waits until the tunnel is closed and its keys are gone.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.shared.closed.clone().cancelled_owned()
    }
}
