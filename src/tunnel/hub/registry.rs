//! The tunnels of a hub, by id, index and keys.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::mpsc;

use super::endpoints::Endpoints;
use super::registration::Change;
use crate::domain::sync::lock;
use crate::tunnel::handle::{Tunnel, TunnelError, TunnelId};
use crate::tunnel::keys::PublicKey;

/// Most tunnels of one hub.
pub const TUNNELS_MAX: usize = 16_384;

#[derive(Default)]
struct Table {
    tunnels: HashMap<TunnelId, (u32, Tunnel)>,
    indices: HashMap<u32, (PublicKey, PublicKey)>,
    key_pairs: HashSet<(PublicKey, PublicKey)>,
}

pub(in crate::tunnel) struct Registry {
    pub(in crate::tunnel) endpoints: Arc<Endpoints>,
    table: Mutex<Table>,
    changes: mpsc::UnboundedSender<Change>,
}

impl Registry {
    pub(in crate::tunnel) fn new(
        endpoints: Arc<Endpoints>,
        changes: mpsc::UnboundedSender<Change>,
    ) -> Self {
        Self { endpoints, table: Mutex::default(), changes }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// Removes the tunnel with this index; idempotent.
    pub(in crate::tunnel) fn remove(&self, id: TunnelId, index: u32) {
        let mut table = self.lock();
        let Some(pair) = table.indices.remove(&index) else { return };
        table.key_pairs.remove(&pair);
        if table.tunnels.get(&id).is_some_and(|(known, _)| *known == index) {
            table.tunnels.remove(&id);
        }
        drop(table);
        // Bounded by the table: one addition and one removal per tunnel. If the receive loop has
        // ended there is nothing to update.
        let _ = self.changes.send(Change::Remove { index });
    }

    pub(in crate::tunnel) fn register(
        &self,
        id: TunnelId,
        pair: (PublicKey, PublicKey),
        tunnel: &Tunnel,
    ) -> Result<u32, TunnelError> {
        let mut table = self.lock();
        if table.tunnels.contains_key(&id) {
            return Err(TunnelError::DuplicateId);
        }
        if table.key_pairs.contains(&pair) {
            return Err(TunnelError::DuplicateKey);
        }
        if table.tunnels.len() >= TUNNELS_MAX {
            return Err(TunnelError::Full);
        }
        // At most 16 384 of 16 million are taken, so a free one is found at once. Random, so that
        // an outsider cannot guess it.
        let index = loop {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).map_err(|_| TunnelError::Full)?;
            let index = u32::from_le_bytes(bytes) >> 8;
            if !table.indices.contains_key(&index) {
                break index;
            }
        };
        table.tunnels.insert(id, (index, tunnel.clone()));
        table.indices.insert(index, pair);
        table.key_pairs.insert(pair);
        Ok(index)
    }

    /// The tunnel with this id, and its index.
    pub(in crate::tunnel) fn get(&self, id: TunnelId) -> Option<(u32, Tunnel)> {
        self.lock().tunnels.get(&id).cloned()
    }

    pub(in crate::tunnel) fn len(&self) -> usize {
        self.lock().tunnels.len()
    }

    /// Announces a change to the receive task. False if that has ended.
    pub(in crate::tunnel) fn announce(&self, change: Change) -> bool {
        self.changes.send(change).is_ok()
    }

    /// Whether the receive task is running.
    pub(in crate::tunnel) fn is_received(&self) -> bool {
        !self.changes.is_closed()
    }
}
