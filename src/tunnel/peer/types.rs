//! The nouns of a peer: what it is made of, what it says of itself, what happened, what was
//! counted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::netstack::ConnId;
use super::{MTU, MTU_MAX};
use crate::tunnel::keys::{PresharedKey, PrivateKey, PublicKey};

/// What a tunnel is for: how large its TCP windows and its packets may get. Memory is taken only by
/// bytes that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Requests and answers: 64 KiB each way.
    Control,
    /// A desktop's stream: 64 KiB each way, growing with need up to 4 MiB. Packets of up to
    /// [`MTU_MAX`] where the path turns out to carry them.
    Stream,
    /// The same to a peer that is not one of ours: its interface has an MTU, which is [`MTU`]
    /// unless somebody chose another.
    Standard,
}

impl Profile {
    /// Most bytes a connection may hold of what it received and of what it sends.
    pub fn buffers_max(self) -> (usize, usize) {
        match self {
            Self::Control => (64 << 10, 64 << 10),
            Self::Stream | Self::Standard => (4 << 20, 4 << 20),
        }
    }

    /// What a new connection may hold of both together.
    pub(super) fn initial_buffers(self) -> usize {
        match self {
            Self::Control | Self::Stream | Self::Standard => 2 * (64 << 10),
        }
    }

    /// The other end's TCP is inside its end of the tunnel, so WireGuard vouches for all of a
    /// segment's way. A peer that is not one of ours may forward what came to it from elsewhere.
    pub(super) fn is_own_stack(self) -> bool {
        match self {
            Self::Control | Self::Stream => true,
            Self::Standard => false,
        }
    }

    /// The largest packet that is welcome, in bytes.
    pub fn mtu_max(self) -> usize {
        match self {
            Self::Control | Self::Standard => MTU,
            Self::Stream => MTU_MAX,
        }
    }
}

/// What the WireGuard state machine says of a tunnel at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelStatus {
    /// No handshake yet.
    Connecting,
    /// There are session keys, and the other end answers.
    Encrypted,
    /// There are session keys, but what we sent has gone unanswered for 15 s.
    Stale,
    /// Closed, or keys expired, or the other end never answered.
    Down,
}

/// What a peer is made of.
#[derive(Debug)]
pub struct PeerSetup {
    /// Our private key.
    pub private_key: PrivateKey,
    /// The other end's public key.
    pub peer_public_key: PublicKey,
    /// The secret both ends mix in.
    pub preshared_key: PresharedKey,
    /// Where the other end may be reached; unknown when it is to call us.
    pub endpoint: Option<SocketAddr>,
    /// Our address inside the tunnel.
    pub local_addr: IpAddr,
    /// The other end's address inside: no other source is accepted.
    pub peer_addr: IpAddr,
    /// Send something at least this often (keeps NAT bindings open).
    pub keepalive: Option<Duration>,
    /// TCP window sizes.
    pub profile: Profile,
    /// The largest packet that is welcome, and may be tried: [`MTU`] to [`MTU_MAX`].
    pub mtu_max: usize,
    /// A TCP connection whose other end is silent for this long is given up.
    pub tcp_timeout: Duration,
    /// Our receiver indices are `index << 8 ..= index << 8 | 255`; 24 bits.
    pub index: u32,
    /// Seed of port numbers, sequence numbers and jitter.
    pub seed: u64,
    /// Segments the kernel takes at once.
    pub segments_max: usize,
}

/// Why a peer refused an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// [`CONNECTIONS_MAX`](super::CONNECTIONS_MAX) is reached.
    #[error("too many connections in this tunnel")]
    TooManyConnections,
    /// Somebody listens there already.
    #[error("port is in use")]
    PortInUse,
    /// Port 0, or addresses of different families.
    #[error("not an address to connect to")]
    Unaddressable,
}

/// What happened inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// New session keys are in use.
    HandshakeCompleted,
    /// The other end is now heard from here.
    EndpointChanged(SocketAddr),
    /// Packets may from now on be so large.
    PathMtuChanged(usize),
    /// A connection came in on a port we listen on.
    Accepted {
        /// The connection.
        conn: ConnId,
        /// The port.
        port: u16,
    },
    /// A connection we asked for is open.
    Connected {
        /// The connection.
        conn: ConnId,
    },
    /// A connection we asked for will not be.
    ConnectFailed {
        /// The connection.
        conn: ConnId,
        /// Refused or timed out.
        kind: io::ErrorKind,
    },
}

/// What went through a peer so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerCounters {
    /// Encrypted bytes sent.
    pub tx_bytes: u64,
    /// Authentic encrypted bytes received.
    pub rx_bytes: u64,
    /// Handshakes completed.
    pub handshakes: u64,
    /// Datagrams not authentic, replayed, malformed, or for keys we do not have.
    pub rejected: u64,
    /// Authentic packets between addresses that are not this tunnel's.
    pub foreign: u64,
    /// TCP segments sent again, of all connections.
    pub retransmits: u64,
    /// Times the other end was heard from a new address.
    pub roamed: u64,
    /// How long the last handshake we began took.
    pub rtt: Option<Duration>,
    /// The longest smoothed round trip of the TCP connections that exist.
    pub tcp_rtt: Option<Duration>,
}
