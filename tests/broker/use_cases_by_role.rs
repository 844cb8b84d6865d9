//! Who may do what: every use case that needs a permit, by every role; what is refused is written
//! down and changes nothing.

use super::fixture::*;
use futures_util::future::BoxFuture;
use portcullis::broker::model::*;
use portcullis::domain::principal::Principal;
use portcullis::domain::user::Role;
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{ErrorKind, HostId, Result, SessionId, UserId, WorkspaceId};
use std::time::Duration;

struct Scene {
    fixture: BrokerFixture,
    ws: WorkspaceId,
    victim: UserId,
    session: SessionId,
}

type Try = for<'a> fn(&'a Scene, &'a Caller) -> BoxFuture<'a, Result<()>>;
const ADMIN: &[Role] = &[Role::Admin];
const READERS: &[Role] = &[Role::Admin, Role::Security];

macro_rules! attempt {
    (|$s:ident, $c:ident| $call:expr) => {
        |$s, $c| Box::pin(async move { $call.await.map(drop) })
    };
}

const CASES: &[(&str, &[Role], Try)] = &[
    ("users", READERS, attempt!(|s, c| s.fixture.broker.users().list(&origin(), c))),
    (
        "create_user",
        ADMIN,
        attempt!(|s, c| {
            let new = NewUser {
                email: format!("by-{}@example.com", c.user.role),
                name: "X".into(),
                password: secret(PASSWORD),
                role: Role::Member,
            };
            async move { s.fixture.broker.users().create(&origin(), c, new).await }
        }),
    ),
    (
        "update_user",
        ADMIN,
        attempt!(|s, c| async move {
            s.fixture
                .broker
                .users()
                .update(
                    &origin(),
                    c,
                    s.victim,
                    UserChange { name: Some("Y".into()), ..UserChange::default() },
                )
                .await
        }),
    ),
    (
        "reset_mfa",
        ADMIN,
        attempt!(|s, c| s.fixture.broker.users().reset_mfa(&origin(), c, s.victim)),
    ),
    (
        "sign_out_user",
        ADMIN,
        attempt!(|s, c| s.fixture.broker.users().sign_out(&origin(), c, s.victim)),
    ),
    (
        "set_totp",
        ADMIN,
        attempt!(|s, c| async move {
            s.fixture.broker.totp().set(&origin(), c, s.victim, &secret(SECRET)).await
        }),
    ),
    ("hosts", READERS, attempt!(|s, c| s.fixture.broker.hosts().list(&origin(), c))),
    (
        "create_join_token",
        ADMIN,
        attempt!(|s, c| s.fixture.broker.hosts().create_join_token(
            &origin(),
            c,
            None,
            Duration::from_secs(60)
        )),
    ),
    (
        "remove_host",
        ADMIN,
        attempt!(|s, c| async move {
            match s.fixture.broker.hosts().remove(&origin(), c, HostId::new()).await {
                Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
                other => other,
            }
        }),
    ),
    (
        "audit",
        READERS,
        attempt!(|s, c| s.fixture.broker.audit().query(&origin(), c, AuditQuery::default())),
    ),
    ("audit_export", READERS, attempt!(|s, c| s.fixture.broker.audit().export(&origin(), c))),
    ("audit_verify", READERS, attempt!(|s, c| s.fixture.broker.audit().verify(&origin(), c))),
    (
        "all_live_sessions",
        READERS,
        attempt!(|s, c| s.fixture.broker.sessions().list_live(&origin(), c, PageQuery::default())),
    ),
    (
        "create_workspace",
        ADMIN,
        attempt!(|s, c| async move {
            let new = NewWorkspace {
                id: None,
                name: "New".into(),
                description: String::new(),
                kind: WorkspaceKind::Linux,
                properties: WorkspaceChange::default(),
            };
            s.fixture.broker.workspaces().create(&origin(), c, new).await
        }),
    ),
    (
        "update_workspace",
        ADMIN,
        attempt!(|s, c| async move {
            s.fixture
                .broker
                .workspaces()
                .update(
                    &origin(),
                    c,
                    &s.ws,
                    WorkspaceChange { name: Some("Z".into()), ..WorkspaceChange::default() },
                )
                .await
        }),
    ),
    (
        "terminate",
        ADMIN,
        attempt!(|s, c| s.fixture.broker.sessions().terminate(&origin(), c, s.session)),
    ),
    (
        "delete_workspace",
        ADMIN,
        attempt!(|s, c| s.fixture.broker.workspaces().delete(&origin(), c, &s.ws)),
    ),
];

on_both! {
    async fn use_cases_by_role(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let victim = fixture.caller("victim", Role::Member).await;
        let session = fixture.launch(&victim, &ws).await.id;
        let scene = Scene { fixture, ws, victim: victim.user.id, session };
        // Admin last: what they may do changes the scene.
        let mut callers = Vec::new();
        for role in [Role::Member, Role::Security, Role::Admin] {
            callers.push(scene.fixture.caller(role.as_str(), role).await);
        }
        for caller in &callers {
            let role = caller.user.role;
            for (name, may, attempt) in CASES {
                if role == Role::Admin && *name == "terminate" {
                    // Signed out by the earlier case: launch again.
                    assert!(scene.fixture.live_sessions().await.is_empty());
                    continue;
                }
                let (answer, log) = scene.fixture.audited_during(attempt(&scene, caller)).await;
                if may.contains(&role) {
                    assert!(answer.is_ok(), "{name} by {role}: {answer:?}");
                } else {
                    assert_eq!(error_kind(answer), ErrorKind::Forbidden, "{name} by {role}");
                    assert_eq!(log, ["access_denied denied role"], "{name} by {role}");
                }
            }
        }
        scene.fixture.assert_chain_valid().await;
    }

    async fn disabled_caller_is_refused(db) {
        let fixture = BrokerFixture::new(&db).await;
        let mut root = fixture.caller("root", Role::Admin).await;
        let Principal::User(signed_in) = &mut root.principal else { unreachable!() };
        signed_in.user.disabled = true;
        assert_eq!(error_kind(fixture.broker.users().list(&origin(), &root).await), ErrorKind::Unauthenticated);
    }

    async fn member_stops_only_own_sessions(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let hidden = fixture.workspace("ws-hidden", WorkspaceChange { allowed_roles: Some(vec![Role::Admin]), ..WorkspaceChange::default() }).await;
        let (ann, bob, root) = (
            fixture.caller("ann", Role::Member).await,
            fixture.caller("bob", Role::Member).await,
            fixture.caller("root", Role::Admin).await,
        );
        let (a, b) = (fixture.launch(&ann, &ws).await, fixture.launch(&bob, &ws).await);
        assert_eq!(fixture.broker.workspaces().stop(&origin(), &ann, &ws).await.unwrap(), [a.id]);
        let nothing = fixture.broker.workspaces().stop(&origin(), &ann, &ws).await.unwrap_err();
        assert_eq!((nothing.kind, nothing.message.as_str()), (ErrorKind::Conflict, "Workspace has no active session"));
        assert!(fixture.fleet.has_tunnel(b.id));
        assert_eq!(error_kind(fixture.broker.workspaces().stop(&origin(), &ann, &hidden).await), ErrorKind::NotFound);
        assert_eq!(error_kind(fixture.broker.workspaces().get(&ann, &hidden).await), ErrorKind::NotFound);
        assert_eq!(fixture.broker.workspaces().list(&ann).await.unwrap().len(), 1);
        assert_eq!(fixture.broker.workspaces().list(&root).await.unwrap().len(), 2);
        let again = fixture.launch(&ann, &ws).await;
        let mut all = fixture.broker.workspaces().stop(&origin(), &root, &ws).await.unwrap();
        all.sort();
        let mut expected = [b.id, again.id];
        expected.sort();
        assert_eq!(all, expected);
        fixture.assert_empty().await;
    }
}
