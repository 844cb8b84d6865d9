//! `Origin` and `Host` checks.

use actix_web::HttpRequest;
use actix_web::http::header;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The `Origin` header of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrowserOrigin {
    /// No header: not a browser, or a request for which browsers send none.
    Absent,
    /// An origin of this gateway.
    Own,
    /// Another one, opaque (`null`), or malformed.
    Foreign,
}

/// Classifies the `Origin` header. Own are the configured origins, and `https://` + the host of the
/// request: a page of that origin was served by this gateway, as its certificate proves.
#[must_use]
pub fn classify_origin(req: &HttpRequest, public: &[String]) -> BrowserOrigin {
    let mut all = req.headers().get_all(header::ORIGIN);
    match (all.next(), all.next()) {
        (None, _) => BrowserOrigin::Absent,
        (Some(one), None) => match one.to_str() {
            Ok(origin) if public.iter().any(|p| same_origin(p, origin)) => BrowserOrigin::Own,
            Ok(origin)
                if host_header(req)
                    .is_some_and(|host| same_origin(&format!("https://{host}"), origin)) =>
            {
                BrowserOrigin::Own
            }
            Ok(_) | Err(_) => BrowserOrigin::Foreign,
        },
        (Some(_), Some(_)) => BrowserOrigin::Foreign,
    }
}

/// The `Host` header of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostHeader {
    /// A name of this gateway.
    Own,
    /// Another name that resolves to this gateway (DNS rebinding, a misconfigured proxy).
    Foreign,
    /// Missing, or more than one.
    Ambiguous,
}

/// Classifies the `Host` header. Own are the configured origins and names, `localhost`, and every IP
/// address, which cannot be rebound. The port is ignored, since port forwarding changes it.
#[must_use]
pub fn classify_host_header(req: &HttpRequest, settings: &super::settings::Settings) -> HostHeader {
    if req.headers().get_all(header::HOST).count() > 1 {
        return HostHeader::Ambiguous;
    }
    let Some(host) = host_header(req).map(strip_port).filter(|host| !host.is_empty()) else {
        return HostHeader::Ambiguous;
    };
    let by_origin = settings
        .public_origins
        .iter()
        .filter_map(|o| o.split_once("://"))
        .map(|(_, authority)| strip_port(authority));
    let mut own = by_origin
        .chain(settings.host_names.iter().map(|name| strip_port(name)))
        .chain(["localhost"]);
    let is_address = host.parse::<Ipv4Addr>().is_ok()
        || host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .is_some_and(|h| h.parse::<Ipv6Addr>().is_ok());
    if is_address || own.any(|name| name.eq_ignore_ascii_case(host)) {
        HostHeader::Own
    } else {
        HostHeader::Foreign
    }
}

/// An authority without its port, and a name without the dot that ends it.
fn strip_port(authority: &str) -> &str {
    let authority = authority.trim_end_matches('/');
    let host = match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        Some(_) | None => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// The host of a request: `:authority` in HTTP/2, `Host` in HTTP/1.1. Never a forwarded header.
fn host_header(req: &HttpRequest) -> Option<&str> {
    req.uri()
        .authority()
        .map(|a| a.as_str())
        .or_else(|| req.headers().get(header::HOST)?.to_str().ok())
}

/// Compares two origins: scheme and host without case, the default port of https left out.
fn same_origin(a: &str, b: &str) -> bool {
    let plain = |o: &str| {
        let o = o.trim_end_matches('/').to_ascii_lowercase();
        o.strip_suffix(":443")
            .filter(|o| o.starts_with("https://"))
            .map_or(o.clone(), str::to_owned)
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn host_names() {
        let settings = crate::http::settings::Settings {
            public_origins: vec![
                "https://gate.example:8443".to_owned(),
                "https://[2001:db8::1]".to_owned(),
            ],
            host_names: vec!["desk.example".to_owned()],
            ..Default::default()
        };
        let classify = |host: &str| {
            classify_host_header(
                &TestRequest::default().insert_header(("host", host)).to_http_request(),
                &settings,
            )
        };
        for own in [
            "gate.example",
            "GATE.example:8443",
            "gate.example.:9",
            "desk.example",
            "localhost:1",
            "127.0.0.1:8443",
            "[::1]:8443",
            "[2001:db8::2]",
        ] {
            assert_eq!(classify(own), HostHeader::Own, "{own}");
        }
        for foreign in [
            "evil.example",
            "gate.example.evil",
            "xgate.example",
            "localhost.evil:8443",
            "127.0.0.1.evil",
            "a:b",
            "gate.example:x",
            "2130706433",
        ] {
            assert_eq!(classify(foreign), HostHeader::Foreign, "{foreign}");
        }
        assert_eq!(classify(""), HostHeader::Ambiguous);
        let twice = TestRequest::default()
            .append_header(("host", "gate.example"))
            .append_header(("host", "evil.example"))
            .to_http_request();
        assert_eq!(classify_host_header(&twice, &settings), HostHeader::Ambiguous);
    }

    #[test]
    fn origins() {
        let public = ["https://gate.example".to_owned()];
        let classify = |host: &str, origin: &str| {
            let req = TestRequest::default()
                .insert_header(("host", host))
                .insert_header(("origin", origin))
                .to_http_request();
            classify_origin(&req, &public)
        };
        assert_eq!(classify("x", "https://gate.example"), BrowserOrigin::Own);
        assert_eq!(classify("x", "https://gate.example:443"), BrowserOrigin::Own);
        assert_eq!(classify("127.0.0.1:8443", "https://127.0.0.1:8443"), BrowserOrigin::Own);
        for (host, origin) in [
            ("gate.example", "http://gate.example"),
            ("gate.example", "https://gate.example.evil"),
            ("gate.example", "https://gate.example:8443"),
            ("gate.example", "null"),
            ("gate.example", ""),
        ] {
            assert_eq!(classify(host, origin), BrowserOrigin::Foreign, "{host} {origin}");
        }
        assert_eq!(
            classify_origin(&TestRequest::default().to_http_request(), &public),
            BrowserOrigin::Absent
        );
    }
}
