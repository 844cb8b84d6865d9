//! What the reconciler remembers between passes.

use crate::broker::model::TunnelReport;
use crate::domain::{HostId, Timestamp};
use std::collections::HashMap;
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
