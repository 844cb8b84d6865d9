//! Heads of requests and answers, as they go on: pure.
//!
//! | what | toward the application | toward the browser |
//! | --- | --- | --- |
//! | hop-by-hop fields, and those `ConnectionContext` names (RFC 9110 section 7.6.1) | out | out |
//! | framing (`Content-Length`, `Transfer-Encoding`) | made anew from the body, one way | the same |
//! | who the user is, and by which way they came (`Forwarded`, `X-Forwarded-*`, ...) | the browser's out, also when spelled with `_`; ours in | - |
//! | `HostTunnel`, `RequestSource`, `Referer`, `Destination` | of the application, as it knows itself | - |
//! | `Location`, `Content-Location`, `Refresh`, `Access-Control-Allow-Origin` | - | of the session's origin |
//! | cookies | those of the application ([`super::cookies`]) | host-only |
//! | who may frame it (`X-Frame-Options`, `frame-ancestors`) | - | the viewer page and itself |
//! | `Strict-Transport-Security`, `Public-Key-Pins`, `Alt-Svc` | - | out: they speak of the application's own transport, and the last leads around the gateway |
//! | `Clear-Site-Data` | - | without `cookies`: browsers would clear those of the whole site, the gateway's too |
//!
//! Everything else, and every body, passes as it is.

use super::cookies::CookieJar;
use super::origin_map::OriginMap;
use crate::protocol::http1::head::write_field;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use std::borrow::Cow;
use std::net::IpAddr;

const DESTINATION: HeaderName = HeaderName::from_static("destination");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const ORIGIN_AGENT_CLUSTER: HeaderName = HeaderName::from_static("origin-agent-cluster");
/// Room for most heads, in bytes.
const HEAD_CAPACITY: usize = 2048;
const FRAME_ANCESTORS: &[u8] = b"frame-ancestors";

/// Out of every answer, beside the hop-by-hop fields.
const REMOVED_FROM_RESPONSES: [&str; 9] = [
    "strict-transport-security",
    "public-key-pins",
    "public-key-pins-report-only",
    "alt-svc",
    "x-frame-options",
    "set-cookie2",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "x-portcullis-assertion",
];

/// What the gateway says to the application beside the request.
#[derive(Clone, Debug, Default)]
pub(super) struct IdentityHeaders {
    /// Identity and sign-in: in place of whatever the browser sent by these names.
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
}

/// RFC 9110 section 7.6.1, and its predecessors' names.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "proxy-connection"
            | "keep-alive"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
            | "http2-settings"
    )
}

/// Fields by which proxies tell applications who asks, from where, and for what: from a browser
/// they are forgeries. CGI and its heirs take `-` and `_` for the same.
fn is_forwarding_field(name: &str) -> bool {
    let name: Cow<'_, str> =
        if name.contains('_') { name.replace('_', "-").into() } else { name.into() };
    let prefixes = [
        "x-forwarded",
        "x-portcullis",
        "x-remote-",
        "x-auth-request-",
        "x-webauth-",
        "x-original-",
        "x-rewrite-",
        "x-envoy-",
    ];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
        || matches!(
            &*name,
            "forwarded"
                | "x-real-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "true-client-ip"
                | "remote-user"
                | "remote-groups"
                | "remote-email"
                | "remote-name"
                | "x-host"
                | "proxy"
                | "early-data"
        )
}

fn same_name(name: &str, other: &str) -> bool {
    name == other || (name.contains('_') && name.replace('_', "-") == other)
}

/// The names that `ConnectionContext` declares to be of this hop alone.
fn connection_options(headers: &HeaderMap) -> Vec<String> {
    let tokens = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|t| !matches!(t.as_str(), "" | "close" | "keep-alive" | "upgrade" | "te"))
        .collect()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|t| t.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(token))
}

/// Begins the head of a request: its first line (RFC 9112 section 3), the target octet by octet as
/// the browser wrote it.
pub(super) fn request_line(method: &Method, target: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_CAPACITY);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    out
}

/// Writes the fields of a request for the application. Framing is the caller's: no `Content-Length`
/// is among them.
pub(super) fn write_request_fields(
    out: &mut Vec<u8>,
    browser: &HeaderMap,
    names: &OriginMap,
    from: IpAddr,
    said: &IdentityHeaders,
    jar: &CookieJar,
) {
    write_field(out, &header::HOST, names.host());
    let hops = connection_options(browser);
    for (name, value) in browser {
        let word = name.as_str();
        let ours = said.fields.iter().any(|(said, _)| same_name(word, said.as_str()));
        let out_of_it = ours
            || is_hop_by_hop(word)
            || is_forwarding_field(word)
            || matches!(word, "host" | "cookie" | "content-length" | "expect")
            || word.starts_with("sec-websocket-")
            || hops.iter().any(|hop| hop == word);
        if out_of_it {
            continue;
        }
        if *name == header::ORIGIN || *name == header::REFERER || *name == DESTINATION {
            if let Some(value) = rewrite_url_field(name, value, names) {
                write_field(out, name, &value);
            }
            continue;
        }
        write_field(out, name, value);
    }
    if let Some(cookies) = jar.rewrite_cookies(browser.get_all(header::COOKIE)) {
        write_field(out, &header::COOKIE, &cookies);
    }
    if has_token(browser, &header::TE, "trailers") {
        // RFC 9110 section 10.1.4: a sender of TE names it in Connection.
        write_field(out, &header::TE, &HeaderValue::from_static("trailers"));
        write_field(out, &header::CONNECTION, &HeaderValue::from_static("te"));
    }
    write_forwarded(out, names, from);
    for (name, value) in &said.fields {
        write_field(out, name, value);
    }
}

/// A field that holds a URL, as the application would have been asked; `None`: it is not told,
/// since it names a page of the gateway.
fn rewrite_url_field(
    name: &HeaderName,
    value: &HeaderValue,
    names: &OriginMap,
) -> Option<HeaderValue> {
    let Ok(url) = value.to_str() else { return Some(value.clone()) };
    if *name == header::REFERER
        && url
            .strip_prefix(names.gateway_origin())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    {
        return None;
    }
    match names.to_upstream(url) {
        Some(mapped) => HeaderValue::from_str(&mapped).ok(),
        None => Some(value.clone()),
    }
}

/// By which way the request came (RFC 7239, and the names before it).
fn write_forwarded(out: &mut Vec<u8>, names: &OriginMap, from: IpAddr) {
    let (own, node) = (names.public_authority().as_bytes(), from.to_string());
    let (before, after) =
        if from.is_ipv6() { (&b"\"["[..], &b"]\""[..]) } else { (&b""[..], &b""[..]) };
    for piece in [
        &b"x-forwarded-proto: https\r\nx-forwarded-host: "[..],
        own,
        b"\r\nx-forwarded-for: ",
        node.as_bytes(),
        b"\r\nforwarded: for=",
        before,
        node.as_bytes(),
        after,
        b";host=\"",
        own,
        b"\";proto=https\r\n",
    ] {
        out.extend_from_slice(piece);
    }
}

/// The fields of an answer for the browser. Framing is the caller's, except `Content-Length`, which
/// stays as it is.
pub(super) fn rewrite_response_fields(
    headers: &mut HeaderMap,
    names: &OriginMap,
    cross_site: bool,
    jar: &CookieJar,
) {
    for hop in connection_options(headers) {
        headers.remove(hop);
    }
    let unwanted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            is_hop_by_hop(name.as_str()) || REMOVED_FROM_RESPONSES.contains(&name.as_str())
        })
        .cloned()
        .collect();
    for name in unwanted {
        headers.remove(name);
    }
    for name in [header::LOCATION, header::CONTENT_LOCATION, header::ACCESS_CONTROL_ALLOW_ORIGIN] {
        map_each(headers, &name, |value| {
            Some(
                value
                    .to_str()
                    .ok()
                    .and_then(|url| names.to_public(url))
                    .and_then(|url| HeaderValue::from_str(&url).ok())
                    .unwrap_or_else(|| value.clone()),
            )
        });
    }
    map_each(headers, &header::REFRESH, |value| {
        Some(rewrite_refresh(value, names).unwrap_or_else(|| value.clone()))
    });
    map_each(headers, &header::SET_COOKIE, |value| jar.rewrite_set_cookie(value, cross_site));
    map_each(headers, &CLEAR_SITE_DATA, rewrite_clear_site_data);
    map_each(headers, &header::CONTENT_SECURITY_POLICY, remove_frame_ancestors);
    headers.append(header::CONTENT_SECURITY_POLICY, names.frame_ancestors().clone());
    headers.insert(ORIGIN_AGENT_CLUSTER, HeaderValue::from_static("?1"));
}

/// Replaces every value of a field, or takes it out.
fn map_each(
    headers: &mut HeaderMap,
    name: &HeaderName,
    map: impl Fn(&HeaderValue) -> Option<HeaderValue>,
) {
    let header::Entry::Occupied(entry) = headers.entry(name) else { return };
    let (name, values) = entry.remove_entry_mult_owned();
    for value in values.iter().filter_map(map) {
        headers.append(&name, value);
    }
}

trait RemoveMult {
    fn remove_entry_mult_owned(self) -> (HeaderName, Vec<HeaderValue>);
}

impl RemoveMult for header::OccupiedEntry<'_, HeaderValue> {
    fn remove_entry_mult_owned(self) -> (HeaderName, Vec<HeaderValue>) {
        let (name, values) = self.remove_entry_mult();
        (name, values.collect())
    }
}

/// `Refresh: 5; url=...`, which browsers know though no RFC does.
fn rewrite_refresh(value: &HeaderValue, names: &OriginMap) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let at = text.to_ascii_lowercase().find("url=")? + 4;
    let (before, url) = text.split_at_checked(at)?;
    let url = url.trim().trim_matches(['"', '\'']);
    HeaderValue::from_str(&format!("{before}{}", names.to_public(url)?)).ok()
}

/// A policy without its `frame-ancestors` (CSP3 section 6.4.2); of a list of policies, each.
fn remove_frame_ancestors(value: &HeaderValue) -> Option<HeaderValue> {
    let is_ancestors = |directive: &&[u8]| {
        let word = directive.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        word.eq_ignore_ascii_case(FRAME_ANCESTORS)
    };
    let policies = value.as_bytes().split(|b| *b == b',').filter_map(|policy| {
        let kept: Vec<&[u8]> =
            policy.split(|b| *b == b';').filter(|directive| !is_ancestors(directive)).collect();
        let kept = kept.join(&b";"[..]);
        (!kept.trim_ascii().is_empty()).then_some(kept)
    });
    let policies: Vec<Vec<u8>> = policies.collect();
    HeaderValue::from_bytes(&policies.join(&b","[..])).ok().filter(|value| !value.is_empty())
}

/// Everything but cookies, which browsers clear for the registrable domain, not for the origin.
fn rewrite_clear_site_data(value: &HeaderValue) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let mut kept: Vec<&str> = Vec::new();
    for item in text.split(',').map(str::trim) {
        match item {
            "\"*\"" => kept.extend(["\"cache\"", "\"storage\"", "\"executionContexts\""]),
            "\"cookies\"" | "" => {}
            other => kept.push(other),
        }
    }
    HeaderValue::from_str(&kept.join(", ")).ok().filter(|value| !value.is_empty())
}

/// Trailers as they may go on: no field that frames, routes, proves or sets anything (RFC 9110
/// section 6.5.1).
pub(super) fn filter_trailers(trailers: &mut HeaderMap) {
    let barred = |name: &str| {
        is_hop_by_hop(name)
            || is_forwarding_field(name)
            || REMOVED_FROM_RESPONSES.contains(&name)
            || name.starts_with("content-")
            || name.starts_with("access-control-")
            || name.starts_with("sec-")
            || matches!(
                name,
                "host"
                    | "cookie"
                    | "set-cookie"
                    | "authorization"
                    | "expect"
                    | "trailer"
                    | "location"
                    | "refresh"
                    | "clear-site-data"
                    | "www-authenticate"
                    | "origin-agent-cluster"
            )
    };
    let unwanted: Vec<HeaderName> =
        trailers.keys().filter(|name| barred(name.as_str())).cloned().collect();
    for name in unwanted {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests;
