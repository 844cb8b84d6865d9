//! Options of the commands that run until they are stopped, and of `totp-code`.

use super::parsers::{Sha256Hex, secret, sha256};
use crate::config::value::DirectTarget;
use crate::domain::secret::SecretString;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

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
