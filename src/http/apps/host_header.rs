//! Which session a request's host names.

use super::AppsSettings;
use crate::domain::SessionId;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Uri};

/// What a request's host says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostTarget {
    /// A session's origin, whether there is such a session or not.
    Session(SessionId),
    /// A name below the domain that is no session's.
    UnknownSubdomain,
    /// A name that is not served here (RFC 9110 section 15.5.20).
    Misdirected,
    /// None, several, or something that is no host.
    Invalid,
}

/// Reads the host of a request: `:authority` in HTTP/2, the target's or `HostTunnel` in HTTP/1.1. Where
/// both are there they must agree: of two names, whoever is behind us might believe the other one.
#[must_use]
pub fn host_target(uri: &Uri, headers: &HeaderMap, settings: &AppsSettings) -> HostTarget {
    let mut hosts = headers.get_all(header::HOST).into_iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return HostTarget::Invalid;
    }
    let Ok(host) = host.map(|h| h.to_str()).transpose() else { return HostTarget::Invalid };
    let authority = match (uri.authority().map(hyper::http::uri::Authority::as_str), host) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => {
            return HostTarget::Invalid;
        }
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => return HostTarget::Invalid,
    };
    let (host, port) = split_port(authority);
    // The port itself does not count, since a forwarded port changes it.
    let is_host = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.[]:".contains(&b));
    if !is_host || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return HostTarget::Invalid;
    }
    if !settings.is_subdomain(host) {
        return HostTarget::Misdirected;
    }
    let label = &host[..host.len() - settings.domain.len() - 1];
    // Only as we write it: an id has several spellings, and each would be an origin of its own.
    let written = |id: SessionId| {
        id.0.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).eq_ignore_ascii_case(label)
    };
    match label.parse::<SessionId>() {
        Ok(id) if written(id) => HostTarget::Session(id),
        Ok(_) | Err(_) => HostTarget::UnknownSubdomain,
    }
}

/// A request's target that can be served: a path (RFC 9112 section 3.2.1 and 3.2.2), and no tunnel.
#[must_use]
pub fn is_origin_form(method: &Method, uri: &Uri) -> bool {
    let scheme = uri.scheme_str().is_none_or(|s| s.eq_ignore_ascii_case("https"));
    *method != Method::CONNECT && scheme && uri.path().starts_with('/')
}

/// Host and port of an authority.
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    }
}
