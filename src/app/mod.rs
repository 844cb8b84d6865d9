//! The composition root and the command line.
//!
//! | file | content |
//! | --- | --- |
//! | [`cli`] | commands and options |
//! | [`gateway`], [`lease`] | assembling, starting and stopping a gateway; its lease on the database |
//! | [`agent`] | running an agent |
//! | [`demo`], [`demo_seed`], [`demo_board`] | gateway and agent on one machine, with data |
//! | [`open`], [`open_files`] | opening a gateway's data; the limit of open files |
//! | [`admin`], [`audit`], [`shell`] | administration from the shell |
//! | [`keys`], [`tls`] | keys and certificates |

pub mod admin;
mod admin_output;
pub mod agent;
pub mod audit;
pub mod cli;
pub mod demo;
pub mod demo_board;
pub mod demo_seed;
pub mod failure;
pub mod gateway;
pub mod keys;
pub mod lease;
pub mod open;
mod open_files;
pub mod shell;
mod signals;
pub mod tls;

use crate::config::Config;
use crate::telemetry;
use clap::Parser as _;
use cli::{Cli, Command, ConfigArgs};
use failure::Failure;
use gateway::Gateway;
use signals::StopSignals;
use std::process::ExitCode;
use std::time::Duration;

/// Longest wait for tasks that still run when a command has ended.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Exit status 0 on success, 1 with one line on standard error on failure, 2 on wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Fails only when a provider is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if matches!(command, Command::Agent(_)) {
        // An agent mainly serves its tunnels.
        builder.worker_threads(crate::tunnel::worker_threads());
    }
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return print_failure(&Failure::new(format!("cannot start: {e}"))),
    };
    let outcome = runtime.block_on(run(command));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome.map_or_else(|failure| print_failure(&failure), |()| ExitCode::SUCCESS)
}

fn print_failure(failure: &Failure) -> ExitCode {
    eprintln!("portcullis: {}", failure.to_string().replace('\n', " "));
    ExitCode::FAILURE
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => Box::pin(demo::run(args)).await,
        Command::Serve(args) => serve(args).await,
        Command::Agent(args) => agent::run(args).await,
        Command::User(command) => admin::user(command).await,
        Command::Workspace(command) => admin::workspace(command).await,
        Command::Host(command) => admin::host(command).await,
        Command::Audit(command) => audit::run(command).await,
        Command::Openapi => {
            print!("{}", String::from_utf8_lossy(&crate::http::api::workspaces::api().document));
            Ok(())
        }
        Command::CheckConfig(args) => check_config(&args),
        Command::TotpCode(args) => demo::totp_code(&args),
    }
}

async fn serve(args: ConfigArgs) -> Result<(), Failure> {
    let config = Config::load(Config::default(), args.config.as_deref(), std::env::vars())?;
    telemetry::init(config.log.format, &config.log.level)
        .map_err(|e| Failure::new(e.to_string()))?;
    let mut stop = StopSignals::new()?;
    let mut gateway = Gateway::start(&config, gateway::listen(config.server.listen)?).await?;
    println!(
        "Portcullis serves {} on {} (tunnels: udp {}).",
        config.server.public_url, gateway.address, gateway.hub_address
    );
    tokio::select! {
        () = stop.recv() => {}
        failure = gateway.failed() => return Err(failure),
    }
    gateway.stop().await;
    Ok(())
}

fn check_config(args: &ConfigArgs) -> Result<(), Failure> {
    let config = Config::load(Config::default(), args.config.as_deref(), std::env::vars())?;
    if let Some((certificate, key)) = config.pem_files() {
        tls::server_config(certificate, key)?;
    }
    if let Some((certificate, key)) = config.apps_pem_files() {
        tls::server_config(certificate, key)?;
    }
    if let Some(advice) = gateway::apps_domain_warning(&config) {
        eprintln!("note: {advice}");
    }
    print!("{config}");
    Ok(())
}
