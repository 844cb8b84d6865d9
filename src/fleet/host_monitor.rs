//! Following a host: a host that falls silent, and a desktop that ends, are noticed without anybody
//! asking.

use super::{CONTROL_TIMEOUT, Inner, control_error};
use crate::broker::model::HostCapabilities;
use crate::broker::ports::host_fleet::FleetError;
use crate::domain::HostId;
use crate::domain::host::HostKind;
use crate::domain::route::is_target_name;
use crate::host::control::{self, Health};
use crate::tunnel::{Tunnel, TunnelStatus};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Waits between two tries to follow a host.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often an agent is asked what it offers. It tries its services then, so not oftener than
/// somebody who looks would want to know.
const OFFERS_INTERVAL: Duration = Duration::from_secs(30);
/// Most services that are taken from an agent, and the longest name of one: what an agent of ours
/// can have.
const SERVICES_MAX: usize = crate::host::services::SERVICES_MAX;
/// Between two knocks at a standard peer.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// Follows a host for as long as there is the fleet and its tunnel: says when its tunnel changes,
/// and asks its agent for changes.
pub(super) async fn monitor_host(fleet: Weak<Inner>, host: HostId, kind: HostKind, tunnel: Tunnel) {
    let mut status = tunnel.watch_status();
    let (mut wait, longest) = RETRY_BACKOFF;
    loop {
        let before = *status.borrow_and_update();
        let interrupted = tokio::select! {
            () = tunnel.closed() => break,
            changed = status.wait_for(|now| *now != before) => changed.is_err(),
            () = probe_peer(&tunnel), if kind == HostKind::Peer => false,
            error = poll_changes(&fleet, host), if kind == HostKind::Agent && before == TunnelStatus::Encrypted => {
                tracing::debug!(%host, %error, "following a host was interrupted");
                true
            }
        };
        let Some(fleet) = fleet.upgrade() else { return };
        if interrupted {
            drop(fleet);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
        } else {
            if *status.borrow() == TunnelStatus::Encrypted {
                fleet.reconnect_sessions(host);
            }
            fleet.notify_hosts_changed();
            wait = RETRY_BACKOFF.0;
        }
    }
    if let Some(fleet) = fleet.upgrade() {
        fleet.notify_hosts_changed();
    }
}

/// Knocks at a standard peer, over and over. It has nobody to ask, and a keepalive asks for no
/// answer; but a packet that carries something must be answered, if only by an empty one (WireGuard
/// paper, section 6.5), so a peer that fell silent is noticed by its tunnel's own state machine.
async fn probe_peer(tunnel: &Tunnel) {
    loop {
        tokio::time::sleep(PROBE_INTERVAL).await;
        if tunnel.stats().endpoint.is_some() {
            super::metered_stream::probe_rtt(tunnel).await;
        }
    }
}

impl Inner {
    /// Keeps what a host's agent says it offers; who asks for hosts' changes is told when it is
    /// another.
    fn update_offers(&self, host: HostId, health: Health) {
        let services = health
            .services
            .into_iter()
            .filter(|service| is_target_name(&service.name))
            .take(SERVICES_MAX);
        let services = services.map(|service| (service.name, service.reachable)).collect();
        let offers = Arc::new(HostCapabilities {
            kinds: health.kinds,
            service_kinds: health.service_kinds,
            services,
        });
        let mut hosts = self.hosts();
        let Some(entry) = hosts.get_mut(&host) else { return };
        let changed = entry.offers.replace(offers.clone()).is_none_or(|before| before != offers);
        drop(hosts);
        if changed {
            self.notify_hosts_changed();
        }
    }
}

/// Asks an agent for changes, over and over; each answer also says that the host is alive. Ends
/// with why it could not go on.
async fn poll_changes(fleet: &Weak<Inner>, host: HostId) -> FleetError {
    let asking = async {
        let inner = fleet.upgrade().ok_or(FleetError::NotConnected)?;
        let mut client = tokio::time::timeout(CONTROL_TIMEOUT, inner.client(host))
            .await
            .map_err(|_| FleetError::Timeout)??;
        drop(inner);
        let (mut seen, mut told_at) = (None, None::<Instant>);
        loop {
            if told_at.is_none_or(|at| at.elapsed() >= OFFERS_INTERVAL) {
                let health = tokio::time::timeout(CONTROL_TIMEOUT, client.health())
                    .await
                    .map_err(|_| FleetError::Timeout)?
                    .map_err(control_error)?;
                fleet.upgrade().ok_or(FleetError::NotConnected)?.update_offers(host, health);
                told_at = Some(Instant::now());
            }
            let limit = control::WATCH_WAIT + CONTROL_TIMEOUT;
            let now = tokio::time::timeout(limit, client.changed(seen))
                .await
                .map_err(|_| FleetError::Timeout)?
                .map_err(control_error)?;
            if seen.replace(now) != Some(now) {
                fleet.upgrade().ok_or(FleetError::NotConnected)?.notify_hosts_changed();
            }
        }
    };
    let ended: Result<std::convert::Infallible, FleetError> = asking.await;
    match ended {
        Err(error) => error,
        Ok(never) => match never {},
    }
}
