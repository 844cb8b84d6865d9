//! Options of `portcullis workspace`.

use super::args::{GatewayDataArgs, ListFormatArgs};
use super::parsers::{SessionTime, clipboard, fingerprint, kind, role, session_time};
use super::upstream::ServerArgs;
use super::web::WebArgs;
use crate::domain::WorkspaceId;
use crate::domain::upstream::{Clipboard, Fingerprint};
use crate::domain::user::Role;
use crate::domain::workspace::WorkspaceKind;
use clap::{Args, Subcommand};

/// `portcullis workspace`
#[derive(Subcommand, Debug)]
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
    /// How long a session lasts unless it is extended, such as 8h; default: as configured.
    #[arg(long, value_name = "DURATION|default", value_parser = session_time)]
    pub session_duration: Option<SessionTime>,
    /// By how much a session can be extended in all, such as 4h; none: not at all; default: as
    /// configured.
    #[arg(long, value_name = "DURATION|none|default", value_parser = session_time)]
    pub session_extension: Option<SessionTime>,
    /// A session without input for so long ends, such as 30m; none: never; default: as configured.
    #[arg(long, value_name = "DURATION|none|default", value_parser = session_time)]
    pub idle_timeout: Option<SessionTime>,
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
