//! Web applications over HTTP: schemas, visibility, invalid input, services of hosts.

use crate::support::app::{TestApp, WORKSPACE};
use portcullis::broker::model::{HostCapabilities, HostSlots};
use portcullis::domain::host::DesktopLimit;
use portcullis::domain::web_app::{RequestOutcome, RequestRecord};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{SessionId, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

fn a_wiki(app: &TestApp, web: Value) -> Value {
    json!({"id": "ws-wiki", "name": "Wiki", "type": "html5", "requires_mfa": false, "allowed_roles": ["member", "admin"],
        "target": {"host_id": app.host.to_string(), "service": "wiki"}, "web": web})
}

on_both! {
    async fn admins_and_members_see_different_fields(db) {
        let app = TestApp::start(db).await;
        let (admin, member) = (app.signed_in("admin").await, app.signed_in("member").await);
        let mut body = a_wiki(&app, json!({"scheme": "https", "host": "Wiki.Example:8443", "start": "/home?x=1", "sign_in": {"by": "header", "header": "X-Api-Key"},
            "identity": {"headers": true, "assertion_audience": "wiki"}, "requests": {"methods": ["get", "POST"], "paths": ["/home/"], "upload": false, "max_request": 1024}}));
        body["password"] = json!("a-web-key");
        let made = admin.post("/api/workspaces", body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        assert!(!made.body.contains("a-web-key"));
        let made = made.json();
        let web = json!({"scheme": "https", "host": "wiki.example:8443", "start": "/home?x=1", "sign_in": {"by": "header", "header": "x-api-key"},
            "identity": {"headers": true, "assertion_audience": "wiki"},
            "requests": {"methods": ["GET", "POST"], "paths": ["/home"], "upload": false, "download": true, "max_request": 1024}});
        assert_eq!((&made["web"], &made["server"]["sign_in"], &made["server"]["credential_saved"]), (&web, &json!("header"), &json!(true)));
        let seen = member.get("/api/workspaces/ws-wiki").await;
        for hidden in ["wiki.example", "x-api-key", "/home", "assertion"] {
            assert!(!seen.body.contains(hidden), "{hidden}");
        }
        let seen = seen.json();
        assert_eq!((&seen["web"], &seen["type"], &seen["status"]), (&Value::Null, &json!("html5"), &json!("available")));
        assert_eq!(seen["server"], json!({"credential": "workspace", "credential_saved": true, "exclusive": false, "keyboard": null, "sign_in": "header"}));
        let launched = member.post("/api/workspaces/ws-wiki/launch", json!({})).await;
        assert_eq!((launched.status, &launched.json()["workspace"]["web"]), (200, &Value::Null), "{}", launched.body);

        let change = json!({"web": {"identity": {"assertion_audience": null}, "requests": {"paths": []}}});
        let changed = admin.send(Method::PATCH, "/api/workspaces/ws-wiki", Some(change.to_string().into_bytes())).await;
        assert_eq!(changed.status, 200, "{}", changed.body);
        let changed = changed.json();
        assert_eq!((&changed["web"]["identity"], &changed["web"]["requests"]["paths"]), (&json!({"headers": true, "assertion_audience": null}), &json!([])));
        assert_eq!(changed["web"]["host"], web["host"], "what is not there stays");
    }

    async fn invalid_input_is_refused_by_field_name(db) {
        let app = TestApp::start(db).await;
        let admin = app.signed_in("admin").await;
        for (web, word) in [
            (json!({"scheme": "ftp"}), ""),
            (json!({"host": "a b"}), "web.host"),
            (json!({"start": "//evil.example"}), "web.start"),
            (json!({"start": "/.portcullis/enter"}), "web.start"),
            (json!({"sign_in": {"by": "header"}}), "web.sign_in"),
            (json!({"sign_in": {"by": "none", "header": "x"}}), "web.sign_in"),
            (json!({"sign_in": {"by": "header", "header": "cookie"}}), "web.sign_in"),
            (json!({"requests": {"methods": ["TRACE"]}}), "web.requests.methods"),
            (json!({"requests": {"paths": ["../x"]}}), "web.requests.paths"),
            (json!({"requests": {"max_request": u64::MAX}}), "web.requests.max_request"),
            (json!({"requests": {"max_request": -1}}), ""),
            (json!({"identity": {"assertion_audience": "a\nb"}}), "web.identity.assertion_audience"),
            (json!({"else": 1}), ""),
        ] {
            let answer = admin.post("/api/workspaces", a_wiki(&app, web.clone())).await;
            assert_eq!(answer.status, 422, "{web}: {}", answer.body);
            assert!(answer.detail().contains(word), "{web}: {}", answer.body);
        }
        let mut none = a_wiki(&app, json!({}));
        none.as_object_mut().unwrap().remove("target");
        let answer = admin.post("/api/workspaces", none).await;
        assert_eq!((answer.status, answer.detail().contains("target")), (422, true), "{}", answer.body);
        let desktop = json!({"id": "ws-d", "name": "D", "type": "linux", "web": {"scheme": "https"}});
        assert_eq!(admin.post("/api/workspaces", desktop).await.status, 422);
    }

    async fn hosts_list_what_they_offer(db) {
        let app = TestApp::start(db).await;
        let security = app.signed_in("security").await;
        let of_host = |list: Value| list.as_array().unwrap().iter().find(|h| h["id"] == app.host.to_string()).unwrap()["offers"].clone();
        assert_eq!(of_host(security.get("/api/hosts").await.json()), Value::Null);
        let offers = HostCapabilities { kinds: vec![WorkspaceKind::Linux], service_kinds: vec![WorkspaceKind::Html5], limits: Some([DesktopLimit::Memory].into()), services: vec![("wiki".into(), true)], slots: Some(HostSlots { desktops: 4, services: 9 }) };
        app.fleet.set_offers(app.host, offers);
        let capabilities = json!({"desktops": ["linux"], "service_types": ["html5"], "services": [{"name": "wiki", "reachable": true}],
            "limits": {"memory": true, "cpu": false, "processes": false, "home": false, "network": false, "seccomp": false}});
        assert_eq!(of_host(security.get("/api/hosts").await.json()), capabilities);
    }

    async fn hosts_are_drained_and_say_what_they_hold(db) {
        let app = TestApp::start(db).await;
        let (admin, member) = (app.signed_in("admin").await, app.signed_in("member").await);
        let path = format!("/api/hosts/{}", app.host);
        let launch = format!("/api/workspaces/{WORKSPACE}/launch");
        let offers = HostCapabilities { kinds: vec![WorkspaceKind::Linux], slots: Some(HostSlots { desktops: 4, services: 9 }), ..HostCapabilities::default() };
        app.fleet.set_offers(app.host, offers);
        let session = member.post(&launch, json!({})).await.json()["session_id"].as_str().unwrap().to_owned();
        let drained = admin.patch(&path, json!({"drained": true})).await;
        assert_eq!(drained.status, 200, "{}", drained.body);
        let drained = drained.json();
        let slots = json!({"desktops": {"used": 1, "limit": 4}, "services": {"used": 0, "limit": 9}});
        assert_eq!((&drained["drained"], &drained["slots"], &drained["last_failure"]), (&json!(true), &slots, &Value::Null));
        assert_eq!(member.get(&format!("/api/sessions/{session}")).await.json()["status"], "active", "it goes on");
        assert_eq!(member.post(&format!("/api/sessions/{session}/disconnect"), json!({})).await.status, 200);
        let refused = member.post(&launch, json!({})).await;
        assert!(refused.status == 503 && refused.detail().contains("maintenance"), "{}", refused.body);
        for wrong in [json!({}), json!({"drained": "yes"}), json!({"drained": true, "name": "x"})] {
            assert_eq!(admin.patch(&path, wrong.clone()).await.status, 422, "{wrong}");
        }
        assert_eq!(admin.patch(&path, json!({"drained": false})).await.json()["drained"], false);
        assert_eq!(member.post(&launch, json!({})).await.status, 200);
    }

    async fn requests_are_listed_filtered_and_exported(db) {
        let app = TestApp::start(db).await;
        let (member, security) = (app.signed_in("member").await, app.signed_in("security").await);
        let launched = member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await.json();
        let id = launched["session_id"].as_str().unwrap().to_owned();
        let record = |n: u64| RequestRecord {
            at: Timestamp(1_772_721_000_000),
            method: ["GET", "POST"][usize::from(n.is_multiple_of(2))].into(),
            path: format!("/Wiki/100%_{n}"),
            status: if n == 3 { 0 } else { 200 + 100 * u16::try_from(n % 4).unwrap() },
            bytes_in: n,
            bytes_out: 5,
            duration: Duration::from_millis(7),
            outcome: if n == 3 { RequestOutcome::Failed } else { RequestOutcome::Completed },
        };
        let session: SessionId = id.parse().unwrap();
        app.broker.web_requests().store(session, Arc::new((1..=601).map(record).collect())).await.unwrap();
        let path = format!("/api/sessions/{id}/requests");
        assert_eq!(member.get(&path).await.status, 403, "its own user neither");
        let page = security.get(&format!("{path}?limit=2")).await.json();
        let first = json!({"seq": 601, "time": "2026-03-05T14:30:00.000Z", "method": "GET", "path": "/Wiki/100%_601", "status": 300, "bytes_in": 601, "bytes_out": 5,
            "duration_ms": 7, "ended": "done"});
        assert_eq!((&page["requests"][0], &page["requests"][1]["seq"], &page["next_cursor"]), (&first, &json!(600), &json!("600")));
        let next = security.get(&format!("{path}?limit=1&cursor=600")).await.json();
        assert_eq!(next["requests"][0]["seq"], 599);
        for (query, seqs) in [
            ("path=wiki/100%25_60&limit=3", vec![601, 600, 60]),
            ("path=100__1", vec![]),
            ("method=post&path=_2&status=4xx&limit=1", vec![298]),
            ("status=none", vec![3]),
            ("ended=failed&method=GET", vec![3]),
            ("status=300&limit=1", vec![601]),
        ] {
            let page = security.get(&format!("{path}?{query}")).await;
            assert_eq!(page.status, 200, "{query}: {}", page.body);
            let found: Vec<_> = page.json()["requests"].as_array().unwrap().iter().map(|r| r["seq"].as_i64().unwrap()).collect();
            assert_eq!(found, seqs, "{query}");
        }
        for bad in ["status=9xx", "ended=x", "limit=0", "cursor=x", "format=pdf"] {
            assert_eq!(security.get(&format!("{path}?{bad}")).await.status, 422, "{bad}");
            // `format` is read with the request itself, before anybody is asked.
            let (status, refused) = (member.get(&format!("{path}?{bad}")).await.status, if bad.starts_with("format") { 422 } else { 403 });
            assert_eq!(status, refused, "{bad}");
        }
        let file = security.get(&format!("{path}?format=csv")).await;
        assert_eq!((file.status, file.header("content-type")), (200, "text/csv; charset=utf-8"));
        let lines: Vec<&str> = file.body.lines().collect();
        assert_eq!((lines.len(), lines[0]), (602, "seq,time,method,path,status,bytes_in,bytes_out,duration_ms,ended"));
        assert_eq!(lines[601], r#"1,2026-03-05T14:30:00.000Z,"GET","/Wiki/100%_1",300,1,5,7,done"#);
        assert_eq!(member.get(&format!("{path}?format=csv")).await.status, 403);
    }
}
