//! Shared by the host's tests: specs, processes as the system lists them, waiting, and a client that
//! authenticates.

use crate::support::vnc::VncClient;
use crate::support::wait::eventually;
use portcullis::domain::{SessionId, UserId, WorkspaceId};
use portcullis::host::desktop::{DesktopSpec, DisplayProtocol, Launcher};
use portcullis::protocol::rfb::client::{ClientHandshake, Credentials};
use portcullis::protocol::rfb::server::ServerHandshake;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

/// Longest wait, on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Uids for the users of the tests' root agents.
pub const UIDS: std::ops::RangeInclusive<u32> = 2_080_374_784..=2_080_440_319;

/// A spec whose title marks its processes: every one of them has it in its arguments or its
/// environment.
pub fn spec(user: UserId) -> (DesktopSpec, String) {
    let session_id = SessionId::new();
    let mark = format!("mark-{session_id}");
    let spec = DesktopSpec {
        session_id,
        user_id: user,
        user_name: "Mona Member".to_owned(),
        workspace_id: WorkspaceId::parse("ws-linux-desktop").unwrap(),
        workspace_name: mark.clone(),
        network: false,
        protocol: DisplayProtocol::Rfb,
    };
    (spec, mark)
}

/// Ids of the processes with a mark. Zombies have none.
pub fn processes_with_mark(mark: &str) -> Vec<u32> {
    let holds = |path: std::path::PathBuf| {
        std::fs::read(path)
            .is_ok_and(|bytes| bytes.windows(mark.len()).any(|part| part == mark.as_bytes()))
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid != std::process::id()
            && (holds(entry.path().join("cmdline")) || holds(entry.path().join("environ")))
        {
            found.push(pid);
        }
    }
    found
}

/// The sockets of these processes that others on the same network could reach: TCP, UDP and
/// abstract ones (proc(5), `/proc/PID/fd`, in the tables of the network they share with us). Fails
/// when the processes have no socket at all.
pub fn reachable_sockets(pids: impl IntoIterator<Item = u32>) -> Vec<String> {
    let mut own = HashSet::new();
    for pid in pids {
        for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(to) = std::fs::read_link(fd.path()) else { continue };
            own.extend(
                to.to_str()
                    .and_then(|to| to.strip_prefix("socket:["))
                    .and_then(|to| to.strip_suffix(']'))
                    .map(str::to_owned),
            );
        }
    }
    assert!(!own.is_empty());
    let mut found = Vec::new();
    for (table, inode, sign) in
        [("tcp", 9, ""), ("tcp6", 9, ""), ("udp", 9, ""), ("udp6", 9, ""), ("unix", 6, "@")]
    {
        let lines = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap();
        let ours = |line: &&str| {
            line.split_whitespace().nth(inode).is_some_and(|inode| own.contains(inode))
                && line.contains(sign)
        };
        found.extend(lines.lines().skip(1).filter(ours).map(|line| format!("{table}: {line}")));
    }
    found
}

/// The process of a desktop's display server.
pub fn display_server(mark: &str) -> rustix::process::Pid {
    let is_server = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"Xtigervnc") || line.starts_with(b"/usr/lib/xorg/Xorg")
    };
    let pid = processes_with_mark(mark).into_iter().find(is_server).unwrap();
    rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

pub async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    eventually(what, async || done()).await;
}

/// Waits until a file exists and ends in `end`, and reads it.
pub async fn read_complete_file(path: &Path, end: &str) -> String {
    let mut text = String::new();
    wait_until(&format!("{}", path.display()), || {
        text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim_end().ends_with(end)
    })
    .await;
    text
}

/// Authenticates to a desktop; the stream is before ClientInit then.
pub async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    password: &str,
) -> Result<(), String> {
    let mut handshake = ClientHandshake::new(&Credentials {
        password: password.as_bytes(),
        ..Credentials::default()
    });
    let (mut pending, mut reply, mut piece) = (Vec::new(), Vec::new(), [0; 256]);
    loop {
        let progress =
            handshake.advance(&pending, &mut reply).map_err(|error| error.to_string())?;
        pending.drain(..progress.consumed);
        stream.write_all(&std::mem::take(&mut reply)).await.map_err(|error| error.to_string())?;
        if progress.done {
            assert!(pending.is_empty());
            return Ok(());
        }
        let n = stream.read(&mut piece).await.map_err(|error| error.to_string())?;
        if n == 0 {
            return Err(handshake.unexpected_close().to_string());
        }
        pending.extend_from_slice(&piece[..n]);
    }
}

/// A client of a desktop that authenticates and then acts as a browser does.
pub async fn connect_client<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut stream: S,
    password: &str,
) -> VncClient<DuplexStream> {
    authenticate(&mut stream, password).await.unwrap();
    let (near, mut far) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        let mut reply = Vec::new();
        let mut handshake = ServerHandshake::start(&mut reply);
        let mut pending = Vec::new();
        loop {
            far.write_all(&std::mem::take(&mut reply)).await?;
            let progress =
                handshake.advance(&pending, &mut reply).map_err(std::io::Error::other)?;
            pending.drain(..progress.consumed);
            if progress.done {
                break;
            }
            if reply.is_empty() {
                pending.push(far.read_u8().await?);
            }
        }
        far.write_all(&reply).await?;
        // ClientInit ends the handshake with the browser; the relay asks the desktop for a shared
        // session.
        stream.write_all(&[1]).await?;
        stream.write_all(&pending).await?;
        tokio::io::copy_bidirectional(&mut far, &mut stream).await
    });
    VncClient::connect(near).await.unwrap()
}

pub fn home(dir: &Path, user: UserId) -> PathBuf {
    dir.join("homes").join(user.to_string())
}

/// Runs a script in a desktop's terminal and returns its output.
pub async fn run_in_desktop(
    launcher: &Launcher,
    dir: &Path,
    spec: DesktopSpec,
    script: &str,
) -> String {
    // The first desktop creates the home.
    let first = DesktopSpec { session_id: portcullis::domain::SessionId::new(), ..spec.clone() };
    launcher.launch(first).await.unwrap().stop().await;
    let home = home(dir, spec.user_id);
    let out = home.join("out.txt");
    let _ = std::fs::remove_file(&out);
    std::fs::write(home.join(".bashrc"), format!("(exec >~/out.txt 2>&1\n{script}\necho END)\n"))
        .unwrap();
    let desktop = launcher.launch(spec).await.unwrap();
    let text = read_complete_file(&out, "END").await;
    desktop.stop().await;
    text
}
