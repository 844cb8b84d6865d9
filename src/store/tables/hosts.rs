//! Workspace hosts, and their addresses in the host tunnel.

use super::{corrupt_value, parse_optional, parse_text};
use crate::domain::host::{Host, HostKind};
use crate::domain::{HostId, OrganizationId, Result, Timestamp};
use crate::store::error;
use crate::store::schema::hosts;
use crate::store::transaction::Tx;
use diesel::prelude::*;
use std::net::SocketAddr;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = hosts, treat_none_as_default_value = false)]
struct HostRow {
    id: String,
    organization_id: String,
    name: String,
    public_key: String,
    address: String,
    endpoint: Option<String>,
    version: String,
    psk_sealed: String,
    enrolled_at: i64,
    last_seen_at: Option<i64>,
    kind: String,
}

impl HostRow {
    fn into_host(self) -> Result<(Host, String)> {
        let host = Host {
            id: parse_text(&self.id, "host id")?,
            organization_id: parse_text(&self.organization_id, "organization id")?,
            kind: HostKind::parse(&self.kind).ok_or_else(|| corrupt_value("host kind"))?,
            name: self.name,
            public_key: self.public_key,
            address: parse_text(&self.address, "host address")?,
            endpoint: parse_optional(self.endpoint.as_deref(), "host endpoint")?,
            version: self.version,
            enrolled_at: Timestamp(self.enrolled_at),
            last_seen_at: self.last_seen_at.map(Timestamp),
        };
        Ok((host, self.psk_sealed))
    }
}

impl Tx<'_> {
    /// Enrols a host.
    ///
    /// # Errors
    /// `Conflict` when its key or its address is another host's.
    pub fn insert_host(&mut self, host: &Host, psk_sealed: &str) -> Result<()> {
        let row = HostRow {
            id: host.id.to_string(),
            organization_id: host.organization_id.to_string(),
            name: host.name.clone(),
            public_key: host.public_key.clone(),
            address: host.address.to_string(),
            endpoint: host.endpoint.map(|endpoint| endpoint.to_string()),
            version: host.version.clone(),
            psk_sealed: psk_sealed.to_owned(),
            enrolled_at: host.enrolled_at.0,
            last_seen_at: host.last_seen_at.map(|at| at.0),
            kind: host.kind.as_str().to_owned(),
        };
        self.savepoint(|conn| diesel::insert_into(hosts::table).values(row).execute(conn))
            .map_err(error::on_unique_violation("A host with this key or address is enrolled already, or another enrolled at the same moment."))?;
        Ok(())
    }

    pub fn host(&mut self, id: HostId) -> Result<Option<Host>> {
        Ok(self.host_with_key(id)?.map(|(host, _)| host))
    }

    /// The hosts of one organization or of all, by name, each with its sealed preshared key.
    pub fn hosts(&mut self, organization: Option<OrganizationId>) -> Result<Vec<(Host, String)>> {
        let mut query =
            hosts::table.select(HostRow::as_select()).order((hosts::name, hosts::id)).into_boxed();
        if let Some(organization) = organization {
            query = query.filter(hosts::organization_id.eq(organization.to_string()));
        }
        let rows: Vec<HostRow> = query.load(self.conn)?;
        rows.into_iter().map(HostRow::into_host).collect()
    }

    /// A host with its sealed preshared key.
    pub fn host_with_key(&mut self, id: HostId) -> Result<Option<(Host, String)>> {
        let row: Option<HostRow> = hosts::table
            .find(id.to_string())
            .select(HostRow::as_select())
            .first(self.conn)
            .optional()?;
        row.map(HostRow::into_host).transpose()
    }

    /// The kind of each host of an organization.
    pub fn host_kinds(&mut self, organization: OrganizationId) -> Result<Vec<(HostId, HostKind)>> {
        let rows: Vec<(String, String)> = hosts::table
            .filter(hosts::organization_id.eq(organization.to_string()))
            .select((hosts::id, hosts::kind))
            .load(self.conn)?;
        rows.into_iter()
            .map(|(id, kind)| {
                let kind = HostKind::parse(&kind).ok_or_else(|| corrupt_value("host kind"))?;
                Ok((parse_text(&id, "host id")?, kind))
            })
            .collect()
    }

    /// Number of hosts of all organizations.
    pub fn host_count(&mut self) -> Result<usize> {
        let count: i64 = hosts::table.count().get_result(self.conn)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Stores when and where a host was last seen, and its version if known.
    pub fn update_host_seen(
        &mut self,
        id: HostId,
        endpoint: Option<SocketAddr>,
        version: Option<&str>,
        now: Timestamp,
    ) -> Result<bool> {
        let endpoint = endpoint.map(|endpoint| endpoint.to_string());
        // `None` leaves a column unchanged.
        let change = (
            endpoint.map(|e| hosts::endpoint.eq(e)),
            version.map(|v| hosts::version.eq(v)),
            hosts::last_seen_at.eq(now.0),
        );
        Ok(diesel::update(hosts::table.find(id.to_string())).set(change).execute(self.conn)? == 1)
    }

    /// Deletes a host, its key and its address.
    pub fn delete_host(&mut self, id: HostId) -> Result<bool> {
        Ok(diesel::delete(hosts::table.find(id.to_string())).execute(self.conn)? == 1)
    }
}
