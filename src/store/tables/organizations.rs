//! Organizations.

use super::parse_text;
use crate::domain::{OrganizationId, Result, Timestamp};
use crate::store::schema::organizations;
use crate::store::transaction::Tx;
use diesel::prelude::*;

impl Tx<'_> {
    /// The oldest organization, and its name.
    pub fn first_organization(&mut self) -> Result<Option<(OrganizationId, String)>> {
        let row: Option<(String, String)> = organizations::table
            .select((organizations::id, organizations::name))
            .order((organizations::created_at, organizations::id))
            .first(self.conn)
            .optional()?;
        row.map(|(id, name)| Ok((parse_text(&id, "organization id")?, name))).transpose()
    }

    pub fn insert_organization(
        &mut self,
        id: OrganizationId,
        name: &str,
        now: Timestamp,
    ) -> Result<()> {
        let row = (
            organizations::id.eq(id.to_string()),
            organizations::name.eq(name),
            organizations::created_at.eq(now.0),
        );
        diesel::insert_into(organizations::table).values(row).execute(self.conn)?;
        Ok(())
    }
}
