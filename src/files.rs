//! Files and folders with explicit permissions, replaced atomically; and locks on files.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Longest private file read, in bytes: keys and small JSON.
const READ_MAX: u64 = 1024 * 1024;
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
const PRIVATE_DIR: u32 = 0o700;
const PUBLIC_DIR: u32 = 0o755;

/// Creates a folder of mode 0700 and its parents; an existing folder keeps its mode.
///
/// # Errors
/// The system's.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(path)
}

/// The same, and an existing folder gets mode 0700, too.
///
/// # Errors
/// The system's.
pub fn ensure_private_dir(path: &Path) -> io::Result<()> {
    create_private_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(PRIVATE_DIR))
}

/// Creates a folder of mode 0700; it must not exist.
///
/// # Errors
/// The system's; `AlreadyExists`.
pub fn create_new_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(PRIVATE_DIR).create(path)
}

/// Creates a folder of mode 0755, whatever the umask; it must not exist.
///
/// # Errors
/// The system's.
pub fn create_public_dir(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(PUBLIC_DIR))
}

/// Takes an exclusive lock that lasts until the file is dropped or the process ends. `None`:
/// another process holds it.
///
/// # Errors
/// The system's.
pub fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(PRIVATE).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Waits for an exclusive lock, which lasts until the file is dropped or the process ends.
///
/// # Errors
/// The system's.
pub fn lock(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(PRIVATE).open(path)?;
    file.lock()?;
    Ok(file)
}

/// Reads a private file. A file that group or others may read is refused, so that a leaked key is
/// noticed.
///
/// # Errors
/// The system's; `PermissionDenied` when others may read it.
pub fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        let reason = format!(
            "others may read it (mode {:04o}); run chmod 600 on it, and make a new one if it may have leaked",
            mode & 0o7777
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    let mut bytes = Vec::new();
    file.take(READ_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Creates a file of mode 0600; it must not exist.
///
/// # Errors
/// The system's; `AlreadyExists`.
pub fn create_private(path: &Path) -> io::Result<File> {
    create_new(path, PRIVATE)
}

/// Replaces a file by one of mode 0600. The replacement is atomic and on disk on return.
///
/// # Errors
/// The system's.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, PRIVATE)
}

/// Replaces a file by one of mode 0644. The replacement is atomic and on disk on return.
///
/// # Errors
/// The system's.
pub fn replace_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, PUBLIC)
}

/// Writes a file of mode 0644 in place, whatever the umask.
///
/// # Errors
/// The system's.
pub fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, Permissions::from_mode(PUBLIC))
}

/// Reads a private file, or creates it once: of several processes that race, one creates it and
/// all read that one.
///
/// # Errors
/// The system's.
pub fn read_or_create_private(path: &Path, make: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    match read_private(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let temporary = write_temporary(path, &make(), PRIVATE)?;
    // A hard link, unlike a rename, never replaces a file that another process created meanwhile.
    let linked = fs::hard_link(&temporary, path);
    remove_temporary(&temporary);
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => sync_parent(path)?,
    }
    read_private(path)
}

fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?;
    fs::rename(&temporary, path).inspect_err(|_| remove_temporary(&temporary))?;
    sync_parent(path)
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", uuid::Uuid::new_v4().simple()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = create_new(&temporary, mode)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().inspect_err(|_| remove_temporary(&temporary))?;
    Ok(temporary)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Best effort: a remaining temporary file has the mode of the file, and its name is never read.
fn remove_temporary(temporary: &Path) {
    drop(fs::remove_file(temporary));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn racing_creators_read_one_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("a/keys");
        create_private_dir(&keys).unwrap();
        assert_eq!(mode(&keys), 0o700);
        let path = keys.join("k");
        let read: Vec<Vec<u8>> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..8u8)
                .map(|i| {
                    s.spawn({
                        let path = &path;
                        move || read_or_create_private(path, || vec![i; 32]).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(read.iter().all(|bytes| *bytes == read[0]), "{read:?}");
        assert_eq!(mode(&path), 0o600);
        replace_private(&path, b"new").unwrap();
        assert_eq!(read_private(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 1, "no temporary file remains");
    }

    #[test]
    fn a_private_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        replace_private(&path, b"x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read_private(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(read_or_create_private(&path, || b"y".to_vec()).is_err());
    }

    #[test]
    fn modes_are_as_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        create_public_dir(&at("public")).unwrap();
        ensure_private_dir(&at("public")).unwrap();
        assert_eq!(mode(&at("public")), 0o700, "an existing folder is made private");
        create_public_dir(&at("shared")).unwrap();
        assert_eq!(mode(&at("shared")), 0o755);
        write_public(&at("a"), b"a").unwrap();
        replace_public(&at("b"), b"b").unwrap();
        assert_eq!((mode(&at("a")), mode(&at("b"))), (0o644, 0o644));
        create_private(&at("c")).unwrap();
        assert_eq!(mode(&at("c")), 0o600);
        assert_eq!(create_private(&at("c")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_lock_is_exclusive_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_lock(&path).unwrap().unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }
}
