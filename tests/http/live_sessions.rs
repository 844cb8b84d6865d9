//! The list of everybody's live sessions: whole, however long.

use crate::support::app::TestApp;
use portcullis::domain::principal::PrincipalId;
use portcullis::domain::session::{Session, State};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{Clock as _, OrganizationId, SessionId, UserId, WorkspaceId};
use serde_json::Value;
use std::time::Duration;

fn session(organization_id: OrganizationId, user: UserId, n: u32, app: &TestApp) -> Session {
    let now = app.clock.now();
    Session {
        id: SessionId::new(),
        organization_id,
        principal: PrincipalId::User(user),
        principal_name: "member@example.test".to_owned(),
        login_id: None,
        workspace_id: WorkspaceId::parse(&format!("ws-{n}")).unwrap(),
        workspace_name: "Desk".to_owned(),
        workspace_kind: WorkspaceKind::Linux,
        host_id: None,
        route: Default::default(),
        state: State::Active,
        address: std::net::Ipv4Addr::from(0x0a41_0000 + n).into(),
        mfa: None,
        peer_public_key: None,
        // Three of each millisecond, so that pages end between them.
        created_at: now.after(Duration::from_millis(u64::from(n / 3))),
        started_at: Some(now),
        ended_at: None,
        expires_at: now.after(Duration::from_secs(3600)),
        version: 1,
    }
}

on_both! {
    async fn a_list_of_several_pages_is_one_array(db) {
        let app = TestApp::start(db).await;
        let admin = app.signed_in("admin").await;
        let organization: OrganizationId = admin.get("/api/auth/me").await.json()["organization_id"].as_str().unwrap().parse().unwrap();
        let mut expected: Vec<(i64, String)> = Vec::new();
        // As many as a page, then a page more, then one more.
        for many in [500, 500, 1] {
            let from = u32::try_from(expected.len()).unwrap();
            let sessions: Vec<Session> = (from..from + many).map(|n| session(organization, app.user("member").id, n, &app)).collect();
            expected.extend(sessions.iter().map(|s| (s.created_at.0, s.id.to_string())));
            app.store().write(move |tx| sessions.iter().try_for_each(|session| tx.insert_session(session, None))).await.unwrap();
            let listed = admin.get("/api/admin/sessions").await;
            assert_eq!((listed.status, listed.header("content-type")), (200, "application/json"));
            let ids: Vec<String> = listed.json().as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect();
            expected.sort_by(|a, b| b.cmp(a));
            assert!(ids.iter().eq(expected.iter().map(|(_, id)| id)), "{} of {}, newest first", ids.len(), expected.len());
            assert!(listed.json()[0]["status"] == "active" && listed.json()[0]["policy"] == Value::Null);
        }
        assert_eq!(app.signed_in("member").await.get("/api/admin/sessions").await.status, 403);
    }
}
