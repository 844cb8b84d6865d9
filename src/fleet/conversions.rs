//! Between the tunnel's and the control API's types and those of the broker's port.

use crate::broker::model::{TunnelReport, TunnelState};
use crate::broker::ports::host_fleet::FleetError;
use crate::domain::Timestamp;
use crate::domain::secret::SecretBytes;
use crate::host::control::{self, ClientError};
use crate::tunnel::{PresharedKey, PublicKey, Tunnel, TunnelError, TunnelStatus};

/// Only a direct target has no host.
pub(super) fn without_host() -> FleetError {
    FleetError::Failed("the session names no host".to_owned())
}

pub(super) fn tunnel_error(error: TunnelError) -> FleetError {
    FleetError::Failed(error.to_string())
}

pub(super) fn control_error(error: ClientError) -> FleetError {
    match error {
        ClientError::Refused { status: control::INVALID, detail } => FleetError::Refused(detail),
        ClientError::Refused { status: control::FULL, detail } => FleetError::Full(detail),
        ClientError::Refused { detail, .. } => FleetError::Broken(detail),
        ClientError::Connection(_) => FleetError::NotConnected,
        ClientError::InvalidResponse => FleetError::Broken(error.to_string()),
    }
}

pub(super) fn tunnel_report(tunnel: &Tunnel) -> TunnelReport {
    let stats = tunnel.stats();
    TunnelReport {
        state: match tunnel.status() {
            TunnelStatus::Connecting => TunnelState::Connecting,
            TunnelStatus::Encrypted => TunnelState::Encrypted,
            TunnelStatus::Stale => TunnelState::Stale,
            TunnelStatus::Down => TunnelState::Down,
        },
        last_handshake_at: stats.last_handshake.map(Timestamp::from),
        tx_bytes: stats.tx_bytes,
        rx_bytes: stats.rx_bytes,
        rtt: stats.rtt,
        desktop_rtt: None,
        retransmits: stats.retransmits,
        endpoint: stats.endpoint,
    }
}

pub(super) fn parse_preshared_key(bytes: &SecretBytes) -> Result<PresharedKey, FleetError> {
    let key: Result<[u8; 32], _> = bytes.expose().as_slice().try_into();
    key.map(PresharedKey::from_bytes)
        .map_err(|_| FleetError::Failed("a stored key is invalid".to_owned()))
}

pub(super) fn parse_public_key(text: &str) -> Result<PublicKey, FleetError> {
    text.parse().map_err(|_| FleetError::Failed("a stored key is invalid".to_owned()))
}
