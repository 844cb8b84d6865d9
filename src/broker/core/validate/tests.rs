//! Unit tests of validation.

use super::*;
use crate::broker::model::{NewWorkspace, WorkspaceChange};
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{OrganizationId, Timestamp, WorkspaceId};

fn new(name: &str) -> NewWorkspace {
    NewWorkspace {
        id: None,
        name: name.into(),
        description: String::new(),
        kind: WorkspaceKind::Linux,
        properties: WorkspaceChange::default(),
    }
}

#[test]
fn slugs_from_names() {
    for (name, slug) in [
        ("Linux Desktop", "ws-linux-desktop"),
        ("  Ünï — code!  ", "ws-n-code"),
        ("***", "ws"),
        ("a", "ws-a"),
        (&"x".repeat(80), &format!("ws-{}", "x".repeat(53))),
    ] {
        let ids = workspace_ids(&new(name)).unwrap();
        assert_eq!(ids[0].as_str(), slug, "{name}");
        assert_eq!(ids[1].as_str(), format!("{slug}-2"));
    }
}

#[test]
fn email_addresses() {
    for good in ["a@b", "a.b+c@example.com", "ä@exämple.com"] {
        assert!(email(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "a",
        "@b",
        "a@",
        "a@b@c",
        "a b@c",
        "a@b..c",
        "a@-b.c",
        &format!("{}@b.c", "a".repeat(65)),
        &format!("a@{}.c", "b".repeat(260)),
    ] {
        assert!(email(bad).is_err(), "{bad}");
    }
}

#[test]
fn change_lists_changed_fields() {
    let organization = OrganizationId::new();
    let old =
        workspace(&new("Desk"), WorkspaceId::parse("ws-desk").unwrap(), organization, Timestamp(1))
            .unwrap();
    let change = WorkspaceChange {
        name: Some("Desk".into()),
        maintenance: Some(true),
        ..WorkspaceChange::default()
    };
    let (next, names) = apply_change(&old, &change, Timestamp(2)).unwrap();
    assert_eq!(names, ["maintenance"]);
    assert_eq!(next.updated_at, Timestamp(2));
    for bad in [
        WorkspaceChange { name: Some(" ".into()), ..WorkspaceChange::default() },
        WorkspaceChange { name: Some("a\nb".into()), ..WorkspaceChange::default() },
        WorkspaceChange { tags: Some(vec!["t".into(); 11]), ..WorkspaceChange::default() },
        WorkspaceChange { tags: Some(vec!["t".repeat(33)]), ..WorkspaceChange::default() },
        WorkspaceChange { icon: Some("../etc".into()), ..WorkspaceChange::default() },
        WorkspaceChange { allowed_roles: Some(vec![]), ..WorkspaceChange::default() },
        WorkspaceChange { description: Some("d".repeat(501)), ..WorkspaceChange::default() },
    ] {
        assert!(apply_change(&old, &bad, Timestamp(2)).is_err(), "{bad:?}");
    }
}
