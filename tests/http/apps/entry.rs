//! Who gets in: by a ticket, once, from the gateway's pages; then by the cookie. Everybody else
//! sees one page.

use super::AppsGateway;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_becomes_a_cookie_of_that_origin() {
    let house = AppsGateway::new().await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let ticket = house.ticket(&member, &session).await;
    let entered = house.post_ticket(&session, &house.app.base, &ticket).await;
    assert_eq!(
        (entered.status, entered.header("location")),
        (303, format!("{}/", house.origin(&session)).as_str())
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

    let inside = house.at(&session).header("cookie", &entered.cookies_to_send());
    let answer = inside.get("/a/path?with=query").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "application"));
    assert_eq!(
        house.application.requests().last().unwrap().line(),
        "GET /a/path?with=query HTTP/1.1"
    );

    let again = house.post_ticket(&session, &house.app.base, &ticket).await;
    assert_eq!(again.status, 403, "a ticket is good once");
    assert!(again.set_cookies().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_the_gateway_reads_where_it_opens() {
    let house = AppsGateway::new().await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let form = |origin: &str| {
        house
            .at(&session)
            .header("origin", origin)
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded;charset=UTF-8")
    };
    let body = format!("ticket={}", house.ticket(&member, &session).await).into_bytes();
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
        form(&house.app.base).send(Method::POST, "/.portcullis/enter", Some(body.clone())).await;
    assert_eq!(
        (entered.status, entered.json()),
        (200, json!({"start": format!("{}/", house.origin(&session))}))
    );
    assert_eq!(entered.header("access-control-allow-origin"), house.app.base);
    assert_eq!(
        (entered.header("access-control-allow-credentials"), entered.header("vary")),
        ("true", "Origin")
    );
    assert_eq!((entered.header("location"), entered.header("cache-control")), ("", "no-store"));
    let inside = house.at(&session).header("cookie", &entered.cookies_to_send());
    assert_eq!(inside.get("/").await.status, 200);
    let used = form(&house.app.base).send(Method::POST, "/.portcullis/enter", Some(body)).await;
    assert_eq!(
        (used.status, used.header("access-control-allow-origin"), used.set_cookies().len()),
        (403, house.app.base.as_str(), 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_the_gateway_bring_tickets() {
    let house = AppsGateway::new().await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let ticket = house.ticket(&member, &session).await;
    for foreign in ["https://evil.example", "null", "https://localhost", &house.origin(&session)] {
        let refused = house.post_ticket(&session, foreign, &ticket).await;
        assert_eq!((refused.status, refused.set_cookies().len()), (403, 0), "{foreign}");
    }
    let client = house.at(&session).header("origin", &house.app.base);
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
    assert_eq!((get.status, get.header("allow")), (405, "POST"), "never in an address");
    assert_eq!(
        house.post_ticket(&session, &house.app.base, &ticket).await.status,
        303,
        "none of that used the ticket up"
    );
    assert!(house.app.audit_entries("action=access_denied&q=foreign_origin").await.len() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_sees_one_page_whatever_there_is() {
    let house = AppsGateway::new().await;
    let (member, other) = (house.app.browser("member").await, house.app.browser("other").await);
    let theirs = house.launch(&member).await;
    let cookie = house.enter(&member, &theirs).await;
    let mine = house.launch(&other).await;
    let my_cookie = house.enter(&other, &mine).await;
    let none = uuid::Uuid::new_v4().to_string();
    let page = house.at(&none).get("/").await;
    assert_eq!(page.status, 404);
    assert!(
        page.header("content-security-policy")
            .contains(&format!("frame-ancestors 'self' {}", house.app.base))
    );
    let asked = [
        house.at(&theirs),
        house.at(&theirs).header("cookie", &my_cookie),
        house.at(&theirs).header("cookie", "__Host-portcullis-app=nonsense"),
        house.at(&none).header("cookie", &cookie),
    ];
    for client in asked {
        for path in ["/", "/deep/path", "/.portcullis/unknown"] {
            let answer = client.get(path).await;
            // The way back is the one that the address names, whether it leads anywhere or not.
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
        let answer = house.at(label).header("cookie", &cookie).get("/").await;
        let portal = page
            .body
            .replace(&format!("/viewer/{none}"), "/")
            .replace("Open it again</a>", "Go to the portal</a>");
        assert_eq!((answer.status, answer.body), (404, portal), "{label}");
    }
    assert!(house.application.requests().is_empty());
    // A good ticket of one's own session, brought to somebody else's and to nobody's: the same
    // answer.
    let ticket = house.ticket(&other, &mine).await;
    let there = house.post_ticket(&theirs, &house.app.base, &ticket).await;
    let nowhere = house.post_ticket(&none, &house.app.base, &ticket).await;
    assert_eq!((there.status, nowhere.status), (403, 403));
    assert_eq!(there.body, nowhere.body);
    assert_eq!(
        house.at(&theirs).header("origin", &house.app.base).get("/.portcullis/state").await.body,
        r#"{"state":"none"}"#
    );
    assert_eq!(
        house.at(&none).header("origin", &house.app.base).get("/.portcullis/state").await.body,
        r#"{"state":"none"}"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_served_where_they_belong() {
    let house = AppsGateway::new().await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let cookie = house.enter(&member, &session).await;
    let inside = house.at(&session).header("cookie", &cookie);
    // The gateway's names on a connection of the applications, and the reverse.
    for host in [
        "localhost",
        "127.0.0.1",
        "apps.localhost",
        "evil.example",
        &format!("{session}.apps.localhost."),
    ] {
        assert_eq!(inside.header("host", host).get("/api/health").await.status, 421, "{host}");
    }
    let gateway = house
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
        "names know no case"
    );
    // Another application's host is another application.
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
async fn who_held_the_cookie_reads_why_it_ended() {
    let house = AppsGateway::new().await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let cookie = house.enter(&member, &session).await;
    let inside = house.at(&session).header("cookie", &cookie).header("origin", &house.app.base);
    assert_eq!(inside.get("/.portcullis/state").await.body, r#"{"state":"open"}"#);
    assert!(house.application.requests().is_empty(), "it is not knocked at");
    assert_eq!(inside.get("/.portcullis/state?answering").await.body, r#"{"state":"open"}"#);
    assert_eq!(house.application.requests().len(), 1);
    let stream =
        format!("/api/sessions/{session}/stream?ticket={}", house.ticket(&member, &session).await);
    let upgrade =
        house.app.anonymous().header("upgrade", "websocket").header("connection", "upgrade");
    assert_eq!(upgrade.get(&stream).await.status, 409, "it has no stream");
    assert_eq!(
        inside.get("/.portcullis/state").await.header("access-control-allow-origin"),
        house.app.base
    );
    // Who waits for it is told at once.
    let path = format!("/api/sessions/{session}/disconnect");
    let (waited, _) =
        tokio::join!(inside.get("/.portcullis/state?wait"), member.post(&path, json!({})));
    assert_eq!(waited.json(), json!({"state": "ended", "reason": "user_disconnected"}));
    let ended = inside.get("/").await;
    assert_eq!(ended.status, 410);
    assert!(ended.body.contains("You disconnected it"), "{}", ended.body);
    assert_eq!(
        inside.get("/.portcullis/state").await.json(),
        json!({"state": "ended", "reason": "user_disconnected"})
    );
    assert_eq!(house.at(&session).get("/").await.status, 404, "nobody else learns of it");

    let session = house.launch(&member).await;
    let cookie = house.enter(&member, &session).await;
    member.post("/api/auth/logout", json!({})).await;
    let ended = house.at(&session).header("cookie", &cookie).get("/").await;
    assert_eq!(ended.status, 410);
    assert!(ended.body.contains("signed out"), "{}", ended.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_application_for_all_windows_of_a_login() {
    let house = AppsGateway::new().await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let mut cookies = Vec::new();
    for _ in 0..9 {
        cookies.push(house.enter(&member, &session).await);
    }
    let shown = member.get(&format!("/api/sessions/{session}")).await.json();
    assert_eq!(shown["viewers"], 1, "nine windows, one place");
    for (n, cookie) in cookies.iter().enumerate() {
        let status = house.at(&session).header("cookie", cookie).get("/").await.status;
        assert_eq!(
            status,
            if n == 0 { 404 } else { 200 },
            "cookie {n}: eight at most, the oldest goes"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_is_closed() {
    let house = AppsGateway::with(|settings, _| {
        settings.apps.as_mut().unwrap().idle = Duration::from_millis(200)
    })
    .await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let cookie = house.enter(&member, &session).await;
    let inside = house.at(&session).header("cookie", &cookie).header("origin", &house.app.base);
    let closed = async {
        // Looking at its state is no use of it.
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
    assert_eq!(shown["status"], "active", "the session goes on");
    let anew = house.enter(&member, &session).await;
    assert_ne!(anew, cookie);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_origins_may_lead_here_and_no_more() {
    let house = AppsGateway::new().await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let inside = house.at(&session).header("cookie", &house.enter(&member, &session).await);
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
    assert_eq!(house.application.requests().len(), 3);
}
