//! Connections to either database, and their settings.
//!
//! SQLite: write-ahead log, foreign keys on, one writer. With `synchronous=FULL` each commit is
//! synced, so that neither `kill -9` nor a power failure removes an audit entry whose effect
//! somebody saw (`NORMAL` survives the former only). The file and its log are readable by their
//! owner only. PostgreSQL: limits on connecting, on a statement (by class of work), on waiting for
//! a lock and on idling in a transaction.

use super::error::StoreError;
use super::work::Work;
use crate::domain::Error;
use crate::files;
use diesel::connection::{AnsiTransactionManager, SimpleConnection};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;
use std::os::unix::fs::MetadataExt as _;
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

    /// Opens a connection, for changes or for reads.
    ///
    /// # Errors
    /// [`StoreError::Open`] with the message of the database.
    pub fn open(&self, mode: AccessMode) -> Result<AnyConnection, StoreError> {
        self.open_for(match mode {
            AccessMode::Read => Work::Control,
            AccessMode::Write => Work::Change,
        })
    }

    /// Opens a connection with the limits of a class of work.
    ///
    /// # Errors
    /// [`StoreError::Open`] with the message of the database.
    pub(super) fn open_for(&self, work: Work) -> Result<AnyConnection, StoreError> {
        match self {
            Self::Sqlite(path) => open_sqlite(path, work).map(AnyConnection::Sqlite),
            Self::Postgres(url) => open_postgres(url, work).map(AnyConnection::Postgres),
        }
    }

    /// Creates the file of a SQLite database that is not there: empty, for its owner alone. SQLite
    /// gives its companions (`-wal`, `-shm`) the same mode.
    ///
    /// # Errors
    /// [`StoreError::Open`] with the message of the system.
    pub fn create(&self) -> Result<(), StoreError> {
        let Self::Sqlite(path) = self else { return Ok(()) };
        match files::create_private(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(StoreError::Open(format!("{}: {e}", path.display())))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether there is no file at the path of a SQLite database.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Sqlite(path) if !path.exists())
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

fn open_postgres(url: &str, work: Work) -> Result<PgConnection, StoreError> {
    let mut conn = PgConnection::establish(url).map_err(|e| StoreError::Open(e.to_string()))?;
    let setup = format!(
        "SET statement_timeout = '{}ms'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '60s';",
        work.statement_limit().as_millis()
    );
    conn.batch_execute(&setup).map_err(|e| StoreError::Open(e.to_string()))?;
    Ok(conn)
}

fn open_sqlite(path: &Path, work: Work) -> Result<SqliteConnection, StoreError> {
    let failed = |e: &dyn std::fmt::Display| StoreError::Open(format!("{}: {e}", path.display()));
    let text = path.to_str().ok_or_else(|| failed(&"the path is not UTF-8"))?;
    // An existing file only: SQLite would create an empty one.
    if !path.exists() {
        return Err(failed(&"No such file"));
    }
    let mut conn = SqliteConnection::establish(&existing_file_uri(text)).map_err(|e| failed(&e))?;
    let setup = format!(
        "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; \
         PRAGMA cache_size = -{}; PRAGMA query_only = {};",
        work.cache_kib(),
        if work == Work::Change { "OFF" } else { "ON" }
    );
    conn.batch_execute(&setup).map_err(|e| failed(&e))?;
    Ok(conn)
}

/// The URI by which SQLite opens a file and does not create it (sqlite.org/uri.html).
fn existing_file_uri(path: &str) -> String {
    let mut uri = String::from("file:");
    // Two slashes would begin the name of a machine.
    let path = if path.starts_with('/') {
        format!("/{}", path.trim_start_matches('/'))
    } else {
        path.to_owned()
    };
    for c in path.chars() {
        match c {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            c => uri.push(c),
        }
    }
    uri.push_str("?mode=rw");
    uri
}

/// The file of a SQLite database, by which a file that was moved or replaced is noticed: SQLite
/// would go on writing into the one it has open, which nobody can find any more.
#[derive(Clone, Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    pub(super) fn of(location: &DatabaseLocation) -> Result<Option<Self>, StoreError> {
        let DatabaseLocation::Sqlite(path) = location else { return Ok(None) };
        let facts = std::fs::metadata(path)
            .map_err(|e| StoreError::Open(format!("{}: {e}", path.display())))?;
        Ok(Some(Self { path: path.clone(), device: facts.dev(), inode: facts.ino() }))
    }

    /// Checks that the path still leads to the file.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) fn check(&self) -> crate::domain::Result<()> {
        let present = std::fs::metadata(&self.path);
        if present.as_ref().is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode)) {
            return Ok(());
        }
        let cause = match present {
            Ok(_) => "there is another file".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Error::unavailable("The database's file was moved or replaced. Nothing was changed; tell your administrator.")
            .caused_by(format!("{}: {cause}", self.path.display())))
    }
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
    fn a_file_is_opened_but_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("50% a?mode=memory#b.db");
        let location = DatabaseLocation::Sqlite(path.clone());
        assert!(location.open(AccessMode::Write).is_err() && !path.exists());
        location.create().unwrap();
        location.create().unwrap();
        let file = DatabaseFile::of(&location).unwrap().unwrap();
        let mut conn = location.open(AccessMode::Write).unwrap();
        conn.batch_execute("CREATE TABLE t (a)").unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > 0 && file.check().is_ok());
        let moved = dir.path().join("moved.db");
        std::fs::rename(&path, &moved).unwrap();
        assert!(file.check().is_err());
        location.create().unwrap();
        assert!(file.check().is_err(), "another file");
        std::fs::rename(&moved, &path).unwrap();
        file.check().unwrap();
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
