//! What the reconciler remembers between passes.

use crate::broker::model::TunnelReport;
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::sync::lock;
use crate::domain::{HostId, Timestamp};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

/// State the reconciler keeps between passes.
pub(in crate::broker) struct ReconcilerState {
    pub(in crate::broker) hosts: Mutex<HashMap<HostId, HostObservation>>,
    /// Start of this process: no host counts as lost for longer.
    pub(in crate::broker) started: Timestamp,
    pub(in crate::broker) purged: Mutex<Timestamp>,
}

impl ReconcilerState {
    pub(in crate::broker) fn new(started: Timestamp) -> Self {
        Self { hosts: Mutex::default(), started, purged: Mutex::new(started) }
    }

    /// Endpoints of connected hosts that no pass has stored yet.
    pub(in crate::broker) fn unstored_endpoints(
        &self,
        fleet: &dyn HostFleet,
    ) -> Vec<(HostId, SocketAddr)> {
        let observed = lock(&self.hosts);
        let stored = |id: HostId| {
            let (_, report) = observed.get(&id)?.stored.as_ref()?;
            report.endpoint
        };
        let reported = fleet.connected().into_iter().filter_map(|id| {
            let endpoint = fleet.host(id)?.endpoint?;
            (stored(id) != Some(endpoint)).then_some((id, endpoint))
        });
        reported.collect()
    }
}

/// Last observed state of a host.
#[derive(Clone, Debug)]
pub(in crate::broker) struct HostObservation {
    pub(in crate::broker) connected: bool,
    /// Since when `connected` has its value.
    pub(in crate::broker) since: Timestamp,
    /// When `last_seen_at` was last stored, and with which report.
    pub(in crate::broker) stored: Option<(Timestamp, TunnelReport)>,
}
