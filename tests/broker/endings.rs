//! Every way a session ends: its streams learn why at once, its keys and desktop go, its seat is
//! free, and it is written down.

use super::fixture::*;
use crate::support::fake_fleet::Plan;
use futures_util::future::BoxFuture;
use portcullis::broker::live::StreamAuthorization;
use portcullis::broker::views::*;
use portcullis::domain::session::{EndReason, State};
use portcullis::domain::user::{Caller, Role};
use portcullis::domain::{ErrorKind, SessionId, WorkspaceId};
use std::time::Instant;

struct Scene<'a> {
    world: &'a BrokerFixture,
    ann: Caller,
    admin: Caller,
    ws: WorkspaceId,
    session: SessionId,
}

type End = for<'a> fn(&'a Scene<'a>) -> BoxFuture<'a, ()>;

/// Who ends it how; why the stream says it ended; and what is logged for it.
const WAYS: [(EndReason, &str, End); 8] = [
    (EndReason::UserDisconnected, "disconnect_session", |s| {
        Box::pin(async { s.world.broker.disconnect(&origin(), &s.ann, s.session).await.unwrap() })
    }),
    (EndReason::WorkspaceStopped, "stop_workspace", |s| {
        Box::pin(async {
            assert_eq!(
                s.world.broker.stop_workspace(&origin(), &s.ann, &s.ws).await.unwrap(),
                [s.session]
            )
        })
    }),
    (EndReason::AdminStopped, "stop_workspace", |s| {
        Box::pin(async {
            assert_eq!(
                s.world.broker.stop_workspace(&origin(), &s.admin, &s.ws).await.unwrap(),
                [s.session]
            )
        })
    }),
    (EndReason::AdminStopped, "terminate_session", |s| {
        Box::pin(async { s.world.broker.terminate(&origin(), &s.admin, s.session).await.unwrap() })
    }),
    (EndReason::SignedOutByAdmin, "terminate_session", |s| {
        Box::pin(async {
            s.world.broker.sign_out_user(&origin(), &s.admin, s.ann.user.id).await.unwrap()
        })
    }),
    (EndReason::UserDisabled, "terminate_session", |s| {
        Box::pin(async {
            let off = UserChange { disabled: Some(true), ..UserChange::default() };
            assert!(
                s.world
                    .broker
                    .update_user(&origin(), &s.admin, s.ann.user.id, off)
                    .await
                    .unwrap()
                    .disabled
            );
        })
    }),
    (EndReason::WorkspaceRemoved, "terminate_session", |s| {
        Box::pin(async {
            s.world.broker.delete_workspace(&origin(), &s.admin, &s.ws).await.unwrap()
        })
    }),
    (EndReason::HostLost, "terminate_session", |s| {
        Box::pin(async {
            s.world.broker.remove_host(&origin(), &s.admin, s.world.host).await.unwrap()
        })
    }),
];

on_both! {
    async fn every_way_cuts_at_once_and_says_why(db) {
        let world = BrokerFixture::new(&db).await;
        let admin = world.caller("root", Role::Admin).await;
        for (round, (reason, action, end)) in WAYS.into_iter().enumerate() {
            let ws = world.workspace(&format!("ws-{round}"), WorkspaceChange { single_seat: Some(true), ..WorkspaceChange::default() }).await;
            let ann = world.caller(&format!("ann{round}"), Role::Member).await;
            let session = world.launch(&ann, &ws).await;
            let (mut one, mut two) = (world.open_stream(&ann, session.id).await, world.open_stream(&ann, session.id).await);
            let scene = Scene { world: &world, ann, admin: admin.clone(), ws, session: session.id };
            let began = Instant::now();
            let (((), first, second), log) = world.audited_during(async { tokio::join!(end(&scene), wait_revoked(&mut one), wait_revoked(&mut two)) }).await;
            assert!(began.elapsed() < REVOKE_TIMEOUT, "{reason}: {:?}", began.elapsed());
            assert_eq!((first, second), (session_ended(reason), session_ended(reason)));
            assert!(world.fleet.was_cut(session.id) && !world.fleet.has_tunnel(session.id), "{reason}");
            let stored = world.stored_session(session.id).await;
            assert_eq!(stored.state, State::Closed(reason));
            assert!(stored.ended_at.is_some());
            assert!(log.contains(&format!("{action} success {reason}")), "{reason}: {log:?}");
            assert!(log.contains(&format!("close_session success {reason}")), "{reason}: {log:?}");
            let again = world.broker.disconnect(&origin(), &scene.ann, session.id).await.unwrap_err();
            assert_eq!((again.kind, again.message.as_str()), (ErrorKind::Conflict, "Session is not active"));
            world.assert_empty().await;
        }
    }

    async fn of_two_disconnects_one_succeeds(db) {
        let world = BrokerFixture::new(&db).await;
        let ws = world.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = world.caller("ann", Role::Member).await;
        for _ in 0..10 {
            let session = world.launch(&ann, &ws).await;
            let from = origin();
            let (a, b) = tokio::join!(world.broker.disconnect(&from, &ann, session.id), world.broker.disconnect(&from, &ann, session.id));
            let lost = match (a, b) {
                (Ok(()), Err(lost)) | (Err(lost), Ok(())) => lost,
                other => panic!("{other:?}"),
            };
            assert_eq!(lost.kind, ErrorKind::Conflict);
            assert_eq!(world.stored_session(session.id).await.state, State::Closed(EndReason::UserDisconnected));
        }
        world.assert_empty().await;
    }

    async fn a_host_that_does_not_answer_holds_nobody_up(db) {
        let world = BrokerFixture::new(&db).await;
        let ws = world.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = world.caller("ann", Role::Member).await;
        let session = world.launch(&ann, &ws).await;
        let mut stream = world.open_stream(&ann, session.id).await;
        world.fleet.plan_stop(Plan::Hang);
        let from = origin();
        let ending = async { world.broker.disconnect(&from, &ann, session.id).await.unwrap() };
        let began = Instant::now();
        let ((), right) = tokio::join!(ending, wait_revoked(&mut stream));
        assert_eq!(right, session_ended(EndReason::UserDisconnected));
        assert!(began.elapsed() < REVOKE_TIMEOUT, "the host never answers: {:?}", began.elapsed());
        assert_eq!(world.stored_session(session.id).await.state, State::Closed(EndReason::UserDisconnected));
        let last = world.audit_log().await.pop().unwrap();
        assert_eq!((last.action.as_str(), &last.details["desktop_stopped"]), ("close_session", &false.into()));
        assert!(world.fleet.desktops(world.host).contains(&session.id));
        // The reaper ends the desktop when the host answers again.
        world.fleet.plan_stop(Plan::Work);
        world.broker.reconcile_once().await.unwrap();
        world.assert_empty().await;
    }

    async fn a_launch_waits_for_the_session_that_is_closing(db) {
        let world = BrokerFixture::new(&db).await;
        let ws = world.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = world.caller("ann", Role::Member).await;
        let session = world.launch(&ann, &ws).await;
        world.fleet.plan_stop(Plan::Gate);
        let (broker, caller) = (world.broker.clone(), ann.clone());
        let ending = tokio::spawn(async move { broker.disconnect(&origin(), &caller, session.id).await });
        world.wait_for_session(session.id, |s| matches!(s.state, State::Closing(_))).await;
        let (broker, caller, id) = (world.broker.clone(), ann.clone(), ws.clone());
        let launching = tokio::spawn(async move { broker.launch(&origin(), &caller, &id).await });
        world.fleet.open_gate(1);
        ending.await.unwrap().unwrap();
        let next = launching.await.unwrap().unwrap().session.session;
        assert_ne!(next.id, session.id);
        assert_eq!(world.live_sessions().await.len(), 1);
    }

    async fn a_new_password_and_a_reset_factor_end_logins_but_no_desktop(db) {
        let world = BrokerFixture::new(&db).await;
        let ws = world.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = world.caller("ann", Role::Member).await;
        let session = world.launch(&ann, &ws).await;
        for change in [true, false] {
            let caller = if change { ann.clone() } else {
                match world.broker.login(&origin(), "ann@example.com", &secret("another long password")).await.unwrap() {
                    SignIn::Done(tokens) => tokens.caller,
                    SignIn::MfaRequired { .. } => panic!(),
                }
            };
            let mut stream = world.open_stream(&caller, session.id).await;
            if change {
                let change = UserChange { password: Some(secret("another long password")), ..UserChange::default() };
                world.broker.update_user(&origin(), &world.system, ann.user.id, change).await.unwrap();
            } else {
                world.broker.reset_mfa(&origin(), &world.system, ann.user.id).await.unwrap();
            }
            assert_eq!(wait_revoked(&mut stream).await, StreamAuthorization::SignedOut);
            assert!(!world.login_alive(caller.login_id).await);
        }
        assert_eq!(world.stored_session(session.id).await.state, State::Active);
        assert!(world.fleet.has_tunnel(session.id));
    }
}
