//! The keys that sign access tokens and identity assertions.

use crate::auth::TokenKeys;
use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::unit_of_work::AuditedStore;
use crate::domain::Result;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Loaded or created at first use.
#[derive(Clone)]
pub(in crate::broker) struct SigningKeys {
    store: AuditedStore,
    sealer: Sealer,
    keys: Arc<OnceCell<TokenKeys>>,
}

impl SigningKeys {
    pub(in crate::broker) fn new(store: AuditedStore, sealer: Sealer) -> Self {
        Self { store, sealer, keys: Arc::default() }
    }

    /// The stored signing keys, or new ones.
    pub(in crate::broker) async fn get(&self) -> Result<TokenKeys> {
        let keys = self.keys.get_or_try_init(|| async {
            let (kid, seed) = TokenKeys::generate();
            let sealed = self.sealer.seal(SealingPurpose::TokenKey(&kid), seed.expose());
            let now = self.store.now();
            let stored = self
                .store
                .write_unaudited(move |tx| {
                    if tx.signing_keys()?.is_empty() {
                        tx.insert_signing_key(&kid, &sealed, now)?;
                    }
                    tx.signing_keys()
                })
                .await?;
            let opened = stored.into_iter().map(|(kid, sealed, _)| {
                let seed = self.sealer.unseal(SealingPurpose::TokenKey(&kid), &sealed)?;
                Ok((kid, seed))
            });
            TokenKeys::new(opened.collect::<Result<Vec<_>>>()?)
        });
        keys.await.cloned()
    }

    /// Public keys as a JWK set (RFC 7517); empty before the first [`Self::get`].
    pub(in crate::broker) fn jwks(&self) -> serde_json::Value {
        self.keys.get().map_or_else(|| serde_json::json!({ "keys": [] }), TokenKeys::jwks)
    }
}
