//! Refresh tokens: each works once. A second use indicates theft, and the broker revokes the login.

use super::parse_text;
use crate::domain::{LoginId, Result, Timestamp};
use crate::store::schema::refresh_tokens;
use crate::store::transaction::Tx;
use diesel::prelude::*;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefreshTokenRow {
    pub login_id: LoginId,
    pub used_at: Option<Timestamp>,
    pub expires_at: Timestamp,
}

impl Tx<'_> {
    pub fn insert_refresh_token(
        &mut self,
        hash: &str,
        login: LoginId,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<()> {
        let row = (
            refresh_tokens::hash.eq(hash),
            refresh_tokens::login_id.eq(login.to_string()),
            refresh_tokens::created_at.eq(now.0),
            refresh_tokens::expires_at.eq(expires_at.0),
        );
        diesel::insert_into(refresh_tokens::table).values(row).execute(self.conn)?;
        Ok(())
    }

    /// The refresh token with this hash, used or not.
    pub fn refresh_token(&mut self, hash: &str) -> Result<Option<RefreshTokenRow>> {
        let columns =
            (refresh_tokens::login_id, refresh_tokens::used_at, refresh_tokens::expires_at);
        let row: Option<(String, Option<i64>, i64)> =
            refresh_tokens::table.find(hash).select(columns).first(self.conn).optional()?;
        row.map(|(login, used, expires)| {
            Ok(RefreshTokenRow {
                login_id: parse_text(&login, "login id")?,
                used_at: used.map(Timestamp),
                expires_at: Timestamp(expires),
            })
        })
        .transpose()
    }

    /// Consumes a refresh token: false when it was used before or has expired. Of two that race,
    /// one wins.
    pub fn consume_refresh_token(&mut self, hash: &str, now: Timestamp) -> Result<bool> {
        let unused = refresh_tokens::table
            .find(hash)
            .filter(refresh_tokens::used_at.is_null())
            .filter(refresh_tokens::expires_at.gt(now.0));
        Ok(diesel::update(unused).set(refresh_tokens::used_at.eq(now.0)).execute(self.conn)? == 1)
    }
}
