//! Every setting with its default. An empty text or path means "none".

use super::value::{DatabaseUrl, DirectTarget, DurationSetting, QuotaSetting};
use crate::domain::Network;
use crate::domain::host::DesktopLimit;
use crate::domain::network::ProxyHeader;
use crate::telemetry::Format;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub tls: Tls,
    pub database: Database,
    pub auth: Auth,
    /// How often what may happen.
    pub limits: Limits,
    pub sessions: Sessions,
    /// Origins of web applications.
    pub apps: Apps,
    pub tunnel: Tunnel,
    /// Targets without a tunnel.
    pub direct: Direct,
    /// For `portcullis agent`.
    pub agent: Agent,
    pub metrics: Metrics,
    pub log: Log,
}

/// `[server]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    pub public_url: String,
    pub allowed_origins: Vec<String>,
    pub data_dir: PathBuf,
    pub organization: String,
    pub trusted_proxies: Vec<Network>,
    pub proxy_header: ProxyHeader,
    pub drain_timeout: DurationSetting,
}

/// `[tls]`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    pub names: Vec<String>,
}

/// `[database]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: DatabaseUrl,
    pub control_connections: u32,
    pub change_connections: u32,
    pub listing_connections: u32,
    pub search_connections: u32,
}

/// `[auth]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub mfa_required: bool,
    pub issuer: String,
    pub access_token_life: DurationSetting,
    pub login_life: DurationSetting,
    pub mfa_token_life: DurationSetting,
}

/// `[limits]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub passwords_per_client: QuotaSetting,
    pub passwords_per_address: QuotaSetting,
    pub passwords_per_account: QuotaSetting,
    pub passwords_per_known_browser: QuotaSetting,
    pub codes_per_client: QuotaSetting,
    pub codes_per_address: QuotaSetting,
    pub codes_per_account: QuotaSetting,
    pub codes_per_known_browser: QuotaSetting,
    pub sign_ins_per_client: QuotaSetting,
    pub waiting_sign_ins: usize,
    pub known_browser_life: DurationSetting,
    pub refusals_per_user: QuotaSetting,
    pub public_requests_per_address: QuotaSetting,
    pub requests_per_address: QuotaSetting,
    pub connections: usize,
    pub connections_per_address: usize,
    pub search_time: DurationSetting,
    pub searches_per_user: usize,
}

/// `[sessions]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    pub max_duration: DurationSetting,
    pub duration: DurationSetting,
    pub idle_timeout: DurationSetting,
    pub launch_timeout: DurationSetting,
    pub grace: DurationSetting,
    pub ticket_life: DurationSetting,
    pub max_viewers: usize,
    pub app_idle_timeout: DurationSetting,
}

/// `[apps]`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apps {
    pub domain: String,
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// `[tunnel]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    pub listen: SocketAddr,
    pub endpoint: String,
    pub network: Network,
    pub mtu_max: usize,
    pub local_endpoints: bool,
}

/// `[direct]`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Direct {
    pub allow: Vec<DirectTarget>,
}

impl Direct {
    /// `host:port` by name.
    #[must_use]
    pub fn addresses(&self) -> HashMap<String, String> {
        self.allow.iter().map(|target| (target.name.clone(), target.address.clone())).collect()
    }
}

/// `[agent]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    pub state_dir: PathBuf,
    pub name: String,
    pub max_desktops: usize,
    pub max_service_sessions: usize,
    pub desktop_memory_mib: u64,
    pub desktop_processes: u64,
    /// 0: no limit.
    pub home_quota_mib: u64,
    pub require_limits: Vec<DesktopLimit>,
    pub network_allow: Vec<Network>,
    pub services: Vec<DirectTarget>,
}

impl Agent {
    /// `host:port` by name.
    #[must_use]
    pub fn service_addresses(&self) -> BTreeMap<String, String> {
        self.services
            .iter()
            .map(|service| (service.name.clone(), service.address.clone()))
            .collect()
    }
}

/// `[metrics]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    pub allow: Vec<Network>,
}

/// `[log]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: Format,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            public_url: "https://localhost:8443".into(),
            allowed_origins: Vec::new(),
            data_dir: "/var/lib/portcullis".into(),
            organization: "Portcullis".into(),
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::Any,
            drain_timeout: DurationSetting::secs(4),
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::new("sqlite:portcullis.db"),
            control_connections: 6,
            change_connections: 6,
            listing_connections: 4,
            search_connections: 2,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mfa_required: true,
            issuer: "Portcullis".into(),
            access_token_life: DurationSetting::minutes(10),
            login_life: DurationSetting::days(7),
            mfa_token_life: DurationSetting::minutes(5),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let limit = QuotaSetting::new;
        let (seconds, minutes) = (DurationSetting::secs, DurationSetting::minutes);
        let ms = |n| DurationSetting(Duration::from_millis(n));
        Self {
            passwords_per_client: limit(10, seconds(30)),
            passwords_per_address: limit(100, seconds(1)),
            passwords_per_account: limit(100, seconds(5)),
            passwords_per_known_browser: limit(10, seconds(30)),
            codes_per_client: limit(10, minutes(60)),
            codes_per_address: limit(100, seconds(5)),
            codes_per_account: limit(40, minutes(30)),
            codes_per_known_browser: limit(10, minutes(30)),
            sign_ins_per_client: limit(60, seconds(5)),
            waiting_sign_ins: 1024,
            known_browser_life: DurationSetting::days(90),
            refusals_per_user: limit(100, seconds(20)),
            public_requests_per_address: limit(2000, ms(10)),
            requests_per_address: limit(10_000, ms(1)),
            connections: 8192,
            connections_per_address: 2048,
            search_time: DurationSetting::secs(2),
            searches_per_user: 2,
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            max_duration: DurationSetting::hours(12),
            duration: DurationSetting::hours(8),
            idle_timeout: DurationSetting::secs(0),
            launch_timeout: DurationSetting::secs(15),
            grace: DurationSetting::minutes(10),
            ticket_life: DurationSetting::secs(30),
            max_viewers: 4,
            app_idle_timeout: DurationSetting::minutes(30),
        }
    }
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 51820)),
            endpoint: String::new(),
            network: Network::v4([10, 64, 0, 0], 10),
            mtu_max: 1420,
            local_endpoints: false,
        }
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/portcullis-agent".into(),
            name: String::new(),
            max_desktops: 32,
            max_service_sessions: 512,
            desktop_memory_mib: 4096,
            desktop_processes: 1024,
            home_quota_mib: 20_480,
            require_limits: Vec::new(),
            network_allow: Vec::new(),
            services: Vec::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { allow: Network::loopback() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: Format::Json }
    }
}
