//! The composition root: the only module that sees all others, and the command line.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`cli`] | which commands and options there are |
//! | [`gateway`], [`lease`] | how a gateway is assembled, started and stopped in order; its lease on the database |
//! | [`agent`] | how an agent is run |
//! | [`demo`], [`demo_seed`], [`demo_board`] | everything on one machine, and what is in it |
//! | [`open`] | how a gateway's data is opened |
//! | [`admin`], [`audit`], [`shell`] | administration from the shell |
//! | [`keys`], [`tls`], [`private`] | keys, certificate, and how files nobody else may read are made |

pub mod admin;
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
pub mod memory;
pub mod open;
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

/// What is still running when a command has ended gets this long.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// The command line: exit status 0 when it worked, 1 with one line on standard error when not, 2
/// when it was used wrongly.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    if matches!(command, Command::Demo(_) | Command::Serve(_) | Command::Agent(_)) {
        memory::reexec_with_malloc_settings();
    }
    // Fails only when it was installed before, and then it is there.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if matches!(command, Command::Agent(_)) {
        // An agent does little but serve its tunnels.
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
        Command::Demo(args) => demo::run(args).await,
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
