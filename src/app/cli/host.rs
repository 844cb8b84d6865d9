//! Options of `portcullis host`.

use super::args::{GatewayDataArgs, ListFormatArgs};
use crate::config::value::DurationSetting;
use clap::Subcommand;
use std::net::{IpAddr, SocketAddr};

/// `portcullis host`
#[derive(Subcommand, Debug)]
pub enum HostCommand {
    /// Makes a one-time join token and prints the command that uses it.
    JoinToken {
        /// Name the host will have [default: what its agent says].
        #[arg(long)]
        name: Option<String>,
        /// How long the token can be used, such as 15m or 24h.
        #[arg(long, default_value = "1h")]
        valid_for: DurationSetting,
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
    /// Drains a host: it takes no new sessions, and those on it go on.
    Drain {
        /// Its id or its name.
        host: String,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Lets a drained host take sessions again.
    Undrain {
        /// Its id or its name.
        host: String,
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
