//! Leases for streams under test.

use portcullis::domain::lease::Lease;
use portcullis::domain::policy::{self, authorize_stream};
use portcullis::domain::principal::{Principal, SignedInUser};
use portcullis::domain::route::SessionRoute;
use portcullis::domain::secret::SecretString;
use portcullis::domain::session::{Session, State};
use portcullis::domain::upstream::{StreamPolicy, Upstream};
use portcullis::domain::user::{RequestSource, Role, User};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{
    HostId, LoginId, OrganizationId, SessionId, Timestamp, UserId, WorkspaceId,
};

/// The password of every lease here.
pub const PASSWORD: &str = "vncpass1";

pub fn lease() -> Lease {
    lease_in(OrganizationId::new())
}

/// The default upstream of a lease.
pub fn server() -> Upstream {
    Upstream::agent_started(5900, SecretString::new(PASSWORD.into()), StreamPolicy::default())
}

pub fn lease_in(organization_id: OrganizationId) -> Lease {
    lease_to(organization_id, WorkspaceKind::Linux, server())
}

/// A lease for any upstream.
pub fn lease_to(
    organization_id: OrganizationId,
    workspace_kind: WorkspaceKind,
    server: Upstream,
) -> Lease {
    lease_by(organization_id, workspace_kind, server, SessionRoute::default())
}

/// A lease for any upstream by any route.
pub fn lease_by(
    organization_id: OrganizationId,
    workspace_kind: WorkspaceKind,
    server: Upstream,
    route: SessionRoute,
) -> Lease {
    let user_id = UserId::new();
    let user = User {
        id: user_id,
        organization_id,
        email: "ada@example.com".into(),
        name: "Ada".into(),
        role: Role::Member,
        mfa_enrolled: false,
        disabled: false,
        created_at: Timestamp(0),
        last_login_at: None,
    };
    let login_id = LoginId::new();
    let principal = Principal::User(SignedInUser { user, login_id, mfa: None });
    let session = Session {
        id: SessionId::new(),
        organization_id,
        principal: principal.id(),
        principal_name: "ada@example.com".into(),
        login_id: Some(login_id),
        workspace_id: WorkspaceId::parse("ws-linux-desktop").unwrap(),
        workspace_name: "Linux Desktop".into(),
        workspace_kind,
        host_id: Some(HostId::new()),
        route,
        state: State::Active,
        address: "10.64.0.7".parse().unwrap(),
        mfa: None,
        peer_public_key: None,
        created_at: Timestamp(0),
        started_at: Some(Timestamp(0)),
        ended_at: None,
        expires_at: Timestamp(1),
        version: 1,
    };
    let context = policy::Context::new(&principal, &RequestSource::local("test"), Timestamp(0));
    Lease::grant(authorize_stream(&principal, &session, &context).unwrap(), server)
}
