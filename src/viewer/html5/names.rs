//! How the application and the session's own origin are called, and a URL of the one as a URL of
//! the other.

use super::Place;
use crate::domain::web::{Scheme, WebTerms};
use hyper::header::HeaderValue;

/// The names of both sides.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `id.apps.example.com:8443`, without the port where it is HTTPS's own.
    own: String,
    /// `https://` and that.
    own_origin: String,
    /// The gateway's own origin: the viewer page's.
    gateway_origin: String,
    /// How the application is spoken to.
    scheme: Scheme,
    /// The name it knows itself by; empty: the session's own origin's.
    application: String,
    /// [`Self::host`] and [`Self::own`], as fields may hold them.
    host_value: HeaderValue,
    own_value: HeaderValue,
    /// Who may frame the application.
    ancestors: HeaderValue,
}

/// As a field may hold it: what cannot be said, for a line break is in it, is said as nothing.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Host and port of an authority; the port is empty where it says none.
fn parts(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address are within its brackets (RFC 3986 section 3.2.2).
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    }
}

fn port_of<'a>(scheme: &str, port: &'a str) -> &'a str {
    match (port, scheme.eq_ignore_ascii_case("http")) {
        ("", true) => "80",
        ("", false) => "443",
        (said, _) => said,
    }
}

fn is_default(scheme: &str, port: &str) -> bool {
    port_of(scheme, port) == port_of(scheme, "")
}

/// Scheme (empty: the one of the page), authority and the rest of a URL of HTTP that names a host
/// (RFC 3986 section 4.2).
fn absolute(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, after) = match url.strip_prefix("//") {
        Some(after) => ("", after),
        None => url.split_once("://")?,
    };
    if !(scheme.is_empty()
        || scheme.eq_ignore_ascii_case("http")
        || scheme.eq_ignore_ascii_case("https"))
    {
        return None;
    }
    let end = after.find(['/', '?', '#', '\\']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    // A name and password before the host are nobody's redirect.
    (!authority.is_empty() && !authority.contains('@')).then_some((scheme, authority, rest))
}

impl Names {
    pub(super) fn new(place: &Place, terms: &WebTerms) -> Self {
        let own = place
            .origin
            .strip_prefix("https://")
            .unwrap_or(&place.origin)
            .trim_end_matches('/')
            .to_owned();
        let gateway_origin = place.gateway_origin.trim_end_matches('/').to_owned();
        let application = terms.host.clone();
        Self {
            host_value: value(if application.is_empty() { &own } else { &application }),
            own_value: value(&own),
            ancestors: value(&format!("frame-ancestors 'self' {gateway_origin}")),
            own_origin: format!("https://{own}"),
            own,
            gateway_origin,
            scheme: terms.scheme,
            application,
        }
    }

    /// Its authority, as a field's value.
    pub(super) fn own(&self) -> &HeaderValue {
        &self.own_value
    }

    /// The viewer page's origin.
    pub(super) fn gateway_origin(&self) -> &str {
        &self.gateway_origin
    }

    /// What the application is called in `Host`.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host_value
    }

    /// The directive of a policy that says who may frame the application (CSP3 section 6.4.2).
    pub(super) fn ancestors(&self) -> &HeaderValue {
        &self.ancestors
    }

    /// Whether a URL's host is the application, or the session's own origin, by whichever scheme.
    fn is_ours(&self, scheme: &str, authority: &str) -> bool {
        let (host, port) = parts(authority);
        // The name of a session's origin is nobody else's, so its port does not matter.
        if host.eq_ignore_ascii_case(parts(&self.own).0) {
            return true;
        }
        let (application, its_port) = parts(&self.application);
        let its_scheme = self.scheme.as_str();
        let scheme = if scheme.is_empty() { its_scheme } else { scheme };
        !self.application.is_empty()
            && host.eq_ignore_ascii_case(application)
            && (port_of(scheme, port) == port_of(its_scheme, its_port)
                || (is_default(scheme, port) && is_default(its_scheme, its_port)))
    }

    /// A URL that the application gave, for the browser: its own host becomes the session's origin.
    /// `None`: it stays as it is.
    pub(super) fn to_browser(&self, url: &str) -> Option<String> {
        let (scheme, authority, rest) = absolute(url)?;
        self.is_ours(scheme, authority).then(|| format!("{}{rest}", self.own_origin))
    }

    /// A URL that the browser gave, for the application: the session's origin becomes its own host.
    /// `None`: it stays as it is.
    pub(super) fn to_application(&self, url: &str) -> Option<String> {
        if self.application.is_empty() {
            return None;
        }
        let (scheme, authority, rest) = absolute(url)?;
        let own = scheme.eq_ignore_ascii_case("https") && authority.eq_ignore_ascii_case(&self.own);
        own.then(|| format!("{}://{}{rest}", self.scheme, self.application))
    }

    /// Whether a browser's `Origin` is the session's own.
    pub(super) fn is_own_origin(&self, origin: &HeaderValue) -> bool {
        origin.as_bytes().eq_ignore_ascii_case(self.own_origin.as_bytes())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn names(scheme: Scheme, host: &str) -> Names {
        let place = Place {
            origin: "https://s1.apps.gw.test:8443".into(),
            gateway_origin: "https://gw.test:8443".into(),
            cross_site: false,
        };
        Names::new(&place, &WebTerms { scheme, host: host.into(), ..WebTerms::default() })
    }

    #[test]
    fn redirects_of_its_own_host_come_back_to_the_origin() {
        let own = "https://s1.apps.gw.test:8443";
        for (scheme, host, url, mapped) in [
            (Scheme::Http, "wiki.corp", "http://wiki.corp/a?b#c", Some("/a?b#c")),
            (Scheme::Http, "wiki.corp", "HTTP://Wiki.Corp:80", Some("")),
            (Scheme::Http, "wiki.corp", "https://wiki.corp/", Some("/")),
            (Scheme::Http, "wiki.corp", "//wiki.corp/x", Some("/x")),
            (Scheme::Http, "wiki.corp", "http://wiki.corp:8080/", None),
            (Scheme::Http, "wiki.corp:8080", "http://wiki.corp:8080/", Some("/")),
            (Scheme::Http, "wiki.corp:8080", "http://wiki.corp/", None),
            (Scheme::Https, "[fd00::1]", "https://[fd00::1]:443/x", Some("/x")),
            (Scheme::Https, "wiki.corp", "http://s1.apps.gw.test/x", Some("/x")),
            (Scheme::Http, "", "http://s1.apps.gw.test:8443/x", Some("/x")),
            (Scheme::Http, "", "http://other.test/x", None),
            (Scheme::Http, "wiki.corp", "http://a@wiki.corp/", None),
            (Scheme::Http, "wiki.corp", "http://wiki.corp.evil.test/", None),
            (Scheme::Http, "wiki.corp", "ftp://wiki.corp/", None),
            (Scheme::Http, "wiki.corp", "/x?u=http://wiki.corp/", None),
            (Scheme::Http, "wiki.corp", "x", None),
            (Scheme::Http, "wiki.corp", "", None),
        ] {
            assert_eq!(
                names(scheme, host).to_browser(url),
                mapped.map(|rest| format!("{own}{rest}")),
                "{host} {url}"
            );
        }
    }

    #[test]
    fn origins_of_the_browser_become_the_applications() {
        let names = names(Scheme::Http, "wiki.corp");
        assert_eq!(
            names.to_application("https://s1.apps.gw.test:8443/x").as_deref(),
            Some("http://wiki.corp/x")
        );
        for other in [
            "https://s1.apps.gw.test/x",
            "http://s1.apps.gw.test:8443",
            "null",
            "https://s2.apps.gw.test:8443",
        ] {
            assert_eq!(names.to_application(other), None, "{other}");
        }
        assert_eq!(
            tests::names(Scheme::Http, "").to_application("https://s1.apps.gw.test:8443/x"),
            None
        );
    }

    proptest! {
        /// Wherever a redirect is mapped to, it is the session's own origin, and what follows is as
        /// the application wrote it.
        #[test]
        fn nothing_is_mapped_elsewhere(host in "[a-z.]{1,8}(:[0-9]{1,4})?", rest in "([/?#\\\\].{0,12})?", scheme in "https?|ftp|") {
            let names = names(Scheme::Http, "wiki.corp");
            let url = if scheme.is_empty() { format!("//{host}{rest}") } else { format!("{scheme}://{host}{rest}") };
            if let Some(mapped) = names.to_browser(&url) {
                prop_assert_eq!(mapped, format!("{}{}", names.own_origin, rest));
            }
        }
    }
}
