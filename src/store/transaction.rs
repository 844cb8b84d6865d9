//! Transactions, and what their methods need.

use super::connection::{AccessMode, AnyConnection};
use super::error;
use super::log_guard::LogGuard;
use super::witness::KnownHead;
use crate::domain::{Error, Result};
use diesel::connection::TransactionManager;
use std::time::Duration;

/// How often a transaction is attempted when the database asks for a retry.
const MAX_ATTEMPTS: u32 = 6;
/// One transaction. Its methods are in [`super::tables`], one file per table.
///
/// A method that returns `Conflict` leaves the transaction as it was before, on both databases.
/// After any other error the transaction is unusable: return the error, and everything is rolled
/// back.
pub struct Tx<'a> {
    pub(super) conn: &'a mut AnyConnection,
    /// Checks and signs the end of the audit log; `None` where nothing can be audited.
    pub(super) log: Option<&'a LogGuard>,
    /// The head after the entries of this transaction.
    pub(super) appended: Option<KnownHead>,
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}

/// Runs `f` in one transaction, and repeats it when the database asks for a retry.
pub(super) fn run_transaction<T>(
    conn: &mut AnyConnection,
    mode: AccessMode,
    log: Option<&LogGuard>,
    f: &dyn Fn(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match run_once(conn, mode, log, f) {
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
    log: Option<&LogGuard>,
    f: &dyn Fn(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    conn.begin(mode)?;
    let mut tx = Tx { conn, log, appended: None };
    let outcome = f(&mut tx);
    let appended = tx.appended.take();
    match outcome {
        Ok(value) => {
            AnyConnection::commit_transaction(conn)?;
            if let (Some(log), Some(head)) = (log, appended) {
                log.witness.record(head);
            }
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

impl<'a> Tx<'a> {
    /// Runs `f` within a savepoint, so that its failure (usually a unique violation) leaves the
    /// transaction usable on PostgreSQL too.
    pub(super) fn savepoint<T, E: From<diesel::result::Error>>(
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

    pub(super) fn log(&self) -> Result<&'a LogGuard> {
        self.log.ok_or_else(|| Error::internal("the store was opened without a signer for the audit log, or this transaction only reads"))
    }
}
