//! Queries of the live sessions. Their lookups are in `live_sessions`, which is small.

use super::sessions::{SessionRow, all};
use super::{limit, parse_optional, parse_text};
use crate::domain::principal::PrincipalId;
use crate::domain::session::Session;
use crate::domain::{HostId, OrganizationId, Result, SessionId, Timestamp, UserId, WorkspaceKey};
use crate::store::schema::{live_sessions, sessions, workspaces};
use crate::store::transaction::Tx;
use diesel::prelude::*;
use std::collections::{HashMap, HashSet};

/// Live sessions whose row in `live_sessions` matches the filters. Selected by a subquery rather
/// than a join: SQLite then always starts from the few live ones, where a join made it read a
/// million closed ones (0.3 s).
macro_rules! live {
    ($($filter:expr),*) => {
        sessions::table
            .filter(sessions::id.eq_any(live_sessions::table.select(live_sessions::session_id)$(.filter($filter))*))
            .select(SessionRow::as_select())
    };
}

macro_rules! newest_live {
    ($tx:expr $(, $filter:expr)*) => {
        all(live!($($filter),*).order((sessions::created_at.desc(), sessions::id.desc())).load($tx.conn)?)
    };
}

impl Tx<'_> {
    /// A principal's live session in a workspace; the newest, if an older one is still closing.
    pub fn live_session_of(
        &mut self,
        principal: PrincipalId,
        workspace: &WorkspaceKey,
    ) -> Result<Option<Session>> {
        let found = match principal {
            PrincipalId::User(user) => newest_live!(
                self,
                live_sessions::user_id.eq(user.to_string()),
                live_sessions::organization_id.eq(workspace.organization_id.to_string()),
                live_sessions::workspace_id.eq(workspace.id.as_str())
            )?,
            PrincipalId::ApiKey(_) | PrincipalId::System => self
                .live_sessions_of_workspace(workspace)?
                .into_iter()
                .filter(|session| session.principal == principal)
                .collect(),
        };
        Ok(found.into_iter().next())
    }

    /// The live sessions in a workspace, newest first.
    pub fn live_sessions_of_workspace(&mut self, workspace: &WorkspaceKey) -> Result<Vec<Session>> {
        newest_live!(
            self,
            live_sessions::organization_id.eq(workspace.organization_id.to_string()),
            live_sessions::workspace_id.eq(workspace.id.as_str())
        )
    }

    /// The live sessions of a user, newest first.
    pub fn live_sessions_of_user(&mut self, user: UserId) -> Result<Vec<Session>> {
        newest_live!(self, live_sessions::user_id.eq(user.to_string()))
    }

    /// The live sessions on a host, newest first.
    pub fn live_sessions_of_host(&mut self, host: HostId) -> Result<Vec<Session>> {
        newest_live!(self, live_sessions::host_id.eq(host.to_string()))
    }

    /// Every live session, newest first.
    pub fn live_sessions(&mut self) -> Result<Vec<Session>> {
        newest_live!(self)
    }

    /// The live sessions of an organization, newest first, before a position.
    pub fn live_sessions_page(
        &mut self,
        organization: OrganizationId,
        before: Option<(Timestamp, SessionId)>,
        count: usize,
    ) -> Result<Vec<Session>> {
        let (at, id) = before.map_or((i64::MAX, String::new()), |(at, id)| (at.0, id.to_string()));
        // The second condition bounds the index range, the third selects among sessions of the same
        // millisecond.
        let page = live_sessions::table
            .filter(live_sessions::organization_id.eq(organization.to_string()))
            .filter(live_sessions::created_at.le(at))
            .filter(live_sessions::created_at.lt(at).or(live_sessions::session_id.lt(id)))
            .order((live_sessions::created_at.desc(), live_sessions::session_id.desc()))
            .limit(limit(count))
            .select(live_sessions::session_id);
        all(sessions::table
            .filter(sessions::id.eq_any(page))
            .order((sessions::created_at.desc(), sessions::id.desc()))
            .select(SessionRow::as_select())
            .load(self.conn)?)
    }

    /// The ids of the live sessions in these workspaces.
    pub fn live_session_ids(
        &mut self,
        workspaces: &HashSet<WorkspaceKey>,
    ) -> Result<Vec<SessionId>> {
        let ids = workspaces.iter().map(|key| key.id.as_str());
        let rows: Vec<(String, String, String)> = live_sessions::table
            .filter(live_sessions::workspace_id.eq_any(ids))
            .select((
                live_sessions::session_id,
                live_sessions::organization_id,
                live_sessions::workspace_id,
            ))
            .load(self.conn)?;
        let mut found = Vec::new();
        for (session, organization, workspace) in rows {
            let key = WorkspaceKey {
                organization_id: parse_text(&organization, "organization id")?,
                id: parse_text(&workspace, "workspace id")?,
            };
            if workspaces.contains(&key) {
                found.push(parse_text(&session, "session id")?);
            }
        }
        Ok(found)
    }

    /// The live sessions in the single-seat workspaces of an organization, newest first: at most
    /// one each.
    pub fn live_sessions_of_single_seats(
        &mut self,
        organization: OrganizationId,
    ) -> Result<Vec<Session>> {
        let single_seat = workspaces::table
            .filter(workspaces::organization_id.eq(organization.to_string()))
            .filter(workspaces::single_seat.eq(true))
            .select(workspaces::id);
        newest_live!(
            self,
            live_sessions::organization_id.eq(organization.to_string()),
            live_sessions::workspace_id.eq_any(single_seat)
        )
    }

    /// Numbers of live sessions of an organization, by host.
    pub fn live_session_counts(
        &mut self,
        organization: OrganizationId,
    ) -> Result<HashMap<HostId, usize>> {
        let rows: Vec<(Option<String>, i64)> = live_sessions::table
            .filter(live_sessions::organization_id.eq(organization.to_string()))
            .group_by(live_sessions::host_id)
            .select((live_sessions::host_id, diesel::dsl::count_star()))
            .load(self.conn)?;
        let mut counts = HashMap::new();
        for (host, count) in rows {
            if let Some(host) = parse_optional(host.as_deref(), "host id")? {
                counts.insert(host, usize::try_from(count).unwrap_or(0));
            }
        }
        Ok(counts)
    }

    /// Live sessions in any of these states (names of the store), oldest first.
    pub fn live_sessions_in_states(
        &mut self,
        states: &[&str],
        count: usize,
    ) -> Result<Vec<Session>> {
        let states: Vec<String> = states.iter().map(|state| (*state).to_owned()).collect();
        let rows: Vec<SessionRow> = live!(live_sessions::state.eq_any(states))
            .order((sessions::created_at, sessions::id))
            .limit(limit(count))
            .load(self.conn)?;
        all(rows)
    }

    /// Live sessions past their expiry that are not closing yet, the longest overdue first.
    pub fn expired_sessions(&mut self, now: Timestamp, count: usize) -> Result<Vec<Session>> {
        let due = live_sessions::expires_at.le(now.0).and(live_sessions::state.ne("closing"));
        let rows: Vec<SessionRow> = live!(due)
            .order((sessions::expires_at, sessions::id))
            .limit(limit(count))
            .load(self.conn)?;
        all(rows)
    }
}
