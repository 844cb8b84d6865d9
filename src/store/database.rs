//! [`Store`]: the database with its connection pools and its health check.

use super::connection::{AccessMode, DatabaseFile, DatabaseLocation};
use super::error::StoreError;
use super::log_guard::{HeadSigner, LogGuard, fault_text};
use super::migrate;
use super::pool::Pools;
use super::time_spans::TimeSpans;
use super::transaction::{Tx, run_transaction};
use super::witness::Witness;
use super::work::{Connections, Work};
use crate::domain::sync::lock;
use crate::domain::{Error, ErrorKind, Result, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The setting that the health check writes.
const PROBE_SETTING: &str = "health_probe";
/// Probe size of the disk-full check; larger than the largest single transaction.
const PROBE_BYTES: usize = 128 * 1024;
/// How often the health check writes while writing works.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// What a store with a witness is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To work with it.
    Use,
    /// To look at it, in whatever state it is.
    Examine,
    /// To continue with it, in whatever state it is: [`Store::accept_audit_damage`].
    Accept,
}

/// When a transaction may write.
#[derive(Clone, Copy)]
pub(super) enum Gate {
    /// Not while the audit log does not verify.
    WhileIntact,
    Always,
}

#[derive(Clone)]
pub struct Store {
    location: DatabaseLocation,
    pub(super) pools: Pools,
    /// What searches know of the audit log.
    pub(super) spans: TimeSpans,
    /// A file of this machine.
    file: Option<DatabaseFile>,
    log: Option<Arc<LogGuard>>,
    /// The witness's file.
    witness: Option<PathBuf>,
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
        Self::connect(url, Purpose::Use, None, None)
    }

    /// The same, with the signer of the audit head; signs the head of the empty log of a database
    /// that it makes. What is known of the log ends with the process.
    ///
    /// # Errors
    /// [`StoreError`] with the message of the database.
    pub fn open_with(url: &str, signer: Arc<dyn HeadSigner>) -> Result<Self, StoreError> {
        Self::connect(url, Purpose::Use, Some(signer), None)
    }

    /// The same, with the witness of a data folder. Makes no database where the witness knows one,
    /// unless to accept that it is gone. Before anything is written call
    /// [`Store::check_witness`].
    ///
    /// # Errors
    /// [`StoreError`] with the message of the database, or what is missing.
    pub fn open_witnessed(
        url: &str,
        purpose: Purpose,
        signer: Arc<dyn HeadSigner>,
        witness: Option<&Path>,
    ) -> Result<Self, StoreError> {
        Self::connect(url, purpose, Some(signer), witness)
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
        match self.write_anyway(move |tx| tx.renew_gateway_lease(&by, now)).await {
            Err(failed) if failed.kind == ErrorKind::Unavailable && self.file.is_some() => {
                let by = holder.to_owned();
                self.read(move |tx| Ok(tx.gateway_lease()?.is_some_and(|row| row.holder == by)))
                    .await
            }
            outcome => outcome,
        }
    }

    fn connect(
        url: &str,
        purpose: Purpose,
        signer: Option<Arc<dyn HeadSigner>>,
        witness_path: Option<&Path>,
    ) -> Result<Self, StoreError> {
        let place = DatabaseLocation::parse(url)?;
        let witness = match witness_path {
            Some(path) => Witness::open(path).map_err(|e| witness_failure(path, &e))?,
            None => Witness::in_memory(),
        };
        let is_known = witness.database().is_some();
        let missing = |what| StoreError::Missing { what, expected: expected(&witness) };
        let may_create = match purpose {
            Purpose::Use => !is_known,
            Purpose::Examine => false,
            Purpose::Accept => true,
        };
        if may_create {
            place.create()?;
        } else if place.is_missing() {
            return Err(missing("is missing"));
        }
        let mut first = place.open(AccessMode::Write)?;
        let file = DatabaseFile::of(&place)?;
        // The guard takes the witness: what is said of a missing database is prepared before.
        let empty = missing("is empty");
        let mut refusal = (!may_create).then_some(empty);
        let log =
            signer.map(|signer| Arc::new(LogGuard::new(signer, witness, purpose != Purpose::Use)));
        migrate::run_with(&mut first, &mut |conn| {
            if let Some(refusal) = refusal.take() {
                return Err(refusal);
            }
            let Some(log) = log.as_deref() else { return Ok(()) };
            let mut tx = Tx { conn, log: Some(log), appended: None };
            Ok(tx.create_audit_log()?)
        })?;
        drop(first);
        Ok(Self {
            pools: Pools::new(&place, file.as_ref(), &Connections::default()),
            location: place,
            spans: TimeSpans::default(),
            file,
            log,
            witness: witness_path.map(Path::to_owned),
            last_write_at: Arc::default(),
        })
    }

    /// The same database with other numbers of connections. The present ones are closed.
    #[must_use]
    pub fn with_connections(self, shares: &Connections) -> Self {
        let pools = Pools::new(&self.location, self.file.as_ref(), shares);
        Self { pools, ..self }
    }

    /// Compares the database with the witness, of which it becomes the database if the witness has
    /// none, and verifies the end of its log.
    ///
    /// # Errors
    /// Another database, an older copy, an altered log; when the witness cannot be written.
    pub async fn check_witness(&self) -> Result<(), StoreError> {
        let (Some(log), Some(path)) = (&self.log, &self.witness) else { return Ok(()) };
        if let Some(fault) = log.witness.tampered() {
            return Err(StoreError::Tampered { fault });
        }
        let known = log.witness.database();
        let id = match (&known, self.read(|tx| tx.database_id()).await?) {
            (Some(known), Some(id)) if *known == id => id,
            (Some(_), _) => return Err(StoreError::Foreign),
            (None, _) => self.write(|tx| tx.assign_database_id()).await?,
        };
        let guard = Arc::clone(log);
        let checked = self
            .pools
            .run(Work::Control, move |conn| {
                run_transaction(conn, AccessMode::Read, None, &|tx| tx.verified_head(&guard))
            })
            .await;
        let head = checked.map_err(|error| match error.kind {
            ErrorKind::Tampered => StoreError::Tampered { fault: fault_text(&error) },
            _ => error.into(),
        })?;
        if known.is_none() && head.seq > 0 {
            tracing::warn!(witness = %path.display(), entries = head.seq, "audit.witness.missing: a new one is made from the database");
        }
        log.witness.record(head.into());
        let (guard, path) = (Arc::clone(log), path.clone());
        tokio::task::spawn_blocking(move || {
            guard.witness.adopt(&id).map_err(|e| witness_failure(&path, &e))
        })
        .await
        .map_err(|e| StoreError::Transaction(e.to_string()))?
    }

    /// Verifies the end of the audit log at this moment: its head, its last entry, and what is known
    /// outside the database. What does not verify stops all writing. Returns the number of entries.
    ///
    /// # Errors
    /// `Tampered`; `Unavailable` when the witness cannot be written.
    pub async fn check_audit_log(&self) -> Result<i64> {
        let log = Arc::clone(self.guard()?);
        self.pools
            .run(Work::Control, move |conn| {
                let head = log.run(|| {
                    run_transaction(conn, AccessMode::Read, None, &|tx| tx.verified_head(&log))
                })?;
                let seq = head.seq;
                log.witness.record(head.into());
                match log.witness.failure() {
                    Some(failure) => Err(Error::unavailable(
                        "The witness of the audit log cannot be written. Tell your administrator.",
                    )
                    .caused_by(failure)),
                    None => Ok(seq),
                }
            })
            .await
    }

    /// Runs `f`, which decides by a few rows that indices lead to ([`Work::Control`]), in a read
    /// transaction with a consistent snapshot. Lists are read by [`Store::list`], logs by
    /// [`Store::search`].
    ///
    /// # Errors
    /// The error of `f`; `Unavailable` when no connection is free in time.
    pub async fn read<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.run_read(Work::Control, f).await
    }

    /// The same for a list that a page shows ([`Work::Listing`]).
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn list<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.run_read(Work::Listing, f).await
    }

    async fn run_read<T, F>(&self, work: Work, f: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.pools.run(work, move |conn| run_transaction(conn, AccessMode::Read, None, &f)).await
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
        self.run_write(self.log.clone(), Gate::WhileIntact, f).await
    }

    /// The same, also while the audit log does not verify: for what the gateway keeps for itself.
    async fn write_anyway<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.run_write(None, Gate::Always, f).await
    }

    pub(super) async fn run_write<T, F>(
        &self,
        log: Option<Arc<LogGuard>>,
        gate: Gate,
        f: F,
    ) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let file = self.file.clone();
        let outcome = self
            .pools
            .run(Work::Change, move |conn| {
                let check = || file.as_ref().map_or(Ok(()), DatabaseFile::check);
                check()?;
                let log = log.as_deref();
                let mut transaction = || run_transaction(conn, AccessMode::Write, log, &f);
                let value = match (log, gate) {
                    (Some(log), Gate::WhileIntact) => log.run(transaction),
                    (_, Gate::Always) | (None, Gate::WhileIntact) => transaction(),
                }?;
                // What was committed into a file that nobody finds is not acknowledged.
                check()?;
                Ok(value)
            })
            .await;
        if outcome.as_ref().is_err_and(|failed| failed.kind == ErrorKind::Unavailable) {
            *self.last_write_at() = None;
        }
        outcome
    }

    /// Gives the gateway's lease up, when `holder` still has it.
    ///
    /// # Errors
    /// The database's.
    pub async fn release_gateway_lease(&self, holder: String) -> Result<()> {
        self.write_anyway(move |tx| tx.release_gateway_lease(&holder)).await
    }

    /// Measures a read, and checks that the database accepts a write: a full disk can still be
    /// read. Health is public, so while writing works it is checked at most every ten seconds, and
    /// after a failure every time.
    ///
    /// # Errors
    /// `Unavailable` when there is no answer in time, or nothing can be written.
    pub async fn ping(&self) -> Result<Duration> {
        if let Some(file) = &self.file {
            file.check().inspect_err(|_| *self.last_write_at() = None)?;
        }
        let started = Instant::now();
        self.read(|tx| tx.database_id()).await?;
        let elapsed = started.elapsed();
        let recent = self.last_write_at().is_some_and(|at| at.elapsed() < PROBE_INTERVAL);
        if !recent {
            // A new value each time: SQLite does not write an unchanged one.
            let value = format!("{:032x}", rand::random::<u128>());
            self.write_anyway(move |tx| {
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

    pub(super) fn guard(&self) -> Result<&Arc<LogGuard>> {
        self.log.as_ref().ok_or_else(|| {
            Error::internal("the store was opened without a signer for the audit log")
        })
    }
}

fn witness_failure(path: &Path, cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::Witness { path: path.display().to_string(), cause: cause.to_string() }
}

/// What the witness knows of a database that is not there.
fn expected(witness: &Witness) -> String {
    match witness.known().seq {
        0 => "This gateway has used one. Put it back, or restore a backup.".to_owned(),
        seq => format!(
            "This gateway has used one whose audit log has at least {seq} entries. Put it back, or restore a backup."
        ),
    }
}

#[cfg(test)]
mod tests;
