//! Deletes expired tickets, challenges, join tokens, refresh tokens and logins, in bounded batches.
//! Sessions and the audit log are retained.

use super::limit;
use crate::domain::{Result, Timestamp};
use crate::store::schema::{join_tokens, logins, mfa_challenges, refresh_tokens, tickets};
use crate::store::transaction::Tx;
use diesel::prelude::*;
use std::time::Duration;

/// Most rows that one call deletes: some milliseconds, for which other writers wait.
pub const BATCH: usize = 500;
/// How long a login and its used refresh tokens are retained after their expiry: a stolen token that is
/// presented late is still recognized.
const EXPIRED_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

macro_rules! purge_table {
    ($conn:expr, $deleted:ident, $table:ident, $key:ident, $before:expr) => {{
        let old: Vec<String> = $table::table
            .filter($table::expires_at.lt($before.0))
            .order($table::expires_at)
            .limit(limit(BATCH - $deleted))
            .select($table::$key)
            .load($conn)?;
        for key in &old {
            diesel::delete($table::table.find(key)).execute($conn)?;
        }
        $deleted += old.len();
    }};
}

impl Tx<'_> {
    /// Deletes at most [`BATCH`] rows and returns how many: with fewer, nothing is left.
    pub fn purge(&mut self, now: Timestamp) -> Result<usize> {
        let retained = now.before(EXPIRED_RETENTION);
        let mut deleted = 0;
        purge_table!(self.conn, deleted, tickets, hash, now.before(Duration::from_secs(600)));
        purge_table!(self.conn, deleted, mfa_challenges, id, now);
        purge_table!(self.conn, deleted, join_tokens, hash, retained);
        purge_table!(self.conn, deleted, refresh_tokens, hash, retained);
        // A login's refresh tokens are deleted with it.
        purge_table!(self.conn, deleted, logins, id, retained);
        Ok(deleted)
    }
}
