//! What the receive task and a tunnel's owner exchange: registrations and received datagrams.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::tunnel::handle::Shared;
use crate::tunnel::keys::{PrivateKey, PublicKey};

/// Datagrams from one address, concatenated; each but the last is `stride` bytes long.
pub(in crate::tunnel) struct InboundBatch {
    pub(in crate::tunnel) from: SocketAddr,
    pub(in crate::tunnel) stride: usize,
    pub(in crate::tunnel) contents: Bytes,
}

pub(in crate::tunnel) enum Change {
    Add(Box<Registration>),
    Remove { index: u32 },
}

/// What the receive task needs of a new tunnel.
pub(in crate::tunnel) struct Registration {
    pub(in crate::tunnel) index: u32,
    pub(in crate::tunnel) private_key: PrivateKey,
    pub(in crate::tunnel) peer: PublicKey,
    pub(in crate::tunnel) inbox: mpsc::Sender<InboundBatch>,
    pub(in crate::tunnel) shared: Arc<Shared>,
}
