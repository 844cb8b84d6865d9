//! What pages of other origins may ask of an application, by what browsers say of them: Fetch
//! Metadata (W3C, `Sec-Fetch-*`) and `RequestSource` (RFC 6454).
//!
//! Applications of an intranet often trust whoever reaches them. Other sessions' applications are
//! *same-site* to this one, so that `SameSite` cookies do not keep them out; this does. A page of
//! another origin may lead its user here by a link, and nothing else.

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Whether a request may pass to the application whose origin is `own`, which few requests need.
#[must_use]
pub fn is_allowed(method: &Method, headers: &HeaderMap, own: impl Fn() -> String) -> bool {
    let word = |name: HeaderName| headers.get(name).map(|v| v.as_bytes());
    // A WebSocket is open to every page but for this check (RFC 6455 section 10.2).
    if headers.contains_key(header::UPGRADE) && !is_own_origin(headers, &own()) {
        return false;
    }
    match word(SEC_FETCH_SITE) {
        Some(b"same-origin" | b"none") => true,
        Some(_) => {
            let reads = [Method::GET, Method::HEAD].contains(method);
            let navigates = word(SEC_FETCH_MODE) == Some(b"navigate")
                && matches!(word(SEC_FETCH_DEST), Some(b"document" | b"iframe"));
            reads && navigates
        }
        // A browser from before Fetch Metadata, or none at all.
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

    fn judged(method: Method, pairs: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        is_allowed(&method, &headers, || OWN.to_owned())
    }

    #[test]
    fn its_own_pages_and_its_user_may() {
        assert!(judged(Method::POST, &[("sec-fetch-site", "same-origin")]));
        assert!(judged(
            Method::GET,
            &[
                ("sec-fetch-site", "none"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document")
            ]
        ));
        assert!(
            judged(Method::GET, &[]) && judged(Method::DELETE, &[]),
            "a program with the cookie"
        );
        assert!(judged(Method::POST, &[("origin", OWN)]));
        assert!(judged(
            Method::GET,
            &[("upgrade", "websocket"), ("origin", OWN), ("sec-fetch-site", "same-origin")]
        ));
    }

    #[test]
    fn others_may_lead_here_and_no_more() {
        for site in ["same-site", "cross-site", "", "SAME-ORIGIN"] {
            let with = |mode, dest| {
                [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)]
            };
            assert!(
                judged(Method::GET, &with("navigate", "document"))
                    && judged(Method::HEAD, &with("navigate", "iframe")),
                "{site}"
            );
            assert!(!judged(Method::POST, &with("navigate", "document")), "{site}: a form");
            for (mode, dest) in [
                ("no-cors", "image"),
                ("cors", "empty"),
                ("no-cors", "script"),
                ("navigate", "object"),
                ("navigate", "embed"),
            ] {
                assert!(!judged(Method::GET, &with(mode, dest)), "{site} {mode} {dest}");
            }
            assert!(!judged(Method::OPTIONS, &with("cors", "empty")), "{site}: a preflight");
        }
    }

    #[test]
    fn a_websocket_is_its_own_pages_alone() {
        for pairs in [
            vec![("upgrade", "websocket")],
            vec![("upgrade", "websocket"), ("origin", "https://two.apps.example")],
            vec![("upgrade", "websocket"), ("origin", "null"), ("sec-fetch-site", "same-origin")],
            vec![("upgrade", "websocket"), ("origin", OWN), ("origin", OWN)],
        ] {
            assert!(!judged(Method::GET, &pairs), "{pairs:?}");
        }
    }

    #[test]
    fn an_old_browser_is_judged_by_its_origin() {
        for origin in ["https://evil.example", "null", "https://one.apps.example.evil"] {
            assert!(!judged(Method::POST, &[("origin", origin)]), "{origin}");
            assert!(!judged(Method::OPTIONS, &[("origin", origin)]), "{origin}");
        }
    }
}
