//! What the reconciler remembers between its checks, and when a host is asked again.

use crate::broker::model::TunnelReport;
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::sync::lock;
use crate::domain::{HostId, Timestamp};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

/// State the reconciler keeps between passes.
pub(in crate::broker) struct ReconcilerState {
    pub(in crate::broker) hosts: Mutex<HashMap<HostId, HostObservation>>,
    /// Start of this process: no host counts as lost for longer.
    pub(in crate::broker) started: Timestamp,
}

impl ReconcilerState {
    pub(in crate::broker) fn new(started: Timestamp) -> Self {
        Self { hosts: Mutex::default(), started }
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

/// Time until a host that did not answer is asked again: doubled by each failure in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(3);
    const LONGEST: Duration = Duration::from_secs(60);

    pub(in crate::broker) fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The wait after another failure.
    pub(in crate::broker) fn fail(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(Self::LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_host_is_asked_less_and_less_often() {
        let mut backoff = Backoff::new();
        let waits: Vec<u64> = (0..7).map(|_| backoff.fail().as_secs()).collect();
        assert_eq!(waits, [3, 6, 12, 24, 48, 60, 60]);
    }
}
