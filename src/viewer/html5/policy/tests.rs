//! Tables of requests and responses for each rule, and properties of arbitrary paths.

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
    let some =
        RequestPolicy { methods: vec!["GET".into(), "POST".into()], ..RequestPolicy::default() };
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
        assert_eq!(ask(policy, method, "/", &[], Some(0)), refused.then_some("method"), "{method}");
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
        "without a rule no path is refused"
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
    let refusal = |status: u16, fields: &[(&'static str, &'static str)], empty| {
        check_response(&policy, StatusCode::from_u16(status).unwrap(), &headers(fields), empty)
            .err()
            .map(Refusal::as_str)
    };
    for (fields, refused) in [
        (&[("content-type", "text/html; charset=utf-8")][..], false),
        (&[("content-type", "image/png"), ("content-disposition", "inline; filename=x")], false),
        (&[("content-type", "text/html"), ("content-disposition", "ATTACHMENT; filename=x")], true),
        (&[("content-type", "text/html"), ("content-disposition", "odd")], true),
        (&[("content-type", "text/csv")], true),
        (&[("content-type", "application/pdf")], true),
        (&[("content-type", "application/octet-stream")], true),
        (&[("content-type", "multipart/byteranges; boundary=x")], true),
        (&[], true),
    ] {
        assert_eq!(refusal(200, fields, false), refused.then_some("download"), "{fields:?}");
        assert_eq!(refusal(200, fields, true), None, "an empty body is no file");
    }
    assert_eq!(refusal(302, &[], false), None);
    assert_eq!(refusal(404, &[("content-disposition", "attachment")], false), Some("download"));
}

proptest! {
    /// A path that a rule for /wiki allows stays below it, however often it is decoded and its dot
    /// segments are removed.
    #[test]
    fn allowed_paths_stay_below_their_prefix(path in "/wiki(/|%2f|%2e|%252e|\\.|;|%5c|x|%){0,10}") {
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
