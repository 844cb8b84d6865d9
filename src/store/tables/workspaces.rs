//! Workspaces. A deleted one keeps its row for the history, without its secrets; its id, which is
//! unique in its organization, may be reused.

use super::session_limits::SessionLimitsJson;
use super::web_apps::WebAppJson;
use super::{corrupt_value, parse_text};
use crate::domain::route::TargetSpec;
use crate::domain::upstream::{Clipboard, CredentialSource, Fingerprint, StreamPolicy, TrustRule};
use crate::domain::user::Role;
use crate::domain::workspace::{
    UpstreamFields, Workspace, WorkspaceFields, WorkspaceKind, WorkspaceSpec,
};
use crate::domain::{OrganizationId, Result, Timestamp, WorkspaceKey};
use crate::store::error;
use crate::store::schema::workspaces;
use crate::store::transaction::Tx;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};

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
    target_service: Option<String>,
    clipboard: String,
    files: bool,
    read_only: bool,
    server: String,
    web: String,
    session_limits: String,
}

/// [`UpstreamFields`] as JSON. Missing members have their default.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UpstreamJson {
    source: String,
    username: String,
    domain: String,
    trust: String,
    fingerprint: Option<String>,
    roots: Option<String>,
    name: Option<String>,
    exclusive: bool,
    keyboard: Option<u32>,
}

impl Default for UpstreamJson {
    fn default() -> Self {
        Self::from_fields(&UpstreamFields::default())
    }
}

impl UpstreamJson {
    fn from_fields(terms: &UpstreamFields) -> Self {
        let (trust, fingerprint, roots, name) = match &terms.trust {
            TrustRule::FirstUse => ("first_use", None, None, None),
            TrustRule::Pinned(pin) => ("pinned", Some(hex::encode(pin.0)), None, None),
            TrustRule::Authority { roots, name } => {
                ("authority", None, Some(roots.clone()), name.clone())
            }
        };
        Self {
            source: terms.credential_source.as_str().to_owned(),
            username: terms.username.clone(),
            domain: terms.domain.clone(),
            trust: trust.to_owned(),
            fingerprint,
            roots,
            name,
            exclusive: terms.exclusive,
            keyboard: terms.keyboard_layout,
        }
    }

    fn into_fields(self) -> Result<UpstreamFields> {
        let trust = match (self.trust.as_str(), self.fingerprint, self.roots, self.name) {
            ("first_use", None, None, None) => TrustRule::FirstUse,
            ("pinned", Some(pin), None, None) => TrustRule::Pinned(
                Fingerprint::parse(&pin).ok_or_else(|| corrupt_value("fingerprint"))?,
            ),
            ("authority", None, Some(roots), name) => TrustRule::Authority { roots, name },
            _ => return Err(corrupt_value("rule of trust")),
        };
        Ok(UpstreamFields {
            credential_source: CredentialSource::parse(&self.source)
                .ok_or_else(|| corrupt_value("source of a credential"))?,
            username: self.username,
            domain: self.domain,
            trust,
            exclusive: self.exclusive,
            keyboard_layout: self.keyboard,
        })
    }
}

impl WorkspaceRow {
    fn of(workspace: &Workspace) -> Result<Self> {
        let roles: Vec<&str> = workspace.allowed_roles.iter().map(|role| role.as_str()).collect();
        let WorkspaceFields { target, network, policy, upstream, web_app } =
            workspace.driver().fields();
        let (target_host, target_port, target_service, target_direct) = match &target {
            None => (None, None, None, None),
            Some(TargetSpec::Host { host_id, port }) => {
                (Some(host_id.to_string()), Some(i32::from(*port)), None, None)
            }
            Some(TargetSpec::Service { host_id, name }) => {
                (Some(host_id.to_string()), None, Some(name.clone()), None)
            }
            Some(TargetSpec::Direct { name }) => (None, None, None, Some(name.clone())),
        };
        Ok(Self {
            id: workspace.id.to_string(),
            organization_id: workspace.organization_id.to_string(),
            name: workspace.name.clone(),
            description: workspace.description.clone(),
            kind: workspace.kind().as_str().to_owned(),
            icon: workspace.icon.clone(),
            tags: serde_json::to_string(&workspace.tags).map_err(crate::domain::Error::internal)?,
            requires_mfa: workspace.requires_mfa,
            single_seat: workspace.single_seat,
            network,
            allowed_roles: serde_json::to_string(&roles).map_err(crate::domain::Error::internal)?,
            maintenance: workspace.maintenance,
            created_at: workspace.created_at.0,
            updated_at: workspace.updated_at.0,
            target_host,
            target_port,
            target_direct,
            target_service,
            clipboard: policy.clipboard.as_str().to_owned(),
            files: policy.files,
            read_only: policy.read_only,
            server: serde_json::to_string(&UpstreamJson::from_fields(&upstream))
                .map_err(crate::domain::Error::internal)?,
            web: serde_json::to_string(&WebAppJson::from_config(&web_app))
                .map_err(crate::domain::Error::internal)?,
            session_limits: SessionLimitsJson::text(workspace.session_limits)?,
        })
    }

    fn into_workspace(self) -> Result<Workspace> {
        let roles: Vec<String> = serde_json::from_str(&self.allowed_roles)
            .map_err(|_| corrupt_value("list of roles"))?;
        let target =
            match (self.target_host, self.target_port, self.target_service, self.target_direct) {
                (None, None, None, None) => None,
                (Some(host), Some(port), None, None) => {
                    let port = u16::try_from(port).map_err(|_| corrupt_value("port"))?;
                    Some(TargetSpec::Host { host_id: parse_text(&host, "host id")?, port })
                }
                (Some(host), None, Some(name), None) => {
                    Some(TargetSpec::Service { host_id: parse_text(&host, "host id")?, name })
                }
                (None, None, None, Some(name)) => Some(TargetSpec::Direct { name }),
                _ => return Err(corrupt_value("workspace target")),
            };
        let terms: UpstreamJson = serde_json::from_str(&self.server)
            .map_err(|_| corrupt_value("server of a workspace"))?;
        let web: WebAppJson = serde_json::from_str(&self.web)
            .map_err(|_| corrupt_value("web application of a workspace"))?;
        let kind =
            WorkspaceKind::parse(&self.kind).ok_or_else(|| corrupt_value("workspace kind"))?;
        let fields = WorkspaceFields {
            target,
            network: self.network,
            policy: StreamPolicy {
                clipboard: Clipboard::parse(&self.clipboard)
                    .ok_or_else(|| corrupt_value("clipboard policy"))?,
                files: self.files,
                read_only: self.read_only,
            },
            upstream: terms.into_fields()?,
            web_app: web.into_config()?,
        };
        Ok(Workspace {
            spec: WorkspaceSpec::from_fields(kind, fields)
                .map_err(|_| corrupt_value("setting of a workspace of its kind"))?,
            id: parse_text(&self.id, "workspace id")?,
            organization_id: parse_text(&self.organization_id, "organization id")?,
            name: self.name,
            description: self.description,
            icon: self.icon,
            tags: serde_json::from_str(&self.tags).map_err(|_| corrupt_value("list of tags"))?,
            requires_mfa: self.requires_mfa,
            single_seat: self.single_seat,
            allowed_roles: roles
                .iter()
                .map(|word| Role::parse(word).ok_or_else(|| corrupt_value("role")))
                .collect::<Result<_>>()?,
            maintenance: self.maintenance,
            session_limits: SessionLimitsJson::parse(&self.session_limits)?,
            created_at: Timestamp(self.created_at),
            updated_at: Timestamp(self.updated_at),
        })
    }
}

/// The workspace with this key that is not deleted.
macro_rules! in_use {
    ($key:expr) => {
        workspaces::table
            .filter(workspaces::organization_id.eq($key.organization_id.to_string()))
            .filter(workspaces::id.eq($key.id.as_str()))
            .filter(workspaces::deleted_at.is_null())
    };
}

impl Tx<'_> {
    /// Inserts a workspace.
    ///
    /// # Errors
    /// `Conflict` when its id is in use in its organization.
    pub fn insert_workspace(&mut self, workspace: &Workspace) -> Result<()> {
        let row = WorkspaceRow::of(workspace)?;
        // The row has an id of its own, since the slug may be reused after deletion.
        let row_id = workspaces::row_id.eq(uuid::Uuid::new_v4().hyphenated().to_string());
        self.savepoint(|conn| {
            diesel::insert_into(workspaces::table).values((row_id, row)).execute(conn)
        })
        .map_err(error::on_unique_violation("There is already a workspace with this id."))?;
        Ok(())
    }

    /// A workspace that is not deleted.
    pub fn workspace(&mut self, key: &WorkspaceKey) -> Result<Option<Workspace>> {
        let row: Option<WorkspaceRow> =
            in_use!(key).select(WorkspaceRow::as_select()).first(self.conn).optional()?;
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

    /// Stores a workspace; false when there is none with its key.
    pub fn update_workspace(&mut self, workspace: &Workspace) -> Result<bool> {
        let row = WorkspaceRow::of(workspace)?;
        Ok(diesel::update(in_use!(workspace)).set(row).execute(self.conn)? == 1)
    }

    /// The password for a workspace's own upstream, sealed.
    pub fn workspace_password(&mut self, key: &WorkspaceKey) -> Result<Option<String>> {
        let found: Option<Option<String>> =
            in_use!(key).select(workspaces::password_sealed).first(self.conn).optional()?;
        Ok(found.flatten())
    }

    /// Replaces it; `None` deletes it.
    pub fn set_workspace_password(
        &mut self,
        key: &WorkspaceKey,
        sealed: Option<&str>,
    ) -> Result<()> {
        diesel::update(in_use!(key))
            .set(workspaces::password_sealed.eq(sealed))
            .execute(self.conn)?;
        Ok(())
    }

    /// Deletes a workspace with its credentials and certificates; false when there is none.
    pub fn delete_workspace(&mut self, key: &WorkspaceKey, now: Timestamp) -> Result<bool> {
        self.delete_upstream_data(key)?;
        let change =
            (workspaces::deleted_at.eq(now.0), workspaces::password_sealed.eq(None::<String>));
        Ok(diesel::update(in_use!(key)).set(change).execute(self.conn)? == 1)
    }
}

pub(super) use in_use;
