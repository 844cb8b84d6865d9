//! Two organizations side by side share no id, no address, no listing and no audit entry.

use super::matrix::{request, table};
use crate::support::app::{TestApp, wireguard_key};
use portcullis::broker::model::{HostEnrollment, NewWorkspace, WorkspaceChange};
use portcullis::domain::principal::Principal;
use portcullis::domain::user::{RequestSource, Role};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{Clock as _, OrganizationId, WorkspaceId};
use portcullis::http::api::workspaces;
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

    /// Ids and addresses are unique in the gateway, so that neither leads to two organizations.
    async fn ids_and_addresses_are_taken_once(db) {
        let mut app = TestApp::start(db).await;
        Rival::create(&mut app).await;
        let admin = app.signed_in("admin").await;
        let taken = admin.post("/api/workspaces", json!({"id": WORKSPACE, "name": "Mine", "type": "linux"})).await;
        assert_eq!(taken.status, 409, "{}", taken.body);
        let user = json!({"email": "RIVAL-member@example.test", "name": "Mine", "password": "a long enough passphrase 1", "role": "member"});
        assert_eq!(admin.post("/api/users", user).await.status, 409);
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
