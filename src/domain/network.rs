//! A range of addresses: who is trusted, who may ask, where tunnels live.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address range, written as `10.64.0.0/10`; a single address is a range of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

/// The header in which trusted proxies write whom they were called by. What another header says is
/// the client's own word, which a proxy that does not write it may pass on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, or `Forwarded` in a request without it.
    #[default]
    Any,
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl Network {
    /// `::1`.
    pub const V6_LOOPBACK: Self = Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 };

    /// 127.0.0.0/8 and ::1.
    #[must_use]
    pub fn loopback() -> Vec<Self> {
        vec![Self::v4([127, 0, 0, 0], 8), Self::V6_LOOPBACK]
    }

    /// An IPv4 range.
    #[must_use]
    pub const fn v4(octets: [u8; 4], prefix: u8) -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
            prefix,
        }
    }

    /// The range as IPv4, when it is.
    #[must_use]
    pub fn as_v4(&self) -> Option<(Ipv4Addr, u8)> {
        match self.address {
            IpAddr::V4(v4) => Some((v4, self.prefix)),
            IpAddr::V6(_) => None,
        }
    }

    /// Whether an address lies in it. An IPv4 address in IPv6 clothes counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(a)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(net) & mask == u32::from(a) & mask
            }
            (IpAddr::V6(net), IpAddr::V6(a)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(net) & mask == u128::from(a) & mask
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "\"{text}\" is not a network; write an address and a prefix length, such as 10.64.0.0/10"
            )
        };
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |p| p.parse::<u8>().map_err(|_| bad()))?;
        let network = Self { address, prefix };
        if prefix > longest {
            return Err(bad());
        }
        let first = match address {
            IpAddr::V4(a) => IpAddr::from(Ipv4Addr::from(
                u32::from(a) & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0),
            )),
            IpAddr::V6(a) => IpAddr::from(Ipv6Addr::from(
                u128::from(a) & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0),
            )),
        };
        if first == address {
            Ok(network)
        } else {
            Err(format!("\"{text}\" has bits beyond its prefix; did you mean {first}/{prefix}?"))
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_its_addresses() {
        let private: Network = "10.64.0.0/10".parse().unwrap();
        assert!(
            private.contains("10.127.255.255".parse().unwrap())
                && !private.contains("10.128.0.0".parse().unwrap())
        );
        assert!(private.contains("::ffff:10.64.0.1".parse().unwrap()));
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
        assert_eq!("127.0.0.1".parse::<Network>().unwrap().prefix, 32);
        for bad in ["", "10.0.0.0/33", "10.0.0.1/8", "x/8", "10.0.0.0/", "::1/129"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
