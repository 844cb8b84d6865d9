//! What workspaces say about the times of their sessions: JSON, in seconds.

use super::corrupt_value;
use crate::domain::session_times::SessionLimits;
use crate::domain::{Error, OrganizationId, Result, WorkspaceId};
use crate::store::schema::workspaces;
use crate::store::transaction::Tx;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// [`SessionLimits`] as JSON. A missing member is the installation's.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SessionLimitsJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_timeout: Option<u64>,
}

impl SessionLimitsJson {
    pub(super) fn text(limits: SessionLimits) -> Result<String> {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
        serde_json::to_string(&Self {
            duration: seconds(limits.duration),
            extension: seconds(limits.extension),
            idle_timeout: seconds(limits.idle_timeout),
        })
        .map_err(Error::internal)
    }

    pub(super) fn parse(text: &str) -> Result<SessionLimits> {
        let json: Self =
            serde_json::from_str(text).map_err(|_| corrupt_value("times of sessions"))?;
        let duration = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        Ok(SessionLimits {
            duration: duration(json.duration),
            extension: duration(json.extension),
            idle_timeout: duration(json.idle_timeout),
        })
    }
}

impl Tx<'_> {
    /// What those of these workspaces that are the organization's say about the times of their
    /// sessions.
    pub fn session_limits<'a>(
        &mut self,
        organization: OrganizationId,
        ids: impl IntoIterator<Item = &'a WorkspaceId>,
    ) -> Result<HashMap<String, SessionLimits>> {
        // Many sessions are of few workspaces.
        let ids: HashSet<&str> = ids.into_iter().map(WorkspaceId::as_str).collect();
        let rows: Vec<(String, String)> = workspaces::table
            .filter(workspaces::id.eq_any(ids))
            .filter(workspaces::organization_id.eq(organization.to_string()))
            .filter(workspaces::deleted_at.is_null())
            .select((workspaces::id, workspaces::session_limits))
            .load(self.conn)?;
        rows.into_iter().map(|(id, text)| Ok((id, SessionLimitsJson::parse(&text)?))).collect()
    }
}
