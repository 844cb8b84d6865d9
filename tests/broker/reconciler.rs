//! What nobody looked after is ended; and a restarted gateway takes up what it had.

use super::fixture::*;
use crate::support::fake_fleet::{FakeFleet, Plan};
use portcullis::broker::model::*;
use portcullis::broker::{Broker, Settings};
use portcullis::domain::session::{EndReason, Session, State};
use portcullis::domain::user::Role;
use portcullis::domain::{Clock as _, SessionId, WorkspaceId};
use std::time::Duration;

async fn running(fixture: &BrokerFixture) -> (Caller, WorkspaceId, Session) {
    let ws = fixture
        .workspace(
            "ws-a",
            WorkspaceChange { single_seat: Some(true), ..WorkspaceChange::default() },
        )
        .await;
    let ann = fixture.caller("ann", Role::Member).await;
    let session = fixture.launch(&ann, &ws).await;
    (ann, ws, session)
}

on_both! {
    /// However many rows expired at once, one pass deletes them all.
    async fn a_pass_purges_everything_that_expired(db) {
        const ROWS: usize = 2_600;
        let fixture = BrokerFixture::new(&db).await;
        let organization = fixture.system.organization_id().unwrap();
        let (now, until) = (fixture.clock.now(), fixture.clock.now().after(Duration::from_secs(60)));
        fixture.store.write(move |tx| {
            (0..ROWS).try_for_each(|n| tx.insert_join_token(&format!("old-{n}"), organization, None, until, now))
        }).await.unwrap();
        fixture.clock.advance(Duration::from_secs(2 * 24 * 3600));
        fixture.broker.lifecycle().purge_once().await.unwrap();
        let later = fixture.clock.now();
        let left = fixture.store.write(move |tx| tx.purge(later)).await.unwrap();
        assert_eq!(left, 0, "what one pass left");
    }

    async fn expired_sessions_end(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (ann, _, session) = running(&fixture).await;
        let mut stream = fixture.open_stream(&ann, session.id).await;
        fixture.clock.advance(Duration::from_secs(12 * 3600 - 1));
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(fixture.stored_session(session.id).await.state, State::Active);
        fixture.clock.advance(Duration::from_secs(1));
        let ((), log) = fixture.audited_during(async { fixture.broker.lifecycle().reconcile_once().await.unwrap() }).await;
        assert_eq!(wait_revoked(&mut stream).await, session_ended(EndReason::Expired));
        assert_eq!(log, ["expire_session success expired", "close_session success expired"]);
        fixture.assert_empty().await;
    }

    async fn interrupted_launches_end(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        // A gateway that is killed in the middle of a launch: its task never gets any further.
        let (killed, fleet) = fixture.second_process(Settings { launch_timeout: Duration::from_secs(3600), ..settings() });
        fleet.connect(fixture.host);
        fleet.plan_start(Plan::Hang);
        let caller = ann.clone();
        let task = tokio::spawn(async move { killed.launcher().launch(&origin(), &caller, &ws).await });
        fleet.wait_for_starts(1).await;
        let session = fixture.live_sessions().await.remove(0);
        fixture.fleet.add_desktop(fixture.host, session.id);
        fixture.clock.advance(Duration::from_secs(25));
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(fixture.stored_session(session.id).await.state, State::Creating, "it may still come");
        assert!(fixture.fleet.desktops(fixture.host).contains(&session.id), "so its desktop is not an orphan");
        fixture.clock.advance(Duration::from_secs(1));
        let ((), log) = fixture.audited_during(async { fixture.broker.lifecycle().reconcile_once().await.unwrap() }).await;
        assert_eq!(log[0], "launch_workspace error launch_failed");
        assert_eq!(fixture.stored_session(session.id).await.state, State::Closed(EndReason::LaunchFailed));
        fixture.assert_empty().await;
        task.abort();
    }

    async fn launches_from_before_start_end_at_once(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let (killed, fleet) = fixture.second_process(settings());
        fleet.connect(fixture.host);
        fleet.plan_start(Plan::Hang);
        let caller = ann.clone();
        let task = tokio::spawn(async move { killed.launcher().launch(&origin(), &caller, &ws).await });
        fleet.wait_for_starts(1).await;
        task.abort();
        let session = fixture.live_sessions().await.remove(0);
        fixture.clock.advance(Duration::from_secs(1));
        // The next gateway knows that nobody will finish it: its user does not wait for a timeout.
        let (next, fleet) = fixture.second_process(settings());
        fleet.connect(fixture.host);
        next.lifecycle().start(&origin()).await.unwrap();
        next.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(fixture.stored_session(session.id).await.state, State::Closed(EndReason::LaunchFailed));
    }

    async fn abandoned_closing_sessions_are_completed(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (_, ws, session) = running(&fixture).await;
        let (command_line, _) = fixture.second_process(settings());
        command_line.workspaces().delete(&origin(), &fixture.system, &ws).await.unwrap();
        assert_eq!(fixture.stored_session(session.id).await.state, State::Closing(EndReason::WorkspaceRemoved));
        assert!(fixture.fleet.has_tunnel(session.id));
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        fixture.wait_for_session(session.id, |s| s.state == State::Closed(EndReason::WorkspaceRemoved)).await;
        fixture.assert_empty().await;
    }

    async fn host_away_beyond_grace_loses_its_sessions(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (ann, _, session) = running(&fixture).await;
        let mut stream = fixture.open_stream(&ann, session.id).await;
        let ((), log) = fixture.audited_during(async { fixture.broker.lifecycle().reconcile_once().await.unwrap() }).await;
        assert_eq!(log, ["host_connected success -"]);
        let stored = fixture.store.read({ let id = fixture.host; move |tx| tx.host(id) }).await.unwrap().unwrap();
        assert_eq!(stored.endpoint, Some("127.0.0.1:4000".parse().unwrap()));
        fixture.fleet.disconnect(fixture.host);
        let ((), log) = fixture.audited_during(async { fixture.broker.lifecycle().reconcile_once().await.unwrap() }).await;
        assert_eq!(log, ["host_lost success -"]);
        fixture.clock.advance(Duration::from_secs(599));
        // It came back in time: the clock starts anew.
        fixture.fleet.connect(fixture.host);
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        fixture.fleet.disconnect(fixture.host);
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        fixture.clock.advance(Duration::from_secs(600));
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(fixture.stored_session(session.id).await.state, State::Active);
        fixture.clock.advance(Duration::from_secs(1));
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(wait_revoked(&mut stream).await, session_ended(EndReason::HostLost));
        assert_eq!(fixture.stored_session(session.id).await.state, State::Closed(EndReason::HostLost));
        // When it comes back with the desktop, the desktop goes.
        fixture.fleet.connect(fixture.host);
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        fixture.assert_empty().await;
    }

    async fn dead_desktop_ends_its_session(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (ann, ws, session) = running(&fixture).await;
        let mut stream = fixture.open_stream(&ann, session.id).await;
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(fixture.stored_session(session.id).await.state, State::Active);
        fixture.fleet.lose_desktop(session.id);
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(wait_revoked(&mut stream).await, session_ended(EndReason::HostLost));
        fixture.assert_empty().await;
        fixture.launch(&ann, &ws).await;
    }

    async fn desktops_without_lease_are_stopped(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (_, _, session) = running(&fixture).await;
        let orphan = SessionId::new();
        fixture.fleet.add_desktop(fixture.host, orphan);
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(fixture.fleet.desktops(fixture.host), [session.id].into());
        assert!(fixture.fleet.was_cut(orphan) && !fixture.fleet.was_cut(session.id));
    }

    async fn restarted_gateway_restores_sessions(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (ann, ws, session) = running(&fixture).await;
        let (key, host_key) = (fixture.fleet.tunnel_key(session.id).unwrap(), fixture.fleet.host_key(fixture.host).unwrap());
        let credential = fixture.open_stream(&ann, session.id).await.lease.upstream().credential.clone().unwrap().password;
        let fleet = FakeFleet::new();
        fleet.copy_desktops_from(&fixture.fleet);
        let store = db.reopen();
        let broker = Broker::new(store, fixture.vault.clone(), fleet.clone(), fixture.clock.clone(), settings());
        broker.lifecycle().start(&origin()).await.unwrap();
        assert_eq!(fleet.restored(), [session.id]);
        assert_eq!((fleet.tunnel_key(session.id), fleet.host_key(fixture.host)), (Some(key), Some(host_key)));
        fleet.connect(fixture.host);
        broker.lifecycle().reconcile_once().await.unwrap();
        let grant = broker.streams().open(&origin(), session.id, StreamProof::Principal(&ann)).await.unwrap();
        assert_eq!((&grant.lease.upstream().credential.as_ref().unwrap().password, grant.lease.port()), (&credential, 5900));
        let resumed = broker.launcher().launch(&origin(), &ann, &ws).await.unwrap();
        assert_eq!(resumed.session.session.id, session.id);
        assert_eq!(broker.health().gauges().sessions, 1);
        // Tokens signed before the restart are good after it.
        let tokens = fixture.sign_in("ann").await;
        assert!(broker.logins().authenticate(&origin(), tokens.access_token.expose()).await.is_ok());
        broker.lifecycle().stop(&origin()).await.unwrap();
        let log = fixture.audit_log().await;
        assert!(log.iter().any(|e| e.action == "gateway_start" && e.details["sessions"] == 1));
        assert_eq!(entry_summary(log.last().unwrap()), "gateway_stop success -");
        fixture.assert_chain_valid().await;
    }

    async fn an_endpoint_that_no_pass_saw_is_stored_at_the_stop(db) {
        let fixture = BrokerFixture::new(&db).await;
        fixture.broker.lifecycle().stop(&origin()).await.unwrap();
        let hosts = fixture.store.read(|tx| tx.hosts(None)).await.unwrap();
        let (stored, _) = hosts.into_iter().find(|(stored, _)| stored.id == fixture.host).unwrap();
        assert_eq!(stored.endpoint, Some("127.0.0.1:4000".parse().unwrap()));
    }

    async fn reconciler_runs_when_hosts_change(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (_, _, session) = running(&fixture).await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let broker = fixture.broker.clone();
        let task = tokio::spawn(async move { broker.lifecycle().maintain(stopped).await });
        fixture.fleet.lose_desktop(session.id);
        fixture.fleet.disconnect(fixture.host);
        fixture.fleet.connect(fixture.host);
        fixture.wait_for_session(session.id, |s| s.state == State::Closed(EndReason::HostLost)).await;
        stop.send(true).unwrap();
        task.await.unwrap();
    }
}
