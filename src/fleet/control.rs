//! Calls of the agents' control API, through the host tunnels.

use super::conversions::control_error;
use super::state::FleetState;
use crate::broker::ports::host_fleet::FleetError;
use crate::domain::host::HostKind;
use crate::domain::{HostId, SessionId};
use crate::host::control::{self, Client};
use std::time::Duration;

/// Longest end of a desktop: the agent itself grants it two seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest call that starts or ends nothing.
pub(super) const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

impl FleetState {
    /// A control connection to a connected host.
    pub(super) async fn client(&self, host: HostId) -> Result<Client, FleetError> {
        let tunnel = self.host_tunnel(host).ok_or(FleetError::NotConnected)?;
        let stream = tunnel.connect(control::PORT).await.map_err(|_| FleetError::NotConnected)?;
        Client::new(stream).await.map_err(control_error)
    }

    pub(super) async fn stop(
        &self,
        host: Option<HostId>,
        session: SessionId,
    ) -> Result<(), FleetError> {
        // Only an agent starts desktops: a direct target has no host, and a peer no agent.
        let Some(host) = host else { return Ok(()) };
        if self.hosts().get(&host).is_some_and(|entry| entry.kind == HostKind::Peer) {
            return Ok(());
        }
        let stopping =
            async { self.client(host).await?.stop(session).await.map_err(control_error) };
        tokio::time::timeout(STOP_TIMEOUT, stopping).await.map_err(|_| FleetError::Timeout)?
    }

    /// The sessions that an agent has desktops of.
    pub(super) async fn inventory(&self, host: HostId) -> Result<Vec<SessionId>, FleetError> {
        let listing = async { self.client(host).await?.desktops().await.map_err(control_error) };
        let desktops = tokio::time::timeout(CONTROL_TIMEOUT, listing)
            .await
            .map_err(|_| FleetError::Timeout)??;
        Ok(desktops.into_iter().map(|desktop| desktop.session_id).collect())
    }
}
