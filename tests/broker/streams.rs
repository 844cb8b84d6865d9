//! Tickets and streams: one use, one session, one user; places are counted; what ends is cut.

use super::fixture::*;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::broker::model::*;
use portcullis::domain::session::EndReason;
use portcullis::domain::user::Role;
use portcullis::domain::{ErrorKind, SessionId};
use std::sync::atomic::Ordering;
use std::time::Duration;

on_both! {
    async fn ticket_opens_one_stream_of_its_session(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (a, b) = (fixture.workspace("ws-a", WorkspaceChange::default()).await, fixture.workspace("ws-b", WorkspaceChange::default()).await);
        let ann = fixture.caller("ann", Role::Member).await;
        let (one, two) = (fixture.launch(&ann, &a).await, fixture.launch(&ann, &b).await);
        let issue = || async { fixture.broker.streams().issue_ticket(&origin(), &ann, one.id).await.unwrap().ticket };
        let broker = &fixture.broker;
        let open = |id, ticket: &portcullis::domain::secret::SecretString| {
            let ticket = ticket.clone();
            async move { broker.streams().open(&origin(), id, StreamProof::Ticket(&ticket)).await }
        };
        let ticket = issue().await;
        let (grant, log) = fixture.audited_during(open(one.id, &ticket)).await;
        let grant = grant.unwrap();
        assert_eq!(log, ["open_stream success -"]);
        assert_eq!((grant.lease.session().id, grant.lease.address(), grant.lease.port()), (one.id, one.address, 5900));
        assert_eq!(grant.lease.upstream().credential.as_ref().unwrap().password.expose(), &format!("vnc-{}", one.id));
        let foreign = issue().await;
        let late = issue().await;
        for (id, ticket, reason) in [
            (one.id, &ticket, "used"),
            (two.id, &foreign, "foreign"),
            (SessionId::new(), &foreign, "foreign"),
            (one.id, &secret("tkt_made-up"), "unknown"),
            (one.id, &secret(""), "unknown"),
        ] {
            let (answer, log) = fixture.audited_during(open(id, ticket)).await;
            assert_eq!(error_kind(answer), ErrorKind::Unauthenticated, "{reason}");
            assert_eq!(log, [format!("ticket_refused denied {reason}")]);
        }
        // Tried elsewhere in vain, it is still good where it belongs.
        assert!(open(one.id, &foreign).await.is_ok());
        fixture.clock.advance(Duration::from_secs(30));
        let (answer, log) = fixture.audited_during(open(one.id, &late)).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Unauthenticated, vec!["ticket_refused denied expired".to_owned()]));
        let after = issue().await;
        fixture.broker.logins().logout(&origin(), &ann, false).await.unwrap();
        let (answer, log) = fixture.audited_during(open(one.id, &after)).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Unauthenticated, vec!["ticket_refused denied signed_out".to_owned()]));
        assert!(!serde_json::to_string(&fixture.audit_log().await).unwrap().contains("tkt_"));
    }

    async fn ticket_race_has_one_winner(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &ws).await;
        for _ in 0..10 {
            let ticket = fixture.broker.streams().issue_ticket(&origin(), &ann, session.id).await.unwrap().ticket;
            let from = origin();
            let open = || fixture.broker.streams().open(&from, session.id, StreamProof::Ticket(&ticket));
            let (a, b) = tokio::join!(open(), open());
            assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1);
        }
    }

    async fn sessions_of_others_are_not_found(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Admin).await);
        let session = fixture.launch(&ann, &ws).await;
        for id in [session.id, SessionId::new()] {
            let reason = if id == session.id { "not_theirs" } else { "unknown" };
            let expected = vec![format!("access_denied denied {reason}")];
            let (answer, log) = fixture.audited_during(fixture.broker.streams().issue_ticket(&origin(), &bob, id)).await;
            assert_eq!((error_kind(answer), log), (ErrorKind::NotFound, expected.clone()));
            let (answer, log) = fixture.audited_during(fixture.broker.streams().open(&origin(), id, StreamProof::Principal(&bob))).await;
            assert_eq!((error_kind(answer), log), (ErrorKind::NotFound, expected.clone()));
            let (answer, log) = fixture.audited_during(fixture.broker.sessions().get(&bob, id)).await;
            assert_eq!((error_kind(answer), log), (ErrorKind::NotFound, expected.clone()));
            let (answer, log) = fixture.audited_during(fixture.broker.sessions().disconnect(&origin(), &bob, id)).await;
            assert_eq!((error_kind(answer), log), (ErrorKind::NotFound, expected));
        }
        assert!(fixture.fleet.has_tunnel(session.id));
    }

    async fn stream_slots_are_limited_and_freed(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &ws).await;
        let mut open = Vec::new();
        for _ in 0..4 {
            open.push(fixture.open_stream(&ann, session.id).await);
        }
        let (answer, log) = fixture.audited_during(fixture.broker.streams().open(&origin(), session.id, StreamProof::Principal(&ann))).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Conflict, vec!["open_stream denied too_many_viewers".to_owned()]));
        assert_eq!(fixture.broker.sessions().get(&ann, session.id).await.unwrap().viewers, 4);
        assert_eq!(fixture.broker.health().gauges().streams, 4);
        let grant = open.pop().unwrap();
        grant.meters.up.fetch_add(5, Ordering::Relaxed);
        grant.meters.down.fetch_add(9, Ordering::Relaxed);
        grant.meters.record_rtt(Duration::from_millis(12));
        assert_eq!(fixture.broker.sessions().get(&ann, session.id).await.unwrap().browser_rtt, Some(Duration::from_millis(12)));
        fixture.clock.advance(Duration::from_millis(1500));
        fixture.broker.streams().close(&origin(), grant, "browser_closed").await.unwrap();
        let entry = fixture.audit_log().await.pop().unwrap();
        assert_eq!(entry_summary(&entry), "close_stream success browser_closed");
        assert_eq!(entry.actor.email.as_deref(), Some("ann@example.com"));
        assert_eq!((&entry.details["bytes_up"], &entry.details["bytes_down"], &entry.details["duration_ms"]), (&5.into(), &9.into(), &1500.into()));
        drop(open.pop());
        assert_eq!(fixture.broker.sessions().get(&ann, session.id).await.unwrap().viewers, 2);
        fixture.open_stream(&ann, session.id).await;
    }

    async fn ended_session_opens_no_stream(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &ws).await;
        let ticket = fixture.broker.streams().issue_ticket(&origin(), &ann, session.id).await.unwrap().ticket;
        fixture.broker.sessions().disconnect(&origin(), &ann, session.id).await.unwrap();
        for proof in [StreamProof::Ticket(&ticket), StreamProof::Principal(&ann)] {
            let (answer, log) = fixture.audited_during(fixture.broker.streams().open(&origin(), session.id, proof)).await;
            assert_eq!((error_kind(answer), log), (ErrorKind::Conflict, vec!["open_stream denied not_active".to_owned()]));
        }
        assert_eq!(error_kind(fixture.broker.streams().issue_ticket(&origin(), &ann, session.id).await), ErrorKind::Conflict);
        assert_eq!(fixture.broker.health().gauges().streams, 0, "a refused one holds no place");
    }

    async fn mfa_session_needs_mfa_login(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange { requires_mfa: Some(true), ..WorkspaceChange::default() }).await;
        let ann = fixture.user("ann", Role::Member).await;
        fixture.broker.totp().set(&origin(), &fixture.system, ann.id, &secret(SECRET)).await.unwrap();
        let strong = fixture.sign_in("ann").await.caller;
        let session = fixture.launch(&strong, &ws).await;
        assert_eq!(session.mfa, strong.mfa());
        assert!(session.mfa.is_some());
        fixture.open_stream(&strong, session.id).await;
        fixture.broker.users().reset_mfa(&origin(), &fixture.system, ann.id).await.unwrap();
        let weak = fixture.sign_in("ann").await.caller;
        assert!(weak.mfa().is_none());
        let (answer, log) = fixture.audited_during(fixture.broker.streams().issue_ticket(&origin(), &weak, session.id)).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Forbidden, vec!["issue_ticket denied mfa_required".to_owned()]));
        assert_eq!(error_kind(fixture.broker.streams().open(&origin(), session.id, StreamProof::Principal(&weak)).await), ErrorKind::Forbidden);
        assert_eq!(error_kind(fixture.broker.launcher().launch(&origin(), &weak, &ws).await), ErrorKind::Forbidden);
        fixture.broker.sessions().disconnect(&origin(), &weak, session.id).await.unwrap();
    }

    async fn stream_does_not_outlive_a_racing_end(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        for _ in 0..25 {
            let session = fixture.launch(&ann, &ws).await;
            let from = origin();
            let (opened, ()) = tokio::join!(fixture.broker.streams().open(&from, session.id, StreamProof::Principal(&ann)), async {
                fixture.broker.sessions().disconnect(&from, &ann, session.id).await.unwrap();
            });
            if let Ok(mut grant) = opened {
                assert_eq!(wait_revoked(&mut grant).await, StreamAuthorization::SessionEnded(EndReason::UserDisconnected));
            }
        }
        fixture.assert_empty().await;
    }
}
