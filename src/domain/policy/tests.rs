//! Every role and kind of principal with every action; every reason not to launch or to stream.

use super::*;
use crate::domain::principal::{ApiKey, SignedInUser};
use crate::domain::session::EndReason;
use crate::domain::session_times::SessionLimits;
use crate::domain::user::{MfaMethod, User};
use crate::domain::workspace::{LinuxDesktop, WorkspaceSpec};
use crate::domain::{ApiKeyId, HostId, LoginId, SessionId, Timestamp, UserId, WorkspaceId};

const FACTOR: Mfa = Mfa { method: MfaMethod::Totp, verified_at: Timestamp(1) };

fn signed_in(role: Role) -> SignedInUser {
    let user = User {
        id: UserId::new(),
        organization_id: OrganizationId::new(),
        email: "ann@example.com".to_owned(),
        name: "Ann".to_owned(),
        role,
        mfa_enrolled: true,
        disabled: false,
        created_at: Timestamp(0),
        last_login_at: None,
    };
    SignedInUser { user, login_id: LoginId::new(), mfa: Some(FACTOR) }
}

fn user(role: Role) -> Principal {
    Principal::User(signed_in(role))
}

fn api_key(role: Role) -> Principal {
    Principal::ApiKey(ApiKey {
        id: ApiKeyId::new(),
        organization_id: OrganizationId::new(),
        name: "deployment".to_owned(),
        role,
    })
}

fn system(organization_id: Option<OrganizationId>) -> Principal {
    Principal::System { organization_id }
}

fn disabled(role: Role) -> Principal {
    let mut signed_in = signed_in(role);
    signed_in.user.disabled = true;
    Principal::User(signed_in)
}

fn context(principal: &Principal) -> Context {
    Context { now: Timestamp(2), source_ip: None, mfa: principal.mfa() }
}

fn organization(principal: &Principal) -> OrganizationId {
    principal.organization_id().unwrap_or_else(OrganizationId::new)
}

fn workspace(principal: &Principal) -> Workspace {
    Workspace {
        id: WorkspaceId::parse("ws").unwrap(),
        organization_id: organization(principal),
        name: "Desk".to_owned(),
        description: String::new(),
        icon: "desktop".to_owned(),
        tags: vec![],
        requires_mfa: true,
        single_seat: false,
        allowed_roles: vec![Role::Member],
        maintenance: false,
        session_limits: SessionLimits::default(),
        spec: WorkspaceSpec::LinuxDesktop(LinuxDesktop::default()),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}

fn session(principal: &Principal, state: State) -> Session {
    let workspace = workspace(principal);
    Session {
        id: SessionId::new(),
        organization_id: workspace.organization_id,
        principal: principal.id(),
        principal_name: principal.name().to_owned(),
        login_id: principal.login_id(),
        workspace_kind: workspace.kind(),
        workspace_id: workspace.id,
        workspace_name: workspace.name,
        host_id: Some(HostId::new()),
        route: Default::default(),
        state,
        address: [10, 64, 0, 2].into(),
        mfa: None,
        peer_public_key: None,
        created_at: Timestamp(0),
        started_at: None,
        ended_at: None,
        expires_at: Timestamp(1),
        version: 1,
    }
}

fn launch(principal: &Principal, workspace: &Workspace) -> Result<LaunchPermit, Denial> {
    authorize_launch(principal, workspace, &context(principal))
}

fn stream(principal: &Principal, session: &Session) -> Result<StreamPermit, Denial> {
    authorize_stream(principal, session, &context(principal))
}

fn views(principal: &Principal, workspace: &Workspace) -> bool {
    can_view(principal, workspace, &context(principal))
}

/// Actions on everything of an organization: member, administrator, security.
const TABLE: [(PolicyAction, [bool; 3]); 12] = [
    (PolicyAction::ManageWorkspaces, [false, true, false]),
    (PolicyAction::ManageUsers, [false, true, false]),
    (PolicyAction::ReadUsers, [false, true, true]),
    (PolicyAction::ManageHosts, [false, true, false]),
    (PolicyAction::ReadHosts, [false, true, true]),
    (PolicyAction::ReadLiveSessions, [false, true, true]),
    (PolicyAction::TerminateSessions, [false, true, false]),
    (PolicyAction::ReadAudit, [false, true, true]),
    // Decided for one workspace or session only.
    (PolicyAction::ViewWorkspace, [false; 3]),
    (PolicyAction::LaunchWorkspace, [false; 3]),
    (PolicyAction::OpenStream, [false; 3]),
    (PolicyAction::ExtendSession, [false; 3]),
];

#[test]
fn roles_and_actions() {
    assert_eq!(TABLE.map(|(action, _)| action), PolicyAction::ALL);
    for (action, allowed) in TABLE {
        for (role, allowed) in Role::ALL.into_iter().zip(allowed) {
            for principal in [user(role), api_key(role)] {
                let organization = organization(&principal);
                let resource = Resource::Organization(organization);
                match authorize(&principal, action, &resource, &context(&principal)) {
                    Ok(permit) => {
                        assert!(allowed, "{role} {action:?}");
                        assert_eq!(
                            (permit.action(), permit.organization_id(), permit.principal()),
                            (action, organization, principal.id())
                        );
                    }
                    Err(denial) => {
                        assert!(!allowed, "{role} {action:?}");
                        assert_eq!(denial, Denial::Role);
                    }
                }
            }
        }
    }
}

#[test]
fn no_principal_acts_in_another_organization() {
    let own = OrganizationId::new();
    for principal in [user(Role::Admin), api_key(Role::Admin), system(Some(own))] {
        let other = Resource::Organization(OrganizationId::new());
        let (foreign, theirs) = (
            Workspace { organization_id: OrganizationId::new(), ..workspace(&principal) },
            Session {
                organization_id: OrganizationId::new(),
                ..session(&principal, State::Active)
            },
        );
        for action in PolicyAction::ALL {
            for resource in [other, Resource::Workspace(&foreign), Resource::Session(&theirs)] {
                let denial = authorize(&principal, action, &resource, &context(&principal));
                assert!(denial.is_err(), "{principal:?} {action:?}");
            }
        }
        assert!(!views(&principal, &foreign));
    }
}

#[test]
fn the_system_administers_its_organization_or_all() {
    let organization = OrganizationId::new();
    let resource = Resource::Organization(organization);
    for principal in [system(None), system(Some(organization))] {
        for (action, [_, admin, _]) in TABLE {
            let permit = authorize(&principal, action, &resource, &context(&principal));
            assert_eq!(permit.is_ok(), admin, "{action:?}");
        }
        // It owns no session, and so launches and streams nothing.
        let desk = Workspace { organization_id: organization, ..workspace(&principal) };
        assert!(views(&principal, &desk));
        assert_eq!(launch(&principal, &desk).unwrap_err(), Denial::Role);
        let own = session(&principal, State::Active);
        assert_eq!(stream(&principal, &own).unwrap_err(), Denial::NotOwner);
    }
}

#[test]
fn the_disabled_may_nothing() {
    for role in Role::ALL {
        let principal = disabled(role);
        for action in PolicyAction::ALL {
            let resource = Resource::Organization(organization(&principal));
            let denial = authorize(&principal, action, &resource, &context(&principal));
            let bound = matches!(
                action,
                PolicyAction::ViewWorkspace
                    | PolicyAction::LaunchWorkspace
                    | PolicyAction::OpenStream
                    | PolicyAction::ExtendSession
            );
            let expected = if bound { Denial::Role } else { Denial::Disabled };
            assert_eq!(denial.unwrap_err(), expected);
        }
        let open = Workspace { allowed_roles: Role::ALL.to_vec(), ..workspace(&principal) };
        assert_eq!(launch(&principal, &open).unwrap_err(), Denial::Disabled);
    }
}

#[test]
fn launching() {
    let ann = signed_in(Role::Member);
    let principal = Principal::User(ann.clone());
    let desk = workspace(&principal);
    let permit = launch(&principal, &desk).unwrap();
    assert_eq!(
        (permit.principal(), permit.workspace(), permit.mfa()),
        (PrincipalId::User(ann.user.id), &desk, ann.mfa)
    );

    let foreign = Workspace { organization_id: OrganizationId::new(), ..desk.clone() };
    assert_eq!(launch(&principal, &foreign).unwrap_err(), Denial::NotOwner);
    assert!(!views(&principal, &foreign));
    let others = Workspace { allowed_roles: vec![Role::Security], ..desk.clone() };
    assert_eq!(launch(&principal, &others).unwrap_err(), Denial::Role);
    assert!(!views(&principal, &others) && views(&principal, &desk));
    let nobodys = Workspace { allowed_roles: vec![], ..desk.clone() };
    assert_eq!(launch(&principal, &nobodys).unwrap_err(), Denial::Role);

    let without = Principal::User(SignedInUser { mfa: None, ..ann.clone() });
    assert_eq!(launch(&without, &desk).unwrap_err(), Denial::MfaRequired);
    assert!(launch(&without, &Workspace { requires_mfa: false, ..desk.clone() }).is_ok());
    // The wrong organization is reported before the missing factor.
    assert_eq!(launch(&without, &foreign).unwrap_err(), Denial::NotOwner);

    // An administrator sees every workspace of the organization, and launches those for admins.
    let admin = User { role: Role::Admin, ..ann.user.clone() };
    let admin = Principal::User(SignedInUser { user: admin, ..ann });
    assert!(views(&admin, &desk) && !views(&admin, &foreign));
    assert_eq!(launch(&admin, &desk).unwrap_err(), Denial::Role);
}

#[test]
fn an_api_key_launches_what_needs_no_factor() {
    let key = api_key(Role::Member);
    let desk = workspace(&key);
    assert_eq!(launch(&key, &desk).unwrap_err(), Denial::MfaRequired);
    let open = Workspace { requires_mfa: false, ..desk };
    assert_eq!(launch(&key, &open).unwrap().principal(), key.id());
    assert!(stream(&key, &session(&key, State::Active)).is_ok());
    let other = Principal::ApiKey(ApiKey {
        id: ApiKeyId::new(),
        organization_id: organization(&key),
        name: "deployment".to_owned(),
        role: Role::Member,
    });
    assert_eq!(stream(&other, &session(&key, State::Active)).unwrap_err(), Denial::NotOwner);
}

#[test]
fn streaming() {
    let ann = signed_in(Role::Member);
    let principal = Principal::User(ann.clone());
    let active = session(&principal, State::Active);
    assert_eq!(stream(&principal, &active).unwrap().session(), &active);
    // Only its owner, in whatever state it is.
    for state in [State::Active, State::Queued, State::Closed(EndReason::Expired)] {
        assert_eq!(
            stream(&user(Role::Admin), &session(&principal, state)).unwrap_err(),
            Denial::NotOwner
        );
    }
    for state in [
        State::Queued,
        State::Creating,
        State::Closing(EndReason::Expired),
        State::Closed(EndReason::Expired),
    ] {
        assert_eq!(stream(&principal, &session(&principal, state)).unwrap_err(), Denial::NotActive);
    }
    // A session launched with a second factor is opened with one only.
    let without = Principal::User(SignedInUser { mfa: None, ..ann.clone() });
    let guarded = Session { mfa: ann.mfa, ..active.clone() };
    assert!(
        guarded.mfa.is_some()
            && stream(&principal, &guarded).is_ok()
            && stream(&without, &active).is_ok()
    );
    assert_eq!(stream(&without, &guarded).unwrap_err(), Denial::MfaRequired);
    let disabled = User { disabled: true, ..ann.user.clone() };
    let disabled = Principal::User(SignedInUser { user: disabled, ..ann });
    assert_eq!(stream(&disabled, &active).unwrap_err(), Denial::Disabled);
}

/// Who may extend a session: whoever may use it, while their role may launch its workspace.
#[test]
fn extending_needs_the_session_and_the_role() {
    let may = |principal: &Principal, session: &Session, workspace: &Workspace| {
        authorize_extension(principal, session, workspace, &context(principal)).map(drop)
    };
    let owner = user(Role::Member);
    let (mine, desk) = (session(&owner, State::Active), workspace(&owner));
    assert_eq!(may(&owner, &mine, &desk), Ok(()));
    let others_only = Workspace { allowed_roles: vec![Role::Admin], ..desk.clone() };
    assert_eq!(may(&owner, &mine, &others_only), Err(Denial::Role), "the role lost the workspace");
    for role in Role::ALL {
        assert_eq!(may(&user(role), &mine, &desk), Err(Denial::NotOwner), "{role}");
        assert_eq!(may(&api_key(role), &mine, &desk), Err(Denial::NotOwner), "{role}");
    }
    assert_eq!(may(&system(None), &mine, &desk), Err(Denial::NotOwner));
    for state in [State::Queued, State::Creating, State::Closing(EndReason::Expired)] {
        assert_eq!(may(&owner, &session(&owner, state), &desk), Err(Denial::NotActive));
    }
    let gone = disabled(Role::Member);
    assert_eq!(
        may(&gone, &session(&gone, State::Active), &workspace(&gone)),
        Err(Denial::Disabled)
    );
}
