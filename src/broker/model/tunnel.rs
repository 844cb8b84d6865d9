//! What a tunnel reports.

use crate::domain::Timestamp;
use std::net::SocketAddr;
use std::time::Duration;

/// State of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunnelState {
    /// No handshake yet.
    Connecting,
    /// The keys are fresh and the peer answers.
    Encrypted,
    /// There are keys, but the peer does not answer.
    Stale,
    /// The tunnel is gone.
    Down,
    /// No tunnel by design: a direct target, not encrypted by the gateway.
    None,
}

impl TunnelState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Encrypted => "encrypted",
            Self::Stale => "stale",
            Self::Down => "down",
            Self::None => "none",
        }
    }
}

/// A tunnel as its state machine reports it now.
///
/// A session that uses its host's tunnel, or none, reports the payload bytes of its own streams:
/// other traffic of the host's tunnel is not counted.
#[derive(Clone, PartialEq, Debug)]
pub struct TunnelReport {
    pub state: TunnelState,
    pub last_handshake_at: Option<Timestamp>,
    /// Bytes sent to the host (inner packets).
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// Round trip to the host: the time of a TCP connect inside the tunnel; before the first
    /// connect, of the last handshake.
    pub rtt: Option<Duration>,
    /// Time from connect to the upstream's greeting when a stream was last opened, without the
    /// round trip to the host.
    pub desktop_rtt: Option<Duration>,
    /// Retransmitted TCP segments of all connections inside the tunnel.
    pub retransmits: u64,
    /// Source address of the host's last authenticated packet.
    pub endpoint: Option<SocketAddr>,
}
