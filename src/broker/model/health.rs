//! Health and gauges.

use crate::domain::route::LatencyHistogram;
use std::time::Duration;

/// [`HealthView::audit`] of a log that does not verify.
pub const TAMPERED: &str = "tampered";

#[derive(Clone, Debug)]
pub struct HealthView {
    /// Round trip of the store, or the kind of its error.
    pub database: Result<Duration, String>,
    /// Entries in the audit log, if the signature of its head is valid.
    pub audit: Result<i64, String>,
    /// Hosts with an encrypted tunnel.
    pub hosts_connected: usize,
    pub hosts_total: usize,
}

/// Values for the metrics endpoint, from memory only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Live sessions tracked by this process.
    pub sessions: usize,
    pub streams: usize,
    /// Hosts with an encrypted tunnel.
    pub hosts_connected: usize,
    /// Round trips between browser and gateway, of open streams.
    pub browser_rtt: LatencyHistogram,
}
