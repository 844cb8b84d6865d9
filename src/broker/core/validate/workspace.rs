//! New and changed workspaces.

use super::credential::account;
use super::fields::{name, set_if_changed, single_line};
use super::{session_limits, web};
use crate::broker::model::{NewWorkspace, WorkspaceChange};
use crate::domain::route::{TargetSpec, is_target_name};
use crate::domain::session_times::SessionLimits;
use crate::domain::upstream::{CredentialSource, TrustRule};
use crate::domain::user::Role;
use crate::domain::workspace::{Workspace, WorkspaceFields, WorkspaceSpec};
use crate::domain::{Error, OrganizationId, Result, Timestamp, WorkspaceId};

/// Icons a workspace may have.
const ICONS: [&str; 5] = ["desktop", "terminal", "browser", "windows", "code"];

/// Maximum number of certificate authorities of a workspace, and their size in bytes.
const ROOTS_MAX: usize = 16;

const ROOTS_BYTES: usize = 32 * 1024;

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
    let properties = new.kind.properties();
    let fields = WorkspaceFields {
        target: new.properties.target.as_ref().map(validate_target).transpose()?,
        ..(properties.initial_fields)()
    };
    let plain = Workspace {
        id,
        organization_id,
        name: name(&new.name)?,
        description: description(&new.description)?,
        icon: properties.icon.to_owned(),
        tags: Vec::new(),
        requires_mfa: true,
        // A server that runs already has one screen, which a second user would share.
        single_seat: fields.target.is_some() && properties.protocol.has_screen(),
        allowed_roles: Role::ALL.to_vec(),
        maintenance: false,
        session_limits: SessionLimits::default(),
        spec: WorkspaceSpec::from_fields(new.kind, fields)?,
        created_at: now,
        updated_at: now,
    };
    let rest = WorkspaceChange { name: None, description: None, ..new.properties.clone() };
    let (workspace, _) = apply_change(&plain, &rest, now)?;
    Ok(workspace)
}

/// Validates a target without contacting anything.
fn validate_target(target: &TargetSpec) -> Result<TargetSpec> {
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

/// Applies a change; returns the workspace and the names of the changed fields.
pub(in crate::broker) fn apply_change(
    old: &Workspace,
    change: &WorkspaceChange,
    now: Timestamp,
) -> Result<(Workspace, Vec<&'static str>)> {
    let mut next = old.clone();
    let mut fields = old.driver().fields();
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
    set_if_changed(&mut fields.network, change.network, "network", &mut names);
    set_if_changed(
        &mut next.allowed_roles,
        change.allowed_roles.as_deref().map(roles).transpose()?,
        "allowed_roles",
        &mut names,
    );
    if let Some(target) = &change.target {
        set_if_changed(
            &mut fields.target,
            Some(Some(validate_target(target)?)),
            "target",
            &mut names,
        );
    }
    set_if_changed(&mut next.maintenance, change.maintenance, "maintenance", &mut names);
    set_if_changed(
        &mut fields.policy.clipboard,
        change.policy.clipboard,
        "policy.clipboard",
        &mut names,
    );
    set_if_changed(&mut fields.policy.files, change.policy.files, "policy.files", &mut names);
    set_if_changed(
        &mut fields.policy.read_only,
        change.policy.read_only,
        "policy.read_only",
        &mut names,
    );
    session_limits::apply_change(&mut next.session_limits, change.session_limits, &mut names)?;
    let server = &change.upstream;
    set_if_changed(
        &mut fields.upstream.credential_source,
        server.source,
        "server.credential",
        &mut names,
    );
    // With another source, the workspace's own account name is cleared.
    if server.source.is_some_and(|source| source != CredentialSource::Workspace) {
        fields.upstream.username.clear();
        fields.upstream.domain.clear();
    }
    set_if_changed(
        &mut fields.upstream.username,
        server.username.as_deref().map(|t| account("server.username", t)).transpose()?,
        "server.username",
        &mut names,
    );
    set_if_changed(
        &mut fields.upstream.domain,
        server.domain.as_deref().map(|t| account("server.domain", t)).transpose()?,
        "server.domain",
        &mut names,
    );
    set_if_changed(
        &mut fields.upstream.trust,
        server.trust.as_ref().map(validate_trust).transpose()?,
        "server.trust",
        &mut names,
    );
    set_if_changed(
        &mut fields.upstream.exclusive,
        server.exclusive,
        "server.exclusive",
        &mut names,
    );
    set_if_changed(
        &mut fields.upstream.keyboard_layout,
        server.keyboard,
        "server.keyboard",
        &mut names,
    );
    web::apply_change(&mut fields, &change.web, &mut names)?;
    next.spec = WorkspaceSpec::from_fields(old.kind(), fields)?;
    next.driver().validate()?;
    validate_network(change, old, &next, &mut names)?;
    if !names.is_empty() {
        next.updated_at = now;
    }
    Ok((next, names))
}

/// Only a started desktop has a network. One whose workspace now names a server loses the setting.
fn validate_network(
    change: &WorkspaceChange,
    old: &Workspace,
    next: &Workspace,
    names: &mut Vec<&'static str>,
) -> Result<()> {
    if next.driver().started_desktop().is_some() {
        return Ok(());
    }
    if change.network == Some(true) {
        return Err(Error::invalid(
            "network is for desktops that a host starts; a server that runs already has its own.",
        ));
    }
    if old.driver().fields().network && !names.contains(&"network") {
        names.push("network");
    }
    Ok(())
}
