//! Migrations up and down, and the tables of the diesel schema.

use crate::support::db::{Backend, empty_database};
use diesel::RunQueryDsl;
use diesel::connection::{Connection, SimpleConnection};
use diesel_migrations::MigrationHarness;
use portcullis::store::connection::AnyConnection;
use portcullis::store::migrate::{self, MIGRATIONS};
use portcullis::store::{Store, StoreError};

fn up_and_down(backend: Backend) {
    let mut db = empty_database(backend);
    let conn = &mut db.connection;
    let up = conn.run_pending_migrations(MIGRATIONS).unwrap().len();
    assert!(up > 0);
    assert_eq!(conn.revert_all_migrations(MIGRATIONS).unwrap().len(), up);
    // The down migrations removed everything: the names are free again.
    assert_eq!(conn.run_pending_migrations(MIGRATIONS).unwrap().len(), up);
    conn.revert_last_migration(MIGRATIONS).unwrap();
    assert_eq!(conn.run_pending_migrations(MIGRATIONS).unwrap().len(), 1);
    migrate::run(conn).unwrap();
    assert!(!conn.has_pending_migration(MIGRATIONS).unwrap());
}

#[test]
fn up_and_down_sqlite() {
    up_and_down(Backend::Sqlite);
}

#[test]
fn up_and_down_postgres() {
    up_and_down(Backend::Postgres);
}

fn newer_is_refused(backend: Backend) {
    let mut db = empty_database(backend);
    migrate::run(&mut db.connection).unwrap();
    db.connection
        .batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')")
        .unwrap();
    let error = Store::open(&db.url).unwrap_err();
    assert!(matches!(error, StoreError::SchemaTooNew(_)), "{error}");
}

#[test]
fn newer_is_refused_sqlite() {
    newer_is_refused(Backend::Sqlite);
}

#[test]
fn newer_is_refused_postgres() {
    newer_is_refused(Backend::Postgres);
}

/// Several gateways that start at once on an empty database: one migrates, all run.
fn many_start_at_once(backend: Backend) {
    let db = empty_database(backend);
    std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..4).map(|_| scope.spawn(|| Store::open(&db.url).map(drop))).collect();
        for start in starts {
            start.join().unwrap().unwrap();
        }
    });
}

#[test]
fn many_start_at_once_sqlite() {
    many_start_at_once(Backend::Sqlite);
}

#[test]
fn many_start_at_once_postgres() {
    many_start_at_once(Backend::Postgres);
}

macro_rules! each_table {
    ($conn:expr, $($table:ident)*) => {$({
        use diesel::QueryDsl;
        use portcullis::store::schema::$table;
        let query = diesel::select(diesel::dsl::exists($table::table.select($table::all_columns)));
        query.get_result::<bool>($conn).unwrap_or_else(|e| panic!("{}: {e}", stringify!($table)));
    })*};
}

fn schema_matches_tables(backend: Backend) {
    let mut db = empty_database(backend);
    let conn = &mut db.connection;
    migrate::run(conn).unwrap();
    conn.begin_test_transaction().unwrap();
    each_table!(conn, organizations users totp mfa_challenges logins refresh_tokens workspaces workspace_certificates user_credentials hosts join_tokens sessions live_sessions seats
        session_leases session_events tickets app_requests app_request_counts audit_entries audit_head signing_keys settings gateway_lease);
}

#[test]
fn tables_sqlite() {
    schema_matches_tables(Backend::Sqlite);
}

#[test]
fn tables_postgres() {
    schema_matches_tables(Backend::Postgres);
}

/// The stored status of the workspaces API is dropped, and restored by a downgrade.
fn session_status_round_trip(backend: Backend) {
    let mut db = empty_database(backend);
    let conn = &mut db.connection;
    migrate::run(conn).unwrap();
    let revert = |conn: &mut AnyConnection| {
        while conn.revert_last_migration(MIGRATIONS).unwrap().to_string() != "20261129200000" {}
    };
    revert(conn);
    let rows = [
        ("s1", "creating", "NULL", "NULL"),
        ("s2", "active", "NULL", "'active'"),
        ("s3", "closing", "'user_disconnected'", "'active'"),
        ("s4", "closed", "'user_disconnected'", "'disconnected'"),
        ("s5", "closed", "'expired'", "'terminated'"),
    ];
    conn.batch_execute(
        "INSERT INTO organizations (id, name, created_at) VALUES ('o', 'o', 0);
         INSERT INTO users (id, organization_id, email, email_key, name, role, password_hash, disabled, created_at)
         VALUES ('u', 'o', 'e', 'e', 'n', 'member', 'h', FALSE, 0);",
    )
    .unwrap();
    for (id, state, reason, status) in rows {
        conn.batch_execute(&format!(
            "INSERT INTO sessions (id, organization_id, principal_kind, user_id, principal_name, login_id, workspace_id, workspace_name, workspace_kind, host_id, state, reason, status, address, created_at, expires_at, version, way)
             VALUES ('{id}', 'o', 'user', 'u', 'e', 'l', 'w', 'w', 'linux', 'h', '{state}', {reason}, {status}, 'a{id}', 0, 0, 1, 'own')"
        ))
        .unwrap();
    }
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    conn.batch_execute("SELECT status FROM sessions").unwrap_err();
    revert(conn);
    conn.batch_execute("CREATE TABLE checks (ok INTEGER CHECK (ok = 1))").unwrap();
    for (id, _, _, status) in rows {
        let expected = if status == "NULL" {
            "status IS NULL".to_owned()
        } else {
            format!("status = {status}")
        };
        conn.batch_execute(&format!(
            "INSERT INTO checks SELECT COUNT(*) FROM sessions WHERE id = '{id}' AND {expected}"
        ))
        .unwrap_or_else(|error| panic!("{id}: {error}"));
    }
}

#[test]
fn session_status_round_trip_sqlite() {
    session_status_round_trip(Backend::Sqlite);
}

#[test]
fn session_status_round_trip_postgres() {
    session_status_round_trip(Backend::Postgres);
}
