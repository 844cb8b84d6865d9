//! `portcullis user`, `workspace` and `host`: administration from the command line, by the use
//! cases of the API.

use super::admin_output::{print_hosts, print_users, print_workspaces};
use super::cli::{
    GatewayDataArgs, HostCommand, ServerArgs, UserCommand, WebArgs, WorkspaceArgs, WorkspaceCommand,
};
use super::failure::Failure;
use super::shell::{Shell, read_or_generate_password};
use super::{gateway, tls};
use crate::broker::model::{
    HostView, NewPeer, NewUser, NewWorkspace, PolicyChange, SessionLimitsChange, UpstreamChange,
    UserChange, WebChange, WorkspaceChange,
};
use crate::domain::HostId;
use crate::domain::route::TargetSpec;
use crate::domain::secret::SecretString;
use crate::domain::upstream::TrustRule;
use crate::domain::web_app::UpstreamSignIn;

/// Runs a `portcullis user` command.
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
            let made = shell.broker.users().create(&shell.source, &shell.caller, new).await?;
            println!("Created {} ({}).", made.email, made.role);
            print_generated_password(from.generate, &secret);
        }
        UserCommand::List { format, at } => {
            let shell = Shell::open(&at).await?;
            print_users(
                &shell.broker.users().list(&shell.source, &shell.caller).await?,
                format.json,
            );
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
            shell.broker.users().reset_mfa(&shell.source, &shell.caller, id).await?;
            println!(
                "Removed the second factor of {}: they enrol a new one at their next sign-in.",
                user.email
            );
        }
        UserCommand::SignOut { user } => {
            let shell = Shell::open(&user.at).await?;
            let id = shell.user(&user.email).await?.id;
            shell.broker.users().sign_out(&shell.source, &shell.caller, id).await?;
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
    shell.broker.users().update(&shell.source, &shell.caller, id, change).await?;
    Ok(())
}

/// Runs a `portcullis workspace` command.
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
            let made = shell.broker.workspaces().create(&shell.source, &shell.caller, new).await?;
            println!("Created {} ({}).", made.workspace.id, made.workspace.name);
        }
        WorkspaceCommand::List { format, at } => {
            let shell = Shell::open(&at).await?;
            let all = shell.broker.workspaces().list(&shell.caller).await?;
            print_workspaces(&all, format.json);
        }
        WorkspaceCommand::Update { id, name, rest, at } => {
            let shell = Shell::open(&at).await?;
            let change = workspace_change(&shell, rest, name).await?;
            shell.broker.workspaces().update(&shell.source, &shell.caller, &id, change).await?;
            println!("Changed {id}.");
        }
        WorkspaceCommand::AcceptCertificate { fingerprint, workspace } => {
            let shell = Shell::open(&workspace.at).await?;
            shell
                .broker
                .certificates()
                .accept(&shell.source, &shell.caller, &workspace.id, fingerprint)
                .await?;
            println!("The server of {} must have this certificate from now on.", workspace.id);
        }
        WorkspaceCommand::Delete { workspace } => {
            let shell = Shell::open(&workspace.at).await?;
            shell.broker.workspaces().delete(&shell.source, &shell.caller, &workspace.id).await?;
            println!("Removed {}: its sessions have ended.", workspace.id);
        }
        WorkspaceCommand::Stop { workspace } => {
            let shell = Shell::open(&workspace.at).await?;
            let ended =
                shell.broker.workspaces().stop(&shell.source, &shell.caller, &workspace.id).await?;
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
        session_limits: SessionLimitsChange {
            duration: args.session_duration.map(|time| time.0),
            extension: args.session_extension.map(|time| time.0),
            idle_timeout: args.idle_timeout.map(|time| time.0),
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
    // `--methods ""` is one empty word and means no restriction.
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
    let host_id = find_host(&shell.broker.hosts().list(&shell.source, &shell.caller).await?, host)?;
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

/// Runs a `portcullis host` command.
///
/// # Errors
/// A sentence for standard error.
pub async fn host(command: HostCommand) -> Result<(), Failure> {
    match command {
        HostCommand::JoinToken { name, valid_for, at } => {
            let shell = Shell::open(&at).await?;
            let token = shell
                .broker
                .hosts()
                .create_join_token(&shell.source, &shell.caller, name, valid_for.0)
                .await?;
            // A generated certificate is not publicly trusted: the host pins it.
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
                .peers()
                .add(&shell.source, &shell.caller, NewPeer { name, public_key, endpoint, address })
                .await?
                .host;
            println!(
                "Added {} with the address {}. `portcullis host config` prints its wg-quick file.",
                made.name, made.address
            );
        }
        HostCommand::Config { host, at } => {
            let shell = Shell::open(&at).await?;
            let hosts = shell.broker.hosts().list(&shell.source, &shell.caller).await?;
            let config = shell
                .broker
                .peers()
                .config(&shell.source, &shell.caller, find_host(&hosts, &host)?)
                .await?;
            print!("{}", config.expose());
        }
        HostCommand::List { format, at } => {
            let shell = Shell::open(&at).await?;
            print_hosts(
                &shell.broker.hosts().list(&shell.source, &shell.caller).await?,
                format.json,
            );
        }
        HostCommand::Drain { host, at } => {
            let sessions = set_drained(&at, &host, true).await?;
            println!("Drained {host}: it takes no new sessions. Live sessions on it: {sessions}.");
        }
        HostCommand::Undrain { host, at } => {
            set_drained(&at, &host, false).await?;
            println!("{host} takes sessions again.");
        }
        HostCommand::Remove { host, at } => {
            let shell = Shell::open(&at).await?;
            let hosts = shell.broker.hosts().list(&shell.source, &shell.caller).await?;
            let id = find_host(&hosts, &host)?;
            shell.broker.hosts().remove(&shell.source, &shell.caller, id).await?;
            println!("Removed {host}: its tunnel and the sessions on it have ended.");
        }
    }
    Ok(())
}

/// Drains a host or ends that; returns the number of live sessions on it.
async fn set_drained(at: &GatewayDataArgs, named: &str, drained: bool) -> Result<usize, Failure> {
    let shell = Shell::open(at).await?;
    let hosts = shell.broker.hosts();
    let id = find_host(&hosts.list(&shell.source, &shell.caller).await?, named)?;
    Ok(hosts.set_drained(&shell.source, &shell.caller, id, drained).await?.sessions)
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

/// `1 session`, `2 sessions`.
pub fn with_count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
