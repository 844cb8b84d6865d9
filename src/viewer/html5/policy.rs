//! Which requests and responses a workspace's policy allows (no I/O). Where a rule is set, the
//! default is to deny: what cannot be distinguished from something forbidden is refused.
//!
//! The path is checked as an application may interpret it, and forwarded as the browser sent it. A
//! path that two parsers interpret differently (dot segments, encoded slashes, doubly encoded bytes,
//! backslashes, path parameters on dots) is refused where paths are restricted, because one of the
//! interpretations may leave the allowed prefix (RFC 3986 section 7.3).

use crate::domain::web_app::RequestPolicy;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, StatusCode};

/// Why policy refuses a request or a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    Method,
    Path,
    /// The request uploads a file.
    Upload,
    /// The response is a file.
    Download,
    /// The request body is larger than allowed.
    Size,
    /// A page of another origin opens a WebSocket.
    Origin,
}

impl Refusal {
    /// Its code in the audit log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Path => "path",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::Size => "size",
            Self::Origin => "origin",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Path | Self::Upload | Self::Download | Self::Origin => StatusCode::FORBIDDEN,
            Self::Size => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

/// Fields by which some frameworks override the request method.
const METHOD_OVERRIDE_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Media types that scripts and forms send and that are not files.
const NON_FILE_MEDIA_TYPES: [&str; 13] = [
    "application/x-www-form-urlencoded",
    "application/json",
    "application/xml",
    "text/xml",
    "text/plain",
    "application/graphql",
    "application/x-ndjson",
    "application/csp-report",
    "application/x-protobuf",
    "application/grpc-web",
    "application/grpc-web-text",
    "application/reports+json",
    "application/sdp",
];

/// Media types that browsers display or execute; they save all others.
const DISPLAYED_MEDIA_TYPES: [&str; 18] = [
    "text/html",
    "text/css",
    "text/plain",
    "text/xml",
    "text/javascript",
    "text/event-stream",
    "text/vtt",
    "text/cache-manifest",
    "application/javascript",
    "application/x-javascript",
    "application/ecmascript",
    "application/json",
    "application/xml",
    "application/wasm",
    "application/x-ndjson",
    "application/manifest+json",
    "application/font-woff",
    "application/vnd.ms-fontobject",
];

/// The media type of a head, in lower case and without parameters; `None`: none, or several.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, None) = (values.next()?, values.next()) else { return None };
    let media_type = first.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
    (!media_type.is_empty() && !media_type.contains(',')).then_some(media_type)
}

fn has_structured_suffix(media_type: &str) -> bool {
    media_type.ends_with("+json") || media_type.ends_with("+xml")
}

/// Checks a request head. `length`: of the body; `None`: unknown; `Some(0)`: there is no body.
pub(super) fn check_request(
    policy: &RequestPolicy,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    length: Option<u64>,
) -> Result<(), Refusal> {
    check_method(policy, method.as_str())?;
    if !policy.methods.is_empty() {
        for value in METHOD_OVERRIDE_FIELDS.iter().flat_map(|name| headers.get_all(name)) {
            let method = value.to_str().map_err(|_| Refusal::Method)?;
            check_method(policy, &method.trim().to_ascii_uppercase())?;
        }
    }
    check_path(policy, path)?;
    if length != Some(0) {
        let is_file = media_type(headers).is_none_or(|media_type| {
            !(NON_FILE_MEDIA_TYPES.contains(&media_type.as_str())
                || has_structured_suffix(&media_type))
        });
        if !policy.upload && is_file {
            return Err(Refusal::Upload);
        }
        if policy.max_request > 0 && length.is_some_and(|length| length > policy.max_request) {
            return Err(Refusal::Size);
        }
    }
    Ok(())
}

fn check_method(policy: &RequestPolicy, method: &str) -> Result<(), Refusal> {
    let listed = |method: &str| policy.methods.iter().any(|m| m == method);
    // CONNECT and TRACE concern this hop, not the application (RFC 9110 sections 9.3.6 and 9.3.8).
    // HEAD is GET without its body (9.3.2).
    let is_allowed = !matches!(method, "CONNECT" | "TRACE")
        && (policy.methods.is_empty() || listed(method) || (method == "HEAD" && listed("GET")));
    if is_allowed { Ok(()) } else { Err(Refusal::Method) }
}

fn check_path(policy: &RequestPolicy, path: &str) -> Result<(), Refusal> {
    if policy.paths.is_empty() {
        return Ok(());
    }
    let decoded = decode_path(path).ok_or(Refusal::Path)?;
    let within = |prefix: &String| {
        let prefix = prefix.trim_end_matches('/');
        decoded.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if policy.paths.iter().any(within) { Ok(()) } else { Err(Refusal::Path) }
}

/// Decodes a path; `None` when two parsers may interpret it differently.
fn decode_path(path: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let octet = match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let mut octet = [0];
                hex::decode_to_slice(digits, &mut octet).ok()?;
                // An encoded slash separates segments for some parsers only; an encoded percent sign
                // may be decoded again.
                if matches!(octet, [b'/' | b'%']) {
                    return None;
                }
                let [octet] = octet;
                octet
            }
            other => other,
        };
        if octet == b'\\' || octet.is_ascii_control() {
            return None;
        }
        octets.push(octet);
    }
    let decoded = String::from_utf8(octets).ok()?;
    // `..;x` is `..` for servers that remove path parameters first.
    let dots =
        |segment: &str| matches!(segment.split(';').next().unwrap_or_default().trim(), "." | "..");
    (decoded.starts_with('/') && !decoded.split('/').any(dots)).then_some(decoded)
}

/// Checks a response head. `empty`: the response has no body.
pub(super) fn check_response(
    policy: &RequestPolicy,
    status: StatusCode,
    headers: &HeaderMap,
    empty: bool,
) -> Result<(), Refusal> {
    if policy.download || empty {
        return Ok(());
    }
    // Only `inline` is certain to be displayed (RFC 6266 section 4.2).
    let is_saved = headers.get_all(header::CONTENT_DISPOSITION).iter().any(|value| {
        let kind = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        !(kind.is_empty() || kind.eq_ignore_ascii_case(b"inline"))
    });
    if is_saved {
        return Err(Refusal::Download);
    }
    let is_displayed = |media_type: &str| {
        DISPLAYED_MEDIA_TYPES.contains(&media_type)
            || has_structured_suffix(media_type)
            || ["image/", "audio/", "video/", "font/"]
                .iter()
                .any(|prefix| media_type.starts_with(prefix))
    };
    match media_type(headers) {
        Some(media_type) if is_displayed(&media_type) => Ok(()),
        // Browsers sniff the type of a body without one and may save it; not in a redirect or an
        // error.
        None if !headers.contains_key(header::CONTENT_TYPE) && !status.is_success() => Ok(()),
        Some(_) | None => Err(Refusal::Download),
    }
}

#[cfg(test)]
mod tests;
