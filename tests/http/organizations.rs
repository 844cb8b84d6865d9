//! Two organizations side by side share no listing and no audit entry, and neither learns which ids
//! and addresses the other one has.

use super::matrix::{request, table};
use crate::support::app::{TestApp, wireguard_key};
use crate::support::client::Client;
use portcullis::broker::model::{HostEnrollment, NewWorkspace, WorkspaceChange};
use portcullis::domain::principal::Principal;
use portcullis::domain::user::{RequestSource, Role};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{Clock as _, OrganizationId, WorkspaceId};
use portcullis::http::api::workspaces;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const WORKSPACE: &str = "ws-rival";

/// Everything another organization has that a route could name.
struct Rival {
    session: String,
    user: String,
    host: String,
    login: String,
    /// What must not appear in any response to somebody else.
    marks: Vec<String>,
}

impl Rival {
    async fn create(app: &mut TestApp) -> Self {
        let organization = OrganizationId::new();
        let now = app.clock.now();
        app.store()
            .write(move |tx| tx.insert_organization(organization, "Rival", now))
            .await
            .unwrap();
        app.add_user("rival-admin", organization, Role::Admin, true).await;
        app.add_user("rival-member", organization, Role::Member, true).await;
        let (source, system) = (
            RequestSource::local("test"),
            Principal::System { organization_id: Some(organization) },
        );
        let new = NewWorkspace {
            id: Some(WorkspaceId::parse(WORKSPACE).unwrap()),
            name: "Rival desk".to_owned(),
            description: String::new(),
            kind: WorkspaceKind::Linux,
            properties: WorkspaceChange { requires_mfa: Some(false), ..WorkspaceChange::default() },
        };
        app.broker.workspaces().create(&source, &system, new).await.unwrap();
        let token = app
            .broker
            .hosts()
            .create_join_token(&source, &system, None, Duration::from_secs(600))
            .await
            .unwrap();
        let enrollment = HostEnrollment {
            token: token.token,
            name: "rival-host".to_owned(),
            public_key: wireguard_key(),
            version: "0.1.0".to_owned(),
        };
        let host = app.broker.hosts().enroll(&source, enrollment).await.unwrap().host.id;
        app.fleet.connect(host);
        let member = app.signed_in("rival-member").await;
        let launched = member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await;
        assert_eq!(launched.status, 200, "{}", launched.body);
        let session = launched.json()["session_id"].as_str().unwrap().to_owned();
        let logins = member.get("/api/auth/logins").await.json();
        let text = logins.to_string();
        let login = logins
            .pointer("/0/id")
            .or_else(|| logins.pointer("/logins/0/id"))
            .unwrap_or_else(|| panic!("{text}"));
        let login = login.as_str().unwrap().to_owned();
        let (user, admin) = (app.user("rival-member").id, app.user("rival-admin").id);
        let mut marks = ["rival-member@", "rival-admin@", "Rival", "rival-host", WORKSPACE]
            .map(str::to_owned)
            .to_vec();
        marks.extend([session.clone(), host.to_string(), login.clone()]);
        marks.extend([user.to_string(), admin.to_string(), organization.to_string()]);
        Self { session, user: user.to_string(), host: host.to_string(), login, marks }
    }

    /// The id of this organization that a path takes.
    fn id_for(&self, path: &str) -> &str {
        match path {
            path if path.starts_with("/api/workspaces/") => WORKSPACE,
            path if path.contains("/sessions/") => &self.session,
            path if path.starts_with("/api/users/") => &self.user,
            path if path.starts_with("/api/hosts/") => &self.host,
            path if path.starts_with("/api/auth/logins/") => &self.login,
            other => panic!("{other}: say which id of another organization this path takes"),
        }
    }

    fn assert_absent(&self, body: &str, what: &str) {
        let found = self.marks.iter().find(|mark| body.contains(mark.as_str()));
        assert!(found.is_none(), "{what} shows {found:?} of another organization: {body}");
    }
}

on_both! {
    /// Every route with the ids of another organization answers as with unknown ids, and no listing
    /// shows anything of it.
    async fn organizations_times_routes(db) {
        let mut app = TestApp::start(db).await;
        let rival = Rival::create(&mut app).await;
        let roles = ["anonymous", "member", "admin", "security"];
        let callers = [app.anonymous(), app.signed_in("member").await, app.signed_in("admin").await, app.signed_in("security").await];
        let api = workspaces::api();
        let (mut by_id, mut listings) = (0, 0);
        // Listings first: later the log has the ids that they asked for themselves.
        let (first, second): (Vec<_>, Vec<_>) = table().into_iter().partition(|row| {
            let route = api.routes.iter().find(|r| r.operation_id == row.operation).unwrap();
            !route.path.contains("{id}")
        });
        for row in first.into_iter().chain(second) {
            let route = api.routes.iter().find(|r| r.operation_id == row.operation).unwrap();
            let has_id = route.path.contains("{id}");
            if !has_id && (route.method.as_str() != "GET" || route.operation_id == "events") {
                continue;
            }
            let path = if has_id { route.path.replace("{id}", rival.id_for(&route.path)) } else { route.path.to_string() };
            for ((caller, expected), role) in callers.iter().zip(row.expected).zip(roles) {
                let answer = request(caller, route, &path, &row).await;
                assert_eq!(answer.status, expected, "{role} {} {path}: {}", route.method, answer.body);
                if !has_id {
                    rival.assert_absent(&answer.body, &format!("{role} {path}"));
                }
            }
            by_id += usize::from(has_id);
            listings += usize::from(!has_id);
        }
        assert!(by_id > 15 && listings > 10, "{by_id} {listings}");

        // Nothing of the other organization was changed.
        let member = app.signed_in("rival-member").await;
        let session = member.get(&format!("/api/sessions/{}", rival.session)).await.json();
        assert_eq!(session["status"], "active", "{session}");
        let admin = app.signed_in("rival-admin").await;
        assert_eq!(admin.get(&format!("/api/workspaces/{WORKSPACE}")).await.json()["name"], "Rival desk");
        let logins = member.get("/api/auth/logins").await;
        assert!(logins.body.contains(&rival.login));
        // And it sees its own only.
        for path in ["/api/users", "/api/hosts", "/api/workspaces", "/api/admin/sessions", "/api/audit?limit=500", "/api/audit/export?format=jsonl"] {
            let answer = admin.get(path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            for foreign in ["member@example.test\"", "\"admin@example.test", "ws-linux", &app.host.to_string()] {
                let foreign = if foreign == "member@example.test\"" { "\"member@example.test" } else { foreign };
                assert!(!answer.body.contains(foreign), "{path} shows {foreign}: {}", answer.body);
            }
        }
    }

    /// What a caller does not see answers as what does not exist, and is written down as that: readers
    /// of the log of their own organization cannot tell either which ids exist.
    async fn hidden_ids_answer_and_are_logged_as_unknown_ones(db) {
        const HIDDEN: &str = "ws-hidden-here";
        let mut app = TestApp::start(db).await;
        let rival = Rival::create(&mut app).await;
        let admin = app.signed_in("admin").await;
        let hidden = json!({"id": HIDDEN, "name": "Hidden", "type": "linux", "allowed_roles": ["admin"]});
        assert_eq!(admin.post("/api/workspaces", hidden).await.status, 201);
        let callers = [("member", app.signed_in("member").await), ("security", app.signed_in("security").await), ("admin", admin.clone())];
        let api = workspaces::api();
        let mut pairs = Vec::new();
        for row in table() {
            let route = api.routes.iter().find(|r| r.operation_id == row.operation).unwrap();
            if !route.path.contains("{id}") {
                continue;
            }
            let of_workspace = route.path.starts_with("/api/workspaces/");
            let unknown = if of_workspace { "ws-unknown" } else { "00000000-0000-4000-8000-000000000000" };
            for (role, caller) in &callers {
                let role = *role;
                let mut existing = vec![rival.id_for(&route.path)];
                if of_workspace && role != "admin" {
                    existing.push(HIDDEN);
                }
                for id in existing {
                    let mut asked = Vec::new();
                    for id in [id, unknown] {
                        let answer = request(caller, route, &route.path.replace("{id}", id), &row).await;
                        let body = answer.body.replace(id, "ID");
                        asked.push((answer.status, body, answer.header("x-request-id").to_owned(), id.to_owned()));
                    }
                    let what = format!("{role} {} {} with {id}", route.method, route.path);
                    assert_eq!((asked[0].0, &asked[0].1), (asked[1].0, &asked[1].1), "{what}");
                    pairs.push((what, asked));
                }
            }
        }
        assert!(pairs.len() > 60, "{}", pairs.len());
        let log = app.audit_entries("").await;
        let written = |request: &str, id: &str| {
            let of_request = log.iter().filter(|entry| entry["request_id"] == request);
            let plain = of_request.map(|entry| {
                let mut entry = entry.as_object().unwrap().clone();
                entry.retain(|name, _| !["id", "seq", "time", "at", "hash", "previous_hash", "prev_hash", "request_id"].contains(&name.as_str()));
                Value::Object(entry).to_string().replace(id, "ID")
            });
            plain.collect::<Vec<_>>()
        };
        let mut denials = 0;
        for (what, asked) in &pairs {
            let [existing, unknown] = [0, 1].map(|n| written(&asked[n].2, &asked[n].3));
            assert_eq!(existing, unknown, "{what}");
            denials += existing.len();
        }
        assert!(denials > 50, "{denials}");
    }

    /// The id of another organization's workspace is free: each has its own, with its own seat,
    /// sessions and end. An address is one account's in the whole gateway, which nobody is told.
    async fn another_organizations_ids_and_addresses_are_not_revealed(db) {
        let mut app = TestApp::start(db).await;
        Rival::create(&mut app).await;
        let (admin, rival) = (app.signed_in("admin").await, app.signed_in("rival-admin").await);
        let single = json!({"single_seat": true});
        let path = format!("/api/workspaces/{WORKSPACE}");
        let patch = async |client: &Client, body: Value| {
            client.send(Method::PATCH, &path, Some(body.to_string().into_bytes())).await
        };
        assert_eq!(patch(&rival, single).await.status, 200);
        let body = json!({"id": WORKSPACE, "name": "Mine", "type": "linux", "requires_mfa": false, "single_seat": true});
        let made = admin.post("/api/workspaces", body.clone()).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let again = admin.post("/api/workspaces", body).await;
        assert_eq!(again.status, 409, "one's own is told: {}", again.body);
        // A name that another organization has used leads to the same id as any other name.
        let named = admin.post("/api/workspaces", json!({"name": "Rival", "type": "linux"})).await.json();
        assert_eq!(named["id"], "ws-rival-2", "after one's own ws-rival");
        let named = rival.post("/api/workspaces", json!({"name": "Mine", "type": "linux"})).await.json();
        assert_eq!(named["id"], "ws-mine");
        let named = admin.post("/api/workspaces", json!({"name": "Mine", "type": "linux"})).await.json();
        assert_eq!(named["id"], "ws-mine");

        assert_eq!((admin.get(&path).await.json()["name"].clone(), rival.get(&path).await.json()["name"].clone()), (json!("Mine"), json!("Rival desk")));
        // The rival's one seat is taken by its member; here it is free.
        let launched = admin.post(&format!("{path}/launch"), json!({})).await;
        assert_eq!(launched.status, 200, "{}", launched.body);
        assert_eq!(rival.post(&format!("{path}/launch"), json!({})).await.status, 409);
        let mine = launched.json()["session_id"].as_str().unwrap().to_owned();
        let member = app.signed_in("rival-member").await;
        let theirs = member.get("/api/sessions/active").await.json()[0]["id"].as_str().unwrap().to_owned();
        let status = async |client: &Client, id: &str| client.get(&format!("/api/sessions/{id}")).await.json()["status"].clone();
        // What ends one organization's sessions leaves the other's.
        assert_eq!(admin.post(&format!("{path}/stop"), json!({})).await.status, 200);
        assert_eq!((status(&admin, &mine).await == "active", status(&member, &theirs).await == "active"), (false, true));
        assert_eq!(patch(&admin, json!({"name": "Renamed"})).await.status, 200);
        assert_eq!(rival.get(&path).await.json()["name"], "Rival desk");
        assert_eq!(admin.send(Method::DELETE, &path, None).await.status, 200);
        assert_eq!((admin.get(&path).await.status, rival.get(&path).await.status), (404, 200));
        assert_eq!(status(&member, &theirs).await, "active");
        let log = admin.get(&format!("/api/audit?workspace_id={WORKSPACE}&limit=500")).await;
        assert!(!log.body.contains("rival-"), "{}", log.body);

        let user = |email: &str| json!({"email": email, "name": "Mine", "password": "a long enough passphrase 1", "role": "member"});
        let refused = admin.post("/api/users", user("RIVAL-member@example.test")).await;
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert!(!refused.body.contains("exist") && !refused.body.contains("already"), "{}", refused.body);
        let log = admin.get("/api/audit?action=create_user&outcome=denied").await.json();
        assert_eq!(log["entries"][0]["reason"], "email_unusable");
        let own = admin.post("/api/users", user("MEMBER@example.test")).await;
        assert_eq!(own.status, 409, "{}", own.body);
    }

    /// An entry of no organization is read by the operator of the gateway only.
    async fn entries_of_no_organization_are_the_operators(db) {
        let app = TestApp::start(db).await;
        app.anonymous().post("/api/auth/login", json!({"email": "nobody@example.test", "password": "x"})).await;
        let operator = app.audit_entries("action=login_failed").await;
        assert_eq!(operator.len(), 1);
        assert_eq!((&operator[0]["organization_id"], &operator[0]["actor"]["email"]), (&Value::Null, &json!("nobody@example.test")));
        for role in ["admin", "security"] {
            let reader = app.signed_in(role).await;
            for path in ["/api/audit?limit=500", "/api/audit?action=login_failed", "/api/audit/export?format=jsonl", "/api/audit/export?format=csv"] {
                let answer = reader.get(path).await;
                assert_eq!(answer.status, 200, "{path}");
                assert!(!answer.body.contains("nobody@example.test"), "{role} {path}: {}", answer.body);
            }
        }
    }
}
