//! Which addresses can be another machine's: for destinations that an administrator enters.

use std::net::{IpAddr, Ipv4Addr};

/// What keeps an address from being another machine's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoDestination {
    /// Of no machine: unspecified, multicast, broadcast, or reserved (RFC 6890).
    Never(&'static str),
    /// Of this machine, or of one link only.
    Local(&'static str),
}

/// Why an address cannot be another machine's; `None`: it can. An IPv4 address that is written as an
/// IPv6 address counts as what it is.
#[must_use]
pub fn no_destination(ip: IpAddr) -> Option<NoDestination> {
    let v6 = match ip {
        IpAddr::V4(v4) => return no_v4_destination(v4),
        IpAddr::V6(v6) => v6,
    };
    if v6.is_unspecified() {
        Some(NoDestination::Never("is the unspecified address"))
    } else if v6.is_multicast() {
        Some(NoDestination::Never("is a multicast address"))
    } else if v6.is_loopback() {
        Some(NoDestination::Local("is this machine's own (loopback)"))
    } else if v6.is_unicast_link_local() {
        Some(NoDestination::Local("is valid on one link only (link-local)"))
    } else {
        // `::ffff:a.b.c.d` and `::a.b.c.d` (RFC 4291 section 2.5.5).
        v6.to_ipv4().and_then(no_v4_destination)
    }
}

fn no_v4_destination(v4: Ipv4Addr) -> Option<NoDestination> {
    if v4.is_broadcast() {
        Some(NoDestination::Never("is the broadcast address"))
    } else if v4.octets()[0] == 0 {
        Some(NoDestination::Never("is the unspecified address"))
    } else if v4.is_multicast() {
        Some(NoDestination::Never("is a multicast address"))
    } else if v4.octets()[0] >= 240 {
        Some(NoDestination::Never("is reserved"))
    } else if v4.is_loopback() {
        Some(NoDestination::Local("is this machine's own (loopback)"))
    } else if v4.is_link_local() {
        Some(NoDestination::Local("is valid on one link only (link-local)"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_other_machines_are_destinations() {
        for ip in [
            "192.0.2.1",
            "10.1.2.3",
            "169.253.1.1",
            "223.255.255.255",
            "2001:db8::1",
            "fd00::1",
            "::ffff:192.0.2.1",
        ] {
            assert_eq!(no_destination(ip.parse().unwrap()), None, "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
            "::ffff:255.255.255.255",
        ] {
            let found = no_destination(ip.parse().unwrap());
            assert!(matches!(found, Some(NoDestination::Never(_))), "{ip} {found:?}");
        }
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:169.254.1.1",
        ] {
            let found = no_destination(ip.parse().unwrap());
            assert!(matches!(found, Some(NoDestination::Local(_))), "{ip} {found:?}");
        }
    }
}
