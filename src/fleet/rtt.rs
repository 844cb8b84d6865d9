//! Refreshing the round-trip times that reports show.

use super::state::FleetState;
use crate::tunnel::{SessionPath, Tunnel, TunnelStatus, probe_rtt};
use std::sync::Arc;

impl FleetState {
    /// Starts a new measurement of the round trip to a host when the last one is too old, in the
    /// background and within the limit of concurrent probes.
    pub(super) fn refresh_rtt(&self, tunnel: &Tunnel, path: &Arc<SessionPath>) {
        if tunnel.status() != TunnelStatus::Encrypted || !path.claim_measurement() {
            return;
        }
        let (Ok(permit), Ok(runtime)) =
            (self.probe_permits.clone().try_acquire_owned(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let (tunnel, path) = (tunnel.clone(), path.clone());
        runtime.spawn(async move {
            let _permit = permit;
            if let Some(took) = probe_rtt(&tunnel).await {
                path.set_host_rtt(took);
            }
        });
    }
}
