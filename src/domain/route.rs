//! The network route of a session's stream, the location of a workspace's own server, and the
//! latency of the hops between browser and desktop.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`SessionRoute`] | own tunnel, the host's tunnel, or none: fixed when the session is created |
//! | [`TargetSpec`] | the server an administrator named in a workspace; without one, a host's agent starts a desktop |
//! | [`HopLatencies`] | the round trips of a stream's three hops, as far as they are known; [`HopLatencies::bottleneck`] is the slowest of them |

use super::HostId;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The route of a session's stream.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum SessionRoute {
    /// Through a tunnel of the session's own, with its own keys: dropping the keys ends the stream.
    #[default]
    OwnTunnel,
    /// Through the tunnel of its host, a standard WireGuard peer with one key pair for everything.
    /// The gateway closes the streams one by one.
    HostTunnel,
    /// Through no tunnel, to a target that the configuration allows by this name.
    Direct(String),
}

impl SessionRoute {
    /// Parses what [`fmt::Display`] writes.
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

/// The server of a workspace, as an administrator named it. Clients never name one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetSpec {
    /// A port of a standard WireGuard peer, reached through its tunnel.
    Host {
        host_id: HostId,
        /// The port at the peer's inner address.
        port: u16,
    },
    /// A service of a host with an agent, reached through the session's own tunnel. Only the
    /// agent's options define its address.
    Service { host_id: HostId, name: String },
    /// A name that the configuration allows. Only the configuration defines its address.
    Direct { name: String },
}

/// Whether a text can name a direct target or a service: 1 to 63 lower-case letters, digits and
/// hyphens.
#[must_use]
pub fn is_target_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The addresses of hosts inside their tunnels: network and prefix length. Never routed anywhere.
pub const HOST_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 63, 0, 0), 16);

/// The gateway's address inside the tunnels of hosts whose own address is IPv6: a unique local
/// address (RFC 4193) whose global id is a hash of the gateway's public key in base64. Never routed
/// anywhere.
#[must_use]
pub fn gateway_v6(public_key: &str) -> Ipv6Addr {
    let hash: [u8; 32] = Sha256::digest(format!("portcullis gateway address {public_key}")).into();
    let mut address = [0; 16];
    address[..6].copy_from_slice(&hash[..6]);
    (address[0], address[15]) = (0xfd, 1);
    address.into()
}

/// A hop of the path from browser to desktop.
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
    /// In path order.
    pub const ALL: [Self; 3] = [Self::BrowserGateway, Self::GatewayHost, Self::HostDesktop];

    /// Its name in APIs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BrowserGateway => "browser_gateway",
            Self::GatewayHost => "gateway_host",
            Self::HostDesktop => "host_desktop",
        }
    }

    /// The latency above which interactive typing feels slow.
    #[must_use]
    pub fn limit(self) -> Duration {
        match self {
            Self::BrowserGateway => Duration::from_millis(120),
            Self::GatewayHost => Duration::from_millis(60),
            Self::HostDesktop => Duration::from_millis(100),
        }
    }
}

/// The last measured latency of each hop; `None`: unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HopLatencies {
    /// WebSocket ping to pong.
    pub browser: Option<Duration>,
    /// TCP connect to the host, inside the tunnel if there is one.
    pub host: Option<Duration>,
    /// From an open connection to the greeting of the desktop's server, less one round trip.
    pub desktop: Option<Duration>,
}

impl HopLatencies {
    #[must_use]
    pub fn get(&self, hop: Hop) -> Option<Duration> {
        match hop {
            Hop::BrowserGateway => self.browser,
            Hop::GatewayHost => self.host,
            Hop::HostDesktop => self.desktop,
        }
    }

    /// Of the hops beyond their limits, the one with the largest ratio. `None`: no hop is slow.
    #[must_use]
    pub fn bottleneck(&self) -> Option<Hop> {
        let factor = |hop: Hop| {
            self.get(hop).map(|latency| latency.as_secs_f64() / hop.limit().as_secs_f64())
        };
        let slow = Hop::ALL
            .into_iter()
            .filter_map(|hop| Some((hop, factor(hop)?)))
            .filter(|(_, factor)| *factor > 1.0);
        slow.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(hop, _)| hop)
    }
}

/// The upper bounds of the histogram's buckets, in milliseconds; one more bucket counts what is
/// above.
pub const BUCKETS_MS: [u64; 9] = [1, 5, 20, 60, 120, 300, 1000, 60_000, 180_000];

/// A cumulative histogram of one moment: how many values lie at or below each bound of
/// [`BUCKETS_MS`], and how many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LatencyHistogram {
    pub cumulative: [usize; BUCKETS_MS.len()],
    pub count: usize,
}

impl LatencyHistogram {
    pub fn observe(&mut self, value: Duration) {
        self.count += 1;
        for (count, bound) in self.cumulative.iter_mut().zip(BUCKETS_MS) {
            *count += usize::from(value <= Duration::from_millis(bound));
        }
    }
}

/// Sums and distributions over the paths of all sessions, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathMetrics {
    /// Bytes sent to hosts since the gateway started.
    pub tx_bytes: u64,
    /// Bytes received from hosts since the gateway started.
    pub rx_bytes: u64,
    /// TCP segments retransmitted inside the sessions' own tunnels.
    pub retransmits: u64,
    /// Round trips gateway to host.
    pub host: LatencyHistogram,
    /// Response times host to desktop.
    pub desktop: LatencyHistogram,
    /// Ages of the present keys.
    pub handshake_age: LatencyHistogram,
    /// Sessions on direct targets.
    pub direct: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_round_trip() {
        for route in [
            SessionRoute::OwnTunnel,
            SessionRoute::HostTunnel,
            SessionRoute::Direct("old-box".into()),
        ] {
            assert_eq!(SessionRoute::parse(&route.to_string()), Some(route));
        }
        for bad in ["", "direct", "direct ", "direct A", "direct a b", "tunnel"] {
            assert_eq!(SessionRoute::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_bottleneck_has_the_largest_ratio() {
        let ms = |n| Some(Duration::from_millis(n));
        let hops = |browser, host, desktop| HopLatencies { browser, host, desktop };
        assert_eq!(HopLatencies::default().bottleneck(), None);
        assert_eq!(hops(ms(120), ms(60), ms(100)).bottleneck(), None, "at the limit is within it");
        assert_eq!(hops(ms(150), None, None).bottleneck(), Some(Hop::BrowserGateway));
        assert_eq!(
            hops(ms(150), ms(100), ms(5)).bottleneck(),
            Some(Hop::GatewayHost),
            "by the larger factor"
        );
        assert_eq!(hops(ms(150), ms(70), ms(900)).bottleneck(), Some(Hop::HostDesktop));
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let mut histogram = LatencyHistogram::default();
        for ms in [0, 1, 50, 1_000_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        assert_eq!(histogram.count, 4);
        assert_eq!(histogram.cumulative, [2, 2, 2, 3, 3, 3, 3, 3, 3]);
    }
}
