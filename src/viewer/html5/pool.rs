//! Connections to the application: opened through the session's tunnel, kept alive between
//! requests, closed with the session.
//!
//! A pool belongs to one login's opening of one session, so an application that corrupts a
//! connection by an unrequested response affects no other user's requests.

use super::connection::Connection;
use super::error::ProxyError;
use super::revocation::RevocationSource;
use crate::domain::sync::lock;
use crate::viewer::Duplex;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Most connections to an application: enough for many browsers, few enough for small servers.
const CONNECTIONS_MAX: usize = 256;
const IDLE_MAX: usize = 64;
/// An idle connection is closed after this; many servers close theirs sooner.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A request that must not be sent twice uses only connections idle for less than this: the
/// application may be closing an older one at the same time.
const NON_RETRYABLE_IDLE_MAX: Duration = Duration::from_secs(2);

struct Idle {
    connection: Connection,
    since: Instant,
}

/// The connections of one application.
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    permits: Arc<Semaphore>,
    revocation: RevocationSource,
}

impl Pool {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            revocation: RevocationSource::default(),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        lock(&self.idle)
    }

    /// Takes the most recently used idle connection, of this thread if there is one.
    /// `is_retryable`: the request may be sent again if the connection turns out to be closed.
    pub(super) fn checkout(&self, is_retryable: bool) -> Option<Connection> {
        let (now, current) = (Instant::now(), thread::current().id());
        let max_idle = if is_retryable { IDLE_TIMEOUT } else { NON_RETRYABLE_IDLE_MAX };
        let usable = |idle: &Idle| now.saturating_duration_since(idle.since) < max_idle;
        let mut idle = self.idle();
        while let Some(index) = idle
            .iter()
            .rposition(|entry| entry.connection.last_thread() == current && usable(entry))
            .or_else(|| idle.iter().rposition(usable))
        {
            let mut connection = idle.remove(index).connection;
            if connection.is_open_and_silent() {
                drop(idle);
                connection.move_to_current_thread();
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, unless the session has ended.
    pub(super) fn checkin(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        // `close` revokes first and then empties the list under this lock: no connection stays.
        if connection.is_reusable() {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes connections that are idle too long or that the application closed. Returns how many
    /// are left.
    pub(super) fn sweep(&self) -> usize {
        let mut idle = self.idle();
        idle.retain_mut(|entry| {
            entry.since.elapsed() < IDLE_TIMEOUT && entry.connection.is_open_and_silent()
        });
        for entry in idle.iter_mut().filter(|entry| entry.since.elapsed() >= NON_RETRYABLE_IDLE_MAX)
        {
            entry.connection.release_buffer();
        }
        idle.len()
    }

    /// Ends the session: wakes the tasks that wait on a connection, and closes the idle ones.
    pub(super) fn close(&self) {
        self.revocation.revoke();
        self.idle().clear();
    }

    /// Reserves a connection, within `limit`.
    pub(super) async fn reserve(
        &self,
        limit: Duration,
    ) -> Result<OwnedSemaphorePermit, ProxyError> {
        let permit = timeout(limit, Arc::clone(&self.permits).acquire_owned()).await;
        permit.map_err(|_| ProxyError::ConnectionLimit)?.map_err(|_| ProxyError::SessionEnded)
    }

    /// A connection on a new stream.
    pub(super) fn adopt(
        &self,
        stream: Box<dyn Duplex>,
        permit: OwnedSemaphorePermit,
    ) -> Connection {
        Connection::new(stream, permit, self.revocation.token())
    }
}
