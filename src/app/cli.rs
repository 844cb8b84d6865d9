//! Which commands and options there are. What they do is elsewhere; here is only how they are asked
//! for.

mod web;

use crate::config::value::DirectTarget;
use crate::domain::WorkspaceId;
use crate::domain::secret::SecretString;
use crate::domain::upstream::{Clipboard, CredentialSource, Fingerprint};
use crate::domain::user::Role;
use crate::domain::workspace::WorkspaceKind;
use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
pub use web::WebArgs;

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
#[allow(missing_docs, reason = "flattened options explain themselves")]
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

/// Options of `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Address and port of the HTTPS server.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Folder for everything the demo keeps [default: portcullis-demo in the user's data folder].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Where the settings come from.
#[derive(Args, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Which gateway's data an administrative command works on.
#[derive(Args, Debug, Default)]
pub struct GatewayDataArgs {
    /// Configuration file of the gateway (TOML).
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// The gateway's data folder, instead of the configured one (that of a demo, for example).
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
}

/// Options of `agent`.
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// Address of the gateway, such as https://desk.example.org.
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
    /// One-time join token. Other users of the machine can see a command's options: prefer the
    /// environment variable, or `-` for standard input.
    #[arg(long, value_name = "TOKEN", env = "PORTCULLIS_JOIN", hide_env_values = true, value_parser = secret)]
    pub join: Option<SecretString>,
    /// Folder for the agent's keys and the users' homes [default: agent.state_dir].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Certificate (PEM) that the gateway's certificate chains to, when it is not a public one.
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// SHA-256 (hex) of the gateway's certificate, when it is of its own making; the join command
    /// has it.
    #[arg(long, value_name = "SHA256", value_parser = sha256, conflicts_with = "ca_cert")]
    pub pin: Option<Sha256Hex>,
    /// Name under which the host is listed [default: agent.name, else the machine's name].
    #[arg(long)]
    pub name: Option<String>,
    /// A server that sessions may reach through this host, besides those of agent.services; may be
    /// given more than once.
    #[arg(long, value_name = "NAME=HOST:PORT")]
    pub service: Vec<DirectTarget>,
    /// Configuration file (TOML); only [agent] and [log] count.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    pub config: Option<PathBuf>,
}

/// How a command gets a password. Never from its options: other users of the machine can see those.
#[derive(Args, Debug)]
pub struct PasswordArgs {
    /// Makes a strong password and prints it once. Otherwise one line is read from standard input,
    /// without echo on a terminal.
    #[arg(long)]
    pub generate: bool,
}

/// `portcullis user`
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "flattened options explain themselves")]
pub enum UserCommand {
    /// Creates a user, for example the first administrator.
    Create {
        /// E-mail address.
        email: String,
        /// Name people read [default: the part of the address before the @].
        #[arg(long)]
        name: Option<String>,
        /// member, admin or security.
        #[arg(long, default_value = "member", value_parser = role)]
        role: Role,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Lists the users.
    List {
        #[command(flatten)]
        format: ListFormatArgs,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Disables a user: their sessions and logins end at once.
    Disable {
        #[command(flatten)]
        user: UserArg,
    },
    /// Enables a user again.
    Enable {
        #[command(flatten)]
        user: UserArg,
    },
    /// Sets a user's password.
    SetPassword {
        #[command(flatten)]
        user: UserArg,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Removes a user's second factor; they enrol a new one at their next sign-in.
    ResetMfa {
        #[command(flatten)]
        user: UserArg,
    },
    /// Ends all logins and sessions of a user.
    SignOut {
        #[command(flatten)]
        user: UserArg,
    },
}

/// A user, by address.
#[derive(Args, Debug)]
pub struct UserArg {
    /// The user's e-mail address.
    pub email: String,
    /// Where.
    #[command(flatten)]
    pub at: GatewayDataArgs,
}

/// How a list is printed.
#[derive(Args, Debug)]
pub struct ListFormatArgs {
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// What can be said about a workspace.
#[derive(Args, Debug, Default)]
pub struct WorkspaceArgs {
    /// One or two sentences about it.
    #[arg(long)]
    pub description: Option<String>,
    /// Picture: desktop, terminal, browser, windows or code.
    #[arg(long)]
    pub icon: Option<String>,
    /// Words to find it by, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub tags: Option<Vec<String>>,
    /// Whether launching needs a verified second factor.
    #[arg(long, value_name = "true|false")]
    pub requires_mfa: Option<bool>,
    /// Whether only one user may have it at a time.
    #[arg(long, value_name = "true|false")]
    pub single_seat: Option<bool>,
    /// Whether the desktop reaches the host's network.
    #[arg(long, value_name = "true|false")]
    pub network: Option<bool>,
    /// Roles that may launch it, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = role)]
    pub allowed_roles: Option<Vec<Role>>,
    /// Whether it is out of service.
    #[arg(long, value_name = "true|false")]
    pub maintenance: Option<bool>,
    /// Which way clipboard text may go: none, in (into the desktop), out or both.
    #[arg(long, value_name = "WAY", value_parser = clipboard)]
    pub clipboard: Option<Clipboard>,
    /// Whether files and drives may pass.
    #[arg(long, value_name = "true|false")]
    pub files: Option<bool>,
    /// Whether the screen is only shown: keys, pointer and clipboard do not reach the desktop.
    #[arg(long, value_name = "true|false")]
    pub read_only: Option<bool>,
    /// How the gateway meets the server of a workspace of type vnc, rdp or html5.
    #[command(flatten)]
    pub server: Box<ServerArgs>,
    /// How it meets the web application of a workspace of type html5.
    #[command(flatten)]
    pub web: Box<WebArgs>,
}

/// What can be said about the server of a workspace of type vnc, rdp or html5.
#[derive(Args, Debug, Default)]
pub struct ServerArgs {
    /// Types vnc, rdp and html5: the host its server runs on, by id or name; with --port on a
    /// standard peer, with --service on one with an agent.
    #[arg(long, value_name = "HOST", requires = "place", conflicts_with = "direct")]
    pub host: Option<String>,
    /// Types vnc, rdp and html5: the server's TCP port on a standard peer.
    #[arg(long, group = "place", requires = "host", conflicts_with = "service", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Types vnc, rdp and html5: a service that the host's agent was given by this name.
    #[arg(long, value_name = "NAME", group = "place", requires = "host")]
    pub service: Option<String>,
    /// Types vnc, rdp and html5: a target that direct.allow names, reached through no tunnel,
    /// unencrypted.
    #[arg(long, value_name = "NAME")]
    pub direct: Option<String>,
    /// Types vnc, rdp and html5: whose credential the gateway proves to the server: workspace, user
    /// (each their own) or ask (typed, used once).
    #[arg(long, value_name = "SOURCE", value_parser = credential_source)]
    pub credential: Option<CredentialSource>,
    /// Types vnc, rdp and html5: account name of the workspace's credential.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Type rdp: its Windows domain.
    #[arg(long)]
    pub domain: Option<String>,
    /// Types vnc, rdp and html5: reads the password of the workspace's credential, one line of
    /// standard input. It is kept sealed.
    #[arg(long, alias = "vnc-password")]
    pub password: bool,
    /// Types vnc, rdp and html5: how the server's certificate is checked: first_use, pinned (with
    /// --fingerprint) or authority (with --roots).
    #[arg(long, value_name = "RULE", value_parser = ["first_use", "pinned", "authority"])]
    pub trust: Option<String>,
    /// SHA-256 of the server's certificate (hex).
    #[arg(long, value_name = "SHA256", value_parser = fingerprint, requires = "trust")]
    pub fingerprint: Option<Fingerprint>,
    /// Certificates of the authorities to trust (PEM).
    #[arg(long, value_name = "FILE", requires = "trust")]
    pub roots: Option<PathBuf>,
    /// The name the server's certificate must be for [default: any these authorities vouch for].
    #[arg(long, value_name = "NAME", requires = "roots")]
    pub trust_name: Option<String>,
    /// Type vnc: whether other clients of the same desktop are put out.
    #[arg(long, value_name = "true|false")]
    pub exclusive: Option<bool>,
    /// Type rdp: the keyboard layout told to the server, such as 0x00000407 for German; empty: the
    /// browser's own word.
    #[arg(long, value_name = "ID", value_parser = keyboard)]
    pub keyboard: Option<Keyboard>,
}

/// `portcullis workspace`
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "flattened options explain themselves")]
pub enum WorkspaceCommand {
    /// Creates a workspace.
    #[command(alias = "add")]
    Create {
        /// Its id: lower-case letters, digits and hyphens, such as ws-linux-desktop.
        #[arg(value_parser = WorkspaceId::parse)]
        id: WorkspaceId,
        /// Name people read.
        #[arg(long)]
        name: String,
        /// linux, vnc, rdp or html5.
        #[arg(long, default_value = "linux", value_parser = kind)]
        r#type: WorkspaceKind,
        #[command(flatten)]
        rest: WorkspaceArgs,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Lists the workspaces.
    List {
        #[command(flatten)]
        format: ListFormatArgs,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Changes a workspace: only what is given changes.
    Update {
        /// Its id.
        #[arg(value_parser = WorkspaceId::parse)]
        id: WorkspaceId,
        /// Name people read.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        rest: WorkspaceArgs,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Accepts the certificate that a workspace's server showed last and that was refused;
    /// `workspace list --json` shows it.
    AcceptCertificate {
        /// The certificate's SHA-256 (hex).
        #[arg(long, value_name = "SHA256", value_parser = fingerprint)]
        fingerprint: Fingerprint,
        #[command(flatten)]
        workspace: WorkspaceArg,
    },
    /// Removes a workspace; its sessions end at once.
    Delete {
        #[command(flatten)]
        workspace: WorkspaceArg,
    },
    /// Ends every session of a workspace at once.
    Stop {
        #[command(flatten)]
        workspace: WorkspaceArg,
    },
}

/// A workspace, by id.
#[derive(Args, Debug)]
pub struct WorkspaceArg {
    /// The workspace's id.
    #[arg(value_parser = WorkspaceId::parse)]
    pub id: WorkspaceId,
    /// Where.
    #[command(flatten)]
    pub at: GatewayDataArgs,
}

/// `portcullis host`
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "flattened options explain themselves")]
pub enum HostCommand {
    /// Makes a one-time join token and prints the command that uses it.
    JoinToken {
        /// Name the host will have [default: what its agent says].
        #[arg(long)]
        name: Option<String>,
        /// How long the token can be used, such as 15m or 24h.
        #[arg(long, default_value = "1h")]
        valid_for: crate::config::value::DurationSetting,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Adds a standard WireGuard peer (a kernel, wireguard-go, Windows) as a host, without our
    /// agent.
    AddPeer {
        /// Name under which it is listed.
        name: String,
        /// Its WireGuard public key (base64), as `wg pubkey` prints it.
        #[arg(long, value_name = "KEY")]
        public_key: String,
        /// UDP address at which it can be called [default: it calls the gateway].
        #[arg(long, value_name = "ADDRESS:PORT")]
        endpoint: Option<SocketAddr>,
        /// Its address inside the tunnel [default: the next free one].
        #[arg(long)]
        address: Option<IpAddr>,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Prints the wg-quick file of a standard peer, all but its private key. It holds the preshared
    /// key, so the audit log says who saw it.
    Config {
        /// Its id or its name.
        host: String,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Lists the hosts.
    List {
        #[command(flatten)]
        format: ListFormatArgs,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Removes a host: its tunnel and the sessions on it end at once.
    Remove {
        /// Its id or its name.
        host: String,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
}

/// `portcullis audit`
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "flattened options explain themselves")]
pub enum AuditCommand {
    /// Proves that no entry was changed, removed, reordered or cut off, and names the first that
    /// was.
    ///
    /// Reads the gateway's database, or an exported file: then nothing but the file and the
    /// gateway's public key is needed.
    Verify {
        /// Database instead of the configured one: sqlite:PATH or postgres://...
        #[arg(long, value_name = "URL", conflicts_with = "export")]
        database: Option<crate::config::value::DatabaseUrl>,
        /// An export (JSON lines) to prove instead of a database.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
        /// The gateway's audit public key (base64), to prove the end of the log; `portcullis audit
        /// public-key` prints it.
        #[arg(long, value_name = "KEY")]
        public_key: Option<String>,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Writes the whole log as JSON lines, oldest first, its signed head last.
    Export {
        /// File to write, which must not exist [default: standard output].
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Prints the public key that proves the end of the log. Keep it apart from the gateway.
    PublicKey {
        #[command(flatten)]
        at: GatewayDataArgs,
    },
}

/// Options of `totp-code`.
#[derive(Args, Debug)]
pub struct TotpCodeArgs {
    /// The demo's folder [default: as in `portcullis demo`].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// E-mail address of the demo user.
    #[arg(long)]
    pub user: String,
}

/// A SHA-256, read from hex.
#[derive(Clone, Copy, Debug)]
pub struct Sha256Hex(pub [u8; 32]);

fn sha256(text: &str) -> Result<Sha256Hex, String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.replace(':', ""), &mut bytes)
        .map_err(|_| "a SHA-256 is 64 hexadecimal digits".to_owned())?;
    Ok(Sha256Hex(bytes))
}

/// Kept from every `Debug`.
#[allow(clippy::unnecessary_wraps, reason = "as clap wants it")]
fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::new(text.to_owned()))
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "a role is member, admin or security".to_owned())
}

fn clipboard(text: &str) -> Result<Clipboard, String> {
    Clipboard::parse(text).ok_or_else(|| "a way is none, in, out or both".to_owned())
}

fn credential_source(text: &str) -> Result<CredentialSource, String> {
    CredentialSource::parse(text).ok_or_else(|| "a source is workspace, user or ask".to_owned())
}

fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    Fingerprint::parse(text).ok_or_else(|| "a SHA-256 is 64 hexadecimal digits".to_owned())
}

/// A keyboard layout, or none.
#[derive(Clone, Copy, Debug)]
pub struct Keyboard(pub Option<u32>);

fn keyboard(text: &str) -> Result<Keyboard, String> {
    crate::domain::upstream::parse_keyboard_layout(text)
        .map(Keyboard)
        .ok_or_else(|| "a keyboard layout looks like 0x00000407".to_owned())
}

fn kind(text: &str) -> Result<WorkspaceKind, String> {
    WorkspaceKind::parse(text).ok_or_else(|| "a type is linux, vnc, rdp or html5".to_owned())
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
