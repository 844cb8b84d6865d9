//! Validation of input. Every error says what would be accepted.

mod web;

use crate::broker::model::NewCredential;
use crate::broker::model::{NewWorkspace, Page, WorkspaceChange};
use crate::domain::route::{TargetSpec, is_target_name};
use crate::domain::secret::SecretString;
use crate::domain::upstream::{Credential, CredentialSource, StreamPolicy, TrustRule};
use crate::domain::user::Role;
use crate::domain::web_app::WebAppConfig;
use crate::domain::workspace::{UpstreamConfig, Workspace, WorkspaceKind};
use crate::domain::{Error, OrganizationId, Result, Timestamp, WorkspaceId};
use std::str::FromStr;

/// Icons a workspace may have.
const ICONS: [&str; 5] = ["desktop", "terminal", "browser", "windows", "code"];
/// Maximum length of an upstream's password, in bytes. Windows accepts 127 characters; VNC
/// authentication uses the first 8 bytes (RFC 6143 section 7.2.2), and longer ones are accepted as
/// they are.
const PASSWORD_MAX: usize = 512;
/// Maximum length of an account or domain name, in characters: a Windows user principal name, a DNS
/// name.
const ACCOUNT_MAX: usize = 256;
/// Maximum number of certificate authorities of a workspace, and their size in bytes.
const ROOTS_MAX: usize = 16;
const ROOTS_BYTES: usize = 32 * 1024;
const DESKTOP_HAS_OWN_CREDENTIAL: &str = "A workspace without a target is a desktop that a host starts: its credential and its certificate are its own.";
/// Maximum page size of any listing.
const PAGE_MAX: u32 = 500;

/// A trimmed line of `1..=max` characters without control characters.
fn single_line(what: &str, text: &str, max: usize) -> Result<String> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > max || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{what} must be 1 to {max} characters on one line.")));
    }
    Ok(text.to_owned())
}

pub(in crate::broker) fn name(text: &str) -> Result<String> {
    single_line("A name", text, 80)
}

pub(in crate::broker) fn version(text: &str) -> Result<String> {
    single_line("A version", text, 64)
}

/// Checks the shape of an e-mail address, to catch typing mistakes (RFC 5321 section 4.5.3.1.3
/// bounds its length to 254).
pub(in crate::broker) fn email(text: &str) -> Result<String> {
    let text = text.trim();
    let shape = text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && local.len() <= 64
            && !domain.is_empty()
            && !domain.contains('@')
            && domain
                .split('.')
                .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
            && domain.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '.')
    });
    if !shape || text.len() > 254 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::invalid(
            "An e-mail address looks like name@example.com and has at most 254 bytes.",
        ));
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
        let tag = single_line("A tag", tag, 32)?;
        if !out.contains(&tag) {
            out.push(tag);
        }
    }
    Ok(out)
}

fn icon(text: &str) -> Result<String> {
    if ICONS.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(Error::invalid(format!("An icon is one of: {}.", ICONS.join(", "))))
    }
}

fn roles(list: &[Role]) -> Result<Vec<Role>> {
    let mut out: Vec<Role> = Vec::new();
    for &role in list {
        if !out.contains(&role) {
            out.push(role);
        }
    }
    if out.is_empty() {
        return Err(Error::invalid(
            "At least one role must be allowed; to take a workspace out of service, use maintenance.",
        ));
    }
    Ok(out)
}

/// Candidate ids of a new workspace, in order of preference: the requested one, or slugs made from
/// its name.
pub(in crate::broker) fn workspace_ids(new: &NewWorkspace) -> Result<Vec<WorkspaceId>> {
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
    let ids = (1..=20).map(|n| {
        if n == 1 { WorkspaceId::parse(slug) } else { WorkspaceId::parse(&format!("{slug}-{n}")) }
    });
    ids.collect::<Result<_, _>>().map_err(|e| Error::invalid(e.to_string()))
}

/// A new workspace with default values: every role may launch it, and a second factor is required.
pub(in crate::broker) fn workspace(
    new: &NewWorkspace,
    id: WorkspaceId,
    organization_id: OrganizationId,
    now: Timestamp,
) -> Result<Workspace> {
    let plain = Workspace {
        id,
        organization_id,
        name: name(&new.name)?,
        description: description(&new.description)?,
        kind: new.kind,
        target: None,
        icon: match new.kind {
            WorkspaceKind::Linux | WorkspaceKind::Vnc => "desktop",
            WorkspaceKind::Rdp => "windows",
            WorkspaceKind::Html5 => "browser",
        }
        .to_owned(),
        tags: Vec::new(),
        requires_mfa: true,
        // An existing desktop has one screen, which a second user would share. A web application
        // has none.
        single_seat: new.properties.target.is_some() && new.kind != WorkspaceKind::Html5,
        network: false,
        allowed_roles: Role::ALL.to_vec(),
        maintenance: false,
        policy: StreamPolicy::default(),
        upstream: UpstreamConfig {
            web_app: web::default_config(new.kind),
            ..UpstreamConfig::default()
        },
        created_at: now,
        updated_at: now,
    };
    let rest = WorkspaceChange { name: None, description: None, ..new.properties.clone() };
    let (workspace, _) = apply_change(&plain, &rest, now)?;
    if workspace.kind == WorkspaceKind::Vnc && workspace.is_agent_started() {
        return Err(Error::invalid("A workspace of type vnc names a server: give its target."));
    }
    Ok(workspace)
}

/// Validates a target without contacting anything.
fn validate_target(target: &TargetSpec, kind: WorkspaceKind) -> Result<TargetSpec> {
    match kind {
        WorkspaceKind::Vnc | WorkspaceKind::Rdp | WorkspaceKind::Html5 => {}
        WorkspaceKind::Linux => {
            return Err(Error::invalid(
                "Only a workspace of type vnc, rdp or html5 has a target: it names a server that runs already.",
            ));
        }
    }
    match target {
        TargetSpec::Host { port: 0, .. } => Err(Error::invalid("target.port must be 1 to 65535.")),
        TargetSpec::Direct { name } if !is_target_name(name) => Err(Error::invalid(
            "target.direct must be a name from the gateway's configuration: lower-case letters, digits and hyphens.",
        )),
        TargetSpec::Service { name, .. } if !is_target_name(name) => Err(Error::invalid(
            "target.service must be a name that the host's agent was given: lower-case letters, digits and hyphens.",
        )),
        TargetSpec::Host { .. } | TargetSpec::Service { .. } | TargetSpec::Direct { .. } => {
            Ok(target.clone())
        }
    }
}

pub(in crate::broker) fn validate_upstream_password(
    password: &SecretString,
    workspace: &Workspace,
) -> Result<()> {
    if !workspace.has_upstream() {
        return Err(Error::invalid(
            "Only a workspace of type vnc, rdp or html5 has a password: its server's.",
        ));
    }
    if workspace.is_agent_started() && !password.expose().is_empty() {
        return Err(Error::invalid(DESKTOP_HAS_OWN_CREDENTIAL));
    }
    if workspace.upstream.credential_source != CredentialSource::Workspace
        && !password.expose().is_empty()
    {
        return Err(Error::invalid(
            "password is the workspace's own; this one uses its users'. Set server.credential to workspace first.",
        ));
    }
    validate_password(password)?;
    if workspace.kind == WorkspaceKind::Html5 && !password.expose().is_empty() {
        web::validate_password(password, &workspace.upstream.web_app)?;
    }
    Ok(())
}

fn validate_password(password: &SecretString) -> Result<()> {
    let text = password.expose();
    if text.len() > PASSWORD_MAX || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "password must be at most {PASSWORD_MAX} bytes on one line."
        )));
    }
    Ok(())
}

/// An account or domain name; may be empty.
fn account(what: &str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.chars().count() > ACCOUNT_MAX || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "{what} must be at most {ACCOUNT_MAX} characters on one line."
        )));
    }
    Ok(text.to_owned())
}

pub(in crate::broker) fn validate_credential(new: NewCredential) -> Result<Credential> {
    validate_password(&new.password)?;
    if new.password.expose().is_empty() {
        return Err(Error::invalid("password must not be empty."));
    }
    let username = account("username", new.username.as_deref().unwrap_or_default())?;
    let domain = account("domain", new.domain.as_deref().unwrap_or_default())?;
    Ok(Credential { username, domain, password: new.password })
}

/// Whether the workspace's protocol accepts this kind of credential.
pub(in crate::broker) fn validate_for(
    credential: &Credential,
    workspace: &Workspace,
) -> Result<()> {
    match workspace.kind {
        WorkspaceKind::Rdp if credential.username.is_empty() => {
            Err(Error::invalid("username must not be empty: RDP signs in by name."))
        }
        WorkspaceKind::Vnc if !credential.domain.is_empty() => {
            Err(Error::invalid("VNC knows no domain."))
        }
        WorkspaceKind::Html5 => web::validate_credential(credential, &workspace.upstream.web_app),
        WorkspaceKind::Rdp | WorkspaceKind::Vnc | WorkspaceKind::Linux => Ok(()),
    }
}

/// Validates a trust rule: the authorities must parse, and the name must be a valid certificate
/// name.
fn validate_trust(rule: &TrustRule) -> Result<TrustRule> {
    let TrustRule::Authority { roots, name } = rule else { return Ok(rule.clone()) };
    let bad = || {
        Error::invalid(format!(
            "trust.roots must be 1 to {ROOTS_MAX} certificates in PEM, of at most {ROOTS_BYTES} bytes together."
        ))
    };
    if roots.len() > ROOTS_BYTES {
        return Err(bad());
    }
    let read = x509_cert::Certificate::load_pem_chain(roots.as_bytes()).map_err(|_| bad())?;
    if read.is_empty() || read.len() > ROOTS_MAX {
        return Err(bad());
    }
    let name = name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    if name.is_some_and(|name| rustls_pki_types::ServerName::try_from(name).is_err()) {
        return Err(Error::invalid(
            "trust.name must be the DNS name or the address that the server's certificate is for.",
        ));
    }
    Ok(TrustRule::Authority {
        roots: roots.trim().to_owned() + "\n",
        name: name.map(str::to_owned),
    })
}

/// Rejects combinations that no workspace may have.
fn validate_workspace(workspace: &Workspace) -> Result<()> {
    let terms = &workspace.upstream;
    if !workspace.has_upstream() {
        let plain = *terms == UpstreamConfig::default();
        return if plain {
            Ok(())
        } else {
            Err(Error::invalid("Only a workspace of type vnc, rdp or html5 has a server."))
        };
    }
    if workspace.kind == WorkspaceKind::Html5 {
        web::validate_workspace(workspace)?;
    } else if terms.web_app != WebAppConfig::default() {
        return Err(Error::invalid("web is for workspaces of type html5."));
    }
    if workspace.is_agent_started() {
        let own =
            UpstreamConfig { keyboard_layout: terms.keyboard_layout, ..UpstreamConfig::default() };
        return if *terms == own {
            Ok(())
        } else {
            Err(Error::invalid(DESKTOP_HAS_OWN_CREDENTIAL))
        };
    }
    if workspace.kind != WorkspaceKind::Rdp
        && (!terms.domain.is_empty() || terms.keyboard_layout.is_some())
    {
        return Err(Error::invalid(
            "server.domain and server.keyboard are for workspaces of type rdp.",
        ));
    }
    if workspace.kind != WorkspaceKind::Vnc && terms.exclusive {
        return Err(Error::invalid("server.exclusive is for workspaces of type vnc."));
    }
    if terms.credential_source != CredentialSource::Workspace
        && (!terms.username.is_empty() || !terms.domain.is_empty())
    {
        return Err(Error::invalid(
            "server.username and server.domain are the workspace's own; with this server.credential, users give theirs.",
        ));
    }
    Ok(())
}

/// Assigns a new value and records the field's name if it differs.
fn set_if_changed<T: PartialEq>(
    slot: &mut T,
    value: Option<T>,
    what: &'static str,
    names: &mut Vec<&'static str>,
) {
    if let Some(value) = value.filter(|v| v != slot) {
        *slot = value;
        names.push(what);
    }
}

/// Applies a change; returns the workspace and the names of the changed fields.
pub(in crate::broker) fn apply_change(
    old: &Workspace,
    change: &WorkspaceChange,
    now: Timestamp,
) -> Result<(Workspace, Vec<&'static str>)> {
    let mut next = old.clone();
    let mut names = Vec::new();
    set_if_changed(
        &mut next.name,
        change.name.as_deref().map(name).transpose()?,
        "name",
        &mut names,
    );
    set_if_changed(
        &mut next.description,
        change.description.as_deref().map(description).transpose()?,
        "description",
        &mut names,
    );
    set_if_changed(
        &mut next.icon,
        change.icon.as_deref().map(icon).transpose()?,
        "icon",
        &mut names,
    );
    set_if_changed(
        &mut next.tags,
        change.tags.as_deref().map(tags).transpose()?,
        "tags",
        &mut names,
    );
    set_if_changed(&mut next.requires_mfa, change.requires_mfa, "requires_mfa", &mut names);
    set_if_changed(&mut next.single_seat, change.single_seat, "single_seat", &mut names);
    set_if_changed(&mut next.network, change.network, "network", &mut names);
    set_if_changed(
        &mut next.allowed_roles,
        change.allowed_roles.as_deref().map(roles).transpose()?,
        "allowed_roles",
        &mut names,
    );
    if let Some(target) = &change.target {
        set_if_changed(
            &mut next.target,
            Some(Some(validate_target(target, old.kind)?)),
            "target",
            &mut names,
        );
    }
    set_if_changed(&mut next.maintenance, change.maintenance, "maintenance", &mut names);
    set_if_changed(
        &mut next.policy.clipboard,
        change.policy.clipboard,
        "policy.clipboard",
        &mut names,
    );
    set_if_changed(&mut next.policy.files, change.policy.files, "policy.files", &mut names);
    set_if_changed(
        &mut next.policy.read_only,
        change.policy.read_only,
        "policy.read_only",
        &mut names,
    );
    let server = &change.upstream;
    set_if_changed(
        &mut next.upstream.credential_source,
        server.source,
        "server.credential",
        &mut names,
    );
    // With another source, the workspace's own account name is cleared.
    if server.source.is_some_and(|source| source != CredentialSource::Workspace) {
        next.upstream.username.clear();
        next.upstream.domain.clear();
    }
    set_if_changed(
        &mut next.upstream.username,
        server.username.as_deref().map(|t| account("server.username", t)).transpose()?,
        "server.username",
        &mut names,
    );
    set_if_changed(
        &mut next.upstream.domain,
        server.domain.as_deref().map(|t| account("server.domain", t)).transpose()?,
        "server.domain",
        &mut names,
    );
    set_if_changed(
        &mut next.upstream.trust,
        server.trust.as_ref().map(validate_trust).transpose()?,
        "server.trust",
        &mut names,
    );
    set_if_changed(&mut next.upstream.exclusive, server.exclusive, "server.exclusive", &mut names);
    set_if_changed(
        &mut next.upstream.keyboard_layout,
        server.keyboard,
        "server.keyboard",
        &mut names,
    );
    web::apply_change(&mut next.upstream, &change.web, &mut names)?;
    validate_workspace(&next)?;
    if !names.is_empty() {
        next.updated_at = now;
    }
    Ok((next, names))
}

pub(in crate::broker) fn page_limit(asked: Option<u32>, default: u32) -> Result<usize> {
    match asked.unwrap_or(default) {
        n @ 1..=PAGE_MAX => Ok(n as usize),
        _ => Err(Error::invalid(format!("limit must be 1 to {PAGE_MAX}."))),
    }
}

/// Cuts a listing of up to `limit + 1` rows to a page, with the cursor of its last item.
pub(in crate::broker) fn page<T>(
    mut items: Vec<T>,
    limit: usize,
    cursor: impl Fn(&T) -> String,
) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| more).map(cursor);
    Page { items, next_cursor }
}

pub(in crate::broker) fn parse_cursor<A: FromStr, B: FromStr>(text: &str) -> Result<(A, B)> {
    let parts = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.ok_or_else(|| Error::invalid("cursor must be one that a former page gave."))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let old = workspace(
            &new("Desk"),
            WorkspaceId::parse("ws-desk").unwrap(),
            organization,
            Timestamp(1),
        )
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
}
