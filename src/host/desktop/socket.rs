//! A desktop's socket, opened so that its user cannot redirect the agent.
//!
//! - The socket's folder is a small tmpfs of the sandbox, so that a user cannot fill the host's disk
//!   through it. The agent reaches it through `/proc/PID/root` (proc(5)) of the sandbox's first
//!   process, which needs `CAP_SYS_PTRACE` of a root agent and nothing of another.
//! - The folder belongs to the session's user, who may replace the socket, for example by a link to
//!   another program's socket, which a root agent could open and the user could not. So the name is
//!   opened without following links, checked (a socket, owned by that user), and the checked file is
//!   what is connected to.

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use tokio::net::UnixStream;

/// Where the folder is in the sandbox.
pub(super) const FOLDER: &str = "/run/ws";
/// Most processes between the agent and the first one in the sandbox: those of two sandboxes.
const DEPTH_MAX: usize = 8;
const PATH_ONLY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The socket of one desktop, which may not exist yet.
#[derive(Debug)]
pub(super) struct Socket {
    /// The process that the agent started; `None`: it has ended already.
    child: Option<u32>,
    folder: OnceLock<OwnedFd>,
    name: &'static str,
    uid: u32,
}

impl Socket {
    pub(super) fn new(child: Option<u32>, name: &'static str, uid: u32) -> Self {
        Self { child, folder: OnceLock::new(), name, uid }
    }

    /// Connects, by the path of a descriptor, which is short enough for unix(7): 108 bytes.
    pub(super) async fn connect(&self) -> io::Result<UnixStream> {
        let folder = match self.folder.get() {
            Some(folder) => folder,
            None => {
                let found = self.child.and_then(folder_inside).ok_or(io::ErrorKind::NotFound)?;
                self.folder.get_or_init(|| found)
            }
        };
        let found = openat(
            folder,
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

/// The folder in the sandbox that this process, or one that it started, is in. The processes up to
/// the first one in the sandbox are the agent's own choice, so no user can lead it elsewhere.
fn folder_inside(child: u32) -> Option<OwnedFd> {
    let own_users = fs::read_link("/proc/self/ns/user").ok()?;
    let mut pid = child;
    for _ in 0..DEPTH_MAX {
        let process = PathBuf::from(format!("/proc/{pid}"));
        if fs::read_link(process.join("ns/user")).is_ok_and(|users| users != own_users)
            && let Some(folder) = mounted_folder(&process)
        {
            return Some(folder);
        }
        let children = fs::read_to_string(process.join(format!("task/{pid}/children"))).ok()?;
        pid = children.split_whitespace().next()?.parse().ok()?;
    }
    None
}

/// The folder as this process sees it, once it is mounted there.
fn mounted_folder(process: &std::path::Path) -> Option<OwnedFd> {
    let root = open(process.join("root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let run = openat(&root, "run", PATH_ONLY, Mode::empty()).ok()?;
    let folder = openat(&run, "ws", PATH_ONLY, Mode::empty()).ok()?;
    let device = |fd: &OwnedFd| fstat(fd.as_fd()).map(|facts| facts.st_dev);
    (device(&run).ok()? != device(&folder).ok()?).then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    fn socket_in(folder: &Path, uid: u32) -> Socket {
        let folder = open(folder, PATH_ONLY, Mode::empty()).unwrap().into();
        Socket { child: None, folder, name: "a.sock", uid }
    }

    #[tokio::test]
    async fn a_process_without_a_sandbox_has_no_folder() {
        assert!(folder_inside(std::process::id()).is_none());
        let ended = Socket::new(None, "a.sock", 0);
        assert_eq!(ended.connect().await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_link_a_file_and_a_foreign_socket_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::create_dir(&inside).unwrap();
        let _other = UnixListener::bind(&outside).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let socket = socket_in(&inside, uid);
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
        assert!(socket_in(&inside, uid + 1).connect().await.is_err(), "another user's");
    }
}
