//! How a gateway is assembled, started and stopped in order.

use super::failure::Failure;
use super::keys::{self, Keys};
use super::lease::{self, GatewayLease};
use super::open::{self, SystemClock};
use super::open_files;
use super::tls;
use crate::auth::Vault;
use crate::broker::Broker;
use crate::broker::model::TunnelState;
use crate::config::Config;
use crate::domain::user::RequestSource;
use crate::domain::{Clock as _, Timestamp};
use crate::files;
use crate::fleet::{FleetConfig, HubFleet};
use crate::http;
use crate::http::api::definition::Apis;
use crate::http::api::workspaces;
use crate::http::apps::{AppsSettings, common_parent};
use crate::http::hub_status::HubStatus;
use crate::http::settings::Settings;
use crate::http::state::AppState;
use crate::store::Store;
use crate::tunnel::{Hub, HubConfig, PrivateKey};
use crate::viewer;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest time for the last audit entry, and for closing the tunnels.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// A running gateway.
pub struct Gateway {
    pub broker: Broker,
    /// Address of the HTTPS server.
    pub address: SocketAddr,
    /// UDP address of the hub.
    pub hub_address: SocketAddr,
    /// The authority's certificate, when it is generated.
    pub ca: Option<PathBuf>,
    server: http::server::RunningServer,
    hub: Hub,
    draining: watch::Sender<bool>,
    maintenance: JoinHandle<()>,
    lease: Arc<GatewayLease>,
    _lock: File,
}

/// What must be there before the lease is acquired.
struct OpenData {
    keys: Keys,
    vault: Vault,
    store: Store,
    lock: File,
}

impl Gateway {
    /// Starts everything: database, lease, keys, tunnels, use cases, HTTPS. When this returns,
    /// requests are answered.
    ///
    /// # Errors
    /// A sentence naming what does not work; when another gateway serves from the database, which.
    pub async fn start(config: &Config, listener: TcpListener) -> Result<Self, Failure> {
        files::create_private_dir(&config.server.data_dir).map_err(|e| {
            Failure::new(format!(
                "cannot make the data folder {}: {e}",
                config.server.data_dir.display()
            ))
        })?;
        let lock = lock_data_dir(&config.server.data_dir)?;
        let keys = keys::load_or_create(&config.server.data_dir)?;
        let vault = Vault::from_master_key(*keys.master);
        let store = open::store(config, &vault).await?;
        let lease = Arc::new(acquire_lease(config, &store, &lock).await?);
        let data = OpenData { keys, vault, store, lock };
        let started = Self::assemble(config, listener, data, Arc::clone(&lease)).await;
        if started.is_err() {
            lease.release().await;
        }
        started
    }

    async fn assemble(
        config: &Config,
        listener: TcpListener,
        data: OpenData,
        lease: Arc<GatewayLease>,
    ) -> Result<Self, Failure> {
        let OpenData { keys, vault, store, lock } = data;
        let address = listener.local_addr().map_err(|e| Failure::new(e.to_string()))?;
        let now = SystemClock.now();
        let certificate = certificate(config, now)?;
        let (ca, certificate_sha256) = certificate.own.unzip();

        let hub = Hub::bind_on_own_threads(HubConfig { listen: config.tunnel.listen })
            .await
            .map_err(|e| {
                Failure::new(format!(
                    "cannot listen for hosts on udp {} (tunnel.listen): {e}",
                    config.tunnel.listen
                ))
            })?;
        hub.set_mtu_max(config.tunnel.mtu_max);
        let hub_address = hub.local_addr();
        let fleet = FleetConfig {
            private_key: PrivateKey::from_bytes(*keys.hub),
            endpoint: endpoint(config, hub_address),
            address: tunnel_address(config),
            start_timeout: config.sessions.launch_timeout.0,
            direct: config.direct.addresses(),
        };
        let fleet = Arc::new(HubFleet::new(hub.clone(), fleet));

        let audit_public_key = vault.audit_public_key();
        let broker =
            Broker::new(store, vault, fleet.clone(), Arc::new(SystemClock), open::settings(config));
        let source = RequestSource::local("gateway");
        broker.organizations().ensure(&config.server.organization).await?;
        broker.lifecycle().start(&source).await?;
        let (draining, drained) = watch::channel(false);
        let maintenance = tokio::spawn({
            let (broker, drained) = (broker.clone(), drained.clone());
            async move { broker.lifecycle().maintain(drained).await }
        });

        let streams =
            viewer::Context { broker: broker.clone(), dial: fleet.clone(), draining: drained };
        let probe = Arc::new({
            let hub = hub.clone();
            move || tunnel_status(&hub, &fleet)
        });
        let settings = Settings {
            certificate_sha256,
            apps: apps_settings(config, now)?,
            ..http_settings(config, audit_public_key)
        };
        let state = AppState::new(
            broker.clone(),
            streams,
            settings,
            probe,
            Apis::new(vec![workspaces::api()]),
        );
        let limits = http::server_limits::ServerLimits {
            drain_timeout: config.server.drain_timeout.0,
            connections: open_files::connections(config.limits.connections),
            connections_per_address: config.limits.connections_per_address,
            ..http::server_limits::ServerLimits::default()
        };
        let server = http::server::start(state, vec![listener], &certificate.tls, limits)
            .map_err(|e| Failure::new(format!("cannot serve HTTPS on {address}: {e}")))?;
        tracing::info!(%address, udp = %hub_address, database = %config.database_url(), version = env!("CARGO_PKG_VERSION"), "gateway.ready");
        Ok(Self {
            broker,
            address,
            hub_address,
            ca,
            server,
            hub,
            draining,
            maintenance,
            lease,
            _lock: lock,
        })
    }

    /// Resolves when the server ended by itself or the lease is lost. The caller ends the process:
    /// without the lease nothing may be served any more.
    pub async fn failed(&mut self) -> Failure {
        tokio::select! {
            ended = self.server.wait() => match ended {
                Ok(()) => Failure::new("the HTTPS server ended"),
                Err(e) => Failure::new(format!("the HTTPS server failed: {e}")),
            },
            reason = self.lease.lost() => Failure::new(format!(
                "this gateway lost its lease on the database and stops serving: {reason}"
            )),
        }
    }

    /// Stops in order: streams are asked to reconnect, requests under way end, the last audit entry
    /// is written, the tunnels close, the lease is released. Desktops stay.
    pub async fn stop(self) {
        self.draining.send_replace(true);
        if !self.server.stop().await {
            tracing::warn!("some requests did not end in time");
        }
        let maintenance = self.maintenance.abort_handle();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.maintenance).await.is_err() {
            maintenance.abort();
        }
        match tokio::time::timeout(
            SHUTDOWN_TIMEOUT,
            self.broker.lifecycle().stop(&RequestSource::local("gateway")),
        )
        .await
        {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "gateway.stop.unrecorded"),
            Err(_) => tracing::error!("gateway.stop.unrecorded: the database did not answer"),
        }
        let closing = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.hub.shutdown());
        let (closed, ()) = tokio::join!(closing, self.lease.release());
        drop(closed);
        tracing::info!("gateway.stopped");
    }
}

/// Excludes a second gateway from a data folder.
fn lock_data_dir(data_dir: &Path) -> Result<File, Failure> {
    let path = data_dir.join("gateway.lock");
    let lock = files::try_lock(&path)
        .map_err(|e| Failure::new(format!("cannot lock {}: {e}", path.display())))?;
    lock.ok_or_else(|| {
        Failure::new(format!("another gateway runs on the data folder {}", data_dir.display()))
    })
}

async fn acquire_lease(
    config: &Config,
    store: &Store,
    lock: &File,
) -> Result<GatewayLease, Failure> {
    let lock_id = lease::lock_id(lock)
        .map_err(|e| Failure::new(format!("cannot examine the lock of the data folder: {e}")))?;
    let name = format!(
        "{} (machine {}, process {}, data folder {})",
        config.server.public_url,
        super::agent::machine_name(),
        std::process::id(),
        config.server.data_dir.display()
    );
    GatewayLease::acquire(store.clone(), Arc::new(SystemClock), name, lock_id).await
}

/// Listens for HTTPS.
///
/// # Errors
/// A sentence naming the address.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |e| Failure::new(format!("cannot listen on {address} (server.listen): {e}"));
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

struct Certificate {
    tls: rustls::ServerConfig,
    /// The authority's file and the certificate's SHA-256, when it is generated.
    own: Option<(PathBuf, String)>,
}

fn certificate(config: &Config, now: Timestamp) -> Result<Certificate, Failure> {
    if let Some((certificate, key)) = config.pem_files() {
        return Ok(Certificate { tls: tls::server_config(certificate, key)?, own: None });
    }
    let own = own_certificate(config, now)?;
    let tls = tls::server_config(&own.certificate, &own.key)?;
    Ok(Certificate { tls, own: Some((own.ca, tls::fingerprint(&own.certificate)?)) })
}

/// The generated certificate, created or renewed when necessary.
///
/// # Errors
/// A sentence naming the file.
pub fn own_certificate(config: &Config, now: Timestamp) -> Result<tls::OwnCertificate, Failure> {
    let mut names = config.tls.names.clone();
    names.extend(public_host(config).map(str::to_owned));
    tls::own_certificate(&config.server.data_dir, &names, now)
}

/// A warning about an applications' domain that shares a parent with a name of the gateway: any
/// application's page can set cookies for the parent.
pub fn apps_domain_warning(config: &Config) -> Option<String> {
    let domain = &config.apps.domain;
    let origins = config.server.allowed_origins.iter().filter_map(|origin| host_of(origin));
    let names = config.tls.names.iter().map(String::as_str);
    let (host, parent) = public_host(config)
        .into_iter()
        .chain(origins)
        .chain(names)
        .find_map(|host| Some((host, common_parent(domain, host)?)))?;
    Some(format!(
        "apps.domain {domain} and the gateway's name {host} are both within {parent}: unless that is a public suffix, every application's page can set \
        cookies that browsers send to the gateway, which can sign a browser out or keep it out until its cookies are cleared. Give applications a \
        registrable domain of their own, such as example-apps.net beside gate.example.com."
    ))
}

/// Settings of web applications' origins, when a domain is configured.
fn apps_settings(config: &Config, now: Timestamp) -> Result<Option<AppsSettings>, Failure> {
    let domain = &config.apps.domain;
    if domain.is_empty() {
        return Ok(None);
    }
    if let Some(advice) = apps_domain_warning(config) {
        tracing::warn!("{advice}");
    }
    let tls = match config.apps_pem_files() {
        Some((certificate, key)) => tls::server_config(certificate, key)?,
        None => {
            let own = tls::own_wildcard_certificate(&config.server.data_dir, domain, now)?;
            tls::server_config(&own.certificate, &own.key)?
        }
    };
    Ok(Some(AppsSettings::new(
        domain,
        &config.server.public_url,
        &config.server.allowed_origins,
        config.sessions.app_idle_timeout.0,
        &tls,
    )))
}

/// The host of `server.public_url`.
fn public_host(config: &Config) -> Option<&str> {
    host_of(&config.server.public_url)
}

/// The host of an origin, without its port and brackets.
fn host_of(origin: &str) -> Option<&str> {
    let authority = origin.strip_prefix("https://")?.split('/').next()?;
    if let Some(bracketed) = authority.strip_prefix('[') {
        return bracketed.split(']').next();
    }
    authority.split(':').next().filter(|host| !host.is_empty())
}

/// What hosts dial.
fn endpoint(config: &Config, hub: SocketAddr) -> String {
    if !config.tunnel.endpoint.is_empty() {
        return config.tunnel.endpoint.clone();
    }
    if !hub.ip().is_unspecified() {
        return hub.to_string();
    }
    let host = public_host(config).unwrap_or("localhost");
    if host.contains(':') {
        format!("[{host}]:{}", hub.port())
    } else {
        format!("{host}:{}", hub.port())
    }
}

/// The gateway's address inside every tunnel: the first of the sessions' network, which the store
/// does not allocate.
fn tunnel_address(config: &Config) -> IpAddr {
    let (network, _) = open::settings(config).session_network;
    IpAddr::V4(Ipv4Addr::from(u32::from(network) + 1))
}

fn tunnel_status(hub: &Hub, fleet: &HubFleet) -> HubStatus {
    let mut status = HubStatus {
        running: hub.is_running(),
        listen: hub.local_addr().to_string(),
        ..HubStatus::default()
    };
    for state in fleet.tunnel_states() {
        match state {
            TunnelState::Connecting => status.connecting += 1,
            TunnelState::Encrypted => status.encrypted += 1,
            TunnelState::Stale => status.stale += 1,
            TunnelState::Down | TunnelState::None => status.down += 1,
        }
    }
    status.paths = fleet.metrics();
    status
}

fn http_settings(config: &Config, audit_public_key: String) -> Settings {
    let origins = std::iter::once(&config.server.public_url)
        .chain(&config.server.allowed_origins)
        .cloned()
        .collect();
    Settings {
        public_origins: origins,
        host_names: config.tls.names.clone(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        proxy_header: config.server.proxy_header,
        metrics_allow: config.metrics.allow.clone(),
        anonymous_rate: config.limits.public_requests_per_address.quota(),
        any_rate: config.limits.requests_per_address.quota(),
        audit_public_key,
        ..Settings::default()
    }
}
