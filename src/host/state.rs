//! The state folder: what survives a restart of the agent. `agent.json` (mode 0600) holds its
//! identity; a lock excludes a second agent.

use crate::domain::HostId;
use crate::domain::secret::SecretString;
use crate::files;
use crate::tunnel::keys::{PresharedKey, PrivateKey, PublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Version of the file's format.
const FORMAT: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}: not an agent's state")]
    Malformed(PathBuf),
    #[error("{0}: another agent uses this state folder")]
    InUse(PathBuf),
}

/// Identity of an enrolled agent, and its gateway.
#[derive(Debug)]
pub struct Identity {
    pub host_id: HostId,
    /// The host's name at the gateway.
    pub name: String,
    /// Generated here, never sent.
    pub private_key: PrivateKey,
    pub gateway_public_key: PublicKey,
    /// `host:port`; resolved at each attempt.
    pub gateway_endpoint: String,
    /// Of the host tunnel.
    pub preshared_key: PresharedKey,
    /// The host's address in the host tunnel.
    pub host_address: IpAddr,
    /// The gateway's address in every tunnel.
    pub gateway_address: IpAddr,
}

#[derive(Serialize, Deserialize)]
struct StoredIdentity {
    format: u32,
    host_id: HostId,
    name: String,
    #[serde(serialize_with = "expose")]
    private_key: SecretString,
    gateway_public_key: String,
    gateway_endpoint: String,
    #[serde(serialize_with = "expose")]
    preshared_key: SecretString,
    host_address: IpAddr,
    gateway_address: IpAddr,
}

fn expose<S: serde::Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose())
}

/// An open state folder, locked for this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates it when necessary, opens and locks it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StateError::Io { path, source }
        };
        files::ensure_private_dir(path).map_err(at(path))?;
        let file = path.join("lock");
        let lock = files::try_lock(&file).map_err(at(&file))?;
        let lock = lock.ok_or_else(|| StateError::InUse(path.to_path_buf()))?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The agent's identity; `None` before enrolment.
    ///
    /// # Errors
    /// When the file exists and is not readable or malformed.
    pub fn identity(&self) -> Result<Option<Identity>, StateError> {
        let path = self.path.join("agent.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let malformed = || StateError::Malformed(path.clone());
        let stored: StoredIdentity = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
        if stored.format != FORMAT {
            return Err(malformed());
        }
        let key =
            Zeroizing::new(STANDARD.decode(stored.private_key.expose()).map_err(|_| malformed())?);
        let key: Zeroizing<[u8; 32]> =
            Zeroizing::new(key.as_slice().try_into().map_err(|_| malformed())?);
        Ok(Some(Identity {
            host_id: stored.host_id,
            name: stored.name,
            private_key: PrivateKey::from_bytes(*key),
            gateway_public_key: stored.gateway_public_key.parse().map_err(|_| malformed())?,
            gateway_endpoint: stored.gateway_endpoint,
            preshared_key: stored.preshared_key.expose().parse().map_err(|_| malformed())?,
            host_address: stored.host_address,
            gateway_address: stored.gateway_address,
        }))
    }

    /// Deletes the identity, so that the agent must enrol again. The homes of its users stay.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn delete_identity(&self) -> Result<(), StateError> {
        let path = self.path.join("agent.json");
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Io { path, source })
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// [`StateError::Io`].
    pub fn save_identity(&self, identity: &Identity) -> Result<(), StateError> {
        let path = self.path.join("agent.json");
        let stored = StoredIdentity {
            format: FORMAT,
            host_id: identity.host_id,
            name: identity.name.clone(),
            private_key: SecretString::new(
                STANDARD.encode(identity.private_key.expose().as_slice()),
            ),
            gateway_public_key: identity.gateway_public_key.to_string(),
            gateway_endpoint: identity.gateway_endpoint.clone(),
            preshared_key: SecretString::new(identity.preshared_key.expose_base64().to_string()),
            host_address: identity.host_address,
            gateway_address: identity.gateway_address,
        };
        let bytes = serde_json::to_vec_pretty(&stored).map(Zeroizing::new).map_err(io::Error::from);
        bytes
            .and_then(|bytes| files::replace_private(&path, &bytes))
            .map_err(|source| StateError::Io { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_identity_is_saved_privately_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("s")).unwrap();
        assert!(state.identity().unwrap().is_none());
        let private_key = PrivateKey::generate().unwrap();
        let public = private_key.public_key();
        let identity = Identity {
            host_id: HostId::new(),
            name: "h1".to_owned(),
            private_key,
            gateway_public_key: PrivateKey::generate().unwrap().public_key(),
            gateway_endpoint: "localhost:51820".to_owned(),
            preshared_key: PresharedKey::generate().unwrap(),
            host_address: "10.127.0.2".parse().unwrap(),
            gateway_address: "10.127.0.1".parse().unwrap(),
        };
        state.save_identity(&identity).unwrap();
        let mode = fs::metadata(state.path().join("agent.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::metadata(state.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let read = state.identity().unwrap().unwrap();
        assert_eq!(read.private_key.public_key(), public);
        assert_eq!(read.gateway_endpoint, identity.gateway_endpoint);
        assert_eq!(read.preshared_key.expose(), identity.preshared_key.expose());
        fs::write(state.path().join("agent.json"), "{}").unwrap();
        assert!(matches!(state.identity(), Err(StateError::Malformed(_))));
        assert!(matches!(StateDir::open(state.path()), Err(StateError::InUse(_))));
    }
}
