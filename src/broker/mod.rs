//! The use cases: sign in, launch, disconnect, stop, expire, administer. Each is one decision, one
//! transaction.
//!
//! | folder | contents |
//! | --- | --- |
//! | [`ports`] | traits that others implement: the hosts and their tunnels |
//! | [`model`] | what use cases take and return |
//! | [`core`] | unit of work, audit entries, stream registry, teardown, validation |
//! | `identity` | passwords, one-time codes, tokens, users, organizations |
//! | `catalog` | workspaces, and where each can run |
//! | [`targets`] | credentials and certificates of upstreams, requests to web applications |
//! | `hosts` | enrolment of agents, standard WireGuard peers |
//! | `audit` | query, export and verification of the log |
//! | `sessions` | launch, streams, listing, end |
//! | `jobs` | start and stop, reconciler, change watcher, health |
//!
//! `ports, model < core < catalog, identity, targets, hosts, audit < sessions < jobs`.
//!
//! A use case decides (policy makes the permit), changes and audits in one transaction, and only
//! then acts on the world: notifies watchers, cuts keys, calls hosts. What must not be left
//! half-done when a browser goes away runs in a task of its own ([`Broker::apart`]).

pub mod audit;
mod catalog;
pub mod core;
mod hosts;
mod identity;
mod jobs;
pub mod model;
pub mod ports;
mod sessions;
pub mod targets;

use crate::auth::{TokenKeys, Vault, rate_limit::AttemptLimiter};
use crate::domain::{Clock, Error, Result, Timestamp};
use crate::store::Store;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};

/// The broker's part of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every user must have a second factor (default true).
    pub mfa_required: bool,
    /// Issuer shown in authenticator apps.
    pub issuer: String,
    /// Lifetime of an access token (default 10 min).
    pub access_ttl: Duration,
    /// Lifetime of an unused login (default 7 days).
    pub refresh_ttl: Duration,
    /// Lifetime of the token between the two factors (default 5 min).
    pub mfa_ttl: Duration,
    /// Lifetime of a stream ticket (default 30 s).
    pub ticket_ttl: Duration,
    /// Maximum lifetime of a session (default 12 h).
    pub session_ttl: Duration,
    /// How long a host keeps a desktop without its gateway (default 10 min).
    pub grace: Duration,
    /// Timeout of a launch (default 15 s).
    pub launch_timeout: Duration,
    /// Addresses for session tunnels, as network and prefix length (default 10.64.0.0/10).
    pub session_network: (std::net::Ipv4Addr, u8),
    /// The gateway has a domain for the origins of web applications.
    pub web_applications: bool,
    /// Maximum number of streams per session (default 4).
    pub max_viewers: usize,
}

#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    vault: Vault,
    fleet: Arc<dyn ports::host_fleet::HostFleet>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    streams: core::stream_registry::StreamRegistry,
    /// Signing keys of access tokens; loaded or created at first use.
    keys: OnceCell<TokenKeys>,
    password_limiter: AttemptLimiter,
    otp_limiter: AttemptLimiter,
    audit_limiter: AttemptLimiter,
    /// Audit entries about unauthenticated requests suppressed since the last one written.
    suppressed_entries: AtomicU64,
    /// Concurrent password hashes, and requests waiting for one.
    hash_permits: Arc<Semaphore>,
    hash_queue: Arc<Semaphore>,
    hash_count: AtomicU64,
    reconciler: jobs::lifecycle::ReconcilerState,
    /// Entered credentials that no stream has used yet.
    ephemeral_credentials: targets::credentials::EphemeralCredentials,
}

impl Broker {
    /// Runs nothing until [`Broker::start`].
    #[must_use]
    pub fn new(
        store: Store,
        vault: Vault,
        fleet: Arc<dyn ports::host_fleet::HostFleet>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let started = clock.now();
        Self {
            inner: Arc::new(Inner {
                store,
                vault,
                fleet,
                clock,
                settings,
                streams: core::stream_registry::StreamRegistry::default(),
                keys: OnceCell::new(),
                password_limiter: identity::password::password_limiter(),
                otp_limiter: identity::password::otp_limiter(),
                audit_limiter: identity::password::audit_limiter(),
                suppressed_entries: AtomicU64::new(0),
                hash_permits: Arc::new(Semaphore::new(identity::password::hash_concurrency())),
                hash_queue: Arc::new(Semaphore::new(identity::password::HASH_QUEUE_LEN)),
                hash_count: AtomicU64::new(0),
                reconciler: jobs::lifecycle::ReconcilerState::new(started),
                ephemeral_credentials: targets::credentials::EphemeralCredentials::default(),
            }),
        }
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Runs a future to completion even if the caller is dropped.
    async fn spawn_to_completion<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        tokio::spawn(work).await.map_err(Error::internal)?
    }
}
