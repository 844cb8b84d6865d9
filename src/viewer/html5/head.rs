//! Rewriting of request and response heads (no I/O).
//!
//! | fields | toward the application | toward the browser |
//! | --- | --- | --- |
//! | hop-by-hop fields, and those that `Connection` names (RFC 9110 section 7.6.1) | removed | removed |
//! | framing (`Content-Length`, `Transfer-Encoding`) | generated from the body | generated from the body |
//! | user and client (`Forwarded`, `X-Forwarded-*`, ...) | the browser's removed, also when spelled with `_`; the gateway's added | - |
//! | `Host`, `Origin`, `Referer` | mapped to the application's own host | - |
//! | `Destination`, `If` (RFC 4918 sections 10.3 and 10.4) | resources mapped to the application's own scheme and host: servers refuse those of another | - |
//! | `Location`, `Content-Location`, `Refresh`, `Access-Control-Allow-Origin` | - | mapped to the public origin |
//! | cookies | the application's ([`super::cookies`]) | host-only |
//! | framing policy (`X-Frame-Options`, `frame-ancestors`) | - | replaced: the viewer page and the origin itself |
//! | `Strict-Transport-Security`, `Public-Key-Pins`, `Alt-Svc` | - | removed: they describe the application's own transport, and `Alt-Svc` bypasses the gateway |
//! | `Clear-Site-Data` | - | without `cookies`: browsers would clear those of the whole site, including the gateway's |
//!
//! All other fields, and all bodies, are forwarded unchanged.

use super::cookies::CookieJar;
use super::origin_map::{AppOrigin, OriginMap};
use super::url_fields::{DESTINATION, IF, rewrite_refresh, rewrite_resources, rewrite_url_field};
use crate::domain::web_app::WebAppConfig;
use crate::protocol::http1::write_field;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use std::borrow::Cow;
use std::net::IpAddr;

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const ORIGIN_AGENT_CLUSTER: HeaderName = HeaderName::from_static("origin-agent-cluster");
/// Initial capacity of a head, in bytes: enough for most.
const HEAD_CAPACITY: usize = 2048;
const FRAME_ANCESTORS: &[u8] = b"frame-ancestors";

/// Removed from every response, in addition to the hop-by-hop fields.
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

/// Identity and sign-in fields that the gateway adds to requests.
#[derive(Clone, Debug, Default)]
pub(super) struct IdentityHeaders {
    /// They replace fields of the same name that the browser sent.
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
}

/// Hop-by-hop fields of RFC 9110 section 7.6.1 and of its predecessors.
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

/// Fields by which proxies tell applications the user, the client address and the original request:
/// from a browser they are forged. CGI does not distinguish `-` and `_`.
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

fn is_same_name(name: &str, other: &str) -> bool {
    name == other || (name.contains('_') && name.replace('_', "-") == other)
}

/// The field names that `Connection` declares hop-by-hop (connection options, RFC 9110 section
/// 7.6.1).
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

/// Starts a request head: the request line (RFC 9112 section 3), with the target byte for byte as
/// the browser sent it.
pub(super) fn request_line(method: &Method, target: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_CAPACITY);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    out
}

/// Rewrites the heads of an application's requests and responses.
pub(super) struct HeadRewriter {
    origins: OriginMap,
    cookies: CookieJar,
    /// See [`AppOrigin::cross_site`].
    cross_site: bool,
}

impl HeadRewriter {
    pub(super) fn new(origin: &AppOrigin, config: &WebAppConfig) -> Self {
        Self {
            origins: OriginMap::new(origin, config),
            cookies: CookieJar::default(),
            cross_site: origin.cross_site,
        }
    }

    /// Whose pages may frame the application, as a source list of `frame-ancestors`.
    pub(super) fn framing_origins(&self) -> &str {
        self.origins.framing_origins()
    }

    /// Whether a browser's `Origin` is the application's public origin.
    pub(super) fn is_public_origin(&self, origin: &HeaderValue) -> bool {
        self.origins.is_public_origin(origin)
    }

    /// Writes the fields of a request to the application, without `Content-Length` and
    /// `Transfer-Encoding`. `client`: the browser's address.
    pub(super) fn write_request_fields(
        &self,
        out: &mut Vec<u8>,
        browser: &HeaderMap,
        client: IpAddr,
        identity: &IdentityHeaders,
    ) {
        write_field(out, &header::HOST, self.origins.host());
        let options = connection_options(browser);
        for (name, value) in browser {
            let text = name.as_str();
            let is_replaced =
                identity.fields.iter().any(|(field, _)| is_same_name(text, field.as_str()));
            let is_removed = is_replaced
                || is_hop_by_hop(text)
                || is_forwarding_field(text)
                || matches!(text, "host" | "cookie" | "content-length" | "expect")
                || text.starts_with("sec-websocket-")
                || options.iter().any(|option| option == text);
            if is_removed {
                continue;
            }
            if *name == DESTINATION || *name == IF {
                write_field(out, name, &rewrite_resources(name, value, &self.origins));
                continue;
            }
            if *name == header::ORIGIN || *name == header::REFERER {
                if let Some(value) = rewrite_url_field(name, value, &self.origins) {
                    write_field(out, name, &value);
                }
                continue;
            }
            write_field(out, name, value);
        }
        if let Some(cookies) = self.cookies.rewrite_cookies(browser.get_all(header::COOKIE)) {
            write_field(out, &header::COOKIE, &cookies);
        }
        if has_token(browser, &header::TE, "trailers") {
            // RFC 9110 section 10.1.4: a sender of TE names it in Connection.
            write_field(out, &header::TE, &HeaderValue::from_static("trailers"));
            write_field(out, &header::CONNECTION, &HeaderValue::from_static("te"));
        }
        write_forwarded(out, &self.origins, client);
        for (name, value) in &identity.fields {
            write_field(out, name, value);
        }
    }

    /// Rewrites the fields of a response to the browser. `Content-Length` is left to the caller.
    pub(super) fn rewrite_response_fields(&self, headers: &mut HeaderMap) {
        let origins = &self.origins;
        for option in connection_options(headers) {
            headers.remove(option);
        }
        let removed: Vec<HeaderName> = headers
            .keys()
            .filter(|name| {
                is_hop_by_hop(name.as_str()) || REMOVED_FROM_RESPONSES.contains(&name.as_str())
            })
            .cloned()
            .collect();
        for name in removed {
            headers.remove(name);
        }
        for name in
            [header::LOCATION, header::CONTENT_LOCATION, header::ACCESS_CONTROL_ALLOW_ORIGIN]
        {
            map_each(headers, &name, |value| {
                Some(
                    value
                        .to_str()
                        .ok()
                        .and_then(|url| origins.to_public(url))
                        .and_then(|url| HeaderValue::from_str(&url).ok())
                        .unwrap_or_else(|| value.clone()),
                )
            });
        }
        map_each(headers, &header::REFRESH, |value| {
            Some(rewrite_refresh(value, origins).unwrap_or_else(|| value.clone()))
        });
        map_each(headers, &header::SET_COOKIE, |value| {
            self.cookies.rewrite_set_cookie(value, self.cross_site)
        });
        map_each(headers, &CLEAR_SITE_DATA, rewrite_clear_site_data);
        map_each(headers, &header::CONTENT_SECURITY_POLICY, remove_frame_ancestors);
        headers.append(header::CONTENT_SECURITY_POLICY, origins.frame_ancestors().clone());
        headers.insert(ORIGIN_AGENT_CLUSTER, HeaderValue::from_static("?1"));
    }
}

/// Writes `Forwarded` (RFC 7239) and the `X-Forwarded-*` fields.
fn write_forwarded(out: &mut Vec<u8>, origins: &OriginMap, client: IpAddr) {
    let (authority, node) = (origins.public_authority().as_bytes(), client.to_string());
    let (before, after) =
        if client.is_ipv6() { (&b"\"["[..], &b"]\""[..]) } else { (&b""[..], &b""[..]) };
    for piece in [
        &b"x-forwarded-proto: https\r\nx-forwarded-host: "[..],
        authority,
        b"\r\nx-forwarded-for: ",
        node.as_bytes(),
        b"\r\nforwarded: for=",
        before,
        node.as_bytes(),
        after,
        b";host=\"",
        authority,
        b"\";proto=https\r\n",
    ] {
        out.extend_from_slice(piece);
    }
}

/// Maps each value of a field; `None` removes it.
fn map_each(
    headers: &mut HeaderMap,
    name: &HeaderName,
    map: impl Fn(&HeaderValue) -> Option<HeaderValue>,
) {
    let header::Entry::Occupied(entry) = headers.entry(name) else { return };
    let (name, values) = entry.remove_entry_mult();
    let values: Vec<HeaderValue> = values.collect();
    for value in values.iter().filter_map(map) {
        headers.append(&name, value);
    }
}

/// Removes `frame-ancestors` (CSP3 section 6.4.2) from each policy of a list.
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

/// Removes `cookies`, which browsers clear for the registrable domain, not for the origin.
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

/// Removes trailer fields used for framing, routing, authentication or response control (RFC 9110
/// section 6.5.1).
pub(super) fn filter_trailers(trailers: &mut HeaderMap) {
    let is_removed = |name: &str| {
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
    let removed: Vec<HeaderName> =
        trailers.keys().filter(|name| is_removed(name.as_str())).cloned().collect();
    for name in removed {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests;
