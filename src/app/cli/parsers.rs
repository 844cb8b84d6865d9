//! Parsers of option values.

use crate::domain::secret::SecretString;
use crate::domain::upstream::{Clipboard, CredentialSource, Fingerprint};
use crate::domain::user::Role;
use crate::domain::web_app::Scheme;
use crate::domain::workspace::WorkspaceKind;

/// A SHA-256, read from hex.
#[derive(Clone, Copy, Debug)]
pub struct Sha256Hex(pub [u8; 32]);

pub(super) fn sha256(text: &str) -> Result<Sha256Hex, String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.replace(':', ""), &mut bytes)
        .map_err(|_| "a SHA-256 is 64 hexadecimal digits".to_owned())?;
    Ok(Sha256Hex(bytes))
}

/// Redacted in `Debug` output.
#[allow(clippy::unnecessary_wraps, reason = "as clap wants it")]
pub(super) fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::new(text.to_owned()))
}

pub(super) fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "a role is member, admin or security".to_owned())
}

pub(super) fn clipboard(text: &str) -> Result<Clipboard, String> {
    Clipboard::parse(text).ok_or_else(|| "a way is none, in, out or both".to_owned())
}

pub(super) fn credential_source(text: &str) -> Result<CredentialSource, String> {
    CredentialSource::parse(text).ok_or_else(|| "a source is workspace, user or ask".to_owned())
}

pub(super) fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    Fingerprint::parse(text).ok_or_else(|| "a SHA-256 is 64 hexadecimal digits".to_owned())
}

/// A duration; zero for "none"; nothing for "default".
#[derive(Clone, Copy, Debug)]
pub struct SessionTime(pub Option<std::time::Duration>);

pub(super) fn session_time(text: &str) -> Result<SessionTime, String> {
    match text {
        "default" => Ok(SessionTime(None)),
        "none" => Ok(SessionTime(Some(std::time::Duration::ZERO))),
        duration => crate::domain::duration::parse_duration(duration)
            .map(|duration| SessionTime(Some(duration)))
            .ok_or_else(|| "a duration looks like 30m, 8h or 2h30m".to_owned()),
    }
}

/// A keyboard layout, or none.
#[derive(Clone, Copy, Debug)]
pub struct Keyboard(pub Option<u32>);

pub(super) fn keyboard(text: &str) -> Result<Keyboard, String> {
    crate::domain::upstream::parse_keyboard_layout(text)
        .map(Keyboard)
        .ok_or_else(|| "a keyboard layout looks like 0x00000407".to_owned())
}

pub(super) fn kind(text: &str) -> Result<WorkspaceKind, String> {
    WorkspaceKind::parse(text)
        .ok_or_else(|| format!("a type is {}", WorkspaceKind::list_names(|_| true, "or")))
}

pub(super) fn scheme(text: &str) -> Result<Scheme, String> {
    Scheme::parse(text).ok_or_else(|| "a scheme is http or https".to_owned())
}
