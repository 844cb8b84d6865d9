//! The sessions of this host. Starting is idempotent by session; operations on one session are
//! serialized.
//!
//! - A **slot** holds a session's desktop or service, its forward, and the lock that serializes
//!   operations on them.
//! - An order that is repeated with the same tunnel parameters gets the same answer; with other
//!   parameters (the gateway lost the first answer) the same desktop gets a new tunnel.

use super::control::{
    ControlHandler, DesktopInfo, Health, Order, PROTOCOL, Refusal, Slots, Started, WATCH_WAIT,
    not_started_here,
};
use super::desktop::{Desktop, DesktopSpec, DisplayProtocol, LaunchError, Launcher, Phase};
use super::forward::{self, Forward, ForwardTarget, TunnelParams};
use super::grace::GatewayAbsence;
use super::services::{ServiceAddress, Services};
use super::system::{load_averages, memory_info};
use crate::domain::secret::SecretString;
use crate::domain::sync::lock;
use crate::domain::upstream::StreamProtocol;
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{SessionId, UserId, WorkspaceId};
use crate::tunnel::{Hub, PublicKey, TunnelId};
use futures_util::future::{BoxFuture, join_all};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What forwards need to reach the gateway.
#[derive(Debug, Clone)]
pub struct GatewayLink {
    pub hub: Hub,
    /// The gateway's public key.
    pub gateway: PublicKey,
}

#[derive(Debug)]
pub struct SessionManager {
    launcher: Launcher,
    services: Services,
    gateway_link: GatewayLink,
    capacity: Slots,
    started_at: Instant,
    slots: Mutex<HashMap<SessionId, Arc<SessionSlot>>>,
    /// Counts changes of the slots. Starts at random, so that counts of two runs differ.
    generation: watch::Sender<u64>,
    /// When the gateway last sent a request, in milliseconds since `started_at`.
    last_request_ms: AtomicU64,
}

#[derive(Debug)]
struct SessionSlot {
    user_id: UserId,
    workspace_id: WorkspaceId,
    /// The service that the session uses; without one it has a desktop.
    service: Option<(String, ServiceAddress)>,
    grace: Duration,
    ready: AtomicBool,
    contents: tokio::sync::Mutex<SlotContents>,
}

#[derive(Debug, Default)]
struct SlotContents {
    desktop: Option<Desktop>,
    forward: Option<Forward>,
}

impl SessionManager {
    #[must_use]
    pub fn new(
        launcher: Launcher,
        services: Services,
        home: GatewayLink,
        capacity: Slots,
    ) -> Arc<Self> {
        // 48 bits, which JSON readers represent exactly.
        let generation = watch::Sender::new(rand::random::<u64>() >> 16);
        let since = Instant::now();
        Arc::new(Self {
            launcher,
            services,
            gateway_link: home,
            capacity,
            started_at: since,
            slots: Mutex::default(),
            generation,
            last_request_ms: AtomicU64::new(0),
        })
    }

    /// Ends every session whose grace is over.
    pub async fn end_expired(&self, absence: GatewayAbsence, now: Instant) {
        let expired: Vec<_> = self
            .slots()
            .iter()
            .filter(|(_, slot)| absence.exceeds(slot.grace, now))
            .map(|(id, _)| *id)
            .collect();
        for session in &expired {
            tracing::warn!(%session, "the gateway was absent for longer than the grace: ending the session");
        }
        join_all(expired.into_iter().map(|session| self.end_session(session))).await;
    }

    pub async fn end_all(&self) {
        let all: Vec<_> = self.slots().keys().copied().collect();
        join_all(all.into_iter().map(|session| self.end_session(session))).await;
    }

    /// Time since the gateway's last request. A connected gateway polls for changes all the time.
    #[must_use]
    pub fn gateway_silence(&self) -> Duration {
        self.started_at
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last_request_ms.load(Ordering::Relaxed)))
    }

    fn record_request(&self) {
        self.last_request_ms.store(
            u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    async fn end_session(&self, session: SessionId) {
        let Some(slot) = self.slots().get(&session).cloned() else { return };
        // Waits for a start under way, which has its own time limit.
        let mut content = slot.contents.lock().await;
        let SlotContents { desktop, forward } = std::mem::take(&mut *content);
        drop(forward);
        if let Some(desktop) = desktop {
            desktop.stop().await;
        }
        self.remove_slot(session, &slot);
    }

    /// Removes a slot, unless the session has another one by now.
    fn remove_slot(&self, session: SessionId, slot: &Arc<SessionSlot>) {
        let mut slots = self.slots();
        if slots.get(&session).is_some_and(|now| Arc::ptr_eq(now, slot)) {
            slots.remove(&session);
            self.generation.send_modify(|count| *count += 1);
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<SessionSlot>>> {
        lock(&self.slots)
    }

    fn get_or_create_slot(&self, order: &Order) -> Result<Arc<SessionSlot>, Refusal> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(&order.session_id) {
            if slot.user_id != order.user_id || slot.workspace_id != order.workspace.id {
                return Err(Refusal::Invalid(
                    "the session has another user's or workspace's desktop".to_owned(),
                ));
            }
            if slot.service.as_ref().map(|(name, _)| name) != order.workspace.service.as_ref() {
                return Err(Refusal::Invalid(
                    "the session is on something else of this host".to_owned(),
                ));
            }
            return Ok(slot.clone());
        }
        let service = match &order.workspace.service {
            // Every unknown name gets the same answer.
            Some(name) => match self.services.find(name) {
                Some(address) => Some((name.clone(), address)),
                None => {
                    return Err(Refusal::Invalid(
                        "this host lets no session reach a service of that name".to_owned(),
                    ));
                }
            },
            None => None,
        };
        // A service's connections are only forwarded: they take no desktop's slot.
        let used =
            slots.values().filter(|slot| slot.service.is_some() == service.is_some()).count();
        let (limit, what) = match &service {
            Some(_) => (self.capacity.services, "sessions on its services"),
            None => (self.capacity.desktops, "desktops"),
        };
        if used >= limit {
            return Err(Refusal::Full(format!("this host takes {limit} {what} and no more")));
        }
        let slot = Arc::new(SessionSlot {
            user_id: order.user_id,
            workspace_id: order.workspace.id.clone(),
            service,
            grace: Duration::from_secs(order.grace_seconds),
            ready: AtomicBool::new(false),
            contents: tokio::sync::Mutex::default(),
        });
        slots.insert(order.session_id, slot.clone());
        Ok(slot)
    }

    async fn start_session(self: Arc<Self>, order: Order) -> Result<Started, Refusal> {
        self.record_request();
        let session = order.session_id;
        let terms = TunnelParams {
            preshared_key: order
                .tunnel
                .preshared_key
                .expose()
                .parse()
                .map_err(|_| Refusal::Invalid("not a preshared key".to_owned()))?,
            host_address: order.tunnel.host_address,
            gateway_address: order.tunnel.gateway_address,
        };
        let slot = self.get_or_create_slot(&order)?;
        let result = self.start_or_update(&slot, order, terms).await;
        if let Err(refusal) = &result {
            tracing::warn!(%session, %refusal, "desktop not started");
            if !slot.ready.load(Ordering::Acquire) {
                self.remove_slot(session, &slot);
            }
        }
        result
    }

    async fn start_or_update(
        self: &Arc<Self>,
        slot: &Arc<SessionSlot>,
        order: Order,
        terms: TunnelParams,
    ) -> Result<Started, Refusal> {
        let (session, kind) = (order.session_id, order.workspace.kind);
        let mut content = slot.contents.lock().await;
        // The session may have been ended while this waited for the lock.
        if !self.slots().get(&session).is_some_and(|now| Arc::ptr_eq(now, slot)) {
            return Err(Refusal::Failed("the session was ended while it started".to_owned()));
        }
        if slot.service.is_none() && !content.desktop.as_ref().is_some_and(Desktop::is_running) {
            *content = SlotContents::default();
            let protocol = DisplayProtocol::started_for(kind)
                .ok_or_else(|| Refusal::Invalid(not_started_here()))?;
            let spec = DesktopSpec {
                session_id: session,
                user_id: order.user_id,
                user_name: order.user_name,
                workspace_id: order.workspace.id,
                workspace_name: order.workspace.name,
                network: order.workspace.network,
                protocol,
            };
            let begun = Instant::now();
            let desktop = self
                .launcher
                .launch(spec)
                .await
                .map_err(|error| Refusal::Failed(launch_failure_message(session, &error)))?;
            tracing::info!(%session, took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), "desktop started");
            self.remove_when_ended(session, slot, &desktop);
            content.desktop = Some(desktop);
        }
        if let (StreamProtocol::Http, Some((_, address))) = (kind.protocol(), &slot.service) {
            // Inside the tunnel an application that is down would look like one that closes the
            // connection, so it is connected to from here first.
            address.connect().await.map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => Refusal::ServiceSlow,
                _ => Refusal::ServiceDown,
            })?;
        }
        let (inside, password, certificate) = match (&slot.service, &content.desktop) {
            (Some((_, address)), _) => {
                (ForwardTarget::Service(address.clone()), SecretString::new(String::new()), None)
            }
            (None, Some(desktop)) => {
                let password = SecretString::new(desktop.password().expose().clone());
                (
                    ForwardTarget::Desktop(desktop.connector()),
                    password,
                    desktop.certificate().map(str::to_owned),
                )
            }
            (None, None) => return Err(Refusal::Failed("the desktop ended".to_owned())),
        };
        let protocol = kind.protocol();
        let (port, streams) = (protocol.tunnel_port(), forward::stream_limits(protocol));
        let public_key = match content.forward.take() {
            Some(forward) if forward.matches(&terms) => {
                content.forward.insert(forward).public_key()
            }
            outdated => {
                drop(outdated);
                let forward = Forward::open(
                    &self.gateway_link.hub,
                    TunnelId(session.0),
                    self.gateway_link.gateway,
                    terms,
                    (port, streams),
                    inside,
                );
                let forward = forward.map_err(|error| {
                    Refusal::Failed(format!("its tunnel could not be made: {error}"))
                })?;
                content.forward.insert(forward).public_key()
            }
        };
        if !slot.ready.swap(true, Ordering::AcqRel) {
            self.generation.send_modify(|count| *count += 1);
        }
        Ok(Started { public_key: public_key.to_string(), port, password, certificate })
    }

    /// Removes the slot as soon as its desktop ends.
    fn remove_when_ended(
        self: &Arc<Self>,
        session: SessionId,
        slot: &Arc<SessionSlot>,
        desktop: &Desktop,
    ) {
        let mut phase = desktop.phase();
        let (roster, slot) = (Arc::downgrade(self), Arc::downgrade(slot));
        tokio::spawn(async move {
            let _ = phase.wait_for(|phase| *phase >= Phase::Ended).await;
            let (Some(roster), Some(slot)) = (roster.upgrade(), slot.upgrade()) else { return };
            roster.remove_slot(session, &slot);
            let mut content = slot.contents.lock().await;
            *content = SlotContents::default();
        });
    }
}

/// The failure as the gateway is told. Paths and errors of the host stay in the host's log.
fn launch_failure_message(session: SessionId, error: &LaunchError) -> String {
    tracing::warn!(%session, %error, "launch failed");
    match error {
        LaunchError::Io { what, .. } => format!("the host could not make its {what}"),
        other => other.to_string(),
    }
}

impl ControlHandler for SessionManager {
    fn health(self: Arc<Self>) -> BoxFuture<'static, Health> {
        self.record_request();
        Box::pin(async move {
            let services = self.services.health().await;
            Health {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_ms: u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX),
                desktops: self.slots().len(),
                load: load_averages().unwrap_or_default(),
                memory: memory_info().unwrap_or_default(),
                kinds: self.launcher.kinds(),
                services,
                limits: Some(self.launcher.held_limits().iter().copied().collect()),
                service_kinds: WorkspaceKind::ALL
                    .into_iter()
                    .filter(|kind| kind.properties().has_server)
                    .collect(),
                slots: Some(self.capacity),
            }
        })
    }

    fn changed(self: Arc<Self>, since: Option<u64>) -> BoxFuture<'static, u64> {
        self.record_request();
        let mut generation = self.generation.subscribe();
        Box::pin(async move {
            let change = generation.wait_for(|now| Some(*now) != since);
            let now = tokio::time::timeout(WATCH_WAIT, change)
                .await
                .ok()
                .and_then(Result::ok)
                .map(|now| *now);
            now.or(since).unwrap_or_default()
        })
    }

    fn desktops(&self) -> Vec<DesktopInfo> {
        let slots = self.slots();
        slots
            .iter()
            .map(|(session, slot)| DesktopInfo {
                session_id: *session,
                user_id: slot.user_id,
                workspace_id: slot.workspace_id.clone(),
                ready: slot.ready.load(Ordering::Acquire),
            })
            .collect()
    }

    fn start(self: Arc<Self>, order: Order) -> BoxFuture<'static, Result<Started, Refusal>> {
        Box::pin(self.start_session(order))
    }

    fn stop(self: Arc<Self>, session: SessionId) -> BoxFuture<'static, Result<(), Refusal>> {
        Box::pin(async move {
            self.end_session(session).await;
            Ok(())
        })
    }
}
