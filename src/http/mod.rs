//! The rim that speaks HTTP: routes, extractors, error mapping, pages.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`routes`] | the whole surface on one screen: path, method, handler, who may come |
//! | [`api`] | the handlers, each of four beats: extract, call the broker, map, answer |
//! | [`error`] | the one place where a kind of failure becomes a status and a `{"detail"}` |
//! | [`extract`] | what a handler can ask a request for: its origin, its caller, its body |
//! | [`guard`] | who may pass to a handler: token or cookie, CSRF, rate |
//! | [`cookies`] | the two cookies of a browser login |
//! | [`origin`] | which browser origins are ours; which peers are trusted proxies |
//! | [`observe`] | around every request: id, span, access line, metrics, headers, panics |
//! | [`security_headers`] | what every page and every answer tells the browser to refuse |
//! | [`limit`] | how often one address may come |
//! | [`apps`] | the origins of web applications |
//! | [`stream`] | the WebSocket of a session, up to the moment the viewer takes over |
//! | [`pages`] | the built web UI, embedded in the binary |
//! | [`metrics`] | what `/metrics` counts |
//! | [`openapi`] | the description of all this, generated from the handlers |
//! | [`server`] | sockets, TLS, time limits, stopping in order |
//!
//! Terms. **Origin of a request** ([`crate::domain::user::Origin`]): request id, peer address, user
//! agent; the audit log's "from where". **Browser origin**: scheme, host and port of a page (RFC
//! 6454). **Browser mode**: a client that keeps its tokens in cookies.

pub mod api;
pub mod apps;
pub mod cookies;
pub mod error;
pub mod extract;
pub mod guard;
pub mod metrics;
pub mod observe;
pub mod openapi;
pub mod origin;
pub mod pages;
pub mod rate_limit;
pub mod routes;
pub mod security_headers;
pub mod server;
pub mod stream;

use crate::broker::Broker;
use crate::domain::Network;
use crate::domain::route::LatencyHistogram;
use crate::viewer;
use metrics::Metrics;
use rate_limit::{AddressLimiter, Rate, UserEventStreams};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Most event streams at once; each holds a connection and a broadcast receiver.
const EVENT_STREAMS_MAX: usize = 1024;

/// What the rim is configured with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Browser origins that are ours, such as `https://portcullis.example`. The first is told to
    /// hosts that join. The host a request names itself counts too: a page from there can only have
    /// come from us.
    pub public_origins: Vec<String>,
    /// Names we are called by, beside those of our origins.
    pub host_names: Vec<String>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Peers that may read `/metrics`.
    pub metrics_allow: Vec<Network>,
    /// Per address: requests that nobody vouches for (sign-in, enrolment, health).
    pub anonymous_rate: Rate,
    /// Per address: every request.
    pub any_rate: Rate,
    /// Longest wait for a request's body, however it trickles.
    pub body_timeout: Duration,
    /// SHA-256 of our certificate, hex, when it is of our own making: told to hosts that join, so
    /// that they know whom to believe.
    pub certificate_sha256: Option<String>,
    /// Where web applications are shown; `None`: nowhere.
    pub apps: Option<apps::AppsSettings>,
    /// Public key of the audit log's head, as `portcullis audit verify` wants it; the last line of
    /// an export carries it.
    pub audit_public_key: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_origins: vec!["https://localhost:8443".to_owned()],
            host_names: Vec::new(),
            trusted_proxies: Vec::new(),
            metrics_allow: Network::loopback(),
            anonymous_rate: Rate { per_second: 20, burst: 200 },
            any_rate: Rate { per_second: 200, burst: 2000 },
            body_timeout: Duration::from_secs(10),
            certificate_sha256: None,
            apps: None,
            audit_public_key: String::new(),
        }
    }
}

/// What the tunnel hub says of itself, for health and metrics.
#[derive(Clone, Debug, Default)]
pub struct HubStatus {
    /// Its socket is bound and its task runs.
    pub running: bool,
    /// UDP address it listens on.
    pub listen: String,
    /// Peers it knows, by state.
    pub connecting: usize,
    /// Fresh keys, and the peer answers.
    pub encrypted: usize,
    /// Keys, but no answer.
    pub stale: usize,
    /// No keys.
    pub down: usize,
    /// All sessions together.
    pub paths: PathMetrics,
}

/// What the sessions' ways to their desktops say, all together: of bounded size however many there
/// are.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathMetrics {
    /// Bytes to hosts, ever.
    pub tx_bytes: u64,
    /// Bytes from hosts, ever.
    pub rx_bytes: u64,
    /// TCP segments sent again in tunnels, ever.
    pub retransmits: u64,
    /// Round trips gateway to host.
    pub host: LatencyHistogram,
    /// Answers host to desktop.
    pub desktop: LatencyHistogram,
    /// Ages of the present keys.
    pub handshake_age: LatencyHistogram,
    /// Sessions on direct targets: through no tunnel.
    pub direct: usize,
}

impl HubStatus {
    /// Peers it knows.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.connecting + self.encrypted + self.stale + self.down
    }
}

/// Asks the tunnel hub how it is, at that moment; must not wait.
pub type HubProbe = Arc<dyn Fn() -> HubStatus + Send + Sync>;

/// What every handler can reach. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The use cases.
    pub broker: Broker,
    /// What serves an open stream.
    pub viewer: viewer::Context,
    /// Settings.
    pub settings: Arc<Settings>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The tunnel hub's word.
    pub tunnel: HubProbe,
    pub(crate) limits: Arc<Limits>,
    pub(crate) event_streams: Arc<Semaphore>,
    pub(crate) user_event_streams: UserEventStreams,
    draining: Arc<watch::Sender<bool>>,
}

/// The limiters, by who is counted.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) anonymous: AddressLimiter,
    pub(crate) any: AddressLimiter,
}

impl AppState {
    /// Puts it together. From now on streams hear from [`AppState::go_away`] that the gateway goes.
    #[must_use]
    pub fn new(
        broker: Broker,
        viewer: viewer::Context,
        settings: Settings,
        tunnel: HubProbe,
    ) -> Self {
        let going_away = watch::Sender::new(false);
        let viewer = viewer::Context { draining: going_away.subscribe(), ..viewer };
        let limits = Limits {
            anonymous: AddressLimiter::new(settings.anonymous_rate),
            any: AddressLimiter::new(settings.any_rate),
        };
        Self {
            broker,
            viewer,
            settings: Arc::new(settings),
            metrics: Arc::new(Metrics::new()),
            tunnel,
            limits: Arc::new(limits),
            event_streams: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
            user_event_streams: UserEventStreams::default(),
            draining: Arc::new(going_away),
        }
    }

    /// Tells every open stream that the gateway goes away: browsers are closed with 1001 and come
    /// back to the next one.
    pub fn start_draining(&self) {
        self.draining.send_replace(true);
    }

    /// Resolves once the gateway goes away.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }
}
