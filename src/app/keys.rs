//! The gateway's own keys, in `DIR/keys`: the master key (seals secrets, signs the audit head) and
//! the hub's WireGuard key. Created on first start; never printed, never in the database.

use super::failure::Failure;
use crate::files;
use data_encoding::BASE64;
use std::path::Path;
use zeroize::Zeroizing;

/// Zeroized when dropped.
pub type Key = Zeroizing<[u8; 32]>;

pub struct Keys {
    /// Root of everything that is sealed at rest.
    pub master: Key,
    /// WireGuard private key of the hub.
    pub hub: Key,
}

/// Reads the keys of a data folder, or creates them.
///
/// # Errors
/// A sentence naming the file.
pub fn load_or_create(data_dir: &Path) -> Result<Keys, Failure> {
    let dir = data_dir.join("keys");
    files::create_private_dir(&dir)
        .map_err(|e| Failure::new(format!("cannot make the folder {}: {e}", dir.display())))?;
    Ok(Keys {
        master: read_or_create_key(&dir.join("master.key"))?,
        hub: read_or_create_key(&dir.join("hub.key"))?,
    })
}

/// Reads the keys: for commands that must not create a master key.
///
/// # Errors
/// A sentence naming the file.
pub fn load(data_dir: &Path) -> Result<Keys, Failure> {
    let master = data_dir.join("keys/master.key");
    if !master.exists() {
        let message = format!(
            "there is no master key at {}; start the gateway once, or name its data folder (server.data_dir)",
            master.display()
        );
        return Err(Failure::new(message));
    }
    load_or_create(data_dir)
}

fn read_or_create_key(path: &Path) -> Result<Key, Failure> {
    let text = files::read_or_create_private(path, || {
        let fresh: Key = Zeroizing::new(rand::random());
        format!("{}\n", BASE64.encode(fresh.as_slice())).into_bytes()
    })
    .map(Zeroizing::new)
    .map_err(|e| Failure::new(format!("cannot read the key {}: {e}", path.display())))?;
    BASE64
        .decode(text.trim_ascii())
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(Zeroizing::new(bytes).as_slice()).ok())
        .map(Zeroizing::new)
        .ok_or_else(|| {
            Failure::new(format!(
                "{} is not a key: it must hold 32 bytes in base64",
                path.display()
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_created_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).is_err());
        let first = load_or_create(dir.path()).unwrap();
        let second = load(dir.path()).unwrap();
        assert_eq!(
            (first.master.as_slice(), first.hub.as_slice()),
            (second.master.as_slice(), second.hub.as_slice())
        );
        assert_ne!(first.master, first.hub);
        files::replace_private(&dir.path().join("keys/master.key"), b"short").unwrap();
        assert!(
            load(dir.path())
                .err()
                .unwrap()
                .to_string()
                .ends_with("is not a key: it must hold 32 bytes in base64")
        );
    }
}
