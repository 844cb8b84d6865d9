//! Connections to either database, and their settings.
//!
//! SQLite: write-ahead log, foreign keys on, one writer. With `synchronous=FULL` each commit is
//! synced, so that neither `kill -9` nor a power failure removes an audit entry whose effect
//! somebody saw (`NORMAL` survives the former only). The file and its log are readable by their
//! owner only. PostgreSQL: limits on connecting, on a statement, on waiting for a lock and on
//! idling in a transaction.

use super::error::StoreError;
use crate::files;
use diesel::connection::{AnsiTransactionManager, SimpleConnection};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;
use std::path::{Path, PathBuf};

/// A connection to either database; queries are written once, against this type.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// SQLite.
    Sqlite(SqliteConnection),
    /// PostgreSQL.
    Postgres(PgConnection),
}

/// Access of a connection or a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessMode {
    /// The database refuses writes.
    Read,
    Write,
}

#[derive(Clone)]
pub enum DatabaseLocation {
    Sqlite(PathBuf),
    /// A server. The URL may contain a password: it is never printed.
    Postgres(String),
}

/// How long SQLite waits for the write lock of another process.
const BUSY_TIMEOUT_MS: u32 = 5_000;

const POSTGRES_SETUP: &str = "SET statement_timeout = '20s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '60s';";

impl DatabaseLocation {
    /// Parses a database URL.
    ///
    /// # Errors
    /// [`StoreError::Url`] for an unknown scheme.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(with_default_params(url)));
        }
        let path = url.strip_prefix("sqlite:").ok_or(StoreError::Url)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.starts_with(':') || path.starts_with("file:") {
            return Err(StoreError::Url);
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`StoreError::Open`] with the message of the database.
    pub fn open(&self, mode: AccessMode) -> Result<AnyConnection, StoreError> {
        match self {
            Self::Sqlite(path) => open_sqlite(path, mode).map(AnyConnection::Sqlite),
            Self::Postgres(url) => open_postgres(url).map(AnyConnection::Postgres),
        }
    }
}

/// Adds the libpq connection parameters that the URL does not set.
fn with_default_params(url: &str) -> String {
    let mut url = url.to_owned();
    for (name, value) in [
        ("connect_timeout", "5"),
        ("tcp_user_timeout", "20000"),
        ("keepalives_idle", "30"),
        ("application_name", "portcullis"),
    ] {
        if !url.contains(&format!("{name}=")) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            url.push_str(value);
        }
    }
    url
}

fn open_postgres(url: &str) -> Result<PgConnection, StoreError> {
    let mut conn = PgConnection::establish(url).map_err(|e| StoreError::Open(e.to_string()))?;
    conn.batch_execute(POSTGRES_SETUP).map_err(|e| StoreError::Open(e.to_string()))?;
    Ok(conn)
}

fn open_sqlite(path: &Path, mode: AccessMode) -> Result<SqliteConnection, StoreError> {
    let failed = |e: &dyn std::fmt::Display| StoreError::Open(format!("{}: {e}", path.display()));
    if mode == AccessMode::Write {
        // For its owner alone; SQLite gives its companions (`-wal`, `-shm`) the same mode.
        match files::create_private(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(&e)),
            Ok(_) | Err(_) => {}
        }
    }
    let text = path.to_str().ok_or_else(|| failed(&"the path is not UTF-8"))?;
    let mut conn = SqliteConnection::establish(text).map_err(|e| failed(&e))?;
    let setup = format!(
        "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; \
         PRAGMA cache_size = -16384; PRAGMA query_only = {};",
        if mode == AccessMode::Read { "ON" } else { "OFF" }
    );
    conn.batch_execute(&setup).map_err(|e| failed(&e))?;
    Ok(conn)
}

impl AnyConnection {
    /// Begins a transaction. A SQLite writer takes the write lock at once, so that it never has to
    /// upgrade a read lock and fail.
    ///
    /// # Errors
    /// The database's.
    pub fn begin(&mut self, mode: AccessMode) -> QueryResult<()> {
        match (self, mode) {
            (Self::Sqlite(conn), AccessMode::Read) => {
                AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN")
            }
            (Self::Sqlite(conn), AccessMode::Write) => {
                AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")
            }
            (Self::Postgres(conn), AccessMode::Read) => {
                AnsiTransactionManager::begin_transaction_sql(
                    conn,
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                )
            }
            (Self::Postgres(conn), AccessMode::Write) => {
                AnsiTransactionManager::begin_transaction_sql(
                    conn,
                    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, path) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite:/a/b.db", "/a/b.db"),
            ("sqlite:///a/b.db", "/a/b.db"),
            ("sqlite://a.db", "a.db"),
        ] {
            assert!(
                matches!(DatabaseLocation::parse(url), Ok(DatabaseLocation::Sqlite(p)) if p == Path::new(path)),
                "{url}"
            );
        }
        for bad in ["", "sqlite:", "sqlite::memory:", "mysql://x", "a.db"] {
            assert!(DatabaseLocation::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            with_default_params("postgres://u@h/d?connect_timeout=1"),
            "postgres://u@h/d?connect_timeout=1&tcp_user_timeout=20000&keepalives_idle=30&application_name=portcullis"
        );
    }

    #[test]
    fn open_errors_have_the_message_of_the_database() {
        let error = DatabaseLocation::parse("sqlite:/nonexistent/dir/a.db")
            .unwrap()
            .open(AccessMode::Write)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("No such file"), "{error}");
        let error = DatabaseLocation::parse("postgres://u:secret@127.0.0.1:1/d")
            .unwrap()
            .open(AccessMode::Write)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("127.0.0.1") && !error.contains("secret"), "{error}");
    }
}
