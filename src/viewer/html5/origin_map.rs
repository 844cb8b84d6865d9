//! How the application and the session's own origin are called, and a URL of the one as a URL of
//! the other.

use super::AppOrigin;
use crate::domain::web_app::{Scheme, WebAppConfig};
use hyper::header::HeaderValue;

/// The names of both sides.
#[derive(Clone, Debug)]
pub(super) struct OriginMap {
    /// `id.apps.example.com:8443`, without the port where it is HTTPS's own.
    public_authority: String,
    /// `https://` and that.
    public_origin: String,
    /// The gateway's own origin: the viewer page's.
    gateway_origin: String,
    /// How the application is spoken to.
    scheme: Scheme,
    /// The name it knows itself by; empty: the session's own origin's.
    upstream_host: String,
    /// [`Self::host`] and [`Self::own`], as fields may hold them.
    host_field: HeaderValue,
    public_authority_field: HeaderValue,
    /// Who may frame the application.
    frame_ancestors: HeaderValue,
}

/// As a field may hold it: what cannot be said, for a line break is in it, is said as nothing.
fn field_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Host and port of an authority; the port is empty where it says none.
fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address are within its brackets (RFC 3986 section 3.2.2).
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    }
}

fn effective_port<'a>(scheme: &str, port: &'a str) -> &'a str {
    match (port, scheme.eq_ignore_ascii_case("http")) {
        ("", true) => "80",
        ("", false) => "443",
        (said, _) => said,
    }
}

fn is_default_port(scheme: &str, port: &str) -> bool {
    effective_port(scheme, port) == effective_port(scheme, "")
}

/// Scheme (empty: the one of the page), authority and the rest of a URL of HTTP that names a host
/// (RFC 3986 section 4.2).
fn split_absolute(url: &str) -> Option<(&str, &str, &str)> {
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

impl OriginMap {
    pub(super) fn new(place: &AppOrigin, terms: &WebAppConfig) -> Self {
        let public_authority = place
            .origin
            .strip_prefix("https://")
            .unwrap_or(&place.origin)
            .trim_end_matches('/')
            .to_owned();
        let gateway_origin = place.gateway_origin.trim_end_matches('/').to_owned();
        let upstream_host = terms.host.clone();
        Self {
            host_field: field_value(if upstream_host.is_empty() {
                &public_authority
            } else {
                &upstream_host
            }),
            public_authority_field: field_value(&public_authority),
            frame_ancestors: field_value(&format!("frame-ancestors 'self' {gateway_origin}")),
            public_origin: format!("https://{public_authority}"),
            public_authority,
            gateway_origin,
            scheme: terms.scheme,
            upstream_host,
        }
    }

    /// Its authority, as a field's value.
    pub(super) fn public_authority(&self) -> &HeaderValue {
        &self.public_authority_field
    }

    /// The viewer page's origin.
    pub(super) fn gateway_origin(&self) -> &str {
        &self.gateway_origin
    }

    /// What the application is called in `HostTunnel`.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host_field
    }

    /// The directive of a policy that says who may frame the application (CSP3 section 6.4.2).
    pub(super) fn frame_ancestors(&self) -> &HeaderValue {
        &self.frame_ancestors
    }

    /// Whether a URL's host is the application, or the session's own origin, by whichever scheme.
    fn is_application(&self, scheme: &str, authority: &str) -> bool {
        let (host, port) = split_port(authority);
        // The name of a session's origin is nobody else's, so its port does not matter.
        if host.eq_ignore_ascii_case(split_port(&self.public_authority).0) {
            return true;
        }
        let (application, its_port) = split_port(&self.upstream_host);
        let its_scheme = self.scheme.as_str();
        let scheme = if scheme.is_empty() { its_scheme } else { scheme };
        !self.upstream_host.is_empty()
            && host.eq_ignore_ascii_case(application)
            && (effective_port(scheme, port) == effective_port(its_scheme, its_port)
                || (is_default_port(scheme, port) && is_default_port(its_scheme, its_port)))
    }

    /// A URL that the application gave, for the browser: its own host becomes the session's origin.
    /// `None`: it stays as it is.
    pub(super) fn to_public(&self, url: &str) -> Option<String> {
        let (scheme, authority, rest) = split_absolute(url)?;
        self.is_application(scheme, authority).then(|| format!("{}{rest}", self.public_origin))
    }

    /// A URL that the browser gave, for the application: the session's origin becomes its own host.
    /// `None`: it stays as it is.
    pub(super) fn to_upstream(&self, url: &str) -> Option<String> {
        if self.upstream_host.is_empty() {
            return None;
        }
        let (scheme, authority, rest) = split_absolute(url)?;
        let own = scheme.eq_ignore_ascii_case("https")
            && authority.eq_ignore_ascii_case(&self.public_authority);
        own.then(|| format!("{}://{}{rest}", self.scheme, self.upstream_host))
    }

    /// Whether a browser's `RequestSource` is the session's own.
    pub(super) fn is_public_origin(&self, origin: &HeaderValue) -> bool {
        origin.as_bytes().eq_ignore_ascii_case(self.public_origin.as_bytes())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn origin_map(scheme: Scheme, host: &str) -> OriginMap {
        let place = AppOrigin {
            origin: "https://s1.apps.gw.test:8443".into(),
            gateway_origin: "https://gw.test:8443".into(),
            cross_site: false,
        };
        OriginMap::new(
            &place,
            &WebAppConfig { scheme, host: host.into(), ..WebAppConfig::default() },
        )
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
                origin_map(scheme, host).to_public(url),
                mapped.map(|rest| format!("{own}{rest}")),
                "{host} {url}"
            );
        }
    }

    #[test]
    fn origins_of_the_browser_become_the_applications() {
        let names = origin_map(Scheme::Http, "wiki.corp");
        assert_eq!(
            names.to_upstream("https://s1.apps.gw.test:8443/x").as_deref(),
            Some("http://wiki.corp/x")
        );
        for other in [
            "https://s1.apps.gw.test/x",
            "http://s1.apps.gw.test:8443",
            "null",
            "https://s2.apps.gw.test:8443",
        ] {
            assert_eq!(names.to_upstream(other), None, "{other}");
        }
        assert_eq!(
            tests::origin_map(Scheme::Http, "").to_upstream("https://s1.apps.gw.test:8443/x"),
            None
        );
    }

    proptest! {
        /// Wherever a redirect is mapped to, it is the session's own origin, and what follows is as
        /// the application wrote it.
        #[test]
        fn nothing_is_mapped_elsewhere(host in "[a-z.]{1,8}(:[0-9]{1,4})?", rest in "([/?#\\\\].{0,12})?", scheme in "https?|ftp|") {
            let names = origin_map(Scheme::Http, "wiki.corp");
            let url = if scheme.is_empty() { format!("//{host}{rest}") } else { format!("{scheme}://{host}{rest}") };
            if let Some(mapped) = names.to_public(&url) {
                prop_assert_eq!(mapped, format!("{}{}", names.public_origin, rest));
            }
        }
    }
}
