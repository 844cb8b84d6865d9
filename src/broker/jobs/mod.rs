//! What runs beside the requests: start and stop, reconciliation, the watcher of other processes.

mod change_watcher;
mod health;
pub(in crate::broker) mod lifecycle;
mod reconciler;
