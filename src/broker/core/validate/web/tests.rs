//! Unit tests of web application settings.

use super::*;

#[test]
fn start_path_stays_on_its_origin() {
    for good in ["/", "/lab", "/lab/tree?reset=1&x=%20", "/a//b", "/.portcullis-not"] {
        assert_eq!(start(good).unwrap(), good);
    }
    let long = format!("/{}", "a".repeat(PATH_MAX));
    for bad in [
        "",
        "lab",
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "/a#b",
        "/a b",
        "/ä",
        "/a\r\nb",
        "/.portcullis",
        "/.portcullis/enter",
        &long,
    ] {
        assert!(start(bad).is_err(), "{bad}");
    }
}

#[test]
fn host_may_have_a_port() {
    for (text, read) in [
        ("", ""),
        (" ERP.Example.com ", "erp.example.com"),
        ("erp:8443", "erp:8443"),
        ("192.0.2.1:80", "192.0.2.1:80"),
        ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ("[2001:db8::1]", "[2001:db8::1]"),
    ] {
        assert_eq!(host(text).unwrap(), read);
    }
    for bad in [
        "a b",
        "a:0",
        "a:",
        "a:+80",
        "a:99999",
        "a:b",
        "a/b",
        "u@a",
        "2001:db8::1",
        "[a]",
        "[::1",
        "[::1]x",
        "a\r\nb",
        "ä.example",
        "-",
        "..",
    ] {
        assert!(host(bad).is_err(), "{bad}");
    }
}

#[test]
fn sign_in_header_must_not_frame_messages() {
    let by = |name: &str| sign_in(&UpstreamSignIn::Header(name.to_owned()));
    for good in ["x-api-key", "Authorization", "X-Auth_Token"] {
        assert_eq!(by(good).unwrap(), UpstreamSignIn::Header(good.to_ascii_lowercase()));
    }
    for bad in [
        "",
        "a b",
        "a:b",
        "Host",
        "Content-Length",
        "transfer-encoding",
        "cookie",
        "X-Forwarded-User",
        "x-portcullis-assertion",
        "sec-fetch-site",
        "connection",
        "ä",
    ] {
        assert!(by(bad).is_err(), "{bad}");
    }
}

#[test]
fn methods_and_paths_are_normalized_are_normalized() {
    let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    assert_eq!(methods(&list(&["get", "GET", " Post "])).unwrap(), ["GET", "POST"]);
    for bad in ["CONNECT", "trace", "", "A B", "GET\r\nX"] {
        assert!(methods(&list(&[bad])).is_err(), "{bad}");
    }
    assert!(methods(&(0..17).map(|n| format!("M{n}")).collect::<Vec<_>>()).is_err());
    assert_eq!(paths(&list(&["/", "/wiki/", "/wiki", "/a/b"])).unwrap(), ["/", "/wiki", "/a/b"]);
    for bad in ["", "wiki", "/a/../b", "/.", "//a", "/a%2fb", "/a?b", "/a//b", "/a b", "/\\a"] {
        assert!(paths(&list(&[bad])).is_err(), "{bad}");
    }
    assert!(paths(&(0..65).map(|n| format!("/p{n}")).collect::<Vec<_>>()).is_err());
}
