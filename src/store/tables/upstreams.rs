//! Certificates that upstreams presented, and users' own credentials for them. They belong to the
//! workspace's row, so that a reused slug does not inherit them, and are deleted with the
//! workspace.

use super::corrupt_value;
use super::workspaces::in_use;
use crate::domain::upstream::{Clipboard, Fingerprint, StreamPolicy};
use crate::domain::workspace::{OfferedCertificate, UpstreamState};
use crate::domain::{OrganizationId, Result, Timestamp, UserId, WorkspaceId, WorkspaceKey};
use crate::store::schema::{user_credentials, workspace_certificates, workspaces};
use crate::store::transaction::Tx;
use diesel::prelude::*;
use std::collections::{HashMap, HashSet};

/// The expected certificate.
const PINNED: &str = "pinned";
const OFFERED: &str = "offered";

#[derive(Insertable)]
#[diesel(table_name = workspace_certificates)]
struct NewCertificateRow {
    workspace_row: String,
    standing: &'static str,
    fingerprint: String,
    subject: String,
    at: i64,
}

impl NewCertificateRow {
    fn of(
        workspace_row: String,
        standing: &'static str,
        fingerprint: Fingerprint,
        subject: &str,
        at: Timestamp,
    ) -> Self {
        Self {
            workspace_row,
            standing,
            fingerprint: hex::encode(fingerprint.0),
            subject: subject.to_owned(),
            at: at.0,
        }
    }
}

/// Standing, fingerprint, subject, time.
type CertificateColumns = (String, String, String, i64);

fn add_certificate(
    state: &mut UpstreamState,
    (standing, fingerprint, subject, at): CertificateColumns,
) -> Result<()> {
    let fingerprint =
        Fingerprint::parse(&fingerprint).ok_or_else(|| corrupt_value("fingerprint"))?;
    let at = Timestamp(at);
    match standing.as_str() {
        PINNED => state.pinned = Some((fingerprint, at)),
        OFFERED => state.offered = Some(OfferedCertificate { fingerprint, at, subject }),
        _ => return Err(corrupt_value("standing of a certificate")),
    }
    Ok(())
}

impl Tx<'_> {
    /// The row id of a workspace that is not deleted.
    fn workspace_row_id(&mut self, key: &WorkspaceKey) -> Result<Option<String>> {
        Ok(in_use!(key).select(workspaces::row_id).first(self.conn).optional()?)
    }

    /// What is stored about a workspace's upstream; the default when there is no such workspace.
    pub fn upstream_state(&mut self, key: &WorkspaceKey) -> Result<UpstreamState> {
        let mut state = UpstreamState {
            has_password: self.workspace_password(key)?.is_some(),
            ..UpstreamState::default()
        };
        let shown: Vec<CertificateColumns> = workspace_certificates::table
            .inner_join(workspaces::table)
            .filter(workspaces::organization_id.eq(key.organization_id.to_string()))
            .filter(workspaces::id.eq(key.id.as_str()))
            .filter(workspaces::deleted_at.is_null())
            .select((
                workspace_certificates::standing,
                workspace_certificates::fingerprint,
                workspace_certificates::subject,
                workspace_certificates::at,
            ))
            .load(self.conn)?;
        shown.into_iter().try_for_each(|row| add_certificate(&mut state, row))?;
        Ok(state)
    }

    /// What is stored about the upstreams of an organization's workspaces, for those that have
    /// anything.
    pub fn upstream_states(
        &mut self,
        organization: OrganizationId,
    ) -> Result<HashMap<String, UpstreamState>> {
        let with_password: Vec<String> = workspaces::table
            .filter(workspaces::organization_id.eq(organization.to_string()))
            .filter(workspaces::deleted_at.is_null())
            .filter(workspaces::password_sealed.is_not_null())
            .select(workspaces::id)
            .load(self.conn)?;
        let mut states: HashMap<String, UpstreamState> = with_password
            .into_iter()
            .map(|id| (id, UpstreamState { has_password: true, ..UpstreamState::default() }))
            .collect();
        let shown: Vec<(String, CertificateColumns)> = workspace_certificates::table
            .inner_join(workspaces::table)
            .filter(workspaces::organization_id.eq(organization.to_string()))
            .filter(workspaces::deleted_at.is_null())
            .select((
                workspaces::id,
                (
                    workspace_certificates::standing,
                    workspace_certificates::fingerprint,
                    workspace_certificates::subject,
                    workspace_certificates::at,
                ),
            ))
            .load(self.conn)?;
        for (id, row) in shown {
            add_certificate(states.entry(id).or_default(), row)?;
        }
        Ok(states)
    }

    /// Pins a certificate if none is pinned; false when one is, or there is no such workspace.
    pub fn pin_certificate_if_none(
        &mut self,
        key: &WorkspaceKey,
        fingerprint: Fingerprint,
        subject: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let Some(row) = self.workspace_row_id(key)? else { return Ok(false) };
        let values = NewCertificateRow::of(row, PINNED, fingerprint, subject, now);
        match self.savepoint(|conn| {
            diesel::insert_into(workspace_certificates::table).values(values).execute(conn)
        }) {
            Ok(_) => Ok(true),
            Err(diesel::result::Error::DatabaseError(
                diesel::result::DatabaseErrorKind::UniqueViolation,
                _,
            )) => Ok(false),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Replaces the pinned certificate and deletes the offered one; false when there is no such
    /// workspace.
    pub fn replace_pinned_certificate(
        &mut self,
        key: &WorkspaceKey,
        fingerprint: Fingerprint,
        subject: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let Some(row) = self.workspace_row_id(key)? else { return Ok(false) };
        let values = NewCertificateRow::of(row, PINNED, fingerprint, subject, now);
        let all = workspace_certificates::table
            .filter(workspace_certificates::workspace_row.eq(&values.workspace_row));
        diesel::delete(all).execute(self.conn)?;
        diesel::insert_into(workspace_certificates::table).values(values).execute(self.conn)?;
        Ok(true)
    }

    /// Stores a refused certificate, in place of the previous one.
    pub fn set_offered_certificate(
        &mut self,
        key: &WorkspaceKey,
        offered: &OfferedCertificate,
    ) -> Result<()> {
        let Some(row) = self.workspace_row_id(key)? else { return Ok(()) };
        let values =
            NewCertificateRow::of(row, OFFERED, offered.fingerprint, &offered.subject, offered.at);
        diesel::delete(workspace_certificates::table.find((&values.workspace_row, OFFERED)))
            .execute(self.conn)?;
        // Of two refused at once, either may stay.
        self.savepoint(|conn| {
            diesel::insert_into(workspace_certificates::table).values(values).execute(conn)
        })
        .map_err(crate::store::error::on_unique_violation(
            "The server showed two certificates at once.",
        ))?;
        Ok(())
    }

    /// Deletes the certificates of a workspace's upstream.
    pub fn delete_certificates(&mut self, key: &WorkspaceKey) -> Result<()> {
        if let Some(row) = self.workspace_row_id(key)? {
            diesel::delete(
                workspace_certificates::table.filter(workspace_certificates::workspace_row.eq(row)),
            )
            .execute(self.conn)?;
        }
        Ok(())
    }

    /// Deletes all users' credentials for a workspace's upstream and returns how many there were.
    pub fn delete_user_credentials(&mut self, key: &WorkspaceKey) -> Result<usize> {
        let Some(row) = self.workspace_row_id(key)? else { return Ok(0) };
        Ok(diesel::delete(user_credentials::table.filter(user_credentials::workspace_row.eq(row)))
            .execute(self.conn)?)
    }

    pub(super) fn delete_upstream_data(&mut self, key: &WorkspaceKey) -> Result<()> {
        self.delete_certificates(key)?;
        self.delete_user_credentials(key).map(drop)
    }

    /// A user's own credential for a workspace's upstream, sealed.
    pub fn user_credential(&mut self, key: &WorkspaceKey, user: UserId) -> Result<Option<String>> {
        let Some(row) = self.workspace_row_id(key)? else { return Ok(None) };
        Ok(user_credentials::table
            .find((row, user.to_string()))
            .select(user_credentials::sealed)
            .first(self.conn)
            .optional()?)
    }

    /// Stores a user's own credential; false when there is no such workspace.
    pub fn upsert_user_credential(
        &mut self,
        key: &WorkspaceKey,
        user: UserId,
        sealed: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let Some(row) = self.workspace_row_id(key)? else { return Ok(false) };
        let values = (
            user_credentials::workspace_row.eq(&row),
            user_credentials::user_id.eq(user.to_string()),
            user_credentials::sealed.eq(sealed),
            user_credentials::updated_at.eq(now.0),
        );
        self.savepoint(|conn| {
            diesel::delete(user_credentials::table.find((&row, user.to_string()))).execute(conn)?;
            diesel::insert_into(user_credentials::table).values(values).execute(conn)
        })
        .map_err(crate::store::error::on_unique_violation(
            "The credential was saved from somewhere else at this moment. Try again.",
        ))?;
        Ok(true)
    }

    /// Deletes a user's own credential; false when there was none.
    pub fn delete_user_credential(&mut self, key: &WorkspaceKey, user: UserId) -> Result<bool> {
        let Some(row) = self.workspace_row_id(key)? else { return Ok(false) };
        Ok(diesel::delete(user_credentials::table.find((row, user.to_string())))
            .execute(self.conn)?
            == 1)
    }

    /// The workspaces for whose upstream a user has a credential.
    pub fn user_credentials_of(&mut self, user: UserId) -> Result<HashSet<String>> {
        let ids: Vec<String> = user_credentials::table
            .inner_join(workspaces::table)
            .filter(user_credentials::user_id.eq(user.to_string()))
            .filter(workspaces::deleted_at.is_null())
            .select(workspaces::id)
            .load(self.conn)?;
        Ok(ids.into_iter().collect())
    }

    /// The stream policies of those of these workspaces that are the organization's.
    pub fn stream_policies<'a>(
        &mut self,
        organization: OrganizationId,
        ids: impl IntoIterator<Item = &'a WorkspaceId>,
    ) -> Result<HashMap<String, StreamPolicy>> {
        // Many sessions are of few workspaces.
        let ids: HashSet<&str> = ids.into_iter().map(WorkspaceId::as_str).collect();
        let rows: Vec<(String, String, bool, bool)> = workspaces::table
            .filter(workspaces::id.eq_any(ids))
            .filter(workspaces::organization_id.eq(organization.to_string()))
            .filter(workspaces::deleted_at.is_null())
            .select((
                workspaces::id,
                workspaces::clipboard,
                workspaces::files,
                workspaces::read_only,
            ))
            .load(self.conn)?;
        let read = |(id, word, files, read_only): (String, String, bool, bool)| {
            let clipboard =
                Clipboard::parse(&word).ok_or_else(|| corrupt_value("clipboard policy"))?;
            Ok((id, StreamPolicy { clipboard, files, read_only }))
        };
        rows.into_iter().map(read).collect()
    }
}
