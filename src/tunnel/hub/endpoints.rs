//! The outer addresses of the tunnels' peers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use crate::domain::sync::lock;

/// Outer addresses of the tunnels' peers, authenticated or as configured, each with the number of
/// its tunnels.
#[derive(Default)]
pub(in crate::tunnel) struct Endpoints(Mutex<HashMap<SocketAddr, usize>>);

impl Endpoints {
    /// Moves a tunnel's peer from one address to another.
    pub(in crate::tunnel) fn update(&self, from: Option<SocketAddr>, to: Option<SocketAddr>) {
        let mut known = lock(&self.0);
        if let Some(to) = to {
            *known.entry(to).or_default() += 1;
        }
        if let Some(from) = from
            && let Some(count) = known.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                known.remove(&from);
            }
        }
    }

    pub(super) fn contains(&self, address: SocketAddr) -> bool {
        lock(&self.0).contains_key(&address)
    }
}
