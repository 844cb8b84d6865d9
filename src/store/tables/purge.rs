//! Takes away what has had its time: tickets, challenges, join tokens, refresh tokens, logins. A
//! bounded batch a call; sessions and the audit log are kept.

use super::limit;
use crate::domain::{Result, Timestamp};
use crate::store::Tx;
use crate::store::schema::{join_tokens, logins, mfa_challenges, refresh_tokens, tickets};
use diesel::prelude::*;
use std::time::Duration;

/// Most rows of a table that one call takes away.
pub const BATCH: usize = 500;
/// How long an ended login and its used refresh tokens are kept beyond their time: a stolen token
/// that turns up late is still known as one.
const EXPIRED_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

macro_rules! purge_table {
    ($conn:expr, $table:ident, $key:ident, $before:expr) => {{
        let old: Vec<String> = $table::table
            .filter($table::expires_at.lt($before.0))
            .order($table::expires_at)
            .limit(limit(BATCH))
            .select($table::$key)
            .load($conn)?;
        for key in &old {
            diesel::delete($table::table.find(key)).execute($conn)?;
        }
        old.len()
    }};
}

impl Tx<'_> {
    /// Takes away at most [`BATCH_MAX`] rows of each table, and says how many in all.
    pub fn purge(&mut self, now: Timestamp) -> Result<usize> {
        let kept = now.before(EXPIRED_RETENTION);
        let mut gone = purge_table!(self.conn, tickets, hash, now.before(Duration::from_secs(600)));
        gone += purge_table!(self.conn, mfa_challenges, id, now);
        gone += purge_table!(self.conn, join_tokens, hash, kept);
        gone += purge_table!(self.conn, refresh_tokens, hash, kept);
        // A login takes its refresh tokens with it.
        gone += purge_table!(self.conn, logins, id, kept);
        Ok(gone)
    }
}
