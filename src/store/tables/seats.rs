//! Seats: names that one live session may hold, `organization/workspace/principal` for each, and
//! `organization/workspace` for a single-seat workspace.

use super::parse_optional;
use crate::domain::principal::PrincipalId;
use crate::domain::{Result, SessionId, WorkspaceKey};
use crate::store::schema::seats;
use crate::store::transaction::Tx;
use diesel::prelude::*;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SeatKey(String);

impl SeatKey {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The only seat of a single-seat workspace.
    #[must_use]
    pub fn workspace(workspace: &WorkspaceKey) -> Self {
        Self(workspace.to_string())
    }

    /// A principal's own seat in a workspace. (Ids contain no `/` and a UUID no `:`, so seats
    /// of different kinds never collide.)
    #[must_use]
    pub fn principal(workspace: &WorkspaceKey, principal: PrincipalId) -> Self {
        Self(match principal {
            PrincipalId::User(user) => format!("{workspace}/{user}"),
            PrincipalId::ApiKey(key) => format!("{workspace}/api_key:{key}"),
            PrincipalId::System => format!("{workspace}/system:"),
        })
    }
}

impl Tx<'_> {
    /// Releases a session's seats, so that others may take them while it is still closing.
    pub fn release_seats(&mut self, id: SessionId) -> Result<()> {
        diesel::delete(seats::table.filter(seats::session_id.eq(id.to_string())))
            .execute(self.conn)?;
        Ok(())
    }

    pub fn seat_holder(&mut self, seat: &SeatKey) -> Result<Option<SessionId>> {
        let id: Option<String> =
            seats::table.find(&seat.0).select(seats::session_id).first(self.conn).optional()?;
        parse_optional(id.as_deref(), "session id")
    }
}
