//! The migrations of `migrations/`, embedded, the same for both databases; a test runs and reverts
//! each.
//!
//! All pending migrations run in one transaction, so that a failed start leaves the schema
//! unchanged, and of several gateways that start at once one migrates while the others wait.

use super::connection::{AccessMode, AnyConnection};
use super::error::StoreError;
use diesel::connection::{SimpleConnection, TransactionManager};
use diesel::migration::MigrationSource;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// "portcull" as bytes: not used by other applications of the same PostgreSQL database.
const ADVISORY_LOCK_KEY: i64 = 0x706f_7274_6375_6c6c;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Applies all pending migrations.
///
/// # Errors
/// [`StoreError::SchemaTooNew`] when the database has unknown migrations; [`StoreError::Migrate`]
/// when a migration fails.
pub fn run(conn: &mut AnyConnection) -> Result<(), StoreError> {
    run_with(conn, &mut |_| Ok(()))
}

/// The same. `create` runs in the transaction that makes the tables of a database that has none,
/// and refuses it by an error.
///
/// # Errors
/// As [`run`]; the error of `create`.
pub(super) fn run_with(
    conn: &mut AnyConnection,
    create: &mut dyn FnMut(&mut AnyConnection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |e: BoxError| StoreError::Migrate(e.to_string());
    conn.begin(AccessMode::Write).map_err(|e| failed(e.into()))?;
    let outcome = apply_pending(conn, create);
    let end = if outcome.is_ok() {
        AnyConnection::commit_transaction(conn)
    } else {
        AnyConnection::rollback_transaction(conn)
    };
    outcome.and(end.map_err(|e| failed(e.into())))
}

fn apply_pending(
    conn: &mut AnyConnection,
    create: &mut dyn FnMut(&mut AnyConnection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |e: BoxError| StoreError::Migrate(e.to_string());
    if let AnyConnection::Postgres(server) = conn {
        let wait = format!(
            "SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '10min'; SELECT pg_advisory_xact_lock({ADVISORY_LOCK_KEY});"
        );
        server.batch_execute(&wait).map_err(|e| failed(e.into()))?;
    }
    let known =
        MigrationSource::<<AnyConnection as diesel::Connection>::Backend>::migrations(&MIGRATIONS)
            .map_err(failed)?;
    let applied = conn.applied_migrations().map_err(failed)?;
    if let Some(unknown) =
        applied.iter().find(|version| !known.iter().any(|m| m.name().version() == **version))
    {
        return Err(StoreError::SchemaTooNew(unknown.to_string()));
    }
    let is_new = applied.is_empty();
    conn.run_pending_migrations(MIGRATIONS).map_err(failed)?;
    if is_new { create(conn) } else { Ok(()) }
}
