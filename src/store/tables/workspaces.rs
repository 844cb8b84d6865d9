//! Workspaces. A removed one keeps its row for history; its id may be used again.

use super::{read, unreadable};
use crate::domain::reach::Target;
use crate::domain::user::Role;
use crate::domain::workspace::{Workspace, WorkspaceKind};
use crate::domain::{OrganizationId, Result, Timestamp, WorkspaceId};
use crate::store::schema::workspaces;
use crate::store::{Tx, error};
use diesel::prelude::*;

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = workspaces, treat_none_as_null = true, treat_none_as_default_value = false)]
struct WorkspaceRow {
    id: String,
    organization_id: String,
    name: String,
    description: String,
    kind: String,
    icon: String,
    tags: String,
    requires_mfa: bool,
    single_seat: bool,
    network: bool,
    allowed_roles: String,
    maintenance: bool,
    created_at: i64,
    updated_at: i64,
    target_host: Option<String>,
    target_port: Option<i32>,
    target_direct: Option<String>,
}

impl WorkspaceRow {
    fn of(workspace: &Workspace) -> Result<Self> {
        let roles: Vec<&str> = workspace.allowed_roles.iter().map(|role| role.as_str()).collect();
        let (target_host, target_port, target_direct) = match &workspace.target {
            None => (None, None, None),
            Some(Target::Host { host_id, port }) => (Some(host_id.to_string()), Some(i32::from(*port)), None),
            Some(Target::Direct { name }) => (None, None, Some(name.clone())),
        };
        Ok(Self {
            id: workspace.id.to_string(),
            organization_id: workspace.organization_id.to_string(),
            name: workspace.name.clone(),
            description: workspace.description.clone(),
            kind: workspace.kind.as_str().to_owned(),
            icon: workspace.icon.clone(),
            tags: serde_json::to_string(&workspace.tags).map_err(crate::domain::Error::internal)?,
            requires_mfa: workspace.requires_mfa,
            single_seat: workspace.single_seat,
            network: workspace.network,
            allowed_roles: serde_json::to_string(&roles).map_err(crate::domain::Error::internal)?,
            maintenance: workspace.maintenance,
            created_at: workspace.created_at.0,
            updated_at: workspace.updated_at.0,
            target_host,
            target_port,
            target_direct,
        })
    }

    fn into_workspace(self) -> Result<Workspace> {
        let roles: Vec<String> = serde_json::from_str(&self.allowed_roles).map_err(|_| unreadable("list of roles"))?;
        let target = match (self.target_host, self.target_port, self.target_direct) {
            (None, None, None) => None,
            (Some(host), Some(port), None) => {
                let port = u16::try_from(port).map_err(|_| unreadable("port"))?;
                Some(Target::Host { host_id: read(&host, "host id")?, port })
            }
            (None, None, Some(name)) => Some(Target::Direct { name }),
            _ => return Err(unreadable("workspace target")),
        };
        Ok(Workspace {
            target,
            id: read(&self.id, "workspace id")?,
            organization_id: read(&self.organization_id, "organization id")?,
            name: self.name,
            description: self.description,
            kind: WorkspaceKind::parse(&self.kind).ok_or_else(|| unreadable("workspace kind"))?,
            icon: self.icon,
            tags: serde_json::from_str(&self.tags).map_err(|_| unreadable("list of tags"))?,
            requires_mfa: self.requires_mfa,
            single_seat: self.single_seat,
            network: self.network,
            allowed_roles: roles.iter().map(|word| Role::parse(word).ok_or_else(|| unreadable("role"))).collect::<Result<_>>()?,
            maintenance: self.maintenance,
            created_at: Timestamp(self.created_at),
            updated_at: Timestamp(self.updated_at),
        })
    }
}

macro_rules! in_use {
    ($id:expr) => {
        workspaces::table.filter(workspaces::id.eq($id.as_str())).filter(workspaces::deleted_at.is_null())
    };
}

impl Tx<'_> {
    /// Creates a workspace.
    ///
    /// # Errors
    /// `Conflict` when its id is in use.
    pub fn insert_workspace(&mut self, workspace: &Workspace) -> Result<()> {
        let row = WorkspaceRow::of(workspace)?;
        // Its own name for the row: the slug is free again after removal, the row stays.
        let row_id = workspaces::row_id.eq(uuid::Uuid::new_v4().hyphenated().to_string());
        self.savepoint(|conn| diesel::insert_into(workspaces::table).values((row_id, row)).execute(conn))
            .map_err(error::taken("There is already a workspace with this id."))?;
        Ok(())
    }

    /// A workspace that was not removed.
    pub fn workspace(&mut self, id: &WorkspaceId) -> Result<Option<Workspace>> {
        let row: Option<WorkspaceRow> = in_use!(id).select(WorkspaceRow::as_select()).first(self.conn).optional()?;
        row.map(WorkspaceRow::into_workspace).transpose()
    }

    /// The workspaces of an organization, by name.
    pub fn workspaces(&mut self, organization: OrganizationId) -> Result<Vec<Workspace>> {
        let rows: Vec<WorkspaceRow> = workspaces::table
            .filter(workspaces::organization_id.eq(organization.to_string()))
            .filter(workspaces::deleted_at.is_null())
            .order((workspaces::name, workspaces::id))
            .select(WorkspaceRow::as_select())
            .load(self.conn)?;
        rows.into_iter().map(WorkspaceRow::into_workspace).collect()
    }

    /// Writes a workspace; false when there is none with its id.
    pub fn update_workspace(&mut self, workspace: &Workspace) -> Result<bool> {
        let row = WorkspaceRow::of(workspace)?;
        Ok(diesel::update(in_use!(workspace.id)).set(row).execute(self.conn)? == 1)
    }

    /// What the gateway proves to a workspace's own server, sealed.
    pub fn workspace_password(&mut self, id: &WorkspaceId) -> Result<Option<String>> {
        let found: Option<Option<String>> = in_use!(id).select(workspaces::password_sealed).first(self.conn).optional()?;
        Ok(found.flatten())
    }

    /// Keeps it in place of what was kept before; `None` forgets it.
    pub fn set_workspace_password(&mut self, id: &WorkspaceId, sealed: Option<&str>) -> Result<()> {
        diesel::update(in_use!(id)).set(workspaces::password_sealed.eq(sealed)).execute(self.conn)?;
        Ok(())
    }

    /// Removes a workspace; false when there is none.
    pub fn delete_workspace(&mut self, id: &WorkspaceId, now: Timestamp) -> Result<bool> {
        Ok(diesel::update(in_use!(id)).set(workspaces::deleted_at.eq(now.0)).execute(self.conn)? == 1)
    }
}
