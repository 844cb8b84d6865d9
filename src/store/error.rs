//! Maps database errors to [`crate::domain::Error`]. The user reads what happened and what to do;
//! the message of the database is the source, for the log.

use crate::domain::{Error, ErrorKind};
use diesel::result::{DatabaseErrorKind, Error as DbError};

/// The database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("a database URL is sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME")]
    Url,
    #[error("the database does not open: {0}")]
    Open(String),
    /// Migration failed.
    #[error("the database's schema cannot be brought up to date: {0}")]
    Migrate(String),
    /// The schema is newer than this version.
    #[error(
        "the database was written by a newer Portcullis (it has schema {0}); run that version, or restore a backup"
    )]
    SchemaTooNew(String),
    #[error("the database does not work: {0}")]
    Transaction(String),
    /// There is no file, or it has no tables, and none may be made.
    #[error("it {what}. {expected}{hint}", hint = ACCEPT)]
    Missing {
        /// Is missing, or is empty.
        what: &'static str,
        /// What is known of it.
        expected: String,
    },
    /// Another database than the witness's.
    #[error("it is not the database that this gateway has used: another one was put in its place. Put back the right one.{hint}", hint = ACCEPT)]
    Foreign,
    /// The log does not verify.
    #[error("its audit log was altered from outside: {fault}. Put back the newest intact copy.{hint}", hint = ACCEPT)]
    Tampered { fault: String },
    /// The witness cannot be read or written.
    #[error("the witness of the audit log, {path}, cannot be used: {cause}")]
    Witness {
        /// Its path.
        path: String,
        cause: String,
    },
}

/// What an administrator can do who has no better copy.
const ACCEPT: &str =
    " To continue with what is there, which is recorded, run `portcullis audit accept-damage`";

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::Transaction(error.source.map_or(error.message, |source| source.to_string()))
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        let mapped = match &error {
            DbError::DatabaseError(kind, info) => classify(kind, info.message()),
            DbError::BrokenTransactionManager | DbError::RollbackErrorOnCommit { .. } => {
                Some((ErrorKind::Unavailable, LOST))
            }
            _ => None,
        };
        match mapped {
            Some((kind, message)) => Self::new(kind, message).caused_by(error),
            None => Self::internal(error),
        }
    }
}

const LOST: &str = "The connection to the database was lost. Try again in a moment.";
const FULL: &str = "The database's disk is full. Nothing was changed; tell your administrator.";
const READ_ONLY: &str =
    "The database cannot be written now. Nothing was changed; tell your administrator.";
const BUSY: &str = "The database is busy. Nothing was changed; try again in a moment.";
const BROKEN: &str =
    "The database's disk does not work. Nothing was changed; tell your administrator.";
const TEXT: &str = "The text holds a character that cannot be kept.";

/// Messages of both databases. Diesel does not pass on PostgreSQL's error codes, and SQLite uses
/// one code for many errors. An unknown message stays `Internal`, which is the safe choice.
const MESSAGES: &[(&str, ErrorKind, &str)] = &[
    // SQLite
    ("database or disk is full", ErrorKind::Unavailable, FULL),
    ("readonly database", ErrorKind::Unavailable, READ_ONLY),
    ("disk I/O error", ErrorKind::Unavailable, BROKEN),
    ("unable to open database file", ErrorKind::Unavailable, BROKEN),
    ("database disk image is malformed", ErrorKind::Unavailable, BROKEN),
    ("database is locked", ErrorKind::Unavailable, BUSY),
    ("database table is locked", ErrorKind::Unavailable, BUSY),
    // PostgreSQL
    ("No space left on device", ErrorKind::Unavailable, FULL),
    ("could not extend file", ErrorKind::Unavailable, FULL),
    ("could not write to file", ErrorKind::Unavailable, FULL),
    ("read-only transaction", ErrorKind::Unavailable, READ_ONLY),
    ("during recovery", ErrorKind::Unavailable, READ_ONLY),
    ("deadlock detected", ErrorKind::Unavailable, BUSY),
    ("lock timeout", ErrorKind::Unavailable, BUSY),
    ("statement timeout", ErrorKind::Unavailable, BUSY),
    ("idle-in-transaction timeout", ErrorKind::Unavailable, LOST),
    ("terminating connection", ErrorKind::Unavailable, LOST),
    ("server closed the connection", ErrorKind::Unavailable, LOST),
    ("connection to server", ErrorKind::Unavailable, LOST),
    ("no connection to the server", ErrorKind::Unavailable, LOST),
    ("could not receive data from server", ErrorKind::Unavailable, LOST),
    ("could not send data to server", ErrorKind::Unavailable, LOST),
    ("shutting down", ErrorKind::Unavailable, LOST),
    ("starting up", ErrorKind::Unavailable, LOST),
    ("too many clients", ErrorKind::Unavailable, BUSY),
    ("invalid byte sequence for encoding", ErrorKind::Invalid, TEXT),
];

fn classify(kind: &DatabaseErrorKind, message: &str) -> Option<(ErrorKind, &'static str)> {
    match kind {
        DatabaseErrorKind::UniqueViolation => Some((ErrorKind::Conflict, "It exists already.")),
        DatabaseErrorKind::ForeignKeyViolation | DatabaseErrorKind::RestrictViolation => Some((
            ErrorKind::Conflict,
            "It refers to something that is not there, or is still referred to.",
        )),
        DatabaseErrorKind::SerializationFailure => Some((ErrorKind::Unavailable, BUSY)),
        DatabaseErrorKind::ReadOnlyTransaction => Some((ErrorKind::Unavailable, READ_ONLY)),
        DatabaseErrorKind::ClosedConnection => Some((ErrorKind::Unavailable, LOST)),
        _ => MESSAGES
            .iter()
            .find(|(part, ..)| message.contains(part))
            .map(|(_, kind, mapped)| (*kind, *mapped)),
    }
}

/// Maps a unique violation to `Conflict` with this message; any other error as usual.
pub(super) fn on_unique_violation(message: &'static str) -> impl Fn(DbError) -> Error {
    move |error| match &error {
        DbError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            Error::conflict(message).caused_by(error)
        }
        _ => error.into(),
    }
}

/// Whether the same transaction may succeed when it is repeated.
pub(super) fn is_retryable(error: &Error) -> bool {
    let Some(DbError::DatabaseError(kind, info)) =
        error.source.as_ref().and_then(|source| source.downcast_ref())
    else {
        return false;
    };
    matches!(kind, DatabaseErrorKind::SerializationFailure)
        || info.message().contains("deadlock detected")
}
