//! Known browsers over HTTP, and what an address may ask for.

use crate::support::app::TestApp;
use crate::support::db::{Backend, Db};
use crate::support::logs;
use portcullis::http::settings::Settings;
use serde_json::json;

const NAME: &str = "__Host-portcullis-browser=";

#[tokio::test(flavor = "multi_thread")]
async fn a_known_browser_signs_in_beside_a_guesser_at_its_address() {
    let app = TestApp::sqlite().await;
    let page = app.anonymous().header("x-portcullis-session", "cookie").header("origin", &app.base);
    let cookies = app.sign_in(&page, "member").await.set_cookies();
    let cookie = cookies.iter().find(|cookie| cookie.starts_with(NAME)).unwrap();
    let parts: Vec<_> = cookie.split("; ").collect();
    for flag in ["HttpOnly", "Secure", "SameSite=Strict", "Path=/", "Max-Age=7776000"] {
        assert!(parts.contains(&flag), "{flag} in {cookie}");
    }
    assert!(!cookie.contains("Domain="), "{cookie}");
    let known = parts[0].to_owned();
    assert!(app.sign_in(&app.anonymous(), "other").await.set_cookies().is_empty());

    let email = "member@example.test";
    for _ in 0..10 {
        let wrong = json!({"email": email, "password": "wrong"});
        assert_eq!(page.post("/api/auth/login", wrong).await.status, 401);
    }
    let right = json!({"email": email, "password": app.password});
    for (who, client, status) in [
        ("an unknown one", page.clone(), 429),
        ("a made-up cookie", page.header("cookie", &format!("{NAME}v1.AAAA")), 429),
        ("two cookies", page.header("cookie", &format!("{known}; {NAME}x")), 400),
        ("the known one", page.header("cookie", &known), 200),
    ] {
        assert_eq!(client.post("/api/auth/login", right.clone()).await.status, status, "{who}");
    }
    assert_eq!(
        page.header("cookie", &known).get("/api/auth/me").await.status,
        401,
        "it opens nothing"
    );

    let browser = page.header("cookie", &known);
    let again = app.sign_in(&browser, "member").await;
    let signed_in =
        browser.header("x-portcullis-csrf", "1").header("cookie", &again.cookies_to_send());
    let left = signed_in.post("/api/auth/logout", json!({})).await;
    assert_eq!(left.status, 200);
    assert!(!left.set_cookies().iter().any(|c| c.starts_with(NAME)), "it is kept when signing out");

    let value = known.strip_prefix(NAME).unwrap();
    assert!(!logs::collected().contains(value), "it is in the log");
    let entries = serde_json::to_string(&app.audit_entries("").await).unwrap();
    assert!(!entries.contains(value));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_users_behind_one_address_are_not_limited_as_one_client() {
    let app = TestApp::with(Db::new(Backend::Sqlite), |settings, _| {
        let defaults = Settings::default();
        settings.anonymous_rate = defaults.anonymous_rate;
        settings.any_rate = defaults.any_rate;
    })
    .await;
    // Password and code of 500 people at one moment, without the work of hashing.
    let client = app.anonymous();
    for n in 0..1000 {
        let answer = client.post("/api/auth/login", json!({"email": 1})).await;
        assert_eq!(answer.status, 422, "request {n}: {}", answer.body);
    }
}
