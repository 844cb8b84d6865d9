//! A desktop's socket, opened so that its user cannot redirect the agent.
//!
//! The folder belongs to the session's user, who may replace the socket, for example by a link to
//! another program's socket, which a root agent could open and the user could not. So the name is
//! opened without following links, checked (a socket, owned by that user), and the checked file is
//! what is connected to.

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use tokio::net::UnixStream;

/// The socket of one desktop, which may not exist yet.
#[derive(Debug)]
pub(super) struct Socket {
    folder: OwnedFd,
    name: &'static str,
    uid: u32,
}

impl Socket {
    pub(super) fn new(folder: &Path, name: &'static str, uid: u32) -> io::Result<Self> {
        let folder = open(
            folder,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self { folder, name, uid })
    }

    /// Connects, by the path of a descriptor, which is short enough however long the state folder's
    /// path is (unix(7): 108 bytes).
    pub(super) async fn connect(&self) -> io::Result<UnixStream> {
        let found = openat(
            &self.folder,
            self.name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let facts = fstat(&found)?;
        if FileType::from_raw_mode(facts.st_mode) != FileType::Socket || facts.st_uid != self.uid {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file in place of the desktop's socket is not its own",
            ));
        }
        UnixStream::connect(format!("/proc/self/fd/{}", found.as_raw_fd())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn a_link_a_file_and_a_foreign_socket_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::create_dir(&inside).unwrap();
        let _other = UnixListener::bind(&outside).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let socket = Socket::new(&inside, "a.sock", uid).unwrap();
        let name = inside.join("a.sock");
        assert_eq!(socket.connect().await.unwrap_err().kind(), io::ErrorKind::NotFound);
        symlink(&outside, &name).unwrap();
        assert!(socket.connect().await.is_err(), "a link");
        std::fs::remove_file(&name).unwrap();
        std::fs::write(&name, "").unwrap();
        assert!(socket.connect().await.is_err(), "a file");
        std::fs::remove_file(&name).unwrap();
        let _own = UnixListener::bind(&name).unwrap();
        std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o600)).unwrap();
        socket.connect().await.unwrap();
        assert!(
            Socket::new(&inside, "a.sock", uid + 1).unwrap().connect().await.is_err(),
            "another user's"
        );
    }
}
