//! Free addresses of the host network and of the session network.

use crate::domain::{Error, Result};
use crate::store::schema::{hosts, live_sessions};
use crate::store::transaction::Tx;
use diesel::prelude::*;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

impl Tx<'_> {
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
