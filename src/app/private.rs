//! Files nobody else may read: made whole or not at all, mode 0600 in folders of mode 0700.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Longest private file read: keys and small JSON.
const READ_MAX: u64 = 1024 * 1024;

/// Makes a folder (and its parents) that only we may enter; one that exists is left as it is.
///
/// # Errors
/// The system's.
pub fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Takes a lock that lasts until the file is dropped, or this process ends however it ends. `None`:
/// another process has it.
///
/// # Errors
/// The system's.
pub fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

/// Reads a private file. One that others may read is refused: a key that leaked silently is worse
/// than one that does not work.
///
/// # Errors
/// The system's; `PermissionDenied` when others may read it.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        let told = format!(
            "others may read it (mode {:04o}); run chmod 600 on it, and make a new one if it may have leaked",
            mode & 0o7777
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, told));
    }
    let mut bytes = Vec::new();
    file.take(READ_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a private file in one step: a reader sees the former one or the new one, and a crash
/// leaves one of them.
///
/// # Errors
/// The system's.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, 0o600)?;
    fs::rename(&temporary, path).inspect_err(|_| remove_temporary(&temporary))?;
    sync_parent(path)
}

/// The same for a file others may read (a certificate).
///
/// # Errors
/// The system's.
pub fn replace_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, 0o644)?;
    fs::rename(&temporary, path).inspect_err(|_| remove_temporary(&temporary))?;
    sync_parent(path)
}

/// Reads a private file, or makes it once: of two processes that race, one makes it and both read
/// that one.
///
/// # Errors
/// The system's.
pub fn read_or_create(path: &Path, make: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    match read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let temporary = write_temporary(path, &make(), 0o600)?;
    // A link, unlike a rename, never replaces what somebody else made meanwhile.
    let linked = fs::hard_link(&temporary, path);
    remove_temporary(&temporary);
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => sync_parent(path)?,
    }
    read(path)
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", uuid::Uuid::new_v4().simple()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().inspect_err(|_| remove_temporary(&temporary))?;
    Ok(temporary)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Best effort: a left-over temporary file is private, and its name is never read.
fn remove_temporary(temporary: &Path) {
    drop(fs::remove_file(temporary));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("a/keys");
        create_dir(&keys).unwrap();
        assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o700);
        let path = keys.join("k");
        let made: Vec<Vec<u8>> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..8u8)
                .map(|i| {
                    s.spawn({
                        let path = &path;
                        move || read_or_create(path, || vec![i; 32]).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(made.iter().all(|m| *m == made[0]), "everybody reads the one that was made");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        replace(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_file_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        replace(&path, b"x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(read_or_create(&path, || b"y".to_vec()).is_err());
    }
}
