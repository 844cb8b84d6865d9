//! Web applications: who reads the requests, what a refusal writes, and what an assertion says.

use super::fixture::*;
use base64::Engine as _;
use portcullis::broker::model::{RefusedRequest, RequestQuery, WorkspaceChange};
use portcullis::domain::user::Role;
use portcullis::domain::web_app::{RequestOutcome, RequestRecord};
use portcullis::domain::{ErrorKind, SessionId, Timestamp};
use std::sync::Arc;
use std::time::Duration;

fn record(path: &str) -> RequestRecord {
    RequestRecord {
        at: Timestamp(1),
        method: "GET".into(),
        path: path.into(),
        status: 200,
        bytes_in: 0,
        bytes_out: 5,
        duration: Duration::from_millis(3),
        outcome: RequestOutcome::Completed,
    }
}

fn query(cursor: Option<&str>, limit: u32) -> RequestQuery {
    RequestQuery {
        cursor: cursor.map(str::to_owned),
        limit: Some(limit),
        ..RequestQuery::default()
    }
}

on_both! {
    async fn request_log_needs_audit_role(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ada = fixture.caller("ada", Role::Member).await;
        let eve = fixture.caller("eve", Role::Security).await;
        let workspace = fixture.workspace("ws-app", WorkspaceChange::default()).await;
        let session = fixture.launch(&ada, &workspace).await.id;
        fixture.broker.web_requests().store(session, Arc::new(vec![record("/a"), record("/b")])).await.unwrap();
        fixture.broker.web_requests().store(session, Arc::new(vec![record("/c")])).await.unwrap();
        for reader in [&eve, &fixture.system] {
            let page = fixture.broker.web_requests().list(&origin(), reader, session, query(None, 2)).await.unwrap();
            let paths: Vec<_> = page.items.iter().map(|(seq, r)| (*seq, r.path.as_str())).collect();
            assert_eq!(paths, [(3, "/c"), (2, "/b")]);
            let rest = fixture.broker.web_requests().list(&origin(), reader, session, query(page.next_cursor.as_deref(), 2)).await.unwrap();
            assert_eq!((rest.items.len(), rest.next_cursor), (1, None));
        }
        let ((), log) = fixture.audited_during(async {
            assert_eq!(error_kind(fixture.broker.web_requests().list(&origin(), &ada, session, RequestQuery::default()).await), ErrorKind::Forbidden);
            assert_eq!(error_kind(fixture.broker.web_requests().list(&origin(), &eve, SessionId::new(), RequestQuery::default()).await), ErrorKind::NotFound);
            assert_eq!(error_kind(fixture.broker.web_requests().list(&origin(), &eve, session, query(Some("x"), 2)).await), ErrorKind::Invalid);
            assert_eq!(error_kind(fixture.broker.web_requests().list(&origin(), &eve, session, query(None, 0)).await), ErrorKind::Invalid);
        }).await;
        assert_eq!(log, ["access_denied denied role", "access_denied denied unknown"]);
    }

    async fn refused_requests_are_audited(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ada = fixture.caller("ada", Role::Member).await;
        let workspace = fixture.workspace("ws-app", WorkspaceChange::default()).await;
        let session = fixture.launch(&ada, &workspace).await.id;
        let grant = fixture.open_stream(&ada, session).await;
        let refused = RefusedRequest { kind: "upload", method: "PUT".into(), path: "/x".repeat(600), bytes: 7, count: 2 };
        fixture.broker.stream_events().request_refused(&origin(), &grant.lease, grant.caller(), &refused).await.unwrap();
        let entry = fixture.audit_log().await.pop().unwrap();
        assert_eq!(entry_summary(&entry), "request_refused denied upload");
        assert_eq!(entry.session_id, Some(session.to_string()));
        assert_eq!(entry.actor.email.as_deref(), Some("ada@example.com"));
        assert_eq!(entry.details["path"].as_str().unwrap().len(), 512);
        assert_eq!((&entry.details["bytes"], &entry.details["count"]), (&7.into(), &2.into()));
        fixture.assert_chain_valid().await;
    }

    async fn assertion_is_bound_to_its_audience(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ada = fixture.caller("ada", Role::Member).await;
        let token = fixture.broker.web_requests().assert_identity(&ada, "wiki").await.unwrap();
        let part = |n: usize| {
            let text = token.expose().split('.').nth(n).unwrap().to_owned();
            serde_json::from_slice::<serde_json::Value>(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        let (head, claims) = (part(0), part(1));
        assert_eq!((&head["typ"], &head["alg"]), (&"portcullis-assertion+jwt".into(), &"EdDSA".into()));
        let jwks = fixture.broker.logins().jwks();
        assert_eq!(head["kid"], jwks["keys"][0]["kid"]);
        assert_eq!((&claims["aud"], &claims["email"]), (&"wiki".into(), &"ada@example.com".into()));
        assert_eq!(claims["groups"], serde_json::json!(["member"]));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
        assert_eq!(claims["sub"], ada.user.id.to_string());
        // It opens nothing here, and none can be made that would.
        assert_eq!(error_kind(fixture.broker.logins().authenticate(&origin(), token.expose()).await), ErrorKind::Unauthenticated);
        assert_eq!(error_kind(fixture.broker.web_requests().assert_identity(&ada, "portcullis-api").await), ErrorKind::Invalid);
    }
}
