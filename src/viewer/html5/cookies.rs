//! Cookies of an application, kept within the session's own origin.
//!
//! - What the application sets becomes host-only: `McsPdu` is taken out, so that no other session's
//!   origin gets it.
//! - What the browser sends may hold a name twice: another session's page can set cookies for the
//!   common parent domain (`document.cookie` with `domain=`), and those are sent here too. Of two
//!   the one whose value this application set itself is kept ([`CookieJar`]); else the first, which RFC
//!   6265 section 5.4 makes the one with the longer path, or the older.
//! - The gateway's own cookies go neither way.

use crate::domain::sync::lock;
use hyper::header::HeaderValue;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

/// Names beginning so are the gateway's, in whatever case: browsers compare the prefix `__Host-`
/// without case.
const GATEWAY_PREFIX: &[u8] = b"__host-portcullis";
/// Most names a jar remembers.
const NAMES_MAX: usize = 512;
/// Most values of a name: several paths, several generations.
const VALUES_MAX: usize = 8;

/// What the application set lately, as keyed hashes: enough to know a value again, useless to
/// whoever reads the memory.
#[derive(Debug, Default)]
pub(super) struct CookieJar {
    hasher: RandomState,
    known: Mutex<HashMap<u64, Vec<u64>>>,
}

impl CookieJar {
    fn remember(&self, name: &[u8], value: &[u8]) {
        let (name, value) = (self.hasher.hash_one(name), self.hasher.hash_one(value));
        let mut seen = lock(&self.known);
        if seen.len() >= NAMES_MAX && !seen.contains_key(&name) {
            // Some other name is forgotten: then its first value counts, as for a name never set.
            if let Some(&other) = seen.keys().next() {
                seen.remove(&other);
            }
        }
        let values = seen.entry(name).or_default();
        values.retain(|known| *known != value);
        if values.len() >= VALUES_MAX {
            values.remove(0);
        }
        values.push(value);
    }

    fn contains(&self, name: &[u8], value: &[u8]) -> bool {
        let (name, value) = (self.hasher.hash_one(name), self.hasher.hash_one(value));
        lock(&self.known).get(&name).is_some_and(|values| values.contains(&value))
    }

    /// A `Set-Cookie` of the application for the browser; `None`: it does not pass. In a frame of
    /// another site only cookies that say `SameSite=None; Secure; Partitioned` work.
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
            let dropped = match &*key {
                b"domain" => true,
                b"samesite" | b"secure" | b"partitioned" => cross_site,
                _ => false,
            };
            if !dropped {
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

    /// The browser's cookies for the application, in one field (HTTP/2 may send several, RFC 9113
    /// section 8.2.3); `None`: there are none.
    pub(super) fn rewrite_cookies<'a>(
        &self,
        headers: impl IntoIterator<Item = &'a HeaderValue>,
    ) -> Option<HeaderValue> {
        let headers: Vec<&HeaderValue> = headers.into_iter().collect();
        let crumbs = headers.iter().flat_map(|header| header.as_bytes().split(|b| *b == b';'));
        let mut kept: Vec<(&[u8], &[u8], &[u8])> = Vec::new();
        let mut places: HashMap<&[u8], usize> = HashMap::new();
        let mut changed = headers.len() != 1;
        for crumb in crumbs {
            let crumb = crumb.trim_ascii();
            let (name, value) = split_pair(crumb);
            if crumb.is_empty()
                || is_gateway_cookie(name)
                || (name.is_empty() && is_gateway_cookie(value))
            {
                changed = true;
                continue;
            }
            match places.get(name).copied() {
                None => {
                    places.insert(name, kept.len());
                    kept.push((name, value, crumb));
                }
                Some(place) => {
                    changed = true;
                    if let Some(first) = kept.get_mut(place)
                        && !self.contains(name, first.1)
                        && self.contains(name, value)
                    {
                        *first = (name, value, crumb);
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
        let crumbs: Vec<&[u8]> = kept.into_iter().map(|(.., crumb)| crumb).collect();
        HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).ok()
    }
}

/// Name and value of a cookie (RFC 6265 section 5.2); without `=` it is a value that has no name.
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
    name.get(..GATEWAY_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(GATEWAY_PREFIX))
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
    fn what_is_set_stays_with_the_host() {
        for (cross_site, said, kept) in [
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
            (false, "__Host-id=1; Secure; Path=/", Some("__Host-id=1; Secure; Path=/")),
            (false, "a=b=c", Some("a=b=c")),
        ] {
            assert_eq!(
                text(CookieJar::default().rewrite_set_cookie(&value(said), cross_site)).as_deref(),
                kept,
                "{said}"
            );
        }
    }

    #[test]
    fn ours_never_reach_the_application() {
        for (said, kept) in [
            ("a=1; b=2", Some("a=1; b=2")),
            ("a=1; __Host-portcullis-app=s; b=2", Some("a=1; b=2")),
            ("__HOST-Portcullis-app=s", None),
            ("=__Host-portcullis-app=s", None),
            ("", None),
        ] {
            assert_eq!(
                text(CookieJar::default().rewrite_cookies([&value(said)])).as_deref(),
                kept,
                "{said}"
            );
        }
        assert_eq!(
            text(CookieJar::default().rewrite_cookies([&value("a=1"), &value("b=2")])).as_deref(),
            Some("a=1; b=2"),
            "crumbs of HTTP/2"
        );
        assert_eq!(text(CookieJar::default().rewrite_cookies([])), None);
    }

    #[test]
    fn of_two_the_applications_own_is_kept() {
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
            "nobody knows: the first"
        );
        assert_eq!(
            text(jar.rewrite_cookies([&value("sid=evil")])).as_deref(),
            Some("sid=evil"),
            "one alone may be the application's script's"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let jar = CookieJar::default();
        for n in 0..2000 {
            jar.rewrite_set_cookie(&value(&format!("n{n}=v")), false);
            jar.rewrite_set_cookie(&value(&format!("same={n}")), false);
        }
        let seen = jar.known.lock().unwrap();
        assert!(seen.len() <= NAMES_MAX && seen.values().all(|values| values.len() <= VALUES_MAX));
        drop(seen);
    }

    proptest! {
        /// Whatever is sent, no name goes on twice, none of ours goes on, and every pair that goes
        /// on was sent.
        #[test]
        fn each_name_once(said in "[ab_=; ]{0,24}", with in "(;? ?__Host-portcullis-app=1)?") {
            let said = format!("{said}{with}");
            let Some(out) = text(CookieJar::default().rewrite_cookies([&value(&said)])) else { return Ok(()) };
            let crumbs = |text: &str| text.split(';').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
            let mut names: Vec<String> = crumbs(&out).iter().map(|c| c.split_once('=').map_or("", |p| p.0).trim().to_owned()).collect();
            let all = names.len();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), all);
            for crumb in crumbs(&out) {
                let (name, value) = crumb.split_once('=').unwrap_or(("", &crumb));
                let named = if name.trim().is_empty() { value } else { name };
                prop_assert!(!is_gateway_cookie(named.trim().as_bytes()), "{}", out);
            }
            let sent = crumbs(&said);
            prop_assert!(crumbs(&out).iter().all(|crumb| sent.contains(crumb)));
        }
    }
}
