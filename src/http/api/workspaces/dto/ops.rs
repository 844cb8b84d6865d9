//! Operations.

use crate::broker::model::{HealthView, TAMPERED};
use crate::domain::Timestamp;
use crate::http::hub_status::HubStatus;
use serde::Serialize;
use utoipa::ToSchema;

/// Status of a part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Works.
    Ok,
    /// Works in part.
    Degraded,
    /// Does not work.
    Down,
    /// Of the audit log: it was altered from outside, and nothing is written until an administrator
    /// accepts it.
    Tampered,
}

/// Health of the gateway, probed for this response.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// The worst of its parts; a missing host degrades, any other failure is down.
    pub status: HealthStatus,
    /// `portcullis`.
    pub service: &'static str,
    /// Version.
    pub version: &'static str,
    /// Time.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// Its parts.
    pub dependencies: Dependencies,
}

/// The parts of the gateway.
#[derive(Debug, Serialize, ToSchema)]
pub struct Dependencies {
    /// The store answered a query.
    pub database: DatabaseHealth,
    /// The tunnel hub's socket and task.
    pub tunnel: TunnelHealth,
    /// Workspace hosts.
    pub hosts: HostsHealth,
    /// The audit log's head was read and its signature is valid.
    pub audit: AuditHealth,
}

/// The store.
#[derive(Debug, Serialize, ToSchema)]
pub struct DatabaseHealth {
    /// Status.
    pub status: HealthStatus,
    /// Duration of the probe, milliseconds.
    #[schema(required = true)]
    pub latency_ms: Option<f64>,
}

/// The tunnel hub.
#[derive(Debug, Serialize, ToSchema)]
pub struct TunnelHealth {
    /// Status.
    pub status: HealthStatus,
    /// UDP address.
    pub listen: String,
    /// Number of peers.
    pub peers: usize,
}

/// Hosts.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostsHealth {
    /// `degraded` when one is missing or none is enrolled.
    pub status: HealthStatus,
    /// With an encrypted tunnel.
    pub connected: usize,
    /// Enrolled.
    pub total: usize,
}

/// The audit log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditHealth {
    /// Status.
    pub status: HealthStatus,
    /// Entries.
    #[schema(required = true)]
    pub entries: Option<i64>,
}

impl Health {
    /// From what was probed.
    #[must_use]
    pub fn new(view: &HealthView, tunnel: &HubStatus, timestamp: Timestamp) -> Self {
        let vital = |works: bool| if works { HealthStatus::Ok } else { HealthStatus::Down };
        let all_hosts = view.hosts_total > 0 && view.hosts_connected == view.hosts_total;
        let dependencies = Dependencies {
            database: DatabaseHealth {
                status: vital(view.database.is_ok()),
                latency_ms: super::millis(view.database.as_ref().ok().copied()),
            },
            tunnel: TunnelHealth {
                status: vital(tunnel.running),
                listen: tunnel.listen.clone(),
                peers: tunnel.peer_count(),
            },
            hosts: HostsHealth {
                status: if all_hosts { HealthStatus::Ok } else { HealthStatus::Degraded },
                connected: view.hosts_connected,
                total: view.hosts_total,
            },
            audit: AuditHealth {
                status: match &view.audit {
                    Err(label) if label == TAMPERED => HealthStatus::Tampered,
                    audit => vital(audit.is_ok()),
                },
                entries: view.audit.as_ref().ok().copied(),
            },
        };
        let parts = [
            dependencies.database.status,
            dependencies.tunnel.status,
            dependencies.hosts.status,
            dependencies.audit.status,
        ];
        let status = parts.into_iter().max().unwrap_or(HealthStatus::Down).min(HealthStatus::Down);
        Self {
            status,
            service: "portcullis",
            version: env!("CARGO_PKG_VERSION"),
            timestamp,
            dependencies,
        }
    }
}

/// The public keys that verify access tokens (RFC 7517).
#[derive(Debug, Serialize, ToSchema)]
pub struct JwkSet {
    /// Keys.
    pub keys: Vec<Jwk>,
}

/// An Ed25519 public key (RFC 8037).
#[derive(Debug, Serialize, ToSchema)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// The key, base64url.
    pub x: String,
    /// Its id.
    pub kid: String,
    /// `sig`.
    pub r#use: String,
    /// `EdDSA`.
    pub alg: String,
}
