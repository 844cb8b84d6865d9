//! On which host a desktop starts: where there is a place, and where it works.

use super::fixture::*;
use super::servers::{new_workspace, service};
use crate::support::fake_fleet::Plan;
use portcullis::broker::Settings;
use portcullis::broker::model::*;
use portcullis::domain::session::Session;
use portcullis::domain::user::Role;
use portcullis::domain::workspace::{WorkspaceKind, WorkspaceStatus};
use portcullis::domain::{Clock, ErrorKind, HostId, WorkspaceId};
use std::time::Duration;

/// The fixture's host has no session, and a second one has one: the first is chosen next.
async fn two_hosts(fixture: &BrokerFixture, ws: &WorkspaceId) -> (HostId, HostId) {
    let second = fixture.add_host("host-2", 2).await;
    fixture.fleet.disconnect(fixture.host);
    let other = fixture.caller("other", Role::Member).await;
    assert_eq!(fixture.launch(&other, ws).await.host_id, Some(second));
    fixture.fleet.connect(fixture.host);
    (fixture.host, second)
}

async fn view(fixture: &BrokerFixture, host: HostId) -> HostView {
    let all = fixture.broker.hosts().list(&origin(), &fixture.system).await.unwrap();
    all.into_iter().find(|view| view.host.id == host).unwrap()
}

async fn end(fixture: &BrokerFixture, caller: &Caller, session: &Session) {
    fixture.broker.sessions().disconnect(&origin(), caller, session.id).await.unwrap();
}

on_both! {
    async fn a_hosts_own_failure_is_tried_on_the_next_host(db) {
        let settings = Settings { launch_timeout: Duration::from_secs(6), ..settings() };
        let fixture = BrokerFixture::with(&db, settings).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let (bad, good) = two_hosts(&fixture, &ws).await;
        for (n, (plan, reason)) in [
            (Plan::Break, "host_failed"), (Plan::Full, "host_full"), (Plan::Fail, "failed"), (Plan::Hang, "timeout"),
        ].into_iter().enumerate() {
            // What failed before is forgiven by now.
            fixture.clock.advance(Duration::from_secs(3600));
            let ann = fixture.caller(&format!("ann-{n}"), Role::Member).await;
            fixture.fleet.plan_start_on(bad, plan);
            let asked = fixture.fleet.starts_asked(bad);
            let (session, log) = fixture.audited_during(fixture.launch(&ann, &ws)).await;
            assert_eq!(session.host_id, Some(good), "{plan:?}");
            assert_eq!(log, [
                "create_session success -".to_owned(), format!("launch_workspace error {reason}"), "close_session error launch_failed".into(),
                "create_session success -".into(), "launch_workspace success -".into(),
            ], "{plan:?}");
            let tried = fixture.audit_log().await.into_iter().rfind(|e| e.action == "launch_workspace" && e.reason.as_deref() == Some(reason)).unwrap();
            assert_eq!((&tried.details["host_id"], &tried.details["another_host_tried"]), (&bad.to_string().into(), &true.into()));
            let failure = view(&fixture, bad).await.failure.unwrap();
            assert_eq!((failure.reason.as_str(), failure.at), (reason, fixture.clock.now()), "{plan:?}");
            assert_eq!(view(&fixture, good).await.failure, None);
            // It is not chosen first again, though it has no session.
            let bob = fixture.caller(&format!("bob-{n}"), Role::Member).await;
            let next = fixture.launch(&bob, &ws).await;
            assert_eq!((next.host_id, fixture.fleet.starts_asked(bad)), (Some(good), asked + 1), "{plan:?}");
            end(&fixture, &ann, &session).await;
            end(&fixture, &bob, &next).await;
        }
        // Later it is tried again, and a success clears it.
        fixture.clock.advance(Duration::from_secs(3600));
        assert!(view(&fixture, bad).await.failure.is_some(), "still shown");
        fixture.fleet.plan_start_on(bad, Plan::Work);
        let cid = fixture.caller("cid", Role::Member).await;
        assert_eq!(fixture.launch(&cid, &ws).await.host_id, Some(bad));
        assert_eq!(view(&fixture, bad).await.failure, None);
        fixture.assert_chain_valid().await;
    }

    async fn the_last_failure_is_reported_when_every_host_fails(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let (first, second) = two_hosts(&fixture, &ws).await;
        fixture.fleet.plan_start_on(first, Plan::Break);
        fixture.fleet.plan_start_on(second, Plan::Full);
        let ann = fixture.caller("ann", Role::Member).await;
        let refused = fixture.broker.launcher().launch(&origin(), &ann, &ws).await.unwrap_err();
        assert!(refused.kind == ErrorKind::Unavailable && refused.message.contains("full"), "{refused}");
        assert!(!refused.message.contains("host-"), "a user is not told the hosts' names");
        assert_eq!((fixture.fleet.starts_asked(first), fixture.fleet.starts_asked(second)), (1, 2));
        assert_eq!(fixture.live_sessions().await.len(), 1, "nothing of it is left");
    }

    async fn a_refusal_of_the_workspace_is_tried_nowhere_else(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let (first, second) = two_hosts(&fixture, &ws).await;
        fixture.fleet.plan_start_on(first, Plan::Refuse);
        let ann = fixture.caller("ann", Role::Member).await;
        assert_eq!(error_kind(fixture.broker.launcher().launch(&origin(), &ann, &ws).await), ErrorKind::Unavailable);
        assert_eq!((fixture.fleet.starts_asked(first), fixture.fleet.starts_asked(second)), (1, 1));
        assert_eq!(view(&fixture, first).await.failure, None);
    }

    async fn a_drained_host_takes_no_new_session_and_keeps_its_own(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let desk = new_workspace(WorkspaceKind::Vnc, service(fixture.host, "desk"));
        let desk = fixture.broker.workspaces().create(&origin(), &root, desk).await.unwrap().workspace.id;
        let session = fixture.launch(&ann, &ws).await;
        let hosts = fixture.broker.hosts();
        let (drained, log) = fixture.audited_during(hosts.set_drained(&origin(), &root, fixture.host, true)).await;
        assert_eq!((drained.unwrap().host.drained_at, log), (Some(fixture.clock.now()), vec!["drain_host success -".to_owned()]));
        let (again, log) = fixture.audited_during(hosts.set_drained(&origin(), &root, fixture.host, true)).await;
        assert!(again.is_ok() && log.is_empty(), "nothing changed: {log:?}");
        // Its session goes on, also for its user's next launch.
        assert_eq!(fixture.launch(&ann, &ws).await.id, session.id);
        let bob = fixture.caller("bob", Role::Member).await;
        for ws in [&ws, &desk] {
            assert_eq!(fixture.broker.workspaces().get(&bob, ws).await.unwrap().status, WorkspaceStatus::Offline);
            let (refused, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &bob, ws)).await;
            assert_eq!((error_kind(refused), log), (ErrorKind::Unavailable, vec!["launch_workspace error host_drained".to_owned()]), "{ws}");
        }
        // Another host takes what it does not.
        let second = fixture.add_host("host-2", 2).await;
        assert_eq!(fixture.launch(&bob, &ws).await.host_id, Some(second));
        let (back, log) = fixture.audited_during(hosts.set_drained(&origin(), &root, fixture.host, false)).await;
        assert_eq!((back.unwrap().host.drained_at, log), (None, vec!["undrain_host success -".to_owned()]));
        let cid = fixture.caller("cid", Role::Member).await;
        assert!(fixture.broker.launcher().launch(&origin(), &cid, &desk).await.is_ok());
        for (caller, expected) in [(&ann, ErrorKind::Forbidden), (&root, ErrorKind::NotFound)] {
            let id = if expected == ErrorKind::NotFound { HostId::new() } else { fixture.host };
            assert_eq!(error_kind(hosts.set_drained(&origin(), caller, id, true).await), expected);
        }
    }

    async fn of_two_launches_at_once_one_gets_the_last_place(db) {
        let fixture = BrokerFixture::new(&db).await;
        let root = fixture.caller("root", Role::Admin).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let desk = new_workspace(WorkspaceKind::Vnc, service(fixture.host, "desk"));
        let desk = fixture.broker.workspaces().create(&origin(), &root, desk).await.unwrap().workspace.id;
        let offers = HostCapabilities {
            kinds: vec![WorkspaceKind::Linux],
            service_kinds: vec![WorkspaceKind::Vnc],
            services: vec![("desk".into(), true)],
            slots: Some(HostSlots { desktops: 1, services: 1 }),
            ..HostCapabilities::default()
        };
        fixture.fleet.set_offers(fixture.host, offers);
        for round in 0..10 {
            let from = origin();
            let launcher = fixture.broker.launcher();
            let (a, b) = tokio::join!(launcher.launch(&from, &ann, &ws), launcher.launch(&from, &bob, &ws));
            let (winner, won, lost) = match (a, b) {
                (Ok(won), Err(lost)) => (&ann, won, lost),
                (Err(lost), Ok(won)) => (&bob, won, lost),
                other => panic!("round {round}: {other:?}"),
            };
            assert!(lost.kind == ErrorKind::Unavailable && lost.message.contains("full"), "{lost}");
            // A session on a service takes no desktop's place, and has a limit of its own.
            let served = fixture.launch(&ann, &desk).await;
            assert_eq!(error_kind(launcher.launch(&from, &bob, &desk).await), ErrorKind::Unavailable);
            assert_eq!(view(&fixture, fixture.host).await.used, HostSlots { desktops: 1, services: 1 });
            end(&fixture, winner, &won.session.session).await;
            end(&fixture, &ann, &served).await;
            assert_eq!(view(&fixture, fixture.host).await.used, HostSlots::default());
        }
        let full = fixture.audit_log().await.iter().filter(|e| entry_summary(e) == "launch_workspace error host_full").count();
        assert_eq!(full, 20);
        // One that is full is skipped, not asked.
        let second = fixture.add_host("host-2", 2).await;
        fixture.fleet.set_offers(second, HostCapabilities { kinds: vec![WorkspaceKind::Linux], slots: Some(HostSlots { desktops: 0, services: 0 }), ..HostCapabilities::default() });
        assert_eq!(fixture.launch(&ann, &ws).await.host_id, Some(fixture.host));
        let asked = fixture.fleet.starts_asked(fixture.host);
        assert_eq!(error_kind(fixture.broker.launcher().launch(&origin(), &bob, &ws).await), ErrorKind::Unavailable);
        assert_eq!((fixture.fleet.starts_asked(fixture.host), fixture.fleet.starts_asked(second)), (asked, 0));
    }

    async fn a_desktop_that_does_not_answer_can_be_replaced(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let dead = fixture.launch(&ann, &ws).await;
        let launcher = fixture.broker.launcher();
        // While it answers it is not replaced.
        let again = launcher.replace(&origin(), &ann, &ws).await.unwrap();
        assert_eq!((again.session.session.id, again.replacement), (dead.id, None));
        // Its host falls silent, and no other could take a desktop: nothing is offered, nothing ends.
        fixture.fleet.disconnect(fixture.host);
        let resumed = launcher.replace(&origin(), &ann, &ws).await.unwrap();
        assert_eq!((resumed.session.session.id, resumed.replacement), (dead.id, None));
        // Another host could: a launch says so, and asks.
        let second = fixture.add_host("host-2", 2).await;
        let offered = launcher.launch(&origin(), &ann, &ws).await.unwrap();
        assert_eq!((offered.session.session.id, offered.session.tunnel_state()), (dead.id, TunnelState::Stale));
        assert_eq!(offered.replacement, Some(Replacement { on_another_host: true }));
        let (replaced, log) = fixture.audited_during(launcher.replace(&origin(), &ann, &ws)).await;
        let replaced = replaced.unwrap();
        assert_eq!((replaced.session.session.host_id, replaced.replacement), (Some(second), None));
        assert_eq!(log, [
            "disconnect_session success user_disconnected", "close_session success user_disconnected",
            "create_session success -", "launch_workspace success -",
        ]);
        assert!(fixture.fleet.was_cut(dead.id));
        // When the host is back, the old desktop is stopped there.
        fixture.fleet.connect(fixture.host);
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert!(fixture.fleet.desktops(fixture.host).is_empty());
    }
}
