//! Sessions and their state changes.
//!
//! | term | meaning |
//! | --- | --- |
//! | live | not closed: it has a row in `live_sessions`, which is small, so queries start there |

use super::seats::SeatKey;
use super::{corrupt_value, limit, parse_mfa, parse_optional, parse_principal, parse_text};
use crate::domain::route::SessionRoute;
use crate::domain::session::{EndReason, Session, SessionFilter, State};
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{HostId, Result, SessionId, Timestamp, UserId};
use crate::store::connection::MultiBackend;
use crate::store::error;
use crate::store::schema::{live_sessions, seats, session_events, session_leases, sessions};
use crate::store::transaction::Tx;
use diesel::prelude::*;

/// A state that a session entered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateChange {
    pub version: i64,
    pub state: State,
    pub at: Timestamp,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = sessions, treat_none_as_default_value = false)]
pub(super) struct SessionRow {
    id: String,
    organization_id: String,
    principal_kind: String,
    user_id: Option<String>,
    api_key_id: Option<String>,
    principal_name: String,
    login_id: Option<String>,
    workspace_id: String,
    workspace_name: String,
    workspace_kind: String,
    host_id: Option<String>,
    state: String,
    reason: Option<String>,
    address: String,
    mfa_method: Option<String>,
    mfa_verified_at: Option<i64>,
    peer_public_key: Option<String>,
    created_at: i64,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    expires_at: i64,
    version: i64,
    way: String,
}

impl SessionRow {
    fn of(session: &Session) -> Self {
        Self {
            id: session.id.to_string(),
            organization_id: session.organization_id.to_string(),
            principal_kind: session.principal.kind().to_owned(),
            user_id: session.principal.user_id().map(|id| id.to_string()),
            api_key_id: session.principal.api_key_id().map(|id| id.to_string()),
            principal_name: session.principal_name.clone(),
            login_id: session.login_id.map(|id| id.to_string()),
            workspace_id: session.workspace_id.to_string(),
            workspace_name: session.workspace_name.clone(),
            workspace_kind: session.workspace_kind.as_str().to_owned(),
            host_id: session.host_id.map(|id| id.to_string()),
            state: session.state.as_str().to_owned(),
            reason: session.state.end_reason().map(|reason| reason.as_str().to_owned()),
            address: session.address.to_string(),
            mfa_method: session.mfa.map(|mfa| mfa.method.as_str().to_owned()),
            mfa_verified_at: session.mfa.map(|mfa| mfa.verified_at.0),
            peer_public_key: session.peer_public_key.clone(),
            created_at: session.created_at.0,
            started_at: session.started_at.map(|at| at.0),
            ended_at: session.ended_at.map(|at| at.0),
            expires_at: session.expires_at.0,
            version: session.version,
            way: session.route.to_string(),
        }
    }

    fn into_session(self) -> Result<Session> {
        Ok(Session {
            id: parse_text(&self.id, "session id")?,
            organization_id: parse_text(&self.organization_id, "organization id")?,
            principal: parse_principal(
                &self.principal_kind,
                self.user_id.as_deref(),
                self.api_key_id.as_deref(),
            )?,
            principal_name: self.principal_name,
            login_id: parse_optional(self.login_id.as_deref(), "login id")?,
            workspace_id: parse_text(&self.workspace_id, "workspace id")?,
            workspace_name: self.workspace_name,
            workspace_kind: WorkspaceKind::parse(&self.workspace_kind)
                .ok_or_else(|| corrupt_value("workspace kind"))?,
            host_id: parse_optional(self.host_id.as_deref(), "host id")?,
            route: SessionRoute::parse(&self.way).ok_or_else(|| corrupt_value("way"))?,
            state: parse_state(&self.state, self.reason.as_deref())?,
            address: parse_text(&self.address, "session address")?,
            mfa: parse_mfa(self.mfa_method.as_deref(), self.mfa_verified_at)?,
            peer_public_key: self.peer_public_key,
            created_at: Timestamp(self.created_at),
            started_at: self.started_at.map(Timestamp),
            ended_at: self.ended_at.map(Timestamp),
            expires_at: Timestamp(self.expires_at),
            version: self.version,
        })
    }
}

fn parse_state(word: &str, reason: Option<&str>) -> Result<State> {
    let reason = reason
        .map(|word| EndReason::parse(word).ok_or_else(|| corrupt_value("end reason")))
        .transpose()?;
    State::parse(word, reason).ok_or_else(|| corrupt_value("session state"))
}

pub(super) fn all(rows: Vec<SessionRow>) -> Result<Vec<Session>> {
    rows.into_iter().map(SessionRow::into_session).collect()
}

impl Tx<'_> {
    /// Inserts a session with its principal's seat in the workspace, its address, and `seat` if one is
    /// given.
    ///
    /// # Errors
    /// `Conflict` when a seat or the address is another live session's; nothing is changed then.
    pub fn insert_session(&mut self, session: &Session, seat: Option<SeatKey>) -> Result<()> {
        let row = SessionRow::of(session);
        let live = (
            live_sessions::session_id.eq(row.id.clone()),
            live_sessions::organization_id.eq(row.organization_id.clone()),
            live_sessions::user_id.eq(row.user_id.clone()),
            live_sessions::workspace_id.eq(row.workspace_id.clone()),
            live_sessions::host_id.eq(row.host_id.clone()),
            live_sessions::address.eq(row.address.clone()),
            live_sessions::way.eq(row.way.clone()),
            live_sessions::state.eq(row.state.clone()),
            live_sessions::expires_at.eq(row.expires_at),
            live_sessions::created_at.eq(row.created_at),
        );
        let own = SeatKey::principal(&session.workspace_key(), session.principal);
        let shared = seat.filter(|seat| *seat != own);
        let id = row.id.clone();
        self.savepoint(|conn| {
            diesel::insert_into(sessions::table).values(row).execute(conn)?;
            let take = |conn: &mut _, seat: SeatKey| {
                diesel::insert_into(seats::table)
                    .values((seats::seat.eq(seat.as_str().to_owned()), seats::session_id.eq(&id)))
                    .execute(conn)
            };
            // The shared seat first: its conflict concerns every user.
            if let Some(seat) = shared {
                take(conn, seat).map_err(error::on_unique_violation(
                    "This workspace is in use by somebody else.",
                ))?;
            }
            take(conn, own).map_err(error::on_unique_violation(
                "There is already a session in this workspace.",
            ))?;
            diesel::insert_into(live_sessions::table).values(live).execute(conn).map_err(
                error::on_unique_violation(
                    "Another session started at the same moment. Try again.",
                ),
            )?;
            Ok::<_, crate::domain::Error>(())
        })?;
        self.insert_state_change(session, session.created_at)
    }

    fn insert_state_change(&mut self, session: &Session, at: Timestamp) -> Result<()> {
        let row = (
            session_events::session_id.eq(session.id.to_string()),
            session_events::version.eq(session.version),
            session_events::state.eq(session.state.as_str()),
            session_events::reason.eq(session.state.end_reason().map(EndReason::as_str)),
            session_events::at.eq(at.0),
        );
        diesel::insert_into(session_events::table).values(row).execute(self.conn)?;
        Ok(())
    }

    pub fn session(&mut self, id: SessionId) -> Result<Option<Session>> {
        let row: Option<SessionRow> = sessions::table
            .find(id.to_string())
            .select(SessionRow::as_select())
            .first(self.conn)
            .optional()?;
        row.map(SessionRow::into_session).transpose()
    }

    /// Writes the new state of a session, if it still has `expected_version`, and records the state
    /// change. A closed session loses its seats, its address and its lease. Principal, workspace
    /// and host never change; a known `peer_public_key` is kept.
    pub fn update_session(
        &mut self,
        next: &Session,
        expected_version: i64,
        now: Timestamp,
    ) -> Result<bool> {
        let row = SessionRow::of(next);
        let change = (
            sessions::state.eq(row.state.clone()),
            sessions::reason.eq(row.reason),
            sessions::mfa_method.eq(row.mfa_method),
            sessions::mfa_verified_at.eq(row.mfa_verified_at),
            row.peer_public_key.map(|key| sessions::peer_public_key.eq(key)),
            sessions::started_at.eq(row.started_at),
            sessions::ended_at.eq(row.ended_at),
            sessions::expires_at.eq(row.expires_at),
            sessions::version.eq(row.version),
        );
        let as_expected =
            sessions::table.find(&row.id).filter(sessions::version.eq(expected_version));
        if diesel::update(as_expected).set(change).execute(self.conn)? == 0 {
            return Ok(false);
        }
        if next.state.is_live() {
            let change =
                (live_sessions::state.eq(row.state), live_sessions::expires_at.eq(row.expires_at));
            diesel::update(live_sessions::table.find(&row.id)).set(change).execute(self.conn)?;
        } else {
            diesel::delete(live_sessions::table.find(&row.id)).execute(self.conn)?;
            diesel::delete(session_leases::table.find(&row.id)).execute(self.conn)?;
            self.release_seats(next.id)?;
        }
        self.insert_state_change(next, now)?;
        Ok(true)
    }

    /// The host of a user's last session, if it had one.
    pub fn last_host_of(&mut self, user: UserId) -> Result<Option<HostId>> {
        let host: Option<Option<String>> = sessions::table
            .filter(sessions::user_id.eq(user.to_string()))
            .order((sessions::created_at.desc(), sessions::id.desc()))
            .select(sessions::host_id)
            .first(self.conn)
            .optional()?;
        parse_optional(host.flatten().as_deref(), "host id")
    }

    /// A user's sessions that `filter` selects, newest first, before a position.
    pub fn sessions_page(
        &mut self,
        user: UserId,
        filter: SessionFilter,
        before: Option<(Timestamp, SessionId)>,
        count: usize,
    ) -> Result<Vec<Session>> {
        let mut query = sessions::table
            .filter(sessions::user_id.eq(user.to_string()))
            .order((sessions::created_at.desc(), sessions::id.desc()))
            .limit(limit(count))
            .select(SessionRow::as_select())
            .into_boxed::<MultiBackend>();
        query = match filter {
            SessionFilter::Any => {
                query.filter(sessions::state.eq_any(["active", "closing", "closed"]))
            }
            SessionFilter::Active => query.filter(sessions::state.eq("active")),
            SessionFilter::Ended(reasons) => query
                .filter(sessions::state.eq_any(["closing", "closed"]))
                .filter(sessions::reason.eq_any(reasons.iter().map(|reason| reason.as_str()))),
        };
        if let Some((at, id)) = before {
            // The first condition bounds the index range, the second selects among sessions of the
            // same millisecond.
            query = query
                .filter(sessions::created_at.le(at.0))
                .filter(sessions::created_at.lt(at.0).or(sessions::id.lt(id.to_string())));
        }
        all(query.load(self.conn)?)
    }

    /// The state changes of a session, in order.
    pub fn state_changes(&mut self, id: SessionId) -> Result<Vec<StateChange>> {
        let rows: Vec<(i64, String, Option<String>, i64)> = session_events::table
            .filter(session_events::session_id.eq(id.to_string()))
            .order(session_events::version)
            .select((
                session_events::version,
                session_events::state,
                session_events::reason,
                session_events::at,
            ))
            .load(self.conn)?;
        rows.into_iter()
            .map(|(version, word, reason, at)| {
                Ok(StateChange {
                    version,
                    state: parse_state(&word, reason.as_deref())?,
                    at: Timestamp(at),
                })
            })
            .collect()
    }
}
