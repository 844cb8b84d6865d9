//! Stream tickets: each opens one stream of one session, once, within a short time.

use super::{parse_optional, parse_principal, parse_text};
use crate::domain::principal::PrincipalId;
use crate::domain::{LoginId, Result, SessionId, Timestamp};
use crate::store::schema::tickets;
use crate::store::transaction::Tx;
use diesel::prelude::*;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TicketRow {
    pub session_id: SessionId,
    pub principal: PrincipalId,
    /// `None` unless a user requested it.
    pub login_id: Option<LoginId>,
    pub used_at: Option<Timestamp>,
    pub expires_at: Timestamp,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = tickets, treat_none_as_default_value = false)]
struct Row {
    session_id: String,
    principal_kind: String,
    user_id: Option<String>,
    api_key_id: Option<String>,
    login_id: Option<String>,
    used_at: Option<i64>,
    expires_at: i64,
}

impl Tx<'_> {
    pub fn insert_ticket(&mut self, hash: &str, ticket: &TicketRow) -> Result<()> {
        let row = Row {
            session_id: ticket.session_id.to_string(),
            principal_kind: ticket.principal.kind().to_owned(),
            user_id: ticket.principal.user_id().map(|id| id.to_string()),
            api_key_id: ticket.principal.api_key_id().map(|id| id.to_string()),
            login_id: ticket.login_id.map(|id| id.to_string()),
            used_at: ticket.used_at.map(|at| at.0),
            expires_at: ticket.expires_at.0,
        };
        diesel::insert_into(tickets::table)
            .values((tickets::hash.eq(hash), row))
            .execute(self.conn)?;
        Ok(())
    }

    /// The ticket with this hash, used or not.
    pub fn ticket(&mut self, hash: &str) -> Result<Option<TicketRow>> {
        let row: Option<Row> =
            tickets::table.find(hash).select(Row::as_select()).first(self.conn).optional()?;
        row.map(|row| {
            Ok(TicketRow {
                session_id: parse_text(&row.session_id, "session id")?,
                principal: parse_principal(
                    &row.principal_kind,
                    row.user_id.as_deref(),
                    row.api_key_id.as_deref(),
                )?,
                login_id: parse_optional(row.login_id.as_deref(), "login id")?,
                used_at: row.used_at.map(Timestamp),
                expires_at: Timestamp(row.expires_at),
            })
        })
        .transpose()
    }

    /// Consumes a ticket: false when it was used before or has expired. Of two that race, one wins.
    pub fn consume_ticket(&mut self, hash: &str, now: Timestamp) -> Result<bool> {
        let unused = tickets::table
            .find(hash)
            .filter(tickets::used_at.is_null())
            .filter(tickets::expires_at.gt(now.0));
        Ok(diesel::update(unused).set(tickets::used_at.eq(now.0)).execute(self.conn)? == 1)
    }
}
