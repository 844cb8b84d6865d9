//! The client's address behind trusted proxies.
//!
//! A proxy appends the address it was called from to `X-Forwarded-For`, or an element with a `for`
//! parameter to `Forwarded` (RFC 7239 section 4). Each address is a **node**: with or without a
//! port, IPv6 in brackets where it has one, and in `Forwarded` quoted where it has a colon (section
//! 6). Nodes are read from the right, since only the rightmost ones are from trusted proxies.

use crate::domain::Network;
use crate::domain::network::ProxyHeader;
use std::net::{IpAddr, SocketAddr};

/// The field lines of a request, in order; those that are not text are left out.
#[derive(Clone, Default, Debug)]
pub struct ForwardedFields<'a> {
    pub x_forwarded_for: Vec<&'a str>,
    pub forwarded: Vec<&'a str>,
}

impl ForwardedFields<'_> {
    /// The nodes from the client to the last proxy.
    fn nodes(&self, believed: ProxyHeader) -> Vec<&str> {
        let x_forwarded_for = || -> Vec<&str> {
            let entries = self.x_forwarded_for.iter().flat_map(|line| line.split(','));
            entries.map(str::trim).filter(|node| !node.is_empty()).collect()
        };
        let forwarded = || -> Vec<&str> {
            let elements = self.forwarded.iter().flat_map(|line| split_unquoted(line, ','));
            elements.filter(|element| !element.trim().is_empty()).map(for_parameter).collect()
        };
        match believed {
            ProxyHeader::XForwardedFor => x_forwarded_for(),
            ProxyHeader::Forwarded => forwarded(),
            ProxyHeader::Any => match x_forwarded_for() {
                nodes if nodes.is_empty() => forwarded(),
                nodes => nodes,
            },
        }
    }
}

/// The client's address: the peer's; when that is a trusted proxy, the last node that is not one. A
/// node without an address (`unknown`, an obfuscated identifier) ends the search at the proxy that
/// wrote it.
#[must_use]
pub fn client_address(
    peer: IpAddr,
    fields: &ForwardedFields<'_>,
    trusted: &[Network],
    believed: ProxyHeader,
) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(ip));
    let mut client = peer.to_canonical();
    for node in fields.nodes(believed).into_iter().rev() {
        if !is_trusted(client) {
            break;
        }
        match node_address(node) {
            Some(address) => client = address.to_canonical(),
            None => break,
        }
    }
    client
}

/// The address of a node: `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:4711`; ports may be obfuscated (RFC 7239 section 6.2).
fn node_address(node: &str) -> Option<IpAddr> {
    let node = node.trim();
    if let Ok(address) = node.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(endpoint) = node.parse::<SocketAddr>() {
        return Some(endpoint.ip());
    }
    let (host, port) = match node.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, ""),
        Some((host, port)) => (host, port.strip_prefix(':')?),
        None => node.split_once(':')?,
    };
    let is_port = port.bytes().all(|b| b.is_ascii_digit())
        || port.strip_prefix('_').is_some_and(is_obfuscated);
    host.parse().ok().filter(|_| is_port)
}

/// The characters of an obfuscated identifier (RFC 7239 section 6.3).
fn is_obfuscated(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// The value of the `for` parameter of an element of `Forwarded`, without quotes; empty when there
/// is none.
fn for_parameter(element: &str) -> &str {
    let pairs = split_unquoted(element, ';').filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for")).map(|(_, value)| value);
    let value = value.last().unwrap_or_default();
    // A node has no character that needs an escape, so an escaped one is no address.
    value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value)
}

/// Splits at a separator outside of quoted strings (RFC 9110 section 5.6.4).
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        let outside = !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        outside && c == separator
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client(peer: &str, x: &[&str], forwarded: &[&str], believed: ProxyHeader) -> IpAddr {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()];
        let fields = ForwardedFields { x_forwarded_for: x.to_vec(), forwarded: forwarded.to_vec() };
        client_address(ip(peer), &fields, &trusted, believed)
    }

    #[test]
    fn addresses_count_only_from_trusted_proxies() {
        for (peer, header, expected) in [
            ("203.0.113.1", "198.51.100.1", "203.0.113.1"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, 2001:db8:1::2", "198.51.100.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", ", ,", "10.0.0.1"),
            ("10.0.0.1", "nonsense", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1, nonsense, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "203.0.113.11:4711", "203.0.113.11"),
            ("10.0.0.1", "203.0.113.11:4711, 10.0.0.2:80", "203.0.113.11"),
            ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
            ("10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
            ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
            ("10.0.0.1", "[::ffff:198.51.100.1]:1", "198.51.100.1"),
            ("10.0.0.1", "203.0.113.11:", "203.0.113.11"),
            ("10.0.0.1", "203.0.113.11:70000", "203.0.113.11"),
            ("10.0.0.1", "203.0.113.11:_port", "203.0.113.11"),
            ("10.0.0.1", "203.0.113.11:4711:1", "10.0.0.1"),
            ("10.0.0.1", "[2001:db8::1", "10.0.0.1"),
            ("10.0.0.1", "[2001:db8::1]443", "10.0.0.1"),
        ] {
            let found = client(peer, &[header], &[], ProxyHeader::Any);
            assert_eq!(found, ip(expected), "{peer} {header}");
        }
    }

    #[test]
    fn forwarded_elements_are_read() {
        for (lines, expected) in [
            (&["for=203.0.113.12;proto=https"][..], "203.0.113.12"),
            (&["proto=https; For=\"203.0.113.12:4711\" ; by=10.0.0.9"], "203.0.113.12"),
            (&["for=\"[2001:db8::2]:4711\""], "2001:db8::2"),
            (&["for=192.0.2.9, for=203.0.113.12, for=10.0.0.2"], "203.0.113.12"),
            (&["for=192.0.2.9", "for=203.0.113.12"], "203.0.113.12"),
            (&["for=192.0.2.9, for=_hidden"], "10.0.0.1"),
            (&["for=192.0.2.9, for=unknown, for=10.0.0.2"], "10.0.0.2"),
            (&["for=192.0.2.9, proto=https"], "10.0.0.1"),
            (&["by=\"x, for=192.0.2.9\";for=203.0.113.12"], "203.0.113.12"),
            (&["by=\"x\\\", for=192.0.2.9\";for=203.0.113.12"], "203.0.113.12"),
            (&["for=\"203.0.113.12"], "10.0.0.1"),
        ] {
            for believed in [ProxyHeader::Any, ProxyHeader::Forwarded] {
                assert_eq!(client("10.0.0.1", &[], lines, believed), ip(expected), "{lines:?}");
            }
        }
    }

    #[test]
    fn one_header_is_believed() {
        let both = |believed| client("10.0.0.1", &["192.0.2.1"], &["for=192.0.2.2"], believed);
        assert_eq!(both(ProxyHeader::Any), ip("192.0.2.1"));
        assert_eq!(both(ProxyHeader::XForwardedFor), ip("192.0.2.1"));
        assert_eq!(both(ProxyHeader::Forwarded), ip("192.0.2.2"));
        let other = client("10.0.0.1", &["192.0.2.1"], &[], ProxyHeader::Forwarded);
        assert_eq!(other, ip("10.0.0.1"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[ -~]{0,60}", tail in "[0-9a-f:.\\[\\]\"=;,_ for]{0,40}") {
            for line in [&text, &tail] {
                let untrusted = client("192.0.2.7", &[line], &[line], ProxyHeader::Any);
                prop_assert_eq!(untrusted, ip("192.0.2.7"));
                client("10.0.0.1", &[line], &[], ProxyHeader::Any);
                client("10.0.0.1", &[], &[line], ProxyHeader::Any);
            }
        }

        #[test]
        fn an_address_is_found_however_it_is_written(bits: u128, v4: bool, port: u16) {
            let address = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) };
            let endpoint = SocketAddr::new(address, port).to_string();
            let quoted = format!("for=\"{endpoint}\"");
            for found in [
                node_address(&address.to_string()),
                node_address(&endpoint),
                node_address(for_parameter(&quoted)),
            ] {
                prop_assert_eq!(found, Some(address));
            }
        }
    }
}
