//! TOTP factors: at most one per user, without effect until confirmed by a code.

use crate::domain::{Error, Result, Timestamp, UserId};
use crate::store::schema::totp;
use crate::store::transaction::Tx;
use diesel::prelude::*;

#[derive(Queryable, Selectable, Clone, PartialEq, Eq, Debug)]
#[diesel(table_name = totp)]
pub struct TotpRow {
    /// The secret, sealed.
    pub sealed: String,
    /// When it was confirmed, in unix milliseconds; `None`: not yet, so it proves nothing.
    pub confirmed_at: Option<i64>,
    /// The last step whose code was used; -1 before the first.
    pub last_step: i64,
}

impl Tx<'_> {
    /// Stores a new, unconfirmed factor, and replaces another unconfirmed one.
    ///
    /// # Errors
    /// `Conflict` when the user has a confirmed factor.
    pub fn put_totp(&mut self, user: UserId, sealed: &str, now: Timestamp) -> Result<()> {
        let key = user.to_string();
        let row = (
            totp::user_id.eq(&key),
            totp::sealed.eq(sealed),
            totp::created_at.eq(now.0),
            totp::last_step.eq(-1),
        );
        self.savepoint(|conn| {
            diesel::delete(totp::table.find(&key).filter(totp::confirmed_at.is_null()))
                .execute(conn)?;
            diesel::insert_into(totp::table).values(row).execute(conn)
        })
        .map_err(crate::store::error::on_unique_violation(
            "This account already has a second factor.",
        ))?;
        Ok(())
    }

    pub fn totp(&mut self, user: UserId) -> Result<Option<TotpRow>> {
        Ok(totp::table
            .find(user.to_string())
            .select(TotpRow::as_select())
            .first(self.conn)
            .optional()?)
    }

    /// Confirms the factor by a code of `step`, which is used up. Of two that race, one wins.
    pub fn confirm_totp(&mut self, user: UserId, step: i64, now: Timestamp) -> Result<bool> {
        let unconfirmed = totp::table
            .find(user.to_string())
            .filter(totp::confirmed_at.is_null())
            .filter(totp::last_step.lt(step));
        let change = (totp::confirmed_at.eq(now.0), totp::last_step.eq(step));
        Ok(diesel::update(unconfirmed).set(change).execute(self.conn)? == 1)
    }

    /// Uses the code of `step` of a confirmed factor: false when this step, or a later one, was
    /// used before (RFC 6238 section 5.2). A used step after `latest`, the last one that can be
    /// valid now, is from a clock that was ahead, and does not count.
    pub fn advance_totp_step(&mut self, user: UserId, step: i64, latest: i64) -> Result<bool> {
        let unused = totp::table
            .find(user.to_string())
            .filter(totp::confirmed_at.is_not_null())
            .filter(totp::last_step.lt(step).or(totp::last_step.gt(latest)));
        Ok(diesel::update(unused).set(totp::last_step.eq(step)).execute(self.conn)? == 1)
    }

    /// Deletes a user's factor, confirmed or not.
    pub fn delete_totp(&mut self, user: UserId) -> Result<bool> {
        Ok(diesel::delete(totp::table.find(user.to_string())).execute(self.conn)? == 1)
    }
}

impl TotpRow {
    /// When the factor was confirmed.
    ///
    /// # Errors
    /// `Conflict` when it is not confirmed.
    pub fn confirmed(&self) -> Result<Timestamp> {
        self.confirmed_at
            .map(Timestamp)
            .ok_or_else(|| Error::conflict("The second factor was not confirmed yet."))
    }
}
