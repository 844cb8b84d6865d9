//! Opening a gateway's data: the store, the vault of the master key, and the check that they belong
//! together.

use super::failure::Failure;
use super::keys;
use crate::auth::{GuessQuotas, Vault};
use crate::broker::core::log_search::SearchLimits;
use crate::broker::core::settings::Limits;
use crate::broker::model::{GatewayIdentity, TunnelReport};
use crate::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, FleetError, HostFleet, HostPeer, SessionPeer,
};
use crate::broker::{Broker, Settings};
use crate::config::value::DatabaseUrl;
use crate::config::{self, Config};
use crate::domain::session_times::SessionTimes;
use crate::domain::{Clock, HostId, SessionId, Timestamp};
use crate::store::{Connections, HeadSigner, Purpose, Store, StoreError, Tx};
use futures_util::future::BoxFuture;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Setting that identifies the database's master key.
const KEY_CHECK: &str = "master_key_check";

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        std::time::SystemTime::now().into()
    }
}

struct VaultSigner(Vault);

impl HeadSigner for VaultSigner {
    fn sign(&self, text: &str) -> String {
        self.0.sign_head(text)
    }
    fn verify(&self, text: &str, signature: &str) -> bool {
        self.0.verify_head(text, signature)
    }
}

/// The witness of the audit log: in the data folder, where the master key is too. The folder of the
/// keys holds nothing but keys.
#[must_use]
pub fn witness_path(config: &Config) -> PathBuf {
    config.server.data_dir.join("audit-witness.json")
}

/// Opens the database of a gateway to work with it, after checking that it is the one of the
/// master key and of the witness, and that the end of its audit log verifies.
///
/// # Errors
/// The database's message, or what is wrong with it.
pub async fn store(config: &Config, vault: &Vault) -> Result<Store, Failure> {
    let store = store_for(Purpose::Use, config, vault).await?;
    let url = config.database_url();
    store.check_witness().await.map_err(|e| open_failure(&url, &e))?;
    Ok(store)
}

/// Opens the database of a gateway and checks the master key.
///
/// # Errors
/// The database's message.
pub async fn store_for(purpose: Purpose, config: &Config, vault: &Vault) -> Result<Store, Failure> {
    let signer = Arc::new(VaultSigner(vault.clone()));
    let path = witness_path(config);
    let store = store_with(&config.database_url(), purpose, signer, Some(path)).await?;
    let store = store.with_connections(&Connections {
        control: config.database.control_connections,
        change: config.database.change_connections,
        listing: config.database.listing_connections,
        search: config.database.search_connections,
        ..Connections::default()
    });
    check_master_key(&store, vault, config).await?;
    Ok(store)
}

/// Opens a database and runs its migrations, on a blocking thread.
///
/// # Errors
/// The database's message.
pub async fn store_with(
    url: &DatabaseUrl,
    purpose: Purpose,
    signer: Arc<dyn HeadSigner>,
    witness: Option<PathBuf>,
) -> Result<Store, Failure> {
    let opened = url.clone();
    let open = move || Store::open_witnessed(opened.expose(), purpose, signer, witness.as_deref());
    tokio::task::spawn_blocking(open)
        .await
        .map_err(|e| Failure::new(e.to_string()))?
        .map_err(|e| open_failure(url, &e))
}

fn open_failure(url: &DatabaseUrl, error: &StoreError) -> Failure {
    Failure::new(format!("cannot open the database {url}: {error}"))
}

/// Refuses a database of another master key before anything is written; a new database is assigned
/// ours.
///
/// # Errors
/// A sentence saying what to do.
async fn check_master_key(store: &Store, vault: &Vault, config: &Config) -> Result<(), Failure> {
    let ours = vault.key_check_value().to_owned();
    let known = match store.read(|tx| tx.setting(KEY_CHECK)).await? {
        Some(known) => known,
        None => {
            let assign = move |tx: &mut Tx<'_>| match tx.setting(KEY_CHECK)? {
                Some(known) => Ok(known),
                None => tx.put_setting(KEY_CHECK, &ours).map(|()| ours.clone()),
            };
            store.write(assign).await?
        }
    };
    if known == vault.key_check_value() {
        return Ok(());
    }
    let key = config.server.data_dir.join("keys/master.key");
    let message = format!(
        "the master key {} does not belong to the database {}; put back the key it was made with",
        key.display(),
        config.database_url()
    );
    Err(Failure::new(message))
}

#[must_use]
pub fn settings(config: &Config) -> Settings {
    Settings {
        mfa_required: config.auth.mfa_required,
        issuer: config.auth.issuer.clone(),
        access_ttl: config.auth.access_token_life.0,
        refresh_ttl: config.auth.login_life.0,
        mfa_ttl: config.auth.mfa_token_life.0,
        ticket_ttl: config.sessions.ticket_life.0,
        session_times: SessionTimes::of_installation(
            config.sessions.duration.0,
            config.sessions.max_duration.0,
            Some(config.sessions.idle_timeout.0).filter(|timeout| !timeout.is_zero()),
        ),
        grace: config.sessions.grace.0,
        launch_timeout: config.sessions.launch_timeout.0,
        session_network: config.tunnel.network.as_v4().unwrap_or((Ipv4Addr::new(10, 64, 0, 0), 10)),
        local_endpoints: config.tunnel.local_endpoints,
        web_applications: !config.apps.domain.is_empty(),
        max_viewers: config.sessions.max_viewers,
        limits: limits(&config.limits),
    }
}

fn limits(c: &config::Limits) -> Limits {
    let defaults = Limits::default();
    Limits {
        passwords: GuessQuotas {
            pair: c.passwords_per_client.quota(),
            address: c.passwords_per_address.quota(),
            account: c.passwords_per_account.quota(),
            browser: c.passwords_per_known_browser.quota(),
            accepted: c.sign_ins_per_client.quota(),
            ..defaults.passwords
        },
        codes: GuessQuotas {
            pair: c.codes_per_client.quota(),
            address: c.codes_per_address.quota(),
            account: c.codes_per_account.quota(),
            browser: c.codes_per_known_browser.quota(),
            accepted: c.sign_ins_per_client.quota(),
            ..defaults.codes
        },
        waiting_sign_ins: c.waiting_sign_ins,
        known_browser_ttl: c.known_browser_life.0,
        refusals: c.refusals_per_user.quota(),
        searches: SearchLimits {
            budget: c.search_time.0,
            per_user: c.searches_per_user,
            ..defaults.searches
        },
    }
}

/// A broker for an administrative command: on the gateway's data, without its tunnels.
///
/// # Errors
/// A sentence saying what is missing.
pub async fn open_for_cli(config: &Config) -> Result<Broker, Failure> {
    let keys = keys::load_or_create(&config.server.data_dir)?;
    let vault = Vault::from_master_key(*keys.master);
    let store = store(config, &vault).await?;
    Ok(broker_without_fleet(store, vault, config))
}

/// A broker on a store that is there, without tunnels.
#[must_use]
pub fn broker_without_fleet(store: Store, vault: Vault, config: &Config) -> Broker {
    Broker::new(store, vault, Arc::new(NoFleet::default()), Arc::new(SystemClock), settings(config))
}

/// The fleet of a process without tunnels. The running gateway notices the changes and acts on
/// them.
#[derive(Default)]
struct NoFleet {
    changed: watch::Sender<u64>,
}

impl HostFleet for NoFleet {
    fn identity(&self) -> GatewayIdentity {
        GatewayIdentity {
            public_key: String::new(),
            endpoint: String::new(),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
    fn add_host(&self, _: HostPeer) -> Result<(), FleetError> {
        Err(FleetError::NotConnected)
    }
    fn remove_host(&self, _: HostId) {}
    fn host(&self, _: HostId) -> Option<TunnelReport> {
        None
    }
    fn connected(&self) -> Vec<HostId> {
        Vec::new()
    }
    fn start(
        &self,
        _: Option<HostId>,
        _: DesktopOrder,
    ) -> BoxFuture<'_, Result<DesktopStarted, FleetError>> {
        Box::pin(async { Err(FleetError::NotConnected) })
    }
    fn drop_keys(&self, _: SessionId) {}
    fn stop(&self, _: Option<HostId>, _: SessionId) -> BoxFuture<'_, Result<(), FleetError>> {
        Box::pin(async { Err(FleetError::NotConnected) })
    }
    fn restore(&self, _: SessionPeer) -> Result<(), FleetError> {
        Err(FleetError::NotConnected)
    }
    fn tunnel(&self, _: SessionId) -> Option<TunnelReport> {
        None
    }
    fn inventory(&self, _: HostId) -> BoxFuture<'_, Result<Vec<SessionId>, FleetError>> {
        Box::pin(async { Err(FleetError::NotConnected) })
    }
    fn hosts_changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configurations_default_limits_are_the_brokers() {
        assert_eq!(settings(&Config::default()).limits, Limits::default());
    }
}
