//! `/metrics` (Prometheus, OpenMetrics text). Label values are bounded: route patterns, known
//! methods, status classes, enum values.
//!
//! `session_leg_sessions` and `session_handshake_age_sessions` are gauges with cumulative buckets
//! (`le` in seconds): the distribution over the live sessions now, not of events.
//! `histogram_quantile(0.9, portcullis_session_leg_sessions)` reads them.

use crate::broker::core::stream_registry::StreamMeters;
use crate::broker::model::Gauges;
use crate::domain::route::{BUCKETS_MS, Hop, LatencyHistogram, PathMetrics};
use crate::domain::sync::lock;
use crate::http::connections::metrics::ConnectionMetrics;
use crate::http::hub_status::HubStatus;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Content type of the response.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: Cow<'static, str>,
    status: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RouteLabels {
    route: Cow<'static, str>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct LegLabels {
    leg: &'static str,
    le: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct BucketLabels {
    le: &'static str,
}

/// [`BUCKETS_MS`] in seconds, and infinity.
const BUCKET_BOUNDS: [&str; BUCKETS_MS.len() + 1] =
    ["0.001", "0.005", "0.02", "0.06", "0.12", "0.3", "1", "60", "180", "+Inf"];

/// The cumulative count of each bucket.
fn buckets(histogram: &LatencyHistogram) -> impl Iterator<Item = (&'static str, i64)> {
    let counts = histogram
        .cumulative
        .into_iter()
        .chain([histogram.count])
        .map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    BUCKET_BOUNDS.into_iter().zip(counts)
}

/// Outcome of a sign-in step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignInOutcome {
    Success,
    /// The second factor is next.
    MfaDue,
    Refused,
    /// Rate limited.
    Throttled,
    /// The gateway failed.
    Error,
}

impl SignInOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::MfaDue => "mfa_due",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Error => "error",
        }
    }
}

/// Metrics of this process.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    throttled: Counter,
    sign_ins: Family<OutcomeLabels, Counter>,
    stream_bytes: Family<DirectionLabels, Counter>,
    sessions: Gauge,
    streams: Gauge,
    hosts: Gauge,
    audit_entries: Gauge,
    tunnels: Family<StateLabels, Gauge>,
    session_bytes: Family<DirectionLabels, Counter>,
    retransmits: Counter,
    legs: Family<LegLabels, Gauge>,
    handshake_ages: Family<BucketLabels, Gauge>,
    direct: Gauge,
    pub(super) connections: ConnectionMetrics,
    open: Mutex<OpenStreams>,
}

/// Open streams, with the bytes of each that are counted already.
#[derive(Default)]
struct OpenStreams {
    next: u64,
    by_number: HashMap<u64, StreamCounters>,
}

struct StreamCounters {
    meters: Arc<StreamMeters>,
    up: u64,
    down: u64,
}

/// Counts the bytes of a stream until it is dropped.
pub struct StreamMeterGuard {
    metrics: Arc<Metrics>,
    number: u64,
}

impl Drop for StreamMeterGuard {
    fn drop(&mut self) {
        let mut open = lock(&self.metrics.open);
        if let Some(mut last) = open.by_number.remove(&self.number) {
            self.metrics.count_bytes(&mut last);
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let durations = Family::<RouteLabels, Histogram>::new_with_constructor(|| {
            Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
            ])
        });
        let sign_ins = Family::<OutcomeLabels, Counter>::default();
        let [stream_bytes, session_bytes] =
            [(); 2].map(|()| Family::<DirectionLabels, Counter>::default());
        let tunnels = Family::<StateLabels, Gauge>::default();
        let (legs, handshake_ages) =
            (Family::<LegLabels, Gauge>::default(), Family::<BucketLabels, Gauge>::default());
        let [throttled, retransmits] = [(); 2].map(|()| Counter::default());
        let [sessions, streams, hosts, audit_entries, started, direct] =
            [(); 6].map(|()| Gauge::default());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        started.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));

        let mut registry = Registry::default();
        registry.register("process_start_time_seconds", "Unix time the process started", started);
        let ours = registry.sub_registry_with_prefix("portcullis");
        ours.register(
            "http_requests",
            "HTTP requests by method, route pattern and status class",
            requests.clone(),
        );
        ours.register(
            "http_request_duration_seconds",
            "Time to the response head by route pattern",
            durations.clone(),
        );
        ours.register("throttled", "Requests refused by rate limits", throttled.clone());
        ours.register("sign_ins", "Sign-in steps by outcome", sign_ins.clone());
        ours.register(
            "stream_bytes",
            "Bytes relayed by direction: up (from browsers), down (to browsers)",
            stream_bytes.clone(),
        );
        ours.register("sessions_live", "Live sessions known to this process", sessions.clone());
        ours.register("streams_open", "Open streams", streams.clone());
        ours.register("hosts_connected", "Hosts with an encrypted tunnel", hosts.clone());
        ours.register("tunnel_peers", "WireGuard peers by state", tunnels.clone());
        ours.register("audit_entries", "Entries in the audit log", audit_entries.clone());
        ours.register(
            "session_tunnel_bytes",
            "Bytes of sessions between gateway and hosts by direction: tx (to hosts), rx",
            session_bytes.clone(),
        );
        ours.register(
            "session_retransmits",
            "TCP segments retransmitted in session tunnels",
            retransmits.clone(),
        );
        ours.register(
            "session_leg_sessions",
            "Live sessions whose leg had at most le seconds of latency when last measured",
            legs.clone(),
        );
        ours.register(
            "session_handshake_age_sessions",
            "Live sessions whose current keys are at most le seconds old",
            handshake_ages.clone(),
        );
        ours.register(
            "sessions_direct",
            "Live sessions on direct targets, without a tunnel",
            direct.clone(),
        );
        let connections = ConnectionMetrics::register(ours);
        let open = Mutex::new(OpenStreams::default());
        Self {
            registry,
            requests,
            durations,
            throttled,
            sign_ins,
            stream_bytes,
            sessions,
            streams,
            hosts,
            audit_entries,
            tunnels,
            session_bytes,
            retransmits,
            legs,
            handshake_ages,
            direct,
            connections,
            open,
        }
    }

    /// Counts a request. Paths without a route share one label.
    pub fn record_request(
        &self,
        method: &'static str,
        route: Option<Cow<'static, str>>,
        status: u16,
        took: Duration,
    ) {
        let route = route.unwrap_or(Cow::Borrowed("unmatched"));
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        if status == 429 {
            self.throttled.inc();
        }
        self.durations
            .get_or_create(&RouteLabels { route: route.clone() })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { method, route, status: class }).inc();
    }

    pub fn count_sign_in(&self, outcome: SignInOutcome) {
        self.sign_ins.get_or_create(&OutcomeLabels { outcome: outcome.as_str() }).inc();
    }

    /// Counts the bytes of a stream until the guard is dropped.
    #[must_use]
    pub fn track_stream(self: &Arc<Self>, meters: Arc<StreamMeters>) -> StreamMeterGuard {
        let mut open = lock(&self.open);
        open.next += 1;
        let number = open.next;
        open.by_number.insert(number, StreamCounters { meters, up: 0, down: 0 });
        StreamMeterGuard { metrics: Arc::clone(self), number }
    }

    /// The response body, with the current values of the gauges.
    #[must_use]
    pub fn render(&self, gauges: Gauges, tunnel: &HubStatus, audit_entries: Option<i64>) -> String {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.sessions.set(gauge(gauges.sessions));
        self.streams.set(gauge(gauges.streams));
        self.hosts.set(gauge(gauges.hosts_connected));
        if let Some(entries) = audit_entries {
            self.audit_entries.set(entries);
        }
        let states = [
            ("connecting", tunnel.connecting),
            ("encrypted", tunnel.encrypted),
            ("stale", tunnel.stale),
            ("down", tunnel.down),
        ];
        for (state, peers) in states {
            self.tunnels.get_or_create(&StateLabels { state }).set(gauge(peers));
        }
        self.set_path_metrics(&gauges, &tunnel.paths);
        let mut open = lock(&self.open);
        for stream in open.by_number.values_mut() {
            self.count_bytes(stream);
        }
        drop(open);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn set_path_metrics(&self, gauges: &Gauges, paths: &PathMetrics) {
        // Totals that are counted elsewhere; of two concurrent scrapes the larger total wins.
        let set_total = |counter: &Counter, total: u64| {
            counter.inner().fetch_max(total, Ordering::Relaxed);
        };
        set_total(
            &self.session_bytes.get_or_create(&DirectionLabels { direction: "tx" }),
            paths.tx_bytes,
        );
        set_total(
            &self.session_bytes.get_or_create(&DirectionLabels { direction: "rx" }),
            paths.rx_bytes,
        );
        set_total(&self.retransmits, paths.retransmits);
        self.direct.set(i64::try_from(paths.direct).unwrap_or(i64::MAX));
        let legs = [
            (Hop::BrowserGateway, &gauges.browser_rtt),
            (Hop::GatewayHost, &paths.host),
            (Hop::HostDesktop, &paths.desktop),
        ];
        for (leg, histogram) in legs {
            for (le, count) in buckets(histogram) {
                self.legs.get_or_create(&LegLabels { leg: leg.as_str(), le }).set(count);
            }
        }
        for (le, count) in buckets(&paths.handshake_age) {
            self.handshake_ages.get_or_create(&BucketLabels { le }).set(count);
        }
    }

    fn count_bytes(&self, stream: &mut StreamCounters) {
        let (up, down) =
            (stream.meters.up.load(Ordering::Relaxed), stream.meters.down.load(Ordering::Relaxed));
        self.stream_bytes
            .get_or_create(&DirectionLabels { direction: "up" })
            .inc_by(up.saturating_sub(stream.up));
        self.stream_bytes
            .get_or_create(&DirectionLabels { direction: "down" })
            .inc_by(down.saturating_sub(stream.down));
        (stream.up, stream.down) = (up, down);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
