//! Stream tickets: each opens one stream of one session, once, within a short time.

use super::parse_text;
use crate::domain::{LoginId, Result, SessionId, Timestamp, UserId};
use crate::store::Tx;
use crate::store::schema::tickets;
use diesel::prelude::*;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TicketRow {
    pub session_id: SessionId,
    pub user_id: UserId,
    pub login_id: LoginId,
    pub used_at: Option<Timestamp>,
    pub expires_at: Timestamp,
}

impl Tx<'_> {
    pub fn insert_ticket(
        &mut self,
        hash: &str,
        session: SessionId,
        user: UserId,
        login: LoginId,
        expires_at: Timestamp,
    ) -> Result<()> {
        let row = (
            tickets::hash.eq(hash),
            tickets::session_id.eq(session.to_string()),
            tickets::user_id.eq(user.to_string()),
            tickets::login_id.eq(login.to_string()),
            tickets::expires_at.eq(expires_at.0),
        );
        diesel::insert_into(tickets::table).values(row).execute(self.conn)?;
        Ok(())
    }

    /// The ticket with this hash, used or not.
    pub fn ticket(&mut self, hash: &str) -> Result<Option<TicketRow>> {
        let columns = (
            tickets::session_id,
            tickets::user_id,
            tickets::login_id,
            tickets::used_at,
            tickets::expires_at,
        );
        let row: Option<(String, String, String, Option<i64>, i64)> =
            tickets::table.find(hash).select(columns).first(self.conn).optional()?;
        row.map(|(session, user, login, used, expires)| {
            Ok(TicketRow {
                session_id: parse_text(&session, "session id")?,
                user_id: parse_text(&user, "user id")?,
                login_id: parse_text(&login, "login id")?,
                used_at: used.map(Timestamp),
                expires_at: Timestamp(expires),
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
