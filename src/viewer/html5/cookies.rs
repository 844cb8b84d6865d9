//! Cookies of an application, limited to its public origin.
//!
//! - Cookies that the application sets become host-only: `Domain` is removed, so that no other
//!   session's origin receives them.
//! - A browser may send a name twice: another session's page can set cookies for the common parent
//!   domain (`document.cookie` with `domain=`), which the browser sends here, too. Of two values the
//!   one that this application has set is kept ([`CookieJar`]); otherwise the first, which by RFC
//!   6265 section 5.4 has the longer path or is older.
//! - The gateway's own cookies are removed in both directions.

use crate::domain::sync::lock;
use hyper::header::HeaderValue;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

/// Prefixes of the gateway's own cookies, present and past. Compared without case, as browsers
/// compare `__Host-`.
const GATEWAY_PREFIXES: [&[u8]; 2] = [b"__host-portcullis", b"__secure-portcullis"];
/// Most names in a jar.
const NAMES_MAX: usize = 512;
/// Most values per name: one for each path and recent change.
const VALUES_MAX: usize = 8;

/// Values that the application has set recently, as keyed hashes: sufficient to recognize a value,
/// without keeping secrets in memory.
#[derive(Debug, Default)]
pub(super) struct CookieJar {
    hasher: RandomState,
    /// Hashes of values by the hash of their name.
    known: Mutex<HashMap<u64, Vec<u64>>>,
}

impl CookieJar {
    fn remember(&self, name: &[u8], value: &[u8]) {
        let (name, value) = (self.hasher.hash_one(name), self.hasher.hash_one(value));
        let mut known = lock(&self.known);
        if known.len() >= NAMES_MAX && !known.contains_key(&name) {
            // An arbitrary name is removed; it is then treated as one that was never set.
            if let Some(&other) = known.keys().next() {
                known.remove(&other);
            }
        }
        let values = known.entry(name).or_default();
        values.retain(|other| *other != value);
        if values.len() >= VALUES_MAX {
            values.remove(0);
        }
        values.push(value);
    }

    fn contains(&self, name: &[u8], value: &[u8]) -> bool {
        let (name, value) = (self.hasher.hash_one(name), self.hasher.hash_one(value));
        lock(&self.known).get(&name).is_some_and(|values| values.contains(&value))
    }

    /// Rewrites a `Set-Cookie` of the application for the browser; `None`: it is removed. In a frame
    /// of another site, browsers accept only cookies with `SameSite=None; Secure; Partitioned`.
    pub(super) fn rewrite_set_cookie(
        &self,
        header: &HeaderValue,
        cross_site: bool,
    ) -> Option<HeaderValue> {
        let mut attributes = header.as_bytes().split(|b| *b == b';');
        let pair = attributes.next()?.trim_ascii();
        let (name, value) = split_pair(pair);
        if is_gateway_cookie(name) || (name.is_empty() && is_gateway_cookie(value)) {
            return None;
        }
        let mut kept = pair.to_vec();
        for attribute in attributes {
            let attribute = attribute.trim_ascii();
            let key = attribute_name(attribute).to_ascii_lowercase();
            let is_removed = match &*key {
                b"domain" => true,
                b"samesite" | b"secure" | b"partitioned" => cross_site,
                _ => false,
            };
            if !is_removed {
                kept.extend_from_slice(b"; ");
                kept.extend_from_slice(attribute);
            }
        }
        if cross_site {
            kept.extend_from_slice(b"; SameSite=None; Secure; Partitioned");
        }
        self.remember(name, value);
        HeaderValue::from_bytes(&kept).ok()
    }

    /// Rewrites the browser's `Cookie` fields into one for the application (HTTP/2 may send several,
    /// RFC 9113 section 8.2.3); `None`: no cookie is left.
    pub(super) fn rewrite_cookies<'a>(
        &self,
        headers: impl IntoIterator<Item = &'a HeaderValue>,
    ) -> Option<HeaderValue> {
        let headers: Vec<&HeaderValue> = headers.into_iter().collect();
        let pairs = headers.iter().flat_map(|header| header.as_bytes().split(|b| *b == b';'));
        let mut kept: Vec<(&[u8], &[u8], &[u8])> = Vec::new();
        let mut indices: HashMap<&[u8], usize> = HashMap::new();
        let mut changed = headers.len() != 1;
        for pair in pairs {
            let pair = pair.trim_ascii();
            let (name, value) = split_pair(pair);
            if pair.is_empty()
                || is_gateway_cookie(name)
                || (name.is_empty() && is_gateway_cookie(value))
            {
                changed = true;
                continue;
            }
            match indices.get(name).copied() {
                None => {
                    indices.insert(name, kept.len());
                    kept.push((name, value, pair));
                }
                Some(index) => {
                    changed = true;
                    if let Some(first) = kept.get_mut(index)
                        && !self.contains(name, first.1)
                        && self.contains(name, value)
                    {
                        *first = (name, value, pair);
                    }
                }
            }
        }
        if !changed {
            return headers.first().map(|header| (*header).clone());
        }
        if kept.is_empty() {
            return None;
        }
        let pairs: Vec<&[u8]> = kept.into_iter().map(|(.., pair)| pair).collect();
        HeaderValue::from_bytes(&pairs.join(&b"; "[..])).ok()
    }
}

/// Name and value of a cookie (RFC 6265 section 5.2); without `=` it is a value without a name.
fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|b| *b == b'=') {
        Some(at) => {
            let (name, value) = pair.split_at(at);
            (name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii())
        }
        None => (&[], pair),
    }
}

fn attribute_name(attribute: &[u8]) -> &[u8] {
    attribute.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii()
}

fn is_gateway_cookie(name: &[u8]) -> bool {
    GATEWAY_PREFIXES.iter().any(|prefix| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_bytes(text.as_bytes()).unwrap()
    }

    fn text(value: Option<HeaderValue>) -> Option<String> {
        value.map(|v| String::from_utf8(v.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn set_cookies_become_host_only() {
        for (cross_site, sent, kept) in [
            (false, "a=1", Some("a=1")),
            (false, "a=1; Domain=corp.test; Path=/x;HttpOnly", Some("a=1; Path=/x; HttpOnly")),
            (false, "a=1; domain = .apps.gw.test ; SameSite=Lax", Some("a=1; SameSite=Lax")),
            (true, "a=1; SameSite=Strict; Secure", Some("a=1; SameSite=None; Secure; Partitioned")),
            (
                true,
                "a=1; partitioned; Max-Age=5",
                Some("a=1; Max-Age=5; SameSite=None; Secure; Partitioned"),
            ),
            (false, "__Host-portcullis-app=x; Path=/", None),
            (false, "__host-PORTCULLIS=x", None),
            (false, " =__Host-portcullis-app=x", None),
            (false, "__Host-portcullis-app", None),
            (false, "__Host-portcullis-refresh=x; Secure; Path=/", None),
            (false, "__Secure-portcullis-refresh=x; Secure; Path=/api/auth", None),
            (true, "__SECURE-Portcullis=x; Secure", None),
            (false, "=__Secure-portcullis-refresh=x", None),
            (false, "__Secure-id=1; Secure", Some("__Secure-id=1; Secure")),
            (false, "__Host-id=1; Secure; Path=/", Some("__Host-id=1; Secure; Path=/")),
            (false, "a=b=c", Some("a=b=c")),
        ] {
            assert_eq!(
                text(CookieJar::default().rewrite_set_cookie(&value(sent), cross_site)).as_deref(),
                kept,
                "{sent}"
            );
        }
    }

    #[test]
    fn gateway_cookies_are_removed() {
        for (sent, kept) in [
            ("a=1; b=2", Some("a=1; b=2")),
            ("a=1; __Host-portcullis-app=s; b=2", Some("a=1; b=2")),
            ("__HOST-Portcullis-app=s", None),
            ("__secure-portcullis-refresh=s; a=1", Some("a=1")),
            ("=__Host-portcullis-app=s", None),
            ("", None),
        ] {
            let rewritten = CookieJar::default().rewrite_cookies([&value(sent)]);
            assert_eq!(text(rewritten).as_deref(), kept, "{sent}");
        }
        assert_eq!(
            text(CookieJar::default().rewrite_cookies([&value("a=1"), &value("b=2")])).as_deref(),
            Some("a=1; b=2"),
            "HTTP/2 sends several fields"
        );
        assert_eq!(text(CookieJar::default().rewrite_cookies([])), None);
    }

    #[test]
    fn of_two_values_the_applications_own_is_kept() {
        let jar = CookieJar::default();
        jar.rewrite_set_cookie(&value("sid=mine; HttpOnly"), false).unwrap();
        assert_eq!(
            text(jar.rewrite_cookies([&value("sid=evil; x=1; sid=mine")])).as_deref(),
            Some("sid=mine; x=1")
        );
        assert_eq!(
            text(jar.rewrite_cookies([&value("sid=mine; sid=evil")])).as_deref(),
            Some("sid=mine")
        );
        assert_eq!(
            text(jar.rewrite_cookies([&value("new=a; new=b")])).as_deref(),
            Some("new=a"),
            "neither is known: the first"
        );
        assert_eq!(
            text(jar.rewrite_cookies([&value("sid=evil")])).as_deref(),
            Some("sid=evil"),
            "a single value may be set by a script of the application"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let jar = CookieJar::default();
        for n in 0..2000 {
            jar.rewrite_set_cookie(&value(&format!("n{n}=v")), false);
            jar.rewrite_set_cookie(&value(&format!("same={n}")), false);
        }
        let known = jar.known.lock().unwrap();
        assert!(
            known.len() <= NAMES_MAX && known.values().all(|values| values.len() <= VALUES_MAX)
        );
        drop(known);
    }

    proptest! {
        /// Of any `Cookie`: each name is forwarded once, none of the gateway's is, and every
        /// forwarded pair was sent.
        #[test]
        fn each_name_is_forwarded_once(sent in "[ab_=; ]{0,24}", with in "(;? ?__Host-portcullis-app=1)?") {
            let sent = format!("{sent}{with}");
            let Some(out) = text(CookieJar::default().rewrite_cookies([&value(&sent)])) else { return Ok(()) };
            let pairs = |text: &str| text.split(';').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
            let mut names: Vec<String> = pairs(&out).iter().map(|c| c.split_once('=').map_or("", |p| p.0).trim().to_owned()).collect();
            let all = names.len();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), all);
            for pair in pairs(&out) {
                let (name, value) = pair.split_once('=').unwrap_or(("", &pair));
                let named = if name.trim().is_empty() { value } else { name };
                prop_assert!(!is_gateway_cookie(named.trim().as_bytes()), "{}", out);
            }
            let sent = pairs(&sent);
            prop_assert!(pairs(&out).iter().all(|pair| sent.contains(pair)));
        }
    }
}
