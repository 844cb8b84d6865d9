//! What another process does is noticed here.

use super::fixture::*;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::broker::model::*;
use portcullis::domain::session::{EndReason, State};
use portcullis::domain::user::Role;
use tokio::sync::watch;

on_both! {
    async fn disabled_by_command_line(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange { single_seat: Some(true), ..WorkspaceChange::default() }).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        let plain = fixture.workspace("ws-b", WorkspaceChange::default()).await;
        let (session, other) = (fixture.launch(&ann, &ws).await, fixture.launch(&bob, &plain).await);
        let (mut stream, mut unaffected) = (fixture.open_stream(&ann, session.id).await, fixture.open_stream(&bob, other.id).await);
        let (stop, stopped) = watch::channel(false);
        let broker = fixture.broker.clone();
        let running = tokio::spawn(async move { broker.lifecycle().maintain(stopped).await });
        let (command_line, no_fleet) = fixture.second_process(settings());
        let caller = command_line.organizations().system_principal().await.unwrap();
        let off = UserChange { disabled: Some(true), ..UserChange::default() };
        let ((), right) = tokio::join!(
            async {
                command_line.users().update(&origin(), &caller, ann.user.id, off).await.unwrap();
            },
            wait_revoked(&mut stream)
        );
        assert_eq!(right, session_ended(EndReason::UserDisabled));
        let closed = fixture.wait_for_session(session.id, |s| !s.state.is_live()).await;
        assert_eq!(closed.state, State::Closed(EndReason::UserDisabled));
        assert!(!fixture.fleet.has_tunnel(session.id) && !fixture.fleet.desktops(fixture.host).contains(&session.id));
        assert!(no_fleet.stopped().is_empty(), "the command line has no hosts to ask");
        assert_eq!(*unaffected.authorization.borrow_and_update(), StreamAuthorization::Valid);
        // The seat is free.
        fixture.launch(&bob, &ws).await;
        // A login revoked elsewhere cuts its streams and leaves the desktop.
        command_line.users().reset_mfa(&origin(), &caller, bob.user.id).await.unwrap();
        assert_eq!(wait_revoked(&mut unaffected).await, StreamAuthorization::SignedOut);
        assert!(fixture.fleet.has_tunnel(other.id));
        // And the one who was watching for changes is told to look.
        let entry = fixture.audit_log().await.into_iter().find(|e| e.action == "disable_user").unwrap();
        assert_eq!(entry.actor.role.as_deref(), Some("system"));
        stop.send(true).unwrap();
        running.await.unwrap();
        fixture.assert_chain_valid().await;
    }

    async fn ends_by_another_process(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (stop, stopped) = watch::channel(false);
        let broker = fixture.broker.clone();
        let running = tokio::spawn(async move { broker.lifecycle().maintain(stopped).await });
        let (command_line, _) = fixture.second_process(settings());
        let caller = command_line.organizations().system_principal().await.unwrap();
        for (round, reason) in [EndReason::WorkspaceRemoved, EndReason::AdminStopped, EndReason::SignedOutByAdmin, EndReason::HostLost].into_iter().enumerate() {
            let ws = fixture.workspace(&format!("ws-{round}"), WorkspaceChange::default()).await;
            let ann = fixture.caller(&format!("ann{round}"), Role::Member).await;
            let session = fixture.launch(&ann, &ws).await;
            let mut stream = fixture.open_stream(&ann, session.id).await;
            match reason {
                EndReason::WorkspaceRemoved => command_line.workspaces().delete(&origin(), &caller, &ws).await.unwrap(),
                EndReason::AdminStopped => command_line.sessions().terminate(&origin(), &caller, session.id).await.unwrap(),
                EndReason::SignedOutByAdmin => command_line.users().sign_out(&origin(), &caller, ann.user.id).await.unwrap(),
                _ => command_line.hosts().remove(&origin(), &caller, fixture.host).await.unwrap(),
            }
            assert_eq!(wait_revoked(&mut stream).await, session_ended(reason));
            fixture.wait_for_session(session.id, |s| s.state == State::Closed(reason)).await;
            assert!(!fixture.fleet.has_tunnel(session.id));
        }
        stop.send(true).unwrap();
        running.await.unwrap();
        fixture.assert_empty().await;
    }
}
