//! How long sessions last: extension by their users up to the cap, and the end of those without input.

use super::fixture::*;
use futures_util::future::join_all;
use portcullis::broker::Settings;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::broker::model::*;
use portcullis::domain::session::{EndReason, Session, State};
use portcullis::domain::session_times::{SessionLimits, SessionTimes};
use portcullis::domain::user::Role;
use portcullis::domain::{Clock as _, ErrorKind, WorkspaceId};
use std::time::Duration;
use tokio::sync::watch;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Sessions of 8 hours, 12 with extensions, 30 minutes without input.
fn settings_with_limits() -> Settings {
    let times = SessionTimes::of_installation(8 * HOUR, 12 * HOUR, Some(30 * MINUTE));
    Settings { session_times: times, ..settings() }
}

fn limits(change: SessionLimitsChange) -> WorkspaceChange {
    WorkspaceChange { session_limits: change, ..WorkspaceChange::default() }
}

fn never_idle() -> WorkspaceChange {
    limits(SessionLimitsChange {
        idle_timeout: Some(Some(Duration::ZERO)),
        ..SessionLimitsChange::default()
    })
}

struct Scene {
    fixture: BrokerFixture,
    ann: Caller,
    ws: WorkspaceId,
    session: Session,
}

impl Scene {
    /// Ann's active session in a workspace with these settings.
    async fn new(db: &crate::support::db::Db, change: WorkspaceChange) -> Self {
        let fixture = BrokerFixture::with(db, settings_with_limits()).await;
        let ws = fixture.workspace("ws-a", change).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &ws).await;
        // The first pass audits that the host is connected.
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        Self { fixture, ann, ws, session }
    }

    async fn extend(&self, who: &Caller, by: Duration) -> portcullis::domain::Result<SessionView> {
        self.fixture.broker.sessions().extend(&origin(), who, self.session.id, by).await
    }

    /// What was refused with which kind, and what was logged for it.
    async fn refused(&self, who: &Caller, by: Duration) -> (ErrorKind, String, Vec<String>) {
        let before = self.fixture.stored_session(self.session.id).await;
        let (result, log) = self.fixture.audited_during(self.extend(who, by)).await;
        let error = result.unwrap_err();
        assert_eq!(self.fixture.stored_session(self.session.id).await, before, "nothing changed");
        (error.kind, error.message, log)
    }

    async fn reconcile(&self) -> Vec<String> {
        let pass = async { self.fixture.broker.lifecycle().reconcile_once().await.unwrap() };
        self.fixture.audited_during(pass).await.1
    }

    async fn view(&self) -> SessionView {
        self.fixture.broker.sessions().get(&self.ann, self.session.id).await.unwrap()
    }
}

on_both! {
    async fn an_extension_moves_the_end_and_interrupts_nothing(db) {
        let scene = Scene::new(&db, never_idle()).await;
        let stream = scene.fixture.open_stream(&scene.ann, scene.session.id).await;
        let first_end = scene.session.created_at.after(8 * HOUR);
        assert_eq!(scene.session.expires_at, first_end);
        let cap = scene.session.created_at.after(12 * HOUR);
        assert_eq!(scene.view().await.extendable_until, Some(cap));
        scene.fixture.clock.advance(8 * HOUR - MINUTE);
        let ann = scene.fixture.sign_in("ann").await.caller;
        let (extended, log) = scene.fixture.audited_during(scene.extend(&ann, 2 * HOUR + 30 * MINUTE)).await;
        let extended = extended.unwrap();
        assert_eq!(log, ["extend_session success -"]);
        assert_eq!(extended.session.expires_at, first_end.after(2 * HOUR + 30 * MINUTE));
        assert_eq!(extended.session.started_at, scene.session.started_at);
        let entry = scene.fixture.audit_log().await.pop().unwrap();
        assert_eq!(entry.session_id, Some(scene.session.id.to_string()));
        assert_eq!(entry.details["extended_by_ms"], 9_000_000);
        assert_eq!(entry.details["expires_at"], extended.session.expires_at.to_string());
        // It outlives its first end; the stream goes on.
        scene.fixture.clock.advance(2 * MINUTE);
        assert_eq!(scene.reconcile().await, [""; 0]);
        assert_eq!(scene.fixture.stored_session(scene.session.id).await.state, State::Active);
        assert_eq!(*stream.authorization.borrow(), StreamAuthorization::Valid);
        scene.extend(&ann, HOUR + 30 * MINUTE).await.unwrap();
        assert_eq!(scene.view().await.extendable_until, None, "it lasts as long as it may");
        // It ends at its new end.
        scene.fixture.clock.advance(4 * HOUR);
        assert_eq!(scene.reconcile().await, ["expire_session success expired", "close_session success expired"]);
        scene.fixture.assert_chain_valid().await;
    }

    async fn a_refusal_names_the_cap(db) {
        let scene = Scene::new(&db, never_idle()).await;
        let (kind, message, log) = scene.refused(&scene.ann, 4 * HOUR + MINUTE).await;
        assert_eq!(kind, ErrorKind::Conflict);
        assert_eq!(message, "This session may last 12 hours in all: it can be extended by 4 hours at most.");
        assert_eq!(log, ["extend_session denied duration_limit"]);
        scene.extend(&scene.ann, 4 * HOUR).await.unwrap();
        let (kind, message, _) = scene.refused(&scene.ann, MINUTE).await;
        assert_eq!(kind, ErrorKind::Conflict);
        assert!(message.contains("12 hours") && message.contains("cannot be extended further"), "{message}");
    }

    async fn a_workspace_says_whether_and_how_far(db) {
        let fixed = SessionLimitsChange { extension: Some(Some(Duration::ZERO)), ..SessionLimitsChange::default() };
        let scene = Scene::new(&db, limits(fixed)).await;
        assert_eq!(scene.view().await.extendable_until, None);
        let (kind, message, log) = scene.refused(&scene.ann, MINUTE).await;
        assert_eq!((kind, log.as_slice()), (ErrorKind::Conflict, &["extend_session denied duration_limit".to_owned()][..]));
        assert!(message.contains("cannot be extended"), "{message}");
        // The administrator allows an hour: it holds for the session that runs.
        let admin = scene.fixture.caller("root", Role::Admin).await;
        let hour = SessionLimitsChange { extension: Some(Some(HOUR)), duration: Some(Some(2 * HOUR)), ..SessionLimitsChange::default() };
        let changed = scene.fixture.broker.workspaces().update(&origin(), &admin, &scene.ws, limits(hour)).await.unwrap();
        assert_eq!(changed.workspace.session_limits, SessionLimits { duration: Some(2 * HOUR), extension: Some(HOUR), idle_timeout: None });
        let entry = scene.fixture.audit_log().await.pop().unwrap();
        assert_eq!(entry.details["changed"], "session_limits.duration,session_limits.extension");
        assert_eq!((&entry.details["session_duration_seconds"], &entry.details["session_extension_seconds"]), (&7200.into(), &3600.into()));
        assert_eq!(scene.fixture.stored_session(scene.session.id).await.expires_at, scene.session.expires_at, "it keeps its end");
        // Sessions from now on last two hours, three with extensions.
        let bob = scene.fixture.caller("bob", Role::Member).await;
        let launched = scene.fixture.broker.launcher().launch(&origin(), &bob, &scene.ws).await.unwrap();
        let later = launched.session.session.clone();
        assert_eq!(later.expires_at, later.created_at.after(2 * HOUR));
        assert_eq!((launched.max_duration, launched.idle_timeout), (3 * HOUR, Some(30 * MINUTE)));
        assert_eq!(launched.session.extendable_until, Some(later.created_at.after(3 * HOUR)));
        // No workspace gets more than the installation allows.
        let much = SessionLimitsChange { extension: Some(Some(500 * HOUR)), duration: Some(None), ..SessionLimitsChange::default() };
        scene.fixture.broker.workspaces().update(&origin(), &admin, &scene.ws, limits(much)).await.unwrap();
        let (kind, _, _) = scene.refused(&scene.ann, 5 * HOUR).await;
        assert_eq!(kind, ErrorKind::Conflict);
        for bad in [
            SessionLimitsChange { duration: Some(Some(MINUTE / 2)), ..SessionLimitsChange::default() },
            SessionLimitsChange { duration: Some(Some(721 * HOUR)), ..SessionLimitsChange::default() },
            SessionLimitsChange { extension: Some(Some(721 * HOUR)), ..SessionLimitsChange::default() },
            SessionLimitsChange { idle_timeout: Some(Some(MINUTE / 2)), ..SessionLimitsChange::default() },
        ] {
            let refused = scene.fixture.broker.workspaces().update(&origin(), &admin, &scene.ws, limits(bad)).await;
            assert_eq!(error_kind(refused), ErrorKind::Invalid, "{bad:?}");
        }
    }

    async fn only_its_owner_extends_a_session(db) {
        let scene = Scene::new(&db, never_idle()).await;
        let bob = scene.fixture.caller("bob", Role::Member).await;
        let admin = scene.fixture.caller("root", Role::Admin).await;
        for other in [&bob, &admin] {
            let (kind, _, log) = scene.refused(other, MINUTE).await;
            assert_eq!((kind, log.as_slice()), (ErrorKind::NotFound, &["access_denied denied not_theirs".to_owned()][..]));
        }
        let unknown = scene.fixture.broker.sessions().extend(&origin(), &bob, portcullis::domain::SessionId::new(), MINUTE).await;
        assert_eq!(error_kind(unknown), ErrorKind::NotFound);
        // Her role may not launch the workspace any more.
        let admins = WorkspaceChange { allowed_roles: Some(vec![Role::Admin]), ..WorkspaceChange::default() };
        scene.fixture.broker.workspaces().update(&origin(), &admin, &scene.ws, admins).await.unwrap();
        let (kind, _, log) = scene.refused(&scene.ann, MINUTE).await;
        assert_eq!((kind, log.as_slice()), (ErrorKind::Forbidden, &["extend_session denied role".to_owned()][..]));
        scene.fixture.broker.sessions().disconnect(&origin(), &scene.ann, scene.session.id).await.unwrap();
        let (kind, message, log) = scene.refused(&scene.ann, MINUTE).await;
        assert_eq!((kind, message.as_str()), (ErrorKind::Conflict, "Session is not active"));
        assert_eq!(log, ["extend_session denied not_active"]);
    }

    async fn extensions_at_once_stay_below_the_cap(db) {
        let scene = Scene::new(&db, never_idle()).await;
        let results = join_all((0..5).map(|_| scene.extend(&scene.ann, 90 * MINUTE))).await;
        let done = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(done, 2, "two extensions of 90 minutes fit into four hours: {results:?}");
        let stored = scene.fixture.stored_session(scene.session.id).await;
        assert_eq!(stored.expires_at, scene.session.expires_at.after(3 * HOUR));
        for refused in results.into_iter().filter_map(Result::err) {
            assert_eq!(refused.kind, ErrorKind::Conflict, "{refused:?}");
        }
    }

    async fn a_session_without_input_ends(db) {
        let scene = Scene::new(&db, WorkspaceChange::default()).await;
        let mut stream = scene.fixture.open_stream(&scene.ann, scene.session.id).await;
        let idle_end = || async { scene.view().await.idle_end };
        assert_eq!(scene.reconcile().await, [""; 0]);
        let start = scene.fixture.clock.now();
        assert_eq!(idle_end().await, Some(IdleEnd { timeout: 30 * MINUTE, at: start.after(30 * MINUTE) }));
        // Input moves the end, without the store.
        scene.fixture.clock.advance(29 * MINUTE);
        stream.meters.input.record();
        assert_eq!(idle_end().await.map(|end| end.at), Some(start.after(59 * MINUTE)));
        assert_eq!(scene.reconcile().await, [""; 0]);
        scene.fixture.clock.advance(29 * MINUTE);
        assert_eq!(scene.reconcile().await, [""; 0]);
        assert_eq!(idle_end().await.map(|end| end.at), Some(start.after(59 * MINUTE)));
        // Whoever extends it is there, too.
        let ann = scene.fixture.sign_in("ann").await.caller;
        scene.extend(&ann, MINUTE).await.unwrap();
        scene.fixture.clock.advance(MINUTE);
        assert_eq!(scene.reconcile().await, [""; 0]);
        scene.fixture.clock.advance(30 * MINUTE);
        assert_eq!(scene.reconcile().await, ["end_idle_session success idle_timeout", "close_session success idle_timeout"]);
        assert_eq!(wait_revoked(&mut stream).await, session_ended(EndReason::IdleTimeout));
        assert_eq!(scene.fixture.stored_session(scene.session.id).await.state, State::Closed(EndReason::IdleTimeout));
        scene.fixture.assert_empty().await;
    }

    async fn inputs_of_closed_windows_count_and_a_session_without_windows_ends(db) {
        let scene = Scene::new(&db, WorkspaceChange::default()).await;
        scene.reconcile().await;
        scene.fixture.clock.advance(20 * MINUTE);
        let stream = scene.fixture.open_stream(&scene.ann, scene.session.id).await;
        drop(stream);
        assert_eq!(scene.reconcile().await, [""; 0], "somebody was there");
        scene.fixture.clock.advance(29 * MINUTE);
        assert_eq!(scene.reconcile().await, [""; 0]);
        scene.fixture.clock.advance(MINUTE);
        assert_eq!(scene.reconcile().await[0], "end_idle_session success idle_timeout");
    }

    async fn a_workspace_says_how_long_a_session_may_be_idle(db) {
        let scene = Scene::new(&db, never_idle()).await;
        scene.reconcile().await;
        assert_eq!(scene.view().await.idle_end, None);
        scene.fixture.clock.advance(2 * HOUR);
        assert_eq!(scene.reconcile().await, [""; 0]);
        // It applies to sessions that run, also when another process changes it.
        let (other, _) = scene.fixture.second_process(settings_with_limits());
        let ten = SessionLimitsChange { idle_timeout: Some(Some(10 * MINUTE)), ..SessionLimitsChange::default() };
        other.workspaces().update(&origin(), &scene.fixture.system, &scene.ws, limits(ten)).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let broker = scene.fixture.broker.clone();
        let running = tokio::spawn(async move { broker.lifecycle().maintain(stopped).await });
        let ended = scene.fixture.wait_for_session(scene.session.id, |s| !s.state.is_live()).await;
        assert_eq!(ended.state, State::Closed(EndReason::IdleTimeout));
        stop.send(true).unwrap();
        running.await.unwrap();
    }
}
