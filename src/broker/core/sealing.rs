//! What the broker seals with the vault.

use crate::auth::Vault;
use crate::domain::secret::{SecretBytes, SecretString};
use crate::domain::{Error, HostId, Result, SessionId, UserId, WorkspaceId};
use std::fmt;

/// What a secret is sealed for. The text is authenticated with the secret, so a sealed secret cannot
/// be moved to another purpose or owner; it must never change.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) enum SealingPurpose<'a> {
    /// TOTP secret of a user.
    Totp(UserId),
    /// Private key that signs access tokens, by key id.
    TokenKey(&'a str),
    /// Preshared key of a host's tunnel.
    HostPresharedKey(HostId),
    /// Preshared key of a session's tunnel.
    SessionPresharedKey(SessionId),
    /// Credential of a started desktop.
    DesktopCredential(SessionId),
    /// Password of a workspace's upstream.
    WorkspacePassword(&'a WorkspaceId),
    /// A user's own credential for a workspace's upstream.
    UserCredential(&'a WorkspaceId, UserId),
    /// The cookie of a browser that has signed in before.
    KnownBrowser,
}

impl fmt::Display for SealingPurpose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Totp(user) => write!(f, "totp:{user}"),
            Self::TokenKey(key_id) => write!(f, "token key:{key_id}"),
            Self::HostPresharedKey(host) => write!(f, "host psk:{host}"),
            Self::SessionPresharedKey(session) => write!(f, "session psk:{session}"),
            Self::DesktopCredential(session) => write!(f, "desktop credential:{session}"),
            Self::WorkspacePassword(workspace) => write!(f, "workspace password:{workspace}"),
            Self::UserCredential(workspace, user) => {
                write!(f, "user credential:{workspace}:{user}")
            }
            Self::KnownBrowser => f.write_str("known browser"),
        }
    }
}

#[derive(Clone, Debug)]
pub(in crate::broker) struct Sealer {
    vault: Vault,
}

impl Sealer {
    pub(in crate::broker) fn new(vault: Vault) -> Self {
        Self { vault }
    }

    pub(in crate::broker) fn seal(&self, purpose: SealingPurpose<'_>, plain: &[u8]) -> String {
        self.vault.seal(&purpose.to_string(), plain)
    }

    pub(in crate::broker) fn unseal(
        &self,
        purpose: SealingPurpose<'_>,
        sealed: &str,
    ) -> Result<SecretBytes> {
        self.vault.unseal(&purpose.to_string(), sealed)
    }

    pub(in crate::broker) fn unseal_text(
        &self,
        purpose: SealingPurpose<'_>,
        sealed: &str,
    ) -> Result<SecretString> {
        let plain = self.unseal(purpose, sealed)?;
        String::from_utf8(plain.expose().clone()).map(SecretString::new).map_err(Error::internal)
    }

    /// Seals a workspace's password; `None` for an empty one, which removes it.
    pub(in crate::broker) fn seal_password(
        &self,
        workspace: &WorkspaceId,
        password: &SecretString,
    ) -> Option<String> {
        let plain = password.expose().as_bytes();
        (!plain.is_empty()).then(|| self.seal(SealingPurpose::WorkspacePassword(workspace), plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn purposes_have_stable_texts() {
        let id = Uuid::from_u128(7);
        let workspace = WorkspaceId::parse("ws-a").unwrap();
        let (user, session) = (UserId(id), SessionId(id));
        for (purpose, text) in [
            (SealingPurpose::Totp(user), format!("totp:{id}")),
            (SealingPurpose::TokenKey("k1"), "token key:k1".to_owned()),
            (SealingPurpose::HostPresharedKey(HostId(id)), format!("host psk:{id}")),
            (SealingPurpose::SessionPresharedKey(session), format!("session psk:{id}")),
            (SealingPurpose::DesktopCredential(session), format!("desktop credential:{id}")),
            (SealingPurpose::WorkspacePassword(&workspace), "workspace password:ws-a".to_owned()),
            (
                SealingPurpose::UserCredential(&workspace, user),
                format!("user credential:ws-a:{id}"),
            ),
        ] {
            assert_eq!(purpose.to_string(), text);
        }
    }
}
