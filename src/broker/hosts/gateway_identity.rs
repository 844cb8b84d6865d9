//! The gateway as its hosts know it, for processes with and without tunnels.

use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::model::GatewayIdentity;
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;

/// Setting with the gateway's identity, for the command line, which has no tunnels.
const IDENTITY_SETTING: &str = "gateway_identity";

#[derive(Clone)]
pub(in crate::broker) struct GatewayIdentityStore {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
}

impl GatewayIdentityStore {
    /// Stores the gateway's identity for the command line.
    pub(in crate::broker) async fn publish(&self) -> Result<()> {
        let GatewayIdentity { public_key, endpoint, address } = self.fleet.identity();
        let text = format!("{public_key} {endpoint} {address}");
        self.store.write_unaudited(move |tx| tx.put_setting(IDENTITY_SETTING, &text)).await
    }

    /// The gateway's identity, from the fleet or, without tunnels, from the store.
    pub(in crate::broker) async fn get(&self) -> Result<GatewayIdentity> {
        let now = self.fleet.identity();
        if !now.public_key.is_empty() {
            return Ok(now);
        }
        let kept = self.store.read(|tx| tx.setting(IDENTITY_SETTING)).await?;
        let Some(kept) = kept else {
            return Err(Error::conflict("No gateway has started on this data yet. Start it once."));
        };
        let mut parts = kept.split(' ');
        let mut next =
            || parts.next().ok_or_else(|| Error::internal("the stored identity cannot be parsed"));
        let (public_key, endpoint) = (next()?.to_owned(), next()?.to_owned());
        let address = next()?.parse().map_err(Error::internal)?;
        Ok(GatewayIdentity { public_key, endpoint, address })
    }

    /// Validates and normalizes another party's public key.
    pub(in crate::broker) async fn validate_peer_key(&self, text: &str) -> Result<String> {
        let key = STANDARD
            .decode(text.trim())
            .ok()
            .filter(|k| k.len() == 32 && k.iter().any(|b| *b != 0));
        let Some(key) = key else {
            return Err(Error::invalid(
                "public_key must be a WireGuard public key: 32 bytes in base64.",
            ));
        };
        let public_key = STANDARD.encode(key);
        if self.get().await.is_ok_and(|gateway| gateway.public_key == public_key) {
            return Err(Error::invalid("public_key is the gateway's own."));
        }
        Ok(public_key)
    }
}
