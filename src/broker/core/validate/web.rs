//! Validation of web application settings.
//!
//! - A **start path** becomes the target of a redirect: one that browsers read as another host
//!   (`//host`, `/\host`) is refused.
//! - A **sign-in header** must not be one that frames or routes a message, or that the gateway
//!   writes itself.
//! - **Paths** are compared decoded, by whole segments, so they are entered decoded, without `.`
//!   and `..`.

#[cfg(test)]
mod tests;

use super::fields::{set_if_changed, single_line};
use crate::broker::model::WebChange;
use crate::domain::upstream::CredentialSource;
use crate::domain::web_app::{self, UpstreamSignIn};
use crate::domain::workspace::WorkspaceFields;
use crate::domain::{Error, Result};

/// Maximum length of a path, in bytes, as in the request log.
const PATH_MAX: usize = 512;
/// Maximum number of methods and paths of a policy: each request is compared with all of them.
const METHODS_MAX: usize = 16;
const PATHS_MAX: usize = 64;
/// Maximum length of a method and of a header name, in bytes.
const TOKEN_MAX: usize = 64;
/// Maximum length of an audience, in characters.
const AUDIENCE_MAX: usize = 255;
/// Maximum limit of a request's body, in bytes: 1 PiB, which JavaScript represents exactly.
const REQUEST_MAX: u64 = 1 << 50;
/// Paths of an application's origin that are the gateway's own.
const OWN_PATH: &str = "/.portcullis";
/// Headers that cannot carry a sign-in: they frame a message or belong to its connection (RFC 9110
/// section 7.6.1, RFC 9112), or name its destination or source.
const NOT_FOR_SIGN_IN: [&str; 22] = [
    "accept",
    "accept-encoding",
    "connection",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "range",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "warning",
];
/// Prefixes of such headers; the gateway writes the identity headers itself.
const NOT_FOR_SIGN_IN_FAMILIES: [&str; 7] =
    ["access-control-", "content-", "if-", "proxy-", "sec-", "x-forwarded-", "x-portcullis-"];

pub(super) fn apply_change(
    fields: &mut WorkspaceFields,
    change: &WebChange,
    names: &mut Vec<&'static str>,
) -> Result<()> {
    let web = &mut fields.web_app;
    set_if_changed(&mut web.scheme, change.scheme, "web.scheme", names);
    set_if_changed(&mut web.host, change.host.as_deref().map(host).transpose()?, "web.host", names);
    set_if_changed(
        &mut web.start,
        change.start.as_deref().map(start).transpose()?,
        "web.start",
        names,
    );
    set_if_changed(
        &mut web.identity.headers,
        change.identity_headers,
        "web.identity.headers",
        names,
    );
    let audience =
        change.assertion_audience.as_ref().map(|text| audience(text.as_deref())).transpose()?;
    set_if_changed(
        &mut web.identity.assertion_audience,
        audience,
        "web.identity.assertion_audience",
        names,
    );
    set_if_changed(
        &mut web.sign_in,
        change.sign_in.as_ref().map(sign_in).transpose()?,
        "web.sign_in",
        names,
    );
    let requests = &mut web.requests;
    set_if_changed(
        &mut requests.methods,
        change.methods.as_deref().map(methods).transpose()?,
        "web.requests.methods",
        names,
    );
    set_if_changed(
        &mut requests.paths,
        change.paths.as_deref().map(paths).transpose()?,
        "web.requests.paths",
        names,
    );
    set_if_changed(&mut requests.upload, change.upload, "web.requests.upload", names);
    set_if_changed(&mut requests.download, change.download, "web.requests.download", names);
    if change.max_request.is_some_and(|bytes| bytes > REQUEST_MAX) {
        return Err(Error::invalid(format!(
            "web.requests.max_request must be at most {REQUEST_MAX} bytes; 0 allows any size."
        )));
    }
    set_if_changed(
        &mut requests.max_request,
        change.max_request,
        "web.requests.max_request",
        names,
    );
    // Without a sign-in there is no credential: the account name is cleared.
    if change.sign_in == Some(UpstreamSignIn::None) {
        fields.upstream.credential_source = CredentialSource::Workspace;
        fields.upstream.username.clear();
    }
    Ok(())
}

/// A name as `HostTunnel` and TLS take it, perhaps with a port; lower case.
fn host(text: &str) -> Result<String> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return Ok(text);
    }
    let bad = || {
        Error::invalid(
            "web.host must be a DNS name or an address, perhaps with a port: erp.example.com, [2001:db8::1]:8443.",
        )
    };
    let (name, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((name, rest))) => {
            name.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            (
                name,
                rest.strip_prefix(':')
                    .or_else(|| Some("").filter(|_| rest.is_empty()).map(|_| "443"))
                    .ok_or_else(bad)?,
            )
        }
        Some(None) => return Err(bad()),
        None => text.split_once(':').unwrap_or((&text, "443")),
    };
    let numeric = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if !numeric
        || port.parse::<u16>().map_or(true, |port| port == 0)
        || rustls_pki_types::ServerName::try_from(name).is_err()
    {
        return Err(bad());
    }
    Ok(text)
}

/// A path of the application, optionally with a query.
fn start(text: &str) -> Result<String> {
    let text = text.trim();
    let own =
        web_app::path_of(text) == OWN_PATH || web_app::path_of(text).starts_with("/.portcullis/");
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&b));
    if !text.starts_with('/') || text.starts_with("//") || !plain || own || text.len() > PATH_MAX {
        return Err(Error::invalid(format!(
            "web.start must be a path of the application, such as /lab, of at most {PATH_MAX} bytes; what is not ASCII is written %XX."
        )));
    }
    Ok(text.to_owned())
}

fn audience(text: Option<&str>) -> Result<Option<String>> {
    text.map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| single_line("web.identity.assertion_audience", text, AUDIENCE_MAX))
        .transpose()
}

/// A token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    (1..=TOKEN_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn sign_in(sign_in: &UpstreamSignIn) -> Result<UpstreamSignIn> {
    let UpstreamSignIn::Header(name) = sign_in else { return Ok(sign_in.clone()) };
    let name = name.trim().to_ascii_lowercase();
    if !is_token(&name) {
        return Err(Error::invalid(
            "web.sign_in.header must be the name of a header, such as x-api-key.",
        ));
    }
    if NOT_FOR_SIGN_IN.contains(&name.as_str())
        || NOT_FOR_SIGN_IN_FAMILIES.iter().any(|family| name.starts_with(family))
    {
        return Err(Error::invalid(format!(
            "web.sign_in.header must not be {name}: a message's framing, route and identity are not a sign-in."
        )));
    }
    Ok(UpstreamSignIn::Header(name))
}

fn methods(list: &[String]) -> Result<Vec<String>> {
    let mut out: Vec<String> = Vec::with_capacity(list.len());
    for method in list {
        let method = method.trim().to_ascii_uppercase();
        if !is_token(&method) || method == "CONNECT" || method == "TRACE" {
            return Err(Error::invalid(
                "web.requests.methods must be names of methods, such as GET and POST; CONNECT and TRACE never pass.",
            ));
        }
        if !out.contains(&method) {
            out.push(method);
        }
    }
    if out.len() > METHODS_MAX {
        return Err(Error::invalid(format!(
            "web.requests.methods must be at most {METHODS_MAX}; none allows every one."
        )));
    }
    Ok(out)
}

fn paths(list: &[String]) -> Result<Vec<String>> {
    let mut out: Vec<String> = Vec::with_capacity(list.len());
    for path in list {
        let path = path.trim();
        let path = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
        let plain = path.bytes().all(|b| b.is_ascii_graphic() && !b"%?#\\".contains(&b));
        let whole = path == "/"
            || path.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | ".."));
        if !path.starts_with('/') || !plain || !whole || path.len() > PATH_MAX {
            return Err(Error::invalid(format!(
                "web.requests.paths must be paths such as /wiki, of at most {PATH_MAX} bytes, without %XX, a query, or segments . and .."
            )));
        }
        if !out.iter().any(|known| known == path) {
            out.push(path.to_owned());
        }
    }
    if out.len() > PATHS_MAX {
        return Err(Error::invalid(format!(
            "web.requests.paths must be at most {PATHS_MAX}; none allows every one."
        )));
    }
    Ok(out)
}
