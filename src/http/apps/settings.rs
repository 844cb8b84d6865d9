//! Settings of the applications' origins.

use crate::domain::SessionId;
use std::sync::Arc;
use std::time::Duration;

/// Settings of the applications' origins.
#[derive(Clone, Debug)]
pub struct AppsSettings {
    /// Parent domain of the sessions' host names, lower case, such as `apps.example.com`.
    pub domain: String,
    /// Port of the public address, if it is not 443.
    pub port: Option<u16>,
    /// The gateway's own origins, the public one first: their pages may frame an application and
    /// present tickets.
    pub gateways: Vec<String>,
    /// Browsers treat one of the gateway's origins and the applications as different sites (RFC 6265bis section
    /// 5.2): cookies in a frame of the gateway's page then need `SameSite=None; Partitioned`.
    pub cross_site: bool,
    /// An application that is not used for this long is closed.
    pub idle: Duration,
    /// With the certificate of `*.{domain}`.
    pub tls: Arc<rustls::ServerConfig>,
}

impl AppsSettings {
    /// `gateway`: the gateway's public origin. `others`: its other origins.
    #[must_use]
    pub fn new(
        domain: &str,
        gateway: &str,
        others: &[String],
        idle: Duration,
        tls: &rustls::ServerConfig,
    ) -> Self {
        let authority = gateway.strip_prefix("https://").unwrap_or(gateway).trim_end_matches('/');
        let (_, port) = split_port(authority);
        let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 443);
        let others = others.iter().map(|origin| origin.trim_end_matches('/').to_owned());
        let gateways: Vec<String> =
            std::iter::once(format!("https://{authority}")).chain(others).collect();
        let cross_site = gateways.iter().any(|gateway| !is_same_site(domain, gateway));
        Self {
            domain: domain.to_ascii_lowercase(),
            port,
            gateways,
            cross_site,
            idle,
            tls: with_alpn(tls),
        }
    }

    /// The gateway's public origin.
    #[must_use]
    pub fn gateway(&self) -> &str {
        self.gateways.first().map_or("", String::as_str)
    }

    /// The public origin of a session's application.
    #[must_use]
    pub fn origin(&self, session: SessionId) -> String {
        match self.port {
            Some(port) => format!("https://{session}.{}:{port}", self.domain),
            None => format!("https://{session}.{}", self.domain),
        }
    }

    /// Whether a host name, without port, is a subdomain of the domain.
    #[must_use]
    pub fn is_subdomain(&self, host: &str) -> bool {
        let Some(at) = host.len().checked_sub(self.domain.len()) else { return false };
        at > 1
            && host.is_char_boundary(at)
            && host[at..].eq_ignore_ascii_case(&self.domain)
            && host.as_bytes()[at - 1] == b'.'
    }
}

/// Whether browsers certainly treat applications under `domain` and the gateway at the origin
/// `gateway` as the same site: the domain is a subdomain of the gateway's name. Sibling names may be
/// the same site, too, which only the public suffix list decides.
fn is_same_site(domain: &str, gateway: &str) -> bool {
    let authority = gateway.strip_prefix("https://").unwrap_or(gateway).trim_end_matches('/');
    let (host, _) = split_port(authority);
    let (domain, host) = (domain.to_ascii_lowercase(), host.to_ascii_lowercase());
    // A host name of one label, and an IP address, is a site of its own.
    host.contains('.') && domain.strip_suffix(&host).is_some_and(|rest| rest.ends_with('.'))
}

/// The domain that both names are within, or the gateway's name if the domain is below it; of at
/// least two labels, since browsers accept no cookies for one. Whether it is a public suffix, for
/// which they accept none either, only their list decides.
#[must_use]
pub fn common_parent(domain: &str, host: &str) -> Option<String> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    let (domain, host) = (domain.to_ascii_lowercase(), host.to_ascii_lowercase());
    let labels = domain.rsplit('.').zip(host.rsplit('.')).take_while(|(a, b)| a == b);
    let mut common: Vec<&str> = labels.map(|(label, _)| label).collect();
    common.reverse();
    (common.len() >= 2).then(|| common.join("."))
}

/// The TLS settings of a server that offers HTTP/2 and HTTP/1.1 by ALPN (RFC 7301).
pub(in crate::http) fn with_alpn(tls: &rustls::ServerConfig) -> Arc<rustls::ServerConfig> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(tls)
}

/// Host and port of an authority.
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(domain: &str, gateway: &str) -> AppsSettings {
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        AppsSettings::new(domain, gateway, &[], Duration::from_secs(60), &tls)
    }

    #[test]
    fn same_site_is_decided_as_in_browsers() {
        for (domain, gateway, cross) in [
            ("apps.localhost", "https://localhost:8443", true),
            ("apps.gate.example.com", "https://gate.example.com", false),
            ("APPS.gate.example.com", "https://Gate.example.com", false),
            ("apps.example.com", "https://gate.example.com", true),
            ("appsgate.example.com", "https://gate.example.com", true),
            ("apps.127.0.0.1", "https://10.0.0.1", true),
        ] {
            assert_eq!(settings(domain, gateway).cross_site, cross, "{domain} {gateway}");
        }
    }

    #[test]
    fn a_common_parent_has_two_labels() {
        for (domain, host, parent) in [
            ("apps.gate.example.com", "gate.example.com", Some("gate.example.com")),
            ("APPS.example.com", "Gate.Example.com", Some("example.com")),
            ("example-apps.net", "gate.example.com", None),
            ("gate-apps.com", "gate.example.com", None),
            ("apps.localhost", "localhost", None),
            ("apps.gate.localhost", "gate.localhost", Some("gate.localhost")),
            ("apps.0.0.1", "127.0.0.1", None),
        ] {
            assert_eq!(common_parent(domain, host).as_deref(), parent, "{domain} {host}");
        }
    }

    #[test]
    fn origins_have_the_port_of_the_public_address() {
        let id = SessionId::new();
        assert_eq!(
            settings("apps.localhost", "https://localhost:8443").origin(id),
            format!("https://{id}.apps.localhost:8443")
        );
        assert_eq!(
            settings("apps.x.example", "https://x.example").origin(id),
            format!("https://{id}.apps.x.example")
        );
        assert_eq!(
            settings("apps.x.example", "https://x.example:443").origin(id),
            format!("https://{id}.apps.x.example")
        );
    }

    #[test]
    fn only_subdomains_of_the_domain_count() {
        let settings = settings("apps.localhost", "https://localhost");
        for name in ["a.apps.localhost", "A.APPS.LOCALHOST", "a.b.apps.localhost"] {
            assert!(settings.is_subdomain(name), "{name}");
        }
        for name in [
            "apps.localhost",
            ".apps.localhost",
            "localhost",
            "xapps.localhost",
            "a.apps.localhost.",
            "",
            "é.apps.localhos",
        ] {
            assert!(!settings.is_subdomain(name), "{name}");
        }
    }
}
