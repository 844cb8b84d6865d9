//! Placement: the host, route and address of a session.
//!
//! - A **desktop** (no target) runs on any connected host with an agent, in the session's own
//!   tunnel.
//! - A **service** runs on the one host with an agent that the workspace names, in the session's
//!   own tunnel.
//! - A **port of a host** belongs to the one standard peer that the workspace names, through that
//!   peer's tunnel.
//! - A **direct target** is reached without a tunnel, and only if the configuration allows its
//!   name.

use crate::broker::core::unit_of_work::{AuditedStore, AuditedTx};
use crate::broker::model::HostCapabilities;
use crate::broker::ports::host_fleet::HostFleet;
use crate::domain::audit::Reason;
use crate::domain::host::{Host, HostKind};
use crate::domain::principal::PrincipalId;
use crate::domain::route::{SessionRoute, TargetSpec};
use crate::domain::upstream::StreamProtocol;
use crate::domain::workspace::{Workspace, WorkspaceKind};
use crate::domain::{Error, HostId, OrganizationId, Result, WorkspaceKey};
use crate::store::Tx;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Text for the user when the only possible host is away or removed.
const HOST_NOT_CONNECTED: &str =
    "The host of this workspace is not connected right now. Try again in a moment.";
const SERVICE_NOT_OFFERED: &str = "The host of this workspace does not offer its service: its agent was not given one of this name, or is too old for this \
    type of workspace. Tell your administrator.";
const NO_APPS_DOMAIN: &str = "This gateway has no domain for web applications, so none can be opened. Tell your administrator: apps.domain must be set.";
const HOST_REMOVED: &str = "The host of this workspace is gone. Tell your administrator.";

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
}

/// Connected hosts of one organization.
#[derive(Debug)]
pub(in crate::broker) struct AvailableHosts {
    agents: HashSet<HostId>,
    peers: HashSet<HostId>,
    fleet: FleetSnapshot,
}

impl FleetSnapshot {
    /// Whether a host's agent can start this kind of desktop. An agent that has not reported yet is
    /// assumed to, and refuses by itself.
    fn can_start(&self, host: HostId, kind: WorkspaceKind) -> bool {
        self.capabilities.get(&host).is_none_or(|offers| offers.kinds.contains(&kind))
    }

    /// Whether a host's agent has this service for this kind.
    fn has_service(&self, host: HostId, service: &str, kind: WorkspaceKind) -> bool {
        let has = |offers: &Arc<HostCapabilities>| {
            offers.service_kinds.contains(&kind)
                && offers.services.iter().any(|(name, _)| name == service)
        };
        self.capabilities.get(&host).is_none_or(has)
    }
}

impl AvailableHosts {
    pub(in crate::broker) fn load(
        tx: &mut Tx<'_>,
        organization: OrganizationId,
        reachable: &FleetSnapshot,
    ) -> Result<Self> {
        let connected: HashSet<HostId> = reachable.connected.iter().copied().collect();
        let mut hosts =
            if connected.is_empty() { Vec::new() } else { tx.host_kinds(organization)? };
        hosts.retain(|(id, _)| connected.contains(id));
        let of = |kind| hosts.iter().filter(|host| host.1 == kind).map(|host| host.0).collect();
        Ok(Self {
            agents: of(HostKind::Agent),
            peers: of(HostKind::Peer),
            fleet: reachable.clone(),
        })
    }

    /// Whether a host or target for the workspace is available now.
    pub(in crate::broker) fn can_run(&self, workspace: &Workspace) -> bool {
        if workspace.kind().protocol() == StreamProtocol::Http && !self.fleet.web_applications {
            return false;
        }
        match workspace.driver().target() {
            None => self.agents.iter().any(|host| self.fleet.can_start(*host, workspace.kind())),
            Some(TargetSpec::Service { host_id, name }) => {
                self.agents.contains(host_id)
                    && self.fleet.has_service(*host_id, name, workspace.kind())
            }
            Some(TargetSpec::Host { host_id, .. }) => self.peers.contains(host_id),
            Some(TargetSpec::Direct { name }) => self.fleet.direct.contains(name),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::broker) struct Placement {
    /// `None` for a direct target.
    pub(in crate::broker) host_id: Option<HostId>,
    pub(in crate::broker) way: SessionRoute,
    pub(in crate::broker) address: IpAddr,
}

/// The reason for the audit log, and the error for the user.
pub(in crate::broker) type PlacementFailure = (Reason, Error);

/// Owner of the session to place, and the network that gives its address.
pub(in crate::broker) struct PlacementRequest {
    pub(in crate::broker) principal: PrincipalId,
    pub(in crate::broker) organization: OrganizationId,
    pub(in crate::broker) network: (Ipv4Addr, u8),
    pub(in crate::broker) seed: u64,
}

impl AuditedTx<'_, '_> {
    pub(in crate::broker) fn choose_placement(
        &mut self,
        workspace: &Workspace,
        request: &PlacementRequest,
        reachable: &FleetSnapshot,
    ) -> Result<std::result::Result<Placement, PlacementFailure>> {
        let none = |reason: Reason, sentence: &str| Ok(Err((reason, Error::unavailable(sentence))));
        if workspace.kind().protocol() == StreamProtocol::Http && !reachable.web_applications {
            return none(Reason::NoAppsDomain, NO_APPS_DOMAIN);
        }
        match workspace.driver().target() {
            None => match self.choose_agent(request, workspace.kind(), reachable)? {
                Some(host_id) if reachable.can_start(host_id, workspace.kind()) => {
                    let address = self.free_session_address(request.network, request.seed)?;
                    let way = SessionRoute::OwnTunnel;
                    Ok(Ok(Placement { host_id: Some(host_id), way, address }))
                }
                Some(_) => none(
                    Reason::KindNotOffered,
                    "No connected workspace host can start a desktop of this type. Tell your administrator.",
                ),
                None => none(
                    Reason::NoHost,
                    "No workspace host is connected right now. Try again in a moment, or tell your administrator.",
                ),
            },
            Some(TargetSpec::Service { host_id, name }) => {
                match self.host_of_kind(*host_id, HostKind::Agent, request.organization)? {
                    Some(host)
                        if reachable.connected.contains(&host.id)
                            && !reachable.has_service(host.id, name, workspace.kind()) =>
                    {
                        none(Reason::ServiceNotOffered, SERVICE_NOT_OFFERED)
                    }
                    Some(host) if reachable.connected.contains(&host.id) => {
                        let address = self.free_session_address(request.network, request.seed)?;
                        Ok(Ok(Placement {
                            host_id: Some(host.id),
                            way: SessionRoute::OwnTunnel,
                            address,
                        }))
                    }
                    Some(_) => none(Reason::HostNotConnected, HOST_NOT_CONNECTED),
                    None => none(Reason::NoHost, HOST_REMOVED),
                }
            }
            Some(TargetSpec::Host { host_id, .. }) => {
                match self.host_of_kind(*host_id, HostKind::Peer, request.organization)? {
                    Some(host) if reachable.connected.contains(&host.id) => Ok(Ok(Placement {
                        host_id: Some(host.id),
                        way: SessionRoute::HostTunnel,
                        address: host.address,
                    })),
                    Some(_) => none(Reason::HostNotConnected, HOST_NOT_CONNECTED),
                    None => none(Reason::NoHost, HOST_REMOVED),
                }
            }
            Some(TargetSpec::Direct { name }) => match &reachable.resolved {
                Some((located, address)) if located == name && reachable.direct.contains(name) => {
                    Ok(Ok(Placement {
                        host_id: None,
                        way: SessionRoute::Direct(name.clone()),
                        address: *address,
                    }))
                }
                _ => none(
                    Reason::TargetNotAllowed,
                    "The gateway's configuration does not allow this workspace's target, or it cannot be found. Tell your administrator.",
                ),
            },
        }
    }

    fn host_of_kind(
        &mut self,
        id: HostId,
        kind: HostKind,
        organization: OrganizationId,
    ) -> Result<Option<Host>> {
        Ok(self.host(id)?.filter(|host| host.organization_id == organization && host.kind == kind))
    }

    /// The connected agent with the fewest live sessions, preferring those that can start this
    /// kind; among equals the one this user used last.
    fn choose_agent(
        &mut self,
        request: &PlacementRequest,
        kind: WorkspaceKind,
        reachable: &FleetSnapshot,
    ) -> Result<Option<HostId>> {
        let hosts = self.host_kinds(request.organization)?;
        let counts = self.live_session_counts(request.organization)?;
        let user = request.principal.user_id();
        let last = user.map(|user| self.last_host_of(user)).transpose()?.flatten();
        let load = |id: HostId| counts.get(&id).copied().unwrap_or(0);
        let up: HashSet<HostId> = reachable.connected.iter().copied().collect();
        let agents = hosts.into_iter().filter(|(_, kind)| *kind == HostKind::Agent);
        Ok(agents
            .map(|(id, _)| id)
            .filter(|id| up.contains(id))
            .min_by_key(|id| (!reachable.can_start(*id, kind), load(*id), Some(*id) != last, *id)))
    }

    /// Rejects a target that does not exist or belongs to another organization.
    pub(in crate::broker) fn check_target(
        &mut self,
        target: Option<&TargetSpec>,
        organization: OrganizationId,
    ) -> Result<std::result::Result<(), Error>> {
        let (host_id, wanted) = match target {
            None | Some(TargetSpec::Direct { .. }) => return Ok(Ok(())),
            Some(TargetSpec::Host { host_id, .. }) => (*host_id, HostKind::Peer),
            Some(TargetSpec::Service { host_id, .. }) => (*host_id, HostKind::Agent),
        };
        let host = self.host(host_id)?.filter(|host| host.organization_id == organization);
        Ok(match (host.map(|host| host.kind), wanted) {
            (Some(HostKind::Peer), HostKind::Peer) | (Some(HostKind::Agent), HostKind::Agent) => {
                Ok(())
            }
            (Some(HostKind::Agent), HostKind::Peer) => Err(Error::invalid(
                "target.host_id names a host with an agent, which gives no ports; name one of its services, or a standard peer.",
            )),
            (Some(HostKind::Peer), HostKind::Agent) => Err(Error::invalid(
                "target.host_id names a standard peer, which has ports and no services; name a port, or a host with an agent.",
            )),
            (None, _) => Err(Error::invalid("target.host_id names no host of yours.")),
        })
    }
}

#[derive(Clone)]
pub struct Placements {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) web_applications: bool,
}

impl Placements {
    pub(in crate::broker) fn snapshot(&self) -> FleetSnapshot {
        let fleet = &self.fleet;
        let connected = fleet.connected();
        let offers =
            connected.iter().filter_map(|host| Some((*host, fleet.capabilities(*host)?))).collect();
        FleetSnapshot {
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
