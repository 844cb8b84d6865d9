//! The demo: a gateway with SQLite and a generated certificate, and an agent in the same process,
//! without configuration. The agent enrols with a one-time token over HTTPS and is reached through
//! a WireGuard tunnel over loopback, as in production.

use super::cli::{DemoArgs, TotpCodeArgs};
use super::demo_seed::{self, DemoUser};
use super::failure::Failure;
use super::gateway::{self, Gateway};
use super::signals::StopSignals;
use super::{agent, demo_board};
use crate::auth::totp;
use crate::broker::Broker;
use crate::broker::model::HostView;
use crate::broker::model::TunnelState;
use crate::config::Config;
use crate::config::value::DirectTarget;
use crate::domain::HostId;
use crate::domain::host::HostKind;
use crate::domain::secret::SecretString;
use crate::domain::user::RequestSource;
use crate::files;
use crate::host::enroll::{Enrollment, Trust};
use crate::telemetry;
use serde_json::json;
use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Read by scripts; exists only while the demo is ready.
const READY_FILE: &str = "demo.json";
/// Users with their passwords, created at the first start.
const USERS_FILE: &str = "demo-users.json";
/// The UDP port of the hub, reused so that the agent finds it.
const PORT_FILE: &str = "demo-port.json";
const LOCK_FILE: &str = "demo.lock";
const AGENT_DIR: &str = "agent";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const JOIN_TOKEN_TTL: Duration = Duration::from_secs(60);

/// Runs a demo until it is asked to stop.
///
/// # Errors
/// A sentence for standard error.
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    let dir = create_data_dir(args.data_dir)?;
    let _lock = lock_data_dir(&dir)?;
    let mut stop = StopSignals::new()?;
    // The file's existence means ready, so that of an earlier run is removed.
    remove_if_exists(&dir.join(READY_FILE))?;
    let listener = gateway::listen(args.listen)?;
    let address = listener.local_addr().map_err(|e| Failure::new(e.to_string()))?;
    let board = demo_board::start().await?;
    let service =
        DirectTarget { name: demo_seed::BOARD_SERVICE.into(), address: board.address.to_string() };
    let config = Config::load(default_config(&dir, address)?, None, std::env::vars())?
        .with_services(&[service])?;
    telemetry::init(config.log.format, &config.log.level)
        .map_err(|e| Failure::new(e.to_string()))?;
    let mut gateway = Gateway::start(&config, listener).await?;
    save_port(&dir, gateway.hub_address)?;
    let users = demo_seed::seed(&gateway.broker, &dir.join(USERS_FILE)).await?;
    let ca = gateway
        .ca
        .clone()
        .ok_or_else(|| Failure::new("a demo uses its own certificate; unset tls.certificate"))?;
    let mut agent = start_agent(&dir, &gateway, &config, &ca).await?;
    let broker = gateway.broker.clone();
    let ready = async {
        let host = wait_for_agent(&broker).await?;
        demo_seed::ensure_board_workspace(&broker, host).await?;
        write_ready_file(&dir, &config, &ca, &users)
    };
    let not_ready = async {
        match ready.await {
            Ok(()) => std::future::pending().await,
            Err(failure) => failure,
        }
    };
    let outcome = tokio::select! {
        () = stop.recv() => Ok(()),
        failure = not_ready => Err(failure),
        failure = agent.failed() => Err(failure),
        failure = gateway.failed() => Err(failure),
    };
    remove_if_exists(&dir.join(READY_FILE))?;
    // Concurrently: each has its own limit, and together they must end within five seconds.
    tokio::join!(gateway.stop(), agent.stop());
    outcome
}

/// Prints a demo user's current one-time code.
///
/// # Errors
/// When there is no such user, or it has no second factor.
pub fn totp_code(args: &TotpCodeArgs) -> Result<(), Failure> {
    let path = data_dir_path(args.data_dir.clone())?.join(USERS_FILE);
    let bytes = files::read_private(&path)
        .map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())))?;
    let users: Vec<DemoUser> = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::new(format!("{} does not read: {e}", path.display())))?;
    let user =
        users.iter().find(|u| u.email.eq_ignore_ascii_case(&args.user)).ok_or_else(|| {
            Failure::new(format!(
                "there is no demo user {}; there are {}",
                args.user,
                user_list(&users)
            ))
        })?;
    let secret = user.totp_secret.clone().ok_or_else(|| {
        Failure::new(format!("{} enrols their own second factor at the first sign-in", user.email))
    })?;
    println!(
        "{}",
        totp::code_at(
            &SecretString::new(secret),
            totp::step_of(std::time::SystemTime::now().into())
        )?
    );
    Ok(())
}

fn user_list(users: &[DemoUser]) -> String {
    users.iter().map(|u| u.email.as_str()).collect::<Vec<_>>().join(", ")
}

/// The given folder, or the default one in the user's data folder.
fn data_dir_path(asked: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let own = || {
        let data = std::env::var_os("XDG_DATA_HOME").filter(|d| !d.is_empty()).map(PathBuf::from);
        let data = data.or_else(|| {
            std::env::var_os("HOME")
                .filter(|h| !h.is_empty())
                .map(|h| Path::new(&h).join(".local/share"))
        });
        data.unwrap_or_default().join("portcullis-demo")
    };
    std::path::absolute(asked.unwrap_or_else(own)).map_err(|e| Failure::new(e.to_string()))
}

fn create_data_dir(asked: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let dir = data_dir_path(asked)?;
    files::create_private_dir(&dir)
        .map_err(|e| Failure::new(format!("cannot make the folder {}: {e}", dir.display())))?;
    Ok(dir)
}

/// Excludes a second demo from a folder.
fn lock_data_dir(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(LOCK_FILE);
    let lock = files::try_lock(&path)
        .map_err(|e| Failure::new(format!("cannot lock {}: {e}", path.display())))?;
    lock.ok_or_else(|| {
        Failure::new(format!(
            "a demo runs on the folder {} already; end it first, or give another --data-dir",
            dir.display()
        ))
    })
}

fn remove_if_exists(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(format!("cannot remove {}: {e}", path.display())))
        }
        _ => Ok(()),
    }
}

/// Domain of the web applications' origins: browsers resolve every name below `localhost` to this
/// machine (RFC 6761 section 6.3).
const APPS_DOMAIN: &str = "apps.localhost";

/// A demo's defaults; the environment overrides them.
fn default_config(dir: &Path, address: SocketAddr) -> Result<Config, Failure> {
    let mut config = Config::default();
    config.server.listen = address;
    config.server.public_url = format!("https://localhost:{}", address.port());
    config.server.allowed_origins = vec![format!("https://127.0.0.1:{}", address.port())];
    config.server.data_dir = dir.to_path_buf();
    config.server.organization = "Demo".into();
    config.apps.domain = APPS_DOMAIN.into();
    config.server.drain_timeout = crate::config::value::DurationSetting::secs(2);
    config.tunnel.listen = SocketAddr::from(([127, 0, 0, 1], saved_port(dir)));
    config.agent.state_dir = dir.join(AGENT_DIR);
    config.agent.name = "this-machine".into();
    config.log.level = "warn".into();
    config.log.format = telemetry::Format::Pretty;
    Ok(config)
}

/// The port of the last start when it is free, else any.
fn saved_port(dir: &Path) -> u16 {
    let kept = files::read_private(&dir.join(PORT_FILE))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<u16>(&bytes).ok())
        .unwrap_or(0);
    if UdpSocket::bind(("127.0.0.1", kept)).is_ok() { kept } else { 0 }
}

fn save_port(dir: &Path, hub: SocketAddr) -> Result<(), Failure> {
    let path = dir.join(PORT_FILE);
    files::replace_private(&path, hub.port().to_string().as_bytes())
        .map_err(|e| Failure::new(format!("cannot write {}: {e}", path.display())))
}

async fn start_agent(
    dir: &Path,
    gateway: &Gateway,
    config: &Config,
    ca: &Path,
) -> Result<agent::Running, Failure> {
    let state = dir.join(AGENT_DIR);
    let mut enrollment = None;
    if !agent::is_enrolled(&state, gateway.hub_address)? {
        let (broker, source) = (&gateway.broker, RequestSource::local("demo"));
        let caller = broker.organizations().system_principal().await?;
        // With another port the agent must enrol again, since it learns the gateway's address by
        // enrolling. A standard peer knows the gateway by its key only, and is kept.
        for old in broker
            .hosts()
            .list(&source, &caller)
            .await?
            .into_iter()
            .filter(|view| view.host.kind == HostKind::Agent)
        {
            broker.hosts().remove(&source, &caller, old.host.id).await?;
        }
        let token = broker
            .hosts()
            .create_join_token(&source, &caller, Some(config.agent.name.clone()), JOIN_TOKEN_TTL)
            .await?
            .token;
        let address = format!("https://localhost:{}", gateway.address.port());
        enrollment = Some(Enrollment {
            gateway: address,
            token,
            name: config.agent.name.clone(),
            trust: Trust::Authorities(ca.to_path_buf()),
        });
    }
    let mut settings = agent::config(&config.agent, state, enrollment);
    settings.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(agent::start(settings))
}

/// Waits until the agent's tunnel is up; returns its host.
async fn wait_for_agent(broker: &Broker) -> Result<HostId, Failure> {
    let up = async {
        let mut every = tokio::time::interval(Duration::from_millis(20));
        loop {
            every.tick().await;
            let health = broker.health().probe().await;
            // Other hosts start no desktops.
            let hosts = match broker.organizations().system_principal().await {
                Ok(caller) => broker
                    .hosts()
                    .list(&RequestSource::local("demo"), &caller)
                    .await
                    .unwrap_or_default(),
                Err(_) => Vec::new(),
            };
            let up = |view: &HostView| {
                view.host.kind == HostKind::Agent
                    && view.tunnel.as_ref().is_some_and(|t| t.state == TunnelState::Encrypted)
            };
            if let Some(view) = hosts.iter().find(|view| up(view))
                && health.database.is_ok()
                && health.audit.is_ok()
            {
                return view.host.id;
            }
        }
    };
    tokio::time::timeout(CONNECT_TIMEOUT, up)
        .await
        .map_err(|_| Failure::new("the workspace host on this machine did not connect within 20 s"))
}

fn write_ready_file(
    dir: &Path,
    config: &Config,
    ca: &Path,
    users: &[DemoUser],
) -> Result<(), Failure> {
    let url = &config.server.public_url;
    let shown = json!({"base_url": url, "ca_cert": ca, "users": users, "api_keys": {}, "workspaces": demo_seed::workspace_ids()});
    let path = dir.join(READY_FILE);
    let bytes = serde_json::to_vec_pretty(&shown).map_err(|e| Failure::new(e.to_string()))?;
    files::replace_private(&path, &bytes)
        .map_err(|e| Failure::new(format!("cannot write {}: {e}", path.display())))?;
    println!("{}", ready_message(url, &path, ca, users));
    Ok(())
}

fn ready_message(url: &str, path: &Path, ca: &Path, users: &[DemoUser]) -> String {
    let mut text = format!("Portcullis is ready: {url}\n\nSign in as:\n");
    for user in users {
        let second = user.totp_secret.as_deref().map_or_else(
            || "enrols at first sign-in".to_owned(),
            |s| format!("authenticator key {s}"),
        );
        text.push_str(&format!(
            "  {:<9} {:<16} {}   {second}\n",
            user.role.as_str(),
            user.email,
            user.password
        ));
    }
    text.push_str(&format!(
        "\nAdd the key to an authenticator app, or ask for the present code:\n  {} totp-code --user {} --data-dir {}\n\
         The certificate is signed by {}; trust it, or tell your browser to go on.\n\
         Scripts find all of this in {}. Ctrl-C ends everything.",
        program_name(),
        users.first().map_or("alex@demo.test", |u| u.email.as_str()),
        path.parent().unwrap_or(path).display(),
        ca.display(),
        path.display()
    ));
    text
}

/// How to call this program from the present folder: its name where a shell finds it by that, else its
/// path.
fn program_name() -> String {
    const NAME: &str = "portcullis";
    let Ok(program) = std::env::current_exe() else { return NAME.to_owned() };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&folders)
        .map(|folder| folder.join(NAME))
        .find(|candidate| candidate.is_file());
    if on_path.and_then(|found| found.canonicalize().ok()) == program.canonicalize().ok() {
        return NAME.to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    program.strip_prefix(here).unwrap_or(&program).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_message_has_address_and_credentials() {
        let users = [DemoUser {
            email: "a@b.c".into(),
            password: "pw".into(),
            role: crate::domain::user::Role::Member,
            totp_secret: Some("ABC".into()),
        }];
        let text = ready_message(
            "https://localhost:1",
            Path::new("/d/demo.json"),
            Path::new("/d/tls/ca.pem"),
            &users,
        );
        assert!(text.starts_with("Portcullis is ready: https://localhost:1\n"));
        for part in [
            "a@b.c",
            "pw",
            "ABC",
            " totp-code --user a@b.c --data-dir /d",
            "/d/tls/ca.pem",
            "/d/demo.json",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
