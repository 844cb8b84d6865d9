//! Clients: whose connections count together, and which of them are known.

use crate::domain::Network;
use crate::domain::rate_limit::{MAX_KEYS, client_network};
use crate::domain::sync::lock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a client is known after an authenticated request. Pages that are open send one at
/// least every ten minutes, to renew their access token.
const KNOWN_FOR: Duration = Duration::from_secs(3600);

/// Whose connections count together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(in crate::http) enum Client {
    /// An IPv4 address, or the /64 of an IPv6 address.
    Network(IpAddr),
    /// A trusted proxy. Everybody may be behind it: it has no limit of its own, and is known.
    Proxy(IpAddr),
}

impl Client {
    pub(in crate::http) fn of(peer: IpAddr, trusted_proxies: &[Network]) -> Self {
        let peer = peer.to_canonical();
        if trusted_proxies.iter().any(|network| network.contains(peer)) {
            Self::Proxy(peer)
        } else {
            Self::Network(client_network(peer))
        }
    }
}

/// The clients from which authenticated requests came.
#[derive(Debug, Default)]
pub(super) struct KnownClients(Mutex<HashMap<IpAddr, Instant>>);

impl KnownClients {
    pub(super) fn add(&self, client: Client, now: Instant) {
        let Client::Network(network) = client else { return };
        let mut until = lock(&self.0);
        if until.len() >= MAX_KEYS && !until.contains_key(&network) {
            forget_some(&mut until, now);
        }
        until.insert(network, now + KNOWN_FOR);
    }

    pub(super) fn contains(&self, client: Client, now: Instant) -> bool {
        match client {
            Client::Proxy(_) => true,
            Client::Network(network) => {
                lock(&self.0).get(&network).is_some_and(|until| *until > now)
            }
        }
    }
}

/// Forgets those that are not known any more; if all are, the half that was seen longest ago.
fn forget_some(until: &mut HashMap<IpAddr, Instant>, now: Instant) {
    until.retain(|_, until| *until > now);
    if until.len() >= MAX_KEYS {
        let mut times: Vec<Instant> = until.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        until.retain(|_, until| *until > *median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn client(text: &str) -> Client {
        Client::of(text.parse().unwrap(), &["10.0.0.0/8".parse().unwrap()])
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_proxy_is_none() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert!(matches!(client("::ffff:10.1.2.3"), Client::Proxy(_)));
        assert!(matches!(client("11.0.0.1"), Client::Network(_)));
    }

    #[test]
    fn a_client_is_known_for_an_hour() {
        let (known, now) = (KnownClients::default(), Instant::now());
        let one = client("192.0.2.1");
        known.add(one, now);
        assert!(known.contains(one, now + KNOWN_FOR - Duration::from_secs(1)));
        assert!(!known.contains(one, now + KNOWN_FOR));
        assert!(!known.contains(client("192.0.2.2"), now));
        assert!(known.contains(client("10.0.0.1"), now), "a proxy");
    }

    #[test]
    fn known_clients_are_bounded() {
        let (known, now) = (KnownClients::default(), Instant::now());
        for n in 0..u32::try_from(MAX_KEYS).unwrap() + 10 {
            let at = now + Duration::from_millis(n.into());
            known.add(Client::Network(Ipv4Addr::from(0x0b00_0000 + n).into()), at);
        }
        assert!(lock(&known.0).len() <= MAX_KEYS);
        let last = Client::Network(
            Ipv4Addr::from(0x0b00_0000 + u32::try_from(MAX_KEYS).unwrap() + 9).into(),
        );
        assert!(known.contains(last, now), "the latest are kept");
    }
}
