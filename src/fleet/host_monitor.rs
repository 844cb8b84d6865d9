//! Monitoring a host: silence of the host and the end of a desktop are noticed without a request.

use super::conversions::control_error;
use super::state::{CONTROL_TIMEOUT, FleetState};
use crate::broker::model::{HostCapabilities, HostSlots};
use crate::broker::ports::host_fleet::FleetError;
use crate::domain::HostId;
use crate::domain::host::HostKind;
use crate::domain::route::is_target_name;
use crate::host::control::{self, Health, Slots};
use crate::tunnel::{Tunnel, TunnelStatus, probe_rtt};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// First and longest wait before the next attempt.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Interval at which an agent is asked for its capabilities. It probes its services for that.
const CAPABILITIES_INTERVAL: Duration = Duration::from_secs(30);
/// Minimum time between two questions for changes, whatever an agent answers. A change that comes
/// alone is noticed at once.
pub const CHANGES_MIN_INTERVAL: Duration = Duration::from_millis(500);
/// Most services accepted from an agent.
const SERVICES_MAX: usize = crate::host::services::SERVICES_MAX;
/// Interval of the probes of a standard peer.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// Runs as long as the fleet and the host's tunnel exist: publishes changes of the tunnel's state
/// and polls the agent for changes.
pub(super) async fn monitor_host(
    fleet: Weak<FleetState>,
    host: HostId,
    kind: HostKind,
    tunnel: Tunnel,
) {
    let mut status = tunnel.watch_status();
    let (mut wait, longest) = RETRY_BACKOFF;
    loop {
        let before = *status.borrow_and_update();
        let interrupted = tokio::select! {
            () = tunnel.closed() => break,
            changed = status.wait_for(|now| *now != before) => changed.is_err(),
            () = probe_peer(&tunnel), if kind == HostKind::Peer => false,
            error = poll_changes(&fleet, host), if kind == HostKind::Agent && before == TunnelStatus::Encrypted => {
                tracing::debug!(%host, %error, "host_monitor.interrupted");
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
            fleet.notify_host_changed(host);
            fleet.notify_hosts_changed();
            wait = RETRY_BACKOFF.0;
        }
    }
    if let Some(fleet) = fleet.upgrade() {
        fleet.notify_hosts_changed();
    }
}

/// Probes a standard peer periodically. It has no agent to poll, and a keepalive is not answered;
/// but a packet with data must be answered, if only by an empty one (WireGuard paper, section 6.5),
/// so the tunnel's own state machine notices a silent peer.
async fn probe_peer(tunnel: &Tunnel) {
    loop {
        tokio::time::sleep(PROBE_INTERVAL).await;
        if tunnel.stats().endpoint.is_some() {
            probe_rtt(tunnel).await;
        }
    }
}

impl FleetState {
    /// Stores the capabilities that a host's agent reports, and publishes a change of them.
    fn update_capabilities(&self, host: HostId, health: Health) {
        let services = health
            .services
            .into_iter()
            .filter(|service| is_target_name(&service.name))
            .take(SERVICES_MAX);
        let services = services.map(|service| (service.name, service.reachable)).collect();
        let capabilities = Arc::new(HostCapabilities {
            kinds: health.kinds,
            service_kinds: health.service_kinds,
            limits: health.limits.map(|limits| limits.into_iter().collect()),
            services,
            slots: health
                .slots
                .map(|Slots { desktops, services }| HostSlots { desktops, services }),
        });
        let mut hosts = self.hosts();
        let Some(entry) = hosts.get_mut(&host) else { return };
        let changed = entry
            .capabilities
            .replace(capabilities.clone())
            .is_none_or(|before| before != capabilities);
        drop(hosts);
        if changed {
            self.notify_hosts_changed();
        }
    }
}

/// Polls an agent for changes; each answer also shows that the host is alive. Returns the failure
/// that ended it.
async fn poll_changes(fleet: &Weak<FleetState>, host: HostId) -> FleetError {
    let polling = async {
        let state = fleet.upgrade().ok_or(FleetError::NotConnected)?;
        let mut client = tokio::time::timeout(CONTROL_TIMEOUT, state.client(host))
            .await
            .map_err(|_| FleetError::Timeout)??;
        drop(state);
        let (mut generation, mut refreshed_at) = (None, None::<Instant>);
        loop {
            if refreshed_at.is_none_or(|at| at.elapsed() >= CAPABILITIES_INTERVAL) {
                let health = tokio::time::timeout(CONTROL_TIMEOUT, client.health())
                    .await
                    .map_err(|_| FleetError::Timeout)?
                    .map_err(control_error)?;
                fleet.upgrade().ok_or(FleetError::NotConnected)?.update_capabilities(host, health);
                refreshed_at = Some(Instant::now());
            }
            let limit = control::WATCH_WAIT + CONTROL_TIMEOUT;
            let asked_at = tokio::time::Instant::now();
            let now = tokio::time::timeout(limit, client.changed(generation))
                .await
                .map_err(|_| FleetError::Timeout)?
                .map_err(control_error)?;
            if generation.replace(now) != Some(now) {
                fleet.upgrade().ok_or(FleetError::NotConnected)?.notify_host_changed(host);
            }
            tokio::time::sleep_until(asked_at + CHANGES_MIN_INTERVAL).await;
        }
    };
    let ended: Result<std::convert::Infallible, FleetError> = polling.await;
    match ended {
        Err(error) => error,
        Ok(never) => match never {},
    }
}
