//! Which session the host of a request names.

use super::settings::{AppsSettings, split_port};
use crate::domain::SessionId;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Uri};

/// What the host of a request names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostTarget {
    /// The origin of a session, which may not exist.
    Session(SessionId),
    /// A subdomain that is not a session id.
    UnknownSubdomain,
    /// A host that is not served here (RFC 9110 section 15.5.20).
    Misdirected,
    /// None, several, or not a valid host.
    Invalid,
}

/// Reads the host of a request: `:authority` in HTTP/2; the target or `Host` in HTTP/1.1. If both are
/// present they must be equal: an upstream server might use the other one.
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
    // The port is not compared, because port forwarding changes it.
    let is_host = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.[]:".contains(&b));
    if !is_host || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return HostTarget::Invalid;
    }
    if !settings.is_subdomain(host) {
        return HostTarget::Misdirected;
    }
    let label = &host[..host.len() - settings.domain.len() - 1];
    // Only the canonical form: an id has several spellings, each of which would be another origin.
    let is_canonical = |id: SessionId| {
        id.0.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).eq_ignore_ascii_case(label)
    };
    match label.parse::<SessionId>() {
        Ok(id) if is_canonical(id) => HostTarget::Session(id),
        Ok(_) | Err(_) => HostTarget::UnknownSubdomain,
    }
}

/// Whether the request target is a path that can be served, in origin or absolute form (RFC 9112
/// sections 3.2.1 and 3.2.2).
#[must_use]
pub fn is_origin_form(method: &Method, uri: &Uri) -> bool {
    let scheme = uri.scheme_str().is_none_or(|s| s.eq_ignore_ascii_case("https"));
    *method != Method::CONNECT && scheme && uri.path().starts_with('/')
}
