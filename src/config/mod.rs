//! The gateway's settings: what can be set, what it is by default, and where a value may come from.
//!
//! Three layers, the later over the earlier: defaults, a TOML file, the environment
//! (`PORTCULLIS_SECTION__KEY`). A key nobody knows, a value of the wrong kind and a value that
//! makes no sense are all refused, with the key's full name and where it was written.
//!
//! | file | what it answers |
//! | --- | --- |
//! | this one | which settings there are; every one has a default, an empty text means "none" |
//! | [`value`] | kinds of values: spans of time, database addresses |
//! | [`layers`] | how the layers are laid over each other, and who is blamed for a bad value |
//! | [`check`] | which values make no sense together or alone |

pub mod check;
pub mod layers;
pub mod value;

use crate::domain::Network;
use crate::telemetry::Format;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use value::{DatabaseUrl, DirectTarget, DurationSetting, IsBlank};

/// Everything that can be set.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens and keeps its files.
    pub server: Server,
    /// Its certificate.
    pub tls: Tls,
    /// Where its data is.
    pub database: Database,
    /// How people prove who they are.
    pub auth: Auth,
    /// How long sessions live.
    pub sessions: Sessions,
    /// Where web applications are shown.
    pub apps: Apps,
    /// The WireGuard hub.
    pub tunnel: Tunnel,
    /// Targets reached through no tunnel.
    pub direct: Direct,
    /// What `portcullis agent` does on a workspace host.
    pub agent: Agent,
    /// Who may read the metrics.
    pub metrics: Metrics,
    /// What it writes to its log.
    pub log: Log,
}

/// `[server]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    missing_docs,
    reason = "config/portcullis.toml explains each key, and a test keeps it whole"
)]
pub struct Server {
    pub listen: SocketAddr,
    pub public_url: String,
    pub allowed_origins: Vec<String>,
    pub data_dir: PathBuf,
    pub organization: String,
    pub trusted_proxies: Vec<Network>,
    pub drain_timeout: DurationSetting,
}

/// `[tls]`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see config/portcullis.toml")]
pub struct Tls {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    pub names: Vec<String>,
}

/// `[database]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see config/portcullis.toml")]
pub struct Database {
    pub url: DatabaseUrl,
}

/// `[auth]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see config/portcullis.toml")]
pub struct Auth {
    pub mfa_required: bool,
    pub issuer: String,
    pub access_token_life: DurationSetting,
    pub login_life: DurationSetting,
    pub mfa_token_life: DurationSetting,
}

/// `[sessions]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see config/portcullis.toml")]
pub struct Sessions {
    pub max_duration: DurationSetting,
    pub launch_timeout: DurationSetting,
    pub grace: DurationSetting,
    pub ticket_life: DurationSetting,
    pub max_viewers: usize,
    pub app_idle_timeout: DurationSetting,
}

/// `[apps]`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see config/portcullis.toml")]
pub struct Apps {
    pub domain: String,
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// `[tunnel]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see config/portcullis.toml")]
pub struct Tunnel {
    pub listen: SocketAddr,
    pub endpoint: String,
    pub network: Network,
    pub mtu_max: usize,
}

/// `[direct]`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see config/portcullis.toml")]
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
#[allow(missing_docs, reason = "see config/portcullis.toml")]
pub struct Agent {
    pub state_dir: PathBuf,
    pub name: String,
    pub max_desktops: usize,
    pub desktop_memory_mib: u64,
    pub desktop_processes: u64,
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
#[allow(missing_docs, reason = "see config/portcullis.toml")]
pub struct Metrics {
    pub allow: Vec<Network>,
}

/// `[log]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "see config/portcullis.toml")]
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
            drain_timeout: DurationSetting::secs(4),
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self { url: DatabaseUrl::new("sqlite:portcullis.db") }
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

impl Default for Sessions {
    fn default() -> Self {
        Self {
            max_duration: DurationSetting::hours(12),
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
            mtu_max: 8920,
        }
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/portcullis-agent".into(),
            name: String::new(),
            max_desktops: 32,
            desktop_memory_mib: 4096,
            desktop_processes: 1024,
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

/// Why the settings cannot be used: one sentence, naming the key and where it was written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's words.
        why: String,
    },
    /// The file is not TOML.
    #[error("the configuration file {path} is not valid TOML: {why}")]
    NotToml {
        /// The file.
        path: String,
        /// The parser's words.
        why: String,
    },
    /// Nobody knows this key.
    #[error("unknown setting {key} in {source_name}{hint}")]
    Unknown {
        /// Full name.
        key: String,
        /// File or environment variable.
        source_name: String,
        /// `; did you mean ...?`, or empty.
        hint: String,
    },
    /// The value is of the wrong kind.
    #[error("bad value for {key} in {source_name}: {why}")]
    BadValue {
        /// Full name.
        key: String,
        /// File or environment variable.
        source_name: String,
        /// What was expected.
        why: String,
    },
    /// The values read, but cannot work.
    #[error("{0}")]
    Invalid(String),
}

impl Config {
    /// Lays file and environment over `base`, which is the defaults but for a demo.
    ///
    /// # Errors
    /// [`ConfigError`] with the key's full name and its source.
    pub fn load(
        base: Self,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let config = layers::merge(&base, file, environment)?;
        check::check(&config)?;
        Ok(config)
    }

    /// With more services of a host.
    ///
    /// # Errors
    /// [`ConfigError::Senseless`] when they are too many, or two have one name.
    pub fn with_services(mut self, more: &[DirectTarget]) -> Result<Self, ConfigError> {
        self.agent.services.extend_from_slice(more);
        check::check(&self)?;
        Ok(self)
    }

    /// The database with a relative SQLite path resolved against `server.data_dir`.
    #[must_use]
    pub fn database_url(&self) -> DatabaseUrl {
        self.database.url.resolve_in(&self.server.data_dir)
    }

    /// The two PEM files of the web applications' certificate, when it is not our own.
    #[must_use]
    pub fn apps_pem_files(&self) -> Option<(&Path, &Path)> {
        let (cert, key) = (self.apps.certificate.as_path(), self.apps.private_key.as_path());
        (!cert.is_blank() && !key.is_blank()).then_some((cert, key))
    }

    /// The two PEM files, when the certificate is not our own.
    #[must_use]
    pub fn pem_files(&self) -> Option<(&Path, &Path)> {
        let (cert, key) = (self.tls.certificate.as_path(), self.tls.private_key.as_path());
        (!cert.is_blank() && !key.is_blank()).then_some((cert, key))
    }
}

impl fmt::Display for Config {
    /// As TOML, the database's password left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.clone();
        shown.database.url = DatabaseUrl::new(&self.database.url.to_string());
        for (section, keys) in layers::tree(&shown).map_err(|_| fmt::Error)? {
            writeln!(f, "[{section}]")?;
            for (key, value) in keys.as_object().into_iter().flatten() {
                // JSON's texts, numbers, booleans and lists of texts are TOML's.
                writeln!(f, "{key} = {value}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
