//! Access: by a ticket, once, from the gateway's pages; then by the cookie. All others get one
//! page.

use super::AppsGateway;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_exchanged_for_a_cookie_of_its_origin() {
    let gateway = AppsGateway::new().await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let ticket = gateway.ticket(&member, &session).await;
    let entered = gateway.post_ticket(&session, &gateway.app.base, &ticket).await;
    assert_eq!(
        (entered.status, entered.header("location")),
        (303, format!("{}/", gateway.origin(&session)).as_str())
    );
    assert_eq!(
        (entered.header("cache-control"), entered.header("referrer-policy")),
        ("no-store", "no-referrer")
    );
    let cookies = entered.set_cookies();
    assert_eq!(cookies.len(), 1);
    let (name, rest) = cookies[0].split_once('=').unwrap();
    let (value, attributes) = rest.split_once("; ").unwrap();
    assert_eq!((name, value.len()), ("__Host-portcullis-app", 43));
    assert_eq!(
        attributes, "Path=/; Secure; HttpOnly; SameSite=None; Partitioned",
        "localhost and apps.localhost are two sites"
    );

    let inside = gateway.at(&session).header("cookie", &entered.cookies_to_send());
    let answer = inside.get("/a/path?with=query").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "application"));
    assert_eq!(
        gateway.application.requests().last().unwrap().line(),
        "GET /a/path?with=query HTTP/1.1"
    );

    let again = gateway.post_ticket(&session, &gateway.app.base, &ticket).await;
    assert_eq!(again.status, 403, "a ticket is valid once");
    assert!(again.set_cookies().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_script_reads_the_start_url() {
    let gateway = AppsGateway::new().await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let form = |origin: &str| {
        gateway
            .at(&session)
            .header("origin", origin)
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded;charset=UTF-8")
    };
    let body = format!("ticket={}", gateway.ticket(&member, &session).await).into_bytes();
    let foreign = form("https://evil.example")
        .send(Method::POST, "/.portcullis/enter", Some(body.clone()))
        .await;
    assert_eq!(
        (
            foreign.status,
            foreign.header("access-control-allow-origin"),
            foreign.set_cookies().len()
        ),
        (403, "", 0)
    );
    let entered =
        form(&gateway.app.base).send(Method::POST, "/.portcullis/enter", Some(body.clone())).await;
    assert_eq!(
        (entered.status, entered.json()),
        (200, json!({"start": format!("{}/", gateway.origin(&session))}))
    );
    assert_eq!(entered.header("access-control-allow-origin"), gateway.app.base);
    assert_eq!(
        (entered.header("access-control-allow-credentials"), entered.header("vary")),
        ("true", "Origin")
    );
    assert_eq!((entered.header("location"), entered.header("cache-control")), ("", "no-store"));
    let inside = gateway.at(&session).header("cookie", &entered.cookies_to_send());
    assert_eq!(inside.get("/").await.status, 200);
    let used = form(&gateway.app.base).send(Method::POST, "/.portcullis/enter", Some(body)).await;
    assert_eq!(
        (used.status, used.header("access-control-allow-origin"), used.set_cookies().len()),
        (403, gateway.app.base.as_str(), 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_gateway_pages_may_present_tickets() {
    let gateway = AppsGateway::new().await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let ticket = gateway.ticket(&member, &session).await;
    for foreign in ["https://evil.example", "null", "https://localhost", &gateway.origin(&session)]
    {
        let refused = gateway.post_ticket(&session, foreign, &ticket).await;
        assert_eq!((refused.status, refused.set_cookies().len()), (403, 0), "{foreign}");
    }
    let client = gateway.at(&session).header("origin", &gateway.app.base);
    let bad = [
        ("text/plain", format!("ticket={ticket}")),
        ("application/x-www-form-urlencoded", String::new()),
        ("application/x-www-form-urlencoded", "ticket=".to_owned()),
        ("application/x-www-form-urlencoded", format!("ticket={}", "x".repeat(5000))),
        ("application/x-www-form-urlencoded", "ticket=%00".to_owned()),
    ];
    for (kind, body) in bad {
        let refused = client
            .header("content-type", kind)
            .send(Method::POST, "/.portcullis/enter", Some(body.into_bytes()))
            .await;
        assert_eq!((refused.status, refused.set_cookies().len()), (403, 0), "{kind}");
    }
    let get = client.get(&format!("/.portcullis/enter?ticket={ticket}")).await;
    assert_eq!((get.status, get.header("allow")), (405, "POST"), "never in a URL");
    assert_eq!(
        gateway.post_ticket(&session, &gateway.app.base, &ticket).await.status,
        303,
        "none of that used the ticket up"
    );
    assert!(gateway.app.audit_entries("action=access_denied&q=foreign_origin").await.len() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_access_every_session_looks_the_same() {
    let gateway = AppsGateway::new().await;
    let (member, other) = (gateway.app.browser("member").await, gateway.app.browser("other").await);
    let theirs = gateway.launch(&member).await;
    let cookie = gateway.enter(&member, &theirs).await;
    let mine = gateway.launch(&other).await;
    let my_cookie = gateway.enter(&other, &mine).await;
    let none = uuid::Uuid::new_v4().to_string();
    let page = gateway.at(&none).get("/").await;
    assert_eq!(page.status, 404);
    assert!(
        page.header("content-security-policy")
            .contains(&format!("frame-ancestors 'self' {}", gateway.app.base))
    );
    let asked = [
        gateway.at(&theirs),
        gateway.at(&theirs).header("cookie", &my_cookie),
        gateway.at(&theirs).header("cookie", "__Host-portcullis-app=nonsense"),
        gateway.at(&none).header("cookie", &cookie),
    ];
    for client in asked {
        for path in ["/", "/deep/path", "/.portcullis/unknown"] {
            let answer = client.get(path).await;
            // The link is built from the URL, whether the session exists or not.
            assert_eq!(
                (answer.status, answer.body.replace(&theirs, &none)),
                (404, page.body.clone()),
                "{} {path}",
                client.base
            );
            let without = |a: &crate::support::client::Answer| {
                let mut headers = a.headers.clone();
                headers.remove("date");
                headers
            };
            assert_eq!(without(&answer), without(&page), "{} {path}", client.base);
        }
    }
    for label in ["not-an-id", &theirs.replace('-', "")] {
        let answer = gateway.at(label).header("cookie", &cookie).get("/").await;
        let portal = page
            .body
            .replace(&format!("/viewer/{none}"), "/")
            .replace("Open it again</a>", "Go to the portal</a>");
        assert_eq!((answer.status, answer.body), (404, portal), "{label}");
    }
    assert!(gateway.application.requests().is_empty());
    // A valid ticket of one's own session, presented to another's and to a missing one: the same
    // response.
    let ticket = gateway.ticket(&other, &mine).await;
    let there = gateway.post_ticket(&theirs, &gateway.app.base, &ticket).await;
    let missing = gateway.post_ticket(&none, &gateway.app.base, &ticket).await;
    assert_eq!((there.status, missing.status), (403, 403));
    assert_eq!(there.body, missing.body);
    assert_eq!(
        gateway
            .at(&theirs)
            .header("origin", &gateway.app.base)
            .get("/.portcullis/state")
            .await
            .body,
        r#"{"state":"none"}"#
    );
    assert_eq!(
        gateway.at(&none).header("origin", &gateway.app.base).get("/.portcullis/state").await.body,
        r#"{"state":"none"}"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn misdirected_hosts_are_rejected() {
    let gateway = AppsGateway::new().await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let cookie = gateway.enter(&member, &session).await;
    let inside = gateway.at(&session).header("cookie", &cookie);
    // The gateway's names on a connection of the applications, and vice versa.
    for host in [
        "localhost",
        "127.0.0.1",
        "apps.localhost",
        "evil.example",
        &format!("{session}.apps.localhost."),
    ] {
        assert_eq!(inside.header("host", host).get("/api/health").await.status, 421, "{host}");
    }
    let gateway = gateway
        .app
        .anonymous()
        .header("cookie", &cookie)
        .header("host", &AppsGateway::host(&session));
    assert_eq!(gateway.get("/").await.status, 421);
    for unclear in
        ["a b", "user@x.apps.localhost", "", &format!("{}:port", AppsGateway::host(&session))]
    {
        let status = inside.header("host", unclear).get("/").await.status;
        assert!(status == 400, "{unclear:?}: {status}");
    }
    assert_eq!(
        inside.header("host", &AppsGateway::host(&session).to_uppercase()).get("/").await.status,
        200,
        "host names are case-insensitive"
    );
    // The host of another application is dispatched to that application.
    assert_eq!(
        inside
            .header("host", &AppsGateway::host(&uuid::Uuid::new_v4().to_string()))
            .get("/")
            .await
            .status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_holders_read_why_it_ended() {
    let gateway = AppsGateway::new().await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let cookie = gateway.enter(&member, &session).await;
    let inside = gateway.at(&session).header("cookie", &cookie).header("origin", &gateway.app.base);
    assert_eq!(inside.get("/.portcullis/state").await.body, r#"{"state":"open"}"#);
    assert!(gateway.application.requests().is_empty(), "no request is sent to it");
    assert_eq!(inside.get("/.portcullis/state?answering").await.body, r#"{"state":"open"}"#);
    assert_eq!(gateway.application.requests().len(), 1);
    let stream = format!(
        "/api/sessions/{session}/stream?ticket={}",
        gateway.ticket(&member, &session).await
    );
    let upgrade =
        gateway.app.anonymous().header("upgrade", "websocket").header("connection", "upgrade");
    assert_eq!(upgrade.get(&stream).await.status, 409, "an application has no stream");
    assert_eq!(
        inside.get("/.portcullis/state").await.header("access-control-allow-origin"),
        gateway.app.base
    );
    // A long poll responds at once.
    let path = format!("/api/sessions/{session}/disconnect");
    let (waited, _) =
        tokio::join!(inside.get("/.portcullis/state?wait"), member.post(&path, json!({})));
    assert_eq!(waited.json(), json!({"state": "ended", "reason": "user_disconnected"}));
    let ended = inside.get("/").await;
    assert_eq!(ended.status, 410);
    assert!(ended.body.contains("You ended it"), "{}", ended.body);
    assert_eq!(
        inside.get("/.portcullis/state").await.json(),
        json!({"state": "ended", "reason": "user_disconnected"})
    );
    assert_eq!(gateway.at(&session).get("/").await.status, 404, "only cookie holders learn of it");

    let session = gateway.launch(&member).await;
    let cookie = gateway.enter(&member, &session).await;
    member.post("/api/auth/logout", json!({})).await;
    let ended = gateway.at(&session).header("cookie", &cookie).get("/").await;
    assert_eq!(ended.status, 410);
    assert!(ended.body.contains("signed out"), "{}", ended.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_windows_of_a_login_share_one_application() {
    let gateway = AppsGateway::new().await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let mut cookies = Vec::new();
    for _ in 0..9 {
        cookies.push(gateway.enter(&member, &session).await);
    }
    let shown = member.get(&format!("/api/sessions/{session}")).await.json();
    assert_eq!(shown["viewers"], 1, "nine windows, one viewer slot");
    for (n, cookie) in cookies.iter().enumerate() {
        let status = gateway.at(&session).header("cookie", cookie).get("/").await.status;
        assert_eq!(
            status,
            if n == 0 { 404 } else { 200 },
            "cookie {n}: at most eight, the oldest is removed"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_application_is_closed() {
    let gateway = AppsGateway::with(|settings, _| {
        settings.apps.as_mut().unwrap().idle = Duration::from_millis(200)
    })
    .await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let cookie = gateway.enter(&member, &session).await;
    let inside = gateway.at(&session).header("cookie", &cookie).header("origin", &gateway.app.base);
    let closed = async {
        // Polling its state does not count as use.
        while inside.get("/.portcullis/state").await.json()
            != json!({"state": "ended", "reason": "idle"})
        {}
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.unwrap();
    let page = inside.without("origin").get("/").await;
    assert_eq!(page.status, 410);
    assert!(
        page.body.contains("nobody used it") && page.body.contains(&format!("/viewer/{session}\"")),
        "{}",
        page.body
    );
    let shown = member.get(&format!("/api/sessions/{session}")).await.json();
    assert_eq!(shown["status"], "active", "the session continues");
    let anew = gateway.enter(&member, &session).await;
    assert_ne!(anew, cookie);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_origins_may_only_navigate() {
    let gateway = AppsGateway::new().await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let inside = gateway.at(&session).header("cookie", &gateway.enter(&member, &session).await);
    let from = |site: &str, mode: &str, dest: &str| {
        inside
            .header("sec-fetch-site", site)
            .header("sec-fetch-mode", mode)
            .header("sec-fetch-dest", dest)
    };
    for site in ["same-site", "cross-site"] {
        assert_eq!(from(site, "navigate", "iframe").get("/").await.status, 200, "{site}");
        assert_eq!(from(site, "no-cors", "image").get("/").await.status, 403, "{site}");
        assert_eq!(
            from(site, "navigate", "document").post("/", json!({})).await.status,
            403,
            "{site}"
        );
    }
    assert_eq!(from("same-origin", "cors", "empty").post("/", json!({})).await.status, 200);
    assert_eq!(gateway.application.requests().len(), 3);
}
