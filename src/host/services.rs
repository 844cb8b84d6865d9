//! The services of a host: servers that its administrator makes reachable for sessions, by name.
//!
//! - A **service** is a name and an address, given to the agent when it starts (`--service
//!   NAME=HOST:PORT`). Without one, nothing is reachable.
//! - The gateway names a service and never learns its address; every unknown name is refused with
//!   the same text.
//! - **Reachable** means that the address accepted a TCP connection when it was last probed: on
//!   request, within [`PROBE_TIMEOUT`], at most once per [`PROBE_CACHE_TTL`].

use super::control::ServiceHealth;
use crate::domain::sync::lock;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

pub const SERVICES_MAX: usize = 32;
/// Longest connect for a session, including the lookup of the name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest connect of a probe.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
pub const PROBE_CACHE_TTL: Duration = Duration::from_secs(10);

/// Address of a service.
#[derive(Debug, Clone)]
pub struct ServiceAddress(Arc<str>);

impl ServiceAddress {
    /// Connects.
    ///
    /// # Errors
    /// The connection's; `TimedOut`.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        self.connect_within(CONNECT_TIMEOUT).await
    }

    async fn connect_within(&self, limit: Duration) -> io::Result<TcpStream> {
        let stream = tokio::time::timeout(limit, TcpStream::connect(&*self.0))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        // Input events are small and must not wait for more (Nagle's algorithm).
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[derive(Debug, Default)]
pub struct Services {
    by_name: BTreeMap<String, ServiceAddress>,
    cached: Mutex<Option<(Instant, Vec<ServiceHealth>)>>,
}

impl Services {
    /// `host:port` by name. Entries beyond [`SERVICES_MAX`] are ignored.
    #[must_use]
    pub fn new(allowed: impl IntoIterator<Item = (String, String)>) -> Self {
        let by_name = allowed
            .into_iter()
            .take(SERVICES_MAX)
            .map(|(name, address)| (name, ServiceAddress(address.into())))
            .collect();
        Self { by_name, cached: Mutex::default() }
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<ServiceAddress> {
        self.by_name.get(name).cloned()
    }

    pub async fn health(&self) -> Vec<ServiceHealth> {
        let now = Instant::now();
        let known = lock(&self.cached).clone();
        if let Some((at, known)) = known
            && now.saturating_duration_since(at) < PROBE_CACHE_TTL
        {
            return known;
        }
        let probes = self.by_name.iter().map(|(name, address)| async move {
            let reachable = address.connect_within(PROBE_TIMEOUT).await.is_ok();
            ServiceHealth { name: name.clone(), reachable }
        });
        let found = join_all(probes).await;
        *lock(&self.cached) = Some((Instant::now(), found.clone()));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_named_services_exist_and_only_listening_ones_are_reachable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let [open_at, closed_at] =
            [&listener, &closed].map(|l| l.local_addr().unwrap().to_string());
        drop(closed);
        let services =
            Services::new([("open".to_owned(), open_at), ("closed".to_owned(), closed_at)]);
        assert!(services.find("other").is_none() && Services::default().find("open").is_none());
        services.find("open").unwrap().connect().await.unwrap();
        assert!(services.find("closed").unwrap().connect().await.is_err());
        let seen = services.health().await;
        assert_eq!(
            seen.iter().map(|s| (s.name.as_str(), s.reachable)).collect::<Vec<_>>(),
            [("closed", false), ("open", true)]
        );
        // A second request at once is answered from the cache.
        drop(listener);
        assert_eq!(services.health().await, seen);
    }
}
