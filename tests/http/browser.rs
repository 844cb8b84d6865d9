//! Browsers: cookies, CSRF, origins, headers, pages.

use crate::support::app::{MFA_WORKSPACE, TestApp, WORKSPACE};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_cookies_and_no_tokens() {
    let app = TestApp::sqlite().await;
    let page = app.anonymous().header("x-portcullis-session", "cookie").header("origin", &app.base);
    let answer = app.sign_in(&page, "member").await;
    let body = answer.json();
    assert!(body.get("access_token").is_none() && body.get("refresh_token").is_none(), "{body}");
    assert_eq!(body["user"]["email"], "member@example.test");
    let cookies = answer.set_cookies();
    assert_eq!(cookies.len(), 4, "{cookies:?}");
    for (cookie, name, path) in [
        (&cookies[0], "__Host-portcullis=", "Path=/"),
        (&cookies[1], "__Host-portcullis-refresh=", "Path=/"),
    ] {
        assert!(cookie.starts_with(name), "{cookie}");
        let parts: Vec<_> = cookie.split("; ").collect();
        for flag in ["HttpOnly", "Secure", "SameSite=Strict", path] {
            assert!(parts.contains(&flag), "{flag} in {cookie}");
        }
        assert!(!cookie.contains("Domain="), "{cookie}");
    }
    let mark = &cookies[2];
    assert!(
        mark.starts_with("__Host-portcullis-here=1;") && !mark.contains("HttpOnly"),
        "scripts may read that somebody is signed in: {mark}"
    );
    assert!(mark.contains("Secure") && mark.contains("SameSite=Strict"), "{mark}");
    assert_eq!(
        page.header("cookie", "__Host-portcullis-here=1").get("/api/auth/me").await.status,
        401,
        "the mark opens nothing"
    );
    let signed = page.header("cookie", &answer.cookies_to_send());
    assert_eq!(signed.get("/api/auth/me").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_requests_by_cookie_need_the_csrf_header() {
    let app = TestApp::sqlite().await;
    let browser = app.browser("member").await;
    let launch = format!("/api/workspaces/{WORKSPACE}/launch");
    for (what, foreign) in [
        ("no header", browser.without("x-portcullis-csrf")),
        ("no origin", browser.without("origin")),
        ("another origin", browser.header("origin", "https://evil.example")),
        ("an opaque origin", browser.header("origin", "null")),
        ("plain http", browser.header("origin", &app.base.replace("https", "http"))),
    ] {
        let answer = foreign.post(&launch, json!({})).await;
        assert_eq!(answer.status, 403, "{what}: {}", answer.body);
        answer.detail();
        assert_eq!(foreign.get("/api/workspaces").await.status, 200, "reading is safe: {what}");
    }
    assert_eq!(browser.post(&launch, json!({})).await.status, 200);
    let denied = app.audit_entries("action=access_denied").await;
    let reasons: Vec<_> = denied.iter().map(|e| e["reason"].as_str().unwrap()).collect();
    assert!(
        reasons.contains(&"csrf_header_missing") && reasons.contains(&"foreign_origin"),
        "{reasons:?}"
    );

    // A token in the header is not sent by a browser on its own, so nothing more is asked of it.
    assert_eq!(app.signed_in("other").await.post(&launch, json!({})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_page_cannot_sign_in() {
    let app = TestApp::sqlite().await;
    let foreign = app
        .anonymous()
        .header("x-portcullis-session", "cookie")
        .header("origin", "https://evil.example");
    let answer = foreign
        .post("/api/auth/login", json!({"email": "member@example.test", "password": app.password}))
        .await;
    assert_eq!(answer.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_and_logout_by_cookie() {
    let app = TestApp::sqlite().await;
    let browser = app.browser("member").await;
    assert_eq!(
        browser
            .without("x-portcullis-csrf")
            .send(reqwest::Method::POST, "/api/auth/refresh", None)
            .await
            .status,
        403
    );
    let renewed = browser.send(reqwest::Method::POST, "/api/auth/refresh", None).await;
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    assert!(renewed.json().get("refresh_token").is_none());
    let fresh = browser.header("cookie", &renewed.cookies_to_send());
    assert_eq!(fresh.get("/api/auth/me").await.status, 200);

    let left = fresh.post("/api/auth/logout", json!({})).await;
    assert_eq!(left.status, 200);
    assert!(left.set_cookies().iter().all(|c| c.contains("Max-Age=0")), "{:?}", left.set_cookies());
    assert_eq!(fresh.get("/api/auth/me").await.status, 401);
    let over = fresh.send(reqwest::Method::POST, "/api/auth/refresh", None).await;
    assert_eq!(over.status, 401);
    assert_eq!(over.set_cookies().len(), 4, "cookies that are worth nothing are taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_has_security_headers() {
    let app = TestApp::sqlite().await;
    let client = app.anonymous();
    for path in [
        "/",
        "/api/health",
        "/api/auth/me",
        "/no/such/page",
        "/viewer/00000000-0000-4000-8000-000000000000",
        "/assets/none.js",
    ] {
        let answer = client.get(path).await;
        for (name, part) in [
            ("strict-transport-security", "max-age="),
            ("x-content-type-options", "nosniff"),
            // Beside an application's origin, the viewer says who brings its ticket, and no more.
            (
                "referrer-policy",
                if path.starts_with("/viewer/") { "strict-origin" } else { "no-referrer" },
            ),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("permissions-policy", "camera=()"),
            ("content-security-policy", "default-src 'none'"),
            ("content-security-policy", "frame-ancestors 'none'"),
        ] {
            assert!(answer.header(name).contains(part), "{path} {name}: {}", answer.header(name));
        }
        assert!(
            !answer.header("content-security-policy").contains("script-src 'self' 'unsafe"),
            "{path}"
        );
        assert!(!answer.header("x-request-id").is_empty(), "{path}");
        assert_eq!(answer.header("server"), "", "{path}");
    }
    assert_eq!(client.get("/api/health").await.header("cache-control"), "no-store");
    let pages = client.get("/").await;
    assert!(
        [200, 503].contains(&pages.status),
        "built, or saying that it is not: {}",
        pages.status
    );
    assert_eq!(client.get("/viewer/not-an-id").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_workspace_requires_the_second_factor() {
    let app = TestApp::sqlite().await;
    let launched = app
        .browser("member")
        .await
        .post(&format!("/api/workspaces/{MFA_WORKSPACE}/launch"), json!({}))
        .await;
    assert_eq!(launched.status, 200, "{}", launched.body);
    assert_eq!(launched.json()["security"]["mfa_verified"], true);
}
