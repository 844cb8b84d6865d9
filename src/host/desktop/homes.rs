//! Homes: one folder per user, kept between sessions, and the system uid it belongs to.
//!
//! A root agent assigns each user a uid from a reserved range and stores it in `uids.json`, so that
//! users stay separated even if a sandbox fails. An unprivileged agent can only use its own uid.

use super::desktop_files::{HOME_FILES, HOME_FOLDERS};
use crate::domain::UserId;
use crate::domain::sync::lock;
use crate::files;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The system account of a desktop's processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account {
    /// User id and group id.
    pub uid: u32,
    /// Whether the agent has to switch to it, as a root agent has.
    pub switch_user: bool,
}

/// The homes under a state folder.
#[derive(Debug)]
pub struct Homes {
    folder: PathBuf,
    uids_path: PathBuf,
    range: RangeInclusive<u32>,
    own_uid: u32,
    uids: Mutex<BTreeMap<UserId, u32>>,
}

impl Homes {
    /// Opens them. A root agent assigns uids from `range`.
    ///
    /// # Errors
    /// When the folder or `uids.json` cannot be read.
    pub fn open(state_dir: &Path, range: RangeInclusive<u32>) -> io::Result<Self> {
        let folder = state_dir.join("homes");
        files::ensure_private_dir(&folder)?;
        let book = state_dir.join("uids.json");
        let uids = match fs::read(&book) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(other) => return Err(other),
        };
        let own_uid = rustix::process::geteuid().as_raw();
        Ok(Self { folder, uids_path: book, range, own_uid, uids: Mutex::new(uids) })
    }

    /// A user's home and account, created at first use. Blocks on the file system.
    ///
    /// # Errors
    /// When the home cannot be created, or the range is exhausted.
    pub fn get_or_create(&self, user: UserId) -> io::Result<(PathBuf, Account)> {
        let account = self.account(user)?;
        let home = self.folder.join(user.to_string());
        if !home.try_exists()? {
            // Created under another name and renamed, so that a home is always complete.
            let draft = self.folder.join(format!(".{user}.new"));
            if draft.try_exists()? {
                fs::remove_dir_all(&draft)?;
            }
            fs::create_dir(&draft)?;
            let own = |path: &Path, mode: u32| -> io::Result<()> {
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
                if account.switch_user {
                    chown(path, Some(account.uid), Some(account.uid))
                } else {
                    Ok(())
                }
            };
            for (name, text) in HOME_FILES {
                fs::write(draft.join(name), text)?;
                own(&draft.join(name), 0o644)?;
            }
            for name in HOME_FOLDERS {
                fs::create_dir(draft.join(name))?;
                own(&draft.join(name), 0o755)?;
            }
            own(&draft, 0o700)?;
            fs::rename(&draft, &home)?;
        }
        Ok((home, account))
    }

    fn account(&self, user: UserId) -> io::Result<Account> {
        if self.own_uid != 0 {
            return Ok(Account { uid: self.own_uid, switch_user: false });
        }
        let mut uids = lock(&self.uids);
        if let Some(&uid) = uids.get(&user) {
            return Ok(Account { uid, switch_user: true });
        }
        // Users of an earlier range keep theirs.
        let last = uids.values().filter(|uid| self.range.contains(uid)).max();
        let next = last.map_or(*self.range.start(), |last| last.saturating_add(1));
        if !self.range.contains(&next) {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "every uid of the range is given away",
            ));
        }
        let mut grown = uids.clone();
        grown.insert(user, next);
        files::replace_private(&self.uids_path, &serde_json::to_vec_pretty(&grown)?)?;
        *uids = grown;
        Ok(Account { uid: next, switch_user: true })
    }
}
