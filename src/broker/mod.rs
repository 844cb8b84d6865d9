//! The use cases: sign in, launch, disconnect, stop, expire, administer. Each is one decision, one
//! transaction.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`fleet`] | the port to the hosts: start, stop and cut desktops and their tunnels (implemented in `fleet`) |
//! | [`views`] | what use cases take and return |
//! | [`live`] | who watches a session, and how its streams are cut |
//! | `record` | a change and its audit entry, in one transaction |
//! | `input` | what people type, checked |
//! | `signin` | the first factor, and the throttle before it |
//! | `mfa` | the second factor: challenge, enrolment, verification |
//! | `tokens` | access and refresh tokens, sign-out, who a token is |
//! | `workspaces` | the catalogue, and what a caller sees of it |
//! | `launch` | from permit to desktop, once per user and workspace |
//! | `ending` | the one way a session ends |
//! | `sessions` | listings, disconnect, stop, terminate |
//! | `streams` | tickets, and the right to one stream |
//! | [`servers`] | what a stream learns of its server and holds back, written down |
//! | [`credentials`] | who the gateway is to a server: of the workspace, of the user, typed for one use |
//! | [`web`] | requests to web applications, written down; who the user is, signed |
//! | `users` | accounts, and what ends with them |
//! | `hosts` | join tokens, enrolment, removal |
//! | `peers` | standard WireGuard peers as hosts, and their `wg-quick` file |
//! | `placing` | where a workspace can run now |
//! | `audit` | reading, exporting and verifying the log |
//! | `maintain` | start and stop of the gateway; `sentinel` and `reaper` |
//! | `health` | what is probed now, and the gauges |
//! | `shell` | administration from the command line |
//!
//! A use case decides (policy makes the permit), changes and audits in one transaction, and only
//! then acts on the world: notifies watchers, cuts keys, calls hosts. What must not be left
//! half-done when a browser goes away runs in a task of its own ([`Broker::apart`]).

mod audit;
pub mod credentials;
mod ending;
pub mod fleet;
mod health;
mod hosts;
mod input;
mod launch;
pub mod live;
mod maintain;
mod mfa;
mod peers;
mod placing;
mod reaper;
mod record;
mod sentinel;
pub mod servers;
mod sessions;
mod shell;
mod signin;
mod streams;
mod tokens;
mod users;
pub mod views;
pub mod web;
mod workspaces;

use crate::auth::{TokenKeys, Vault, rate_limit::AttemptLimiter};
use crate::domain::{Clock, Error, Result, Timestamp};
use crate::store::Store;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};

/// What the broker decides by; from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether every user must have a second factor (default true).
    pub mfa_required: bool,
    /// Issuer shown in authenticator apps.
    pub issuer: String,
    /// Life of an access token (default 10 min).
    pub access_ttl: Duration,
    /// Life of a login without use (default 7 days).
    pub refresh_ttl: Duration,
    /// Life of the token between the two factors (default 5 min).
    pub mfa_ttl: Duration,
    /// Life of a stream ticket (default 30 s).
    pub ticket_ttl: Duration,
    /// Longest life of a session (default 12 h).
    pub session_ttl: Duration,
    /// How long a host keeps a desktop without its gateway (default 10 min).
    pub grace: Duration,
    /// How long a launch may take (default 15 s).
    pub launch_timeout: Duration,
    /// Addresses for session tunnels, as network and prefix length (default 10.64.0.0/10).
    pub session_network: (std::net::Ipv4Addr, u8),
    /// Whether web applications can be opened: the gateway has a domain for their origins.
    pub web_applications: bool,
    /// Most streams a session may have at once (default 4).
    pub max_viewers: usize,
}

/// The use cases.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    vault: Vault,
    fleet: Arc<dyn fleet::HostFleet>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    streams: live::StreamRegistry,
    /// The keys that sign access tokens; read, or made, at first need.
    keys: OnceCell<TokenKeys>,
    /// Guesses of passwords.
    password_limiter: AttemptLimiter,
    /// Guesses of codes.
    otp_limiter: AttemptLimiter,
    /// What strangers may write into the log.
    audit_limiter: AttemptLimiter,
    /// Entries about strangers left out since the last one written.
    suppressed_entries: AtomicU64,
    /// Password hashes worked on at once, and those that may wait for it.
    hash_permits: Arc<Semaphore>,
    hash_queue: Arc<Semaphore>,
    /// Argon2id computations so far.
    hash_count: AtomicU64,
    reconciler: maintain::ReconcilerState,
    /// Typed credentials that wait for their streams.
    ephemeral_credentials: credentials::EphemeralCredentials,
}

impl Broker {
    /// A broker over its parts. Nothing runs until [`Broker::start`].
    #[must_use]
    pub fn new(
        store: Store,
        vault: Vault,
        fleet: Arc<dyn fleet::HostFleet>,
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
                streams: live::StreamRegistry::default(),
                keys: OnceCell::new(),
                password_limiter: signin::password_limiter(),
                otp_limiter: signin::otp_limiter(),
                audit_limiter: signin::audit_limiter(),
                suppressed_entries: AtomicU64::new(0),
                hash_permits: Arc::new(Semaphore::new(signin::hash_concurrency())),
                hash_queue: Arc::new(Semaphore::new(signin::HASH_QUEUE_LEN)),
                hash_count: AtomicU64::new(0),
                reconciler: maintain::ReconcilerState::new(started),
                ephemeral_credentials: credentials::EphemeralCredentials::default(),
            }),
        }
    }

    /// The present moment, by the broker's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Runs something to its end even when whoever asked for it goes away.
    async fn spawn_to_completion<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        tokio::spawn(work).await.map_err(Error::internal)?
    }
}
