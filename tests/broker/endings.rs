//! Every way a session ends: its streams learn why at once, its keys and desktop go, its seat is
//! free, and it is written down.

use super::fixture::*;
use crate::support::fake_fleet::Plan;
use futures_util::future::BoxFuture;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::broker::model::*;
use portcullis::domain::session::{EndReason, State};
use portcullis::domain::user::Role;
use portcullis::domain::{ErrorKind, SessionId, WorkspaceId};
use std::time::Instant;

struct Scene<'a> {
    fixture: &'a BrokerFixture,
    ann: Caller,
    admin: Caller,
    ws: WorkspaceId,
    session: SessionId,
}

type End = for<'a> fn(&'a Scene<'a>) -> BoxFuture<'a, ()>;

/// Who ends it how; why the stream says it ended; and what is logged for it.
const WAYS: [(EndReason, &str, End); 8] = [
    (EndReason::UserDisconnected, "disconnect_session", |s| {
        Box::pin(async {
            s.fixture.broker.sessions().disconnect(&origin(), &s.ann, s.session).await.unwrap()
        })
    }),
    (EndReason::WorkspaceStopped, "stop_workspace", |s| {
        Box::pin(async {
            assert_eq!(
                s.fixture.broker.workspaces().stop(&origin(), &s.ann, &s.ws).await.unwrap(),
                [s.session]
            )
        })
    }),
    (EndReason::AdminStopped, "stop_workspace", |s| {
        Box::pin(async {
            assert_eq!(
                s.fixture.broker.workspaces().stop(&origin(), &s.admin, &s.ws).await.unwrap(),
                [s.session]
            )
        })
    }),
    (EndReason::AdminStopped, "terminate_session", |s| {
        Box::pin(async {
            s.fixture.broker.sessions().terminate(&origin(), &s.admin, s.session).await.unwrap()
        })
    }),
    (EndReason::SignedOutByAdmin, "terminate_session", |s| {
        Box::pin(async {
            s.fixture.broker.users().sign_out(&origin(), &s.admin, s.ann.user.id).await.unwrap()
        })
    }),
    (EndReason::UserDisabled, "terminate_session", |s| {
        Box::pin(async {
            let off = UserChange { disabled: Some(true), ..UserChange::default() };
            assert!(
                s.fixture
                    .broker
                    .users()
                    .update(&origin(), &s.admin, s.ann.user.id, off)
                    .await
                    .unwrap()
                    .disabled
            );
        })
    }),
    (EndReason::WorkspaceRemoved, "terminate_session", |s| {
        Box::pin(async {
            s.fixture.broker.workspaces().delete(&origin(), &s.admin, &s.ws).await.unwrap()
        })
    }),
    (EndReason::HostLost, "terminate_session", |s| {
        Box::pin(async {
            s.fixture.broker.hosts().remove(&origin(), &s.admin, s.fixture.host).await.unwrap()
        })
    }),
];

on_both! {
    async fn every_end_revokes_at_once_with_reason(db) {
        let fixture = BrokerFixture::new(&db).await;
        let admin = fixture.caller("root", Role::Admin).await;
        for (round, (reason, action, end)) in WAYS.into_iter().enumerate() {
            let ws = fixture.workspace(&format!("ws-{round}"), WorkspaceChange { single_seat: Some(true), ..WorkspaceChange::default() }).await;
            let ann = fixture.caller(&format!("ann{round}"), Role::Member).await;
            let session = fixture.launch(&ann, &ws).await;
            let (mut one, mut two) = (fixture.open_stream(&ann, session.id).await, fixture.open_stream(&ann, session.id).await);
            let scene = Scene { fixture: &fixture, ann, admin: admin.clone(), ws, session: session.id };
            let began = Instant::now();
            let (((), first, second), log) = fixture.audited_during(async { tokio::join!(end(&scene), wait_revoked(&mut one), wait_revoked(&mut two)) }).await;
            assert!(began.elapsed() < REVOKE_TIMEOUT, "{reason}: {:?}", began.elapsed());
            assert_eq!((first, second), (session_ended(reason), session_ended(reason)));
            assert!(fixture.fleet.was_cut(session.id) && !fixture.fleet.has_tunnel(session.id), "{reason}");
            let stored = fixture.stored_session(session.id).await;
            assert_eq!(stored.state, State::Closed(reason));
            assert!(stored.ended_at.is_some());
            assert!(log.contains(&format!("{action} success {reason}")), "{reason}: {log:?}");
            assert!(log.contains(&format!("close_session success {reason}")), "{reason}: {log:?}");
            let again = fixture.broker.sessions().disconnect(&origin(), &scene.ann, session.id).await.unwrap_err();
            assert_eq!((again.kind, again.message.as_str()), (ErrorKind::Conflict, "Session is not active"));
            fixture.assert_empty().await;
        }
    }

    async fn disconnect_race_has_one_winner(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        for _ in 0..10 {
            let session = fixture.launch(&ann, &ws).await;
            let from = origin();
            let (a, b) = tokio::join!(fixture.broker.sessions().disconnect(&from, &ann, session.id), fixture.broker.sessions().disconnect(&from, &ann, session.id));
            let lost = match (a, b) {
                (Ok(()), Err(lost)) | (Err(lost), Ok(())) => lost,
                other => panic!("{other:?}"),
            };
            assert_eq!(lost.kind, ErrorKind::Conflict);
            assert_eq!(fixture.stored_session(session.id).await.state, State::Closed(EndReason::UserDisconnected));
        }
        fixture.assert_empty().await;
    }

    async fn unresponsive_host_does_not_block_the_end(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &ws).await;
        let mut stream = fixture.open_stream(&ann, session.id).await;
        fixture.fleet.plan_stop(Plan::Hang);
        let from = origin();
        let ending = async { fixture.broker.sessions().disconnect(&from, &ann, session.id).await.unwrap() };
        let began = Instant::now();
        let ((), right) = tokio::join!(ending, wait_revoked(&mut stream));
        assert_eq!(right, session_ended(EndReason::UserDisconnected));
        assert!(began.elapsed() < REVOKE_TIMEOUT, "the host never answers: {:?}", began.elapsed());
        assert_eq!(fixture.stored_session(session.id).await.state, State::Closed(EndReason::UserDisconnected));
        let last = fixture.audit_log().await.pop().unwrap();
        assert_eq!((last.action.as_str(), &last.details["desktop_stopped"]), ("close_session", &false.into()));
        assert!(fixture.fleet.desktops(fixture.host).contains(&session.id));
        // The reaper ends the desktop when the host answers again.
        fixture.fleet.plan_stop(Plan::Work);
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        fixture.assert_empty().await;
    }

    async fn launch_waits_for_closing_session(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &ws).await;
        fixture.fleet.plan_stop(Plan::Gate);
        let (broker, caller) = (fixture.broker.clone(), ann.clone());
        let ending = tokio::spawn(async move { broker.sessions().disconnect(&origin(), &caller, session.id).await });
        fixture.wait_for_session(session.id, |s| matches!(s.state, State::Closing(_))).await;
        let (broker, caller, id) = (fixture.broker.clone(), ann.clone(), ws.clone());
        let launching = tokio::spawn(async move { broker.launcher().launch(&origin(), &caller, &id).await });
        fixture.fleet.open_gate(1);
        ending.await.unwrap().unwrap();
        let next = launching.await.unwrap().unwrap().session.session;
        assert_ne!(next.id, session.id);
        assert_eq!(fixture.live_sessions().await.len(), 1);
    }

    async fn password_and_factor_changes_end_logins_only(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &ws).await;
        for change in [true, false] {
            let caller = if change { ann.clone() } else {
                match fixture.broker.passwords().sign_in(&origin(), None, "ann@example.com", &secret("another long password")).await.unwrap() {
                    SignIn::Done(tokens) => Caller::from(tokens.caller),
                    SignIn::MfaRequired { .. } => panic!(),
                }
            };
            let mut stream = fixture.open_stream(&caller, session.id).await;
            if change {
                let change = UserChange { password: Some(secret("another long password")), ..UserChange::default() };
                fixture.broker.users().update(&origin(), &fixture.system, ann.user.id, change).await.unwrap();
            } else {
                fixture.broker.users().reset_mfa(&origin(), &fixture.system, ann.user.id).await.unwrap();
            }
            assert_eq!(wait_revoked(&mut stream).await, StreamAuthorization::SignedOut);
            assert!(!fixture.login_alive(caller.login_id).await);
        }
        assert_eq!(fixture.stored_session(session.id).await.state, State::Active);
        assert!(fixture.fleet.has_tunnel(session.id));
    }
}
