//! The space that a home takes, measured: what there is where the file system has no quota that an
//! agent could use.
//!
//! - A home above its limit gets no new session; a desktop whose home grows to [`END_FACTOR`] times
//!   the limit is ended.
//! - No link is followed, and what cannot be measured (too deep, too many files, closed to the agent)
//!   counts as above the limit, since its user made it so.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A running desktop is ended when its home takes this many times its limit.
const END_FACTOR: u64 = 2;
/// Time between two measurements of a running desktop's home.
const INTERVAL: Duration = Duration::from_secs(10);
/// A measurement takes at most this part of the time between two.
const LOAD_PART: u32 = 20;
/// Deepest folder: one descriptor each.
const DEPTH_MAX: usize = 128;
/// Most files: their names and inodes take space that no file's size shows.
const FILES_MAX: u64 = 2_000_000;
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Unit of `st_blocks` (stat(3type)).
const BLOCK: u64 = 512;

/// The limit of one home.
#[derive(Clone, Debug)]
pub(super) struct HomeLimit {
    pub(super) folder: PathBuf,
    pub(super) bytes: u64,
}

impl HomeLimit {
    /// Bytes that it takes, if that is above its limit; `u64::MAX`: it cannot be measured. Blocks on
    /// the file system.
    pub(super) fn excess(&self) -> Option<u64> {
        measure(&self.folder).map_or(Some(u64::MAX), |used| (used > self.bytes).then_some(used))
    }

    /// Resolves when a running desktop has to be ended.
    pub(super) async fn exceeded(self) {
        let mut wait = INTERVAL;
        loop {
            tokio::time::sleep(wait).await;
            let (limit, begun) = (self.clone(), Instant::now());
            let used = tokio::task::spawn_blocking(move || limit.excess()).await;
            if matches!(used, Ok(Some(used)) if used / END_FACTOR >= self.bytes) {
                return;
            }
            wait = INTERVAL.max(begun.elapsed() * LOAD_PART);
        }
    }
}

/// Bytes that the files below a folder take.
///
/// # Errors
/// When a part of it cannot be read, or it is too deep or has too many files.
fn measure(folder: &Path) -> io::Result<u64> {
    let mut folders = vec![Dir::new(open(folder, FOLDER, Mode::empty())?)?];
    let (mut bytes, mut files) = (0_u64, 0_u64);
    loop {
        let depth = folders.len();
        let Some(current) = folders.last_mut() else { break };
        let Some(entry) = current.next() else {
            folders.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        files += 1;
        if files > FILES_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let at = current.fd()?;
        // A file may be removed meanwhile.
        let Ok(facts) = statat(at, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let links = facts.st_nlink.max(1);
        let is_folder = FileType::from_raw_mode(facts.st_mode) == FileType::Directory;
        // A file with several names counts once.
        let share = if is_folder { 1 } else { links };
        let taken = u64::try_from(facts.st_blocks).unwrap_or_default().saturating_mul(BLOCK);
        bytes = bytes.saturating_add(taken / share);
        if is_folder {
            if depth >= DEPTH_MAX {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            match openat(at, name, FOLDER, Mode::empty()) {
                Ok(inner) => folders.push(Dir::new(inner)?),
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn limit(folder: &Path, bytes: u64) -> HomeLimit {
        HomeLimit { folder: folder.to_owned(), bytes }
    }

    #[test]
    fn files_count_by_the_space_they_take_and_links_are_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("big"), vec![1; 4 << 20]).unwrap();
        fs::create_dir_all(home.path().join("a/b")).unwrap();
        fs::write(home.path().join("a/b/file"), vec![1; 1 << 20]).unwrap();
        for name in ["two", "three"] {
            fs::hard_link(home.path().join("a/b/file"), home.path().join(name)).unwrap();
        }
        for (name, to) in [("file-link", "big"), ("folder-link", "")] {
            let to = elsewhere.path().join(to);
            std::os::unix::fs::symlink(to, home.path().join(name)).unwrap();
        }
        // A hole takes no space.
        let sparse = fs::File::create(home.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let used = measure(home.path()).unwrap();
        assert!((1 << 20..2 << 20).contains(&used), "{used}");
        assert_eq!(limit(home.path(), used).excess(), None);
        assert_eq!(limit(home.path(), used - 1).excess(), Some(used));
    }

    #[test]
    fn what_cannot_be_measured_is_above_the_limit() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(limit(&home.path().join("absent"), u64::MAX / 2).excess(), Some(u64::MAX));
        let deep = "d/".repeat(DEPTH_MAX + 1);
        fs::create_dir_all(home.path().join(deep)).unwrap();
        assert_eq!(limit(home.path(), u64::MAX / 2).excess(), Some(u64::MAX));
    }
}
