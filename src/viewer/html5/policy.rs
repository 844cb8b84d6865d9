//! Which requests may pass: pure. Deny by default wherever a rule is set: what cannot be told apart
//! from what is forbidden is forbidden.
//!
//! The path is judged as an application may understand it, and goes on as the browser wrote it. A
//! path that two readers understand differently (dot segments, encoded slashes, twice encoded
//! octets, backslashes, path parameters on dots) is refused where paths are restricted, since one
//! of the readings might lead elsewhere (RFC 3986 section 7.3).

use crate::domain::web_app::RequestPolicy;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, StatusCode};

/// Why a request does not pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Its method.
    Method,
    /// Its path.
    Path,
    /// It carries a file to the application.
    Upload,
    /// Its answer is a file.
    Download,
    /// Its body is larger than allowed.
    Size,
    /// A WebSocket that a page of another origin asks for.
    Origin,
}

impl Refusal {
    /// Its word in the audit log.
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

    /// Its status.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Path | Self::Upload | Self::Download | Self::Origin => StatusCode::FORBIDDEN,
            Self::Size => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

/// By these some frameworks take another method than the request's.
const METHOD_OVERRIDE_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Types of bodies that scripts and forms send and that are no files.
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

/// Types of answers that browsers show or run; every other they save.
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

/// The one type a head says, in lower case and without parameters; `None`: none, or several.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, None) = (values.next()?, values.next()) else { return None };
    let word = first.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
    (!word.is_empty() && !word.contains(',')).then_some(word)
}

fn is_structured(word: &str) -> bool {
    word.ends_with("+json") || word.ends_with("+xml")
}

/// May a request with this head begin? `length`: its body's, when it is known and there is one
/// (`None`: unknown; `Some(0)`: none).
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
            check_method(
                policy,
                &value.to_str().map_err(|_| Refusal::Method)?.trim().to_ascii_uppercase(),
            )?;
        }
    }
    check_path(policy, path)?;
    if length != Some(0) {
        let is_file = media_type(headers).is_none_or(|word| {
            !(NON_FILE_MEDIA_TYPES.contains(&word.as_str()) || is_structured(&word))
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
    let has = |word: &str| policy.methods.iter().any(|m| m == word);
    // CONNECT and TRACE are for this hop, not for the application (RFC 9110 sections 9.3.6 and
    // 9.3.8). HEAD is GET without its body (9.3.2).
    let may = !matches!(method, "CONNECT" | "TRACE")
        && (policy.methods.is_empty() || has(method) || (method == "HEAD" && has("GET")));
    if may { Ok(()) } else { Err(Refusal::Method) }
}

fn check_path(policy: &RequestPolicy, path: &str) -> Result<(), Refusal> {
    if policy.paths.is_empty() {
        return Ok(());
    }
    let plain = decode_path(path).ok_or(Refusal::Path)?;
    let within = |prefix: &String| {
        let prefix = prefix.trim_end_matches('/');
        plain.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if policy.paths.iter().any(within) { Ok(()) } else { Err(Refusal::Path) }
}

/// A path with its octets decoded; `None` when two readers might understand it differently.
fn decode_path(path: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let octet = match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let mut octet = [0];
                hex::decode_to_slice(digits, &mut octet).ok()?;
                // An encoded slash separates for some and not for others; an encoded percent sign
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
    let plain = String::from_utf8(octets).ok()?;
    // `..;x` is `..` for servers that take path parameters off first.
    let dots =
        |segment: &str| matches!(segment.split(';').next().unwrap_or_default().trim(), "." | "..");
    (plain.starts_with('/') && !plain.split('/').any(dots)).then_some(plain)
}

/// May this answer pass? `empty`: it has no body.
pub(super) fn check_response(
    policy: &RequestPolicy,
    status: StatusCode,
    headers: &HeaderMap,
    empty: bool,
) -> Result<(), Refusal> {
    if policy.download || empty {
        return Ok(());
    }
    // Whatever a disposition says: only `inline` is surely shown (RFC 6266 section 4.2).
    let saved = headers.get_all(header::CONTENT_DISPOSITION).iter().any(|value| {
        let word = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        !(word.is_empty() || word.eq_ignore_ascii_case(b"inline"))
    });
    if saved {
        return Err(Refusal::Download);
    }
    let shown = |word: &str| {
        DISPLAYED_MEDIA_TYPES.contains(&word)
            || is_structured(word)
            || ["image/", "audio/", "video/", "font/"].iter().any(|prefix| word.starts_with(prefix))
    };
    match media_type(headers) {
        Some(word) if shown(&word) => Ok(()),
        // What says no type is looked into by browsers, and saved when it looks like a file; the
        // body of a redirect or an error is neither.
        None if !headers.contains_key(header::CONTENT_TYPE) && !status.is_success() => Ok(()),
        Some(_) | None => Err(Refusal::Download),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn ask(
        policy: &RequestPolicy,
        method: &str,
        path: &str,
        fields: &[(&'static str, &'static str)],
        length: Option<u64>,
    ) -> Option<&'static str> {
        check_request(
            policy,
            &Method::from_bytes(method.as_bytes()).unwrap(),
            path,
            &headers(fields),
            length,
        )
        .err()
        .map(Refusal::as_str)
    }

    #[test]
    fn methods() {
        let all = RequestPolicy::default();
        let some = RequestPolicy {
            methods: vec!["GET".into(), "POST".into()],
            ..RequestPolicy::default()
        };
        for (policy, method, refused) in [
            (&all, "GET", false),
            (&all, "PROPFIND", false),
            (&all, "TRACE", true),
            (&all, "CONNECT", true),
            (&some, "GET", false),
            (&some, "HEAD", false),
            (&some, "get", true),
            (&some, "DELETE", true),
            (&some, "OPTIONS", true),
        ] {
            assert_eq!(
                ask(policy, method, "/", &[], Some(0)),
                refused.then_some("method"),
                "{method}"
            );
        }
        assert_eq!(
            ask(&some, "POST", "/", &[("x-http-method-override", "delete")], Some(0)),
            Some("method")
        );
        assert_eq!(ask(&some, "POST", "/", &[("x-http-method", "get")], Some(0)), None);
        assert_eq!(ask(&all, "POST", "/", &[("x-http-method-override", "DELETE")], Some(0)), None);
    }

    #[test]
    fn paths() {
        let policy = RequestPolicy {
            paths: vec!["/wiki".into(), "/static/".into()],
            ..RequestPolicy::default()
        };
        for good in [
            "/wiki",
            "/wiki/",
            "/wiki/a/b",
            "/%77iki/a",
            "/wiki/%20x",
            "/wiki//x",
            "/static",
            "/static/x.js",
            "/wiki/a;b",
            "/wiki/...",
            "/wiki/%c3%a4",
        ] {
            assert_eq!(ask(&policy, "GET", good, &[], Some(0)), None, "{good}");
        }
        for bad in [
            "/",
            "/wikis",
            "/Wiki",
            "//wiki",
            "/admin",
            "*",
            "",
            "/wiki/../admin",
            "/wiki/%2e%2e/admin",
            "/wiki/.%2E/admin",
            "/wiki/./x",
            "/wiki%2fx",
            "/wiki/..%2fadmin",
            "/wiki/%252e%252e/admin",
            "/wiki\\..\\admin",
            "/wiki/%5c..",
            "/wiki/..;/admin",
            "/wiki/..;x=1/admin",
            "/wiki/%00",
            "/wiki/%",
            "/wiki/%4",
            "/wiki/%zz",
            "/wiki/%ff",
            "/wiki/.. /admin",
            "/wiki/%0d%0a",
        ] {
            assert_eq!(ask(&policy, "GET", bad, &[], Some(0)), Some("path"), "{bad}");
        }
        assert_eq!(
            ask(&RequestPolicy::default(), "GET", "/a/../b%2f%252e", &[], Some(0)),
            None,
            "without a rule nothing is looked at"
        );
        assert_eq!(
            ask(
                &RequestPolicy { paths: vec!["/".into()], ..RequestPolicy::default() },
                "GET",
                "/any",
                &[],
                Some(0)
            ),
            None
        );
    }

    #[test]
    fn uploads_and_sizes() {
        let policy = RequestPolicy { upload: false, max_request: 10, ..RequestPolicy::default() };
        for (kind, length, refused) in [
            (Some("application/json; charset=utf-8"), Some(5), None),
            (Some("application/vnd.api+json"), Some(5), None),
            (Some("application/x-www-form-urlencoded"), None, None),
            (Some("multipart/form-data; boundary=x"), Some(5), Some("upload")),
            (Some("image/png"), Some(5), Some("upload")),
            (Some("application/octet-stream"), None, Some("upload")),
            (None, Some(5), Some("upload")),
            (None, Some(0), None),
            (Some("multipart/form-data"), Some(0), None),
            (Some("text/plain"), Some(11), Some("size")),
            (Some("application/json, image/png"), Some(5), Some("upload")),
        ] {
            let fields: Vec<_> = kind.map(|kind| ("content-type", kind)).into_iter().collect();
            assert_eq!(ask(&policy, "POST", "/", &fields, length), refused, "{kind:?} {length:?}");
        }
        assert_eq!(
            ask(
                &policy,
                "POST",
                "/",
                &[("content-type", "text/plain"), ("content-type", "image/png")],
                Some(1)
            ),
            Some("upload")
        );
    }

    #[test]
    fn downloads() {
        let policy = RequestPolicy { download: false, ..RequestPolicy::default() };
        let tell = |status: u16, fields: &[(&'static str, &'static str)], empty| {
            check_response(&policy, StatusCode::from_u16(status).unwrap(), &headers(fields), empty)
                .err()
                .map(Refusal::as_str)
        };
        for (fields, refused) in [
            (&[("content-type", "text/html; charset=utf-8")][..], false),
            (
                &[("content-type", "image/png"), ("content-disposition", "inline; filename=x")],
                false,
            ),
            (
                &[("content-type", "text/html"), ("content-disposition", "ATTACHMENT; filename=x")],
                true,
            ),
            (&[("content-type", "text/html"), ("content-disposition", "odd")], true),
            (&[("content-type", "text/csv")], true),
            (&[("content-type", "application/pdf")], true),
            (&[("content-type", "application/octet-stream")], true),
            (&[("content-type", "multipart/byteranges; boundary=x")], true),
            (&[], true),
        ] {
            assert_eq!(tell(200, fields, false), refused.then_some("download"), "{fields:?}");
            assert_eq!(tell(200, fields, true), None, "nothing is in it");
        }
        assert_eq!(tell(302, &[], false), None);
        assert_eq!(tell(404, &[("content-disposition", "attachment")], false), Some("download"));
    }

    proptest! {
        /// Whatever passes a rule for /wiki stays below it, however often it is decoded and its
        /// dots are resolved.
        #[test]
        fn nothing_leaves_its_prefix(path in "/wiki(/|%2f|%2e|%252e|\\.|;|%5c|x|%){0,10}") {
            let policy = RequestPolicy { paths: vec!["/wiki".into()], ..RequestPolicy::default() };
            if check_path(&policy, &path).is_ok() {
                let mut seen = path.clone();
                for _ in 0..3 {
                    seen = seen.replace("%252e", "%2e").replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
                    let mut stack: Vec<&str> = Vec::new();
                    for segment in seen.split('/').map(|s| s.split(';').next().unwrap()) {
                        match segment {
                            ".." => drop(stack.pop()),
                            "." => {}
                            other => stack.push(other),
                        }
                    }
                    prop_assert_eq!(stack.get(1).copied(), Some("wiki"), "{}", path);
                }
            }
        }
    }
}
