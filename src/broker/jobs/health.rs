//! Health probes, gauges, and change notifications.

use crate::broker::Broker;
use crate::broker::core::stream_registry::Change;
use crate::broker::model::{Gauges, HealthView};
use crate::domain::ErrorKind;
use crate::domain::policy::{self, PolicyAction, Resource};
use crate::domain::principal::Principal;
use crate::domain::user::RequestSource;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

impl Broker {
    /// Change notifications of all organizations; the receiver filters by
    /// [`Change::organization_id`].
    #[must_use]
    pub fn changes(&self, _caller: &Principal) -> broadcast::Receiver<Change> {
        self.streams().subscribe_changes()
    }

    /// Changes when the audit log grows; `None` if the caller may not read the log.
    #[must_use]
    pub fn audit_changes(&self, caller: &Principal) -> Option<watch::Receiver<u64>> {
        let resource = Resource::Organization(caller.organization_id()?);
        let context = self.policy_context(&RequestSource::local(""), caller);
        policy::authorize(caller, PolicyAction::ReadAudit, &resource, &context)
            .ok()
            .map(|_| self.streams().subscribe_audit())
    }

    /// Probes store, audit head and hosts at this moment.
    pub async fn health(&self) -> HealthView {
        let store = &self.inner.store;
        let database = match timeout(PROBE_TIMEOUT, store.ping()).await {
            Ok(Ok(took)) => Ok(took),
            Ok(Err(error)) => Err(error_label(error.kind).to_owned()),
            Err(_) => Err("timeout".to_owned()),
        };
        let head =
            timeout(PROBE_TIMEOUT, store.read(|tx| Ok((tx.audit_head()?, tx.hosts(None)?.len()))))
                .await;
        let (audit, hosts_total) = match head {
            Ok(Ok((head, hosts))) if head.seq == 0 || self.head_fault(&head).is_none() => {
                (Ok(head.seq), hosts)
            }
            Ok(Ok((_, hosts))) => (Err("head_signature".to_owned()), hosts),
            Ok(Err(error)) => (Err(error_label(error.kind).to_owned()), 0),
            Err(_) => (Err("timeout".to_owned()), 0),
        };
        HealthView {
            database,
            audit,
            hosts_connected: self.inner.fleet.connected().len(),
            hosts_total,
        }
    }

    /// Values for the metrics endpoint, from memory only.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            sessions: self.streams().tracked_count(),
            streams: self.streams().stream_count(),
            hosts_connected: self.inner.fleet.connected().len(),
            browser_rtt: self.streams().rtt_histogram(),
        }
    }
}

fn error_label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unavailable => "unavailable",
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
