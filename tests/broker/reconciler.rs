//! What nobody looked after is ended; and a restarted gateway takes up what it had.

use super::fixture::*;
use crate::support::fake_fleet::{FakeFleet, Plan};
use portcullis::broker::views::*;
use portcullis::broker::{Broker, Settings};
use portcullis::domain::session::{EndReason, Session, State};
use portcullis::domain::user::{Caller, Role};
use portcullis::domain::{SessionId, WorkspaceId};
use std::time::Duration;

async fn running(world: &BrokerFixture) -> (Caller, WorkspaceId, Session) {
    let ws = world
        .workspace(
            "ws-a",
            WorkspaceChange { single_seat: Some(true), ..WorkspaceChange::default() },
        )
        .await;
    let ann = world.caller("ann", Role::Member).await;
    let session = world.launch(&ann, &ws).await;
    (ann, ws, session)
}

on_both! {
    async fn sessions_expire(db) {
        let world = BrokerFixture::new(&db).await;
        let (ann, _, session) = running(&world).await;
        let mut stream = world.open_stream(&ann, session.id).await;
        world.clock.advance(Duration::from_secs(12 * 3600 - 1));
        world.broker.reconcile_once().await.unwrap();
        assert_eq!(world.stored_session(session.id).await.state, State::Active);
        world.clock.advance(Duration::from_secs(1));
        let ((), log) = world.audited_during(async { world.broker.reconcile_once().await.unwrap() }).await;
        assert_eq!(wait_revoked(&mut stream).await, session_ended(EndReason::Expired));
        assert_eq!(log, ["expire_session success expired", "close_session success expired"]);
        world.assert_empty().await;
    }

    async fn interrupted_launches_end(db) {
        let world = BrokerFixture::new(&db).await;
        let ws = world.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = world.caller("ann", Role::Member).await;
        // A gateway that is killed in the middle of a launch: its task never gets any further.
        let (killed, fleet) = world.second_process(Settings { launch_timeout: Duration::from_secs(3600), ..settings() });
        fleet.connect(world.host);
        fleet.plan_start(Plan::Hang);
        let caller = ann.clone();
        let task = tokio::spawn(async move { killed.launch(&origin(), &caller, &ws).await });
        fleet.wait_for_starts(1).await;
        let session = world.live_sessions().await.remove(0);
        world.fleet.add_desktop(world.host, session.id);
        world.clock.advance(Duration::from_secs(25));
        world.broker.reconcile_once().await.unwrap();
        assert_eq!(world.stored_session(session.id).await.state, State::Creating, "it may still come");
        assert!(world.fleet.desktops(world.host).contains(&session.id), "so its desktop is not an orphan");
        world.clock.advance(Duration::from_secs(1));
        let ((), log) = world.audited_during(async { world.broker.reconcile_once().await.unwrap() }).await;
        assert_eq!(log[0], "launch_workspace error launch_failed");
        assert_eq!(world.stored_session(session.id).await.state, State::Closed(EndReason::LaunchFailed));
        world.assert_empty().await;
        task.abort();
    }

    async fn launches_from_before_the_start_end_at_once(db) {
        let world = BrokerFixture::new(&db).await;
        let ws = world.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = world.caller("ann", Role::Member).await;
        let (killed, fleet) = world.second_process(settings());
        fleet.connect(world.host);
        fleet.plan_start(Plan::Hang);
        let caller = ann.clone();
        let task = tokio::spawn(async move { killed.launch(&origin(), &caller, &ws).await });
        fleet.wait_for_starts(1).await;
        task.abort();
        let session = world.live_sessions().await.remove(0);
        world.clock.advance(Duration::from_secs(1));
        // The next gateway knows that nobody will finish it: its user does not wait for a timeout.
        let (next, fleet) = world.second_process(settings());
        fleet.connect(world.host);
        next.start(&origin()).await.unwrap();
        next.reconcile_once().await.unwrap();
        assert_eq!(world.stored_session(session.id).await.state, State::Closed(EndReason::LaunchFailed));
    }

    async fn closings_nobody_finishes_are_finished(db) {
        let world = BrokerFixture::new(&db).await;
        let (_, ws, session) = running(&world).await;
        let (shell, _) = world.second_process(settings());
        shell.delete_workspace(&origin(), &world.system, &ws).await.unwrap();
        assert_eq!(world.stored_session(session.id).await.state, State::Closing(EndReason::WorkspaceRemoved));
        assert!(world.fleet.has_tunnel(session.id));
        world.broker.reconcile_once().await.unwrap();
        world.wait_for_session(session.id, |s| s.state == State::Closed(EndReason::WorkspaceRemoved)).await;
        world.assert_empty().await;
    }

    async fn a_host_that_stays_away_loses_its_sessions(db) {
        let world = BrokerFixture::new(&db).await;
        let (ann, _, session) = running(&world).await;
        let mut stream = world.open_stream(&ann, session.id).await;
        let ((), log) = world.audited_during(async { world.broker.reconcile_once().await.unwrap() }).await;
        assert_eq!(log, ["host_connected success -"]);
        let stored = world.store.read({ let id = world.host; move |tx| tx.host(id) }).await.unwrap().unwrap();
        assert_eq!(stored.endpoint, Some("127.0.0.1:4000".parse().unwrap()));
        world.fleet.disconnect(world.host);
        let ((), log) = world.audited_during(async { world.broker.reconcile_once().await.unwrap() }).await;
        assert_eq!(log, ["host_lost success -"]);
        world.clock.advance(Duration::from_secs(599));
        // It came back in time: the clock starts anew.
        world.fleet.connect(world.host);
        world.broker.reconcile_once().await.unwrap();
        world.fleet.disconnect(world.host);
        world.broker.reconcile_once().await.unwrap();
        world.clock.advance(Duration::from_secs(600));
        world.broker.reconcile_once().await.unwrap();
        assert_eq!(world.stored_session(session.id).await.state, State::Active);
        world.clock.advance(Duration::from_secs(1));
        world.broker.reconcile_once().await.unwrap();
        assert_eq!(wait_revoked(&mut stream).await, session_ended(EndReason::HostLost));
        assert_eq!(world.stored_session(session.id).await.state, State::Closed(EndReason::HostLost));
        // When it comes back with the desktop, the desktop goes.
        world.fleet.connect(world.host);
        world.broker.reconcile_once().await.unwrap();
        world.assert_empty().await;
    }

    async fn a_desktop_that_died_ends_its_session(db) {
        let world = BrokerFixture::new(&db).await;
        let (ann, ws, session) = running(&world).await;
        let mut stream = world.open_stream(&ann, session.id).await;
        world.broker.reconcile_once().await.unwrap();
        assert_eq!(world.stored_session(session.id).await.state, State::Active);
        world.fleet.lose_desktop(session.id);
        world.broker.reconcile_once().await.unwrap();
        assert_eq!(wait_revoked(&mut stream).await, session_ended(EndReason::HostLost));
        world.assert_empty().await;
        world.launch(&ann, &ws).await;
    }

    async fn desktops_nobody_leases_are_ended(db) {
        let world = BrokerFixture::new(&db).await;
        let (_, _, session) = running(&world).await;
        let orphan = SessionId::new();
        world.fleet.add_desktop(world.host, orphan);
        world.broker.reconcile_once().await.unwrap();
        assert_eq!(world.fleet.desktops(world.host), [session.id].into());
        assert!(world.fleet.was_cut(orphan) && !world.fleet.was_cut(session.id));
    }

    async fn a_restarted_gateway_takes_up_its_sessions(db) {
        let world = BrokerFixture::new(&db).await;
        let (ann, ws, session) = running(&world).await;
        let (key, host_key) = (world.fleet.tunnel_key(session.id).unwrap(), world.fleet.host_key(world.host).unwrap());
        let credential = world.open_stream(&ann, session.id).await.lease.upstream().credential.clone().unwrap().password;
        let fleet = FakeFleet::new();
        fleet.copy_desktops_from(&world.fleet);
        let store = db.reopen();
        let broker = Broker::new(store, world.vault.clone(), fleet.clone(), world.clock.clone(), settings());
        broker.start(&origin()).await.unwrap();
        assert_eq!(fleet.restored(), [session.id]);
        assert_eq!((fleet.tunnel_key(session.id), fleet.host_key(world.host)), (Some(key), Some(host_key)));
        fleet.connect(world.host);
        broker.reconcile_once().await.unwrap();
        let grant = broker.open_stream(&origin(), session.id, StreamProof::Caller(&ann)).await.unwrap();
        assert_eq!((&grant.lease.upstream().credential.as_ref().unwrap().password, grant.lease.port()), (&credential, 5900));
        let resumed = broker.launch(&origin(), &ann, &ws).await.unwrap();
        assert_eq!(resumed.session.session.id, session.id);
        assert_eq!(broker.gauges().sessions, 1);
        // Tokens signed before the restart are good after it.
        let tokens = world.sign_in("ann").await;
        assert!(broker.authenticate(&origin(), tokens.access_token.expose()).await.is_ok());
        broker.stop(&origin()).await.unwrap();
        let log = world.audit_log().await;
        assert!(log.iter().any(|e| e.action == "gateway_start" && e.details["sessions"] == 1));
        assert_eq!(entry_summary(log.last().unwrap()), "gateway_stop success -");
        world.assert_chain_valid().await;
    }

    async fn the_reaper_runs_when_a_host_comes_or_goes(db) {
        let world = BrokerFixture::new(&db).await;
        let (_, _, session) = running(&world).await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let broker = world.broker.clone();
        let task = tokio::spawn(async move { broker.maintain(stopped).await });
        world.fleet.lose_desktop(session.id);
        world.fleet.disconnect(world.host);
        world.fleet.connect(world.host);
        world.wait_for_session(session.id, |s| s.state == State::Closed(EndReason::HostLost)).await;
        stop.send(true).unwrap();
        task.await.unwrap();
    }
}
