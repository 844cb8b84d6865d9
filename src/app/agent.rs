//! Running an agent: by `portcullis agent`, and inside a demo.

use super::cli::AgentArgs;
use super::failure::Failure;
use super::signals::StopSignals;
use crate::config::{Agent, Config};
use crate::host::agent::{self, AgentConfig, AgentError};
use crate::host::desktop::{Limits, NetworkPolicy};
use crate::host::enroll::{Enrollment, Trust};
use crate::host::state::StateDir;
use crate::telemetry;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest stop of an agent; desktops that still run then are killed with it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(4500);
/// Longest join token read from standard input.
const TOKEN_LIMIT: u64 = 1024;

/// An agent that runs in this process.
pub struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), AgentError>>,
}

/// Starts an agent; it enrols first when it must.
#[must_use]
pub fn start(config: AgentConfig) -> Running {
    let (stop, stopped) = watch::channel(false);
    Running { stop, task: tokio::spawn(agent::run(config, stopped)) }
}

impl Running {
    /// Resolves when the agent ended unexpectedly.
    pub async fn failed(&mut self) -> Failure {
        match (&mut self.task).await {
            Ok(Ok(())) => Failure::new("the agent ended"),
            Ok(Err(e)) => Failure::new(format!("the agent failed: {e}")),
            Err(e) => Failure::new(format!("the agent failed: {e}")),
        }
    }

    /// Ends the agent and its desktops.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if self.task.is_finished() {
            return;
        }
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.task).await.is_err() {
            tracing::warn!("agent.stop.timeout: its desktops are killed with it");
        }
    }
}

#[must_use]
pub fn config(settings: &Agent, state_dir: PathBuf, enrollment: Option<Enrollment>) -> AgentConfig {
    let limits = Limits {
        desktops: settings.max_desktops,
        services: settings.max_service_sessions,
        memory: settings.desktop_memory_mib << 20,
        processes: settings.desktop_processes,
        home: Some(settings.home_quota_mib << 20).filter(|bytes| *bytes > 0),
        network: NetworkPolicy { allow: settings.network_allow.clone(), gateway: None },
        required: settings.require_limits.iter().copied().collect(),
        ..Limits::default()
    };
    AgentConfig {
        enrollment,
        limits,
        services: settings.service_addresses(),
        ..AgentConfig::new(state_dir)
    }
}

/// Whether the agent of this state folder is enrolled at a gateway with this UDP address. An
/// identity of another gateway is deleted.
///
/// # Errors
/// A sentence naming the folder.
pub fn is_enrolled(state_dir: &Path, at: SocketAddr) -> Result<bool, Failure> {
    let state = StateDir::open(state_dir).map_err(|e| Failure::new(e.to_string()))?;
    let known = state.identity().map_err(|e| Failure::new(e.to_string()))?;
    if known.as_ref().is_some_and(|identity| identity.gateway_endpoint != at.to_string()) {
        state.delete_identity().map_err(|e| Failure::new(e.to_string()))?;
        return Ok(false);
    }
    Ok(known.is_some())
}

/// `portcullis agent`.
///
/// # Errors
/// A sentence for standard error.
pub async fn run(args: AgentArgs) -> Result<(), Failure> {
    let settings = Config::load(Config::default(), args.config.as_deref(), std::env::vars())?
        .with_services(&args.service)?;
    telemetry::init(settings.log.format, &settings.log.level)
        .map_err(|e| Failure::new(e.to_string()))?;
    let mut stop = StopSignals::new()?;
    let state_dir = args.state_dir.clone().unwrap_or_else(|| settings.agent.state_dir.clone());
    let enrollment = enrollment(&args, &settings.agent)?;
    let mut running = start(config(&settings.agent, state_dir, enrollment));
    tokio::select! {
        () = stop.recv() => {}
        failure = running.failed() => return Err(failure),
    }
    running.stop().await;
    Ok(())
}

/// The enrolment, when both parts are given; unnecessary when the state folder has an identity.
fn enrollment(args: &AgentArgs, settings: &Agent) -> Result<Option<Enrollment>, Failure> {
    let (gateway, token) = match (&args.gateway, &args.join) {
        (Some(gateway), Some(token)) => (gateway.trim_end_matches('/').to_owned(), token),
        (None, Some(_)) => {
            return Err(Failure::new(
                "a join token needs the gateway's address, too: --gateway URL",
            ));
        }
        _ => return Ok(None),
    };
    if !gateway.starts_with("https://") {
        return Err(Failure::new(format!(
            "the gateway's address must begin with https://, which {gateway} does not"
        )));
    }
    let token = if token.expose() == "-" {
        super::shell::read_secret_line("the join token", TOKEN_LIMIT)?
    } else {
        token.clone()
    };
    let trust = match (&args.ca_cert, args.pin) {
        (Some(file), _) => Trust::Authorities(file.clone()),
        (None, Some(pin)) => Trust::Certificate(pin.0),
        (None, None) => Trust::System,
    };
    let name = args
        .name
        .clone()
        .or_else(|| Some(settings.name.clone()).filter(|n| !n.is_empty()))
        .unwrap_or_else(machine_name);
    Ok(Some(Enrollment { gateway, token, name, trust }))
}

pub(super) fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Some(name.trim().to_owned()).filter(|n| !n.is_empty()).unwrap_or_else(|| "host".to_owned())
}
