//! Launch: one desktop per user and workspace, one seat where there is one, and nothing left when
//! it fails.

use super::fixture::*;
use crate::support::fake_fleet::Plan;
use futures_util::future::join_all;
use portcullis::broker::Settings;
use portcullis::broker::model::TunnelState;
use portcullis::broker::model::*;
use portcullis::domain::session::{EndReason, State};
use portcullis::domain::user::Role;
use portcullis::domain::workspace::WorkspaceStatus;
use portcullis::domain::{ErrorKind, WorkspaceId};
use std::time::{Duration, Instant};

fn single() -> WorkspaceChange {
    WorkspaceChange { single_seat: Some(true), ..WorkspaceChange::default() }
}

on_both! {
    async fn second_launch_resumes(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        assert_eq!(fixture.broker.workspaces().get(&ann, &ws).await.unwrap().status, WorkspaceStatus::Available);
        let (launched, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &ws)).await;
        let launched = launched.unwrap();
        let session = launched.session.session.clone();
        assert_eq!(log, ["create_session success -", "launch_workspace success -"]);
        assert_eq!((session.state, session.mfa, session.host_id), (State::Active, None, Some(fixture.host)));
        assert_eq!(launched.session.tunnel_state(), TunnelState::Encrypted);
        assert_eq!(session.peer_public_key.as_deref(), Some("aG9zdA=="));
        assert_eq!(launched.max_duration, Duration::from_secs(12 * 3600));
        assert_eq!(launched.workspace.active_session_id, Some(session.id));
        let stored = fixture.stored_session(session.id).await;
        assert_eq!((stored.state, stored.peer_public_key.clone()), (State::Active, session.peer_public_key.clone()));
        let (again, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &ws)).await;
        assert_eq!(again.unwrap().session.session.id, session.id);
        assert_eq!(log, ["launch_workspace success resumed"]);
        assert_eq!(fixture.broker.workspaces().list(&ann).await.unwrap()[0].status, WorkspaceStatus::InUse);
        // Somebody else has a desktop of their own.
        let bob = fixture.caller("bob", Role::Member).await;
        assert_eq!(fixture.broker.workspaces().get(&bob, &ws).await.unwrap().status, WorkspaceStatus::Available);
        assert_ne!(fixture.launch(&bob, &ws).await.id, session.id);
        // No secret is in the log, nor open in the store.
        let lease = fixture.store.read(move |tx| tx.session_lease(session.id)).await.unwrap().unwrap();
        assert!(!format!("{lease:?}").contains("vnc-"));
        assert!(!serde_json::to_string(&fixture.audit_log().await).unwrap().contains("vnc-"));
    }

    async fn concurrent_launches_share_one_session(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        for _ in 0..5 {
            let all = join_all((0..6).map(|_| fixture.launch(&ann, &ws))).await;
            assert!(all.iter().all(|s| s.id == all[0].id && s.state == State::Active), "{all:?}");
            assert_eq!(fixture.live_sessions().await.len(), 1);
            fixture.broker.sessions().disconnect(&origin(), &ann, all[0].id).await.unwrap();
        }
        assert_eq!(fixture.fleet.started().len(), 5);
        fixture.assert_empty().await;
    }

    async fn seat_race_has_one_winner(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-one", single()).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        let mut wins = [0, 0];
        for round in 0..50 {
            let from = origin();
            let (a, b) = if round % 2 == 0 {
                tokio::join!(fixture.broker.launcher().launch(&from, &ann, &ws), fixture.broker.launcher().launch(&from, &bob, &ws))
            } else {
                let (b, a) = tokio::join!(fixture.broker.launcher().launch(&from, &bob, &ws), fixture.broker.launcher().launch(&from, &ann, &ws));
                (a, b)
            };
            let (winner, won, lost) = match (a, b) {
                (Ok(won), Err(lost)) => { wins[0] += 1; (&ann, won, lost) }
                (Err(lost), Ok(won)) => { wins[1] += 1; (&bob, won, lost) }
                other => panic!("round {round}: {other:?}"),
            };
            assert_eq!(lost.kind, ErrorKind::Conflict, "{lost:?}");
            assert_eq!(fixture.live_sessions().await.len(), 1);
            fixture.broker.workspaces().stop(&origin(), winner, &ws).await.unwrap();
            assert_eq!(won.session.session.state, State::Active);
        }
        assert_eq!(wins[0] + wins[1], 50);
        let denied = fixture.audit_log().await.iter().filter(|e| entry_summary(e) == "launch_workspace denied in_use").count();
        assert_eq!(denied, 50, "every refusal is written down");
        fixture.assert_empty().await;
    }

    async fn seat_race_between_two_gateways(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-one", single()).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        let (other, fleet) = fixture.second_process(settings());
        fleet.connect(fixture.host);
        for round in 0..20 {
            let from = origin();
            let (a, b) = tokio::join!(fixture.broker.launcher().launch(&from, &ann, &ws), other.launcher().launch(&from, &bob, &ws));
            assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1, "round {round}: {a:?} {b:?}");
            match a {
                Ok(_) => fixture.broker.workspaces().stop(&from, &ann, &ws).await.unwrap(),
                Err(_) => other.workspaces().stop(&from, &bob, &ws).await.unwrap(),
            };
            assert!(fixture.live_sessions().await.is_empty());
        }
        fixture.assert_chain_valid().await;
    }

    async fn denials_have_reasons_and_are_audited(db) {
        let fixture = BrokerFixture::new(&db).await;
        let admins = WorkspaceChange { allowed_roles: Some(vec![Role::Admin]), ..WorkspaceChange::default() };
        let factor = WorkspaceChange { requires_mfa: Some(true), ..WorkspaceChange::default() };
        let broken = WorkspaceChange { maintenance: Some(true), ..WorkspaceChange::default() };
        let (admins, factor, broken) =
            (fixture.workspace("ws-admins", admins).await, fixture.workspace("ws-mfa", factor).await, fixture.workspace("ws-broken", broken).await);
        let plain = fixture.workspace("ws-plain", WorkspaceChange::default()).await;
        let unknown = WorkspaceId::parse("ws-unknown").unwrap();
        let ann = fixture.caller("ann", Role::Member).await;
        for (ws, expected, entry) in [
            (&admins, ErrorKind::NotFound, "access_denied denied unknown"),
            (&factor, ErrorKind::Forbidden, "launch_workspace denied mfa_required"),
            (&broken, ErrorKind::Conflict, "launch_workspace denied maintenance"),
            (&unknown, ErrorKind::NotFound, "access_denied denied unknown"),
        ] {
            let (answer, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, ws)).await;
            assert_eq!((error_kind(answer), log), (expected, vec![entry.to_owned()]), "{ws}");
        }
        // An administrator sees it, and is told why.
        let members = WorkspaceChange { allowed_roles: Some(vec![Role::Member]), ..WorkspaceChange::default() };
        let (members, root) = (fixture.workspace("ws-members", members).await, fixture.caller("root", Role::Admin).await);
        let (answer, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &root, &members)).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Forbidden, vec!["launch_workspace denied role".to_owned()]));
        fixture.fleet.disconnect(fixture.host);
        let (answer, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &plain)).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Unavailable, vec!["launch_workspace error no_host".to_owned()]));
        assert_eq!(fixture.broker.workspaces().get(&ann, &plain).await.unwrap().status, WorkspaceStatus::Offline);
        fixture.fleet.connect(fixture.host);
        // A login that ended between the token's check and the launch.
        fixture.broker.logins().logout(&origin(), &ann, false).await.unwrap();
        let (answer, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &plain)).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Unauthenticated, vec!["launch_workspace denied signed_out".to_owned()]));
        assert!(fixture.fleet.started().is_empty());
        fixture.assert_empty().await;
    }

    async fn failed_launch_leaves_nothing(db) {
        let fixture = BrokerFixture::with(&db, Settings { launch_timeout: Duration::from_millis(300), ..settings() }).await;
        let ws = fixture.workspace("ws-one", single()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        for (plan, reason) in [(Plan::Refuse, "refused"), (Plan::Fail, "failed"), (Plan::Hang, "timeout")] {
            fixture.fleet.plan_start(plan);
            let began = Instant::now();
            let (answer, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &ws)).await;
            let error = answer.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable);
            assert!(began.elapsed() < REVOKE_TIMEOUT, "{:?}", began.elapsed());
            let expected = ["create_session success -".to_owned(), format!("launch_workspace error {reason}"), "close_session error launch_failed".to_owned()];
            assert_eq!(log.len(), 3, "{log:?}");
            assert_eq!(log[..2], expected[..2]);
            fixture.assert_empty().await;
        }
        // The seat is free, for others too.
        fixture.fleet.plan_start(Plan::Work);
        let bob = fixture.caller("bob", Role::Member).await;
        fixture.launch(&bob, &ws).await;
        let mine = fixture.broker.sessions().list(&ann, SessionQuery::default()).await.unwrap().items;
        assert_eq!(mine.len(), 3);
        assert!(mine.iter().all(|s| s.session.state == State::Closed(EndReason::LaunchFailed) && s.tunnel_state() == TunnelState::Down));
    }

    async fn live_sessions_are_listed_in_pages(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        let mut live = Vec::new();
        for n in 0..5 {
            let workspace = fixture.workspace(&format!("ws-{n}"), WorkspaceChange::default()).await;
            let session = fixture.launch(&ann, &workspace).await;
            live.push((session.created_at, session.id));
            if n % 2 == 0 { fixture.clock.advance(Duration::from_secs(1)); }
        }
        live.sort_by_key(|at| std::cmp::Reverse(*at));
        let list = async |cursor, limit| {
            let query = PageQuery { cursor, limit: Some(limit) };
            fixture.broker.sessions().list_live(&origin(), &root, query).await
        };
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = list(cursor.take(), 2).await.unwrap();
            assert!(page.items.iter().all(|view| view.policy.is_some()) && page.items.len() <= 2);
            seen.extend(page.items.iter().map(|view| (view.session.created_at, view.session.id)));
            match page.next_cursor { Some(next) => cursor = Some(next), None => break }
        }
        assert_eq!(seen, live);
        for (cursor, limit) in [(Some("x".to_owned()), 2), (None, 0), (None, 501)] {
            assert_eq!(error_kind(list(cursor, limit).await), ErrorKind::Invalid);
        }
    }

    async fn disconnected_client_aborts_nothing(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        fixture.fleet.plan_start(Plan::Gate);
        let (broker, caller, id) = (fixture.broker.clone(), ann.clone(), ws.clone());
        let request = tokio::spawn(async move { broker.launcher().launch(&origin(), &caller, &id).await });
        fixture.fleet.wait_for_starts(1).await;
        request.abort();
        assert!(request.await.is_err());
        let session = fixture.live_sessions().await.remove(0);
        assert_eq!(session.state, State::Creating);
        assert_eq!(fixture.broker.workspaces().get(&ann, &ws).await.unwrap().status, WorkspaceStatus::Starting);
        assert!(fixture.broker.sessions().list(&ann, SessionQuery::default()).await.unwrap().items.is_empty(), "not listed yet");
        // A second launch waits for the first, and gets its session.
        let (broker, caller, id) = (fixture.broker.clone(), ann.clone(), ws.clone());
        let second = tokio::spawn(async move { broker.launcher().launch(&origin(), &caller, &id).await });
        fixture.fleet.open_gate(1);
        assert_eq!(second.await.unwrap().unwrap().session.session.id, session.id);
        assert_eq!(fixture.fleet.started().len(), 1);
    }

    async fn session_ended_while_starting(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        fixture.fleet.plan_start(Plan::Gate);
        let (broker, caller, id) = (fixture.broker.clone(), ann.clone(), ws.clone());
        let request = tokio::spawn(async move { broker.launcher().launch(&origin(), &caller, &id).await });
        fixture.fleet.wait_for_starts(1).await;
        let off = UserChange { disabled: Some(true), ..UserChange::default() };
        fixture.broker.users().update(&origin(), &fixture.system, ann.user.id, off).await.unwrap();
        fixture.fleet.open_gate(1);
        assert_eq!(error_kind(request.await.unwrap()), ErrorKind::Conflict);
        assert_eq!(fixture.fleet.started().len(), 1);
        fixture.assert_empty().await;
        assert!(!fixture.fleet.has_tunnel(fixture.fleet.started()[0]));
    }

    async fn least_loaded_host_is_chosen(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let second = fixture.add_host("host-2", 2).await;
        let third = fixture.add_host("host-3", 3).await;
        fixture.fleet.disconnect(third);
        let mut on = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let caller = fixture.caller(name, Role::Member).await;
            on.push(fixture.launch(&caller, &ws).await.host_id.unwrap());
        }
        for host in [fixture.host, second] {
            assert_eq!(on.iter().filter(|h| **h == host).count(), 2, "{on:?}");
        }
        let addresses: std::collections::HashSet<_> = fixture.live_sessions().await.iter().map(|s| s.address).collect();
        assert_eq!(addresses.len(), 4);
    }

    async fn a_launch_the_store_lost_does_not_hold_up_the_next(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        for round in 0..2 {
            fixture.fleet.plan_start(Plan::Gate);
            let (broker, caller, id) = (fixture.broker.clone(), ann.clone(), ws.clone());
            let launch = tokio::spawn(async move { broker.launcher().launch(&origin(), &caller, &id).await });
            fixture.fleet.wait_for_starts(2 * round + 1).await;
            // The database fails until after the desktop has started.
            db.raw("ALTER TABLE session_events RENAME TO lost_events");
            fixture.fleet.open_gate(1);
            assert!(launch.await.unwrap().is_err());
            db.raw("ALTER TABLE lost_events RENAME TO session_events");
            let stuck = fixture.live_sessions().await.remove(0);
            assert_eq!(stuck.state, State::Creating);
            // Not after the launch timeout: no time passes here.
            fixture.fleet.plan_start(Plan::Work);
            let next = fixture.launch(&ann, &ws).await;
            assert_ne!(next.id, stuck.id);
            assert_eq!(fixture.stored_session(stuck.id).await.state, State::Closed(EndReason::LaunchFailed));
            fixture.broker.sessions().disconnect(&origin(), &ann, next.id).await.unwrap();
        }
        fixture.assert_empty().await;
    }

    async fn a_launch_the_store_lost_is_ended_by_the_reconciler(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        fixture.fleet.plan_start(Plan::Gate);
        let (broker, caller, id) = (fixture.broker.clone(), ann.clone(), ws.clone());
        let launch = tokio::spawn(async move { broker.launcher().launch(&origin(), &caller, &id).await });
        fixture.fleet.wait_for_starts(1).await;
        db.raw("ALTER TABLE session_events RENAME TO lost_events");
        fixture.fleet.open_gate(1);
        assert!(launch.await.unwrap().is_err());
        db.raw("ALTER TABLE lost_events RENAME TO session_events");
        let stuck = fixture.live_sessions().await.remove(0);
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(fixture.stored_session(stuck.id).await.state, State::Closed(EndReason::LaunchFailed));
        fixture.assert_empty().await;
    }
}
