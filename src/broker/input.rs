//! What people type, checked: every refusal says what would be accepted.

use super::views::{NewWorkspace, Page, WorkspaceChange};
use crate::domain::user::Role;
use crate::domain::workspace::{Workspace, WorkspaceKind};
use crate::domain::{Error, OrganizationId, Result, Timestamp, WorkspaceId};
use std::str::FromStr;

/// Pictures a workspace may show.
const ICONS: [&str; 5] = ["desktop", "terminal", "browser", "windows", "code"];
/// Longest page of any listing.
const PAGE_MAX: u32 = 500;

/// A trimmed line of `1..=max` characters without controls.
fn line(what: &str, text: &str, max: usize) -> Result<String> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > max || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{what} must be 1 to {max} characters on one line.")));
    }
    Ok(text.to_owned())
}

/// A name of a user, workspace or host.
pub(super) fn name(text: &str) -> Result<String> {
    line("A name", text, 80)
}

/// The version of an agent.
pub(super) fn version(text: &str) -> Result<String> {
    line("A version", text, 64)
}

/// The shape of an e-mail address: enough to find typing mistakes (RFC 5321 section 4.5.3.1.3 bounds its length to 254).
pub(super) fn email(text: &str) -> Result<String> {
    let text = text.trim();
    let shape = text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && local.len() <= 64
            && !domain.is_empty()
            && !domain.contains('@')
            && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
            && domain.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '.')
    });
    if !shape || text.len() > 254 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::invalid("An e-mail address looks like name@example.com and has at most 254 bytes."));
    }
    Ok(text.to_owned())
}

fn description(text: &str) -> Result<String> {
    let text = text.trim();
    if text.chars().count() > 500 || text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(Error::invalid("A description has at most 500 characters."));
    }
    Ok(text.to_owned())
}

fn tags(list: &[String]) -> Result<Vec<String>> {
    if list.len() > 10 {
        return Err(Error::invalid("A workspace has at most 10 tags."));
    }
    let mut out: Vec<String> = Vec::with_capacity(list.len());
    for tag in list {
        let tag = line("A tag", tag, 32)?;
        if !out.contains(&tag) {
            out.push(tag);
        }
    }
    Ok(out)
}

fn icon(text: &str) -> Result<String> {
    if ICONS.contains(&text) { Ok(text.to_owned()) } else { Err(Error::invalid(format!("An icon is one of: {}.", ICONS.join(", ")))) }
}

fn roles(list: &[Role]) -> Result<Vec<Role>> {
    let mut out: Vec<Role> = Vec::new();
    for &role in list {
        if !out.contains(&role) {
            out.push(role);
        }
    }
    if out.is_empty() {
        return Err(Error::invalid("At least one role must be allowed; to take a workspace out of service, use maintenance."));
    }
    Ok(out)
}

/// Ids a new workspace may get, first choice first: the one asked for, or made from its name.
pub(super) fn workspace_ids(new: &NewWorkspace) -> Result<Vec<WorkspaceId>> {
    if let Some(id) = &new.id {
        return Ok(vec![id.clone()]);
    }
    let lower = new.name.to_lowercase();
    let mut slug = String::from("ws");
    for word in lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()) {
        slug.push('-');
        slug.push_str(word);
    }
    slug.truncate(56);
    let slug = slug.trim_end_matches('-');
    let ids = (1..=20).map(|n| if n == 1 { WorkspaceId::parse(slug) } else { WorkspaceId::parse(&format!("{slug}-{n}")) });
    ids.collect::<Result<_, _>>().map_err(|e| Error::invalid(e.to_string()))
}

/// A new workspace with the defaults: every role may launch it, and only with a second factor.
pub(super) fn workspace(new: &NewWorkspace, id: WorkspaceId, organization_id: OrganizationId, now: Timestamp) -> Result<Workspace> {
    let plain = Workspace {
        id,
        organization_id,
        name: name(&new.name)?,
        description: description(&new.description)?,
        kind: new.kind,
        icon: match new.kind {
            WorkspaceKind::Linux | WorkspaceKind::Vnc => "desktop",
            WorkspaceKind::Rdp => "windows",
            WorkspaceKind::Html5 => "browser",
        }
        .to_owned(),
        tags: Vec::new(),
        requires_mfa: true,
        single_seat: false,
        network: false,
        allowed_roles: Role::ALL.to_vec(),
        maintenance: false,
        created_at: now,
        updated_at: now,
    };
    let rest = WorkspaceChange { name: None, description: None, ..new.rest.clone() };
    changed(&plain, &rest, now).map(|(workspace, _)| workspace)
}

/// A workspace after a change, and the names of what changed.
pub(super) fn changed(old: &Workspace, change: &WorkspaceChange, now: Timestamp) -> Result<(Workspace, Vec<&'static str>)> {
    fn put<T: PartialEq>(slot: &mut T, value: Option<T>, what: &'static str, names: &mut Vec<&'static str>) {
        if let Some(value) = value.filter(|v| v != slot) {
            *slot = value;
            names.push(what);
        }
    }
    let mut next = old.clone();
    let mut names = Vec::new();
    put(&mut next.name, change.name.as_deref().map(name).transpose()?, "name", &mut names);
    put(&mut next.description, change.description.as_deref().map(description).transpose()?, "description", &mut names);
    put(&mut next.icon, change.icon.as_deref().map(icon).transpose()?, "icon", &mut names);
    put(&mut next.tags, change.tags.as_deref().map(tags).transpose()?, "tags", &mut names);
    put(&mut next.requires_mfa, change.requires_mfa, "requires_mfa", &mut names);
    put(&mut next.single_seat, change.single_seat, "single_seat", &mut names);
    put(&mut next.network, change.network, "network", &mut names);
    put(&mut next.allowed_roles, change.allowed_roles.as_deref().map(roles).transpose()?, "allowed_roles", &mut names);
    put(&mut next.maintenance, change.maintenance, "maintenance", &mut names);
    if !names.is_empty() {
        next.updated_at = now;
    }
    Ok((next, names))
}

/// A page's size.
pub(super) fn limit(asked: Option<u32>, default: u32) -> Result<usize> {
    match asked.unwrap_or(default) {
        n @ 1..=PAGE_MAX => Ok(n as usize),
        _ => Err(Error::invalid(format!("limit must be 1 to {PAGE_MAX}."))),
    }
}

/// A page of at most `limit` from a listing that was asked for one more, with the cursor of its last item.
pub(super) fn page<T>(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| more).map(cursor);
    Page { items, next_cursor }
}

/// Reads a cursor of two parts.
pub(super) fn cursor<A: FromStr, B: FromStr>(text: &str) -> Result<(A, B)> {
    let parts = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.ok_or_else(|| Error::invalid("cursor must be one that a former page gave."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> NewWorkspace {
        NewWorkspace { id: None, name: name.into(), description: String::new(), kind: WorkspaceKind::Linux, rest: WorkspaceChange::default() }
    }

    #[test]
    fn slugs_are_made_from_names() {
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
    fn addresses() {
        for good in ["a@b", "a.b+c@example.com", "ä@exämple.com"] {
            assert!(email(good).is_ok(), "{good}");
        }
        for bad in
            ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b..c", "a@-b.c", &format!("{}@b.c", "a".repeat(65)), &format!("a@{}.c", "b".repeat(260))]
        {
            assert!(email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_change_names_what_changed() {
        let organization = OrganizationId::new();
        let old = workspace(&new("Desk"), WorkspaceId::parse("ws-desk").unwrap(), organization, Timestamp(1)).unwrap();
        let change = WorkspaceChange { name: Some("Desk".into()), maintenance: Some(true), ..WorkspaceChange::default() };
        let (next, names) = changed(&old, &change, Timestamp(2)).unwrap();
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
            assert!(changed(&old, &bad, Timestamp(2)).is_err(), "{bad:?}");
        }
    }
}
