//! The queue of password hashing: Argon2id is expensive by design, so it gets half the cores, and a
//! burst of sign-ins waits its turn while streams keep the others.
//!
//! Sign-ins of unknown browsers wait behind each other, and one address may have half the places.
//! Known browsers and administrators have places of their own and wait for one hash at most.

use crate::auth::password;
use crate::domain::rate_limit::client_network;
use crate::domain::sync::lock;
use crate::domain::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Known browsers and administrators that may wait for a password hash.
const KNOWN_MAX: usize = 128;
/// Longest wait: some thousand hashes on two cores.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Who waits for a hash.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) enum HashFor {
    /// An unknown browser, at this address.
    Unknown(Option<IpAddr>),
    /// A browser that signed in to the account before, or an administrator.
    Known,
}

/// Runs password hashing with bounded concurrency and a bounded queue.
#[derive(Clone, Debug)]
pub(in crate::broker) struct HashQueue {
    cores: Arc<Semaphore>,
    /// Unknown browsers beyond this wait for it first, so that few of them are ahead of a known one.
    unknown_cores: Arc<Semaphore>,
    known_places: Arc<Semaphore>,
    unknown_places: Arc<Semaphore>,
    /// Waiting unknown browsers by network.
    by_network: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_network: usize,
    count: Arc<AtomicU64>,
}

/// A network's place in the queue, free again when dropped.
struct NetworkPlace {
    by_network: Arc<Mutex<HashMap<IpAddr, usize>>>,
    network: IpAddr,
}

impl Drop for NetworkPlace {
    fn drop(&mut self) {
        let mut by_network = lock(&self.by_network);
        if let Some(count) = by_network.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                by_network.remove(&self.network);
            }
        }
    }
}

/// What a waiting request holds until its hash is done.
struct QueuePermits {
    _place: OwnedSemaphorePermit,
    _network: Option<NetworkPlace>,
}

impl HashQueue {
    /// With places for `waiting` unknown browsers.
    pub(in crate::broker) fn new(waiting: usize) -> Self {
        // Half the cores, at least one.
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() / 2).max(1);
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            unknown_cores: Arc::new(Semaphore::new(cores)),
            known_places: Arc::new(Semaphore::new(KNOWN_MAX)),
            unknown_places: Arc::new(Semaphore::new(waiting)),
            by_network: Arc::default(),
            per_network: waiting.div_ceil(2),
            count: Arc::default(),
        }
    }

    /// Runs password hashing on the blocking pool, within the queue's limits.
    ///
    /// # Errors
    /// `Throttled` when the queue is full, or the wait was too long.
    pub(in crate::broker) async fn run<T: Send + 'static>(
        &self,
        who: HashFor,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let place = self.place(who).ok_or_else(busy)?;
        let cores = tokio::time::timeout(TIMEOUT, self.cores(who)).await;
        let cores = cores.map_err(|_| busy())?.map_err(Error::internal)?;
        // The permits move into the work: a client that disconnects does not stop it and must not
        // free its slot.
        let count = self.count.clone();
        let work = move || {
            let before = password::computations();
            let done = work();
            count.fetch_add(password::computations() - before, Ordering::Relaxed);
            drop((cores, place));
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }

    fn place(&self, who: HashFor) -> Option<QueuePermits> {
        let (places, address) = match who {
            HashFor::Known => (&self.known_places, None),
            HashFor::Unknown(address) => (&self.unknown_places, address),
        };
        let place = places.clone().try_acquire_owned().ok()?;
        let network = match address.map(client_network) {
            Some(network) => Some(self.network_place(network)?),
            None => None,
        };
        Some(QueuePermits { _place: place, _network: network })
    }

    fn network_place(&self, network: IpAddr) -> Option<NetworkPlace> {
        let mut by_network = lock(&self.by_network);
        let count = by_network.entry(network).or_default();
        if *count >= self.per_network {
            return None;
        }
        *count += 1;
        Some(NetworkPlace { by_network: self.by_network.clone(), network })
    }

    async fn cores(
        &self,
        who: HashFor,
    ) -> std::result::Result<Vec<OwnedSemaphorePermit>, tokio::sync::AcquireError> {
        let mut permits = Vec::with_capacity(2);
        if let HashFor::Unknown(_) = who {
            permits.push(self.unknown_cores.clone().acquire_owned().await?);
        }
        permits.push(self.cores.clone().acquire_owned().await?);
        Ok(permits)
    }

    /// Number of Argon2id computations so far.
    pub(in crate::broker) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

fn busy() -> Error {
    Error::new(
        ErrorKind::Throttled(Duration::from_secs(2)),
        "Too many people sign in right now. Try again in a moment.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use std::pin::pin;

    #[test]
    fn one_address_has_half_of_the_places() {
        let queue = HashQueue::new(8);
        let at = |text: &str| HashFor::Unknown(Some(text.parse().unwrap()));
        let take = |who: HashFor| std::iter::from_fn(|| queue.place(who)).collect::<Vec<_>>();
        let mut first = take(at("2001:db8::1"));
        assert_eq!(first.len(), 4);
        assert!(queue.place(at("2001:db8::2")).is_none(), "the same /64");
        let others = take(at("192.0.2.1"));
        assert_eq!(others.len(), 4);
        assert!(queue.place(HashFor::Unknown(None)).is_none());
        assert!(queue.place(HashFor::Known).is_some());
        first.pop();
        assert!(queue.place(at("2001:db8::1")).is_some());
        drop((first, others));
        assert!(lock(&queue.by_network).is_empty());
    }

    #[tokio::test]
    async fn a_known_browser_waits_for_one_hash() {
        let queue = HashQueue::new(8);
        let mut under_way = Vec::new();
        while queue.cores.available_permits() > 0 {
            under_way.push(queue.cores(HashFor::Unknown(None)).await.unwrap());
        }
        let mut unknown = pin!(queue.cores(HashFor::Unknown(None)));
        assert!(poll!(&mut unknown).is_pending());
        let mut known = pin!(queue.cores(HashFor::Known));
        assert!(poll!(&mut known).is_pending());
        under_way.pop();
        assert!(poll!(&mut unknown).is_pending(), "it came earlier");
        assert!(poll!(&mut known).is_ready());
    }
}
