//! [`Store`]: the database with its connection pools and its health check.

use super::connection::{AccessMode, DatabaseLocation};
use super::error::StoreError;
use super::migrate;
use super::pool::Pool;
use super::transaction::{HeadSigner, Tx, run_transaction};
use crate::domain::sync::lock;
use crate::domain::{ErrorKind, Result, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The setting that the health check writes.
const PROBE_SETTING: &str = "health_probe";
/// Probe size of the disk-full check; larger than the largest single transaction.
const PROBE_BYTES: usize = 128 * 1024;
/// How often the health check writes while writing works.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Store {
    reads: Pool,
    writes: Pool,
    /// A file of this machine.
    is_local: bool,
    signer: Option<Arc<dyn HeadSigner>>,
    /// When the health check last wrote successfully, unless a write failed since.
    last_write_at: Arc<Mutex<Option<Instant>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens `sqlite:PATH` or `postgres://...` and migrates the schema. Without a signer audit
    /// entries cannot be written.
    ///
    /// # Errors
    /// [`StoreError`] with the message of the database.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Self::connect(url, None)
    }

    /// The same, with the signer of the audit head; signs the head of an empty log.
    ///
    /// # Errors
    /// [`StoreError`] with the message of the database.
    pub fn open_with(url: &str, signer: Arc<dyn HeadSigner>) -> Result<Self, StoreError> {
        Self::connect(url, Some(signer))
    }

    /// A heartbeat of the gateway that holds the lease. False: it does not hold it any more.
    ///
    /// On SQLite a disk that is full or read-only keeps every process from writing, so a lease that
    /// still names the holder there counts as renewed.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be known.
    pub async fn renew_gateway_lease(&self, holder: &str, now: Timestamp) -> Result<bool> {
        let by = holder.to_owned();
        match self.write(move |tx| tx.renew_gateway_lease(&by, now)).await {
            Err(failed) if failed.kind == ErrorKind::Unavailable && self.is_local => {
                let by = holder.to_owned();
                self.read(move |tx| Ok(tx.gateway_lease()?.is_some_and(|row| row.holder == by)))
                    .await
            }
            outcome => outcome,
        }
    }

    fn connect(url: &str, signer: Option<Arc<dyn HeadSigner>>) -> Result<Self, StoreError> {
        let place = DatabaseLocation::parse(url)?;
        let mut first = place.open(AccessMode::Write)?;
        migrate::run(&mut first)?;
        if let Some(signer) = &signer {
            run_transaction(
                &mut first,
                AccessMode::Write,
                Some(signer.as_ref()),
                &|tx: &mut Tx<'_>| tx.sign_genesis_head(),
            )?;
        }
        drop(first);
        let is_local = matches!(place, DatabaseLocation::Sqlite(_));
        let (reads, writes) = Pool::pair(place)?;
        Ok(Self { reads, writes, is_local, signer, last_write_at: Arc::default() })
    }

    /// Runs `f` in a read transaction with a consistent snapshot.
    ///
    /// # Errors
    /// The error of `f`; `Unavailable` when no connection is free in time.
    pub async fn read<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.reads.run(move |conn| run_transaction(conn, AccessMode::Read, None, &f)).await
    }

    /// Runs `f` in a write transaction, which is committed when `f` returns `Ok` and rolled back
    /// when it returns an error.
    ///
    /// `f` is repeated from the start when the database asks for a retry: it must have no effect
    /// except through its [`Tx`]. Write the audit entry last: it locks the end of the chain until
    /// the transaction ends.
    ///
    /// # Errors
    /// The error of `f`; `Unavailable` when no connection is free in time or the database is not
    /// writable.
    pub async fn write<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let signer = self.signer.clone();
        let outcome = self
            .writes
            .run(move |conn| run_transaction(conn, AccessMode::Write, signer.as_deref(), &f))
            .await;
        if outcome.as_ref().is_err_and(|failed| failed.kind == ErrorKind::Unavailable) {
            *self.last_write_at() = None;
        }
        outcome
    }

    /// Measures a read, and checks that the database accepts a write: a full disk can still be
    /// read. Health is public, so while writing works it is checked at most every ten seconds, and
    /// after a failure every time.
    ///
    /// # Errors
    /// `Unavailable` when there is no answer in time, or nothing can be written.
    pub async fn ping(&self) -> Result<Duration> {
        let started = Instant::now();
        self.read(|tx| tx.change_counter()).await?;
        let elapsed = started.elapsed();
        let recent = self.last_write_at().is_some_and(|at| at.elapsed() < PROBE_INTERVAL);
        if !recent {
            // A new value each time: SQLite does not write an unchanged one.
            let value = format!("{:032x}", rand::random::<u128>());
            self.write(move |tx| {
                tx.put_setting(PROBE_SETTING, &value.repeat(PROBE_BYTES / value.len()))
            })
            .await?;
            *self.last_write_at() = Some(Instant::now());
        }
        Ok(elapsed)
    }

    fn last_write_at(&self) -> MutexGuard<'_, Option<Instant>> {
        lock(&self.last_write_at)
    }

    pub(crate) fn signer(&self) -> Option<&dyn HeadSigner> {
        self.signer.as_deref()
    }
}

#[cfg(test)]
mod tests;
