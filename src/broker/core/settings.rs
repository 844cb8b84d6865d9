//! The broker's part of the configuration.

use crate::auth::GuessQuotas;
use crate::broker::core::log_search::SearchLimits;
use crate::domain::rate_limit::Quota;
use crate::domain::session_times::SessionTimes;
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
    /// How long sessions last (default 8 h, with extensions 12 h, never idle).
    pub session_times: SessionTimes,
    /// How long a host keeps a desktop without its gateway (default 10 min).
    pub grace: Duration,
    /// Timeout of a launch (default 15 s).
    pub launch_timeout: Duration,
    /// Addresses for session tunnels, as network and prefix length (default 10.64.0.0/10).
    pub session_network: (Ipv4Addr, u8),
    /// A standard peer's endpoint may be on this machine or its link (default false).
    pub local_endpoints: bool,
    /// The gateway has a domain for the origins of web applications.
    pub web_applications: bool,
    /// Maximum number of streams per session (default 4).
    pub max_viewers: usize,
    pub limits: Limits,
}

/// Limits of sign-ins (docs/adr/0024), of the audit log, and of searches in it (docs/adr/0027).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub passwords: GuessQuotas,
    pub codes: GuessQuotas,
    /// Sign-ins of unknown browsers that may wait for a password hash (default 1024).
    pub waiting_sign_ins: usize,
    /// How long a browser is known after a sign-in (default 90 days).
    pub known_browser_ttl: Duration,
    /// Audit entries about refusals, per principal and action.
    pub refusals: Quota,
    pub searches: SearchLimits,
}

impl Default for Limits {
    fn default() -> Self {
        let quota = |burst, seconds| Quota { burst, interval: Duration::from_secs(seconds) };
        Self {
            passwords: GuessQuotas {
                pair: quota(10, 30),
                address: quota(100, 1),
                account: quota(100, 5),
                queue: quota(1, 600),
                browser: quota(10, 30),
                accepted: quota(60, 5),
            },
            codes: GuessQuotas {
                pair: quota(10, 3600),
                address: quota(100, 5),
                account: quota(40, 1800),
                queue: quota(1, 7200),
                browser: quota(10, 1800),
                accepted: quota(60, 5),
            },
            waiting_sign_ins: 1024,
            known_browser_ttl: Duration::from_secs(90 * 24 * 3600),
            refusals: quota(100, 20),
            searches: SearchLimits::default(),
        }
    }
}
