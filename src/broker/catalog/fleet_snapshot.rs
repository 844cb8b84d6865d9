//! What the fleet can reach and its agents can do, as placement sees it.

use crate::broker::core::host_failures::HostFailures;
use crate::broker::core::session_tracker::SlotKind;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::model::HostCapabilities;
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::route::TargetSpec;
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{HostId, Result, WorkspaceKey};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What the fleet can reach, read before a transaction and used in it.
#[derive(Clone, Debug)]
pub(in crate::broker) struct FleetSnapshot {
    pub(in crate::broker) connected: Vec<HostId>,
    pub(in crate::broker) direct: Vec<String>,
    /// The gateway has a domain for web applications.
    pub(in crate::broker) web_applications: bool,
    /// Capabilities of the connected agents that have reported them.
    pub(in crate::broker) capabilities: HashMap<HostId, Arc<HostCapabilities>>,
    /// A resolved direct target: its name and address.
    pub(in crate::broker) resolved: Option<(String, IpAddr)>,
    /// Penalties of connected hosts that failed recently.
    pub(in crate::broker) penalties: HashMap<HostId, u32>,
}

impl FleetSnapshot {
    /// Whether a host's agent can start this kind of desktop. An agent that has not reported yet is
    /// assumed to, and refuses by itself.
    pub(in crate::broker::catalog) fn can_start(&self, host: HostId, kind: WorkspaceKind) -> bool {
        self.capabilities.get(&host).is_none_or(|offers| offers.kinds.contains(&kind))
    }

    /// How many sessions a host's agent takes; `None`: it does not say, and refuses by itself.
    pub(in crate::broker::catalog) fn slots(&self, host: HostId, slot: SlotKind) -> Option<usize> {
        let slots = self.capabilities.get(&host)?.slots?;
        Some(match slot {
            SlotKind::Desktop => slots.desktops,
            SlotKind::Service => slots.services,
        })
    }

    /// Whether a host's agent has this service for this kind.
    pub(in crate::broker::catalog) fn has_service(
        &self,
        host: HostId,
        service: &str,
        kind: WorkspaceKind,
    ) -> bool {
        let has = |offers: &Arc<HostCapabilities>| {
            offers.service_kinds.contains(&kind)
                && offers.services.iter().any(|(name, _)| name == service)
        };
        self.capabilities.get(&host).is_none_or(has)
    }
}

#[derive(Clone)]
pub struct Placements {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) web_applications: bool,
    pub(in crate::broker) failures: HostFailures,
}

impl Placements {
    pub(in crate::broker) fn snapshot(&self) -> FleetSnapshot {
        let fleet = &self.fleet;
        let connected = fleet.connected();
        let offers =
            connected.iter().filter_map(|host| Some((*host, fleet.capabilities(*host)?))).collect();
        let now = self.store.now();
        let penalties = connected.iter().map(|host| (*host, self.failures.penalty(*host, now)));
        FleetSnapshot {
            penalties: penalties.filter(|(_, penalty)| *penalty > 0).collect(),
            connected,
            direct: fleet.direct_targets(),
            web_applications: self.web_applications,
            capabilities: offers,
            resolved: None,
        }
    }

    /// The same, with the workspace's direct target resolved.
    pub(in crate::broker) async fn snapshot_for(
        &self,
        workspace: &WorkspaceKey,
    ) -> Result<FleetSnapshot> {
        let mut reachable = self.snapshot();
        if reachable.direct.is_empty() {
            return Ok(reachable);
        }
        let wanted = workspace.clone();
        let found = self.store.read(move |tx| tx.workspace(&wanted)).await?;
        let target = found.as_ref().and_then(|workspace| workspace.driver().target());
        if let Some(TargetSpec::Direct { name }) = target {
            match self.fleet.resolve_target(name).await {
                Ok(address) => reachable.resolved = Some((name.clone(), address)),
                Err(error) => {
                    tracing::warn!(target_name = name, %error, "a direct target was not found")
                }
            }
        }
        Ok(reachable)
    }
}
