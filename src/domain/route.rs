//! How a desktop is reached: which way a session's stream goes, where a workspace's own server is,
//! and which leg of the way is slow.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`Way`] | own tunnel, the host's tunnel, or none at all: fixed when the session is made |
//! | [`Target`] | the server an admin named in a workspace; without one, a host's agent starts a desktop |
//! | [`HopLatencies`] | the round trips of a stream's three legs, as far as they are known; [`HopLatencies::slow`] names the one to blame |

use super::HostId;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Which way a session's stream goes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum SessionRoute {
    /// Through a tunnel of the session's own, with its own keys: dropping them cuts it.
    #[default]
    OwnTunnel,
    /// Through the tunnel of its host, a standard WireGuard peer, which has one key pair for
    /// everything. The gateway cuts its streams one by one.
    HostTunnel,
    /// Through no tunnel, to a target that the configuration allows by this name.
    Direct(String),
}

impl SessionRoute {
    /// The way of a stored text; [`fmt::Display`] writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "own" => Some(Self::OwnTunnel),
            "host" => Some(Self::HostTunnel),
            _ => text
                .strip_prefix("direct ")
                .filter(|name| is_target_name(name))
                .map(|name| Self::Direct(name.to_owned())),
        }
    }
}

impl fmt::Display for SessionRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnTunnel => f.write_str("own"),
            Self::HostTunnel => f.write_str("host"),
            Self::Direct(name) => write!(f, "direct {name}"),
        }
    }
}

/// The server of a workspace, as an admin named it. No client ever names one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetSpec {
    /// A port of a standard WireGuard peer, reached through its tunnel.
    Host {
        /// The peer.
        host_id: HostId,
        /// The port at its inner address.
        port: u16,
    },
    /// A service of a host with an agent, reached through the session's own tunnel; where it leads
    /// only the agent's own options say.
    Service {
        /// The host.
        host_id: HostId,
        /// The service's name.
        name: String,
    },
    /// A name that the configuration allows; where it leads only the configuration says.
    Direct {
        /// The name.
        name: String,
    },
}

/// Whether a text can name a direct target or a service: lower-case letters, digits and hyphens, 1
/// to 63.
#[must_use]
pub fn is_target_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The addresses of hosts inside their tunnels: network and prefix length. Never routed anywhere.
pub const HOST_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 63, 0, 0), 16);

/// The gateway's address inside the tunnels of hosts whose own address is IPv6: a unique local one
/// (RFC 4193), whose global id is a hash of the gateway's public key, in its usual spelling. Never
/// routed anywhere.
#[must_use]
pub fn gateway_v6(public_key: &str) -> Ipv6Addr {
    let hash: [u8; 32] = Sha256::digest(format!("portcullis gateway address {public_key}")).into();
    let mut address = [0; 16];
    address[..6].copy_from_slice(&hash[..6]);
    (address[0], address[15]) = (0xfd, 1);
    address.into()
}

/// A leg of the way from browser to desktop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hop {
    /// Browser to gateway.
    BrowserGateway,
    /// Gateway to host.
    GatewayHost,
    /// Host to desktop.
    HostDesktop,
}

impl Hop {
    /// Every leg, in the order of the way.
    pub const ALL: [Self; 3] = [Self::BrowserGateway, Self::GatewayHost, Self::HostDesktop];

    /// Its word in APIs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BrowserGateway => "browser_gateway",
            Self::GatewayHost => "gateway_host",
            Self::HostDesktop => "host_desktop",
        }
    }

    /// What it may take before somebody who types notices.
    #[must_use]
    pub fn limit(self) -> Duration {
        match self {
            Self::BrowserGateway => Duration::from_millis(120),
            Self::GatewayHost => Duration::from_millis(60),
            Self::HostDesktop => Duration::from_millis(100),
        }
    }
}

/// What each leg took when it was last measured; `None`: not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HopLatencies {
    /// WebSocket ping to pong.
    pub browser: Option<Duration>,
    /// Opening a TCP connection to the host, inside the tunnel where there is one.
    pub host: Option<Duration>,
    /// From an open connection to the greeting of the desktop's server, less the way there and
    /// back.
    pub desktop: Option<Duration>,
}

impl HopLatencies {
    /// A leg.
    #[must_use]
    pub fn get(&self, leg: Hop) -> Option<Duration> {
        match leg {
            Hop::BrowserGateway => self.browser,
            Hop::GatewayHost => self.host,
            Hop::HostDesktop => self.desktop,
        }
    }

    /// The leg to blame: of those beyond their limits, the one that is so by the largest factor.
    /// `None`: nothing is slow.
    #[must_use]
    pub fn bottleneck(&self) -> Option<Hop> {
        let factor =
            |leg: Hop| self.get(leg).map(|took| took.as_secs_f64() / leg.limit().as_secs_f64());
        let slow = Hop::ALL
            .into_iter()
            .filter_map(|leg| Some((leg, factor(leg)?)))
            .filter(|(_, factor)| *factor > 1.0);
        slow.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(leg, _)| leg)
    }
}

/// The upper bounds of a distribution's buckets, in milliseconds; one more bucket takes what is
/// beyond.
pub const BUCKETS_MS: [u64; 9] = [1, 5, 20, 60, 120, 300, 1000, 60_000, 180_000];

/// How many values lie at or below each bound of [`BUCKETS_MS`], and how many there are in all: a
/// picture of the moment, of bounded size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LatencyHistogram {
    /// Counted per bound, each with those below it.
    pub cumulative: [usize; BUCKETS_MS.len()],
    /// All.
    pub count: usize,
}

impl LatencyHistogram {
    /// Counts a value.
    pub fn observe(&mut self, value: Duration) {
        self.count += 1;
        for (count, bound) in self.cumulative.iter_mut().zip(BUCKETS_MS) {
            *count += usize::from(value <= Duration::from_millis(bound));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_written_and_read() {
        for way in [
            SessionRoute::OwnTunnel,
            SessionRoute::HostTunnel,
            SessionRoute::Direct("old-box".into()),
        ] {
            assert_eq!(SessionRoute::parse(&way.to_string()), Some(way));
        }
        for bad in ["", "direct", "direct ", "direct A", "direct a b", "tunnel"] {
            assert_eq!(SessionRoute::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_slow_leg_is_named() {
        let ms = |n| Some(Duration::from_millis(n));
        let legs = |browser, host, desktop| HopLatencies { browser, host, desktop };
        assert_eq!(HopLatencies::default().bottleneck(), None);
        assert_eq!(legs(ms(120), ms(60), ms(100)).bottleneck(), None, "at the limit is within it");
        assert_eq!(legs(ms(150), None, None).bottleneck(), Some(Hop::BrowserGateway));
        assert_eq!(
            legs(ms(150), ms(100), ms(5)).bottleneck(),
            Some(Hop::GatewayHost),
            "by the larger factor"
        );
        assert_eq!(legs(ms(150), ms(70), ms(900)).bottleneck(), Some(Hop::HostDesktop));
    }

    #[test]
    fn a_spread_counts_each_value_with_those_below() {
        let mut spread = LatencyHistogram::default();
        for ms in [0, 1, 50, 1_000_000] {
            spread.observe(Duration::from_millis(ms));
        }
        assert_eq!(spread.count, 4);
        assert_eq!(spread.cumulative, [2, 2, 2, 3, 3, 3, 3, 3, 3]);
    }
}
