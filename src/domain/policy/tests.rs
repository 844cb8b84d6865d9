//! Every role with every act; every reason not to launch or to stream.

use super::*;
use crate::domain::session::EndReason;
use crate::domain::user::{MfaMethod, User};
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{HostId, LoginId, SessionId, Timestamp, WorkspaceId};

fn caller(role: Role) -> Caller {
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
    Caller {
        user,
        login_id: LoginId::new(),
        mfa: Some(Mfa { method: MfaMethod::Totp, verified_at: Timestamp(1) }),
    }
}

fn workspace(caller: &Caller) -> Workspace {
    Workspace {
        id: WorkspaceId::parse("ws").unwrap(),
        organization_id: caller.user.organization_id,
        name: "Desk".to_owned(),
        description: String::new(),
        kind: WorkspaceKind::Linux,
        target: None,
        icon: "desktop".to_owned(),
        tags: vec![],
        requires_mfa: true,
        single_seat: false,
        network: false,
        allowed_roles: vec![Role::Member],
        maintenance: false,
        policy: Default::default(),
        upstream: Default::default(),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}

fn session(caller: &Caller, state: State) -> Session {
    let workspace = workspace(caller);
    Session {
        id: SessionId::new(),
        organization_id: caller.user.organization_id,
        user_id: caller.user.id,
        user_email: caller.user.email.clone(),
        login_id: caller.login_id,
        workspace_id: workspace.id,
        workspace_name: workspace.name,
        workspace_kind: workspace.kind,
        host_id: HostId::new(),
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

#[test]
fn roles_and_acts() {
    //                            member admin  security
    let table: [(PolicyAction, [bool; 3]); 8] = [
        (PolicyAction::ManageWorkspaces, [false, true, false]),
        (PolicyAction::ManageUsers, [false, true, false]),
        (PolicyAction::ReadUsers, [false, true, true]),
        (PolicyAction::ManageHosts, [false, true, false]),
        (PolicyAction::ReadHosts, [false, true, true]),
        (PolicyAction::ReadLiveSessions, [false, true, true]),
        (PolicyAction::TerminateSessions, [false, true, false]),
        (PolicyAction::ReadAudit, [false, true, true]),
    ];
    assert_eq!(table.map(|(act, _)| act), PolicyAction::ALL);
    for (act, allowed) in table {
        for (role, allowed) in Role::ALL.into_iter().zip(allowed) {
            let caller = caller(role);
            match authorize(&caller, act) {
                Ok(permit) => {
                    assert!(allowed, "{role} {act:?}");
                    assert_eq!(
                        (permit.action(), permit.organization_id(), permit.user_id()),
                        (act, caller.user.organization_id, caller.user.id)
                    );
                }
                Err(denial) => {
                    assert!(!allowed, "{role} {act:?}");
                    assert_eq!(denial, Denial::Role);
                }
            }
        }
    }
}

#[test]
fn the_disabled_may_nothing() {
    for role in Role::ALL {
        let mut caller = caller(role);
        caller.user.disabled = true;
        for act in PolicyAction::ALL {
            assert_eq!(authorize(&caller, act).unwrap_err(), Denial::Disabled);
        }
        assert_eq!(
            authorize_launch(
                &caller,
                &Workspace { allowed_roles: Role::ALL.to_vec(), ..workspace(&caller) }
            )
            .unwrap_err(),
            Denial::Disabled
        );
    }
}

#[test]
fn launching() {
    let ann = caller(Role::Member);
    let desk = workspace(&ann);
    let permit = authorize_launch(&ann, &desk).unwrap();
    assert_eq!((permit.user_id(), permit.workspace(), permit.mfa()), (ann.user.id, &desk, ann.mfa));

    let foreign = Workspace { organization_id: OrganizationId::new(), ..desk.clone() };
    assert_eq!(authorize_launch(&ann, &foreign).unwrap_err(), Denial::NotOwner);
    assert!(!can_view(&ann, &foreign));
    let others = Workspace { allowed_roles: vec![Role::Security], ..desk.clone() };
    assert_eq!(authorize_launch(&ann, &others).unwrap_err(), Denial::Role);
    assert!(!can_view(&ann, &others) && can_view(&ann, &desk));
    let nobodys = Workspace { allowed_roles: vec![], ..desk.clone() };
    assert_eq!(authorize_launch(&ann, &nobodys).unwrap_err(), Denial::Role);

    let without = Caller { mfa: None, ..ann.clone() };
    assert_eq!(authorize_launch(&without, &desk).unwrap_err(), Denial::MfaRequired);
    assert!(authorize_launch(&without, &Workspace { requires_mfa: false, ..desk.clone() }).is_ok());
    // What is not theirs is told before what they lack.
    assert_eq!(authorize_launch(&without, &foreign).unwrap_err(), Denial::NotOwner);

    // An admin sees every workspace of the organization, and launches those that are for admins.
    let admin = Caller { user: User { role: Role::Admin, ..ann.user.clone() }, ..ann };
    assert!(can_view(&admin, &desk) && !can_view(&admin, &foreign));
    assert_eq!(authorize_launch(&admin, &desk).unwrap_err(), Denial::Role);
}

#[test]
fn streaming() {
    let ann = caller(Role::Member);
    let active = session(&ann, State::Active);
    assert_eq!(authorize_stream(&ann, &active).unwrap().session(), &active);
    // Nobody else's, whoever they are and whatever its state.
    for state in [State::Active, State::Queued, State::Closed(EndReason::Expired)] {
        assert_eq!(
            authorize_stream(&caller(Role::Admin), &session(&ann, state)).unwrap_err(),
            Denial::NotOwner
        );
    }
    for state in [
        State::Queued,
        State::Creating,
        State::Closing(EndReason::Expired),
        State::Closed(EndReason::Expired),
    ] {
        assert_eq!(authorize_stream(&ann, &session(&ann, state)).unwrap_err(), Denial::NotActive);
    }
    // What was launched with a second factor is opened with one; what was not, with or without.
    let without = Caller { mfa: None, ..ann.clone() };
    let guarded = Session { mfa: ann.mfa, ..active.clone() };
    assert!(
        guarded.mfa.is_some()
            && authorize_stream(&ann, &guarded).is_ok()
            && authorize_stream(&without, &active).is_ok()
    );
    assert_eq!(authorize_stream(&without, &guarded).unwrap_err(), Denial::MfaRequired);
    let disabled = Caller { user: User { disabled: true, ..ann.user.clone() }, ..ann.clone() };
    assert_eq!(authorize_stream(&disabled, &active).unwrap_err(), Denial::Disabled);
}
