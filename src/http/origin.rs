//! Which browser origins are ours, and whose word on a client's address is believed.

use crate::domain::Network;
use actix_web::HttpRequest;
use actix_web::http::header;
use std::net::IpAddr;

/// The client's address: the peer's; when that is a trusted proxy, the last address in `X-Forwarded-For` that is not one.
/// Entries are read from the right, since only those were written by proxies we trust.
#[must_use]
pub fn client_address(peer: IpAddr, forwarded_for: &str, trusted: &[Network]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(ip));
    let mut client = peer.to_canonical();
    for entry in forwarded_for.rsplit(',').map(str::trim).filter(|e| !e.is_empty()) {
        if !is_trusted(client) {
            break;
        }
        match entry.parse::<IpAddr>() {
            Ok(ip) => client = ip.to_canonical(),
            Err(_) => break,
        }
    }
    client
}

/// What a request's `Origin` header says about the page it came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrowserOrigin {
    /// There is none: not a browser, or a request browsers do not mark.
    Absent,
    /// One of ours.
    Ours,
    /// Somebody else's, opaque (`null`), or unreadable.
    Foreign,
}

/// Judges a request's `Origin` header. Ours are the configured ones, and `https://` + the host the request names:
/// a page of that origin was served by us, as its certificate shows.
#[must_use]
pub fn browser_origin(req: &HttpRequest, public: &[String]) -> BrowserOrigin {
    let mut all = req.headers().get_all(header::ORIGIN);
    match (all.next(), all.next()) {
        (None, _) => BrowserOrigin::Absent,
        (Some(one), None) => match one.to_str() {
            Ok(origin) if public.iter().any(|p| same_origin(p, origin)) => BrowserOrigin::Ours,
            Ok(origin) if host_of(req).is_some_and(|host| same_origin(&format!("https://{host}"), origin)) => BrowserOrigin::Ours,
            Ok(_) | Err(_) => BrowserOrigin::Foreign,
        },
        (Some(_), Some(_)) => BrowserOrigin::Foreign,
    }
}

/// The host the request names: `:authority` in HTTP/2, `Host` in HTTP/1.1. Never a forwarded header.
fn host_of(req: &HttpRequest) -> Option<&str> {
    req.uri().authority().map(|a| a.as_str()).or_else(|| req.headers().get(header::HOST)?.to_str().ok())
}

/// Compares two origins: scheme and host without case, the default port of https left out.
fn same_origin(a: &str, b: &str) -> bool {
    let plain = |o: &str| {
        let o = o.trim_end_matches('/').to_ascii_lowercase();
        o.strip_suffix(":443").filter(|o| o.starts_with("https://")).map_or(o.clone(), str::to_owned)
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for (peer, header, client) in [
            ("203.0.113.1", "198.51.100.1", "203.0.113.1"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "nonsense", "10.0.0.1"),
        ] {
            assert_eq!(client_address(ip(peer), header, &trusted), ip(client), "{peer} {header}");
        }
    }

    #[test]
    fn origins() {
        let public = ["https://gate.example".to_owned()];
        let judge = |host: &str, origin: &str| {
            let req = TestRequest::default().insert_header(("host", host)).insert_header(("origin", origin)).to_http_request();
            browser_origin(&req, &public)
        };
        assert_eq!(judge("x", "https://gate.example"), BrowserOrigin::Ours);
        assert_eq!(judge("x", "https://gate.example:443"), BrowserOrigin::Ours);
        assert_eq!(judge("127.0.0.1:8443", "https://127.0.0.1:8443"), BrowserOrigin::Ours);
        for (host, origin) in [
            ("gate.example", "http://gate.example"),
            ("gate.example", "https://gate.example.evil"),
            ("gate.example", "https://gate.example:8443"),
            ("gate.example", "null"),
            ("gate.example", ""),
        ] {
            assert_eq!(judge(host, origin), BrowserOrigin::Foreign, "{host} {origin}");
        }
        assert_eq!(browser_origin(&TestRequest::default().to_http_request(), &public), BrowserOrigin::Absent);
    }
}
