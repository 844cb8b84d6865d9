//! The command line: commands and options. What the commands do is in other files of `app`.

mod args;
mod audit;
mod host;
mod parsers;
mod processes;
mod upstream;
mod user;
mod web;
mod workspace;

pub use args::{ConfigArgs, GatewayDataArgs, ListFormatArgs, PasswordArgs};
pub use audit::AuditCommand;
pub use host::HostCommand;
pub use parsers::{Keyboard, Sha256Hex};
pub use processes::{AgentArgs, DemoArgs, TotpCodeArgs};
pub use upstream::ServerArgs;
pub use user::{UserArg, UserCommand};
pub use web::WebArgs;
pub use workspace::{WorkspaceArg, WorkspaceArgs, WorkspaceCommand};

use clap::{Parser, Subcommand};

/// Portcullis: a secure gateway to remote desktops.
///
/// People sign in with password and one-time code and work in a real desktop inside their browser.
/// Every session has a WireGuard tunnel of its own, can be cut at once, and is written in an audit
/// log that can be proved. `portcullis demo` shows all of it on one machine.
#[derive(Parser, Debug)]
#[command(name = "portcullis", version, arg_required_else_help = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Runs everything on this machine, with no configuration.
    ///
    /// Gateway, SQLite database, a certificate of its own, and a workspace host reached through a
    /// real WireGuard tunnel over loopback. Prints where to go and how to sign in, and writes it to
    /// DIR/demo.json for scripts. Running it again on the same folder keeps everything.
    Demo(DemoArgs),
    /// Runs a gateway.
    ///
    /// Settings come from a TOML file and the environment (PORTCULLIS_SECTION__KEY);
    /// `config/portcullis.toml` shows all of them.
    Serve(ConfigArgs),
    /// Runs the agent of a workspace host: the machine on which desktops run.
    ///
    /// The first start needs the gateway's address and a join token (`portcullis host join-token`);
    /// later ones only the state folder.
    Agent(AgentArgs),
    /// Manages users.
    #[command(subcommand)]
    User(UserCommand),
    /// Manages workspaces.
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
    /// Manages workspace hosts.
    #[command(subcommand)]
    Host(HostCommand),
    /// Proves and exports the audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Prints the OpenAPI description of the HTTP API.
    Openapi,
    /// Reads the configuration, says what is wrong with it, or prints what will be used.
    CheckConfig(ConfigArgs),
    /// Prints a demo user's present one-time code.
    TotpCode(TotpCodeArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_commands_are_consistent_and_explained() {
        Cli::command().debug_assert();
        fn walk(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} says nothing about itself");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some() || argument.is_hide_set(),
                    "{path}: {} is not explained",
                    argument.get_id()
                );
            }
            for sub in command.get_subcommands() {
                walk(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        walk(&Cli::command(), "portcullis");
    }

    #[test]
    fn wrong_usage_is_refused() {
        for good in [
            "demo",
            "demo --listen 127.0.0.1:0 --data-dir x",
            "serve",
            "agent --gateway https://g --join t",
            "agent --service xrdp=127.0.0.1:3389 --service pc=pc.internal:3389",
            "user create a@b.c --role admin",
            "workspace update ws-a --maintenance true",
            "host join-token --valid-for 5m",
            "host add-peer p --public-key k --endpoint 192.0.2.1:5",
            "host config p",
            "host drain p",
            "host undrain p",
            "workspace create ws-a --name a --type vnc --host p --port 5900",
            "workspace update ws-a --direct old-box --vnc-password",
            "workspace create ws-a --name a --type html5 --host p --service wiki --scheme https --start /lab --methods GET,POST --upload false",
            "workspace update ws-a --sign-in header --sign-in-header x-api-key --password",
            "audit verify --export f --public-key k",
            "openapi",
            "check-config",
        ] {
            assert!(
                Cli::try_parse_from(std::iter::once("portcullis").chain(good.split(' '))).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "",
            "fly",
            "demo --listen nonsense",
            "user create",
            "user create a@b.c --role king",
            "workspace create WS --name x",
            "audit verify --export f --database sqlite:x",
            "user create a@b.c --password x",
            "host add-peer p",
            "agent --service 127.0.0.1:3389",
            "agent --service Pc=h:1",
            "workspace create ws-a --name a --host p",
            "workspace create ws-a --name a --host p --port 0",
            "workspace create ws-a --name a --type html5 --scheme ftp",
            "workspace update ws-a --sign-in-header x-api-key",
            "workspace create ws-a --name a --host p --port 1 --direct d",
        ] {
            assert!(
                Cli::try_parse_from(std::iter::once("portcullis").chain(bad.split_terminator(' ')))
                    .is_err(),
                "{bad}"
            );
        }
    }
}
