//! The origins of web applications. Each session of a workspace of type `html5` is shown at an
//! origin of its own, `https://{session id}.{apps domain}`, so that browsers keep its cookies,
//! storage, service workers and processes apart from every other's.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`front`] | one TCP port, two HTTP servers: which connection is whose, by the name in its TLS hello |
//! | [`connection`] | an HTTP/1.1 or HTTP/2 connection under the apps domain: limits, stopping, cutting |
//! | [`clock`] | by what it waits for heads |
//! | [`line`] | its bytes: a browser that takes nothing |
//! | [`streams`] | the same of one stream of HTTP/2 |
//! | [`name`] | which session a request's host names |
//! | [`dispatch`] | what becomes of a request: page of the gateway, refusal, or the application's |
//! | [`entry`] | a ticket becomes a cookie of the origin |
//! | [`table`] | which applications are open here, and whose cookies open them |
//! | [`site`] | what pages of other origins may ask of an application |
//! | [`pages`] | what a person reads who cannot be let in |
//!
//! Requests are judged by the host they name, never by the name in the TLS hello: HTTP/2
//! connections are shared among hosts of one certificate (RFC 9113 section 9.1.1), and a client may
//! say in the one what it likes. The wrong one of the two servers answers 421.
//!
//! Paths below `/.portcullis/` of an application's origin are the gateway's and never reach the
//! application.

pub(super) mod acceptor;
pub(super) mod browser_io;
pub(super) mod connection;
pub(super) mod dispatch;
pub(super) mod entry;
pub mod fetch_metadata;
pub(super) mod h2_streams;
pub(super) mod header_timer;
pub mod host_header;
pub(super) mod pages;
pub(super) mod table;

use crate::domain::SessionId;
use crate::viewer::html5::{App, AppOrigin, Body};
use std::sync::Arc;
use std::time::Duration;

/// Where applications are shown.
#[derive(Clone, Debug)]
pub struct AppsSettings {
    /// The domain below which every session has its name, lower case, such as `apps.example.com`.
    pub domain: String,
    /// Port of the public address when it is not 443.
    pub port: Option<u16>,
    /// The gateway's own origin: whose pages may frame an application and bring tickets.
    pub gateway: String,
    /// Whether browsers take the gateway and the applications for different sites (RFC 6265bis
    /// section 5.2): then cookies in a frame of the gateway's page need `SameSite=None` and are
    /// kept by the framing site (`Partitioned`).
    pub cross_site: bool,
    /// An application without a request or message for this long is closed.
    pub idle: Duration,
    /// TLS with the certificate of `*.{domain}`.
    pub tls: Arc<rustls::ServerConfig>,
}

impl AppsSettings {
    /// Applications below `domain`, of the gateway at the origin `gateway`.
    #[must_use]
    pub fn new(domain: &str, gateway: &str, idle: Duration, tls: &rustls::ServerConfig) -> Self {
        let authority = gateway.strip_prefix("https://").unwrap_or(gateway).trim_end_matches('/');
        let (_, port) = host_header::split_port(authority);
        let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 443);
        let cross_site = !is_same_site(domain, gateway);
        Self {
            domain: domain.to_ascii_lowercase(),
            port,
            gateway: format!("https://{authority}"),
            cross_site,
            idle,
            tls: acceptor::with_alpn(tls),
        }
    }

    /// The origin of a session's application.
    #[must_use]
    pub fn origin(&self, session: SessionId) -> String {
        match self.port {
            Some(port) => format!("https://{session}.{}:{port}", self.domain),
            None => format!("https://{session}.{}", self.domain),
        }
    }

    /// Whether a host name, without port, is one below the domain.
    #[must_use]
    pub fn is_subdomain(&self, host: &str) -> bool {
        let Some(at) = host.len().checked_sub(self.domain.len()) else { return false };
        at > 1
            && host.is_char_boundary(at)
            && host[at..].eq_ignore_ascii_case(&self.domain)
            && host.as_bytes()[at - 1] == b'.'
    }
}

/// Whether browsers surely take applications below `domain` and the gateway at the origin `gateway`
/// for one site: the domain is below the gateway's own name. Two names side by side may be one
/// site, too; which, only the public suffix list knows.
#[must_use]
pub fn is_same_site(domain: &str, gateway: &str) -> bool {
    let authority = gateway.strip_prefix("https://").unwrap_or(gateway).trim_end_matches('/');
    let (host, _) = host_header::split_port(authority);
    let (domain, host) = (domain.to_ascii_lowercase(), host.to_ascii_lowercase());
    // A host of one label is a site of its own, and so is an address: nothing is below it.
    host.contains('.') && domain.strip_suffix(&host).is_some_and(|rest| rest.ends_with('.'))
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
        AppsSettings::new(domain, gateway, Duration::from_secs(60), &tls)
    }

    #[test]
    fn sites_are_told_apart_as_browsers_do() {
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
    fn an_origin_has_the_port_of_the_public_address() {
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
    fn below_is_below() {
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
