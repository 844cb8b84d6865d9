//! Maps URLs between the application's own host and its public origin.

use crate::domain::web_app::{Scheme, WebAppConfig};
use hyper::header::HeaderValue;

/// Under which origin the browser reaches an application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppOrigin {
    /// The session's public origin, such as `https://2f1c….apps.example.com:8443`.
    pub origin: String,
    /// The origins of the gateway, whose viewer pages may frame the application.
    pub gateway_origins: Vec<String>,
    /// Browsers treat the two origins as different sites, so cookies in the frame need
    /// `SameSite=None; Partitioned`.
    pub cross_site: bool,
}

/// Maps URLs between the application's own host and its public origin.
#[derive(Clone, Debug)]
pub(super) struct OriginMap {
    /// Authority of the public origin: `id.apps.example.com:8443`, without a default port.
    public_authority: String,
    /// `https://` and the authority.
    public_origin: String,
    /// The gateway's origins, and the same as a source list of a policy.
    gateway_origins: Vec<String>,
    framing_origins: String,
    scheme: Scheme,
    /// The application's own `name` or `name:port`; empty: it uses the public authority.
    upstream_host: String,
    /// [`Self::host`] and [`Self::public_authority`] as field values.
    host_field: HeaderValue,
    public_authority_field: HeaderValue,
    frame_ancestors: HeaderValue,
}

/// Text as a field value; empty where it is not valid in one.
fn field_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Host and port of an authority; the port may be empty.
fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address are inside brackets (RFC 3986 section 3.2.2).
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    }
}

fn effective_port<'a>(scheme: &str, port: &'a str) -> &'a str {
    match (port, scheme.eq_ignore_ascii_case("http")) {
        ("", true) => "80",
        ("", false) => "443",
        (port, _) => port,
    }
}

fn is_default_port(scheme: &str, port: &str) -> bool {
    effective_port(scheme, port) == effective_port(scheme, "")
}

/// Scheme (empty in a network-path reference), authority and rest of an HTTP URL with an authority
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
    // URLs with user information are not mapped.
    (!authority.is_empty() && !authority.contains('@')).then_some((scheme, authority, rest))
}

impl OriginMap {
    pub(super) fn new(origin: &AppOrigin, config: &WebAppConfig) -> Self {
        let public_authority = origin
            .origin
            .strip_prefix("https://")
            .unwrap_or(&origin.origin)
            .trim_end_matches('/')
            .to_owned();
        let gateway_origins: Vec<String> =
            origin.gateway_origins.iter().map(|o| o.trim_end_matches('/').to_owned()).collect();
        let framing_origins = gateway_origins.join(" ");
        let upstream_host = config.host.clone();
        let host = if upstream_host.is_empty() { &public_authority } else { &upstream_host };
        Self {
            host_field: field_value(host),
            public_authority_field: field_value(&public_authority),
            frame_ancestors: field_value(&format!("frame-ancestors 'self' {framing_origins}")),
            public_origin: format!("https://{public_authority}"),
            public_authority,
            gateway_origins,
            framing_origins,
            scheme: config.scheme,
            upstream_host,
        }
    }

    /// Authority of the public origin, as a field value.
    pub(super) fn public_authority(&self) -> &HeaderValue {
        &self.public_authority_field
    }

    /// Whether a URL is of a page of the gateway.
    pub(super) fn is_gateway_page(&self, url: &str) -> bool {
        let rest = self.gateway_origins.iter().find_map(|origin| url.strip_prefix(origin.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    }

    /// Whose pages may frame the application, as a source list of `frame-ancestors`.
    pub(super) fn framing_origins(&self) -> &str {
        &self.framing_origins
    }

    /// The application's host, as a value of `Host`.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host_field
    }

    /// The policy that says who may frame the application (CSP3 section 6.4.2).
    pub(super) fn frame_ancestors(&self) -> &HeaderValue {
        &self.frame_ancestors
    }

    /// Whether a URL names the application or its public origin, by either scheme.
    fn is_application(&self, scheme: &str, authority: &str) -> bool {
        let (host, port) = split_port(authority);
        // The public host name belongs to this session alone, so the port does not matter.
        if host.eq_ignore_ascii_case(split_port(&self.public_authority).0) {
            return true;
        }
        let (upstream_host, upstream_port) = split_port(&self.upstream_host);
        let upstream_scheme = self.scheme.as_str();
        let scheme = if scheme.is_empty() { upstream_scheme } else { scheme };
        !self.upstream_host.is_empty()
            && host.eq_ignore_ascii_case(upstream_host)
            && (effective_port(scheme, port) == effective_port(upstream_scheme, upstream_port)
                || (is_default_port(scheme, port)
                    && is_default_port(upstream_scheme, upstream_port)))
    }

    /// Maps a URL of the application to the public origin. `None`: it stays unchanged.
    pub(super) fn to_public(&self, url: &str) -> Option<String> {
        let (scheme, authority, rest) = split_absolute(url)?;
        self.is_application(scheme, authority).then(|| format!("{}{rest}", self.public_origin))
    }

    /// Maps a URL of the public origin to the application's host. `None`: it stays unchanged.
    pub(super) fn to_upstream(&self, url: &str) -> Option<String> {
        if self.upstream_host.is_empty() {
            return None;
        }
        self.to_resource(url)
    }

    /// Maps a URL of the public origin to the URL by which the application knows the resource: by its
    /// own scheme, at the host that it sees in `Host`. `None`: it stays unchanged.
    pub(super) fn to_resource(&self, url: &str) -> Option<String> {
        let (scheme, authority, rest) = split_absolute(url)?;
        let is_public = scheme.eq_ignore_ascii_case("https")
            && authority.eq_ignore_ascii_case(&self.public_authority);
        let host = if self.upstream_host.is_empty() {
            &self.public_authority
        } else {
            &self.upstream_host
        };
        is_public.then(|| format!("{}://{host}{rest}", self.scheme))
    }

    /// Whether a browser's `Origin` is the public origin.
    pub(super) fn is_public_origin(&self, origin: &HeaderValue) -> bool {
        origin.as_bytes().eq_ignore_ascii_case(self.public_origin.as_bytes())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn app_origin() -> AppOrigin {
        AppOrigin {
            origin: "https://s1.apps.gw.test:8443".into(),
            gateway_origins: vec!["https://gw.test:8443".into(), "https://127.0.0.1:8443".into()],
            cross_site: false,
        }
    }

    fn origin_map(scheme: Scheme, host: &str) -> OriginMap {
        let config = WebAppConfig { scheme, host: host.into(), ..WebAppConfig::default() };
        OriginMap::new(&app_origin(), &config)
    }

    #[test]
    fn urls_of_the_application_are_mapped_to_the_public_origin() {
        let public = "https://s1.apps.gw.test:8443";
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
                mapped.map(|rest| format!("{public}{rest}")),
                "{host} {url}"
            );
        }
    }

    #[test]
    fn urls_of_the_public_origin_are_mapped_to_the_application() {
        let map = origin_map(Scheme::Http, "wiki.corp");
        assert_eq!(
            map.to_upstream("https://s1.apps.gw.test:8443/x").as_deref(),
            Some("http://wiki.corp/x")
        );
        for other in [
            "https://s1.apps.gw.test/x",
            "http://s1.apps.gw.test:8443",
            "null",
            "https://s2.apps.gw.test:8443",
        ] {
            assert_eq!(map.to_upstream(other), None, "{other}");
        }
        let map = origin_map(Scheme::Http, "");
        assert_eq!(map.to_upstream("https://s1.apps.gw.test:8443/x"), None);
        assert_eq!(
            map.to_resource("https://s1.apps.gw.test:8443/x").as_deref(),
            Some("http://s1.apps.gw.test:8443/x")
        );
    }

    proptest! {
        /// A mapped URL names the public origin, and its path is unchanged.
        #[test]
        fn urls_are_mapped_to_the_public_origin_only(host in "[a-z.]{1,8}(:[0-9]{1,4})?", rest in "([/?#\\\\].{0,12})?", scheme in "https?|ftp|") {
            let map = origin_map(Scheme::Http, "wiki.corp");
            let url = if scheme.is_empty() { format!("//{host}{rest}") } else { format!("{scheme}://{host}{rest}") };
            if let Some(mapped) = map.to_public(&url) {
                prop_assert_eq!(mapped, format!("{}{}", map.public_origin, rest));
            }
        }
    }
}
