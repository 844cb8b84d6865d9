//! Rules for values, alone and together. Each refusal names the key and says what is valid.

use super::error::ConfigError;
use super::settings::Config;
use super::value::{DurationSetting, IsBlank, never_a_host};
use crate::domain::Network;
use crate::domain::host::DesktopLimit;

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    rules(config)
        .into_iter()
        .find(|(holds, _)| !holds)
        .map_or(Ok(()), |(_, sentence)| Err(ConfigError::Invalid(sentence.to_owned())))
}

fn is_level(word: &str) -> bool {
    ["off", "error", "warn", "info", "debug", "trace"].contains(&word)
}

/// A domain that leaves room for a label of 36 characters (RFC 1035 section 2.3.4), and that does
/// not contain the gateway's own name.
fn is_apps_domain(domain: &str, public_url: &str) -> bool {
    let label = |l: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(inner)
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let gateway = public_url.strip_prefix("https://").unwrap_or_default();
    let gateway = gateway.rsplit_once(':').map_or(gateway, |(host, _)| host);
    // The last label of an IP address is numeric, that of a domain is not (RFC 3696 section 2).
    let last_is_word =
        domain.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()));
    let is_separate =
        domain != gateway && !gateway.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    domain.len() <= 253 - 37 && domain.split('.').all(label) && last_is_word && is_separate
}

/// Every rule, with its message.
fn rules(c: &Config) -> Vec<(bool, &'static str)> {
    let within = |span: DurationSetting, least: DurationSetting, most: DurationSetting| {
        (least..=most).contains(&span)
    };
    vec![
        (
            c.server.public_url.starts_with("https://") && !c.server.public_url.ends_with('/'),
            "server.public_url must be the https:// address people open, without a slash at its end",
        ),
        (
            c.server.allowed_origins.iter().all(|o| o.starts_with("https://") && !o.ends_with('/')),
            "server.allowed_origins must be https:// addresses without a slash at their end",
        ),
        (!c.server.data_dir.is_blank(), "server.data_dir must name a folder"),
        (
            !c.server.organization.trim().is_empty() && c.server.organization.len() <= 80,
            "server.organization must be 1 to 80 characters",
        ),
        (
            within(c.server.drain_timeout, DurationSetting::secs(0), DurationSetting::minutes(1)),
            "server.drain_timeout must be at most 1m",
        ),
        (
            c.tls.certificate.is_blank() == c.tls.private_key.is_blank(),
            "tls.certificate and tls.private_key belong together: set both, or neither for a certificate of our own",
        ),
        (
            c.tls.names.len() <= 50 && c.tls.names.iter().all(|n| !n.is_empty() && n.len() <= 253),
            "tls.names must be at most 50 host names or addresses",
        ),
        (
            !c.auth.issuer.trim().is_empty()
                && c.auth.issuer.len() <= 80
                && !c.auth.issuer.contains(':'),
            "auth.issuer must be 1 to 80 characters without a colon",
        ),
        (
            within(c.auth.access_token_life, DurationSetting::secs(30), DurationSetting::hours(1)),
            "auth.access_token_life must be 30s to 1h: it cannot be taken back before it ends",
        ),
        (
            within(c.auth.login_life, DurationSetting::minutes(5), DurationSetting::days(90)),
            "auth.login_life must be 5m to 90d",
        ),
        (
            c.auth.login_life > c.auth.access_token_life,
            "auth.login_life must be longer than auth.access_token_life",
        ),
        (
            within(c.auth.mfa_token_life, DurationSetting::secs(30), DurationSetting::minutes(30)),
            "auth.mfa_token_life must be 30s to 30m",
        ),
        (
            (16..=65_536).contains(&c.limits.waiting_sign_ins),
            "limits.waiting_sign_ins must be 16 to 65536",
        ),
        (
            (64..=1_000_000).contains(&c.limits.connections),
            "limits.connections must be 64 to 1000000",
        ),
        (
            (16..=c.limits.connections).contains(&c.limits.connections_per_address),
            "limits.connections_per_address must be 16 to limits.connections",
        ),
        (
            within(c.limits.search_time, DurationSetting::millis(100), DurationSetting::minutes(1)),
            "limits.search_time must be 100ms to 1m",
        ),
        (
            (1..=100).contains(&c.limits.searches_per_user),
            "limits.searches_per_user must be 1 to 100",
        ),
        (
            [
                c.database.control_connections,
                c.database.change_connections,
                c.database.listing_connections,
                c.database.search_connections,
            ]
            .iter()
            .all(|connections| (1..=200).contains(connections)),
            "each of database.control_connections, change_connections, listing_connections and search_connections must be 1 to 200",
        ),
        (
            within(
                c.limits.known_browser_life,
                DurationSetting::hours(1),
                DurationSetting::days(400),
            ),
            "limits.known_browser_life must be 1h to 400d",
        ),
        (
            within(c.sessions.max_duration, DurationSetting::minutes(1), DurationSetting::days(30)),
            "sessions.max_duration must be 1m to 30d",
        ),
        (
            within(c.sessions.duration, DurationSetting::minutes(1), DurationSetting::days(30)),
            "sessions.duration must be 1m to 30d",
        ),
        (
            c.sessions.idle_timeout == DurationSetting::secs(0)
                || within(
                    c.sessions.idle_timeout,
                    DurationSetting::minutes(1),
                    DurationSetting::days(30),
                ),
            "sessions.idle_timeout must be 1m to 30d, or 0s for never",
        ),
        (
            within(
                c.sessions.launch_timeout,
                DurationSetting::secs(1),
                DurationSetting::minutes(2),
            ),
            "sessions.launch_timeout must be 1s to 2m",
        ),
        (
            within(c.sessions.grace, DurationSetting::secs(10), DurationSetting::days(1)),
            "sessions.grace must be 10s to 1d",
        ),
        (
            within(c.sessions.ticket_life, DurationSetting::secs(1), DurationSetting::minutes(2)),
            "sessions.ticket_life must be 1s to 2m",
        ),
        ((1..=64).contains(&c.sessions.max_viewers), "sessions.max_viewers must be 1 to 64"),
        (
            within(c.sessions.app_idle_timeout, DurationSetting::secs(1), DurationSetting::days(1)),
            "sessions.app_idle_timeout must be 1s to 1d",
        ),
        (
            c.apps.domain.is_empty() || is_apps_domain(&c.apps.domain, &c.server.public_url),
            "apps.domain must be a domain name of lower-case letters, digits, hyphens and dots, such as apps.example.com, with no port; and not the \
                gateway's own name",
        ),
        (
            c.apps.certificate.is_blank() == c.apps.private_key.is_blank(),
            "apps.certificate and apps.private_key belong together: set both, or neither for a certificate of our own",
        ),
        (
            c.apps.certificate.is_blank() || !c.apps.domain.is_empty(),
            "apps.certificate is for *.{apps.domain}: set apps.domain, too",
        ),
        (
            c.tunnel.endpoint.is_empty()
                || c.tunnel.endpoint.rsplit_once(':').is_some_and(|(h, p)| {
                    !h.is_empty()
                        && never_a_host(h).is_none()
                        && p.parse::<u16>().is_ok_and(|p| p > 0)
                }),
            "tunnel.endpoint must be HOST:PORT, the address at which hosts reach tunnel.listen from outside",
        ),
        (
            c.tunnel.network.as_v4().is_some_and(|(_, prefix)| (8..=24).contains(&prefix)),
            "tunnel.network must be an IPv4 network with a prefix of 8 to 24",
        ),
        ((1420..=8920).contains(&c.tunnel.mtu_max), "tunnel.mtu_max must be 1420 to 8920"),
        (
            c.direct.allow.len() <= 100 && c.direct.addresses().len() == c.direct.allow.len(),
            "direct.allow must be at most 100 targets, each under a name of its own",
        ),
        (!c.agent.state_dir.is_blank(), "agent.state_dir must name a folder"),
        (c.agent.name.len() <= 80, "agent.name must be at most 80 characters"),
        (
            (1..=10_000).contains(&c.agent.max_service_sessions),
            "agent.max_service_sessions must be 1 to 10000",
        ),
        ((1..=1000).contains(&c.agent.max_desktops), "agent.max_desktops must be 1 to 1000"),
        (
            (256..=1_048_576).contains(&c.agent.desktop_memory_mib),
            "agent.desktop_memory_mib must be 256 to 1048576",
        ),
        (
            (64..=65_536).contains(&c.agent.desktop_processes),
            "agent.desktop_processes must be 64 to 65536",
        ),
        (
            c.agent.home_quota_mib == 0 || (64..=16_777_216).contains(&c.agent.home_quota_mib),
            "agent.home_quota_mib must be 64 to 16777216, or 0 for no limit",
        ),
        (
            c.agent.home_quota_mib > 0 || !c.agent.require_limits.contains(&DesktopLimit::Home),
            "agent.require_limits names home, which needs an agent.home_quota_mib",
        ),
        (
            c.agent.network_allow.len() <= 32 && c.agent.network_allow.iter().all(is_reachable),
            "agent.network_allow must be at most 32 IPv4 networks, and none of this host's loopback, link-local or multicast addresses",
        ),
        (
            c.agent.services.len() <= 32
                && c.agent.service_addresses().len() == c.agent.services.len(),
            "agent.services must be at most 32 services, each under a name of its own",
        ),
        (
            c.log.level.split(',').all(|part| part.rsplit('=').next().is_some_and(is_level)),
            "log.level must be error, warn, info, debug or trace, or a list such as info,portcullis::tunnel=debug",
        ),
    ]
}

/// Whether a desktop may be let into a network: not where the host or a cloud's metadata is.
fn is_reachable(network: &Network) -> bool {
    let never = [
        Network::v4([0, 0, 0, 0], 8),
        Network::v4([127, 0, 0, 0], 8),
        Network::v4([169, 254, 0, 0], 16),
        Network::v4([224, 0, 0, 0], 3),
    ];
    network.as_v4().is_some()
        && never
            .iter()
            .all(|range| !range.contains(network.address) && !network.contains(range.address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        check(&Config::default()).unwrap();
    }

    #[test]
    fn each_refusal_names_its_key() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 28] = [
            ("agent.network_allow", |c| {
                c.agent.network_allow = vec![Network::v4([169, 254, 169, 254], 32)]
            }),
            ("agent.network_allow", |c| c.agent.network_allow = vec![Network::v4([0, 0, 0, 0], 0)]),
            ("agent.home_quota_mib", |c| c.agent.home_quota_mib = 63),
            ("agent.require_limits", |c| {
                c.agent.home_quota_mib = 0;
                c.agent.require_limits = vec![DesktopLimit::Home];
            }),
            ("limits.waiting_sign_ins", |c| c.limits.waiting_sign_ins = 15),
            ("limits.search_time", |c| c.limits.search_time = DurationSetting::secs(0)),
            ("limits.searches_per_user", |c| c.limits.searches_per_user = 0),
            ("database.control_connections", |c| c.database.search_connections = 0),
            ("limits.known_browser_life", |c| {
                c.limits.known_browser_life = DurationSetting::days(401)
            }),
            ("agent.services", |c| {
                c.agent.services = ["a=h:1", "a=h:2"].map(|s| s.parse().unwrap()).to_vec()
            }),
            ("apps.domain", |c| c.apps.domain = "apps.example.com:8443".into()),
            ("apps.domain", |c| c.apps.domain = "localhost".into()),
            ("apps.domain", |c| c.apps.domain = "10.0.0.1".into()),
            ("apps.private_key", |c| c.apps.certificate = "/a.pem".into()),
            ("sessions.app_idle_timeout", |c| {
                c.sessions.app_idle_timeout = DurationSetting::secs(0)
            }),
            ("server.public_url", |c| c.server.public_url = "http://x".into()),
            ("tls.private_key", |c| c.tls.certificate = "/a.pem".into()),
            ("auth.issuer", |c| c.auth.issuer = "a:b".into()),
            ("auth.access_token_life", |c| c.auth.access_token_life = DurationSetting::days(1)),
            ("sessions.grace", |c| c.sessions.grace = DurationSetting::secs(1)),
            ("sessions.max_viewers", |c| c.sessions.max_viewers = 0),
            ("tunnel.endpoint", |c| c.tunnel.endpoint = "example.org".into()),
            ("tunnel.endpoint", |c| c.tunnel.endpoint = "0.0.0.0:51820".into()),
            ("tunnel.endpoint", |c| c.tunnel.endpoint = "[ff02::1]:51820".into()),
            ("tunnel.network", |c| c.tunnel.network = crate::domain::Network::V6_LOOPBACK),
            ("tunnel.mtu_max", |c| c.tunnel.mtu_max = 1419),
            ("tunnel.mtu_max", |c| c.tunnel.mtu_max = 8921),
            ("log.level", |c| c.log.level = "loud".into()),
        ];
        for (key, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            assert!(check(&config).unwrap_err().to_string().contains(key), "{key}");
        }
    }
}
