//! Token signing keys, sealed, and settings.

use crate::domain::{Result, Timestamp};
use crate::store::schema::{settings, signing_keys};
use crate::store::transaction::Tx;
use diesel::prelude::*;

impl Tx<'_> {
    /// The token signing keys, oldest first: id, sealed seed, creation time.
    pub fn signing_keys(&mut self) -> Result<Vec<(String, String, Timestamp)>> {
        let columns = (signing_keys::kid, signing_keys::sealed_private, signing_keys::created_at);
        let rows: Vec<(String, String, i64)> = signing_keys::table
            .select(columns)
            .order((signing_keys::created_at, signing_keys::kid))
            .load(self.conn)?;
        Ok(rows.into_iter().map(|(kid, sealed, at)| (kid, sealed, Timestamp(at))).collect())
    }

    pub fn insert_signing_key(
        &mut self,
        kid: &str,
        sealed_private: &str,
        now: Timestamp,
    ) -> Result<()> {
        let row = (
            signing_keys::kid.eq(kid),
            signing_keys::sealed_private.eq(sealed_private),
            signing_keys::created_at.eq(now.0),
        );
        diesel::insert_into(signing_keys::table).values(row).execute(self.conn)?;
        Ok(())
    }

    pub fn setting(&mut self, name: &str) -> Result<Option<String>> {
        Ok(settings::table.find(name).select(settings::value).first(self.conn).optional()?)
    }

    pub fn put_setting(&mut self, name: &str, value: &str) -> Result<()> {
        // Diesel's typed ON CONFLICT does not compile for both databases at once; both accept this.
        diesel::sql_query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value")
            .bind::<diesel::sql_types::Text, _>(name)
            .bind::<diesel::sql_types::Text, _>(value)
            .execute(self.conn)?;
        Ok(())
    }
}
