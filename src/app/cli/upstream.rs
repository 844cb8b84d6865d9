//! Options of `portcullis workspace` about the server of a workspace of type vnc, rdp or html5.

use super::parsers::{Keyboard, credential_source, fingerprint, keyboard};
use crate::domain::upstream::{CredentialSource, Fingerprint};
use clap::Args;
use std::path::PathBuf;

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
