//! Diesel and nothing else, over SQLite and PostgreSQL.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`connection`] | one connection to either database, opened as it must be |
//! | [`pool`] | few connections for many tasks, with bounded waiting |
//! | [`error`] | which database failure is which kind of [`crate::domain::Error`] |
//! | [`migrate`] | the schema's history |
//! | [`schema`] | the tables as diesel sees them |
//! | [`tables`] | each table's rows and queries, as methods of [`Tx`] |
//! | [`verify`] | the whole audit log, read and compared with its signed head |
//!
//! | term | meaning |
//! | --- | --- |
//! | [`Store`] | the database; cheap to clone |
//! | [`Tx`] | one transaction: what is written through it is there as a whole or not at all |
//! | compare-and-set | an update that names what it expects to find, and says whether it found it; of two that race, one wins |
//! | sealed | a secret that only the vault's master key opens; the store never sees what is inside |

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
pub use tables::logins::Login;
pub use tables::refresh::RefreshTokenRow;
pub use tables::session_leases::LeaseRow;
pub use tables::sessions::{SeatKey, StateChange};
pub use tables::tickets::TicketRow;
pub use tables::totp::TotpRow;
pub use verify::ChainReport;

use crate::domain::sync::lock;
use crate::domain::{Error, ErrorKind, Result};
use connection::{AccessMode, AnyConnection};
use diesel::connection::TransactionManager;
use pool::Pool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Signs the end of the audit chain. The vault does it; the store may not know the vault.
pub trait HeadSigner: Send + Sync + 'static {
    /// The signature over `text`.
    fn sign(&self, text: &str) -> String;
    /// Whether `signature` is over `text`.
    fn verify(&self, text: &str, signature: &str) -> bool;
}

/// How often a write is tried when the database asks for another try.
const MAX_ATTEMPTS: u32 = 6;
/// The setting that health writes.
const PROBE_SETTING: &str = "health_probe";
/// More than any use case writes at once: on a disk with room for this, no use case fails for want
/// of room.
const PROBE_BYTES: usize = 128 * 1024;
/// How often health writes while writing works.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    reads: Pool,
    writes: Pool,
    signer: Option<Arc<dyn HeadSigner>>,
    /// When health last saw a write succeed, unless one has failed since.
    last_write_at: Arc<Mutex<Option<Instant>>>,
}

/// One transaction. Its methods are in [`tables`], one file a table.
///
/// A method that answers `Conflict` leaves the transaction as it was before it, on both databases.
/// After any other error nothing more may be done in the transaction: return the error, and
/// everything is rolled back.
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
    /// Opens `sqlite:PATH` or `postgres://...` and brings its schema up to date. Without a signer:
    /// reads and writes, but no audit entry.
    ///
    /// # Errors
    /// [`StoreError`] with the database's own words.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Self::connect(url, None)
    }

    /// The same, with the signer of the audit head; signs the head of a new log.
    ///
    /// # Errors
    /// [`StoreError`] with the database's own words.
    pub fn open_with(url: &str, signer: Arc<dyn HeadSigner>) -> Result<Self, StoreError> {
        Self::connect(url, Some(signer))
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
        let (reads, writes) = Pool::pair(place)?;
        Ok(Self { reads, writes, signer, last_write_at: Arc::default() })
    }

    /// Runs `f` in a read transaction: all it reads is of one moment.
    ///
    /// # Errors
    /// What `f` answers; `Unavailable` when the database is not to be had in time.
    pub async fn read<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.reads.run(move |conn| run_transaction(conn, AccessMode::Read, None, &f)).await
    }

    /// Runs `f` in a write transaction, which is kept when `f` answers `Ok` and rolled back when it
    /// answers an error.
    ///
    /// `f` may run again, from the start, when the database asks for another try: it must have no
    /// effect but through its [`Tx`]. Write the audit entry last: it locks the end of the chain
    /// until the transaction is over.
    ///
    /// # Errors
    /// What `f` answers; `Unavailable` when the database is not to be had in time or cannot be
    /// written.
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

    /// Asks the database for one row, as health does, and whether it takes a write: a full disk
    /// still reads. Anybody may ask for health, so while writing works it is tried at most every
    /// ten seconds; when it did not work, every time.
    ///
    /// # Errors
    /// `Unavailable` when there is no answer in time, or nothing can be written.
    pub async fn ping(&self) -> Result<Duration> {
        let asked = Instant::now();
        self.read(|tx| tx.change_counter()).await?;
        let took = asked.elapsed();
        let known = self.last_write_at().is_some_and(|at| at.elapsed() < PROBE_INTERVAL);
        if !known {
            // Never twice the same: SQLite does not write what is there already.
            let news = format!("{:032x}", rand::random::<u128>());
            self.write(move |tx| {
                tx.put_setting(PROBE_SETTING, &news.repeat(PROBE_BYTES / news.len()))
            })
            .await?;
            *self.last_write_at() = Some(Instant::now());
        }
        Ok(took)
    }

    fn last_write_at(&self) -> MutexGuard<'_, Option<Instant>> {
        lock(&self.last_write_at)
    }

    /// The signer it was opened with.
    pub(crate) fn signer(&self) -> Option<&dyn HeadSigner> {
        self.signer.as_deref()
    }
}

/// Runs `f` in one transaction, and again when the database asks for it.
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
                // Two that just met would meet again: wait a little, each try longer. This is a
                // thread of the blocking pool.
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
            // When even this fails, diesel marks the connection as broken and the pool replaces it:
            // nothing of it is kept.
            if let Err(also) = AnyConnection::rollback_transaction(conn) {
                tracing::debug!(error = %also, "rollback");
            }
            Err(failed)
        }
    }
}

impl Tx<'_> {
    /// Runs `f` within a savepoint, so that its failure (a unique violation, mostly) leaves the
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
