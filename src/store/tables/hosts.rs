//! Workspace hosts, and their addresses in the host tunnel.

use super::{corrupt_value, parse_optional, parse_text};
use crate::domain::host::{Host, HostKind};
use crate::domain::{Error, HostId, OrganizationId, Result, Timestamp};
use crate::store::schema::hosts;
use crate::store::{Tx, error};
use diesel::prelude::*;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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
        let row: Option<HostRow> = hosts::table
            .find(id.to_string())
            .select(HostRow::as_select())
            .first(self.conn)
            .optional()?;
        row.map(|row| Ok(row.into_host()?.0)).transpose()
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

    /// The lowest free address of the host network. The first address is the gateway's.
    ///
    /// # Errors
    /// `Conflict` when the network is full.
    pub fn next_host_address(&mut self, network: (Ipv4Addr, u8)) -> Result<IpAddr> {
        let taken: HashSet<String> =
            hosts::table.select(hosts::address).load::<String>(self.conn)?.into_iter().collect();
        assignable_addresses(network)
            .map(Ipv4Addr::from)
            .find(|address| !taken.contains(&address.to_string()))
            .map(IpAddr::V4)
            .ok_or_else(|| Error::conflict("There is no free address for another host."))
    }
}

/// The assignable addresses of a network: all but the network address, the first (the gateway's)
/// and the broadcast address.
pub(super) fn assignable_addresses((address, prefix): (Ipv4Addr, u8)) -> std::ops::Range<u32> {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let first = u32::from(address) & !hosts;
    first.saturating_add(2)..first.saturating_add(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_addresses() {
        let range = |text: &str, prefix| {
            let range = assignable_addresses((text.parse().unwrap(), prefix));
            (
                Ipv4Addr::from(range.start).to_string(),
                Ipv4Addr::from(range.end).to_string(),
                range.len(),
            )
        };
        assert_eq!(
            range("10.64.0.0", 10),
            ("10.64.0.2".into(), "10.127.255.255".into(), (1 << 22) - 3)
        );
        assert_eq!(range("192.0.2.77", 24), ("192.0.2.2".into(), "192.0.2.255".into(), 253));
        assert_eq!(range("192.0.2.0", 30).2, 1);
        assert_eq!(range("192.0.2.0", 31).2, 0);
        assert_eq!(range("192.0.2.0", 32).2, 0);
    }
}
