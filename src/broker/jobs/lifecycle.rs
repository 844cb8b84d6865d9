//! Start and stop of the gateway, and its background jobs.

use crate::broker::catalog::placement::slot_of;
use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::session_tracker::{SessionTracker, TrackedSession};
use crate::broker::core::signing_keys::SigningKeys;
use crate::broker::core::stream_registry::StreamRegistry;
use crate::broker::core::text::json_int;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::hosts::gateway_identity::GatewayIdentityStore;
use crate::broker::jobs::change_watcher::ChangeWatcher;
use crate::broker::jobs::purge::Purge;
use crate::broker::jobs::reconciler::Reconciler;
use crate::broker::ports::host_fleet::{HostFleet, SessionPeer};
use crate::domain::audit::Action;
use crate::domain::session::{Session, State};
use crate::domain::user::RequestSource;
use crate::domain::{Error, Result};
use crate::store::LeaseRow;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Clone)]
pub struct Lifecycle {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) keys: SigningKeys,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) identity: GatewayIdentityStore,
    pub(in crate::broker) streams: StreamRegistry,
    pub(in crate::broker) tracker: SessionTracker,
    pub(in crate::broker) reconciler: Reconciler,
    pub(in crate::broker) change_watcher: ChangeWatcher,
    pub(in crate::broker) purge: Purge,
}

impl Lifecycle {
    /// Restores the tunnels of stored hosts and live sessions and audits `gateway_start`. Called
    /// once, before serving.
    ///
    /// # Errors
    /// When the store cannot be read or written, or its keys do not open under this master key. One
    /// host or session that cannot be restored is logged and left to the reconciler.
    pub async fn start(&self, source: &RequestSource) -> Result<()> {
        self.keys.get().await?;
        self.identity.publish().await?;
        let (hosts, sessions) = self
            .store
            .read(|tx| {
                let mut sessions = Vec::new();
                for session in tx.live_sessions()? {
                    let lease = tx.session_lease(session.id)?;
                    let workspace = tx.workspace(&session.workspace_key())?;
                    let slot = slot_of(&session.route, workspace.as_ref());
                    let (single_seat, limits) =
                        workspace.map(|w| (w.single_seat, w.session_limits)).unwrap_or_default();
                    sessions.push((session, lease, single_seat, limits, slot));
                }
                Ok((tx.hosts(None)?, sessions))
            })
            .await?;
        let (host_count, mut restored) = (hosts.len(), 0_u64);
        for (host, sealed) in &hosts {
            self.reconciler.open_host_tunnel(host, sealed);
        }
        for (session, lease, single_seat, limits, slot) in sessions {
            // A launch in progress died with its process: it is not tracked, so the reconciler
            // closes it at once.
            if !matches!(session.state, State::Queued | State::Creating) {
                let tracked = TrackedSession {
                    host_id: session.host_id,
                    slot,
                    is_active: session.state == State::Active,
                    single_seat,
                    limits,
                };
                self.tracker.track(session.id, tracked);
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
        let entry =
            self.store.entry(source, Action::GatewayStart).by_system().on_named("gateway", None);
        let entry = entry
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("hosts", host_count)
            .with("sessions", json_int(restored));
        self.store.write_entry(entry).await
    }

    fn restore_tunnel(&self, session: &Session, lease: Option<LeaseRow>) -> Result<()> {
        let lease = lease.ok_or_else(|| Error::internal("an active session without a lease"))?;
        let preshared_key = self
            .sealer
            .unseal(SealingPurpose::SessionPresharedKey(session.id), &lease.psk_sealed)?;
        let peer = SessionPeer {
            session_id: session.id,
            host_id: session.host_id,
            way: session.route.clone(),
            address: session.address,
            peer_public_key: lease.peer_public_key,
            preshared_key,
        };
        self.fleet.restore(peer).map_err(Error::internal)
    }

    /// Runs the background jobs until `stop` becomes true.
    pub async fn maintain(&self, stop: watch::Receiver<bool>) {
        let mut ended = stop.clone();
        let work = async {
            tokio::join!(self.change_watcher.run(), self.reconciler.run(), self.purge.run())
        };
        tokio::select! {
            _ = ended.wait_for(|stop| *stop) => {}
            _ = work => {}
        }
    }

    /// One pass of the reconciler, for tests.
    ///
    /// # Errors
    /// The first failure of the store; what came before it is done.
    #[doc(hidden)]
    pub async fn reconcile_once(&self) -> Result<()> {
        self.reconciler.reconcile_once().await
    }

    /// Deletes expired rows, for tests.
    ///
    /// # Errors
    /// The first failure of the store; what came before it is done.
    #[doc(hidden)]
    pub async fn purge_once(&self) -> Result<()> {
        self.purge.purge_once().await
    }

    /// Audits `gateway_stop`. Desktops keep running. Endpoints of hosts that no pass has stored are
    /// stored: the next process may listen on another port, and then only it can call those hosts.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn stop(&self, source: &RequestSource) -> Result<()> {
        let entry =
            self.store.entry(source, Action::GatewayStop).by_system().on_named("gateway", None);
        let entry = entry
            .with("sessions", self.tracker.count())
            .with("streams", self.streams.stream_count());
        let endpoints = self.reconciler.checks.state.unstored_endpoints(&*self.fleet);
        let now = self.store.now();
        self.store
            .write(move |tx| {
                for (host, endpoint) in &endpoints {
                    tx.update_host_seen(*host, Some(*endpoint), None, now)?;
                }
                tx.add_entry(&entry);
                Ok(())
            })
            .await
    }
}
