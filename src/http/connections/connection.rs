//! What the tasks of others know of a connection: its requests, and that it is to close.

use super::client::Client;
use crate::domain::rate_limit::{Quota, TotalRateLimiter};
use crate::domain::sync::lock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Bytes of the heads of the requests in progress of an HTTP/2 connection, and of all connections
/// of a client: HPACK makes much of little, and each request keeps its head while its body arrives.
const HEADS_MAX: usize = 1024 * 1024;
const CLIENT_HEADS_MAX: usize = 16 * 1024 * 1024;
/// Header blocks in several frames that a client may have incomplete, over all its connections: each
/// is decoded into up to [`super::http2::HEADER_LIST_MAX`] bytes. Browsers need one only for more
/// than 16 KiB of cookies.
const CLIENT_BLOCKS_MAX: usize = 32;
/// Requests that a client may reset before they are answered (CVE-2023-44487). A page that is left
/// resets all that it waits for.
const RESETS: Quota = Quota { burst: 300, interval: Duration::from_millis(50) };

/// What all connections of a client use together.
#[derive(Debug, Default)]
pub(super) struct ClientShare {
    head_bytes: AtomicUsize,
    header_blocks: AtomicUsize,
}

/// State of a connection. Times are milliseconds of its pool's clock.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) opened_at: u64,
    share: Arc<ClientShare>,
    /// In progress.
    requests: AtomicUsize,
    /// Since it was opened.
    requests_started: AtomicU64,
    head_bytes: AtomicUsize,
    idle_since: AtomicU64,
    pub(super) is_authenticated: AtomicBool,
    /// Requests in progress are not waited for.
    is_forced: AtomicBool,
    /// Cancelled: it is to close.
    pub(super) closing: CancellationToken,
    resets: Mutex<TotalRateLimiter>,
}

impl Connection {
    pub(super) fn new(client: Client, share: Arc<ClientShare>, now: u64) -> Self {
        Self {
            client,
            opened_at: now,
            share,
            requests: AtomicUsize::new(0),
            requests_started: AtomicU64::new(0),
            head_bytes: AtomicUsize::new(0),
            idle_since: AtomicU64::new(now),
            is_authenticated: AtomicBool::new(false),
            is_forced: AtomicBool::new(false),
            closing: CancellationToken::new(),
            resets: Mutex::new(TotalRateLimiter::new(RESETS)),
        }
    }

    /// Since when no request is in progress; `None`: one is.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let idle = self.requests.load(Ordering::Acquire) == 0;
        idle.then(|| self.idle_since.load(Ordering::Acquire))
    }

    pub(super) fn requests_started(&self) -> u64 {
        self.requests_started.load(Ordering::Acquire)
    }

    pub(super) fn is_forced(&self) -> bool {
        self.is_forced.load(Ordering::Acquire)
    }

    /// Has the connection's task close it: after its requests in progress, or, if `forced`, at once.
    pub(super) fn close(&self, forced: bool) {
        self.is_forced.fetch_or(forced, Ordering::AcqRel);
        self.closing.cancel();
    }

    /// Counts a request whose head has so many bytes. False: the heads are too large together.
    pub(super) fn add_request(&self, head: usize) -> bool {
        if !try_add(&self.head_bytes, head, HEADS_MAX) {
            return false;
        }
        let is_proxy = matches!(self.client, Client::Proxy(_));
        let client_max = if is_proxy { usize::MAX } else { CLIENT_HEADS_MAX };
        if !try_add(&self.share.head_bytes, head, client_max) {
            self.head_bytes.fetch_sub(head, Ordering::AcqRel);
            return false;
        }
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.requests_started.fetch_add(1, Ordering::AcqRel);
        true
    }

    pub(super) fn remove_request(&self, head: usize, now: u64) {
        self.head_bytes.fetch_sub(head, Ordering::AcqRel);
        self.share.head_bytes.fetch_sub(head, Ordering::AcqRel);
        self.idle_since.store(now, Ordering::Release);
        self.requests.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts an incomplete header block. False: its client has too many.
    pub(super) fn add_header_block(&self) -> bool {
        let is_proxy = matches!(self.client, Client::Proxy(_));
        let max = if is_proxy { usize::MAX } else { CLIENT_BLOCKS_MAX };
        try_add(&self.share.header_blocks, 1, max)
    }

    pub(super) fn remove_header_block(&self) {
        self.share.header_blocks.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a request that the client reset before it was answered. False: it does so too often.
    pub(super) fn count_reset(&self, now: u64) -> bool {
        lock(&self.resets).try_acquire(now.saturating_mul(1_000_000))
    }
}

/// Adds, if the sum is at most `max`.
fn try_add(counter: &AtomicUsize, more: usize, max: usize) -> bool {
    let add = |sum: usize| sum.checked_add(more).filter(|sum| *sum <= max);
    counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn connection(share: &Arc<ClientShare>) -> Connection {
        let client = Client::Network(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Connection::new(client, Arc::clone(share), 5)
    }

    #[test]
    fn a_connection_is_idle_while_it_has_no_request() {
        let connection = connection(&Arc::default());
        assert_eq!(connection.idle_since(), Some(5));
        assert!(connection.add_request(1) && connection.add_request(1));
        connection.remove_request(1, 7);
        assert_eq!(connection.idle_since(), None);
        connection.remove_request(1, 9);
        assert_eq!(connection.idle_since(), Some(9));
    }

    #[test]
    fn heads_are_limited_per_connection_and_client() {
        let share = Arc::default();
        let connections: Vec<_> = (0..17).map(|_| connection(&share)).collect();
        for connection in &connections[..16] {
            assert!(connection.add_request(HEADS_MAX));
            assert!(!connection.add_request(1), "the connection's limit");
        }
        assert!(!connections[16].add_request(1), "the client's limit");
        connections[0].remove_request(HEADS_MAX, 0);
        assert!(connections[16].add_request(1));
        assert!(connection(&Arc::default()).add_request(1), "of another client");
    }

    #[test]
    fn header_blocks_are_limited_per_client() {
        let share = Arc::default();
        let connections: Vec<_> = (0..=CLIENT_BLOCKS_MAX).map(|_| connection(&share)).collect();
        let taken = connections.iter().filter(|c| c.add_header_block()).count();
        assert_eq!(taken, CLIENT_BLOCKS_MAX);
        connections[0].remove_header_block();
        assert!(connections[CLIENT_BLOCKS_MAX].add_header_block());
    }

    #[test]
    fn resets_are_limited() {
        let connection = connection(&Arc::default());
        let passed = (0..10_000).filter(|_| connection.count_reset(1000)).count();
        assert_eq!(passed, RESETS.burst as usize);
        assert!(connection.count_reset(1100));
    }
}
