//! What runs beside the requests: start and stop, reconciliation, the watcher of other processes, the
//! deletion of expired rows.

pub mod change_feed;
pub(in crate::broker) mod change_watcher;
pub mod health;
pub(in crate::broker) mod host_checks;
pub(in crate::broker) mod host_observations;
pub mod lifecycle;
pub(in crate::broker) mod purge;
pub(in crate::broker) mod reconciler;
