//! Passwords and credentials of upstreams.

use crate::broker::model::NewCredential;
use crate::domain::secret::SecretString;
use crate::domain::upstream::{Credential, CredentialSource};
use crate::domain::workspace::{DESKTOP_HAS_OWN_CREDENTIAL, Workspace, WorkspaceKind};
use crate::domain::{Error, Result};

/// Maximum length of an upstream's password, in bytes. Windows accepts 127 characters; VNC
/// authentication uses the first 8 bytes (RFC 6143 section 7.2.2), and longer ones are accepted as
/// they are.
const PASSWORD_MAX: usize = 512;

/// Maximum length of an account or domain name, in characters: a Windows user principal name, a DNS
/// name.
const ACCOUNT_MAX: usize = 256;

pub(in crate::broker) fn validate_upstream_password(
    password: &SecretString,
    workspace: &Workspace,
) -> Result<()> {
    let driver = workspace.driver();
    let Some(access) = driver.access() else {
        return Err(Error::invalid(format!(
            "Only a workspace of type {} has a password: its server's.",
            WorkspaceKind::list_names(|kind| kind.has_server, "or")
        )));
    };
    let given = !password.expose().is_empty();
    if driver.target().is_none() && given {
        return Err(Error::invalid(DESKTOP_HAS_OWN_CREDENTIAL));
    }
    if access.credential_source != CredentialSource::Workspace && given {
        return Err(Error::invalid(
            "password is the workspace's own; this one uses its users'. Set server.credential to workspace first.",
        ));
    }
    validate_password(password)?;
    if given {
        driver.validate_password(password)?;
    }
    Ok(())
}

fn validate_password(password: &SecretString) -> Result<()> {
    let text = password.expose();
    if text.len() > PASSWORD_MAX || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "password must be at most {PASSWORD_MAX} bytes on one line."
        )));
    }
    Ok(())
}

/// An account or domain name; may be empty.
pub(super) fn account(what: &str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.chars().count() > ACCOUNT_MAX || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "{what} must be at most {ACCOUNT_MAX} characters on one line."
        )));
    }
    Ok(text.to_owned())
}

pub(in crate::broker) fn validate_credential(new: NewCredential) -> Result<Credential> {
    validate_password(&new.password)?;
    if new.password.expose().is_empty() {
        return Err(Error::invalid("password must not be empty."));
    }
    let username = account("username", new.username.as_deref().unwrap_or_default())?;
    let domain = account("domain", new.domain.as_deref().unwrap_or_default())?;
    Ok(Credential { username, domain, password: new.password })
}
