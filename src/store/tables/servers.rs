//! What is kept of workspaces' servers: certificates they showed, and users' own credentials for
//! them. Kept by the workspace's row, so that a slug that comes back for another workspace brings
//! nothing along; gone when the workspace is.

use super::unreadable;
use super::workspaces::in_use;
use crate::domain::server::{Clipboard, Fingerprint, StreamPolicy};
use crate::domain::workspace::{Offered, ServerState};
use crate::domain::{OrganizationId, Result, Timestamp, UserId, WorkspaceId};
use crate::store::Tx;
use crate::store::schema::{user_credentials, workspace_certificates, workspaces};
use diesel::prelude::*;
use std::collections::{HashMap, HashSet};

/// The certificate a server must have.
const PINNED: &str = "pinned";
/// Another one it showed last.
const OFFERED: &str = "offered";

#[derive(Insertable)]
#[diesel(table_name = workspace_certificates)]
struct NewShown {
    workspace_row: String,
    standing: &'static str,
    fingerprint: String,
    subject: String,
    at: i64,
}

impl NewShown {
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

/// Standing, fingerprint, subject, when.
type Shown = (String, String, String, i64);

fn add(state: &mut ServerState, (standing, fingerprint, subject, at): Shown) -> Result<()> {
    let fingerprint = Fingerprint::parse(&fingerprint).ok_or_else(|| unreadable("fingerprint"))?;
    let at = Timestamp(at);
    match standing.as_str() {
        PINNED => state.pinned = Some((fingerprint, at)),
        OFFERED => state.offered = Some(Offered { fingerprint, at, subject }),
        _ => return Err(unreadable("standing of a certificate")),
    }
    Ok(())
}

impl Tx<'_> {
    /// What names a workspace's row, while it is in use.
    fn row_of(&mut self, id: &WorkspaceId) -> Result<Option<String>> {
        Ok(in_use!(id).select(workspaces::row_id).first(self.conn).optional()?)
    }

    /// What is known of a workspace's server; nothing when there is no such workspace.
    pub fn server_state(&mut self, id: &WorkspaceId) -> Result<ServerState> {
        let mut state = ServerState {
            has_password: self.workspace_password(id)?.is_some(),
            ..ServerState::default()
        };
        let shown: Vec<Shown> = workspace_certificates::table
            .inner_join(workspaces::table)
            .filter(workspaces::id.eq(id.as_str()))
            .filter(workspaces::deleted_at.is_null())
            .select((
                workspace_certificates::standing,
                workspace_certificates::fingerprint,
                workspace_certificates::subject,
                workspace_certificates::at,
            ))
            .load(self.conn)?;
        shown.into_iter().try_for_each(|row| add(&mut state, row))?;
        Ok(state)
    }

    /// What is known of the servers of an organization's workspaces; only of those of which
    /// anything is.
    pub fn server_states(
        &mut self,
        organization: OrganizationId,
    ) -> Result<HashMap<String, ServerState>> {
        let with_password: Vec<String> = workspaces::table
            .filter(workspaces::organization_id.eq(organization.to_string()))
            .filter(workspaces::deleted_at.is_null())
            .filter(workspaces::password_sealed.is_not_null())
            .select(workspaces::id)
            .load(self.conn)?;
        let mut states: HashMap<String, ServerState> = with_password
            .into_iter()
            .map(|id| (id, ServerState { has_password: true, ..ServerState::default() }))
            .collect();
        let shown: Vec<(String, Shown)> = workspace_certificates::table
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
            add(states.entry(id).or_default(), row)?;
        }
        Ok(states)
    }

    /// Pins a server's certificate where none is pinned; false when there is one already, or no
    /// such workspace.
    pub fn pin_first(
        &mut self,
        id: &WorkspaceId,
        fingerprint: Fingerprint,
        subject: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let Some(row) = self.row_of(id)? else { return Ok(false) };
        let values = NewShown::of(row, PINNED, fingerprint, subject, now);
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

    /// Pins a certificate in place of whatever was pinned, and forgets what was offered; false when
    /// there is no such workspace.
    pub fn pin_instead(
        &mut self,
        id: &WorkspaceId,
        fingerprint: Fingerprint,
        subject: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let Some(row) = self.row_of(id)? else { return Ok(false) };
        let values = NewShown::of(row, PINNED, fingerprint, subject, now);
        let all = workspace_certificates::table
            .filter(workspace_certificates::workspace_row.eq(&values.workspace_row));
        diesel::delete(all).execute(self.conn)?;
        diesel::insert_into(workspace_certificates::table).values(values).execute(self.conn)?;
        Ok(true)
    }

    /// Keeps a certificate that was refused, in place of the one refused before.
    pub fn offer(&mut self, id: &WorkspaceId, offered: &Offered) -> Result<()> {
        let Some(row) = self.row_of(id)? else { return Ok(()) };
        let values = NewShown::of(row, OFFERED, offered.fingerprint, &offered.subject, offered.at);
        diesel::delete(workspace_certificates::table.find((&values.workspace_row, OFFERED)))
            .execute(self.conn)?;
        // Of two that are refused at once, either may stay.
        self.savepoint(|conn| {
            diesel::insert_into(workspace_certificates::table).values(values).execute(conn)
        })
        .map_err(crate::store::error::taken("The server showed two certificates at once."))?;
        Ok(())
    }

    /// Forgets the certificates of a workspace's server: it is another server now.
    pub fn forget_certificates(&mut self, id: &WorkspaceId) -> Result<()> {
        if let Some(row) = self.row_of(id)? {
            diesel::delete(
                workspace_certificates::table.filter(workspace_certificates::workspace_row.eq(row)),
            )
            .execute(self.conn)?;
        }
        Ok(())
    }

    /// Forgets everybody's credential for a workspace's server; how many there were.
    pub fn forget_user_credentials(&mut self, id: &WorkspaceId) -> Result<usize> {
        let Some(row) = self.row_of(id)? else { return Ok(0) };
        Ok(diesel::delete(user_credentials::table.filter(user_credentials::workspace_row.eq(row)))
            .execute(self.conn)?)
    }

    /// Forgets both.
    pub(super) fn forget_server(&mut self, id: &WorkspaceId) -> Result<()> {
        self.forget_certificates(id)?;
        self.forget_user_credentials(id).map(drop)
    }

    /// A user's own credential for a workspace's server, sealed.
    pub fn user_credential(&mut self, id: &WorkspaceId, user: UserId) -> Result<Option<String>> {
        let Some(row) = self.row_of(id)? else { return Ok(None) };
        Ok(user_credentials::table
            .find((row, user.to_string()))
            .select(user_credentials::sealed)
            .first(self.conn)
            .optional()?)
    }

    /// Keeps a user's own credential in place of the one before; false when there is no such
    /// workspace.
    pub fn put_user_credential(
        &mut self,
        id: &WorkspaceId,
        user: UserId,
        sealed: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let Some(row) = self.row_of(id)? else { return Ok(false) };
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
        .map_err(crate::store::error::taken(
            "The credential was saved from somewhere else at this moment. Try again.",
        ))?;
        Ok(true)
    }

    /// Forgets a user's own credential; false when there was none.
    pub fn delete_user_credential(&mut self, id: &WorkspaceId, user: UserId) -> Result<bool> {
        let Some(row) = self.row_of(id)? else { return Ok(false) };
        Ok(diesel::delete(user_credentials::table.find((row, user.to_string())))
            .execute(self.conn)?
            == 1)
    }

    /// The workspaces for whose server a user has a credential of their own.
    pub fn user_credentials_of(&mut self, user: UserId) -> Result<HashSet<String>> {
        let ids: Vec<String> = user_credentials::table
            .inner_join(workspaces::table)
            .filter(user_credentials::user_id.eq(user.to_string()))
            .filter(workspaces::deleted_at.is_null())
            .select(workspaces::id)
            .load(self.conn)?;
        Ok(ids.into_iter().collect())
    }

    /// What the streams of an organization's workspaces may carry.
    pub fn policies(
        &mut self,
        organization: OrganizationId,
    ) -> Result<HashMap<String, StreamPolicy>> {
        let rows: Vec<(String, String, bool, bool)> = workspaces::table
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
                Clipboard::parse(&word).ok_or_else(|| unreadable("clipboard policy"))?;
            Ok((id, StreamPolicy { clipboard, files, read_only }))
        };
        rows.into_iter().map(read).collect()
    }
}
