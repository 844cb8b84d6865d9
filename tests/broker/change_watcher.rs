//! What another process does is noticed here.

use super::fixture::*;
use portcullis::broker::live::StreamAuthorization;
use portcullis::broker::views::*;
use portcullis::domain::session::{EndReason, State};
use portcullis::domain::user::Role;
use tokio::sync::watch;

on_both! {
    async fn disabled_from_the_command_line(db) {
        let world = BrokerFixture::new(&db).await;
        let ws = world.workspace("ws-a", WorkspaceChange { single_seat: Some(true), ..WorkspaceChange::default() }).await;
        let (ann, bob) = (world.caller("ann", Role::Member).await, world.caller("bob", Role::Member).await);
        let plain = world.workspace("ws-b", WorkspaceChange::default()).await;
        let (session, other) = (world.launch(&ann, &ws).await, world.launch(&bob, &plain).await);
        let (mut stream, mut unaffected) = (world.open_stream(&ann, session.id).await, world.open_stream(&bob, other.id).await);
        let (stop, stopped) = watch::channel(false);
        let broker = world.broker.clone();
        let running = tokio::spawn(async move { broker.maintain(stopped).await });
        let (shell, no_fleet) = world.second_process(settings());
        let caller = shell.system_caller().await.unwrap();
        let off = UserChange { disabled: Some(true), ..UserChange::default() };
        let ((), right) = tokio::join!(
            async {
                shell.update_user(&origin(), &caller, ann.user.id, off).await.unwrap();
            },
            wait_revoked(&mut stream)
        );
        assert_eq!(right, session_ended(EndReason::UserDisabled));
        let closed = world.wait_for_session(session.id, |s| !s.state.is_live()).await;
        assert_eq!(closed.state, State::Closed(EndReason::UserDisabled));
        assert!(!world.fleet.has_tunnel(session.id) && !world.fleet.desktops(world.host).contains(&session.id));
        assert!(no_fleet.stopped().is_empty(), "the command line has no hosts to ask");
        assert_eq!(*unaffected.authorization.borrow_and_update(), StreamAuthorization::Valid);
        // The seat is free.
        world.launch(&bob, &ws).await;
        // A login revoked elsewhere cuts its streams and leaves the desktop.
        shell.reset_mfa(&origin(), &caller, bob.user.id).await.unwrap();
        assert_eq!(wait_revoked(&mut unaffected).await, StreamAuthorization::SignedOut);
        assert!(world.fleet.has_tunnel(other.id));
        // And the one who was watching for changes is told to look.
        let entry = world.audit_log().await.into_iter().find(|e| e.action == "disable_user").unwrap();
        assert_eq!(entry.actor.role.as_deref(), Some("system"));
        stop.send(true).unwrap();
        running.await.unwrap();
        world.assert_chain_valid().await;
    }

    async fn everything_another_process_can_end(db) {
        let world = BrokerFixture::new(&db).await;
        let (stop, stopped) = watch::channel(false);
        let broker = world.broker.clone();
        let running = tokio::spawn(async move { broker.maintain(stopped).await });
        let (shell, _) = world.second_process(settings());
        let caller = shell.system_caller().await.unwrap();
        for (round, reason) in [EndReason::WorkspaceRemoved, EndReason::AdminStopped, EndReason::SignedOutByAdmin, EndReason::HostLost].into_iter().enumerate() {
            let ws = world.workspace(&format!("ws-{round}"), WorkspaceChange::default()).await;
            let ann = world.caller(&format!("ann{round}"), Role::Member).await;
            let session = world.launch(&ann, &ws).await;
            let mut stream = world.open_stream(&ann, session.id).await;
            match reason {
                EndReason::WorkspaceRemoved => shell.delete_workspace(&origin(), &caller, &ws).await.unwrap(),
                EndReason::AdminStopped => shell.terminate(&origin(), &caller, session.id).await.unwrap(),
                EndReason::SignedOutByAdmin => shell.sign_out_user(&origin(), &caller, ann.user.id).await.unwrap(),
                _ => shell.remove_host(&origin(), &caller, world.host).await.unwrap(),
            }
            assert_eq!(wait_revoked(&mut stream).await, session_ended(reason));
            world.wait_for_session(session.id, |s| s.state == State::Closed(reason)).await;
            assert!(!world.fleet.has_tunnel(session.id));
        }
        stop.send(true).unwrap();
        running.await.unwrap();
        world.assert_empty().await;
    }
}
