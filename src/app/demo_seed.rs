//! Data of a demo: users of every role, with generated passwords and second factors, and
//! workspaces. Seeding is idempotent.

use super::failure::Failure;
use super::shell::generated_password;
use crate::auth::totp;
use crate::broker::Broker;
use crate::broker::model::{NewUser, NewWorkspace, UserChange, WebChange, WorkspaceChange};
use crate::domain::principal::Principal;
use crate::domain::route::TargetSpec;
use crate::domain::secret::SecretString;
use crate::domain::upstream::StreamProtocol;
use crate::domain::user::{RequestSource, Role};
use crate::domain::workspace::WorkspaceKind;
use crate::domain::{HostId, WorkspaceId};
use crate::files;
use crate::host::desktop::rdp;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Credentials of a demo user.
#[derive(Clone, Serialize, Deserialize)]
pub struct DemoUser {
    /// E-mail address.
    pub email: String,
    pub password: String,
    /// `member`, `admin` or `security`.
    pub role: Role,
    /// Base32; `None`: not enrolled.
    pub totp_secret: Option<String>,
}

/// Address, name, role, and whether a second factor is enrolled.
const USERS: [(&str, &str, Role, bool); 4] = [
    ("alex@demo.test", "Alex Meyer", Role::Member, true),
    ("ada@demo.test", "Ada Santos", Role::Admin, true),
    ("sam@demo.test", "Sam Okafor", Role::Security, true),
    ("nora@demo.test", "Nora Lind", Role::Member, false),
];

struct Definition {
    id: &'static str,
    name: &'static str,
    description: &'static str,
    kind: WorkspaceKind,
    icon: &'static str,
    tags: &'static [&'static str],
    requires_mfa: bool,
    single_seat: bool,
    network: bool,
    roles: &'static [Role],
}

const WORKSPACES: [Definition; 5] = [
    Definition {
        id: "ws-linux-desktop",
        name: "Linux Desktop",
        description: "Your own desktop: terminal, files, and a home folder that stays.",
        kind: WorkspaceKind::Linux,
        icon: "desktop",
        tags: &["linux", "personal"],
        requires_mfa: false,
        single_seat: false,
        network: false,
        roles: &Role::ALL,
    },
    Definition {
        id: "ws-rdp-desktop",
        name: "Linux Desktop over RDP",
        description: "A Linux desktop in the protocol that Windows machines use. Your home folder is kept.",
        kind: WorkspaceKind::Rdp,
        icon: "desktop",
        tags: &["rdp", "personal"],
        requires_mfa: false,
        single_seat: false,
        network: false,
        roles: &Role::ALL,
    },
    Definition {
        id: "ws-shared-workstation",
        name: "Shared Workstation",
        description: "One seat for everybody: whoever is on it has it to themselves.",
        kind: WorkspaceKind::Linux,
        icon: "terminal",
        tags: &["linux", "shared"],
        requires_mfa: false,
        single_seat: true,
        network: false,
        roles: &Role::ALL,
    },
    Definition {
        id: "ws-secure-desktop",
        name: "Secure Desktop",
        description: "Opens only with a verified second factor, and reaches no network.",
        kind: WorkspaceKind::Linux,
        icon: "desktop",
        tags: &["linux", "restricted"],
        requires_mfa: true,
        single_seat: false,
        network: false,
        roles: &Role::ALL,
    },
    Definition {
        id: "ws-operations",
        name: "Operations Console",
        description: "For administrators: a desktop that reaches the host's network.",
        kind: WorkspaceKind::Linux,
        icon: "terminal",
        tags: &["linux", "operations"],
        requires_mfa: true,
        single_seat: false,
        network: true,
        roles: &[Role::Admin],
    },
];

/// Beginning of the description of a workspace whose programs are not installed.
const UNAVAILABLE: &str = "Not available on this machine:";

fn is_seeded_description(description: &str, d: &Definition) -> bool {
    description == d.description || description.starts_with(UNAVAILABLE)
}

/// The ids of the demo's workspaces.
#[must_use]
pub fn workspace_ids() -> Vec<&'static str> {
    WORKSPACES.iter().map(|w| w.id).chain([BOARD_ID]).collect()
}

/// Name of the agent's service.
pub const BOARD_SERVICE: &str = "board";
const BOARD_ID: &str = "ws-team-board";

/// Creates the web application's workspace, or points it to this host's service. Needs an enrolled
/// agent.
///
/// # Errors
/// A sentence for standard error.
pub async fn ensure_board_workspace(broker: &Broker, host_id: HostId) -> Result<(), Failure> {
    let (caller, source) =
        (broker.organizations().system_principal().await?, RequestSource::local("demo"));
    let id = WorkspaceId::parse(BOARD_ID).map_err(|e| Failure::new(e.to_string()))?;
    let target = TargetSpec::Service { host_id, name: BOARD_SERVICE.to_owned() };
    let change = WorkspaceChange { target: Some(target.clone()), ..WorkspaceChange::default() };
    // Listed, since a question for one that is not there yet would be audited as a denial.
    let listed = broker.workspaces().list(&caller).await?;
    match listed.into_iter().find(|view| view.workspace.id == id) {
        // The agent has enrolled again since the last start.
        Some(found) if found.target() != Some(&target) => broker
            .workspaces()
            .update(&source, &caller, &id, change)
            .await
            .map(drop)
            .map_err(Failure::from),
        Some(_) => Ok(()),
        None => {
            let web = WebChange { identity_headers: Some(true), ..WebChange::default() };
            let tags = Some(["web", "shared"].map(str::to_owned).to_vec());
            let roles = Some(Role::ALL.to_vec());
            let icon = Some("browser".to_owned());
            let rest = WorkspaceChange {
                icon,
                tags,
                requires_mfa: Some(false),
                single_seat: Some(false),
                allowed_roles: roles,
                web,
                ..change
            };
            let description = "A web application: sticky notes that everybody on the board sees move. It has no sign-in of its own.".to_owned();
            let new = NewWorkspace {
                id: Some(id),
                name: "Team Board".to_owned(),
                description,
                kind: WorkspaceKind::Html5,
                properties: rest,
            };
            broker.workspaces().create(&source, &caller, new).await.map(drop).map_err(Failure::from)
        }
    }
}

/// Creates the demo's users and workspaces, and returns the credentials. Those of the first start
/// are stored in `secrets`, since the database holds no passwords.
///
/// # Errors
/// A sentence for standard error.
pub async fn seed(broker: &Broker, secrets: &Path) -> Result<Vec<DemoUser>, Failure> {
    let (caller, source) =
        (broker.organizations().system_principal().await?, RequestSource::local("demo"));
    let known = saved_users(secrets)?;
    let users: Vec<DemoUser> = USERS
        .iter()
        .map(|row| {
            known.iter().find(|u| u.email == row.0).cloned().unwrap_or_else(|| new_user(row))
        })
        .collect();
    // Stored before they are set, so that an interrupted start leaves no unknown password.
    files::replace_private(
        secrets,
        &serde_json::to_vec_pretty(&users).map_err(|e| Failure::new(e.to_string()))?,
    )
    .map_err(|e| Failure::new(format!("cannot write {}: {e}", secrets.display())))?;
    for (user, (email, name, ..)) in users.iter().zip(USERS) {
        let is_known = known.iter().any(|u| u.email == email);
        if !is_known || broker.users().find_by_email(&caller, email).await?.is_none() {
            ensure_user(broker, &caller, &source, name, user).await?;
        }
    }
    for definition in &WORKSPACES {
        ensure_workspace(broker, &caller, &source, definition).await?;
    }
    Ok(users)
}

fn new_user(&(email, _, role, enrolled): &(&str, &str, Role, bool)) -> DemoUser {
    DemoUser {
        email: email.to_owned(),
        password: generated_password().expose().clone(),
        role,
        totp_secret: enrolled.then(|| totp::new_secret().expose().clone()),
    }
}

fn saved_users(secrets: &Path) -> Result<Vec<DemoUser>, Failure> {
    match files::read_private(secrets) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| Failure::new(format!("{} does not read: {e}", secrets.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Failure::new(format!("cannot read {}: {e}", secrets.display()))),
    }
}

/// Creates a user, or sets a new password for one whose password is lost.
async fn ensure_user(
    broker: &Broker,
    caller: &Principal,
    source: &RequestSource,
    name: &str,
    user: &DemoUser,
) -> Result<(), Failure> {
    let password = SecretString::new(user.password.clone());
    let id = match broker.users().find_by_email(caller, &user.email).await? {
        Some(found) => {
            let change = UserChange {
                password: Some(password),
                disabled: Some(false),
                ..UserChange::default()
            };
            broker.users().update(source, caller, found.id, change).await?.id
        }
        None => {
            let new = NewUser {
                email: user.email.clone(),
                name: name.to_owned(),
                password,
                role: user.role,
            };
            broker.users().create(source, caller, new).await?.id
        }
    };
    if let Some(secret) = &user.totp_secret {
        broker.totp().set(source, caller, id, &SecretString::new(secret.clone())).await?;
    }
    Ok(())
}

/// A workspace's description: what it is, or why it is not available on this machine.
fn description_for(d: &Definition, missing: &[&str]) -> String {
    if missing.is_empty() {
        return d.description.to_owned();
    }
    format!("{UNAVAILABLE} install {} and start the demo again.", missing.join(", "))
}

async fn ensure_workspace(
    broker: &Broker,
    caller: &Principal,
    source: &RequestSource,
    d: &Definition,
) -> Result<(), Failure> {
    let id = WorkspaceId::parse(d.id).map_err(|e| Failure::new(e.to_string()))?;
    let missing =
        if d.kind.protocol() == StreamProtocol::Rdp { rdp::missing_packages() } else { Vec::new() };
    let description = description_for(d, &missing);
    let rest = WorkspaceChange {
        icon: Some(d.icon.to_owned()),
        tags: Some(d.tags.iter().map(|t| (*t).to_owned()).collect()),
        requires_mfa: Some(d.requires_mfa),
        single_seat: Some(d.single_seat),
        network: Some(d.network),
        allowed_roles: Some(d.roles.to_vec()),
        maintenance: Some(!missing.is_empty()),
        ..WorkspaceChange::default()
    };
    let new = NewWorkspace {
        id: Some(id.clone()),
        name: d.name.to_owned(),
        description: description.clone(),
        kind: d.kind,
        properties: rest,
    };
    // Listed, since a question for one that is not there yet would be audited as a denial.
    let listed = broker.workspaces().list(caller).await?;
    match listed.into_iter().find(|view| view.workspace.id == id) {
        // Packages were installed or removed since the last start. An administrator's own text
        // stays.
        Some(found)
            if found.workspace.description != description
                && is_seeded_description(&found.workspace.description, d) =>
        {
            let maintenance = Some(!missing.is_empty());
            let change = WorkspaceChange {
                description: Some(description),
                maintenance,
                ..WorkspaceChange::default()
            };
            broker
                .workspaces()
                .update(source, caller, &id, change)
                .await
                .map(drop)
                .map_err(Failure::from)
        }
        Some(_) => Ok(()),
        None => {
            broker.workspaces().create(source, caller, new).await.map(drop).map_err(Failure::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_names_missing_packages_and_only_seeded_ones_are_replaced() {
        let rdp = WORKSPACES.iter().find(|d| d.kind == WorkspaceKind::Rdp).unwrap();
        let without = description_for(rdp, &["xrdp", "xorgxrdp"]);
        assert_eq!(
            without,
            "Not available on this machine: install xrdp, xorgxrdp and start the demo again."
        );
        assert_eq!(description_for(rdp, &[]), rdp.description);
        assert!(
            is_seeded_description(&without, rdp)
                && is_seeded_description(rdp.description, rdp)
                && !is_seeded_description("For the front desk.", rdp)
        );
    }
}
