//! State of a session's tunnel.

use crate::broker::model::TunnelState;
use serde::Serialize;
use utoipa::ToSchema;

/// Current state of the tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TunnelStatus {
    /// No handshake yet.
    Connecting,
    /// Keys are fresh and the peer answers.
    Encrypted,
    /// There are keys, but the peer does not answer.
    Stale,
    /// The tunnel is gone.
    Down,
    /// There is no tunnel: a direct target that the configuration allows, unencrypted.
    None,
}

impl From<TunnelState> for TunnelStatus {
    fn from(state: TunnelState) -> Self {
        match state {
            TunnelState::Connecting => Self::Connecting,
            TunnelState::Encrypted => Self::Encrypted,
            TunnelState::Stale => Self::Stale,
            TunnelState::Down => Self::Down,
            TunnelState::None => Self::None,
        }
    }
}

/// The protocol of a tunnel in this state.
pub(super) fn protocol(state: TunnelState) -> &'static str {
    match state {
        TunnelState::Connecting
        | TunnelState::Encrypted
        | TunnelState::Stale
        | TunnelState::Down => "wireguard",
        TunnelState::None => "none",
    }
}
