//! Settings of the HTTP server.

use super::apps::AppsSettings;
use crate::domain::Network;
use crate::domain::network::ProxyHeader;
use crate::domain::rate_limit::Quota;
use std::time::Duration;

/// Settings of the HTTP server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Browser origins of this gateway, such as `https://portcullis.example`. Joining hosts get the
    /// first. The origin that a request names in `Host` is accepted, too: a page of it can only have
    /// come from here.
    pub public_origins: Vec<String>,
    /// Host names of this gateway, in addition to those of its origins.
    pub host_names: Vec<String>,
    /// Peers whose word on the client's address is trusted.
    pub trusted_proxies: Vec<Network>,
    /// The header in which they give it.
    pub proxy_header: ProxyHeader,
    /// Peers that may read `/metrics`.
    pub metrics_allow: Vec<Network>,
    /// Per address: requests to public routes (sign-in, enrolment, health).
    pub anonymous_rate: Quota,
    /// Per address: every request.
    pub any_rate: Quota,
    /// Time limit for reading a request body.
    pub body_timeout: Duration,
    /// SHA-256 of a self-signed certificate, hex: joining hosts pin it.
    pub certificate_sha256: Option<String>,
    /// Web applications; `None`: they are not served.
    pub apps: Option<AppsSettings>,
    /// Public key of the audit log's head, as `portcullis audit verify` takes it; the last line of
    /// an export contains it.
    pub audit_public_key: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_origins: vec!["https://localhost:8443".to_owned()],
            host_names: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::Any,
            metrics_allow: Network::loopback(),
            anonymous_rate: Quota::per_second(100, 2000),
            any_rate: Quota::per_second(1000, 10_000),
            body_timeout: Duration::from_secs(10),
            certificate_sha256: None,
            apps: None,
            audit_public_key: String::new(),
        }
    }
}
