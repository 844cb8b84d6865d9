//! New databases for tests, SQLite and PostgreSQL.
//!
//! SQLite: a file in a temporary directory. PostgreSQL: a database copied from a migrated template,
//! in one server that the first test that needs it starts, reachable only by a socket in its
//! directory. A shell supervises the server: when this process ends, however it ends, the
//! shell's input ends, and it stops the server and removes everything. Without PostgreSQL the test
//! fails.

use diesel::connection::SimpleConnection;
use portcullis::auth::Vault;
use portcullis::store::connection::{AccessMode, AnyConnection, DatabaseLocation};
use portcullis::store::{HeadSigner, Store};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Defines every test twice: `async fn name(db) { .. }` becomes `name::sqlite` and
/// `name::postgres`, each with a new [`Db`].
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($db:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            use $crate::support::db::{Backend, Db};

            async fn check($db: Db) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check(Db::new(Backend::Sqlite)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                check(Db::new(Backend::Postgres)).await;
            }
        }
    )*};
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// Signs with a vault of a fixed key.
pub struct VaultSigner(pub Vault);

impl HeadSigner for VaultSigner {
    fn sign(&self, text: &str) -> String {
        self.0.sign_head(text)
    }
    fn verify(&self, text: &str, signature: &str) -> bool {
        self.0.verify_head(text, signature)
    }
}

pub fn vault() -> Vault {
    Vault::from_master_key([7; 32])
}

/// A new database and a store on it; removed when dropped.
pub struct Db {
    pub store: Store,
    pub url: String,
    _place: DatabaseGuard,
}

enum DatabaseGuard {
    Sqlite(#[expect(dead_code, reason = "removes the folder when dropped")] tempfile::TempDir),
    Postgres(String),
}

impl Db {
    /// With the schema, without rows.
    pub fn new(backend: Backend) -> Self {
        let (url, place) = match backend {
            Backend::Sqlite => sqlite(),
            Backend::Postgres => postgres("portcullis_template"),
        };
        let store = Store::open_with(&url, Arc::new(VaultSigner(vault()))).unwrap();
        Self { store, url, _place: place }
    }

    /// Another store on the same database, as another process has it.
    pub fn reopen(&self) -> Store {
        Store::open_with(&self.url, Arc::new(VaultSigner(vault()))).unwrap()
    }

    /// A direct connection, for what the store does not do.
    pub fn connection(&self) -> AnyConnection {
        DatabaseLocation::parse(&self.url).unwrap().open(AccessMode::Write).unwrap()
    }

    /// Runs SQL outside the store.
    pub fn raw(&self, sql: &str) {
        self.connection().batch_execute(sql).unwrap();
    }
}

impl Drop for DatabaseGuard {
    fn drop(&mut self) {
        if let Self::Postgres(name) = self {
            let _ = execute_as_admin(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// A connection to a database without any schema.
pub struct EmptyDatabase {
    pub connection: AnyConnection,
    pub url: String,
    _place: DatabaseGuard,
}

pub fn empty_database(backend: Backend) -> EmptyDatabase {
    let (url, place) = match backend {
        Backend::Sqlite => sqlite(),
        Backend::Postgres => postgres("template1"),
    };
    let location = DatabaseLocation::parse(&url).unwrap();
    location.create().unwrap();
    EmptyDatabase { connection: location.open(AccessMode::Write).unwrap(), url, _place: place }
}

fn sqlite() -> (String, DatabaseGuard) {
    let dir = tempfile::tempdir().unwrap();
    (format!("sqlite:{}", dir.path().join("test.db").display()), DatabaseGuard::Sqlite(dir))
}

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// $1: the folder of PostgreSQL's programs. Prints "ready DIRECTORY"; ends when its input ends.
const SUPERVISOR_SCRIPT: &str = r#"
set -eu
trap '' INT TERM HUP
dir=$(mktemp -d /tmp/portcullis-pg-XXXXXX)
exec 2>"$dir/err"
trap 'rm -rf "$dir"' EXIT
"$1/initdb" -D "$dir/data" -A trust -U portcullis --no-sync -E UTF8 --locale=C.UTF-8 >"$dir/out" || { cat "$dir/err"; exit 1; }
"$1/pg_ctl" -D "$dir/data" -w -s -l "$dir/log" -o "-c listen_addresses= -c unix_socket_directories=$dir -c fsync=off \
    -c synchronous_commit=off -c full_page_writes=off -c max_connections=500 -c deadlock_timeout=100ms" start >"$dir/out" || { cat "$dir/log"; exit 1; }
echo "ready $dir"
cat >/dev/null
"$1/pg_ctl" -D "$dir/data" -m immediate -s stop
"#;

struct PostgresServer {
    dir: String,
    /// The supervising shell ends when this process does, since its input is a pipe from here.
    _watch: Mutex<Child>,
}

fn postgres_server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    SERVER.get_or_init(|| {
        let server = start_postgres();
        let url = url(&server.dir, "postgres");
        let mut conn = DatabaseLocation::parse(&url).unwrap().open(AccessMode::Write).unwrap();
        conn.batch_execute("CREATE DATABASE portcullis_template TEMPLATE template0").unwrap();
        // A template can be copied only without connections.
        drop(
            Store::open_with(
                &self::url(&server.dir, "portcullis_template"),
                Arc::new(VaultSigner(vault())),
            )
            .unwrap(),
        );
        server
    })
}

fn start_postgres() -> PostgresServer {
    // PostgreSQL refuses to run as root.
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", "sh", "-c", SUPERVISOR_SCRIPT, "sh", BIN]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISOR_SCRIPT, "sh", BIN]);
        command
    };
    // Its own process group, so that Ctrl+C at the terminal does not reach it.
    let spawned = command
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let mut child = spawned.expect("PostgreSQL 15 is needed for these tests");
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    while lines.read_line(&mut line).unwrap() > 0 && !line.ends_with('\n') {}
    let dir = line
        .trim()
        .strip_prefix("ready ")
        .unwrap_or_else(|| panic!("PostgreSQL does not start: {line}"))
        .to_owned();
    PostgresServer { dir, _watch: Mutex::new(child) }
}

fn url(dir: &str, database: &str) -> String {
    format!("postgres:///{database}?host={dir}&user=portcullis")
}

fn execute_as_admin(sql: &str) -> diesel::QueryResult<()> {
    DatabaseLocation::parse(&url(&postgres_server().dir, "postgres"))
        .unwrap()
        .open(AccessMode::Write)
        .unwrap()
        .batch_execute(sql)
}

fn postgres(template: &str) -> (String, DatabaseGuard) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = &postgres_server().dir;
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    execute_as_admin(&format!("CREATE DATABASE {name} TEMPLATE {template}")).unwrap();
    (url(dir, &name), DatabaseGuard::Postgres(name))
}
