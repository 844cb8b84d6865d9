//! Head rewriting in both directions: tables of cases, and properties of arbitrary heads.

use super::*;
use crate::domain::web_app::Scheme;
use crate::viewer::html5::origin_map::tests::app_origin;
use proptest::prelude::*;

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        )
    };
    let mut out = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        out.append(name, value);
    }
    out
}

fn rewriter(host: &str, cross_site: bool) -> HeadRewriter {
    let config =
        WebAppConfig { scheme: Scheme::Http, host: host.into(), ..WebAppConfig::default() };
    HeadRewriter::new(&AppOrigin { cross_site, ..app_origin() }, &config)
}

fn up(pairs: &[(&str, &str)], host: &str, identity: &[(&str, &str)]) -> HeaderMap {
    let fields = map(identity).iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    written(&map(pairs), host, "192.0.2.9", &IdentityHeaders { fields })
}

/// The fields that are written, parsed.
fn written(browser: &HeaderMap, host: &str, client: &str, identity: &IdentityHeaders) -> HeaderMap {
    let mut out = Vec::new();
    rewriter(host, false).write_request_fields(
        &mut out,
        browser,
        client.parse().unwrap(),
        identity,
    );
    let text = String::from_utf8(out).unwrap();
    let lines = text.strip_suffix("\r\n").unwrap().split("\r\n");
    map(&lines.map(|line| line.split_once(": ").unwrap()).collect::<Vec<_>>())
}

fn down(pairs: &[(&str, &str)], cross_site: bool) -> HeaderMap {
    let mut out = map(pairs);
    rewriter("wiki.corp", cross_site).rewrite_response_fields(&mut out);
    out
}

fn all(map: &HeaderMap, name: &str) -> Vec<String> {
    map.get_all(name).iter().map(|v| String::from_utf8(v.as_bytes().to_vec()).unwrap()).collect()
}

#[test]
fn the_request_line_keeps_the_target_bytes() {
    assert_eq!(
        request_line(&Method::GET, "/a%2Fb/../c?d={}&e"),
        b"GET /a%2Fb/../c?d={}&e HTTP/1.1\r\n"
    );
    assert_eq!(request_line(&Method::OPTIONS, "*"), b"OPTIONS * HTTP/1.1\r\n");
}

#[test]
fn hop_by_hop_fields_are_removed() {
    let out = up(
        &[
            ("connection", "keep-alive, X-Private, close"),
            ("x-private", "1"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "x"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("expect", "100-continue"),
            ("accept", "a"),
            ("accept", "b"),
            ("trailer", "x-sum"),
        ],
        "wiki.corp",
        &[],
    );
    let left: Vec<_> = out.keys().map(HeaderName::as_str).collect();
    assert_eq!(
        left,
        [
            "host",
            "accept",
            "trailer",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-for",
            "forwarded"
        ]
    );
    assert_eq!(all(&out, "accept"), ["a", "b"]);
    let with_trailers = up(&[("te", "trailers, deflate;q=0.5")], "", &[]);
    assert_eq!(
        (all(&with_trailers, "te"), all(&with_trailers, "connection")),
        (vec!["trailers".into()], vec!["te".into()])
    );
}

#[test]
fn forged_identity_and_forwarding_fields_are_replaced() {
    let forged = [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-User",
        "x_forwarded_user",
        "X-Forwarded_Groups",
        "X-Forwarded-Anything",
        "X-Real-IP",
        "x_real_ip",
        "Remote-User",
        "remote_user",
        "X-Remote-User",
        "X-Auth-Request-Email",
        "X-WEBAUTH-USER",
        "x_webauth_user",
        "X-Portcullis-Assertion",
        "X_Portcullis_Assertion",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Proxy",
        "X-Api-Key",
        "x_api_key",
    ];
    let pairs: Vec<(&str, &str)> = forged.iter().map(|name| (*name, "forged")).collect();
    let out = up(
        &pairs,
        "wiki.corp",
        &[("x-forwarded-user", "ada@example.com"), ("x-api-key", "secret")],
    );
    assert!(!out.values().any(|value| value == "forged"), "{out:?}");
    assert_eq!(all(&out, "x-forwarded-user"), ["ada@example.com"]);
    assert_eq!(all(&out, "x-api-key"), ["secret"]);
    assert_eq!(all(&out, "forwarded"), ["for=192.0.2.9;host=\"s1.apps.gw.test:8443\";proto=https"]);
    assert_eq!(
        (all(&out, "x-forwarded-for"), all(&out, "x-forwarded-proto")),
        (vec!["192.0.2.9".into()], vec!["https".into()])
    );
    assert_eq!(all(&out, "x-forwarded-host"), ["s1.apps.gw.test:8443"]);
    // A browser cannot have them removed through `Connection`.
    let out = up(
        &[("connection", "x-forwarded-for, x-api-key, forwarded, host")],
        "wiki.corp",
        &[("x-api-key", "secret")],
    );
    assert!(
        ["x-forwarded-for", "x-api-key", "forwarded", "host"]
            .iter()
            .all(|name| out.contains_key(*name)),
        "{out:?}"
    );
    let v6 = written(&HeaderMap::new(), "", "2001:db8::1", &IdentityHeaders::default());
    assert!(all(&v6, "forwarded").concat().starts_with("for=\"[2001:db8::1]\";"));
}

#[test]
fn request_urls_are_mapped_to_the_application() {
    let public = "https://s1.apps.gw.test:8443";
    for (host, name, sent, kept) in [
        ("wiki.corp", "host", "s1.apps.gw.test:8443", Some("wiki.corp")),
        ("", "host", "evil.test", Some("s1.apps.gw.test:8443")),
        ("wiki.corp", "origin", public, Some("http://wiki.corp")),
        ("", "origin", public, Some(public)),
        ("wiki.corp", "origin", "null", Some("null")),
        ("wiki.corp", "origin", "https://evil.test", Some("https://evil.test")),
        ("wiki.corp", "referer", "https://s1.apps.gw.test:8443/a?b", Some("http://wiki.corp/a?b")),
        ("wiki.corp", "referer", "https://gw.test:8443/viewer/1", None),
        ("wiki.corp", "referer", "https://127.0.0.1:8443/viewer/1", None),
        ("wiki.corp", "referer", "https://gw.test:84430/x", Some("https://gw.test:84430/x")),
        ("wiki.corp", "destination", "https://s1.apps.gw.test:8443/b", Some("http://wiki.corp/b")),
        (
            "",
            "destination",
            "https://s1.apps.gw.test:8443/c.txt",
            Some("http://s1.apps.gw.test:8443/c.txt"),
        ),
        ("", "destination", "/c.txt", Some("/c.txt")),
        ("wiki.corp", "destination", "https://other.test/b", Some("https://other.test/b")),
        (
            "",
            "if",
            "<https://s1.apps.gw.test:8443/a> (<urn:uuid:1> [\"e\"]) (Not <DAV:no-lock>)",
            Some("<http://s1.apps.gw.test:8443/a> (<urn:uuid:1> [\"e\"]) (Not <DAV:no-lock>)"),
        ),
        (
            "wiki.corp",
            "if",
            "<https://s1.apps.gw.test:8443/a>(<urn:uuid:1>)<https://s1.apps.gw.test:8443/b>([\"e\"])",
            Some("<http://wiki.corp/a>(<urn:uuid:1>)<http://wiki.corp/b>([\"e\"])"),
        ),
        ("wiki.corp", "if", "(<urn:uuid:1>) <unclosed", Some("(<urn:uuid:1>) <unclosed")),
        ("wiki.corp", "authorization", "Bearer x", Some("Bearer x")),
        ("wiki.corp", "cookie", "__Host-portcullis-app=x", None),
        ("wiki.corp", "cookie", "a=1; __Host-portcullis-app=x", Some("a=1")),
        ("wiki.corp", "sec-websocket-extensions", "permessage-deflate", None),
    ] {
        assert_eq!(
            all(&up(&[(name, sent)], host, &[]), name).first().map(String::as_str),
            kept,
            "{host} {name} {sent}"
        );
    }
    assert_eq!(
        all(
            &up(&[("authorization", "Basic browser")], "", &[("authorization", "Basic ours")]),
            "authorization"
        ),
        ["Basic ours"]
    );
}

#[test]
fn responses_are_mapped_to_the_public_origin() {
    let out = down(
        &[
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("location", "http://wiki.corp/next?x#y"),
            ("content-location", "/x"),
            ("refresh", "3; URL='http://wiki.corp/r'"),
            ("access-control-allow-origin", "http://wiki.corp"),
            ("strict-transport-security", "max-age=1"),
            ("public-key-pins", "x"),
            ("alt-svc", "h3=\":443\""),
            ("x-frame-options", "DENY"),
            (
                "content-security-policy",
                "default-src 'self'; Frame-Ancestors 'none', script-src 'self';frame-ancestors x",
            ),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("content-security-policy-report-only", "frame-ancestors 'none'"),
            ("clear-site-data", "\"cache\", \"cookies\""),
            ("set-cookie", "a=1; Domain=wiki.corp"),
            ("set-cookie", "b=2"),
            ("set-cookie", "__Host-portcullis-app=x"),
            ("content-encoding", "gzip"),
        ],
        false,
    );
    for gone in [
        "connection",
        "x-hop",
        "keep-alive",
        "transfer-encoding",
        "strict-transport-security",
        "public-key-pins",
        "alt-svc",
        "x-frame-options",
    ] {
        assert!(!out.contains_key(gone), "{gone}");
    }
    for (name, values) in [
        ("location", vec!["https://s1.apps.gw.test:8443/next?x#y"]),
        ("content-location", vec!["/x"]),
        ("refresh", vec!["3; URL=https://s1.apps.gw.test:8443/r"]),
        ("access-control-allow-origin", vec!["https://s1.apps.gw.test:8443"]),
        (
            "content-security-policy",
            vec![
                "default-src 'self', script-src 'self'",
                "frame-ancestors 'self' https://gw.test:8443 https://127.0.0.1:8443",
            ],
        ),
        ("content-security-policy-report-only", vec!["frame-ancestors 'none'"]),
        ("clear-site-data", vec!["\"cache\""]),
        ("set-cookie", vec!["a=1", "b=2"]),
        ("content-encoding", vec!["gzip"]),
        ("origin-agent-cluster", vec!["?1"]),
    ] {
        assert_eq!(all(&out, name), values, "{name}");
    }
    assert_eq!(
        all(&down(&[("location", "https://elsewhere.test/")], false), "location"),
        ["https://elsewhere.test/"]
    );
    assert_eq!(
        all(&down(&[("set-cookie", "a=1; SameSite=Lax")], true), "set-cookie"),
        ["a=1; SameSite=None; Secure; Partitioned"]
    );
    assert_eq!(
        all(&down(&[("clear-site-data", "\"*\"")], false), "clear-site-data"),
        ["\"cache\", \"storage\", \"executionContexts\""]
    );
}

#[test]
fn control_fields_are_removed_from_trailers() {
    let mut out = map(&[
        ("x-sum", "1"),
        ("grpc-status", "0"),
        ("set-cookie", "a=1"),
        ("content-length", "1"),
        ("transfer-encoding", "x"),
        ("host", "x"),
        ("x_forwarded_for", "x"),
    ]);
    filter_trailers(&mut out);
    assert_eq!(out.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-sum", "grpc-status"]);
}

/// Field names, some of which must be removed.
fn field_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z_-]{0,10}",
        "(x|X)[-_](F|f)orwarded[-_](for|user|[a-z]{1,4})",
        "(connection|te|host|cookie|content-length|transfer-encoding|upgrade|keep-alive|forwarded|remote[-_]user|x[-_]api[-_]key)"
    ]
}

proptest! {
    /// Of any request: one `Host`, not the browser's; no framing, hop-by-hop or forged field.
    #[test]
    fn any_request_head(fields in proptest::collection::vec((field_name(), "[ -~]{0,12}"), 0..12)) {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let out = up(&fields, "wiki.corp", &[("x-api-key", "ours")]);
        prop_assert_eq!(all(&out, "host"), ["wiki.corp"]);
        prop_assert_eq!(all(&out, "x-api-key"), ["ours"]);
        for (name, value) in &out {
            let plain = name.as_str().replace('_', "-");
            prop_assert!(!matches!(plain.as_str(), "content-length" | "transfer-encoding" | "upgrade" | "keep-alive" | "remote-user"), "{name}");
            if plain.starts_with("x-forwarded") || plain == "forwarded" {
                prop_assert!(value.to_str().unwrap().contains("192.0.2.9") || value == "https" || value == "s1.apps.gw.test:8443", "{name}: {value:?}");
            }
            if plain == "x-api-key" {
                prop_assert_eq!(name.as_str(), "x-api-key");
            }
            if plain == "connection" {
                prop_assert_eq!(value, "te");
            }
        }
    }

    /// Of any response: exactly one `frame-ancestors`, the gateway's, and host-only cookies.
    #[test]
    fn any_response_head(policies in proptest::collection::vec("[a-z';, -]{0,20}(frame-ancestors [a-z'*]{0,5})?[;,]?", 0..4), cookie in "[ -~]{0,30}") {
        let mut fields: Vec<(&str, &str)> = policies.iter().map(|p| ("content-security-policy", p.as_str())).collect();
        fields.push(("set-cookie", &cookie));
        let out = down(&fields, true);
        let policies = all(&out, "content-security-policy");
        let framing: Vec<&str> = policies.iter().flat_map(|p| p.split([',', ';'])).map(str::trim).filter(|d| d.split_ascii_whitespace().next() == Some("frame-ancestors")).collect();
        prop_assert_eq!(framing, ["frame-ancestors 'self' https://gw.test:8443 https://127.0.0.1:8443"]);
        for cookie in all(&out, "set-cookie") {
            let lower = cookie.to_ascii_lowercase();
            prop_assert!(!lower.split(';').skip(1).any(|a| a.split('=').next().unwrap().trim() == "domain"), "{cookie}");
            prop_assert!(cookie.ends_with("; SameSite=None; Secure; Partitioned"));
        }
    }
}
