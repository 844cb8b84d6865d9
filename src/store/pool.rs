//! Connection pools. A task waits for a connection without occupying a thread, and at most for
//! [`ACQUIRE_TIMEOUT`].

use super::connection::{AccessMode, AnyConnection, DatabaseFile, DatabaseLocation};
use super::error::StoreError;
use crate::domain::{Error, Result};
use diesel::connection::SimpleConnection;
use diesel::r2d2::{self, ManageConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Longest wait for a connection.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most tasks that wait at once for one pool; more are refused immediately.
pub const MAX_WAITERS: usize = 2048;
/// Read connections on SQLite.
const SQLITE_READERS: u32 = 6;
/// Connections on PostgreSQL.
const POSTGRES_CONNECTIONS: u32 = 16;

struct ConnectionManager {
    location: DatabaseLocation,
    /// The only file to open.
    file: Option<DatabaseFile>,
    mode: AccessMode,
}

impl ManageConnection for ConnectionManager {
    type Connection = AnyConnection;
    type Error = StoreError;

    fn connect(&self) -> Result<AnyConnection, StoreError> {
        let conn = self.location.open(self.mode)?;
        if let Some(file) = &self.file {
            file.check()?;
        }
        Ok(conn)
    }

    fn is_valid(&self, conn: &mut AnyConnection) -> Result<(), StoreError> {
        conn.batch_execute("SELECT 1").map_err(|e| StoreError::Open(e.to_string()))
    }

    fn has_broken(&self, conn: &mut AnyConnection) -> bool {
        std::thread::panicking() || r2d2::R2D2Connection::is_broken(conn)
    }
}

#[derive(Clone)]
pub struct Pool {
    connections: r2d2::Pool<ConnectionManager>,
    permits: Arc<Semaphore>,
    waiters: Arc<Semaphore>,
}

impl Pool {
    /// The pools for reading and for writing. SQLite: several readers, one writer. PostgreSQL: the
    /// same pool twice. Connections are opened on first use.
    pub(super) fn pair(permit: DatabaseLocation, file: Option<DatabaseFile>) -> (Self, Self) {
        match permit {
            DatabaseLocation::Sqlite(_) => (
                Self::new(permit.clone(), file.clone(), AccessMode::Read, SQLITE_READERS),
                Self::new(permit, file, AccessMode::Write, 1),
            ),
            DatabaseLocation::Postgres(_) => {
                let pool = Self::new(permit, file, AccessMode::Write, POSTGRES_CONNECTIONS);
                (pool.clone(), pool)
            }
        }
    }

    fn new(
        permit: DatabaseLocation,
        file: Option<DatabaseFile>,
        mode: AccessMode,
        size: u32,
    ) -> Self {
        // A server's connection may have died since its last use; a file's cannot.
        let test = matches!(permit, DatabaseLocation::Postgres(_));
        let connections = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .connection_timeout(ACQUIRE_TIMEOUT)
            .test_on_check_out(test)
            .idle_timeout(if test { Some(Duration::from_secs(300)) } else { None })
            .max_lifetime(if test { Some(Duration::from_secs(1800)) } else { None })
            .build_unchecked(ConnectionManager { location: permit, file, mode });
        Self {
            connections,
            permits: Arc::new(Semaphore::new(size as usize)),
            waiters: Arc::new(Semaphore::new(MAX_WAITERS)),
        }
    }

    /// Runs `work` with a connection, on the blocking pool.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let busy = || Error::unavailable("The database is too busy. Try again in a moment.");
        let deadline = Instant::now() + ACQUIRE_TIMEOUT;
        let permit = {
            let _queued = self.waiters.try_acquire().map_err(|_| busy())?;
            let permit =
                tokio::time::timeout(ACQUIRE_TIMEOUT, self.permits.clone().acquire_owned()).await;
            permit.map_err(|_| busy())?.map_err(Error::internal)?
        };
        let connections = self.connections.clone();
        let work = move || {
            // The permit is released when the work ends, even if nobody waits for its result any
            // more.
            let _permit = permit;
            let remaining =
                deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
            let mut conn = connections.get_timeout(remaining).map_err(|e| {
                Error::unavailable("The database does not answer. Try again in a moment; if it stays, tell your administrator.").caused_by(e)
            })?;
            work(&mut conn)
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }
}
