//! Workspace hosts: enrolment and removal.
//!
//! A **join token** is opaque, stored hashed, and valid for one host. The agent sends it with its
//! public key and receives what it needs to connect: an address, the gateway's key, and a preshared
//! key that is shown once and stored sealed.

use crate::auth::{opaque, random_bytes};
use crate::broker::core::answers::HOST;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::changes::{Changes, Topic};
use crate::broker::core::host_failures::HostFailures;
use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::session_tracker::SessionTracker;
use crate::broker::core::task::spawn_to_completion;
use crate::broker::core::teardown::{Teardown, TeardownEffects};
use crate::broker::core::unit_of_work::{AuditedStore, AuditedTx, Decision};
use crate::broker::core::validate;
use crate::broker::hosts::gateway_identity::GatewayIdentityStore;
use crate::broker::model::{HostEnrolled, HostEnrollment, HostView, JoinToken};
use crate::broker::ports::host_fleet::{HostFleet, HostPeer};
use crate::domain::audit::{Action, Reason};
use crate::domain::host::{Host, HostKind};
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::route::HOST_NETWORK;
use crate::domain::secret::{SecretBytes, SecretString};
use crate::domain::session::EndReason;
use crate::domain::user::RequestSource;
use crate::domain::{Error, HostId, OrganizationId, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use std::time::Duration;

/// Longest life of a join token.
const JOIN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The host if it belongs to this organization, otherwise an audited denial.
fn host_in_organization(
    tx: &mut AuditedTx<'_, '_>,
    id: HostId,
    organization: OrganizationId,
    entry: &AuditEntryBuilder,
) -> Result<Decision<Host>> {
    match tx.host(id)?.filter(|h| h.organization_id == organization) {
        Some(host) => Ok(Decision::Allowed(host)),
        None => {
            let entry = entry.clone().access_denied().on_host_id(id);
            tx.deny(&entry.denied(Reason::Unknown), Error::not_found(HOST))
        }
    }
}

#[derive(Clone)]
pub struct Hosts {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) identity: GatewayIdentityStore,
    pub(in crate::broker) changes: Changes,
    pub(in crate::broker) teardown: Teardown,
    pub(in crate::broker) tracker: SessionTracker,
    pub(in crate::broker) failures: HostFailures,
}

impl Hosts {
    /// The organization's hosts.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn list(&self, source: &RequestSource, caller: &Principal) -> Result<Vec<HostView>> {
        let organization =
            self.store.permit(source, caller, PolicyAction::ReadHosts).await?.organization_id();
        let found = self
            .store
            .list(move |tx| {
                Ok((tx.hosts(Some(organization))?, tx.live_session_counts(organization)?))
            })
            .await?;
        let (hosts, counts) = found;
        let sessions = |host: &Host| counts.get(&host.id).copied().unwrap_or(0);
        Ok(hosts.into_iter().map(|(host, _)| self.view(sessions(&host), host)).collect())
    }

    fn view(&self, sessions: usize, host: Host) -> HostView {
        HostView {
            tunnel: self.fleet.host(host.id),
            capabilities: self.fleet.capabilities(host.id),
            sessions,
            used: self.tracker.used_slots(host.id),
            failure: self.failures.last(host.id, self.store.now()),
            host,
        }
    }

    /// Drains a host, which then takes no new sessions while its present ones go on, or lets it take
    /// sessions again.
    ///
    /// # Errors
    /// `Forbidden` or `NotFound`.
    pub async fn set_drained(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: HostId,
        drained: bool,
    ) -> Result<HostView> {
        let action = if drained { Action::DrainHost } else { Action::UndrainHost };
        let tried = self.store.entry(source, action).on_host_id(id);
        let organization =
            self.store.permit_act(source, caller, PolicyAction::ManageHosts, tried).await?;
        let entry = self.store.entry(source, action).by_caller(caller);
        let now = self.store.now();
        let (host, sessions) = self
            .store
            .transact(move |tx| {
                let host = match host_in_organization(tx, id, organization, &entry)? {
                    Decision::Allowed(host) => host,
                    Decision::Denied(error) => return Ok(Decision::Denied(error)),
                };
                let sessions = tx.live_sessions_of_host(id)?.len();
                let since = drained.then(|| host.drained_at.unwrap_or(now));
                if since != host.drained_at {
                    tx.set_host_drained(id, since)?;
                    tx.add_entry(&entry.clone().on_host(&host).with("sessions", sessions));
                }
                Ok(Decision::Allowed((Host { drained_at: since, ..host }, sessions)))
            })
            .await?;
        self.changes.publish(Some(organization), &[Topic::Hosts, Topic::Workspaces]);
        Ok(self.view(sessions, host))
    }

    /// A token with which one host may enrol.
    ///
    /// # Errors
    /// `Forbidden` or `Invalid`.
    pub async fn create_join_token(
        &self,
        source: &RequestSource,
        caller: &Principal,
        name: Option<String>,
        ttl: Duration,
    ) -> Result<JoinToken> {
        let tried =
            self.store.entry(source, Action::CreateJoinToken).on_named("host", name.as_deref());
        let organization =
            self.store.permit_act(source, caller, PolicyAction::ManageHosts, tried).await?;
        let name = name.as_deref().map(validate::name).transpose()?;
        if ttl < Duration::from_secs(1) || ttl > JOIN_TTL_MAX {
            return Err(Error::invalid("A join token may live from one second to seven days."));
        }
        let token = opaque::new_token("join_");
        let hash = opaque::hash(token.expose());
        let now = self.store.now();
        let expires_at = now.after(ttl);
        let entry = self
            .store
            .entry(source, Action::CreateJoinToken)
            .by_caller(caller)
            .on_named("host", name.as_deref());
        let entry = entry.with("expires_at", expires_at.to_string());
        self.store
            .write(move |tx| {
                tx.insert_join_token(&hash, organization, name.as_deref(), expires_at, now)?;
                tx.add_entry(&entry);
                Ok(())
            })
            .await?;
        Ok(JoinToken { token, expires_at })
    }

    /// Enrols the host that holds a join token, and opens its tunnel.
    ///
    /// # Errors
    /// `Unauthenticated` when the token is unknown, used or expired; `Invalid`; `Conflict` when the
    /// key is enrolled already.
    pub async fn enroll(
        &self,
        source: &RequestSource,
        request: HostEnrollment,
    ) -> Result<HostEnrolled> {
        let HostEnrollment { token, name, public_key, version } = request;
        let name = validate::name(&name)?;
        let version = validate::version(&version)?;
        let public_key = self.identity.validate_peer_key(&public_key).await?;
        let hash = crate::broker::core::text::token_hash(&token);
        let id = HostId::new();
        let psk = SecretBytes::new(random_bytes::<32>().to_vec());
        let sealed = self.sealer.seal(SealingPurpose::HostPresharedKey(id), psk.expose());
        let now = self.store.now();
        let entry = self.store.entry(source, Action::EnrollHost);
        let enrolled = self
            .store
            .write(move |tx| {
                let Some((organization_id, named)) = tx.consume_join_token(&hash, now)? else {
                    return Ok(None);
                };
                let name = named.unwrap_or_else(|| name.clone());
                let address = tx.next_host_address(HOST_NETWORK)?;
                let version = version.clone();
                let public_key = public_key.clone();
                let (kind, endpoint, last_seen_at) = (HostKind::Agent, None, None);
                let host = Host {
                    id,
                    organization_id,
                    kind,
                    name,
                    public_key,
                    address,
                    endpoint,
                    version,
                    enrolled_at: now,
                    last_seen_at,
                    drained_at: None,
                };
                tx.insert_host(&host, &sealed)?;
                let entry =
                    entry.clone().by_system().in_organization(organization_id).on_host(&host);
                tx.add_entry(
                    &entry
                        .with("public_key", host.public_key.clone())
                        .with("version", host.version.clone()),
                );
                Ok(Some(host))
            })
            .await?;
        let Some(host) = enrolled else {
            let entry = self
                .store
                .entry(source, Action::EnrollHost)
                .on_named("host", None)
                .denied(Reason::JoinToken);
            self.store.audit_unauthenticated(source, entry).await?;
            return Err(Error::unauthenticated(
                "The join token is unknown, used or expired. Make a new one.",
            ));
        };
        let preshared_key = SecretString::new(STANDARD.encode(psk.expose()));
        let peer = HostPeer { host: host.clone(), preshared_key: psk };
        self.fleet.add_host(peer).map_err(|e| {
            Error::unavailable("The host's tunnel could not be opened. Try again.").caused_by(e)
        })?;
        self.changes.publish(Some(host.organization_id), &[Topic::Hosts]);
        Ok(HostEnrolled { host, gateway: self.fleet.identity(), preshared_key })
    }

    /// Removes a host; its sessions end with `host_lost`.
    ///
    /// # Errors
    /// `Forbidden` or `NotFound`.
    pub async fn remove(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: HostId,
    ) -> Result<()> {
        let tried = self.store.entry(source, Action::RemoveHost).on_host_id(id);
        let organization =
            self.store.permit_act(source, caller, PolicyAction::ManageHosts, tried).await?;
        let entry = self.store.entry(source, Action::RemoveHost).by_caller(caller);
        let this = self.clone();
        spawn_to_completion(async move {
            let sessions = this
                .store
                .transact(move |tx| {
                    let host = match host_in_organization(tx, id, organization, &entry)? {
                        Decision::Allowed(host) => host,
                        Decision::Denied(error) => return Ok(Decision::Denied(error)),
                    };
                    let there = tx.live_sessions_of_host(id)?;
                    tx.delete_host(id)?;
                    tx.add_entry(&entry.clone().on_host(&host));
                    Ok(Decision::Allowed(tx.close_all(there, EndReason::HostLost, &entry)?))
                })
                .await?;
            // The desktops are stopped through the host's tunnel, so the tunnel is removed last.
            let carried =
                this.teardown.apply_effects(TeardownEffects { sessions, logins: Vec::new() }).await;
            this.fleet.remove_host(id);
            this.changes.publish(Some(organization), &[Topic::Hosts, Topic::Workspaces]);
            carried
        })
        .await
    }
}
