//! Options that several commands share.

use clap::Args;
use std::path::PathBuf;

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

/// How a command gets a password. Never from its options: other users of the machine can see those.
#[derive(Args, Debug)]
pub struct PasswordArgs {
    /// Makes a strong password and prints it once. Otherwise one line is read from standard input,
    /// without echo on a terminal.
    #[arg(long)]
    pub generate: bool,
}

/// How a list is printed.
#[derive(Args, Debug)]
pub struct ListFormatArgs {
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}
