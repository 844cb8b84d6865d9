//! Join tokens: each enrols one host.

use super::parse_text;
use crate::domain::{OrganizationId, Result, Timestamp};
use crate::store::schema::join_tokens;
use crate::store::transaction::Tx;
use diesel::prelude::*;

impl Tx<'_> {
    /// Stores a join token, with the name of the host if one is given.
    pub fn insert_join_token(
        &mut self,
        hash: &str,
        organization: OrganizationId,
        name: Option<&str>,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<()> {
        let row = (
            join_tokens::hash.eq(hash),
            join_tokens::organization_id.eq(organization.to_string()),
            join_tokens::name.eq(name),
            join_tokens::created_at.eq(now.0),
            join_tokens::expires_at.eq(expires_at.0),
        );
        diesel::insert_into(join_tokens::table).values(row).execute(self.conn)?;
        Ok(())
    }

    /// Consumes a join token and returns its organization and name; `None` when it is unknown, used
    /// or expired. Of two that race, one wins.
    pub fn consume_join_token(
        &mut self,
        hash: &str,
        now: Timestamp,
    ) -> Result<Option<(OrganizationId, Option<String>)>> {
        let unused = join_tokens::table
            .find(hash)
            .filter(join_tokens::used_at.is_null())
            .filter(join_tokens::expires_at.gt(now.0));
        let row: Option<(String, Option<String>)> = diesel::update(unused)
            .set(join_tokens::used_at.eq(now.0))
            .returning((join_tokens::organization_id, join_tokens::name))
            .get_result(self.conn)
            .optional()?;
        row.map(|(organization, name)| Ok((parse_text(&organization, "organization id")?, name)))
            .transpose()
    }
}
