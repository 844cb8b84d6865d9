//! Numbers of connections for `/metrics`, by stage and reason.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a connection has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum Stage {
    /// No complete ClientHello yet.
    Arriving,
    Handshaking,
    /// The TLS handshake is complete.
    Open,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Arriving => "arriving",
            Self::Handshaking => "handshaking",
            Self::Open => "open",
        }
    }
}

/// Why the gateway closed a connection, or refused one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum CloseReason {
    /// Its client has as many as one may.
    ClientLimit,
    /// There are as many as there may be.
    Full,
    /// No ClientHello or handshake in time.
    Timeout,
    /// No request for a time (HTTP/2).
    Idle,
    /// It was open for a long time (HTTP/2).
    Age,
    /// The client resets its requests (HTTP/2).
    Resets,
}

impl CloseReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::ClientLimit => "client_limit",
            Self::Full => "full",
            Self::Timeout => "timeout",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Resets => "resets",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ReasonLabels {
    stage: &'static str,
    reason: &'static str,
}

/// Numbers of connections. Clones count together.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct ConnectionMetrics {
    open: Family<StageLabels, Gauge>,
    closed: Family<ReasonLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
}

impl ConnectionMetrics {
    pub(in crate::http) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "connections",
            "HTTPS connections by stage: arriving, handshaking, open",
            metrics.open.clone(),
        );
        registry.register(
            "connections_closed",
            "HTTPS connections that the gateway closed by stage and reason",
            metrics.closed.clone(),
        );
        registry.register(
            "connections_refused",
            "HTTPS connections refused by stage and reason: client_limit, full",
            metrics.refused.clone(),
        );
        metrics
    }

    pub(super) fn set_open(&self, stage: Stage, connections: usize) {
        let connections = i64::try_from(connections).unwrap_or(i64::MAX);
        self.open.get_or_create(&StageLabels { stage: stage.as_str() }).set(connections);
    }

    pub(super) fn count_closed(&self, stage: Stage, reason: CloseReason) {
        self.closed
            .get_or_create(&ReasonLabels { stage: stage.as_str(), reason: reason.as_str() })
            .inc();
    }

    pub(super) fn count_refused(&self, stage: Stage, reason: CloseReason) {
        self.refused
            .get_or_create(&ReasonLabels { stage: stage.as_str(), reason: reason.as_str() })
            .inc();
    }
}
