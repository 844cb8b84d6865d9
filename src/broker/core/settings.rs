//! The broker's part of the configuration.

use std::net::Ipv4Addr;
use std::time::Duration;

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
    pub session_network: (Ipv4Addr, u8),
    /// The gateway has a domain for the origins of web applications.
    pub web_applications: bool,
    /// Maximum number of streams per session (default 4).
    pub max_viewers: usize,
}
