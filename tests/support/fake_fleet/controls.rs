//! What a test makes a fake fleet do, and what it saw.

use super::{FakeFleet, FleetState, Plan};
use portcullis::broker::model::HostCapabilities;
use portcullis::broker::ports::host_fleet::ProbeFailure;
use portcullis::domain::upstream::Fingerprint;
use portcullis::domain::{HostId, SessionId};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

impl FakeFleet {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, FleetState> {
        self.inside.lock().unwrap()
    }

    /// The UDP address at which the gateway listens.
    pub fn listen_at(&self, own: SocketAddr) {
        self.state().listens_at = Some(own);
    }

    /// A host's tunnel comes up.
    pub fn connect(&self, host: HostId) {
        self.state().hosts.insert(host, true);
        self.changed.send_modify(|n| *n += 1);
    }

    /// A host's tunnel goes down.
    pub fn disconnect(&self, host: HostId) {
        self.state().hosts.insert(host, false);
        self.changed.send_modify(|n| *n += 1);
    }

    /// The result of further starts.
    pub fn plan_start(&self, plan: Plan) {
        self.state().start = plan;
    }

    /// The result of further stops.
    pub fn plan_stop(&self, plan: Plan) {
        self.state().stop = plan;
    }

    /// Releases `n` starts that wait at the gate.
    pub fn open_gate(&self, n: usize) {
        self.gate.add_permits(n);
    }

    /// Resolves when `n` starts in all have begun.
    pub async fn wait_for_starts(&self, n: u64) {
        self.begun.subscribe().wait_for(|begun| *begun >= n).await.unwrap();
    }

    /// A desktop ends on its host.
    pub fn lose_desktop(&self, session: SessionId) {
        for desktops in self.state().desktops.values_mut() {
            desktops.remove(&session);
        }
    }

    /// A desktop without a lease.
    pub fn add_desktop(&self, host: HostId, session: SessionId) {
        self.state().desktops.entry(host).or_default().insert(session);
    }

    /// Copies another fleet's desktops, as hosts keep theirs when a gateway restarts.
    pub fn copy_desktops_from(&self, other: &Self) {
        self.state().desktops = other.state().desktops.clone();
    }

    pub fn desktops(&self, host: HostId) -> HashSet<SessionId> {
        self.state().desktops.get(&host).cloned().unwrap_or_default()
    }

    pub fn has_tunnel(&self, session: SessionId) -> bool {
        self.state().tunnels.contains_key(&session)
    }

    pub fn tunnel_key(&self, session: SessionId) -> Option<Vec<u8>> {
        self.state().tunnels.get(&session).cloned()
    }

    pub fn host_key(&self, host: HostId) -> Option<Vec<u8>> {
        self.state().host_keys.get(&host).cloned()
    }

    pub fn started(&self) -> Vec<SessionId> {
        self.state().started.clone()
    }

    pub fn stopped(&self) -> Vec<SessionId> {
        self.state().stopped.clone()
    }

    pub fn was_cut(&self, session: SessionId) -> bool {
        self.state().cut.contains(&session)
    }

    /// The certificate of RDP desktops started from now on.
    pub fn set_certificate(&self, certificate: Option<Fingerprint>) {
        self.state().certificate = certificate;
    }

    /// The endpoint requested for a session: a port, or the name of a service.
    pub fn wanted(&self, session: SessionId) -> Option<String> {
        self.state().wanted.get(&session).cloned()
    }

    /// Adds a direct target to the configuration.
    pub fn allow_direct(&self, name: &str, address: &str) {
        self.state().direct.insert(name.to_owned(), address.parse().unwrap());
    }

    /// Sets the offers of a host's agent.
    pub fn set_offers(&self, host: HostId, offers: HostCapabilities) {
        self.state().offers.insert(host, Arc::new(offers));
        self.changed.send_modify(|n| *n += 1);
    }

    /// The result of further probes of web applications; `None`: they answer.
    pub fn plan_probe(&self, how: Option<ProbeFailure>) {
        self.state().unanswered = how;
    }

    /// The certificate pinned for a session's application.
    pub fn pin_of(&self, session: SessionId) -> Option<Fingerprint> {
        self.state().pins.get(&session).copied().flatten()
    }

    pub fn restored(&self) -> Vec<SessionId> {
        self.state().restored.clone()
    }

    /// The result of further starts on one host.
    pub fn plan_start_on(&self, host: HostId, plan: Plan) {
        self.state().start_on.insert(host, plan);
    }

    /// The result of further stops on one host.
    pub fn plan_stop_on(&self, host: HostId, plan: Plan) {
        self.state().stop_on.insert(host, plan);
    }

    /// How often a host was asked to stop a desktop.
    pub fn stops_asked(&self, host: HostId) -> usize {
        self.state().stops_asked.get(&host).copied().unwrap_or(0)
    }

    /// How long a host's agent says it has been running.
    pub fn set_uptime(&self, host: HostId, uptime: Duration) {
        self.state().uptimes.insert(host, uptime);
    }

    /// How often a host was asked to start a desktop.
    pub fn starts_asked(&self, host: HostId) -> usize {
        self.state().starts_asked.get(&host).copied().unwrap_or(0)
    }

    pub(super) fn start_plan(&self, host: Option<HostId>) -> Plan {
        let mut inside = self.state();
        if let Some(host) = host {
            *inside.starts_asked.entry(host).or_default() += 1;
        }
        host.and_then(|host| inside.start_on.get(&host).copied()).unwrap_or(inside.start)
    }

    pub(super) fn stop_plan(&self, host: Option<HostId>) -> Plan {
        let mut inside = self.state();
        let Some(host) = host else { return inside.stop };
        *inside.stops_asked.entry(host).or_default() += 1;
        inside.stop_on.get(&host).copied().unwrap_or(inside.stop)
    }
}
