//! A pool of slots: the connections of a stage, over all workers.

use super::client::{Client, KnownClients};
use super::connection::Connection;
use super::metrics::{CloseReason, ConnectionMetrics, Stage};
use super::occupancy::{Occupancy, PoolLimits};
use crate::domain::rate_limit::{Quota, TotalRateLimiter};
use crate::domain::sync::lock;
use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A pool that is full, or a client at its limit, is logged once in this time.
const REPORTS: Quota = Quota { burst: 1, interval: Duration::from_secs(60) };

/// The slots of a stage.
pub(in crate::http) struct ConnectionPool {
    stage: Stage,
    limits: PoolLimits,
    epoch: Instant,
    known: Arc<KnownClients>,
    metrics: ConnectionMetrics,
    occupancy: Mutex<Occupancy>,
    reports: Mutex<TotalRateLimiter>,
}

impl ConnectionPool {
    pub(super) fn new(
        stage: Stage,
        limits: PoolLimits,
        known: Arc<KnownClients>,
        metrics: ConnectionMetrics,
    ) -> Self {
        metrics.set_open(stage, 0);
        let (epoch, occupancy) = (Instant::now(), Mutex::default());
        let reports = Mutex::new(TotalRateLimiter::new(REPORTS));
        Self { stage, limits, epoch, known, metrics, occupancy, reports }
    }

    /// A slot for a new connection; for it, another one may be closed. `None`: it is refused.
    pub(in crate::http) fn acquire(self: &Arc<Self>, client: Client) -> Option<ConnectionSlot> {
        let is_known = self.known.contains(client, Instant::now());
        let mut occupancy = lock(&self.occupancy);
        let accepted = occupancy.insert(client, is_known, self.limits, self.now());
        self.metrics.set_open(self.stage, occupancy.len());
        drop(occupancy);
        match accepted {
            Ok(accepted) => {
                if let Some(eviction) = accepted.evicted {
                    // One without an idle connection lost one in use.
                    let forced = eviction.connection.idle_since().is_none();
                    eviction.connection.close(forced);
                    self.metrics.count_closed(self.stage, eviction.reason);
                    self.report(eviction.connection.client, eviction.reason);
                }
                let (pool, connection) = (Arc::clone(self), accepted.connection);
                let handle = ConnectionHandle { pool, connection };
                Some(ConnectionSlot { handle, number: accepted.number })
            }
            Err(reason) => {
                self.metrics.count_refused(self.stage, reason);
                self.report(client, reason);
                None
            }
        }
    }

    /// Logs whose connection was closed or refused.
    fn report(&self, client: Client, reason: CloseReason) {
        let now = self.now().saturating_mul(1_000_000);
        if lock(&self.reports).try_acquire(now) {
            let (stage, limits) = (self.stage, self.limits);
            tracing::warn!(?client, ?stage, ?reason, ?limits, "http.connections.limited");
        }
    }

    /// Milliseconds since the pool was made.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A connection, for those that do not own it.
#[derive(Clone)]
pub(in crate::http) struct ConnectionHandle {
    pool: Arc<ConnectionPool>,
    connection: Arc<Connection>,
}

impl ConnectionHandle {
    /// Counts a request, whose head has so many bytes, until the guard is dropped. `None`: the
    /// connection's or the client's requests have too large heads together.
    pub(in crate::http) fn begin_request(&self, head: usize) -> Option<RequestGuard> {
        let counted = self.connection.add_request(head);
        counted.then(|| RequestGuard { connection: Some(self.clone()), head, is_answered: false })
    }

    /// Somebody has authenticated on it: its client is known now.
    pub(in crate::http) fn set_authenticated(&self) {
        let client = self.connection.client;
        self.pool.known.add(client, Instant::now());
        if !self.connection.is_authenticated.swap(true, Ordering::AcqRel) {
            lock(&self.pool.occupancy).set_known(client, true);
        }
    }

    /// Resolves when it is to close.
    pub(in crate::http) async fn closing(&self) {
        self.connection.closing.cancelled().await;
    }

    /// Number of its requests since it was opened.
    pub(super) fn requests_started(&self) -> u64 {
        self.connection.requests_started()
    }

    /// Whether its requests in progress are not waited for.
    pub(super) fn is_forced(&self) -> bool {
        self.connection.is_forced()
    }

    /// For how long it has had no request, in milliseconds; `None`: it has one.
    pub(super) fn idle_ms(&self) -> Option<u64> {
        let since = self.connection.idle_since()?;
        Some(self.pool.now().saturating_sub(since))
    }

    pub(in crate::http) fn count_closed(&self, reason: CloseReason) {
        self.pool.metrics.count_closed(self.pool.stage, reason);
    }

    /// An incomplete header block, until the guard is dropped. `None`: its client has too many.
    pub(super) fn begin_header_block(&self) -> Option<HeaderBlockGuard> {
        self.connection.add_header_block().then(|| HeaderBlockGuard(Arc::clone(&self.connection)))
    }
}

/// A connection's slot; free when it is dropped.
pub(in crate::http) struct ConnectionSlot {
    handle: ConnectionHandle,
    number: u64,
}

impl Deref for ConnectionSlot {
    type Target = ConnectionHandle;

    fn deref(&self) -> &ConnectionHandle {
        &self.handle
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let pool = &self.handle.pool;
        let mut occupancy = lock(&pool.occupancy);
        occupancy.remove(self.handle.connection.client, self.number);
        pool.metrics.set_open(pool.stage, occupancy.len());
    }
}

/// An incomplete header block of a connection.
pub(super) struct HeaderBlockGuard(Arc<Connection>);

impl Drop for HeaderBlockGuard {
    fn drop(&mut self) {
        self.0.remove_header_block();
    }
}

/// A request in progress: from its head to the end of its response's body.
pub(in crate::http) struct RequestGuard {
    /// `None`: it is counted until the connection ends.
    connection: Option<ConnectionHandle>,
    head: usize,
    is_answered: bool,
}

impl RequestGuard {
    /// There is a response. One that is dropped before was reset by its client.
    pub(in crate::http) fn set_answered(&mut self) {
        self.is_answered = true;
    }

    /// The request lasts as long as its connection, which has become a WebSocket.
    pub(in crate::http) fn keep(mut self) {
        self.connection = None;
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let Some(handle) = &self.connection else { return };
        let (connection, now) = (&handle.connection, handle.pool.now());
        connection.remove_request(self.head, now);
        if !self.is_answered && !connection.count_reset(now) && !connection.is_forced() {
            handle.count_closed(CloseReason::Resets);
            connection.close(true);
        }
    }
}
