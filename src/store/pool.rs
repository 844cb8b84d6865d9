//! Few connections for many tasks. A task waits for a connection without holding a thread, and not
//! for long: after [`WAIT`] it is told that the database is busy.

use super::StoreError;
use super::connection::{AnyConnection, Mode, Place};
use crate::domain::{Error, Result};
use diesel::connection::SimpleConnection;
use diesel::r2d2::{self, ManageConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Longest wait for a connection.
pub const WAIT: Duration = Duration::from_secs(5);
/// Most tasks that wait at once for one pool; more are turned away at once.
pub const QUEUE: usize = 2048;
/// Connections that read, on SQLite.
const SQLITE_READERS: u32 = 6;
/// Connections in all, on PostgreSQL.
const POSTGRES_CONNECTIONS: u32 = 16;

/// Opens connections for `r2d2`.
struct Opener {
    place: Place,
    mode: Mode,
}

impl ManageConnection for Opener {
    type Connection = AnyConnection;
    type Error = StoreError;

    fn connect(&self) -> Result<AnyConnection, StoreError> {
        self.place.open(self.mode)
    }

    fn is_valid(&self, conn: &mut AnyConnection) -> Result<(), StoreError> {
        conn.batch_execute("SELECT 1").map_err(|e| StoreError::Open(e.to_string()))
    }

    fn has_broken(&self, conn: &mut AnyConnection) -> bool {
        std::thread::panicking() || r2d2::R2D2Connection::is_broken(conn)
    }
}

/// A pool of connections.
#[derive(Clone)]
pub struct Pool {
    connections: r2d2::Pool<Opener>,
    places: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Pool {
    /// The pools for reading and for writing. SQLite: several readers, one writer. PostgreSQL: the
    /// same pool twice.
    ///
    /// # Errors
    /// None today; opening happens on first use.
    pub fn pair(place: Place) -> Result<(Self, Self), StoreError> {
        match place {
            Place::Sqlite(_) => Ok((
                Self::new(place.clone(), Mode::Read, SQLITE_READERS),
                Self::new(place, Mode::Write, 1),
            )),
            Place::Postgres(_) => {
                let pool = Self::new(place, Mode::Write, POSTGRES_CONNECTIONS);
                Ok((pool.clone(), pool))
            }
        }
    }

    fn new(place: Place, mode: Mode, size: u32) -> Self {
        // A server's connection may have died since it was last used; a file's cannot.
        let test = matches!(place, Place::Postgres(_));
        let connections = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .connection_timeout(WAIT)
            .test_on_check_out(test)
            .idle_timeout(if test { Some(Duration::from_secs(300)) } else { None })
            .max_lifetime(if test { Some(Duration::from_secs(1800)) } else { None })
            .build_unchecked(Opener { place, mode });
        Self {
            connections,
            places: Arc::new(Semaphore::new(size as usize)),
            queue: Arc::new(Semaphore::new(QUEUE)),
        }
    }

    /// Runs `work` with a connection, on the blocking pool.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let busy = || Error::unavailable("The database is too busy. Try again in a moment.");
        let until = Instant::now() + WAIT;
        let place = {
            let _queued = self.queue.try_acquire().map_err(|_| busy())?;
            let place = tokio::time::timeout(WAIT, self.places.clone().acquire_owned()).await;
            place.map_err(|_| busy())?.map_err(Error::internal)?
        };
        let connections = self.connections.clone();
        let work = move || {
            // The place is given back when the work is over, even if nobody waits for its outcome
            // any more.
            let _place = place;
            let left =
                until.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
            let mut conn = connections.get_timeout(left).map_err(|e| {
                Error::unavailable("The database does not answer. Try again in a moment; if it stays, tell your administrator.").caused_by(e)
            })?;
            work(&mut conn)
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }
}
