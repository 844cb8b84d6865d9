//! Sums and distributions over all sessions: of bounded size however many there are.

use super::state::{FleetState, SharedEntry, SharedRoute, Totals};
use crate::domain::route::PathMetrics;
use crate::tunnel::Tunnel;
use std::time::SystemTime;

impl FleetState {
    pub(super) fn metrics(&self) -> PathMetrics {
        let Totals { tx_bytes, rx_bytes, retransmits } = *self.closed_totals();
        let mut metrics = PathMetrics { tx_bytes, rx_bytes, retransmits, ..PathMetrics::default() };
        let now = SystemTime::now();
        let age = |tunnel: &Tunnel| {
            tunnel.stats().last_handshake.and_then(|at| now.duration_since(at).ok())
        };
        for entry in self.sessions().values() {
            let stats = entry.tunnel.stats();
            metrics.tx_bytes += stats.tx_bytes;
            metrics.rx_bytes += stats.rx_bytes;
            metrics.retransmits += stats.retransmits;
            entry
                .path
                .host_rtt()
                .or(stats.rtt)
                .into_iter()
                .for_each(|took| metrics.host.observe(took));
            entry.path.desktop_rtt().into_iter().for_each(|took| metrics.desktop.observe(took));
            age(&entry.tunnel).into_iter().for_each(|age| metrics.handshake_age.observe(age));
        }
        let shared: Vec<SharedEntry> = self.shared().values().cloned().collect();
        for entry in shared {
            let (tx_bytes, rx_bytes) = entry.path.bytes();
            metrics.tx_bytes += tx_bytes;
            metrics.rx_bytes += rx_bytes;
            entry.path.host_rtt().into_iter().for_each(|took| metrics.host.observe(took));
            entry.path.desktop_rtt().into_iter().for_each(|took| metrics.desktop.observe(took));
            match &entry.route {
                SharedRoute::Host(host) => self
                    .host_tunnel(*host)
                    .as_ref()
                    .and_then(age)
                    .into_iter()
                    .for_each(|age| metrics.handshake_age.observe(age)),
                SharedRoute::Direct(_) => metrics.direct += 1,
            }
        }
        metrics
    }
}
