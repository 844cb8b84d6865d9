//! Which requests of other origins' pages are allowed, by Fetch Metadata (W3C, `Sec-Fetch-*`) and
//! `Origin` (RFC 6454).
//!
//! Intranet applications often trust every client that reaches them, and the applications of other
//! sessions are *same-site* to this one, so `SameSite` cookies do not protect against their pages. A
//! page of another origin may link here, and nothing else.

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Whether a request to the application is allowed. `own`: its origin, computed only where needed.
#[must_use]
pub fn is_allowed(method: &Method, headers: &HeaderMap, own: impl Fn() -> String) -> bool {
    let value = |name: HeaderName| headers.get(name).map(|v| v.as_bytes());
    // Browsers let pages of any origin open a WebSocket (RFC 6455 section 10.2).
    if headers.contains_key(header::UPGRADE) && !is_own_origin(headers, &own()) {
        return false;
    }
    match value(SEC_FETCH_SITE) {
        Some(b"same-origin" | b"none") => true,
        Some(_) => {
            let reads = [Method::GET, Method::HEAD].contains(method);
            let navigates = value(SEC_FETCH_MODE) == Some(b"navigate")
                && matches!(value(SEC_FETCH_DEST), Some(b"document" | b"iframe"));
            reads && navigates
        }
        // A browser without Fetch Metadata, or another client.
        None => {
            [Method::GET, Method::HEAD].contains(method)
                || !headers.contains_key(header::ORIGIN)
                || is_own_origin(headers, &own())
        }
    }
}

fn is_own_origin(headers: &HeaderMap, own: &str) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).into_iter();
    matches!((origins.next(), origins.next()), (Some(origin), None) if origin.as_bytes() == own.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const OWN: &str = "https://one.apps.example";

    fn allowed(method: Method, pairs: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        is_allowed(&method, &headers, || OWN.to_owned())
    }

    #[test]
    fn own_pages_and_direct_navigation_are_allowed() {
        assert!(allowed(Method::POST, &[("sec-fetch-site", "same-origin")]));
        assert!(allowed(
            Method::GET,
            &[
                ("sec-fetch-site", "none"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document")
            ]
        ));
        assert!(
            allowed(Method::GET, &[]) && allowed(Method::DELETE, &[]),
            "a program with the cookie"
        );
        assert!(allowed(Method::POST, &[("origin", OWN)]));
        assert!(allowed(
            Method::GET,
            &[("upgrade", "websocket"), ("origin", OWN), ("sec-fetch-site", "same-origin")]
        ));
    }

    #[test]
    fn other_origins_may_only_navigate() {
        for site in ["same-site", "cross-site", "", "SAME-ORIGIN"] {
            let with = |mode, dest| {
                [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)]
            };
            assert!(
                allowed(Method::GET, &with("navigate", "document"))
                    && allowed(Method::HEAD, &with("navigate", "iframe")),
                "{site}"
            );
            assert!(!allowed(Method::POST, &with("navigate", "document")), "{site}: a form");
            for (mode, dest) in [
                ("no-cors", "image"),
                ("cors", "empty"),
                ("no-cors", "script"),
                ("navigate", "object"),
                ("navigate", "embed"),
            ] {
                assert!(!allowed(Method::GET, &with(mode, dest)), "{site} {mode} {dest}");
            }
            assert!(!allowed(Method::OPTIONS, &with("cors", "empty")), "{site}: a preflight");
        }
    }

    #[test]
    fn only_own_pages_may_open_a_websocket() {
        for pairs in [
            vec![("upgrade", "websocket")],
            vec![("upgrade", "websocket"), ("origin", "https://two.apps.example")],
            vec![("upgrade", "websocket"), ("origin", "null"), ("sec-fetch-site", "same-origin")],
            vec![("upgrade", "websocket"), ("origin", OWN), ("origin", OWN)],
        ] {
            assert!(!allowed(Method::GET, &pairs), "{pairs:?}");
        }
    }

    #[test]
    fn without_fetch_metadata_the_origin_decides() {
        for origin in ["https://evil.example", "null", "https://one.apps.example.evil"] {
            assert!(!allowed(Method::POST, &[("origin", origin)]), "{origin}");
            assert!(!allowed(Method::OPTIONS, &[("origin", origin)]), "{origin}");
        }
    }
}
