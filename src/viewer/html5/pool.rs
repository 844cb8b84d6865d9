//! Connections to the application: made through the session's tunnel, kept while they are in use
//! again and again, gone with the session.
//!
//! They belong to one login's opening of one session. Should an application answer twice and so
//! spoil a connection, it can harm nobody else's requests.

use super::app::Shared;
use super::connection::Connection;
use super::error::ProxyError;
use super::serve::unless_ended;
use super::write_timeout::WriteTimeout;
use crate::domain::sync::lock;
use crate::domain::web_app::Scheme;
use crate::viewer::Duplex;
use crate::viewer::revocation::RevocationSource;
use crate::viewer::trust::{ExpectedServer, connect_tls};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Most connections to an application at once: many browsers' worth, few enough for small servers.
const CONNECTIONS_MAX: usize = 256;
/// Most idle ones.
const IDLE_MAX: usize = 64;
/// An idle one is closed after this long; many servers close theirs sooner.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A request that cannot be repeated takes only one used this lately: the application may be
/// closing an older one at this moment.
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
    pub(super) fn new() -> Self {
        Self {
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            revocation: RevocationSource::default(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        lock(&self.idle)
    }

    /// An idle connection, one of this thread if there is one, the last used first. `repeatable`:
    /// the request may be sent again when it turns out to be closed.
    pub(super) fn checkout(&self, repeatable: bool) -> Option<Connection> {
        let (now, here) = (Instant::now(), thread::current().id());
        let most = if repeatable { IDLE_TIMEOUT } else { NON_RETRYABLE_IDLE_MAX };
        let fit = |kept: &Idle| now.saturating_duration_since(kept.since) < most;
        let mut idle = self.idle();
        while let Some(at) = idle
            .iter()
            .rposition(|kept| kept.connection.last_thread() == here && fit(kept))
            .or_else(|| idle.iter().rposition(fit))
        {
            let mut connection = idle.remove(at).connection;
            if connection.is_open_and_silent() {
                drop(idle);
                connection.move_to_current_thread();
                return Some(connection);
            }
        }
        None
    }

    /// Keeps one for the next request, unless the session has ended.
    pub(super) fn checkin(&self, connection: Connection, shared: &Shared) {
        let mut idle = self.idle();
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        // The end is said before they are cleared.
        if connection.is_reusable() && !shared.has_ended() {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes those that idle too long or that the application closed; how many are left.
    pub(super) fn sweep(&self) -> usize {
        let mut idle = self.idle();
        idle.retain_mut(|kept| {
            kept.since.elapsed() < IDLE_TIMEOUT && kept.connection.is_open_and_silent()
        });
        for kept in idle.iter_mut().filter(|kept| kept.since.elapsed() >= NON_RETRYABLE_IDLE_MAX) {
            kept.connection.release_buffer();
        }
        idle.len()
    }

    /// At the end of the session: none is kept, and whoever waits at one is woken.
    pub(super) fn clear(&self) {
        self.idle().clear();
        self.revocation.revoke();
    }
}

/// A new connection to the application of the lease, and to no other.
pub(super) async fn connect(shared: &Arc<Shared>) -> Result<Connection, ProxyError> {
    unless_ended(shared, dial_and_secure(shared)).await
}

async fn dial_and_secure(shared: &Arc<Shared>) -> Result<Connection, ProxyError> {
    let limits = shared.limits();
    let seat = timeout(limits.dial, Arc::clone(&shared.pool().permits).acquire_owned()).await;
    let seat =
        seat.map_err(|_| ProxyError::ConnectionLimit)?.map_err(|_| ProxyError::SessionEnded)?;
    let lease = shared.lease();
    let stream = timeout(limits.dial, shared.dial().dial(lease)).await;
    let stream = stream
        .map_err(|_| ProxyError::Unreachable(io::ErrorKind::TimedOut.into()))?
        .map_err(ProxyError::Unreachable)?;
    let stream: WriteTimeout<Box<dyn Duplex>> = WriteTimeout::new(stream, limits.stall);
    let stream: Box<dyn Duplex> = match shared.config().scheme {
        Scheme::Http => Box::new(stream),
        Scheme::Https => {
            let expected = ExpectedServer {
                trust: &lease.upstream().trust,
                address: lease.address(),
                name: shared.server_name(),
                timeout: limits.dial,
            };
            Box::new(
                connect_tls(stream, expected, &shared.audit())
                    .await
                    .map_err(ProxyError::from_tls_end)?
                    .stream,
            )
        }
    };
    Ok(Connection::new(stream, seat, shared.pool().revocation.token()))
}
