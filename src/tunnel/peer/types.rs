//! Types of a peer's interface: setup, status, events, connections, counters.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::tunnel::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::tunnel::mtu::{MTU, MTU_MAX};

/// Most connections of one tunnel.
pub const CONNECTIONS_MAX: usize = 256;
/// Bytes that the buffers of a tunnel's connections may grow to together, beyond the 64 KiB each
/// way that every connection starts with.
pub const WINDOWS_MAX: usize = 16 << 20;

/// One TCP connection of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// Result of reading or writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes.
    Moved(usize),
    /// Nothing now.
    Pending,
    /// Reading: the peer's FIN. Writing: our FIN was requested.
    Finished,
    /// The connection is closed.
    Failed(io::ErrorKind),
}

/// Use of a tunnel, which decides about TCP buffers and packet sizes. Buffers take memory only for
/// bytes they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Requests and responses: 64 KiB each way.
    Control,
    /// A desktop's stream: 64 KiB each way, growing on demand up to 4 MiB. Packets of up to
    /// [`MTU_MAX`] where configured and carried by the path.
    Stream,
    /// The same with a standard WireGuard peer, whose interface has an MTU of [`MTU`] unless
    /// configured otherwise.
    Standard,
}

impl Profile {
    /// Maximum receive and send buffer of a connection, in bytes.
    pub fn buffers_max(self) -> (usize, usize) {
        match self {
            Self::Control => (64 << 10, 64 << 10),
            Self::Stream | Self::Standard => (4 << 20, 4 << 20),
        }
    }

    /// Both buffers of a new connection, in bytes.
    pub(super) fn initial_buffers(self) -> usize {
        match self {
            Self::Control | Self::Stream | Self::Standard => 2 * (64 << 10),
        }
    }

    /// Whether the peer's TCP terminates inside its end of the tunnel, so that WireGuard
    /// authenticates segments end to end. A standard peer may forward packets from elsewhere.
    pub(super) fn is_own_stack(self) -> bool {
        match self {
            Self::Control | Self::Stream => true,
            Self::Standard => false,
        }
    }

    /// The largest packet accepted, in bytes.
    pub fn mtu_max(self) -> usize {
        match self {
            Self::Control | Self::Standard => MTU,
            Self::Stream => MTU_MAX,
        }
    }
}

/// Status of a tunnel according to the WireGuard state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelStatus {
    /// No handshake yet.
    Connecting,
    /// There are session keys, and the peer answers.
    Encrypted,
    /// There are session keys, but what we sent has been unanswered for 15 s.
    Stale,
    /// Closed, or keys expired, or the peer never answered.
    Down,
}

#[derive(Debug)]
pub struct PeerSetup {
    pub private_key: PrivateKey,
    pub peer_public_key: PublicKey,
    pub preshared_key: PresharedKey,
    /// Outer address of the peer; `None` when the peer initiates.
    pub endpoint: Option<SocketAddr>,
    /// Our address inside the tunnel.
    pub local_addr: IpAddr,
    /// The peer's address inside the tunnel; packets from others are dropped.
    pub peer_addr: IpAddr,
    /// Persistent keepalive interval (keeps NAT bindings open).
    pub keepalive: Option<Duration>,
    pub profile: Profile,
    /// The largest packet accepted and probed for: [`MTU`] to [`MTU_MAX`].
    pub mtu_max: usize,
    /// A TCP connection whose peer is silent for this long is aborted.
    pub tcp_timeout: Duration,
    /// Our receiver indices are `index << 8 ..= index << 8 | 255`; 24 bits.
    pub index: u32,
    /// Seed of port numbers, initial sequence numbers and jitter.
    pub seed: u64,
    /// Segments of one GSO send.
    pub segments_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// [`CONNECTIONS_MAX`] is reached.
    #[error("too many connections in this tunnel")]
    TooManyConnections,
    #[error("port is in use")]
    PortInUse,
    /// Port 0, or addresses of different families.
    #[error("not an address to connect to")]
    Unaddressable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// New session keys are in use.
    HandshakeCompleted,
    /// The peer's outer address.
    EndpointChanged(SocketAddr),
    /// Largest packet that may be sent from now on.
    PathMtuChanged(usize),
    /// A connection came in on a port we listen on.
    Accepted { conn: ConnId, port: u16 },
    /// A connection we requested is open.
    Connected { conn: ConnId },
    /// A connection we requested was refused or timed out.
    ConnectFailed { conn: ConnId, kind: io::ErrorKind },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerCounters {
    /// Encrypted bytes sent.
    pub tx_bytes: u64,
    /// Authenticated encrypted bytes received.
    pub rx_bytes: u64,
    /// Handshakes completed.
    pub handshakes: u64,
    /// Datagrams not authentic, replayed, malformed, or for unknown keys.
    pub rejected: u64,
    /// Authentic packets with inner addresses that are not this tunnel's.
    pub foreign: u64,
    /// TCP segments retransmitted, of all connections.
    pub retransmits: u64,
    /// How often the endpoint changed.
    pub roamed: u64,
    /// Duration of the latest handshake that we initiated.
    pub rtt: Option<Duration>,
    /// Largest smoothed round-trip time among the TCP connections.
    pub tcp_rtt: Option<Duration>,
}
