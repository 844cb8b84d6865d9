//! Status of the tunnel hub, for health and metrics.

use crate::domain::route::PathMetrics;
use std::sync::Arc;

/// Status of the tunnel hub.
#[derive(Clone, Debug, Default)]
pub struct HubStatus {
    /// Its socket is bound and its task runs.
    pub running: bool,
    /// UDP address it listens on.
    pub listen: String,
    /// Peers without a completed handshake.
    pub connecting: usize,
    /// Peers with current keys that answer.
    pub encrypted: usize,
    /// Peers with keys that do not answer.
    pub stale: usize,
    /// Peers without keys.
    pub down: usize,
    /// Totals of all sessions.
    pub paths: PathMetrics,
}

impl HubStatus {
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.connecting + self.encrypted + self.stale + self.down
    }
}

/// Reads the status of the tunnel hub; must not block.
pub type HubProbe = Arc<dyn Fn() -> HubStatus + Send + Sync>;
