//! Connection pools, one for each class of work. A task waits for a connection without occupying a
//! thread, for a limited time.

use super::connection::{AnyConnection, DatabaseFile, DatabaseLocation};
use super::error::StoreError;
use super::work::{Connections, Work};
use crate::domain::{Error, Result};
use diesel::connection::SimpleConnection;
use diesel::r2d2::{self, ManageConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Most tasks that wait at once for one pool; more are refused immediately.
pub const MAX_WAITERS: usize = 2048;

struct ConnectionManager {
    location: DatabaseLocation,
    /// The only file to open.
    file: Option<DatabaseFile>,
    work: Work,
}

impl ManageConnection for ConnectionManager {
    type Connection = AnyConnection;
    type Error = StoreError;

    fn connect(&self) -> Result<AnyConnection, StoreError> {
        let conn = self.location.open_for(self.work)?;
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
struct Pool {
    connections: r2d2::Pool<ConnectionManager>,
    permits: Arc<Semaphore>,
    waiters: Arc<Semaphore>,
    wait: Duration,
}

/// The pools of a store. Connections are opened on first use.
#[derive(Clone)]
pub(super) struct Pools {
    control: Pool,
    change: Pool,
    listing: Pool,
    search: Pool,
}

impl Pools {
    pub(super) fn new(
        location: &DatabaseLocation,
        file: Option<&DatabaseFile>,
        shares: &Connections,
    ) -> Self {
        let pool = |work, size| Pool::new(location.clone(), file.cloned(), work, size, shares.wait);
        let changes = match location {
            DatabaseLocation::Sqlite(_) => 1,
            DatabaseLocation::Postgres(_) => shares.change,
        };
        Self {
            control: pool(Work::Control, shares.control),
            change: pool(Work::Change, changes),
            listing: pool(Work::Listing, shares.listing),
            search: pool(Work::Search, shares.search),
        }
    }

    /// Runs `call` with a connection of its class, on the blocking pool. (Not an `async fn`, whose
    /// future would hold the call a second time.)
    pub(super) fn run<T, F>(&self, work: Work, call: F) -> impl Future<Output = Result<T>>
    where
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let pool = match work {
            Work::Control => &self.control,
            Work::Change => &self.change,
            Work::Listing => &self.listing,
            Work::Search => &self.search,
        };
        pool.run(call)
    }
}

impl Pool {
    fn new(
        location: DatabaseLocation,
        file: Option<DatabaseFile>,
        work: Work,
        size: u32,
        wait: Duration,
    ) -> Self {
        // A server's connection may have died since its last use; a file's cannot.
        let test = matches!(location, DatabaseLocation::Postgres(_));
        let connections = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .connection_timeout(wait)
            .test_on_check_out(test)
            .idle_timeout(if test { Some(Duration::from_secs(300)) } else { None })
            .max_lifetime(if test { Some(Duration::from_secs(1800)) } else { None })
            .build_unchecked(ConnectionManager { location, file, work });
        Self {
            connections,
            permits: Arc::new(Semaphore::new(size as usize)),
            waiters: Arc::new(Semaphore::new(MAX_WAITERS)),
            wait,
        }
    }

    async fn run<T, F>(&self, call: F) -> Result<T>
    where
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let busy = || Error::unavailable("The database is too busy. Try again in a moment.");
        let deadline = Instant::now() + self.wait;
        let permit = {
            let _queued = self.waiters.try_acquire().map_err(|_| busy())?;
            let permit =
                tokio::time::timeout(self.wait, self.permits.clone().acquire_owned()).await;
            permit.map_err(|_| busy())?.map_err(Error::internal)?
        };
        let connections = self.connections.clone();
        let work = move || {
            // The permit is released when the call ends, even if nobody waits for its result any
            // more.
            let _permit = permit;
            let remaining =
                deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
            let mut conn = connections.get_timeout(remaining).map_err(|e| {
                Error::unavailable("The database does not answer. Try again in a moment; if it stays, tell your administrator.").caused_by(e)
            })?;
            call(&mut conn)
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }
}
