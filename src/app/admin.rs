//! `portcullis user`, `workspace` and `host`: administration from the shell, on the same use cases
//! as the API.

use super::cli::{HostCommand, ServerArgs, UserCommand, WebArgs, WorkspaceArgs, WorkspaceCommand};
use super::failure::Failure;
use super::shell::{Shell, print_table, read_or_generate_password};
use super::{gateway, tls};
use crate::broker::model::{
    HostView, NewPeer, NewUser, NewWorkspace, PolicyChange, UpstreamChange, UserChange, WebChange,
    WorkspaceChange, WorkspaceView,
};
use crate::domain::route::TargetSpec;
use crate::domain::secret::SecretString;
use crate::domain::upstream::TrustRule;
use crate::domain::user::User;
use crate::domain::web_app::{UpstreamSignIn, WebAppConfig};
use crate::domain::{HostId, Timestamp};
use serde_json::json;

/// Does a `portcullis user` command.
///
/// # Errors
/// A sentence for standard error.
pub async fn user(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Create { email, name, role, password: from, at } => {
            let shell = Shell::open(&at).await?;
            let secret = read_or_generate_password(from.generate)?;
            let name =
                name.unwrap_or_else(|| email.split('@').next().unwrap_or_default().to_owned());
            let new = NewUser { email, name, password: secret.clone(), role };
            let made = shell.broker.create_user(&shell.origin, &shell.caller, new).await?;
            println!("Created {} ({}).", made.email, made.role);
            print_generated_password(from.generate, &secret);
        }
        UserCommand::List { format, at } => {
            let shell = Shell::open(&at).await?;
            list_users(&shell.broker.users(&shell.origin, &shell.caller).await?, format.json);
        }
        UserCommand::Disable { user } => {
            let shell = Shell::open(&user.at).await?;
            update_user(
                &shell,
                &user.email,
                UserChange { disabled: Some(true), ..UserChange::default() },
            )
            .await?;
            println!("Disabled {}: their sessions and logins have ended.", user.email);
        }
        UserCommand::Enable { user } => {
            let shell = Shell::open(&user.at).await?;
            update_user(
                &shell,
                &user.email,
                UserChange { disabled: Some(false), ..UserChange::default() },
            )
            .await?;
            println!("Enabled {}.", user.email);
        }
        UserCommand::SetPassword { user, password: from } => {
            let shell = Shell::open(&user.at).await?;
            shell.user(&user.email).await?;
            let secret = read_or_generate_password(from.generate)?;
            update_user(
                &shell,
                &user.email,
                UserChange { password: Some(secret.clone()), ..UserChange::default() },
            )
            .await?;
            println!("Set a new password for {}.", user.email);
            print_generated_password(from.generate, &secret);
        }
        UserCommand::ResetMfa { user } => {
            let shell = Shell::open(&user.at).await?;
            let id = shell.user(&user.email).await?.id;
            shell.broker.reset_mfa(&shell.origin, &shell.caller, id).await?;
            println!(
                "Removed the second factor of {}: they enrol a new one at their next sign-in.",
                user.email
            );
        }
        UserCommand::SignOut { user } => {
            let shell = Shell::open(&user.at).await?;
            let id = shell.user(&user.email).await?.id;
            shell.broker.sign_out_user(&shell.origin, &shell.caller, id).await?;
            println!("Signed {} out everywhere.", user.email);
        }
    }
    Ok(())
}

fn print_generated_password(generated: bool, secret: &SecretString) {
    if generated {
        println!("Password (shown only now): {}", secret.expose());
    }
}

async fn update_user(shell: &Shell, email: &str, change: UserChange) -> Result<(), Failure> {
    let id = shell.user(email).await?.id;
    shell.broker.update_user(&shell.origin, &shell.caller, id, change).await?;
    Ok(())
}

fn list_users(users: &[User], as_json: bool) {
    if as_json {
        let list: Vec<_> = users
            .iter()
            .map(|u| {
                json!({"id": u.id, "email": u.email, "name": u.name, "role": u.role, "organization_id": u.organization_id,
                    "mfa_enrolled": u.mfa_enrolled, "disabled": u.disabled, "created_at": u.created_at, "last_login_at": u.last_login_at})
            })
            .collect();
        println!("{}", json!(list));
        return;
    }
    let rows: Vec<Vec<String>> = users
        .iter()
        .map(|u| {
            let state = if u.disabled { "disabled" } else { "enabled" };
            vec![
                u.email.clone(),
                u.name.clone(),
                u.role.to_string(),
                yes_or_no(u.mfa_enrolled),
                state.into(),
                time_or_never(u.last_login_at),
            ]
        })
        .collect();
    print_table(&["EMAIL", "NAME", "ROLE", "2ND FACTOR", "STATE", "LAST SIGN-IN"], &rows);
}

/// Does a `portcullis workspace` command.
///
/// # Errors
/// A sentence for standard error.
pub async fn workspace(command: WorkspaceCommand) -> Result<(), Failure> {
    match command {
        WorkspaceCommand::Create { id, name, r#type, rest, at } => {
            let shell = Shell::open(&at).await?;
            let description = rest.description.clone().unwrap_or_default();
            let new = NewWorkspace {
                id: Some(id),
                name,
                description,
                kind: r#type,
                properties: workspace_change(&shell, rest, None).await?,
            };
            let made = shell.broker.create_workspace(&shell.origin, &shell.caller, new).await?;
            println!("Created {} ({}).", made.workspace.id, made.workspace.name);
        }
        WorkspaceCommand::List { format, at } => {
            let shell = Shell::open(&at).await?;
            let all = shell.broker.workspaces(&shell.caller).await?;
            if format.json {
                let list: Vec<_> = all
                    .iter()
                    .map(|v| {
                        let w = &v.workspace;
                        json!({"id": w.id, "name": w.name, "description": w.description, "type": w.kind, "icon": w.icon, "tags": w.tags,
                            "requires_mfa": w.requires_mfa, "single_seat": w.single_seat, "network": w.network,
                            "allowed_roles": w.allowed_roles, "maintenance": w.maintenance, "target": w.target.as_ref().map(target_json),
                            "policy": {"clipboard": w.policy.clipboard.as_str(), "files": w.policy.files, "read_only": w.policy.read_only},
                            "server": server_json(v)})
                    })
                    .collect();
                println!("{}", json!(list));
                return Ok(());
            }
            let rows: Vec<Vec<String>> = all
                .iter()
                .map(|v| {
                    let w = &v.workspace;
                    let roles: Vec<&str> = w.allowed_roles.iter().map(|r| r.as_str()).collect();
                    let seats = if w.single_seat { "one" } else { "each user" };
                    let state = if w.maintenance { "maintenance" } else { "in service" };
                    vec![
                        w.id.to_string(),
                        w.name.clone(),
                        w.kind.as_str().into(),
                        seats.into(),
                        yes_or_no(w.requires_mfa),
                        roles.join(","),
                        state.into(),
                    ]
                })
                .collect();
            print_table(
                &["ID", "NAME", "TYPE", "SEATS", "NEEDS 2ND FACTOR", "ROLES", "STATE"],
                &rows,
            );
        }
        WorkspaceCommand::Update { id, name, rest, at } => {
            let shell = Shell::open(&at).await?;
            let change = workspace_change(&shell, rest, name).await?;
            shell.broker.update_workspace(&shell.origin, &shell.caller, &id, change).await?;
            println!("Changed {id}.");
        }
        WorkspaceCommand::AcceptCertificate { fingerprint, workspace } => {
            let shell = Shell::open(&workspace.at).await?;
            shell
                .broker
                .accept_certificate(
                    &shell.origin,
                    &shell.caller,
                    &workspace.id,
                    &fingerprint.to_string(),
                )
                .await?;
            println!("The server of {} must have this certificate from now on.", workspace.id);
        }
        WorkspaceCommand::Delete { workspace } => {
            let shell = Shell::open(&workspace.at).await?;
            shell.broker.delete_workspace(&shell.origin, &shell.caller, &workspace.id).await?;
            println!("Removed {}: its sessions have ended.", workspace.id);
        }
        WorkspaceCommand::Stop { workspace } => {
            let shell = Shell::open(&workspace.at).await?;
            let ended =
                shell.broker.stop_workspace(&shell.origin, &shell.caller, &workspace.id).await?;
            println!("Stopped {}: {} ended.", workspace.id, with_count(ended.len(), "session"));
        }
    }
    Ok(())
}

async fn workspace_change(
    shell: &Shell,
    args: WorkspaceArgs,
    name: Option<String>,
) -> Result<WorkspaceChange, Failure> {
    let server = *args.server;
    let target = resolve_target(shell, &server).await?;
    let trust = trust_rule(&server)?;
    let web = web_change(*args.web)?;
    let password = if server.password { Some(read_or_generate_password(false)?) } else { None };
    Ok(WorkspaceChange {
        target,
        password,
        name,
        description: args.description,
        icon: args.icon,
        tags: args.tags,
        requires_mfa: args.requires_mfa,
        single_seat: args.single_seat,
        network: args.network,
        allowed_roles: args.allowed_roles,
        maintenance: args.maintenance,
        policy: PolicyChange {
            clipboard: args.clipboard,
            files: args.files,
            read_only: args.read_only,
        },
        upstream: UpstreamChange {
            source: server.credential,
            username: server.username,
            domain: server.domain,
            trust,
            exclusive: server.exclusive,
            keyboard: server.keyboard.map(|layout| layout.0),
        },
        web,
    })
}

fn web_change(args: WebArgs) -> Result<WebChange, Failure> {
    let sign_in = match (args.sign_in.as_deref(), args.sign_in_header) {
        (None, None) => None,
        (Some("none"), None) => Some(UpstreamSignIn::None),
        (Some("basic"), None) => Some(UpstreamSignIn::Basic),
        (Some("header"), Some(name)) => Some(UpstreamSignIn::Header(name)),
        _ => {
            return Err(Failure::new(
                "--sign-in header needs --sign-in-header, and the others have none",
            ));
        }
    };
    // `--methods ""` is one empty word: nothing is named, so everything may pass.
    let words = |list: Option<Vec<String>>| {
        list.map(|list| list.into_iter().filter(|word| !word.trim().is_empty()).collect())
    };
    Ok(WebChange {
        scheme: args.scheme,
        host: args.web_host,
        start: args.start,
        identity_headers: args.identity_headers,
        assertion_audience: args.assertion_audience.map(Some),
        sign_in,
        methods: words(args.methods),
        paths: words(args.paths),
        upload: args.upload,
        download: args.download,
        max_request: args.max_request,
    })
}

async fn resolve_target(shell: &Shell, args: &ServerArgs) -> Result<Option<TargetSpec>, Failure> {
    let Some(host) = &args.host else {
        return Ok(args.direct.clone().map(|name| TargetSpec::Direct { name }));
    };
    let host_id = find_host(&shell.broker.hosts(&shell.origin, &shell.caller).await?, host)?;
    match (args.port, args.service.clone()) {
        (Some(port), _) => Ok(Some(TargetSpec::Host { host_id, port })),
        (None, Some(name)) => Ok(Some(TargetSpec::Service { host_id, name })),
        (None, None) => Err(Failure::new(
            "--host needs --port (a standard peer) or --service (a host with an agent)",
        )),
    }
}

fn trust_rule(args: &ServerArgs) -> Result<Option<TrustRule>, Failure> {
    let Some(rule) = &args.trust else { return Ok(None) };
    match (rule.as_str(), args.fingerprint, &args.roots) {
        ("first_use", None, None) => Ok(Some(TrustRule::FirstUse)),
        ("pinned", Some(pin), None) => Ok(Some(TrustRule::Pinned(pin))),
        ("authority", None, Some(file)) => {
            let roots = std::fs::read_to_string(file)
                .map_err(|e| Failure::new(format!("cannot read {}: {e}", file.display())))?;
            Ok(Some(TrustRule::Authority { roots, name: args.trust_name.clone() }))
        }
        _ => Err(Failure::new(
            "--trust pinned needs --fingerprint, --trust authority needs --roots, and --trust first_use neither",
        )),
    }
}

/// A workspace's server, as `--json` shows it.
fn server_json(view: &WorkspaceView) -> Option<serde_json::Value> {
    let server = view.upstream.as_ref()?;
    let managed = server.managed.as_ref()?;
    let trust = match &managed.trust {
        TrustRule::FirstUse => json!({"rule": "first_use"}),
        TrustRule::Pinned(pin) => json!({"rule": "pinned", "fingerprint": pin.to_string()}),
        TrustRule::Authority { roots, name } => {
            json!({"rule": "authority", "roots": roots, "name": name})
        }
    };
    let (pinned, offered) = (managed.state.pinned, managed.state.offered.as_ref());
    let web = managed.web.as_ref().map(web_json);
    Some(
        json!({"credential": server.source.as_str(), "credential_saved": server.credential_saved, "exclusive": server.exclusive,
        "keyboard": server.keyboard.map(|id| format!("0x{id:08x}")), "username": managed.username, "domain": managed.domain, "trust": trust, "web": web,
        "certificate": {"pinned": pinned.map(|(pin, _)| pin.to_string()), "pinned_at": pinned.map(|(_, at)| at),
            "offered": offered.map(|o| o.fingerprint.to_string()), "offered_at": offered.map(|o| o.at), "offered_subject": offered.map(|o| &o.subject)}}),
    )
}

/// A web application, as `--json` shows it.
fn web_json(web: &WebAppConfig) -> serde_json::Value {
    let (identity, requests) = (&web.identity, &web.requests);
    let sign_in = match &web.sign_in {
        UpstreamSignIn::None => json!({"by": "none"}),
        UpstreamSignIn::Basic => json!({"by": "basic"}),
        UpstreamSignIn::Header(name) => json!({"by": "header", "header": name}),
    };
    json!({"scheme": web.scheme.as_str(), "host": web.host, "start": web.start, "sign_in": sign_in,
        "identity": {"headers": identity.headers, "assertion_audience": identity.assertion_audience},
        "requests": {"methods": requests.methods, "paths": requests.paths, "upload": requests.upload, "download": requests.download,
            "max_request": requests.max_request}})
}

fn target_json(target: &TargetSpec) -> serde_json::Value {
    match target {
        TargetSpec::Host { host_id, port } => json!({"host_id": host_id, "port": port}),
        TargetSpec::Service { host_id, name } => json!({"host_id": host_id, "service": name}),
        TargetSpec::Direct { name } => json!({"direct": name}),
    }
}

/// Does a `portcullis host` command.
///
/// # Errors
/// A sentence for standard error.
pub async fn host(command: HostCommand) -> Result<(), Failure> {
    match command {
        HostCommand::JoinToken { name, valid_for, at } => {
            let shell = Shell::open(&at).await?;
            let token = shell
                .broker
                .create_join_token(&shell.origin, &shell.caller, name, valid_for.0)
                .await?;
            // A certificate of our own is known to nobody: the host is told which one to believe.
            let pin = match shell.config.pem_files() {
                Some(_) => String::new(),
                None => format!(
                    " --pin {}",
                    tls::fingerprint(
                        &gateway::own_certificate(&shell.config, shell.broker.now())?.certificate
                    )?
                ),
            };
            println!("On the workspace host, until {}:", token.expires_at);
            println!(
                "portcullis agent --gateway {} --join {}{pin}",
                shell.config.server.public_url,
                token.token.expose()
            );
        }
        HostCommand::AddPeer { name, public_key, endpoint, address, at } => {
            let shell = Shell::open(&at).await?;
            let made = shell
                .broker
                .add_peer(
                    &shell.origin,
                    &shell.caller,
                    NewPeer { name, public_key, endpoint, address },
                )
                .await?
                .host;
            println!(
                "Added {} with the address {}. `portcullis host config` prints its wg-quick file.",
                made.name, made.address
            );
        }
        HostCommand::Config { host, at } => {
            let shell = Shell::open(&at).await?;
            let hosts = shell.broker.hosts(&shell.origin, &shell.caller).await?;
            let config = shell
                .broker
                .host_config(&shell.origin, &shell.caller, find_host(&hosts, &host)?)
                .await?;
            print!("{}", config.expose());
        }
        HostCommand::List { format, at } => {
            let shell = Shell::open(&at).await?;
            list_hosts(&shell.broker.hosts(&shell.origin, &shell.caller).await?, format.json);
        }
        HostCommand::Remove { host, at } => {
            let shell = Shell::open(&at).await?;
            let hosts = shell.broker.hosts(&shell.origin, &shell.caller).await?;
            let id = find_host(&hosts, &host)?;
            shell.broker.remove_host(&shell.origin, &shell.caller, id).await?;
            println!("Removed {host}: its tunnel and the sessions on it have ended.");
        }
    }
    Ok(())
}

fn find_host(hosts: &[HostView], named: &str) -> Result<HostId, Failure> {
    let mut found =
        hosts.iter().map(|v| &v.host).filter(|h| h.name == named || h.id.to_string() == named);
    match (found.next(), found.next()) {
        (Some(host), None) => Ok(host.id),
        (Some(_), Some(_)) => Err(Failure::new(format!(
            "several hosts are named {named}; give an id from `portcullis host list`"
        ))),
        (None, _) => {
            Err(Failure::new(format!("there is no host {named}; `portcullis host list` shows all")))
        }
    }
}

fn list_hosts(hosts: &[HostView], as_json: bool) {
    if as_json {
        let list: Vec<_> = hosts
            .iter()
            .map(|v| {
                let h = &v.host;
                json!({"id": h.id, "name": h.name, "kind": h.kind.as_str(), "public_key": h.public_key, "address": h.address, "endpoint": h.endpoint, "version": h.version,
                    "enrolled_at": h.enrolled_at, "last_seen_at": h.last_seen_at, "sessions": v.sessions})
            })
            .collect();
        println!("{}", json!(list));
        return;
    }
    // Whether a host is connected only its gateway knows: nothing is said about it here.
    let rows: Vec<Vec<String>> = hosts
        .iter()
        .map(|v| {
            let h = &v.host;
            vec![
                h.id.to_string(),
                h.name.clone(),
                h.kind.as_str().into(),
                h.address.to_string(),
                h.version.clone(),
                v.sessions.to_string(),
                time_or_never(h.last_seen_at),
            ]
        })
        .collect();
    print_table(&["ID", "NAME", "KIND", "ADDRESS", "VERSION", "SESSIONS", "LAST SEEN"], &rows);
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn time_or_never(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".to_owned(), |t| t.to_string())
}

/// `1 session`, `2 sessions`.
pub fn with_count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
