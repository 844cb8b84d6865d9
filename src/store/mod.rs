//! Diesel over SQLite and PostgreSQL, and nothing else.
//!
//! | file | content |
//! | --- | --- |
//! | [`connection`] | connections to either database |
//! | [`pool`] | connection pools with bounded waiting |
//! | [`error`] | mapping of database errors to [`crate::domain::Error`] |
//! | [`migrate`] | migrations |
//! | [`schema`] | the tables, for diesel |
//! | [`tables`] | each table's rows and queries, as methods of [`Tx`] |
//! | [`verify`] | verification of the whole audit log against its signed head |
//!
//! | term | meaning |
//! | --- | --- |
//! | [`Store`] | the database; cheap to clone |
//! | [`Tx`] | one transaction: all of its writes are committed, or none |
//! | compare-and-set | an update that names the expected value and says whether it matched; of two that race, one wins |
//! | sealed | a secret encrypted under the vault's master key, which the store does not have |

pub mod connection;
pub mod error;
pub mod migrate;
pub mod pool;
pub mod schema;
pub mod tables;
pub mod verify;

pub use error::StoreError;
pub use tables::app_requests::RequestFilter;
pub use tables::audit::AuditFilter;
pub use tables::challenges::{Challenge, ChallengePurpose};
pub use tables::gateway_lease::GatewayLeaseRow;
pub use tables::logins::Login;
pub use tables::refresh::RefreshTokenRow;
pub use tables::session_leases::LeaseRow;
pub use tables::sessions::{SeatKey, StateChange};
pub use tables::tickets::TicketRow;
pub use tables::totp::TotpRow;
pub use verify::ChainReport;

use crate::domain::sync::lock;
use crate::domain::{Error, ErrorKind, Result, Timestamp};
use connection::{AccessMode, AnyConnection};
use diesel::connection::TransactionManager;
use pool::Pool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Signs the end of the audit chain. The vault implements it, which the store may not use.
pub trait HeadSigner: Send + Sync + 'static {
    fn sign(&self, text: &str) -> String;
    fn verify(&self, text: &str, signature: &str) -> bool;
}

/// How often a transaction is attempted when the database asks for a retry.
const MAX_ATTEMPTS: u32 = 6;
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

/// One transaction. Its methods are in [`tables`], one file per table.
///
/// A method that returns `Conflict` leaves the transaction as it was before, on both databases.
/// After any other error the transaction is unusable: return the error, and everything is rolled
/// back.
pub struct Tx<'a> {
    conn: &'a mut AnyConnection,
    signer: Option<&'a dyn HeadSigner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
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
        let place = connection::DatabaseLocation::parse(url)?;
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
        let is_local = matches!(place, connection::DatabaseLocation::Sqlite(_));
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

/// Runs `f` in one transaction, and repeats it when the database asks for a retry.
fn run_transaction<T>(
    conn: &mut AnyConnection,
    mode: AccessMode,
    signer: Option<&dyn HeadSigner>,
    f: &dyn Fn(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match run_once(conn, mode, signer, f) {
            Err(failed) if tries < MAX_ATTEMPTS && error::is_retryable(&failed) => {
                // Two transactions that conflicted would conflict again: wait a random time that
                // grows with each attempt. This is a thread of the blocking pool.
                std::thread::sleep(
                    Duration::from_millis(1 << tries)
                        + Duration::from_micros(u64::from(rand::random::<u16>()) / 32),
                );
            }
            outcome => return outcome,
        }
    }
}

fn run_once<T>(
    conn: &mut AnyConnection,
    mode: AccessMode,
    signer: Option<&dyn HeadSigner>,
    f: &dyn Fn(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    conn.begin(mode)?;
    match f(&mut Tx { conn, signer }) {
        Ok(value) => {
            AnyConnection::commit_transaction(conn)?;
            Ok(value)
        }
        Err(failed) => {
            // If the rollback fails too, diesel marks the connection as broken and the pool
            // replaces it.
            if let Err(also) = AnyConnection::rollback_transaction(conn) {
                tracing::debug!(error = %also, "rollback");
            }
            Err(failed)
        }
    }
}

impl Tx<'_> {
    /// Runs `f` within a savepoint, so that its failure (usually a unique violation) leaves the
    /// transaction usable on PostgreSQL too.
    fn savepoint<T, E: From<diesel::result::Error>>(
        &mut self,
        f: impl FnOnce(&mut AnyConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        AnyConnection::begin_transaction(self.conn)?;
        match f(self.conn) {
            Ok(value) => {
                AnyConnection::commit_transaction(self.conn)?;
                Ok(value)
            }
            Err(failed) => {
                if let Err(also) = AnyConnection::rollback_transaction(self.conn) {
                    tracing::debug!(error = %also, "rollback to savepoint");
                }
                Err(failed)
            }
        }
    }

    fn signer(&self) -> Result<&dyn HeadSigner> {
        self.signer.ok_or_else(|| Error::internal("the store was opened without a signer for the audit log, or this transaction only reads"))
    }
}

#[cfg(test)]
mod tests;
