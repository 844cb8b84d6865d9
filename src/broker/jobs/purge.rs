//! Deletes expired rows, a batch in each transaction, until none is left: between two batches other
//! writers have their turn, and nothing else waits for the whole.

use crate::broker::core::unit_of_work::AuditedStore;
use crate::domain::Result;
use crate::store::PURGE_BATCH;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Purge {
    pub(in crate::broker) store: AuditedStore,
}

impl Purge {
    pub(in crate::broker) async fn run(&self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if let Err(error) = self.purge_once().await {
                tracing::warn!(%error, "expired rows could not be deleted; it is retried");
            }
        }
    }

    /// Deletes what has expired.
    ///
    /// # Errors
    /// The first failure of the store; what came before it is done.
    pub(in crate::broker) async fn purge_once(&self) -> Result<()> {
        let now = self.store.now();
        loop {
            if self.store.write_unaudited(move |tx| tx.purge(now)).await? < PURGE_BATCH {
                return Ok(());
            }
        }
    }
}
