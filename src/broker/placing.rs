//! Where a workspace can run now: on which host, which way, at which address.
//!
//! - A **desktop** (no target) runs on any connected host with an agent, in a tunnel of its own.
//! - A **service** is where its workspace says: one host with an agent, in a tunnel of its own,
//!   like a desktop.
//! - A **server on a host** is where its workspace says: one standard peer, reached through that
//!   peer's tunnel.
//! - A **direct target** is reached through no tunnel, and only when the configuration allows its
//!   name.

use super::Broker;
use super::fleet::HostCapabilities;
use super::record::AuditedTx;
use crate::domain::host::{Host, HostKind};
use crate::domain::route::{SessionRoute, TargetSpec};
use crate::domain::workspace::{Workspace, WorkspaceKind};
use crate::domain::{Error, HostId, OrganizationId, Result, UserId, WorkspaceId};
use crate::store::Tx;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use uuid::Uuid;

/// The host of a session that is on none: a direct target.
pub(super) const NO_HOST: HostId = HostId(Uuid::nil());

/// What its user reads when the one host a workspace can be on is away, or removed.
const HOST_NOT_CONNECTED: &str =
    "The host of this workspace is not connected right now. Try again in a moment.";
const SERVICE_NOT_OFFERED: &str = "The host of this workspace does not offer its service: its agent was not given one of this name, or is too old for this \
    type of workspace. Tell your administrator.";
const NO_APPS_DOMAIN: &str = "This gateway has no domain for web applications, so none can be opened. Tell your administrator: apps.domain must be set.";
const HOST_REMOVED: &str = "The host of this workspace is gone. Tell your administrator.";

/// What could be reached when somebody asked: taken before a transaction, used in it.
#[derive(Clone, Debug)]
pub(super) struct FleetSnapshot {
    pub(super) connected: Vec<HostId>,
    pub(super) direct: Vec<String>,
    /// The gateway has a domain for web applications.
    pub(super) web_applications: bool,
    /// What the connected agents offer, as far as they have said.
    pub(super) capabilities: HashMap<HostId, Arc<HostCapabilities>>,
    /// A direct target that was looked up: its name and where it is.
    pub(super) resolved: Option<(String, IpAddr)>,
}

/// What can run workspaces of one organization now.
#[derive(Debug)]
pub(super) struct AvailableHosts {
    agents: HashSet<HostId>,
    peers: HashSet<HostId>,
    fleet: FleetSnapshot,
}

impl FleetSnapshot {
    /// Whether a host's agent starts desktops of this kind; one that has not said yet is believed
    /// to, and says so itself when asked.
    fn can_start(&self, host: HostId, kind: WorkspaceKind) -> bool {
        self.capabilities.get(&host).is_none_or(|offers| offers.kinds.contains(&kind))
    }

    /// Whether a host's agent has this service, for this kind.
    fn has_service(&self, host: HostId, service: &str, kind: WorkspaceKind) -> bool {
        let has = |offers: &Arc<HostCapabilities>| {
            offers.service_kinds.contains(&kind)
                && offers.services.iter().any(|(name, _)| name == service)
        };
        self.capabilities.get(&host).is_none_or(has)
    }
}

impl AvailableHosts {
    pub(super) fn load(
        tx: &mut Tx<'_>,
        organization: OrganizationId,
        reachable: &FleetSnapshot,
    ) -> Result<Self> {
        let hosts =
            if reachable.connected.is_empty() { Vec::new() } else { tx.hosts(Some(organization))? };
        let up = || {
            hosts.iter().map(|(host, _)| host).filter(|host| reachable.connected.contains(&host.id))
        };
        Ok(Self {
            agents: up().filter(|host| host.kind == HostKind::Agent).map(|host| host.id).collect(),
            peers: up().filter(|host| host.kind == HostKind::Peer).map(|host| host.id).collect(),
            fleet: reachable.clone(),
        })
    }

    /// Whether the workspace could be launched now, as far as hosts go.
    pub(super) fn can_run(&self, workspace: &Workspace) -> bool {
        if workspace.kind == WorkspaceKind::Html5 && !self.fleet.web_applications {
            return false;
        }
        match &workspace.target {
            None => self.agents.iter().any(|host| self.fleet.can_start(*host, workspace.kind)),
            Some(TargetSpec::Service { host_id, name }) => {
                self.agents.contains(host_id)
                    && self.fleet.has_service(*host_id, name, workspace.kind)
            }
            Some(TargetSpec::Host { host_id, .. }) => self.peers.contains(host_id),
            Some(TargetSpec::Direct { name }) => self.fleet.direct.contains(name),
        }
    }
}

/// Where a session will be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Placement {
    pub(super) host_id: HostId,
    pub(super) way: SessionRoute,
    pub(super) address: IpAddr,
}

/// Why there is no place: the word for the log, and what its user reads.
pub(super) type PlacementFailure = (&'static str, Error);

/// Who wants a place, and from where addresses are given.
pub(super) struct PlacementRequest {
    pub(super) user: UserId,
    pub(super) organization: OrganizationId,
    pub(super) network: (Ipv4Addr, u8),
    pub(super) seed: u64,
}

impl AuditedTx<'_, '_> {
    /// A place for a session of this workspace.
    pub(super) fn choose_placement(
        &mut self,
        workspace: &Workspace,
        seeker: &PlacementRequest,
        reachable: &FleetSnapshot,
    ) -> Result<std::result::Result<Placement, PlacementFailure>> {
        let none = |word, sentence: &str| Ok(Err((word, Error::unavailable(sentence))));
        if workspace.kind == WorkspaceKind::Html5 && !reachable.web_applications {
            return none("no_apps_domain", NO_APPS_DOMAIN);
        }
        match &workspace.target {
            None => match self.choose_agent(seeker, workspace.kind, reachable)? {
                Some(host_id) if reachable.can_start(host_id, workspace.kind) => {
                    let address = self.free_session_address(seeker.network, seeker.seed)?;
                    Ok(Ok(Placement { host_id, way: SessionRoute::OwnTunnel, address }))
                }
                Some(_) => none(
                    "kind_not_offered",
                    "No connected workspace host can start a desktop of this type. Tell your administrator.",
                ),
                None => none(
                    "no_host",
                    "No workspace host is connected right now. Try again in a moment, or tell your administrator.",
                ),
            },
            Some(TargetSpec::Service { host_id, name }) => {
                match self.host_of_kind(*host_id, HostKind::Agent, seeker.organization)? {
                    Some(host)
                        if reachable.connected.contains(&host.id)
                            && !reachable.has_service(host.id, name, workspace.kind) =>
                    {
                        none("service_not_offered", SERVICE_NOT_OFFERED)
                    }
                    Some(host) if reachable.connected.contains(&host.id) => {
                        let address = self.free_session_address(seeker.network, seeker.seed)?;
                        Ok(Ok(Placement {
                            host_id: host.id,
                            way: SessionRoute::OwnTunnel,
                            address,
                        }))
                    }
                    Some(_) => none("host_not_connected", HOST_NOT_CONNECTED),
                    None => none("no_host", HOST_REMOVED),
                }
            }
            Some(TargetSpec::Host { host_id, .. }) => {
                match self.host_of_kind(*host_id, HostKind::Peer, seeker.organization)? {
                    Some(host) if reachable.connected.contains(&host.id) => Ok(Ok(Placement {
                        host_id: host.id,
                        way: SessionRoute::HostTunnel,
                        address: host.address,
                    })),
                    Some(_) => none("host_not_connected", HOST_NOT_CONNECTED),
                    None => none("no_host", HOST_REMOVED),
                }
            }
            Some(TargetSpec::Direct { name }) => match &reachable.resolved {
                Some((located, address)) if located == name && reachable.direct.contains(name) => {
                    Ok(Ok(Placement {
                        host_id: NO_HOST,
                        way: SessionRoute::Direct(name.clone()),
                        address: *address,
                    }))
                }
                _ => none(
                    "target_not_allowed",
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

    /// The connected agent of the organization that starts this kind, if any does, with the fewest
    /// live sessions; among equals the one this user was on last.
    fn choose_agent(
        &mut self,
        seeker: &PlacementRequest,
        kind: WorkspaceKind,
        reachable: &FleetSnapshot,
    ) -> Result<Option<HostId>> {
        let hosts = self.hosts(Some(seeker.organization))?;
        let live = self.live_sessions(Some(seeker.organization))?;
        let last = self.sessions_page(seeker.user, None, None, 1)?.first().map(|s| s.host_id);
        let load = |id: HostId| live.iter().filter(|s| s.host_id == id).count();
        let agents = hosts
            .iter()
            .map(|(host, _)| host)
            .filter(|host| host.kind == HostKind::Agent)
            .map(|host| host.id);
        let connected = agents.filter(|id| reachable.connected.contains(id));
        Ok(connected
            .min_by_key(|id| (!reachable.can_start(*id, kind), load(*id), Some(*id) != last, *id)))
    }

    /// Refuses a target that is not there, or not the organization's.
    pub(super) fn check_target(
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

impl Broker {
    /// What can be reached at this moment.
    pub(super) fn fleet_snapshot(&self) -> FleetSnapshot {
        let fleet = &self.inner.fleet;
        let connected = fleet.connected();
        let offers =
            connected.iter().filter_map(|host| Some((*host, fleet.capabilities(*host)?))).collect();
        FleetSnapshot {
            connected,
            direct: fleet.direct_targets(),
            web_applications: self.inner.settings.web_applications,
            capabilities: offers,
            resolved: None,
        }
    }

    /// The same, with the direct target of this workspace looked up when it has one.
    pub(super) async fn fleet_snapshot_for(&self, id: &WorkspaceId) -> Result<FleetSnapshot> {
        let mut reachable = self.fleet_snapshot();
        if reachable.direct.is_empty() {
            return Ok(reachable);
        }
        let wanted = id.clone();
        let found = self.inner.store.read(move |tx| tx.workspace(&wanted)).await?;
        if let Some(TargetSpec::Direct { name }) = found.and_then(|workspace| workspace.target) {
            match self.inner.fleet.resolve_target(&name).await {
                Ok(address) => reachable.resolved = Some((name, address)),
                Err(error) => {
                    tracing::warn!(target_name = name, %error, "a direct target was not found")
                }
            }
        }
        Ok(reachable)
    }
}
