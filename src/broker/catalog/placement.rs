//! Placement: the host, route and address of a session.
//!
//! - A **desktop** (no target) runs on any connected host with an agent that has a slot for it, in
//!   the session's own tunnel: hosts that failed recently come last, then the fullest.
//! - A **service** runs on the one host with an agent that the workspace names, in the session's
//!   own tunnel.
//! - A **port of a host** belongs to the one standard peer that the workspace names, through that
//!   peer's tunnel.
//! - A **direct target** is reached without a tunnel, and only if the configuration allows its
//!   name.

use crate::broker::catalog::fleet_snapshot::FleetSnapshot;
use crate::broker::core::session_tracker::{SessionTracker, SlotKind, TrackedSession};
use crate::broker::core::unit_of_work::AuditedTx;
use crate::domain::audit::Reason;
use crate::domain::host::{Host, HostKind};
use crate::domain::principal::PrincipalId;
use crate::domain::route::{SessionRoute, TargetSpec};
use crate::domain::upstream::StreamProtocol;
use crate::domain::workspace::Workspace;
use crate::domain::{Error, HostId, OrganizationId, Result, SessionId};
use crate::store::Tx;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

/// Text for the user when the only possible host is away or removed.
const HOST_NOT_CONNECTED: &str =
    "The host of this workspace is not connected right now. Try again in a moment.";
const SERVICE_NOT_OFFERED: &str = "The host of this workspace does not offer its service: its agent was not given one of this name, or is too old for this \
    type of workspace. Tell your administrator.";
const NO_APPS_DOMAIN: &str = "This gateway has no domain for web applications, so none can be opened. Tell your administrator: apps.domain must be set.";
const HOST_DRAINED: &str = "The host of this workspace takes no new sessions right now: it is being emptied for maintenance. Try again later.";
const HOST_FULL: &str = "The host of this workspace is full right now. Try again when somebody has finished, or tell your administrator.";
const HOST_REMOVED: &str = "The host of this workspace is gone. Tell your administrator.";

/// Connected hosts of one organization that take new sessions.
#[derive(Debug)]
pub(in crate::broker) struct AvailableHosts {
    agents: HashSet<HostId>,
    peers: HashSet<HostId>,
    fleet: FleetSnapshot,
}

impl AvailableHosts {
    pub(in crate::broker) fn load(
        tx: &mut Tx<'_>,
        organization: OrganizationId,
        reachable: &FleetSnapshot,
    ) -> Result<Self> {
        let connected: HashSet<HostId> = reachable.connected.iter().copied().collect();
        let mut hosts =
            if connected.is_empty() { Vec::new() } else { tx.placement_hosts(organization)? };
        hosts.retain(|host| connected.contains(&host.id) && !host.is_drained);
        let of = |kind| hosts.iter().filter(|host| host.kind == kind).map(|host| host.id).collect();
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
    /// Other hosts that could take the session.
    pub(in crate::broker) others: usize,
}

/// The slot on its host's agent that a session takes.
pub(in crate::broker) fn slot_of(
    route: &SessionRoute,
    workspace: Option<&Workspace>,
) -> Option<SlotKind> {
    match (route, workspace.and_then(|workspace| workspace.driver().target())) {
        (SessionRoute::HostTunnel | SessionRoute::Direct(_), _) => None,
        (SessionRoute::OwnTunnel, Some(_)) => Some(SlotKind::Service),
        (SessionRoute::OwnTunnel, None) => Some(SlotKind::Desktop),
    }
}

/// The reason for the audit log, and the error for the user.
pub(in crate::broker) type PlacementFailure = (Reason, Error);

/// The session to place, its owner, and the network that gives its address.
pub(in crate::broker) struct PlacementRequest<'a> {
    pub(in crate::broker) session_id: SessionId,
    /// Takes the slot on the host that is chosen.
    pub(in crate::broker) tracker: &'a SessionTracker,
    /// Hosts that this launch tried already.
    pub(in crate::broker) tried: &'a [HostId],
    pub(in crate::broker) principal: PrincipalId,
    pub(in crate::broker) organization: OrganizationId,
    pub(in crate::broker) network: (Ipv4Addr, u8),
}

impl PlacementRequest<'_> {
    /// Takes a slot on a host, unless all are taken.
    fn take(
        &self,
        host: HostId,
        slot: SlotKind,
        limit: Option<usize>,
        workspace: &Workspace,
    ) -> bool {
        let session = TrackedSession {
            host_id: Some(host),
            slot: Some(slot),
            is_active: false,
            single_seat: workspace.single_seat,
            limits: workspace.session_limits,
        };
        self.tracker.try_track(self.session_id, session, limit)
    }

    fn seed(&self) -> u64 {
        self.session_id.0.as_u64_pair().0
    }
}

impl AuditedTx<'_, '_> {
    pub(in crate::broker) fn choose_placement(
        &mut self,
        workspace: &Workspace,
        request: &PlacementRequest<'_>,
        reachable: &FleetSnapshot,
    ) -> Result<std::result::Result<Placement, PlacementFailure>> {
        let none = |reason: Reason, sentence: &str| Ok(Err((reason, Error::unavailable(sentence))));
        if workspace.kind().protocol() == StreamProtocol::Http && !reachable.web_applications {
            return none(Reason::NoAppsDomain, NO_APPS_DOMAIN);
        }
        match workspace.driver().target() {
            None => match self.choose_agent(request, workspace, reachable)? {
                Ok((host_id, others)) => {
                    let address = self.free_session_address(request.network, request.seed())?;
                    let way = SessionRoute::OwnTunnel;
                    Ok(Ok(Placement { host_id: Some(host_id), way, address, others }))
                }
                Err(none) => Ok(Err(none.failure())),
            },
            Some(TargetSpec::Service { host_id, name }) => {
                match self.host_of_kind(*host_id, HostKind::Agent, request.organization)? {
                    Some(host)
                        if reachable.connected.contains(&host.id)
                            && !reachable.has_service(host.id, name, workspace.kind()) =>
                    {
                        none(Reason::ServiceNotOffered, SERVICE_NOT_OFFERED)
                    }
                    Some(host) if host.drained_at.is_some() => {
                        none(Reason::HostDrained, HOST_DRAINED)
                    }
                    Some(host) if reachable.connected.contains(&host.id) => {
                        let limit = reachable.slots(host.id, SlotKind::Service);
                        if !request.take(host.id, SlotKind::Service, limit, workspace) {
                            return none(Reason::HostFull, HOST_FULL);
                        }
                        let address = self.free_session_address(request.network, request.seed())?;
                        Ok(Ok(Placement {
                            host_id: Some(host.id),
                            way: SessionRoute::OwnTunnel,
                            address,
                            others: 0,
                        }))
                    }
                    Some(_) => none(Reason::HostNotConnected, HOST_NOT_CONNECTED),
                    None => none(Reason::NoHost, HOST_REMOVED),
                }
            }
            Some(TargetSpec::Host { host_id, .. }) => {
                match self.host_of_kind(*host_id, HostKind::Peer, request.organization)? {
                    Some(host) if host.drained_at.is_some() => {
                        none(Reason::HostDrained, HOST_DRAINED)
                    }
                    Some(host) if reachable.connected.contains(&host.id) => Ok(Ok(Placement {
                        host_id: Some(host.id),
                        way: SessionRoute::HostTunnel,
                        address: host.address,
                        others: 0,
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
                        others: 0,
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

    /// Takes a slot on the best connected agent: one without recent failures, with the fewest
    /// sessions; among equals the one this user used last. Returns how many others there are.
    fn choose_agent(
        &mut self,
        request: &PlacementRequest<'_>,
        workspace: &Workspace,
        reachable: &FleetSnapshot,
    ) -> Result<std::result::Result<(HostId, usize), NoAgent>> {
        let connected: HashSet<HostId> = reachable.connected.iter().copied().collect();
        let mut agents = self.placement_hosts(request.organization)?;
        agents.retain(|host| {
            host.kind == HostKind::Agent
                && connected.contains(&host.id)
                && !request.tried.contains(&host.id)
        });
        if agents.is_empty() {
            return Ok(Err(NoAgent::NotConnected));
        }
        agents.retain(|host| !host.is_drained);
        if agents.is_empty() {
            return Ok(Err(NoAgent::Drained));
        }
        agents.retain(|host| reachable.can_start(host.id, workspace.kind()));
        if agents.is_empty() {
            return Ok(Err(NoAgent::KindNotOffered));
        }
        let user = request.principal.user_id();
        let last = user.map(|user| self.last_host_of(user)).transpose()?.flatten();
        agents.sort_by_cached_key(|host| {
            let penalty = reachable.penalties.get(&host.id).copied().unwrap_or(0);
            let used = request.tracker.used_slots(host.id);
            (penalty, used.desktops + used.services, Some(host.id) != last, host.id)
        });
        let chosen = agents.iter().find(|host| {
            let limit = reachable.slots(host.id, SlotKind::Desktop);
            request.take(host.id, SlotKind::Desktop, limit, workspace)
        });
        Ok(chosen.map(|host| (host.id, agents.len() - 1)).ok_or(NoAgent::Full))
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

/// Why no agent can take a desktop.
enum NoAgent {
    NotConnected,
    Drained,
    KindNotOffered,
    Full,
}

impl NoAgent {
    fn failure(&self) -> PlacementFailure {
        let (reason, sentence) = match self {
            Self::NotConnected => (
                Reason::NoHost,
                "No workspace host is connected right now. Try again in a moment, or tell your administrator.",
            ),
            Self::Drained => (
                Reason::HostDrained,
                "The workspace hosts take no new sessions right now: they are being emptied for maintenance. Try again later.",
            ),
            Self::KindNotOffered => (
                Reason::KindNotOffered,
                "No connected workspace host can start a desktop of this type. Tell your administrator.",
            ),
            Self::Full => (
                Reason::HostFull,
                "Every workspace host is full right now. Try again when somebody has finished, or tell your administrator.",
            ),
        };
        (reason, Error::unavailable(sentence))
    }
}
