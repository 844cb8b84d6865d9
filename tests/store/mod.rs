//! The store, on both databases.

mod app_requests;
mod audit;
mod audit_end;
mod audit_search;
mod audit_witness;
mod entities;
mod failures;
mod gateway_lease;
mod identity;
mod migrations;
mod principals;
mod races;
mod sessions;
mod upstreams;

use crate::support::db::Db;
use portcullis::domain::audit::{Action, Actor, Draft, EntryTarget, Outcome};
use portcullis::domain::host::Host;
use portcullis::domain::principal::PrincipalId;
use portcullis::domain::session::{Session, State};
use portcullis::domain::user::{Role, User};
use portcullis::domain::workspace::{LinuxDesktop, Workspace, WorkspaceKind, WorkspaceSpec};
use portcullis::domain::{
    HostId, LoginId, OrganizationId, SessionId, Timestamp, UserId, WorkspaceId, WorkspaceKey,
};
use portcullis::store::{Login, TicketRow};
use std::time::Duration;

pub const NOW: Timestamp = Timestamp(1_772_721_000_000);

pub fn later(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

pub async fn organization(db: &Db) -> OrganizationId {
    let id = OrganizationId::new();
    db.store.write(move |tx| tx.insert_organization(id, "Acme", NOW)).await.unwrap();
    id
}

pub fn make_user(organization_id: OrganizationId, email: &str) -> User {
    User {
        id: UserId::new(),
        organization_id,
        email: email.to_owned(),
        name: "Somebody".to_owned(),
        role: Role::Member,
        mfa_enrolled: false,
        disabled: false,
        created_at: NOW,
        last_login_at: None,
    }
}

pub async fn user(db: &Db, organization_id: OrganizationId, email: &str) -> User {
    let user = make_user(organization_id, email);
    let kept = user.clone();
    db.store.write(move |tx| tx.insert_user(&kept, "hash")).await.unwrap();
    user
}

pub async fn login(db: &Db, user: &User) -> Login {
    let login = Login {
        id: LoginId::new(),
        user_id: user.id,
        organization_id: user.organization_id,
        mfa: None,
        created_at: NOW,
        expires_at: later(3600),
        revoked_at: None,
        source_ip: Some("192.0.2.1".to_owned()),
        user_agent: None,
    };
    let kept = login.clone();
    db.store.write(move |tx| tx.insert_login(&kept)).await.unwrap();
    login
}

pub fn make_workspace(organization_id: OrganizationId, id: &str) -> Workspace {
    Workspace {
        id: WorkspaceId::parse(id).unwrap(),
        organization_id,
        name: "Linux desktop".to_owned(),
        description: "A desktop.".to_owned(),
        icon: "desktop".to_owned(),
        tags: vec!["linux".to_owned(), "a \"b\"".to_owned()],
        requires_mfa: true,
        single_seat: false,
        allowed_roles: vec![Role::Member, Role::Admin],
        maintenance: false,
        session_limits: Default::default(),
        spec: WorkspaceSpec::LinuxDesktop(LinuxDesktop::default()),
        created_at: NOW,
        updated_at: NOW,
    }
}

pub fn make_host(organization_id: OrganizationId, address: &str) -> Host {
    Host {
        id: HostId::new(),
        organization_id,
        kind: Default::default(),
        name: "host".to_owned(),
        public_key: uuid::Uuid::new_v4().to_string(),
        address: address.parse().unwrap(),
        endpoint: None,
        version: "0.1.0".to_owned(),
        enrolled_at: NOW,
        last_seen_at: None,
        drained_at: None,
    }
}

/// A session in state `Creating`, at the n-th address.
pub fn make_session(user: &User, workspace: &str, n: u8) -> Session {
    Session {
        id: SessionId::new(),
        organization_id: user.organization_id,
        principal: PrincipalId::User(user.id),
        principal_name: user.email.clone(),
        login_id: Some(LoginId::new()),
        workspace_id: WorkspaceId::parse(workspace).unwrap(),
        workspace_name: "Linux desktop".to_owned(),
        workspace_kind: WorkspaceKind::Linux,
        host_id: Some(HostId::new()),
        route: Default::default(),
        state: State::Creating,
        address: [10, 64, 0, n].into(),
        mfa: None,
        peer_public_key: None,
        created_at: NOW,
        started_at: None,
        ended_at: None,
        expires_at: later(3600),
        version: 1,
    }
}

/// An unused ticket.
pub fn make_ticket(session_id: SessionId, principal: PrincipalId) -> TicketRow {
    let login_id = principal.user_id().map(|_| LoginId::new());
    TicketRow { session_id, principal, login_id, used_at: None, expires_at: later(60) }
}

pub fn make_draft(action: Action) -> Draft {
    Draft {
        time: NOW,
        organization_id: None,
        actor: Actor {
            id: None,
            email: Some("Ann@example.com".to_owned()),
            role: Some("member".to_owned()),
            kind: None,
        },
        action,
        target: EntryTarget {
            kind: Some("session".to_owned()),
            id: Some("s-1".to_owned()),
            name: Some("Desk".to_owned()),
        },
        outcome: Outcome::Success,
        reason: None,
        source_ip: Some("192.0.2.1".to_owned()),
        user_agent: Some("test".to_owned()),
        session_id: None,
        workspace_id: None,
        request_id: Some("r-1".to_owned()),
        details: serde_json::json!({"b": 1, "a": "ü\u{0}", "n": null}).as_object().unwrap().clone(),
    }
}

/// Runs the same work in two tasks at once and returns both results.
pub async fn race<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    work: impl Fn(u8) -> F,
) -> (T, T) {
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let task = |n| {
        let (start, work) = (start.clone(), work(n));
        tokio::spawn(async move {
            start.wait().await;
            work.await
        })
    };
    let (a, b) = (task(0), task(1));
    (a.await.unwrap(), b.await.unwrap())
}
