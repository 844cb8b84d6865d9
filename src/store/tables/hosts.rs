//! Workspace hosts, and the free addresses of the host network and of the session network.

use super::{corrupt_value, parse_optional, parse_text};
use crate::domain::host::{Host, HostKind};
use crate::domain::{Error, HostId, OrganizationId, Result, Timestamp};
use crate::store::error;
use crate::store::schema::{hosts, live_sessions};
use crate::store::transaction::Tx;
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
    drained_at: Option<i64>,
}

/// What placement reads of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlacementHost {
    pub id: HostId,
    pub kind: HostKind,
    pub is_drained: bool,
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
            drained_at: self.drained_at.map(Timestamp),
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
            drained_at: host.drained_at.map(|at| at.0),
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

    /// What placement reads of each host of an organization.
    pub fn placement_hosts(&mut self, organization: OrganizationId) -> Result<Vec<PlacementHost>> {
        let rows: Vec<(String, String, Option<i64>)> = hosts::table
            .filter(hosts::organization_id.eq(organization.to_string()))
            .select((hosts::id, hosts::kind, hosts::drained_at))
            .load(self.conn)?;
        rows.into_iter()
            .map(|(id, kind, drained_at)| {
                let kind = HostKind::parse(&kind).ok_or_else(|| corrupt_value("host kind"))?;
                let id = parse_text(&id, "host id")?;
                Ok(PlacementHost { id, kind, is_drained: drained_at.is_some() })
            })
            .collect()
    }

    /// Sets since when a host takes no new sessions. `false`: there is no such host.
    pub fn set_host_drained(&mut self, id: HostId, since: Option<Timestamp>) -> Result<bool> {
        let change = hosts::drained_at.eq(since.map(|at| at.0));
        Ok(diesel::update(hosts::table.find(id.to_string())).set(change).execute(self.conn)? == 1)
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

    /// A free address of the session network, searched from `seed`.
    ///
    /// # Errors
    /// `Unavailable` when the network is full.
    pub fn free_session_address(&mut self, network: (Ipv4Addr, u8), seed: u64) -> Result<IpAddr> {
        /// Random addresses that are tried before all are read.
        const PROBES: u64 = 32;
        let usable = assignable_addresses(network);
        let size = u64::from(usable.end.saturating_sub(usable.start));
        let full = || {
            Error::unavailable(
                "No address is free for another session. Try again when others have ended.",
            )
        };
        if size == 0 {
            return Err(full());
        }
        let nth = |n: u64| Ipv4Addr::from(usable.start + u32::try_from(n % size).unwrap_or(0));
        for probe in 0..PROBES {
            // Any odd factor spreads the probes.
            let address = nth(seed.wrapping_add(probe.wrapping_mul(0x9e37_79b9)));
            let taken = live_sessions::table
                .filter(live_sessions::address.eq(address.to_string()))
                .select(live_sessions::session_id);
            if taken.first::<String>(self.conn).optional()?.is_none() {
                return Ok(IpAddr::V4(address));
            }
        }
        let taken: HashSet<String> = live_sessions::table
            .select(live_sessions::address)
            .load(self.conn)?
            .into_iter()
            .collect();
        (0..size)
            .map(nth)
            .find(|address| !taken.contains(&address.to_string()))
            .map(IpAddr::V4)
            .ok_or_else(full)
    }
}

/// The assignable addresses of a network: all but the network address, the first (the gateway's)
/// and the broadcast address.
fn assignable_addresses((address, prefix): (Ipv4Addr, u8)) -> std::ops::Range<u32> {
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
