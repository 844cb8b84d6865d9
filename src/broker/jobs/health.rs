//! Health probes and gauges.

use crate::broker::core::session_tracker::SessionTracker;
use crate::broker::core::stream_registry::StreamRegistry;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::model::{Gauges, HealthView, TAMPERED};
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Health {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) streams: StreamRegistry,
    pub(in crate::broker) tracker: SessionTracker,
}

impl Health {
    /// Probes store, audit head and hosts at this moment.
    pub async fn probe(&self) -> HealthView {
        let store = self.store.inner();
        let database = match timeout(PROBE_TIMEOUT, store.ping()).await {
            Ok(Ok(took)) => Ok(took),
            Ok(Err(error)) => Err(error_label(error.kind).to_owned()),
            Err(_) => Err("timeout".to_owned()),
        };
        let audit = match timeout(PROBE_TIMEOUT, store.check_audit_log()).await {
            Ok(Ok(entries)) => Ok(entries),
            Ok(Err(error)) => Err(error_label(error.kind).to_owned()),
            Err(_) => Err("timeout".to_owned()),
        };
        let hosts_total = match timeout(PROBE_TIMEOUT, store.read(|tx| tx.host_count())).await {
            Ok(Ok(count)) => count,
            Ok(Err(_)) | Err(_) => 0,
        };
        HealthView { database, audit, hosts_connected: self.fleet.connected().len(), hosts_total }
    }

    /// Values for the metrics endpoint, from memory only.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            sessions: self.tracker.count(),
            streams: self.streams.stream_count(),
            hosts_connected: self.fleet.connected().len(),
            browser_rtt: self.streams.rtt_histogram(),
        }
    }
}

fn error_label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Tampered => TAMPERED,
        ErrorKind::Internal => "error",
        ErrorKind::Malformed
        | ErrorKind::Invalid
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Throttled(_) => "refused",
    }
}
