//! The services of a host: servers that its own administrator lets sessions reach through the
//! agent, by name.
//!
//! - A **service** is a name and an address, given to the agent when it starts (`--service
//!   NAME=HOST:PORT`). Without one, nothing is reached.
//! - The gateway asks by name and never learns the address; what is not among the names is refused,
//!   in the same words whatever it was.
//! - **Reachable** is whether the address took a TCP connection just now: tried when somebody asks,
//!   all within [`PROBE_TIMEOUT`], and not more often than [`PROBE_CACHE_TTL`] allows.

use super::control::ServiceHealth;
use crate::domain::sync::lock;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Most services of a host.
pub const SERVICES_MAX: usize = 32;
/// Longest wait for a session's connection, the look-up of the name included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a connection that is only tried.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long what was found out is good.
pub const PROBE_CACHE_TTL: Duration = Duration::from_secs(10);

/// A server that sessions may reach.
#[derive(Debug, Clone)]
pub struct ServiceAddress(Arc<str>);

impl ServiceAddress {
    /// A new connection.
    ///
    /// # Errors
    /// When nobody answers there in time.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        self.connect_within(CONNECT_TIMEOUT).await
    }

    async fn connect_within(&self, limit: Duration) -> io::Result<TcpStream> {
        let stream = tokio::time::timeout(limit, TcpStream::connect(&*self.0))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        // Keys and pointer movements are small and must not wait for more.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The services of this host.
#[derive(Debug, Default)]
pub struct Services {
    by_name: BTreeMap<String, ServiceAddress>,
    cached: Mutex<Option<(Instant, Vec<ServiceHealth>)>>,
}

impl Services {
    /// These and no others: `host:port` by name. What goes beyond [`SERVICES_MAX`] is left out.
    #[must_use]
    pub fn new(allowed: impl IntoIterator<Item = (String, String)>) -> Self {
        let by_name = allowed
            .into_iter()
            .take(SERVICES_MAX)
            .map(|(name, address)| (name, ServiceAddress(address.into())))
            .collect();
        Self { by_name, cached: Mutex::default() }
    }

    /// The service of a name, when it is one of this host's.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ServiceAddress> {
        self.by_name.get(name).cloned()
    }

    /// Every service, and whether it answers.
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
    async fn only_what_is_named_is_there_and_only_what_listens_is_reachable() {
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
        // Asked again at once, nobody is bothered again.
        drop(listener);
        assert_eq!(services.health().await, seen);
    }
}
