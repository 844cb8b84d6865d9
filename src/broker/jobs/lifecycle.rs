//! Start and stop of the gateway, and its background jobs.

use crate::broker::Broker;
use crate::broker::core::text::json_int;
use crate::broker::hosts::enroll;
use crate::broker::model::TunnelReport;
use crate::broker::ports::host_fleet::{HostPeer, SessionPeer};
use crate::broker::sessions::launch;
use crate::domain::audit::Action;
use crate::domain::host::Host;
use crate::domain::session::{Session, State};
use crate::domain::user::RequestSource;
use crate::domain::{Error, HostId, Result, Timestamp};
use crate::store::LeaseRow;
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::sync::watch;

/// State the reconciler keeps between passes.
pub(in crate::broker) struct ReconcilerState {
    pub(in crate::broker) hosts: Mutex<HashMap<HostId, HostObservation>>,
    /// Start of this process: no host counts as lost for longer.
    pub(in crate::broker) started: Timestamp,
    pub(in crate::broker) purged: Mutex<Timestamp>,
}

impl ReconcilerState {
    pub(in crate::broker) fn new(started: Timestamp) -> Self {
        Self { hosts: Mutex::default(), started, purged: Mutex::new(started) }
    }
}

/// Last observed state of a host.
#[derive(Clone, Debug)]
pub(in crate::broker) struct HostObservation {
    pub(in crate::broker) connected: bool,
    /// Since when `connected` has its value.
    pub(in crate::broker) since: Timestamp,
    /// When `last_seen_at` was last stored, and with which report.
    pub(in crate::broker) stored: Option<(Timestamp, TunnelReport)>,
}

impl Broker {
    /// Restores the tunnels of stored hosts and live sessions and audits `gateway_start`. Called
    /// once, before serving.
    ///
    /// # Errors
    /// When the store cannot be read or written, or its keys do not open under this master key. One
    /// host or session that cannot be restored is logged and left to the reaper.
    pub async fn start(&self, origin: &RequestSource) -> Result<()> {
        self.keys().await?;
        self.store_identity().await?;
        let (hosts, sessions) = self
            .inner
            .store
            .read(|tx| {
                let mut sessions = Vec::new();
                for session in tx.live_sessions(None)? {
                    let lease = tx.session_lease(session.id)?;
                    sessions.push((session, lease));
                }
                Ok((tx.hosts(None)?, sessions))
            })
            .await?;
        let (host_count, mut restored) = (hosts.len(), 0_u64);
        for (host, sealed) in &hosts {
            self.open_host_tunnel(host, sealed);
        }
        for (session, lease) in sessions {
            // A launch in progress died with its process: it is not tracked, so the reconciler
            // closes it at once.
            if !matches!(session.state, State::Queued | State::Creating) {
                self.streams().track(session.id);
            }
            if session.state == State::Active {
                match self.restore_tunnel(&session, lease) {
                    Ok(()) => restored += 1,
                    Err(error) => {
                        tracing::error!(session = %session.id, cause = ?error.source, "a session's tunnel could not be restored")
                    }
                }
            }
        }
        let note =
            self.audit_entry(origin, Action::GatewayStart).by_system().on_named("gateway", None);
        let note = note
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("hosts", host_count)
            .with("sessions", json_int(restored));
        self.write_entry(note).await
    }

    /// Opens a stored host's tunnel. A failure is logged; the reconciler retries.
    pub(in crate::broker) fn open_host_tunnel(&self, host: &Host, sealed: &str) {
        let opened = self.inner.vault.unseal(&enroll::psk_purpose(host.id), sealed);
        let peer = opened.map(|preshared_key| HostPeer { host: host.clone(), preshared_key });
        if let Err(error) =
            peer.and_then(|peer| self.inner.fleet.add_host(peer).map_err(Error::internal))
        {
            tracing::error!(host = %host.id, cause = ?error.source, "a host's tunnel could not be opened");
        }
    }

    fn restore_tunnel(&self, session: &Session, lease: Option<LeaseRow>) -> Result<()> {
        let lease = lease.ok_or_else(|| Error::internal("an active session without a lease"))?;
        let preshared_key =
            self.inner.vault.unseal(&launch::psk_purpose(session.id), &lease.psk_sealed)?;
        let peer = SessionPeer {
            session_id: session.id,
            host_id: session.host_id,
            way: session.route.clone(),
            address: session.address,
            peer_public_key: lease.peer_public_key,
            preshared_key,
        };
        self.inner.fleet.restore(peer).map_err(Error::internal)
    }

    /// Runs the reconciler and the change watcher until `stop` becomes true.
    pub async fn maintain(&self, stop: watch::Receiver<bool>) {
        let mut ended = stop.clone();
        let work = async { tokio::join!(self.run_change_watcher(), self.run_reconciler()) };
        tokio::select! {
            _ = ended.wait_for(|stop| *stop) => {}
            _ = work => {}
        }
    }

    /// Audits `gateway_stop`. Desktops keep running.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn stop(&self, origin: &RequestSource) -> Result<()> {
        let note =
            self.audit_entry(origin, Action::GatewayStop).by_system().on_named("gateway", None);
        let note = note
            .with("sessions", self.streams().tracked_count())
            .with("streams", self.streams().stream_count());
        self.write_entry(note).await
    }
}
