//! Tickets, and the right to one stream.
//!
//! A **ticket** is opaque, kept hashed, good for half a minute and one use, and bound to its
//! session, user and login. Whoever opens a stream with it is that caller. Opening takes a viewer's
//! place *before* the deciding transaction: whatever ends the session or the login after that
//! transaction finds the watcher and cuts it, so there is no moment in which a stream is neither
//! refused nor cut.

use super::Broker;
use super::credentials::Behind;
use super::fleet::TunnelState;
use super::live::{Meters, StreamGrant, Taken, ViewerPlace};
use super::record::{Book, Note, Verdict, refusal, whole};
use super::sessions::SESSION;
use super::tokens::{hash_of, invalid_token};
use super::views::{StreamProof, Ticket, TooManyViewers};
use crate::auth::opaque;
use crate::domain::audit::Action;
use crate::domain::lease::Lease;
use crate::domain::policy::{self, Denial, StreamPermit};
use crate::domain::route::SessionRoute;
use crate::domain::session::State;
use crate::domain::user::{Caller, RequestSource};
use crate::domain::{Error, Result, SessionId, Timestamp};
use crate::store::Tx;
use std::sync::atomic::Ordering;

fn bad_ticket() -> Error {
    Error::unauthenticated("Invalid or expired ticket")
}

/// Whom a proof belongs to, before anything is decided; else the word why it is refused, and whose
/// it was.
type Whose = std::result::Result<Caller, (&'static str, Option<Box<Caller>>)>;

/// Looks a ticket up, without using it.
fn whose(tx: &mut Tx<'_>, hash: &str, id: SessionId, now: Timestamp) -> Result<Whose> {
    let Some(row) = tx.ticket(hash)? else { return Ok(Err(("unknown", None))) };
    let login = tx.login(row.login_id)?;
    let caller = match (login, tx.user(row.user_id)?) {
        (Some(login), Some(user)) => {
            let alive = login.revoked_at.is_none()
                && now < login.expires_at
                && !user.disabled
                && login.user_id == user.id;
            (Caller { user, login_id: login.id, mfa: login.mfa }, alive)
        }
        _ => return Ok(Err(("unknown", None))),
    };
    let (caller, alive) = caller;
    let reason = if row.session_id != id {
        "foreign"
    } else if row.used_at.is_some() {
        "used"
    } else if now >= row.expires_at {
        "expired"
    } else if !alive {
        "signed_out"
    } else {
        return Ok(Ok(caller));
    };
    Ok(Err((reason, Some(Box::new(caller)))))
}

impl Book<'_, '_> {
    /// Whether the caller's login is alive and their account enabled, as the store says in this
    /// transaction.
    pub(super) fn still_signed_in(&mut self, caller: &Caller, now: Timestamp) -> Result<bool> {
        let login = self.login(caller.login_id)?;
        let user = self.user(caller.user.id)?;
        let alive = login.is_some_and(|l| {
            l.revoked_at.is_none() && now < l.expires_at && l.user_id == caller.user.id
        });
        Ok(alive && user.is_some_and(|u| !u.disabled))
    }
}

impl Broker {
    /// A one-use ticket for the stream of the caller's own active session.
    ///
    /// # Errors
    /// `NotFound` when it is not theirs; `Conflict` when it is not active.
    pub async fn issue_ticket(
        &self,
        origin: &RequestSource,
        caller: &Caller,
        id: SessionId,
    ) -> Result<Ticket> {
        let ticket = opaque::new_token("tkt_");
        let hash = opaque::hash(ticket.expose());
        let now = self.now();
        let expires_at = now.after(self.inner.settings.ticket_ttl);
        let note = self.note(origin, Action::IssueTicket).by(caller);
        let who = caller.clone();
        self.decide(move |book| {
            permitted(book, &who, id, now, &note)?.map_or_else(
                |error| Ok(Err(error)),
                |permit| {
                    book.insert_ticket(&hash, id, who.user.id, who.login_id, expires_at)?;
                    book.note(&note.clone().on_session(permit.session()));
                    Ok(Ok(()))
                },
            )
        })
        .await?;
        Ok(Ticket { ticket, expires_at })
    }

    /// Redeems the proof, checks the owner, counts viewers, audits `open_stream`; every refusal is
    /// audited.
    ///
    /// # Errors
    /// `Unauthenticated` for a bad ticket; `NotFound` for a session that is not theirs; `Conflict`
    /// when it is not active or has all the viewers it may have.
    pub async fn open_stream(
        &self,
        origin: &RequestSource,
        id: SessionId,
        proof: StreamProof<'_>,
    ) -> Result<StreamGrant> {
        let now = self.now();
        let (caller, ticket) = match proof {
            StreamProof::Caller(caller) => (caller.clone(), None),
            StreamProof::Ticket(ticket) => {
                let hash = hash_of(ticket);
                let looked = hash.clone();
                let caller =
                    match self.inner.store.read(move |tx| whose(tx, &looked, id, now)).await? {
                        Ok(caller) => caller,
                        Err((reason, of)) => {
                            return self.refuse_ticket(origin, id, reason, of).await;
                        }
                    };
                (caller, Some(hash))
            }
        };
        let owner = self.inner.store.read(move |tx| Ok(tx.session(id)?.map(|s| s.user_id))).await?;
        let note = self.note(origin, Action::OpenStream).by(&caller);
        // A stranger to the session gets no place, so the owner's places cannot be used up by
        // others.
        let taken = if owner == Some(caller.user.id) {
            let Some(taken) =
                self.live().take_place(id, &caller, now, self.inner.settings.max_viewers)
            else {
                self.write_note(note.on_session_id(id).denied("too_many_viewers")).await?;
                let full = Error::conflict(
                    "This session is open in as many windows as it may be. Close one first.",
                );
                return Err(full.caused_by(TooManyViewers));
            };
            Some(taken)
        } else {
            None
        };
        let who = caller.clone();
        let by_ticket = ticket.is_some();
        let tunnel = self.inner.fleet.tunnel(id).map(|report| report.state);
        let found = self
            .decide(move |book| {
                if let Some(hash) = &ticket
                    && !book.consume_ticket(hash, now)?
                {
                    return book.refuse(
                        &note
                            .clone()
                            .acting(Action::TicketRefused)
                            .on_session_id(id)
                            .denied("used"),
                        bad_ticket(),
                    );
                }
                let permit = match permitted(book, &who, id, now, &note)? {
                    Ok(permit) => permit,
                    Err(error) => return Ok(Err(error)),
                };
                let note = note.clone().on_session(permit.session());
                let behind = match book.behind(permit.session(), &note)? {
                    Ok(behind) => behind,
                    Err(error) => return Ok(Err(error)),
                };
                let tunnel = if matches!(permit.session().route, SessionRoute::Direct(_)) {
                    Some(TunnelState::None)
                } else {
                    tunnel
                };
                let note = note.with("proof", if by_ticket { "ticket" } else { "login" });
                book.note(&note.with("tunnel_status", tunnel.map(TunnelState::as_str)));
                Ok(Ok((permit, behind)))
            })
            .await;
        let (permit, behind) = found?;
        let Some(taken) = taken else { return Err(Error::not_found(SESSION)) };
        self.grant(permit, behind, taken, &caller)
    }

    fn grant(
        &self,
        permit: StreamPermit,
        behind: Behind,
        taken: Taken,
        caller: &Caller,
    ) -> Result<StreamGrant> {
        self.live().granted(&taken.place, behind.terms());
        let server = self.server_of(permit.session(), behind, caller)?;
        let lease = Lease::grant(permit, server);
        Ok(StreamGrant { lease, right: taken.right, meters: taken.meters, place: taken.place })
    }

    async fn refuse_ticket<T>(
        &self,
        origin: &RequestSource,
        id: SessionId,
        reason: &str,
        of: Option<Box<Caller>>,
    ) -> Result<T> {
        let note = self.note(origin, Action::TicketRefused).on_session_id(id).denied(reason);
        match of {
            Some(caller) => self.write_note(note.by(&caller)).await?,
            None => self.strangers_note(origin, note).await?,
        }
        Err(bad_ticket())
    }

    /// Audits `close_stream` with byte counts and duration; the grant's place among the viewers is
    /// free again.
    ///
    /// # Errors
    /// When the store cannot write it down; the place is free all the same.
    pub async fn close_stream(
        &self,
        origin: &RequestSource,
        grant: StreamGrant,
        why: &str,
    ) -> Result<()> {
        let StreamGrant { lease, meters, place, .. } = grant;
        self.close_viewer(origin, &lease, &meters, place, why).await
    }

    /// [`Broker::close_stream`] where the lease is shared, and may outlive the stream.
    ///
    /// # Errors
    /// As there.
    pub async fn close_viewer(
        &self,
        origin: &RequestSource,
        lease: &Lease,
        meters: &Meters,
        place: ViewerPlace,
        why: &str,
    ) -> Result<()> {
        let note = self.note(origin, Action::CloseStream).on_session(lease.session());
        let note = place.by.as_deref().map_or(note.clone(), |caller| note.by(caller));
        let lasted = self.now().since(place.opened_at);
        let note = note
            .because(why)
            .with("bytes_up", whole(meters.up.load(Ordering::Relaxed)))
            .with("bytes_down", whole(meters.down.load(Ordering::Relaxed)))
            .with("duration_ms", whole(super::ending::millis(lasted)));
        drop(place);
        self.write_note(note).await
    }
}

/// Policy's permit to stream, or the written refusal.
fn permitted(
    book: &mut Book<'_, '_>,
    who: &Caller,
    id: SessionId,
    now: Timestamp,
    note: &Note,
) -> Verdict<StreamPermit> {
    let Some(session) = book.session(id)? else {
        let note = note.clone().acting(Action::AccessDenied).on_session_id(id);
        return book.refuse(&note.denied("unknown"), Error::not_found(SESSION));
    };
    if !book.still_signed_in(who, now)? {
        return book
            .refuse(&note.clone().on_session(&session).denied("signed_out"), invalid_token());
    }
    match policy::authorize_stream(who, &session) {
        Ok(permit) => Ok(Ok(permit)),
        Err(Denial::NotOwner) => {
            let note = note.clone().acting(Action::AccessDenied).on_session_id(id);
            book.refuse(&note.denied(Denial::NotOwner.as_str()), refusal(Denial::NotOwner, SESSION))
        }
        Err(denial) => {
            let reason = match session.state {
                State::Closing(reason) | State::Closed(reason) => reason.as_str(),
                State::Queued | State::Creating | State::Active => denial.as_str(),
            };
            let note = note.clone().on_session(&session).with("state", reason);
            book.refuse(&note.denied(denial.as_str()), refusal(denial, SESSION))
        }
    }
}
