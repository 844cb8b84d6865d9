//! Tickets, and opening a stream.
//!
//! A **ticket** is opaque, stored hashed, valid for half a minute and one use, and bound to its
//! session, user and login. Whoever opens a stream with it acts as that caller. The stream slot is
//! acquired *before* the deciding transaction: whatever ends the session or the login after that
//! transaction finds the slot and revokes it, so no stream escapes both the denial and the
//! revocation.

use crate::auth::opaque;
use crate::broker::core::answers::{SESSION, denial_error, hidden_reason, invalid_token};
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::session_tracker::SessionTracker;
use crate::broker::core::settings::Settings;
use crate::broker::core::stream_registry::{
    AcquiredSlot, StreamGrant, StreamMeters, StreamRegistry, StreamSlotGuard,
};
use crate::broker::core::text::{json_int, token_hash};
use crate::broker::core::unit_of_work::{AuditedStore, AuditedTx, Decision};
use crate::broker::model::{StreamProof, Ticket, TooManyViewers, TunnelState};
use crate::broker::ports::host_fleet::HostFleet;
use crate::broker::targets::credentials::Credentials;
use crate::broker::targets::upstream_context::UpstreamContext;
use crate::domain::audit::{Action, Reason};
use crate::domain::lease::Lease;
use crate::domain::policy::{self, Denial, StreamPermit};
use crate::domain::principal::{Principal, SignedInUser};
use crate::domain::route::SessionRoute;
use crate::domain::session::State;
use crate::domain::upstream::ProtocolSettings;
use crate::domain::user::RequestSource;
use crate::domain::{Error, Result, SessionId, Timestamp};
use crate::store::{TicketRow, Tx};
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn invalid_ticket() -> Error {
    Error::unauthenticated("Invalid or expired ticket")
}

/// The owner of a ticket, or the reason why it is refused and its owner if known.
type TicketOwner = std::result::Result<Principal, (Reason, Option<Box<Principal>>)>;

/// Looks up a ticket without consuming it.
fn ticket_owner(tx: &mut Tx<'_>, hash: &str, id: SessionId, now: Timestamp) -> Result<TicketOwner> {
    let Some(row) = tx.ticket(hash)? else { return Ok(Err((Reason::Unknown, None))) };
    let Some(principal) = ticket_principal(tx, &row)? else {
        return Ok(Err((Reason::Unknown, None)));
    };
    let reason = if row.session_id != id {
        Reason::Foreign
    } else if row.used_at.is_some() {
        Reason::Used
    } else if now >= row.expires_at {
        Reason::Expired
    } else if !tx.principal_is_valid(&principal, now)? {
        Reason::SignedOut
    } else {
        return Ok(Ok(principal));
    };
    Ok(Err((reason, Some(Box::new(principal)))))
}

/// The principal of a ticket, valid or not. No API key is stored, so none is found.
fn ticket_principal(tx: &mut Tx<'_>, row: &TicketRow) -> Result<Option<Principal>> {
    let (Some(user), Some(login)) = (row.principal.user_id(), row.login_id) else {
        return Ok(None);
    };
    let (Some(login), Some(user)) = (tx.login(login)?, tx.user(user)?) else { return Ok(None) };
    Ok(Some(Principal::User(SignedInUser { user, login_id: login.id, mfa: login.mfa })))
}

#[derive(Clone)]
pub struct Streams {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) fleet: Arc<dyn HostFleet>,
    pub(in crate::broker) streams: StreamRegistry,
    pub(in crate::broker) tracker: SessionTracker,
    pub(in crate::broker) credentials: Credentials,
    pub(in crate::broker) settings: Arc<Settings>,
}

impl Streams {
    /// A one-use ticket for the stream of the caller's own active session.
    ///
    /// # Errors
    /// `NotFound` when it is not theirs; `Conflict` when it is not active.
    pub async fn issue_ticket(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: SessionId,
    ) -> Result<Ticket> {
        let ticket = opaque::new_token("tkt_");
        let hash = opaque::hash(ticket.expose());
        let now = self.store.now();
        let expires_at = now.after(self.settings.ticket_ttl);
        let entry = self.store.entry(source, Action::IssueTicket).by_caller(caller);
        let (who, context) = (caller.clone(), self.store.policy_context(source, caller));
        let row = TicketRow {
            session_id: id,
            principal: caller.id(),
            login_id: caller.login_id(),
            used_at: None,
            expires_at,
        };
        let keyboard_layout = self
            .store
            .transact(move |tx| {
                let permit = match permit_stream(tx, &who, id, &context, &entry)? {
                    Decision::Allowed(permit) => permit,
                    Decision::Denied(error) => return Ok(Decision::Denied(error)),
                };
                tx.insert_ticket(&hash, &row)?;
                tx.add_entry(&entry.clone().on_session(permit.session()));
                let session = permit.session();
                let workspace = tx
                    .workspace(&session.workspace_key())?
                    .filter(|w| w.organization_id == session.organization_id);
                Ok(Decision::Allowed(workspace.and_then(|w| match w.driver().protocol() {
                    ProtocolSettings::Rdp { keyboard_layout } => keyboard_layout,
                    ProtocolSettings::Rfb { .. } | ProtocolSettings::Http(_) => None,
                })))
            })
            .await?;
        Ok(Ticket { ticket, expires_at, keyboard_layout })
    }

    /// Redeems the proof, checks the owner, limits the number of streams, audits `open_stream`.
    /// Every denial is audited.
    ///
    /// # Errors
    /// `Unauthenticated` for a bad ticket; `NotFound` for a session that is not theirs; `Conflict`
    /// when it is not active or has all the viewers it may have.
    pub async fn open(
        &self,
        source: &RequestSource,
        id: SessionId,
        proof: StreamProof<'_>,
    ) -> Result<StreamGrant> {
        let now = self.store.now();
        let (caller, ticket) = match proof {
            StreamProof::Principal(caller) => (caller.clone(), None),
            StreamProof::Ticket(ticket) => {
                let hash = token_hash(ticket);
                let looked = hash.clone();
                let caller =
                    match self.store.read(move |tx| ticket_owner(tx, &looked, id, now)).await? {
                        Ok(caller) => caller,
                        Err((reason, of)) => {
                            return self.refuse_ticket(source, id, reason, of).await;
                        }
                    };
                (caller, Some(hash))
            }
        };
        let owner = self.store.read(move |tx| Ok(tx.session(id)?.map(|s| s.principal))).await?;
        let entry = self.store.entry(source, Action::OpenStream).by_caller(&caller);
        // Only the owner gets a slot, so that others cannot exhaust the session's slots.
        let taken = if owner == Some(caller.id()) {
            let input = self.tracker.input_counter(id);
            let Some(taken) =
                self.streams.acquire_slot(id, &caller, now, self.settings.max_viewers, input)
            else {
                self.store
                    .write_entry(entry.on_session_id(id).denied(Reason::TooManyViewers))
                    .await?;
                let full = Error::conflict(
                    "This session is open in as many windows as it may be. Close one first.",
                );
                return Err(full.caused_by(TooManyViewers));
            };
            Some(taken)
        } else {
            None
        };
        let (who, context) = (caller.clone(), self.store.policy_context(source, &caller));
        let by_ticket = ticket.is_some();
        let tunnel = self.fleet.tunnel(id).map(|report| report.state);
        let found = self
            .store
            .transact(move |tx| {
                if let Some(hash) = &ticket
                    && !tx.consume_ticket(hash, now)?
                {
                    return tx.deny(
                        &entry
                            .clone()
                            .action(Action::TicketRefused)
                            .on_session_id(id)
                            .denied(Reason::Used),
                        invalid_ticket(),
                    );
                }
                let permit = match permit_stream(tx, &who, id, &context, &entry)? {
                    Decision::Allowed(permit) => permit,
                    Decision::Denied(error) => return Ok(Decision::Denied(error)),
                };
                let entry = entry.clone().on_session(permit.session());
                let upstream = match tx.upstream_context(permit.session(), &entry)? {
                    Decision::Allowed(upstream) => upstream,
                    Decision::Denied(error) => return Ok(Decision::Denied(error)),
                };
                let tunnel = if matches!(permit.session().route, SessionRoute::Direct(_)) {
                    Some(TunnelState::None)
                } else {
                    tunnel
                };
                let entry = entry.with("proof", if by_ticket { "ticket" } else { "login" });
                tx.add_entry(&entry.with("tunnel_status", tunnel.map(TunnelState::as_str)));
                Ok(Decision::Allowed((permit, upstream)))
            })
            .await;
        let (permit, upstream) = found?;
        let Some(taken) = taken else { return Err(Error::not_found(SESSION)) };
        self.grant(permit, upstream, taken, &caller)
    }

    fn grant(
        &self,
        permit: StreamPermit,
        upstream: UpstreamContext,
        taken: AcquiredSlot,
        caller: &Principal,
    ) -> Result<StreamGrant> {
        // Who opens a stream is there.
        taken.meters.input.record();
        self.streams.set_conditions(&taken.slot, upstream.conditions());
        let server = self.credentials.upstream_of(permit.session(), upstream, caller)?;
        let lease = Lease::grant(permit, server);
        Ok(StreamGrant {
            lease,
            authorization: taken.authorization,
            meters: taken.meters,
            slot: taken.slot,
        })
    }

    async fn refuse_ticket<T>(
        &self,
        source: &RequestSource,
        id: SessionId,
        reason: Reason,
        of: Option<Box<Principal>>,
    ) -> Result<T> {
        let entry =
            self.store.entry(source, Action::TicketRefused).on_session_id(id).denied(reason);
        match of {
            Some(caller) => self.store.write_entry(entry.by_caller(&caller)).await?,
            None => self.store.audit_unauthenticated(source, entry).await?,
        }
        Err(invalid_ticket())
    }

    /// Audits `close_stream` with byte counts and duration, and frees the slot.
    ///
    /// # Errors
    /// When the store cannot write it down; the place is free all the same.
    pub async fn close(&self, source: &RequestSource, grant: StreamGrant, why: &str) -> Result<()> {
        let StreamGrant { lease, meters, slot: place, .. } = grant;
        self.close_shared(source, &lease, &meters, place, why).await
    }

    /// [`Broker::close_stream`] for a lease that is shared and may outlive the stream.
    ///
    /// # Errors
    /// As there.
    pub async fn close_shared(
        &self,
        source: &RequestSource,
        lease: &Lease,
        meters: &StreamMeters,
        place: StreamSlotGuard,
        why: &str,
    ) -> Result<()> {
        let entry = self.store.entry(source, Action::CloseStream).on_session(lease.session());
        let entry = place.caller.as_deref().map_or(entry.clone(), |caller| entry.by_caller(caller));
        let lasted = self.store.now().since(place.opened_at);
        let entry = entry
            .reason(Reason::External(why.to_owned()))
            .with("bytes_up", json_int(meters.up.load(Ordering::Relaxed)))
            .with("bytes_down", json_int(meters.down.load(Ordering::Relaxed)))
            .with("duration_ms", json_int(crate::broker::core::text::millis_u64(lasted)));
        drop(place);
        self.store.write_entry(entry).await
    }
}

/// A permit to stream, or an audited denial.
fn permit_stream(
    tx: &mut AuditedTx<'_, '_>,
    who: &Principal,
    id: SessionId,
    context: &policy::Context,
    entry: &AuditEntryBuilder,
) -> Result<Decision<StreamPermit>> {
    if !tx.principal_is_valid(who, context.now)? {
        return tx
            .deny(&entry.clone().on_session_id(id).denied(Reason::SignedOut), invalid_token());
    }
    let Some(session) = tx.session(id)? else {
        let entry = entry.clone().access_denied().on_session_id(id);
        return tx.deny(&entry.denied(Reason::Unknown), Error::not_found(SESSION));
    };
    match policy::authorize_stream(who, &session, context) {
        Ok(permit) => Ok(Decision::Allowed(permit)),
        Err(Denial::NotOwner) => {
            let entry = entry.clone().access_denied().on_session_id(id);
            let why = hidden_reason(who, Some(session.organization_id));
            tx.deny(&entry.denied(why), Error::not_found(SESSION))
        }
        Err(denial) => {
            let reason = match session.state {
                State::Closing(reason) | State::Closed(reason) => reason.as_str(),
                State::Queued | State::Creating | State::Active => denial.as_str(),
            };
            let entry = entry.clone().on_session(&session).with("state", reason);
            tx.deny(&entry.denied(denial), denial_error(denial, SESSION))
        }
    }
}
